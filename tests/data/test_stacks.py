"""Pages of stacks are read and replaced one at a time; all else in their files stays."""

import io
import re
import shutil
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from ne_basicsr.data.image_store import LmdbStore, open_store
from ne_basicsr.data.prepare import Recipe, prepare
from ne_basicsr.data.stacks import Stack, page_count
from ne_basicsr.utils.errors import InputError

LAYOUT_TAGS = {259, 273, 279, 324, 325}  # compression; places and lengths of strips and tiles


def values(shape: tuple[int, ...], dtype: str = 'uint16') -> np.ndarray:
    """Noise on a ramp of brightness, which compresses better than noise alone."""
    ramp = np.linspace(0.2, 0.6, shape[-1]) + 0.05 * np.random.default_rng(len(shape)).standard_normal(shape)
    return (ramp.clip(0, 1) * (np.iinfo(dtype).max if dtype.startswith('u') else 1000)).astype(dtype)


def first_page_for_all(path: Path) -> None:
    """As ImageJ writes large stacks: its own description counts images, of which the TIFF describes one."""
    tifffile.imwrite(path, values((5, 24, 31)), imagej=True, metadata={'axes': 'TYX'})
    with tifffile.TiffFile(path, mode='r+b') as tiff:
        tiff.filehandle.seek(tiff.pages.first.offset + 2 + 12 * len(tiff.pages.first.tags))
        tiff.filehandle.write(bytes(4))


GRAY = np.zeros((24, 31), np.uint16)
HYPERSTACK = values((2, 3, 2, 24, 31))
LAYOUTS = {
    'ImageJ': lambda path: tifffile.imwrite(
        path, HYPERSTACK, imagej=True, resolution=(3.0, 4.0),
        metadata={'axes': 'TZCYX', 'unit': 'um', 'spacing': 0.5, 'Labels': [f'page {i}' for i in range(12)]},
    ),
    'ImageJ, large': first_page_for_all,
    'OME': lambda path: tifffile.imwrite(path, HYPERSTACK, ome=True, metadata={'axes': 'TZCYX', 'PhysicalSizeX': 0.1}),
    'OME, compressed, tiled, BigTIFF': lambda path: tifffile.imwrite(
        path, HYPERSTACK, ome=True, metadata={'axes': 'TZCYX'}, compression='zlib', predictor=True, tile=(16, 16),
        bigtiff=True,
    ),
    'colour': lambda path: tifffile.imwrite(
        path, values((3, 24, 31, 3), 'uint8'), photometric='rgb', iccprofile=b'profile', rowsperstrip=10,
        compression='zlib',
    ),
    'colour by planes': lambda path: tifffile.imwrite(
        path, values((3, 3, 24, 31)), photometric='rgb', planarconfig='separate', tile=(16, 32)
    ),
    'transparent': lambda path: tifffile.imwrite(
        path, values((3, 24, 31, 4), 'uint8'), photometric='rgb', extrasamples=['unassalpha']
    ),
    'other order of bytes, white at 0': lambda path: tifffile.imwrite(
        path, values((3, 24, 31)), byteorder='>', photometric='miniswhite', compression='zlib', predictor=True
    ),
    'floating point': lambda path: tifffile.imwrite(
        path, values((3, 24, 31), 'float32'), photometric='minisblack', compression='zlib'
    ),
    'LZW': lambda path: cv2.imwritemulti(
        str(path), list(values((3, 24, 31))), [cv2.IMWRITE_TIFF_COMPRESSION, 5]
    ),  # which tifffile alone cannot read
    'constant, compressed': lambda path: tifffile.imwrite(
        path, np.zeros((3, 24, 31), 'uint16'), photometric='minisblack', compression='zlib', tile=(16, 16)
    ),  # whose result is longer than it
}  # fmt: skip


@pytest.mark.parametrize('layout', LAYOUTS)
def test_replacing_pages_keeps_everything_else(layout, tmp_path):
    LAYOUTS[layout](tmp_path / 'a.tif')
    shutil.copy(tmp_path / 'a.tif', tmp_path / 'b.tif')
    with Stack(tmp_path / 'a.tif') as given, (tmp_path / 'b.tif').open('r+b') as file, Stack(file) as result:
        number = given.count()
        before = [given.read(index) for index in range(number)]
        after = [
            np.roll(page, index + 1, 0)[:, ::-1] + (page % 7).astype(page.dtype) for index, page in enumerate(before)
        ]
        after = [page + (np.arange(page.size).reshape(page.shape) % 251).astype(page.dtype) for page in after]
        for index in reversed(range(number)):
            result.write(index, after[index])
    with Stack(tmp_path / 'b.tif') as stack:
        assert stack.count() == number >= 3
        for index in range(number):
            found = stack.read(index)
            assert found.dtype == after[index].dtype and np.array_equal(found, after[index])
            assert not np.array_equal(found, before[index])
    with tifffile.TiffFile(tmp_path / 'a.tif') as a, tifffile.TiffFile(tmp_path / 'b.tif') as b:
        pages = [list(a.pages), list(b.pages)]  # before tifffile reads them as series, without their tags
        assert (a.series[0].axes, a.series[0].shape) == (b.series[0].axes, b.series[0].shape)
        assert (a.imagej_metadata, a.ome_metadata) == (b.imagej_metadata, b.ome_metadata)
        for one, other in zip(*pages, strict=True):
            kept = [{tag.code: tag.value for tag in page.tags if tag.code not in LAYOUT_TAGS} for page in (one, other)]
            assert kept[0] == kept[1]
        for file, ours in ((a, before), (b, after)):  # as others read it
            stored = np.stack(ours) if 'planes' not in layout else np.moveaxis(np.stack(ours), -1, 1)
            stored = 65535 - stored if 'white' in layout else stored
            if layout != 'LZW' or file is b:
                assert np.array_equal(file.asarray().reshape(-1), stored.reshape(-1))
        if 'tiled' in layout:  # libtiff wants whole tiles
            assert np.array_equal(cv2.imreadmulti(str(tmp_path / 'b.tif'), flags=-1)[1], np.stack(after)[..., 0])
        if a.pages[0].is_final:
            ours, theirs = (np.frombuffer((tmp_path / name).read_bytes(), np.uint8) for name in ('a.tif', 'b.tif'))
            places = [(page.dataoffsets[0], page.nbytes) for page in pages[0]]
            places = places if len(places) > 1 else [(places[0][0], number * places[0][1])]
            inside = np.zeros(len(ours), bool)
            for start, size in places:
                inside[start : start + size] = True
            assert not (ours != theirs)[~inside].any() and (ours != theirs)[inside].any()


def test_pages_read_with_opencv_are_those_of_the_file(tmp_path):
    LAYOUTS['LZW'](tmp_path / 'a.tif')
    for source in (tmp_path / 'a.tif', io.BytesIO((tmp_path / 'a.tif').read_bytes())):
        with Stack(source) as stack:
            pages = np.stack([stack.read(index) for index in (2, 0, 1)])[..., 0]
        assert np.array_equal(pages, values((3, 24, 31))[[2, 0, 1]])


def test_counting_pages_reads_none_and_opens_no_other_file(tmp_path, monkeypatch):
    description = tifffile.OmeXml()
    description.addimage('uint16', (3, 24, 31), (3, 1, 1, 24, 31, 1), axes='ZYX')
    places = '<TiffData FirstZ="{0}" IFD="0" PlaneCount="1"><UUID FileName="{0}.tif">urn:uuid:{0}</UUID></TiffData>'
    text = re.sub('<TiffData[^>]*/>', ''.join(map(places.format, range(3))), description.tostring())
    for number in range(3):
        named = re.sub('UUID="[^"]*"', f'UUID="urn:uuid:{number}"', text, count=1)
        tifffile.imwrite(tmp_path / f'{number}.tif', GRAY, description=named, metadata=None, photometric='minisblack')
    with tifffile.TiffFile(tmp_path / '0.tif') as tiff:
        assert tiff.series[0].shape == (3, 24, 31)  # tifffile itself finds the others
    LAYOUTS['OME'](tmp_path / 'stack.tif')
    (tmp_path / 'a.png').write_bytes(b'no TIFF')
    monkeypatch.setattr(tifffile.TiffPage, 'asarray', None)
    assert [page_count(tmp_path / name) for name in ('0.tif', 'stack.tif', 'a.png')] == [1, 12, 1]


def several(path: Path, *pages: np.ndarray) -> None:
    with tifffile.TiffWriter(path) as writer:
        for page in pages:
            writer.write(page, photometric='minisblack', metadata=None)


def pyramids(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        for _ in range(2):
            writer.write(GRAY, subifds=1, metadata=None)
            writer.write(GRAY[::2, ::2], subfiletype=1, metadata=None)


def unwritten(path: Path) -> None:
    several(path, GRAY, GRAY)
    with tifffile.TiffFile(path, mode='r+b') as tiff:
        tiff.pages[1].tags[273].overwrite(0)


def cut(layout: str, part: float):
    def write(path: Path) -> None:
        LAYOUTS[layout](path)
        path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])

    return write


WRONG = {
    'other size': (lambda path: several(path, GRAY, GRAY[1:]), 'page 2 is 23x31 uint16, the first 24x31 uint16; save'),
    'other type': (lambda path: several(path, GRAY, GRAY + 0.5), 'page 2 is 24x31 float64, the first 24x31 uint16'),
    'no pages': (lambda path: path.write_bytes(b'II*\0' + bytes(4)), 'holds no pages, or is cut'),
    'smaller copies': (pyramids, r'smaller copies \(a pyramid\)'),
    'complex': (lambda path: several(path, GRAY + 1j, GRAY + 1j), 'this is complex128'),
    '12 bits': (lambda path: several(path, GRAY, GRAY), 'packs 12 bits'),
    'a page that was never written': (unwritten, 'is cut or damaged in page 2 of 2'),
    'cut, ImageJ': (cut('ImageJ', 0.6), 'is cut or damaged after page 1'),
    'cut, ImageJ, large': (cut('ImageJ, large', 0.6), 'is cut or damaged in page 4 of 5'),
    'cut, OME': (cut('OME', 0.98), r'is cut or damaged'),
    'cut, tiles': (cut('OME, compressed, tiled, BigTIFF', 0.5), 'is cut or damaged after page'),
    'cut, LZW': (cut('LZW', 0.6), 'is cut or damaged after page'),
}


@pytest.mark.parametrize('name', WRONG)
def test_wrong_stacks_are_explained_in_one_line(name, tmp_path):
    write, message = WRONG[name]
    write(tmp_path / 'a.tif')
    with pytest.raises(InputError, match=message) as caught:
        page_count(tmp_path / 'a.tif')
        with (tmp_path / 'a.tif').open('r+b') as file, Stack(file) as stack:
            page = stack.read(0)
            stack.page(0).bitspersample = 12  # tifffile reads, but does not write, packed bits
            stack.write(0, page)
    assert '\n' not in str(caught.value)


def test_bytes_that_no_longer_fit_a_number_of_16_bits_get_one_of_32(tmp_path):
    path = tmp_path / 'a.tif'
    tifffile.imwrite(path, np.zeros((2, 300, 300), 'uint16'), photometric='minisblack', compression='zlib')
    data = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages[0].tags[279]
    short = struct.pack('<HHI', 279, 3, 1) + struct.pack('<HH', tag.value[0], 0)
    path.write_bytes(data[: tag.offset] + short + data[tag.offset + 12 :])
    noise = np.random.default_rng(0).integers(0, 2**16, (300, 300, 1), np.uint16)
    with path.open('r+b') as file, Stack(file) as stack:
        stack.write(0, noise)
    with Stack(path) as stack:
        assert np.array_equal(stack.read(0), noise)


def test_a_store_has_each_page_as_an_image(tmp_path):
    folder = tmp_path / 'in'
    folder.mkdir()
    for name, layout in (('cells', 'ImageJ'), ('photos', 'transparent'), ('lzw', 'LZW'), ('float', 'floating point')):
        LAYOUTS[layout](folder / f'{name}.tif')
    cut('OME', 0.5)(folder / 'cut.tif')
    cv2.imwrite(str(folder / 'cells_p0003.png'), HYPERSTACK[0, 0, 0])
    summary = prepare([folder], tmp_path / 'x.lmdb')
    # once, not for each page
    assert summary.failures == [
        f'{folder}/cut.tif: is cut or damaged after page 1',
        f'{folder}/float.tif: float32 pixels; a store holds 8 or 16 bits, so convert it first',
    ]
    store = open_store(tmp_path / 'x.lmdb')
    assert isinstance(store, LmdbStore)
    assert len(store.names) == summary.values == 12 + 3 + 3 + 1
    for index, page in enumerate(HYPERSTACK.reshape(12, 24, 31)):
        assert np.array_equal(store.pixels(f'cells_p{index + 1:04d}', 1)[..., 0], page)
    assert np.array_equal(store.pixels('cells_p0003_2', 1)[..., 0], HYPERSTACK[0, 0, 0])  # a file of that name
    assert np.array_equal(store.pixels('photos_p0002', 3), values((3, 24, 31, 4), 'uint8')[1, ..., :3])
    assert np.array_equal(store.pixels('lzw_p0003', 1)[..., 0], values((3, 24, 31))[2])
    store.close()
    again = prepare([folder], tmp_path / 'x.lmdb', resume=True)
    assert (again.now, again.finished, again.gone) == (0, 19, 0)
    LAYOUTS['colour'](folder / 'cells.tif')  # another stack, of fewer pages
    again = prepare([folder], tmp_path / 'x.lmdb', resume=True)
    assert (again.now, again.finished, again.gone) == (3, 10, 9)
    gray = prepare([folder], tmp_path / 'gray.raw', Recipe('raw', crop=16, channels=1))
    assert gray.values == 10 * 4 and open_store(tmp_path / 'gray.raw').pixels('photos_p0001_s004', 1).shape == (
        16,
        16,
        1,
    )
