import io
import re

import cv2
import numpy as np
import pytest
import scipy.io
from basicsr.data.data_util import paths_from_lmdb
from basicsr.utils import FileClient, imfrombytes
from PIL import Image

from ne_basicsr.data.image_store import FolderStore, LmdbStore, MatStore, RawStore, decode, decode_pixels, open_store
from ne_basicsr.data.prepare import Recipe, prepare, write_lmdb
from ne_basicsr.utils.errors import InputError


def test_a_folder_and_its_lmdb_hold_the_same_names_and_pixels(image_folder, tmp_path):
    folder = FolderStore(image_folder)
    arrays = [(name, cv2.imread(str(image_folder / f'{name}.png'), cv2.IMREAD_GRAYSCALE)) for name in folder.names]
    write_lmdb(tmp_path / 'images.lmdb', arrays)
    database = LmdbStore(tmp_path / 'images.lmdb')
    assert database.names == folder.names == [f'photo_{i}' for i in range(6)]
    for name, array in arrays:
        for store in (folder, database):
            assert np.array_equal(decode(store.read(name), 1, name)[..., 0] * 255, array)


def test_basicsr_reads_what_was_written(tmp_path):
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    path = tmp_path / 'colour.lmdb'
    write_lmdb(path, [('a', image)])
    client = FileClient('lmdb', db_paths=[str(path)], client_keys=['gt'])
    assert paths_from_lmdb(str(path)) == ['a']
    assert np.array_equal(imfrombytes(client.get('a', 'gt')), image[..., ::-1])  # BGR
    assert re.fullmatch(r'a\.png \(4,4,3\) 1 crc32 [0-9a-f]{8} 1/1\n', (path / 'meta_info.txt').read_text())


def test_folders_are_read_recursively_without_hidden_or_other_files(tmp_path):
    for name in ('b.png', 'sub/a.JPG', '.hidden/c.png', 'notes.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b'x')
    assert FolderStore(tmp_path).names == ['b', 'sub/a']


def test_files_that_differ_in_their_suffix_alone_are_two_images(tmp_path):
    for name in ('a.png', 'a.jpg', 'b.png'):
        (tmp_path / name).write_bytes(name.encode())
    store = FolderStore(tmp_path)
    assert store.names == ['a.jpg', 'a.png', 'b']
    assert [store.read(name) for name in store.names] == [b'a.jpg', b'a.png', b'b.png']


def test_meta_info_chooses_and_orders(image_folder, tmp_path):
    (tmp_path / 'list.txt').write_text('photo_3.png (48,56,1)\nphoto_1.png (48,56,1)\n')
    assert open_store(image_folder, meta_info_file=tmp_path / 'list.txt').names == ['photo_3', 'photo_1']


def test_lists_that_are_no_text_or_never_end_are_one_line(image_folder, tmp_path):
    (tmp_path / 'list.txt').write_bytes(b'photo_3.png\nphoto_\xff.png\n')
    with pytest.raises(InputError, match=r'list\.txt: no UTF-8 text: byte 18 is 0xff; save it as UTF-8'):
        open_store(image_folder, meta_info_file=tmp_path / 'list.txt')
    with pytest.raises(InputError, match='/dev/zero: not a regular file'):
        open_store(image_folder, meta_info_file='/dev/zero')


def test_names_with_dots_and_spaces_survive(tmp_path):
    image = np.zeros((4, 4), np.uint8)
    write_lmdb(tmp_path / 'odd.lmdb', [('v1.0 (final)', image), ('sub/ü', image)])
    store = LmdbStore(tmp_path / 'odd.lmdb')
    assert store.names == ['v1.0 (final)', 'sub/ü']
    assert all(decode(store.read(name), 1, name).shape == (4, 4, 1) for name in store.names)


@pytest.mark.parametrize(('dtype', 'peak'), [(np.uint8, 255), (np.uint16, 65535)])
@pytest.mark.parametrize('channels', [1, 3])
def test_images_are_scaled_by_their_depth(dtype, peak, channels):
    image = np.full((5, 6, 3), [peak, peak // 2, 0], dtype)  # BGR
    encoded = cv2.imencode('.png', image if channels == 3 else image[..., 1])[1].tobytes()
    decoded = decode(encoded, channels, 'test')
    assert decoded.dtype == np.float32
    expected = [0, peak // 2 / peak, 1] if channels == 3 else [peak // 2 / peak]
    np.testing.assert_allclose(decoded[2, 2], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ('suffix', 'dtype'),
    [(suffix, np.uint8) for suffix in ('.png', '.tiff', '.bmp', '.ppm', '.raw', '.mat')]
    + [('.png', np.uint16), *(('.tiff', dtype) for dtype in (np.uint16, np.float32, np.float64))],
)
def test_gray_from_colour_is_the_nearest_level_and_floats_are_not_rounded(tmp_path, suffix, dtype):
    whole = np.issubdtype(dtype, np.integer)
    rng = np.random.default_rng(0)
    shape = (100, 120, 3)
    image = rng.integers(0, 256, shape).astype(dtype) * (257 if dtype == np.uint16 else 1)
    image = image if whole else (rng.random(shape) * 3 - 1).astype(dtype)
    if suffix == '.mat':
        scipy.io.savemat(tmp_path / 'x.mat', {'blocks': image[None, None]})
        gray = MatStore(tmp_path / 'x.mat').pixels('0001_01', 1)
    elif suffix == '.raw':
        (tmp_path / 'in').mkdir()
        cv2.imwrite(str(tmp_path / 'in' / 'x.png'), image[..., ::-1])
        prepare([tmp_path / 'in'], tmp_path / 'x.raw', Recipe('raw'))
        gray = RawStore(tmp_path / 'x.raw').pixels('x', 1)
    else:
        gray = decode_pixels(cv2.imencode(suffix, image[..., ::-1])[1].tobytes(), 1, 'x')
    error = gray[..., 0] - image @ np.array([0.299, 0.587, 0.114])
    assert gray.shape == (100, 120, 1)
    if whole:
        assert gray.dtype == dtype
        # cutting the fraction off makes the mean -0.5; that of 12,000 rounding errors has a standard deviation of 0.003
        assert abs(error.mean()) < 0.05
        # OpenCV's weights have 14 bits: 255 * 2**-14 from the nearest; of 16 bits by 4 levels in 65535
        assert abs(error).max() < (0.52 if dtype == np.uint8 else 4.5)
    else:
        assert gray.dtype == np.float32
        assert abs(error).max() < 1e-6  # a few roundings of numbers up to 2 in float32


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_gray_as_colour_is_three_times_the_gray(dtype):
    image = np.random.default_rng(0).integers(0, 255, (5, 6)).astype(dtype)
    colour = decode_pixels(cv2.imencode('.tiff', image)[1].tobytes(), 3, 'x')
    assert np.array_equal(colour, np.repeat(image[..., None], 3, axis=2))


@pytest.mark.parametrize('kind', ['tiff', 'webp', 'png'])
def test_a_file_of_several_pages_or_frames_is_refused(kind):
    pages = [Image.fromarray(np.full((20, 20, 3), level, np.uint8)) for level in (10, 200, 30)]
    for count in (1, 3):
        file = io.BytesIO()
        pages[0].save(file, kind, save_all=True, append_images=pages[1:count])
        if count == 1:
            assert decode_pixels(file.getvalue(), 3, 'x').shape == (20, 20, 3)
            continue
        with pytest.raises(InputError, match='x: holds 3 pages or frames; save the one that is meant on its own'):
            decode_pixels(file.getvalue(), 3, 'x')


def test_float_images_keep_their_range():
    image = np.linspace(-0.5, 1.5, 30, dtype=np.float32).reshape(5, 6)
    decoded = decode(cv2.imencode('.tiff', image)[1].tobytes(), 1, 'test')
    np.testing.assert_array_equal(decoded[..., 0], image)


@pytest.mark.parametrize(('kind', 'store'), [('raw', RawStore), ('png', LmdbStore)])
def test_a_store_is_found_by_its_files(kind, store, image_folder, tmp_path):
    root = tmp_path / ('x.lmdb' if kind == 'png' else 'a folder')
    prepare([image_folder], root, Recipe(kind))
    assert type(open_store(root)) is store
    assert type(open_store(image_folder)) is FolderStore
    assert open_store(root).names == open_store(image_folder).names


def test_what_is_missing_or_broken_is_named(tmp_path, image_folder):
    with pytest.raises(InputError, match='no such folder'):
        open_store(tmp_path / 'none')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='empty: no images found'):
        open_store(tmp_path / 'empty')
    with pytest.raises(InputError, match=r'empty/meta_info.txt: No such file'):
        open_store(tmp_path / 'empty', 'lmdb')
    whole = (image_folder / 'photo_0.png').read_bytes()
    for data in (b'', b'not an image', whole[:20]):
        with pytest.raises(InputError, match=rf'photo_0: not a readable image \({len(data)} bytes\)'):
            decode(data, 1, 'photo_0')
    write_lmdb(tmp_path / 'short.lmdb', [('a', np.zeros((4, 4), np.uint8))])
    (tmp_path / 'short.lmdb' / 'meta_info.txt').write_text('a.png (4,4,1) 1\nb.png (4,4,1) 1\n')
    with pytest.raises(InputError, match="no entry 'b'"):
        LmdbStore(tmp_path / 'short.lmdb').read('b')


def test_an_lmdb_is_never_written_over(tmp_path):
    write_lmdb(tmp_path / 'a.lmdb', [('a', np.zeros((4, 4), np.uint8))])
    with pytest.raises(InputError, match='exists already'):
        write_lmdb(tmp_path / 'a.lmdb', [])
    with pytest.raises(InputError, match=r'must end in \.lmdb'):
        write_lmdb(tmp_path / 'a', [])
