"""``basicsr denoise`` and ``ne_basicsr.denoise``: files, arrays, and what becomes of them."""

import io
import itertools
import json
import os
import struct
import sys
import threading
import zlib
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import ExifTags, Image, ImageCms
from torch import nn

import ne_basicsr
from ne_basicsr.archs.dncnn_arch import DnCNN
from ne_basicsr.archs.fdncnn_arch import FDnCNN
from ne_basicsr.archs.wne_arch import WNE
from ne_basicsr.archs.zero_shot_arch import ZeroShot
from ne_basicsr.cli.denoise import _split
from ne_basicsr.cli.main import main
from ne_basicsr.data.stacks import Stack
from ne_basicsr.inference import batch_run as denoising_run
from ne_basicsr.inference import image_files
from ne_basicsr.inference.batch_run import Outcome, denoise_files
from ne_basicsr.inference.denoiser import as_denoiser
from ne_basicsr.inference.image_files import Picture
from ne_basicsr.inference.image_jobs import find_jobs
from ne_basicsr.inference.pixels import fits_float32
from ne_basicsr.inference.tiles import Tiled
from ne_basicsr.utils import process_group
from ne_basicsr.utils.errors import InputError
from ne_basicsr.weights import checkpoint

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()


def exif(orientation: int = 6) -> bytes:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    tags[ExifTags.Base.Make] = 'Maker'
    return tags.tobytes()


@pytest.fixture
def gray(tmp_path) -> str:
    return save(tmp_path / 'gray.pth', 1)


@pytest.fixture
def colour(tmp_path) -> str:
    return save(tmp_path / 'colour.pth', 3)


def save(path: Path, channels: int) -> str:
    options = {
        'type': 'DnCNN', 'num_in_ch': channels, 'num_out_ch': channels, 'num_feat': 4, 'num_layers': 3, 'act_mode': 'R',
    }  # fmt: skip
    network = DnCNN(**{key: value for key, value in options.items() if key != 'type'})
    checkpoint.save_network(path, {'params': network}, {'network_g': options})
    return str(path)


def pixels(channels: int, dtype: str, height: int = 24, width: int = 31) -> np.ndarray:
    values = np.random.default_rng(channels).random((height, width, channels))
    return values.astype(dtype) if dtype.startswith('f') else (values * np.iinfo(dtype).max).astype(dtype)


def write(path: Path, channels: int = 3, dtype: str = 'uint8', **sizes: int) -> Path:
    """A file with alpha where channels is 2 or 4, EXIF and a profile."""
    values = pixels(channels, dtype, **sizes)
    alpha = values[..., -1:] if channels in (2, 4) else None
    about = b'' if path.suffix == '.bmp' else exif()
    content = Picture(values[..., : channels - (alpha is not None)], alpha, about, ICC, lossless=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image_files.encode(content, image_files.FORMATS[path.suffix]))
    return path


KINDS = [
    *itertools.product(['png', 'tiff'], [1, 2, 3, 4], ['uint8', 'uint16']),
    *itertools.product(['tiff'], [1, 2, 3, 4], ['float16', 'float32', 'float64']),
    *itertools.product(['webp'], [3, 4], ['uint8']),
    *itertools.product(['bmp', 'jpeg'], [1, 3], ['uint8']),
]


@pytest.mark.parametrize(('kind', 'channels', 'dtype'), KINDS)
def test_files_come_back_as_they_were_written(kind, channels, dtype, tmp_path):
    path = write(tmp_path / f'a{image_files.SUFFIX[kind]}', channels, dtype)
    found = image_files.read(path)
    everything = found.pixels if found.alpha is None else np.concatenate([found.pixels, found.alpha], axis=2)
    expected = pixels(channels, dtype)
    assert everything.dtype == expected.dtype and everything.shape == expected.shape
    tolerance = 60 if kind == 'jpeg' else 0  # of noise
    assert np.abs(everything.astype(float) - expected).max() <= tolerance
    if kind != 'bmp':
        tags = Image.Exif()
        tags.load(found.exif)
        assert tags[ExifTags.Base.Orientation] == 6 and tags[ExifTags.Base.Make].strip('\0') == 'Maker'
        assert found.icc == ICC
        if (channels, dtype) in ((3, 'uint8'), (1, 'uint16')):  # as others read it
            with Image.open(path) as image:
                assert image.getexif()[ExifTags.Base.Orientation] == 6 and image.info['icc_profile'] == ICC


def test_other_writers_files_are_read(tmp_path):
    values = pixels(3, 'uint16')
    deep = tmp_path / 'lzw.tif'
    cv2.imwrite(str(deep), values[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])  # which tifffile alone cannot read
    assert np.array_equal(image_files.read(deep).pixels, values)
    tifffile.imwrite(tmp_path / 'planes.tif', np.moveaxis(values, -1, 0), planarconfig='separate', photometric='rgb')
    assert np.array_equal(image_files.read(tmp_path / 'planes.tif').pixels, values)
    packed = tmp_path / 'zstd.tif'
    tifffile.imwrite(packed, values)
    with tifffile.TiffFile(packed, mode='r+b') as tiff:
        tiff.pages[0].tags[259].overwrite(50000)  # ZSTD, which neither tifffile alone nor OpenCV reads
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, 'imagecodecs', None)
        patch.setitem(sys.modules, 'compression', None)
        with pytest.raises(InputError, match=r"compressed by ZSTD; .* pip install 'ne-basicsr\[imagecodecs\]'"):
            image_files.read(packed)
    tifffile.imwrite(tmp_path / 'big.tif', values[..., :1], byteorder='>', photometric='miniswhite')
    assert np.array_equal(image_files.read(tmp_path / 'big.tif').pixels, 65535 - values[..., :1])
    palette = Image.fromarray(pixels(3, 'uint8')).quantize(8)
    palette.save(tmp_path / 'palette.png', transparency=0)
    found = image_files.read(tmp_path / 'palette.png')
    assert found.pixels.shape == (24, 31, 3) and found.alpha is not None and set(np.unique(found.alpha)) == {0, 255}


@pytest.mark.parametrize('orientation', [3, 6])
@pytest.mark.parametrize(('mode', 'compression'), [('RGB', 'tiff_lzw'), ('P', None)])  # Pillow's two ways to read TIFF
def test_orientation_is_kept_and_not_applied_by_whichever_reader(mode, compression, orientation, tmp_path):
    image = Image.fromarray(pixels(3, 'uint8'))
    image = image.quantize(8) if mode == 'P' else image
    image.save(tmp_path / 'a.tif', compression=compression, exif=exif(orientation))
    found = image_files.read(tmp_path / 'a.tif')
    assert np.array_equal(found.pixels, np.array(image.convert('RGB')))
    tags = Image.Exif()
    tags.load(found.exif)
    assert tags[ExifTags.Base.Orientation] == orientation


def test_bmp_which_holds_no_orientation_is_the_right_way_up():
    values = pixels(3, 'uint8')
    with Image.open(io.BytesIO(image_files.encode(Picture(values, None, exif()), 'bmp'))) as image:
        assert np.array_equal(np.array(image), np.rot90(values, -1))


@pytest.mark.parametrize('dtype', ['uint8', 'uint16'])
@pytest.mark.parametrize('channels', [2, 4])
@pytest.mark.parametrize('kind', ['assocalpha', 'unassalpha'])
def test_the_kind_of_alpha_is_kept(kind, channels, dtype, tmp_path):
    photometric = 'rgb' if channels == 4 else 'minisblack'
    values = pixels(channels, dtype)
    tifffile.imwrite(tmp_path / 'a.tif', values, photometric=photometric, extrasamples=[kind], planarconfig='contig')
    found = image_files.read(tmp_path / 'a.tif')
    with tifffile.TiffFile(io.BytesIO(image_files.encode(found, 'tiff'))) as tiff:
        assert [sample.name for sample in tiff.pages[0].extrasamples] == [kind.upper()]
        assert np.array_equal(tiff.asarray(), values)
    if kind == 'assocalpha':
        with pytest.raises(InputError, match='premultiplied alpha, which PNG cannot hold; use --format tiff'):
            image_files.encode(found, 'png')
    else:
        assert image_files.encode(found, 'png')


@pytest.mark.parametrize('channels', [1, 3])
def test_the_transparent_value_of_a_16_bit_png_becomes_alpha(channels, tmp_path):
    values = pixels(channels, 'uint16')
    data = image_files.encode(Picture(values), 'png')
    chunk = image_files._chunk(b'tRNS', values[2, 3].astype('>u2').tobytes())
    (tmp_path / 'a.png').write_bytes(data[:33] + chunk + data[33:])
    found = image_files.read(tmp_path / 'a.png')
    assert np.array_equal(found.pixels, values)
    assert found.alpha is not None and found.alpha.dtype == np.uint16
    assert np.array_equal(found.alpha == 0, (values == values[2, 3]).all(axis=2, keepdims=True))
    assert set(np.unique(found.alpha)) == {0, 65535}


def absurd_exif(orientation: bytes, resolution: tuple[int, int] | None) -> bytes:
    """EXIF with a text as orientation and, where there is none else, as resolution, whose unit is unknown."""
    text, fraction = (2, 2, b'x'), (5, 1, struct.pack('<I', 8 + 2 + 4 * 12 + 4))
    kinds = {274: (3, 1, orientation) if orientation else text, 296: (3, 1, b'\x09')}
    kinds |= dict.fromkeys((282, 283), fraction if resolution else text)
    entries = b''.join(struct.pack('<HHI4s', tag, *kinds[tag]) for tag in sorted(kinds))
    return b'Exif\0\0II*\0' + struct.pack('<IH', 8, 4) + entries + struct.pack('<III', 0, *(resolution or (0, 0)))


ODD_EXIF = {
    'garbage': b'Exif\0\0garbage garbage',
    'cut': b'Exif\0\0II*\0\x08\0\0\0\x05\0',
    'texts': absurd_exif(b'', None),
    'not a number': absurd_exif(b'\x4d', (0, 0)),
    'unknown unit': absurd_exif(b'\x01', (300, 1)),
}


@pytest.mark.filterwarnings('ignore:Corrupt EXIF')
@pytest.mark.parametrize('about', ODD_EXIF.values(), ids=ODD_EXIF)
def test_broken_exif_costs_nothing_but_itself(about, tmp_path, gray, capsys):
    (tmp_path / 'photos').mkdir()
    Image.fromarray(pixels(1, 'uint8')[..., 0]).save(tmp_path / 'photos' / 'a.jpg', exif=about)
    for kind in ('tiff', 'bmp', 'jpeg'):
        command = ['denoise', gray, str(tmp_path / 'photos'), '-o', str(tmp_path / kind), '--format', kind, '--strip']
        assert main(command) == 0, capsys.readouterr().err
        assert image_files.read(tmp_path / kind / f'a{image_files.SUFFIX[kind]}').pixels.shape == (24, 31, 1)


def broken(folder: Path) -> dict[str, str]:
    """Files that cannot be denoised, with what is said about them."""
    good = write(folder / 'good.png').read_bytes()
    (folder / 'good.png').unlink()
    (folder / 'cut.png').write_bytes(good[: len(good) // 2])
    (folder / 'text.jpg').write_text('no image')
    (folder / 'empty.tif').touch()
    return {'cut.png': 'not a readable image', 'text.jpg': 'not a readable image', 'empty.tif': 'the file is empty'}


def test_unusable_files_are_explained(tmp_path):
    reasons = broken(tmp_path)
    tifffile.imwrite(tmp_path / 'pages.tif', pixels(3, 'uint16')[None].repeat(2, 0), photometric='rgb')
    tifffile.imwrite(tmp_path / 'int.tif', pixels(1, 'uint16').astype('int32'))
    tifffile.imwrite(tmp_path / 'nan.tif', np.full((8, 8), np.nan, np.float32))
    Image.fromarray(pixels(4, 'uint8'), mode='CMYK').save(tmp_path / 'cmyk.jpg')
    frames = [Image.fromarray(pixels(3, 'uint8')), Image.fromarray(pixels(3, 'uint8')[::-1])]
    frames[0].save(tmp_path / 'film.webp', save_all=True, append_images=frames[1:])
    reasons |= {'pages.tif': '2 pages', 'int.tif': 'this is int32', 'nan.tif': 'not finite', 'cmyk.jpg': 'CMYK',
                'film.webp': '2 pages or frames', 'missing.png': 'No such file'}  # fmt: skip
    for name, reason in reasons.items():
        with pytest.raises(InputError, match=reason) as caught:
            image_files.read(tmp_path / name)
        assert name in str(caught.value) and '\n' not in str(caught.value)


def test_a_wrong_checksum_is_found_in_16_bits_too(tmp_path):
    path = write(tmp_path / 'a.png', 3, 'uint16')
    data = bytearray(path.read_bytes())
    place = data.index(b'IDAT') + 40
    data[place] ^= 255
    path.write_bytes(data)
    with pytest.raises(InputError, match='not a readable image'):
        image_files.read(path)


def mixed_folder(folder: Path) -> None:
    """37 images of all kinds in three folders, two of them in sizes of their own."""
    kinds = itertools.islice(itertools.cycle(KINDS), 37)
    for number, (kind, channels, dtype) in enumerate(kinds):
        where = folder / ('' if number % 3 == 0 else f'sub{number % 3}/deeper')
        sizes = {'height': 20 + number % 3, 'width': 25}
        write(where / f'{number:02}_{dtype}_{channels}{image_files.SUFFIX[kind]}', channels, dtype, **sizes)


def test_a_mixed_folder_with_broken_files(tmp_path, colour, capsys):
    photos, out = tmp_path / 'photos', tmp_path / 'out'
    mixed_folder(photos)
    reasons = broken(photos)
    before = {path: path.read_bytes() for path in photos.rglob('*') if path.is_file()}
    assert len(before) == 40
    command = ['denoise', colour, str(photos), '-o', str(out), '--wne', '--training-sigma255', '25', '--device', 'cpu']
    assert main(command) == 1
    printed = capsys.readouterr()
    first, last = printed.out.splitlines()
    assert first.startswith('colour+wne: ') and first.endswith('wrapped without training')
    assert last.startswith('37 denoised, 3 failed')
    for name, reason in reasons.items():
        (line,) = (line for line in printed.err.splitlines() if f'{photos / name}: ' in line)
        assert reason in line
    assert printed.err.count('the colour network denoises a gray image as three equal channels') == 1
    assert {path: path.read_bytes() for path in before} == before
    results = {path.relative_to(out) for path in out.rglob('*') if path.is_file() and '.denoised' not in path.parts}
    assert results == {path.relative_to(photos) for path in before if path.name not in reasons}
    for name in results:
        given, result = image_files.read(photos / name), image_files.read(out / name)
        assert result.pixels.shape == given.pixels.shape and result.pixels.dtype == given.pixels.dtype
        assert (result.alpha is None) == (given.alpha is None)
        assert result.alpha is None or np.array_equal(result.alpha, given.alpha)
        assert not np.array_equal(result.pixels, given.pixels)
        assert result.icc == given.icc and bool(result.exif) == bool(given.exif)

    times = {name: (out / name).stat().st_mtime_ns for name in results}
    victim, changed = sorted(results)[:2]
    (out / victim).unlink()
    os.utime(photos / changed, ns=(1, 1))
    assert main(command) == 1
    assert '2 denoised, 35 finished before, 3 failed' in capsys.readouterr().out
    redone = {name for name in results if (out / name).stat().st_mtime_ns != times[name]}
    assert redone == {victim, changed}
    for name in reasons:
        (photos / name).unlink()
    assert main(command) == 0
    assert '37 finished before' in capsys.readouterr().out
    assert main([*command[:-2], '--image-sigma255', '10']) == 0  # other settings
    assert '\n37 denoised.' in capsys.readouterr().out


def test_batches_and_channels_give_what_images_give_alone(tmp_path, gray, colour):
    for number in range(5):
        values = pixels(3, 'uint8', 40, 48)
        Image.fromarray(np.roll(values, number, 0)).save(tmp_path / f'{number}.png')
    for network in (gray, colour):
        assert main(['denoise', network, str(tmp_path), '-o', str(tmp_path / network[-8:-4]), '--tile', '96']) == 0
        loaded = ne_basicsr.load(network)
        for number in range(5):
            given = image_files.read(tmp_path / f'{number}.png').pixels
            alone = ne_basicsr.denoise(loaded, given)
            result = image_files.read(tmp_path / network[-8:-4] / f'{number}.png').pixels
            assert np.abs(alone.astype(int) - result).max() <= 1  # rounding


def test_plain_gray_networks_take_each_channel_by_itself(gray):
    # differences of colours lie around 0, where a network that is not equivariant has seen no images
    network = ne_basicsr.load(gray)
    image = pixels(3, 'float32')
    apart = np.stack([network(image[..., channel]) for channel in range(3)], axis=2)
    assert np.abs(network(image) - apart).max() < 1e-6
    wrapped = as_denoiser(WNE(ne_basicsr.load(gray).network).eval())
    apart = np.stack([wrapped(image[..., channel]) for channel in range(3)], axis=2)
    assert np.abs(wrapped(image) - apart).max() > 1e-3


class Half(nn.Module):
    """Halves images, and remembers how many came at once."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(y))
        return y / 2


def files_through(network: nn.Module, folder: Path, out: Path, tile: int = 96, strips: bool = False) -> Outcome:
    tiled = Tiled(network, tile)
    jobs = find_jobs([str(folder)], out, strips=strips)
    return denoise_files(jobs, tiled, out, {})


def test_equal_sizes_go_through_together(tmp_path):
    for number in range(5):
        write(tmp_path / 'photos' / f'{number}.png', 1)
    write(tmp_path / 'photos' / 'other.png', 1, height=20)
    network = Half()
    assert files_through(network, tmp_path / 'photos', tmp_path / 'out').done == 6
    assert sorted(network.batches[1:]) == [1, 5]  # the first one finds out how many channels it takes


def test_a_file_is_read_while_the_one_before_is_denoised(tmp_path, monkeypatch):
    for number in range(3):
        write(tmp_path / 'in' / f'{number}.png', 1, height=100 + number, width=100)
    reading, read, restore = [threading.Event() for _ in range(3)], image_files.read, denoising_run.restore
    following = iter([*reading[1:], reading[2]])

    def noted(path):
        reading[int(path.stem)].set()
        return read(path)

    def waits(*arguments, **named):
        assert next(following).wait(10), 'the next file is read only afterwards'
        return restore(*arguments, **named)

    monkeypatch.setattr(image_files, 'read', noted)
    monkeypatch.setattr(denoising_run, 'restore', waits)
    assert files_through(nn.Identity(), tmp_path / 'in', tmp_path / 'out', tile=128) == Outcome(3, 0, [])


def test_progress_ends_at_its_total(tmp_path, monkeypatch):
    write(tmp_path / 'photos' / 'small.png', 1)
    write(tmp_path / 'photos' / 'same.png', 1)
    write(tmp_path / 'photos' / 'cut.png', 3, height=150, width=200)
    stack(tmp_path / 'photos' / 'stack.tif', 4)
    seen: list[int] = []

    @contextmanager
    def progress(total, *names):
        seen.append(-total)
        yield SimpleNamespace(update=seen.append)

    monkeypatch.setattr(denoising_run, 'progress', progress)
    files_through(Half(), tmp_path / 'photos', tmp_path / 'out')
    assert seen[0] == -((2 * 24 * 31 + 150 * 200 + 4 * 90 * 90) // 1000)
    assert sum(seen) == 0 and len(seen) > 5


class Third(Half):
    """Stops at its third image, as Ctrl-C does."""

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        if len(self.batches) == 3:
            raise KeyboardInterrupt
        return super().forward(y)


def stack(path: Path, count: int = 5, channels: int = 1, side: int = 90) -> np.ndarray:
    """An ImageJ stack whose pages are larger than half a tile of 96."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(1).integers(0, 2**16, (count, side, side, channels), np.uint16)
    tifffile.imwrite(path, np.moveaxis(values, -1, 1), imagej=True, metadata={'axes': 'TCYX', 'Info': 'kept'})
    return values


def test_a_stack_is_denoised_as_its_pages_alone(gray, tmp_path, capsys):
    before = stack(tmp_path / 'in' / 'cells.tif')
    (tmp_path / 'in' / 'strange.png').write_text('no image')
    write(tmp_path / 'in' / 'same.tif', 1, 'uint16', height=90, width=90)
    command = ['denoise', gray, str(tmp_path / 'in'), '-o', str(tmp_path / 'out'), '--strip']
    assert main(command) == 1
    told = capsys.readouterr()
    assert '2 denoised, 1 failed' in told.out
    assert 'cells.tif: 5 pages (channels, slices, times), each denoised by itself' in told.err
    after = tifffile.imread(tmp_path / 'out' / 'cells.tif')[..., None]
    assert after.dtype == np.uint16 and after.shape == before.shape
    network = ne_basicsr.load(gray)
    for given, found in zip(before, after, strict=True):
        alone = network(given)
        assert np.abs(alone.astype(int) - found).max() <= 1  # rounding
        assert np.abs(alone.astype(int) - given).max() > 1000
    with tifffile.TiffFile(tmp_path / 'out' / 'cells.tif') as tiff:
        assert tiff.imagej_metadata['Info'] == 'kept'
    assert (tmp_path / 'out' / 'cells.tif_strip.png').is_file()
    assert main(command) == 1
    assert '2 finished before' in capsys.readouterr().out
    assert main([*command[:-2], str(tmp_path / 'png'), '--format', 'png']) == 1
    assert 'cells.tif: has several pages, which PNG cannot have; leave out --format' in capsys.readouterr().err


def test_an_interrupted_stack_is_not_finished(tmp_path):
    before = stack(tmp_path / 'in' / 'cells.tif')
    with pytest.raises(KeyboardInterrupt):
        files_through(Third(), tmp_path / 'in', tmp_path / 'out')
    assert not any((tmp_path / 'out').iterdir())
    (tmp_path / 'out' / '.cells.tif.12345678.part').touch()  # what SIGKILL leaves
    assert files_through(Half(), tmp_path / 'in', tmp_path / 'out') == Outcome(1, 0, [])
    assert np.abs(tifffile.imread(tmp_path / 'out' / 'cells.tif')[..., None] - before / 2).max() <= 1
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['.denoised', 'cells.tif']
    assert files_through(Half(), tmp_path / 'in', tmp_path / 'out') == Outcome(0, 1, [])


def test_a_page_that_fails_fails_its_stack_alone(tmp_path):
    folder = tmp_path / 'in'
    folder.mkdir()
    values = np.random.default_rng(0).random((4, 20, 20), np.float32)
    tifffile.imwrite(folder / 'good.tif', values, photometric='minisblack')
    values[2, 3, 4] = np.nan
    tifffile.imwrite(folder / 'bad.tif', values, photometric='minisblack')  # whose good pages wait for others
    outcome = files_through(Half(), folder, tmp_path / 'out')
    assert outcome == Outcome(1, 0, [f'{folder}/bad.tif: page 3: has values that are not finite'])
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['.denoised', 'good.tif']
    assert np.array_equal(tifffile.imread(tmp_path / 'out' / 'good.tif')[:2], values[:2] / 2)


def test_few_pages_of_a_stack_are_in_memory(tmp_path, monkeypatch):
    held: list[int] = [0]

    def counted(method, change):
        def wrapped(*arguments):
            held.append(held[-1] + change)
            return method(*arguments)

        return wrapped

    stack(tmp_path / 'in' / 'cells.tif', 12)
    monkeypatch.setattr(Stack, 'read', counted(Stack.read, 1))
    monkeypatch.setattr(Stack, 'write', counted(Stack.write, -1))
    monkeypatch.setattr(Path, 'read_bytes', None)  # all of the file
    assert files_through(Half(), tmp_path / 'in', tmp_path / 'out', tile=96).done == 1
    assert len(held) == 1 + 2 * 12 and max(held) == 1
    stack(tmp_path / 'in' / 'small.tif', 40, side=24)  # several fit a tile
    assert files_through(Half(), tmp_path / 'in', tmp_path / 'out', tile=96).done == 1
    assert 1 < max(held) <= (96 / 24) ** 2


def test_a_strip_shows_before_and_after(tmp_path):
    path = write(tmp_path / 'photos' / 'a.png', 3)
    files_through(Half(), tmp_path / 'photos', tmp_path / 'out', strips=True)
    strip = image_files.read(tmp_path / 'out' / 'a.png_strip.png').pixels
    before, after = (np.rot90(image_files.read(file).pixels, -1) for file in (path, tmp_path / 'out' / 'a.png'))
    assert np.array_equal(strip[:, :24], before) and np.array_equal(strip[:, -24:], after)
    assert not np.array_equal(before, after)


def test_a_strip_is_rounded_to_the_nearest_of_its_8_bits():
    shown = Picture(np.full((8, 8, 1), 100.6 / 255, np.float32))
    with Image.open(io.BytesIO(image_files.encode_strip(shown, shown))) as strip:
        assert strip.getpixel((0, 0)) == 101


@pytest.mark.parametrize('sign', [1, -1])
def test_what_float32_holds_does_not_depend_on_the_sign(sign):
    ramp = np.linspace(0, 1, 64).reshape(1, 8, 8, 1)
    assert fits_float32(sign * (1e3 + ramp)) and not fits_float32(sign * (1e4 + ramp))
    assert not fits_float32(sign * 1e35 * (1 + ramp))


def test_ranks_take_the_largest_of_what_is_left(monkeypatch):
    store = torch.distributed.HashStore()
    monkeypatch.setattr(process_group, '_is_joined', lambda: True)
    monkeypatch.setattr(torch.distributed.distributed_c10d, '_get_default_store', lambda: store)
    monkeypatch.setattr(process_group, '_DEALS', iter([0, 0, 1, 1]))
    sizes = [5, 9, 1, 7, 3, 2]
    slow, fast = (process_group.dealt(sizes, lambda size: size) for _ in range(2))
    assert (next(slow), list(fast), list(slow)) == (9, [7, 5, 3, 2, 1], [])
    assert list(process_group.dealt(sizes)) == sizes  # another deal


def test_each_rank_denoises_what_it_takes_and_rank_0_counts_what_was_there(tmp_path, gray, monkeypatch):
    for number in range(5):
        write(tmp_path / 'photos' / f'{number}.png', 1)
    monkeypatch.setattr(denoising_run, 'dealt', lambda jobs, size: jobs[1:4])
    for rank in (0, 1):

        @contextmanager
        def ranks(*arguments, patience, rank=rank):
            assert patience > timedelta(days=1)
            yield rank, 2

        monkeypatch.setattr(process_group, 'ranks', ranks)
        assert main(['denoise', gray, str(tmp_path / 'photos'), '-o', str(tmp_path / f'out{rank}')]) == 0
        assert len(list((tmp_path / f'out{rank}').glob('*.png'))) == 3


def test_what_is_finished_is_so_for_its_own_input(tmp_path, gray, capsys):
    values = pixels(1, 'uint8')
    for number, name in enumerate(('A', 'B')):
        path = tmp_path / name / 'a.bmp'
        path.parent.mkdir()
        Image.fromarray(np.roll(values, number, 0)[..., 0]).save(path)
        os.utime(path, ns=(10**18, 10**18))
    command = ['-o', str(tmp_path / 'out')]
    results = []
    for name in ('A', 'B'):
        assert main(['denoise', gray, str(tmp_path / name), *command]) == 0
        results.append((tmp_path / 'out' / 'a.bmp').read_bytes())
    assert results[0] != results[1]
    assert 'finished before' not in capsys.readouterr().out
    assert main(['denoise', gray, str(tmp_path / 'B'), *command]) == 0
    assert '1 finished before' in capsys.readouterr().out


def test_a_name_that_is_too_long_fails_alone_in_every_run(tmp_path, gray, capsys):
    photos = tmp_path / 'photos'
    write(photos / 'short.png', 1)
    write(photos / f'{"n" * 250}.png', 1)  # with the suffix it has more than the 255 bytes of a name
    command = ['denoise', gray, str(photos), '-o', str(tmp_path / 'out'), '--suffix', '_denoised']
    for summary in ('1 denoised, 1 failed', '0 denoised, 1 finished before, 1 failed'):
        assert main(command) == 1
        printed = capsys.readouterr()
        assert printed.out.startswith(summary)
        assert printed.err.splitlines()[-1].endswith(f'{"n" * 250}_denoised.png: File name too long')


def test_formats_suffixes_and_strips(tmp_path, gray):
    photos, out = tmp_path / 'photos', tmp_path / 'out'
    write(photos / 'a.tif', 1, 'float32')
    write(photos / 'b.png', 3, 'uint16')
    options = ['--format', 'jpeg', '--suffix', '_dn', '--strip']
    assert main(['denoise', gray, str(photos), '-o', str(out), *options]) == 0
    assert {path.name for path in out.iterdir() if path.is_file()} == {
        'a_dn.jpg', 'a_dn.jpg_strip.png', 'b_dn.jpg', 'b_dn.jpg_strip.png',
    }  # fmt: skip
    assert image_files.read(out / 'a_dn.jpg').pixels.dtype == np.uint8
    strip = image_files.read(out / 'a_dn.jpg_strip.png').pixels
    assert strip.shape == (31, 24 + 4 + 24, 1)  # turned, as its EXIF says
    assert main(['denoise', gray, str(photos), '-o', str(tmp_path / 'png'), '--format', 'png']) == 0
    assert image_files.read(tmp_path / 'png' / 'a.png').pixels.dtype == np.uint16  # the deepest that PNG has


def test_transparency_is_not_lost_without_a_word(tmp_path, gray, capsys):
    write(tmp_path / 'photos' / 'a.png', 4)
    command = ['denoise', gray, str(tmp_path / 'photos'), '-o', str(tmp_path / 'out'), '--format', 'jpeg']
    assert main(command) == 1
    assert 'has transparency, which JPEG cannot hold; use --format png' in capsys.readouterr().err


def test_results_are_never_inputs_and_inputs_never_written_over(tmp_path, gray, capsys):
    photos = tmp_path / 'photos'
    original = write(photos / 'a.png').read_bytes()
    assert main(['denoise', gray, str(photos), '-o', str(photos)]) == 2
    assert 'is an input and would be overwritten' in capsys.readouterr().err
    (tmp_path / 'link').symlink_to(photos)
    assert main(['denoise', gray, str(photos / 'a.png'), '-o', str(tmp_path / 'link')]) == 2
    assert (photos / 'a.png').read_bytes() == original
    for _ in range(2):  # the second run would find the results of the first one
        assert main(['denoise', gray, str(photos), '-o', str(photos / 'inside')]) == 0
    assert sorted(path.name for path in photos.rglob('*.png')) == ['a.png', 'a.png']
    other = write(tmp_path / 'other' / 'a.png').parent
    for _ in range(2):
        assert main(['denoise', gray, str(other), '-o', str(other), '--suffix', '_dn', '--strip']) == 0
    assert sorted(path.name for path in other.rglob('*.png')) == ['a.png', 'a_dn.png', 'a_dn.png_strip.png']


def test_inputs_are_files_folders_and_patterns(tmp_path):
    for name in ('x/a.png', 'x/b.jpg', 'y/a.png', 'y/notes.txt', 'y/.hidden.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    out = tmp_path / 'out'

    def places(*inputs: str) -> list[str]:
        return [job.output.relative_to(out).as_posix() for job in find_jobs([str(tmp_path / i) for i in inputs], out)]

    assert places('.') == ['x/a.png', 'x/b.jpg', 'y/a.png']
    assert places('*/a.png') == ['x/a.png', 'y/a.png']
    assert places('x/a.png') == ['a.png']
    assert places('x', 'x/a.png') == ['a.png', 'b.jpg']  # each once
    assert places('**/*.jpg') == ['x/b.jpg']
    with pytest.raises(InputError, match=r'would be the result of both .*x/a.png and .*y/a.png; name a common parent'):
        places('x', 'y')
    for wrong, reason in (('z', 'no such file or folder'), ('y/*.tif', 'no images found')):
        with pytest.raises(InputError, match=reason):
            places(wrong)
    with pytest.raises(InputError, match='choose a format with --format'):
        places('y/notes.txt')


def test_results_may_lie_above_their_inputs_but_not_among_them(tmp_path):
    write(tmp_path / 'photos' / 'sub' / 'a.png')
    write(tmp_path / 'photos' / 'out' / 'b.png')

    def places(folder: str, out: str) -> list[str]:
        jobs = find_jobs([str(tmp_path / folder)], tmp_path / out)
        return [job.output.relative_to(tmp_path).as_posix() for job in jobs]

    assert places('photos/sub', '.') == ['a.png']
    assert places('photos/sub/*.png', 'photos') == ['photos/a.png']
    assert places('photos', 'photos/out') == ['photos/out/sub/a.png']  # without what lies in out
    assert places('photos/out', 'photos') == ['photos/b.png']


def test_one_name_in_two_formats(tmp_path):
    for name in ('a.jpg', 'a.png'):
        write(tmp_path / name)
    out = tmp_path / 'out'
    jobs = find_jobs([str(tmp_path)], out, strips=True)
    assert len({path for job in jobs for path in (job.output, job.strip)}) == 4
    with pytest.raises(InputError, match=r"leave out --format, or write '\*\.png' to another folder"):
        find_jobs([str(tmp_path)], out, file_format='webp')
    assert [job.output.name for job in find_jobs([str(tmp_path / '*.png')], out, file_format='webp')] == ['a.webp']


def test_an_output_that_cannot_be_made_is_found_before_the_work(tmp_path, gray, capsys, monkeypatch):
    write(tmp_path / 'photos' / 'a.png')
    (tmp_path / 'file').touch()
    monkeypatch.setattr(denoising_run, 'denoise_files', None)
    assert main(['denoise', gray, str(tmp_path / 'photos'), '-o', str(tmp_path / 'file' / 'out')]) == 2
    assert 'cannot be written (Not a directory); choose another -o' in capsys.readouterr().err


def test_a_checkpoint_may_look_like_a_pattern(tmp_path):
    network = tmp_path / 'n[1].pth'
    assert _split([str(network), 'x']) == (None, [str(network), 'x'])
    network.touch()
    assert _split([str(network), 'x']) == (str(network), ['x'])


@pytest.mark.parametrize(
    ('arguments', 'reason'),
    [
        (['--sigma255', '25'], 'add --wne, or give the level of the images as --image-sigma255'),
        (['--wne', '--sigma255', '-1'], 'above 0 in 8-bit units; got -1'),
        (['--noise255', '10'], 'is blind and takes no noise level'),
        (['--tile', '8'], 'tile (--tile) must be at least 32 pixels for this network; got 8'),
        (['--memory', '0'], 'denoise: --memory must be above 0 GB; got 0'),
        (['--suffix', 'a/b'], 'must not contain path separators'),
        (['--device', 'tpu'], "got 'tpu'"),
    ],
)
def test_wrong_command_lines_are_one_line_and_exit_code_2(arguments, reason, tmp_path, gray, capsys):
    write(tmp_path / 'photos' / 'a.png')
    out = tmp_path / 'out'
    assert main(['denoise', gray, str(tmp_path / 'photos'), '-o', str(out), *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert reason in error and '\n' not in error
    assert not out.exists()


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'float32', 'float64'])
@pytest.mark.parametrize('shape', [(20, 30), (20, 30, 1), (20, 30, 3)])
def test_arrays_come_back_in_shape_and_type(dtype, shape):
    network = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(network.weight, 0.5)
    image = pixels(3, dtype, 20, 30)[..., : shape[2] if len(shape) > 2 else 1].reshape(shape)
    result = ne_basicsr.denoise(network, image)
    assert result.shape == image.shape and result.dtype == image.dtype
    np.testing.assert_allclose(result, image / 2, atol=0.5 if dtype.startswith('u') else 1e-6)


def test_clipping_happens_at_writing_integers_only():
    network = nn.Conv2d(1, 1, 1)
    nn.init.constant_(network.weight, 2.0)
    nn.init.constant_(network.bias, -0.5)
    image = np.linspace(0, 1, 11, dtype=np.float32)[None].repeat(8, 0)
    np.testing.assert_allclose(ne_basicsr.denoise(network, image)[0], 2 * image[0] - 0.5, atol=1e-6)
    eight = (image * 255).round().astype(np.uint8)
    result = ne_basicsr.denoise(network, eight)
    assert result.min() == 0 and result.max() == 255


@pytest.mark.parametrize('dtype', ['uint8', 'uint16'])
def test_integers_are_rounded_to_the_nearest(dtype):
    network = nn.Conv2d(1, 1, 1)
    nn.init.constant_(network.weight, 0.5)
    nn.init.zeros_(network.bias)
    image = np.arange(1, 256, 2, dtype=dtype)[None].repeat(8, 0)  # halves are a half level away from both neighbours
    with torch.no_grad():
        network.bias += 0.25 / np.iinfo(dtype).max  # up
        assert np.array_equal(ne_basicsr.denoise(network, image), image // 2 + 1)
        network.bias -= 0.5 / np.iinfo(dtype).max  # down
        assert np.array_equal(ne_basicsr.denoise(network, image), image // 2)


def test_colour_networks_take_gray_three_times_and_return_the_mean():
    network = nn.Conv2d(3, 3, 1, bias=False)
    with torch.no_grad():
        network.weight[:] = torch.diag(torch.tensor([0.0, 0.5, 1.0]))[..., None, None]
    image = pixels(1, 'float32')
    np.testing.assert_allclose(ne_basicsr.denoise(network, image), 0.5 * image, atol=1e-6)


def test_levels_reach_networks_that_want_them():
    told = []

    class Told(FDnCNN):
        def forward(self, x, sigma=None):
            told.append(sigma)
            return super().forward(x, sigma)

    network = Told(num_feat=4, num_layers=2, blind=False).eval()
    image = (0.5 + 0.1 * np.random.default_rng(0).standard_normal((64, 80))).astype(np.float32)
    ne_basicsr.denoise(network, image, noise=0.2)
    assert told[-1].tolist() == [pytest.approx(0.2)]
    ne_basicsr.denoise(network, image)
    assert told[-1].item() == pytest.approx(0.1, rel=0.1)  # estimated

    network = ZeroShot(DnCNN(num_feat=4, num_layers=2, act_mode='R')).eval()
    assert not np.array_equal(ne_basicsr.denoise(network, image, noise=0.3), ne_basicsr.denoise(network, image))


def test_float64_is_kept_by_networks_of_float64():
    image = 1e6 + 1e-3 * pixels(1, 'float64')  # of which float32 keeps nothing
    network = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(network.weight, 1.0)
    assert np.abs(ne_basicsr.denoise(network.double(), image) - image).max() < 1e-9
    assert np.abs(ne_basicsr.denoise(network.float(), image) - image).max() < 1e-9
    assert next(network.parameters()).dtype == torch.float32
    in_float32 = pixels(1, 'float64')  # which that type holds well enough
    assert 0 < np.abs(ne_basicsr.denoise(network, in_float32) - in_float32).max() < 1e-7
    assert np.array_equal(ne_basicsr.denoise(network.double(), pixels(1, 'uint16')), pixels(1, 'uint16'))


@pytest.mark.parametrize(
    ('dtype', 'unit'),
    [('float32', 1e-26), ('float32', 1e-36), ('float32', 3e38), ('float64', 1e-60), ('float64', 1e200)],
)
def test_images_are_denoised_in_whatever_unit_they_are(dtype, unit, tmp_path):
    network = WNE(DnCNN(num_feat=4, num_layers=2)).eval()
    image = pixels(3, dtype)
    image[0, 0] = 1.0  # so that colour differences and their sums come near the largest number
    tifffile.imwrite(tmp_path / 'image.tif', image * image.dtype.type(unit), photometric='rgb')
    expected = ne_basicsr.denoise(network, image)
    assert files_through(network, tmp_path, tmp_path / 'out').failures == []
    result = tifffile.imread(tmp_path / 'out' / 'image.tif')
    np.testing.assert_allclose(result / result.dtype.type(unit), expected, rtol=0, atol=1e-5)
    assert np.abs(expected - image).max() > 1e-3  # the network does something


def test_results_that_their_type_does_not_hold_are_not_written(tmp_path):
    network = WNE(DnCNN(num_feat=4, num_layers=2)).eval()
    ends = np.where(np.random.default_rng(0).random((24, 32)) < 0.5, -3.4e38, 3.4e38)
    for dtype in ('float32', 'float64'):
        tifffile.imwrite(tmp_path / f'{dtype}.tif', ends.astype(dtype))
    (failure,) = files_through(network, tmp_path, tmp_path / 'out').failures
    assert 'float32.tif: float32 cannot represent some values of the result; save the image as float64' in failure
    assert not (tmp_path / 'out' / 'float32.tif').exists()
    assert np.isfinite(tifffile.imread(tmp_path / 'out' / 'float64.tif')).all()


def test_images_that_need_float64_do_not_change_those_beside_them(tmp_path):
    network = WNE(DnCNN(num_feat=4, num_layers=2)).eval()
    image = pixels(1, 'float64')[..., 0]
    for name, unit in (('a', 1.0), ('b', 1e-60)):
        tifffile.imwrite(tmp_path / f'{name}.tif', unit * image)
    files_through(network, tmp_path, tmp_path / 'out')
    results = [tifffile.imread(tmp_path / 'out' / f'{name}.tif') for name in 'ab']
    assert np.array_equal(results[0], ne_basicsr.denoise(network, image))
    assert np.array_equal(results[1], ne_basicsr.denoise(network.double(), 1e-60 * image))


@pytest.mark.parametrize('noise', [-1, 0, float('nan'), float('inf'), 25])
def test_levels_that_are_none_are_refused(noise):
    network = FDnCNN(num_feat=4, num_layers=2, blind=False).eval()
    with pytest.raises(InputError, match=f'the noise level .*; got {noise:g}'):
        ne_basicsr.denoise(network, pixels(1, 'uint8'), noise=noise)
    with pytest.raises(InputError, match='the noise level must be one number'):
        ne_basicsr.denoise(network, pixels(1, 'uint8'), noise=[noise] * 3)
    if noise == 25:  # an image in units of its own has a level in them
        assert ne_basicsr.denoise(network, 255 * pixels(1, 'float32'), noise=25).shape == (24, 31, 1)


@pytest.mark.parametrize(
    ('image', 'reason'),
    [
        (np.zeros((4, 4), np.int32), 'got int32'),
        ([[0.5]], 'got list'),
        (np.zeros((4, 4, 4), np.uint8), r'got shape \(4, 4, 4\)'),
        (np.full((4, 4), np.inf, np.float32), 'finite values'),
    ],
)
def test_wrong_arrays_are_refused(image, reason):
    with pytest.raises(InputError, match=reason):
        ne_basicsr.denoise(nn.Identity(), image)


def test_what_a_network_does_wrong_is_said_for_each_file(tmp_path, colour, capsys):
    for number in range(2):
        write(tmp_path / 'photos' / f'{number}.png')
    content = torch.load(colour, weights_only=True)
    next(iter(content['params'].values())).fill_(1e30)
    content['params']['model.2.weight'].fill_(1e30)
    torch.save(content, colour)
    assert main(['denoise', colour, str(tmp_path / 'photos'), '-o', str(tmp_path / 'out')]) == 1
    assert capsys.readouterr().err.count('values that are not finite') == 2
    assert not list((tmp_path / 'out').glob('*.png'))


def test_png_chunks_are_where_the_format_wants_them(tmp_path):
    data = write(tmp_path / 'a.png', 3, 'uint16').read_bytes()
    kinds, place = [], 8
    while place < len(data):
        (length,) = struct.unpack('>I', data[place : place + 4])
        kinds.append(data[place + 4 : place + 8])
        content = data[place + 4 : place + 8 + length]
        assert struct.unpack('>I', data[place + 8 + length : place + 12 + length])[0] == zlib.crc32(content)
        place += 12 + length
    assert kinds[:3] == [b'IHDR', b'iCCP', b'eXIf'] and kinds[-1] == b'IEND'


# -- images whose white is not that of their type ----------------------------------------------------------------------


class Squares(nn.Module):
    """Not equivariant: what it returns depends on the range."""

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return y.square()


@pytest.mark.parametrize('dtype', ['uint16', 'float32', 'float64'])
def test_a_data_range_is_what_the_network_sees_as_1(dtype):
    image = np.array([[0, 1000, 4095], [2048, 4000, 10]], dtype)
    expected = 4095 * np.square(image / 4095.0)
    result = ne_basicsr.denoise(Squares(), image, data_range=4095)
    assert result.dtype == image.dtype
    np.testing.assert_allclose(result, np.rint(expected) if dtype == 'uint16' else expected, rtol=1e-6, atol=0)
    assert not np.allclose(result, ne_basicsr.denoise(Squares(), image))
    with pytest.raises(InputError, match=r'data_range \(--data-range\), the value of white, must be above 0; got 0'):
        ne_basicsr.denoise(Squares(), image, data_range=0)


def test_a_data_range_for_files_and_levels(workplace, capsys):
    rng = np.random.default_rng(0)
    noisy = (2000 + 500 * np.sin(np.arange(96) / 9) + rng.normal(0, 160, (96, 96))).clip(0, 4095).astype(np.uint16)
    tifffile.imwrite('a.tif', noisy)
    assert main(['noise', 'a.tif', '--data-range', '4095', '--json', 'a.json']) == 0
    assert json.loads(Path('a.json').read_text())['a.tif']['level'] == pytest.approx(10, rel=0.1)  # 160 of 4095
    for folder, further in (('out', ['--image-sigma255', '10']), ('png', ['--format', 'png'])):
        assert main(['denoise', 'gray', 'a.tif', '-o', folder, *further, '--data-range', '4095']) == 0
    assert cv2.imread('png/a.png', cv2.IMREAD_UNCHANGED).max() < 4095  # 16 bits, and the same range
    network = ne_basicsr.load('gray')
    told = network(noisy, noise=10 / 255, data_range=4095)
    # the command computes with channels last, which rounds otherwise
    np.testing.assert_allclose(tifffile.imread('out/a.tif').astype(int), told, atol=1)
    assert told.max() < 4095
    shares = network(noisy.astype(np.float32) / np.float32(4095), noise=10 / 255)
    assert np.array_equal(told, np.rint(4095 * shares))
    for command in (['noise', 'a.tif'], ['denoise', 'gray', 'a.tif', '-o', 'none']):
        assert main([*command, '--data-range', '0']) == 2
    assert not Path('none').exists()
    assert main(['denoise', 'gray', 'a.tif', '-o', 'less', '--data-range', '2000']) == 1
    assert f'a.tif: the image: holds {noisy.max()}, more than data_range: 2000' in capsys.readouterr().err
