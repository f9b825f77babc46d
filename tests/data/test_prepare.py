"""Prepared stores hold what the folders held, whatever happened on the way."""

import hashlib
import json
import signal
import sys
import zlib
from pathlib import Path

import cv2
import forked
import numpy as np
import pytest
from basicsr.data import build_dataset
from basicsr.data.data_util import paired_paths_from_lmdb, paths_from_lmdb
from basicsr.utils import FileClient, imfrombytes

from ne_basicsr.data.image_store import FolderStore, LmdbStore, RawStore, open_store
from ne_basicsr.data.prepare import Recipe, find_images, prepare, sub_images
from ne_basicsr.utils import folder_lock
from ne_basicsr.utils.errors import InputError

FORMATS = ('png', 'raw')


def write(path: Path, shape, seed=0, dtype=np.uint8) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    cv2.imwrite(str(path), image)
    return image


def stored(path: Path):
    return open_store(path, 'lmdb')


def contents(path: Path) -> dict[str, str]:
    """A hash of every value, and the meta information."""
    store = stored(path)
    read = store.read if isinstance(store, LmdbStore) else lambda name: store.pixels(name, 1).tobytes()
    values = {name: hashlib.sha256(read(name)).hexdigest() for name in store.names}
    if isinstance(store, LmdbStore):
        store.close()
    return values | {'meta': (path / 'meta_info.txt').read_text()}


@pytest.fixture
def photographs(tmp_path) -> Path:
    """Gray and colour images of several sizes in a folder and one below it."""
    folder = tmp_path / 'photographs'
    for number, shape in enumerate([(30, 40), (25, 25, 3), (64, 20)]):
        write(folder / f'{number}.png', shape, number)
    write(folder / 'below' / 'deep.bmp', (12, 50, 3), 9)
    return folder


@pytest.mark.parametrize('format', FORMATS)
@pytest.mark.parametrize('channels', [None, 1, 3])
def test_a_store_holds_what_the_folder_holds(photographs, tmp_path, format, channels):
    summary = prepare([photographs], tmp_path / 'x.lmdb', Recipe(format, channels=channels))
    assert (summary.finished, summary.now, summary.values, summary.failures) == (4, 4, 4, [])
    folder, store = FolderStore(photographs), stored(tmp_path / 'x.lmdb')
    assert isinstance(store, LmdbStore if format == 'png' else RawStore)
    assert store.names == folder.names == ['0', '1', '2', 'below/deep']
    for name in folder.names:
        wanted = channels or (1 if name in '02' else 3)
        assert np.array_equal(store.pixels(name, wanted), folder.pixels(name, wanted))


def test_basicsr_reads_pairs_of_stores(tmp_path):
    images = {}
    for kind, seed in (('gt', 0), ('lq', 5)):
        for number in range(3):
            images[kind, f'v1_{number}'] = write(tmp_path / kind / f'v1.{number}.png', (24, 30, 3), seed + number)
        prepare([tmp_path / kind], tmp_path / f'{kind}.lmdb')
    folders = [str(tmp_path / f'{kind}.lmdb') for kind in ('lq', 'gt')]
    paths = paired_paths_from_lmdb(folders, ['lq', 'gt'])
    assert [pair['gt_path'] for pair in paths] == paths_from_lmdb(folders[1]) == ['v1_0', 'v1_1', 'v1_2']
    client = FileClient('lmdb', db_paths=folders, client_keys=['lq', 'gt'])
    for kind, name in images:
        assert np.array_equal(imfrombytes(client.get(name, kind)), images[kind, name])
    assert (tmp_path / 'gt.lmdb' / 'meta_info.txt').read_text().startswith('v1_0.png (24,30,3) 1 crc32 ')


def test_basicsr_s_own_data_set_trains_on_a_store(tmp_path):
    image = write(tmp_path / 'images' / 'a.png', (24, 30, 3))
    for kind in ('gt', 'lq'):
        prepare([tmp_path / 'images'], tmp_path / f'{kind}.lmdb')
    options = {'name': 'x', 'type': 'PairedImageDataset', 'phase': 'val', 'io_backend': {'type': 'lmdb'}, 'scale': 1}
    item = build_dataset(options | {f'dataroot_{kind}': str(tmp_path / f'{kind}.lmdb') for kind in ('gt', 'lq')})[0]
    assert np.array_equal((item['gt'] * 255).round().byte().numpy(), image[..., ::-1].transpose(2, 0, 1))


# -- sub-images --------------------------------------------------------------------------------------------------------


def test_sub_images_lie_where_basicsr_s_do():
    # extract_subimages.py with crop_size 480, step 240, thresh_size 0 on a DIV2K image of 1356x2040
    places = sub_images(1356, 2040, 480, 240)
    rows = [*range(0, 877, 240), 876]
    columns = [*range(0, 1561, 240), 1560]
    assert [(y.start, x.start) for y, x in places] == [(y, x) for y in rows for x in columns]
    assert all((y.stop - y.start, x.stop - x.start) == (480, 480) for y, x in places)


@pytest.mark.parametrize(
    ('height', 'width', 'crop', 'step'), [(30, 40, 8, 8), (31, 17, 8, 5), (7, 40, 8, 3), (8, 8, 8, 1)]
)
def test_sub_images_cover_every_pixel(height, width, crop, step):
    covered = np.zeros((height, width), int)
    for place in sub_images(height, width, crop, step):
        covered[place] += 1
        assert covered[place].shape == (min(crop, height), min(crop, width))
    assert covered.min() >= 1


@pytest.mark.parametrize('format', FORMATS)
def test_sub_images_are_numbered_and_cut_from_their_image(tmp_path, format):
    image = write(tmp_path / 'images' / 'a.png', (20, 30))
    write(tmp_path / 'images' / 'small.png', (6, 30))
    prepare([tmp_path / 'images'], tmp_path / 'x.lmdb', Recipe(format, crop=16, step=14))
    store = stored(tmp_path / 'x.lmdb')
    assert store.names == ['a_s001', 'a_s002', 'a_s003', 'a_s004', 'small_s001', 'small_s002']
    assert np.array_equal(store.pixels('a_s004', 1)[..., 0], image[4:, 14:])
    assert store.pixels('small_s002', 1).shape == (6, 16, 1)


# -- names -------------------------------------------------------------------------------------------------------------


def test_names_are_such_as_basicsr_reads_and_differ(tmp_path):
    for name in ('a.b.png', 'a_b.png', 'a_b.jpg', 'ü.png', '(1) x.png'):
        write(tmp_path / 'images' / name, (8, 8))
    prepare([tmp_path / 'images'], tmp_path / 'x.lmdb')
    names = LmdbStore(tmp_path / 'x.lmdb').names
    assert sorted(names) == ['(1) x', '_', 'a_b', 'a_b_jpg', 'a_b_png']
    assert paths_from_lmdb(str(tmp_path / 'x.lmdb')) == names


def test_several_inputs_keep_their_names_apart(tmp_path):
    for folder in ('BSD', 'WED'):
        write(tmp_path / folder / 'a.png', (8, 8))
    assert [s.key for s in find_images([tmp_path / 'BSD', tmp_path / 'WED'])] == ['BSD/a', 'WED/a']
    with pytest.raises(InputError, match="two inputs are called 'BSD'"):
        prepare([tmp_path / 'BSD', tmp_path / 'BSD'], tmp_path / 'x.lmdb')


def test_linked_folders_are_read_once(tmp_path):
    write(tmp_path / 'BSD' / 'a.png', (8, 8))
    (tmp_path / 'all').mkdir()
    for link in ('first', 'second'):
        (tmp_path / 'all' / link).symlink_to(tmp_path / 'BSD')
    (tmp_path / 'BSD' / 'loop').symlink_to(tmp_path / 'all')
    assert FolderStore(tmp_path / 'all').names == ['first/a']


# -- depth and broken files --------------------------------------------------------------------------------------------


def test_16_bits_stay_in_png_and_are_rounded_in_raw(tmp_path):
    image = write(tmp_path / 'images' / 'deep.png', (9, 9), dtype=np.uint16)
    summary = prepare([tmp_path / 'images'], tmp_path / 'png.lmdb', Recipe('png'))
    assert summary.rounded == 0
    assert np.array_equal(stored(tmp_path / 'png.lmdb').pixels('deep', 1)[..., 0], image)
    summary = prepare([tmp_path / 'images'], tmp_path / 'raw.lmdb', Recipe('raw'))
    assert summary.rounded == 1
    rounded = stored(tmp_path / 'raw.lmdb').pixels('deep', 1)[..., 0]
    assert np.array_equal(rounded, np.round(image / 65535 * 255).astype(np.uint8))


@pytest.mark.parametrize('format', FORMATS)
def test_unreadable_files_are_named_and_nothing_else_is_lost(photographs, tmp_path, format):
    good = prepare([photographs], tmp_path / 'good.lmdb', Recipe(format))
    whole = (photographs / '1.png').read_bytes()
    broken = {'empty.png': b'', 'cut.png': whole[: len(whole) // 2], 'text.jpg': b'no image'}
    for name, data in broken.items():
        (photographs / name).write_bytes(data)
    (photographs / 'gone.png').symlink_to(tmp_path / 'nowhere.png')
    cv2.imwrite(str(photographs / 'float.tiff'), np.ones((8, 8), np.float32))
    summary = prepare([photographs], tmp_path / 'x.lmdb', Recipe(format))
    assert len(summary.failures) == 5
    for name in (*broken, 'gone.png', 'float.tiff'):
        assert any(name in failure for failure in summary.failures), name
    assert good.values == summary.values == 4
    assert contents(tmp_path / 'x.lmdb') == contents(tmp_path / 'good.lmdb')
    write(photographs / 'empty.png', (9, 9))
    mended = prepare([photographs], tmp_path / 'x.lmdb', Recipe(format), resume=True)
    assert (mended.now, mended.finished, len(mended.failures)) == (1, 5, 4)
    assert 'empty' in stored(tmp_path / 'x.lmdb').names


# -- SIDD --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('format', FORMATS)
def test_pairs_go_under_equal_names(tmp_path, format):
    pixels = {}
    for scene in ('0001_S6', '0002_S6'):
        for kind, seed in (('GT', 1), ('NOISY', 2)):
            path = tmp_path / 'Data' / scene / f'{scene[:4]}_{kind}_SRGB_010.PNG'
            pixels[scene, kind] = write(path, (20, 30, 3), seed)
    write(tmp_path / 'Data' / '0003' / '0003_NOISY_SRGB_010.PNG', (20, 30, 3))
    write(tmp_path / 'Data' / '0004' / '0004_GT_SRGB_010.PNG', (20, 30, 3))
    write(tmp_path / 'Data' / '0004' / '0004_NOISY_SRGB_010.PNG', (20, 31, 3))
    summary = prepare([tmp_path / 'Data'], tmp_path / 'SIDD', Recipe(format, crop=16, step=14), sidd=True)
    assert (summary.finished, summary.values) == (2, 8)
    alone, differ = summary.failures
    assert '0003_NOISY_SRGB_010.PNG: there is no 0003_GT_SRGB_010.PNG beside it' in alone
    assert '0004_NOISY_SRGB_010.PNG: the sizes of the pair differ: 20x30 and 20x31' in differ
    suffix = 'lmdb' if format == 'png' else 'raw'
    clean, noisy = (stored(tmp_path / 'SIDD' / f'{name}.{suffix}') for name in ('gt', 'lq'))
    assert clean.names == noisy.names
    assert clean.names[0] == '0001_S6/0001_SRGB_010_s001'
    for store, kind in ((clean, 'GT'), (noisy, 'NOISY')):
        corner = store.pixels('0002_S6/0002_SRGB_010_s004', 3)
        assert np.array_equal(corner, pixels['0002_S6', kind][4:20, 14:30, ::-1])
    if format == 'png':
        folders = [str(tmp_path / 'SIDD' / f'{name}.lmdb') for name in ('lq', 'gt')]
        assert len(paired_paths_from_lmdb(folders, ['lq', 'gt'])) == 8


def test_a_folder_without_pairs_is_refused(photographs, tmp_path):
    with pytest.raises(InputError, match=r'no pairs \*_GT_SRGB\*'):
        prepare([photographs], tmp_path / 'SIDD', sidd=True)
    assert not (tmp_path / 'SIDD').exists()


# -- interruption ------------------------------------------------------------------------------------------------------

RUN = """
import os, signal, sys, threading
from pathlib import Path
from ne_basicsr.data import prepare

prepare.SYNC_SECONDS = 0.001
images, output, format, last, delay = sys.argv[1:]
kill = threading.Timer(float(delay), os.kill, (os.getpid(), signal.SIGKILL))
recipe = prepare.Recipe(format, crop=50, step=30)
prepare.prepare([Path(images)], Path(output), recipe, resume=True, workers=2,
                on_progress=lambda done, total: kill.start() if done == int(last) else None)
"""


@pytest.mark.parametrize('format', FORMATS)
def test_a_killed_run_goes_on_and_ends_with_the_same_values(tmp_path, format):
    for number in range(100):
        write(tmp_path / 'images' / f'{number:03d}.png', (140, 140), number)
    output, straight = tmp_path / 'killed.lmdb', tmp_path / 'straight.lmdb'
    prepare([tmp_path / 'images'], straight, Recipe(format, crop=50, step=30))
    for last, delay in (('15', '0'), ('40', '0.004')):
        run = [sys.executable, '-c', RUN, str(tmp_path / 'images'), str(output), format, last, delay]
        assert forked.run(run).returncode == -signal.SIGKILL
    assert not (output / 'meta_info.txt').exists()
    done = (output / 'prepare.jsonl').read_bytes().count(b'\n') - 1
    assert 30 <= done < 100
    summary = prepare([tmp_path / 'images'], output, Recipe(format, crop=50, step=30), resume=True)
    assert summary.now == 100 - done
    assert contents(output) == contents(straight)
    if format == 'raw':
        assert (output / 'images.raw').read_bytes() == (straight / 'images.raw').read_bytes()


@pytest.mark.parametrize('format', FORMATS)
@pytest.mark.parametrize('cut', [1, 40])
def test_a_journal_that_was_cut_costs_its_last_source_alone(photographs, tmp_path, format, cut):
    output = tmp_path / 'x.lmdb'
    prepare([photographs], output, Recipe(format))
    whole, journal = contents(output), output / 'prepare.jsonl'
    journal.write_bytes(journal.read_bytes()[:-cut])
    assert prepare([photographs], output, Recipe(format), resume=True).now == 1
    assert contents(output) == whole


def test_ctrl_c_keeps_what_was_finished(photographs, tmp_path):
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare([photographs], tmp_path / 'x.lmdb', on_progress=interrupt)
    assert prepare([photographs], tmp_path / 'x.lmdb', resume=True).now == 2


def test_a_full_disk_is_one_line_and_keeps_what_was_finished(photographs, tmp_path, monkeypatch):
    from ne_basicsr.data.store_writer import RawWriter

    put = RawWriter.put

    def full(self, entry, data):
        if entry.name == '2':
            raise OSError(28, 'No space left on device')
        return put(self, entry, data)

    with monkeypatch.context() as patch, pytest.raises(InputError, match='No space left on device; what was finished'):
        patch.setattr(RawWriter, 'put', full)
        prepare([photographs], tmp_path / 'x.raw', Recipe('raw'))
    assert prepare([photographs], tmp_path / 'x.raw', Recipe('raw'), resume=True).now == 2


def test_nothing_is_written_over(photographs, tmp_path):
    output = tmp_path / 'x.lmdb'
    prepare([photographs], output)
    before = contents(output)
    with pytest.raises(InputError, match=r'exists already; continue it with --resume'):
        prepare([photographs], output)
    with pytest.raises(InputError, match=r'was started with crop null, not 8'):
        prepare([photographs], output, Recipe(crop=8), resume=True)
    with pytest.raises(InputError, match=r'was not made by basicsr prepare'):
        prepare([photographs], photographs.parent, Recipe('raw'), resume=True)
    assert contents(output) == before
    assert prepare([photographs], output, resume=True).now == 0


def test_two_processes_do_not_write_to_one_store(photographs, tmp_path):
    output = tmp_path / 'x.lmdb'
    prepare([photographs], output)
    before = contents(output)
    with (
        folder_lock.hold(output, ''),
        pytest.raises(InputError, match=r'process \d+ on .+ writes to it since .+, or choose another --output'),
    ):
        prepare([photographs], output, resume=True)
    assert contents(output) == before
    assert prepare([photographs], output, resume=True).now == 0


def test_raw_pixels_that_were_lost_are_noticed(photographs, tmp_path):
    output = tmp_path / 'x.raw'
    prepare([photographs], output, Recipe('raw'))
    size = (output / 'images.raw').stat().st_size
    with (output / 'images.raw').open('r+b') as file:
        file.truncate(100)
    with pytest.raises(InputError, match=rf'images.raw: 100 bytes, but meta_info.txt lists {size}'):
        RawStore(output)
    with pytest.raises(InputError, match=rf'100 bytes of {size} are left'):
        prepare([photographs], output, Recipe('raw'), resume=True)


def test_the_journal_says_where_each_value_is_from(photographs, tmp_path):
    prepare([photographs], tmp_path / 'x.raw', Recipe('raw'))
    header, first, *_ = map(json.loads, (tmp_path / 'x.raw' / 'prepare.jsonl').read_text().splitlines())
    assert header['format'] == 'raw'
    status = (photographs / '0.png').stat()
    checksum = zlib.crc32(cv2.imread(str(photographs / '0.png'), 0).tobytes(), zlib.crc32(b'0 30,40,1'))
    assert first == {
        'source': '0 0.png',
        'files': [[status.st_size, status.st_mtime_ns]],
        'stores': [[['0', [30, 40, 1], 0, checksum]]],
    }
    line = (tmp_path / 'x.raw' / 'meta_info.txt').read_text().splitlines()[0]
    assert line == f'0.raw (30,40,1) uint8 0 crc32 {checksum:08x} 1/4'


@pytest.mark.parametrize(
    ('recipe', 'name', 'message'),
    [
        (Recipe('png'), 'x', 'must end in .lmdb'),
        (Recipe(crop=0), 'x.lmdb', '--crop is 1 or more; got 0'),
        (Recipe(step=4), 'x.lmdb', r'--step is between 1 and --crop \(now None\); got 4'),
        (Recipe(crop=4, step=5), 'x.lmdb', r'--step is between 1 and --crop \(now 4\); got 5'),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_made(photographs, tmp_path, recipe, name, message):
    with pytest.raises(InputError, match=message):
        prepare([photographs], tmp_path / name, recipe)
    assert not (tmp_path / name).exists()
