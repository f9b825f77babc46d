import re

import cv2
import numpy as np
import pytest
from basicsr.data.data_util import paths_from_lmdb
from basicsr.utils import FileClient, imfrombytes

from ne_basicsr.data.image_store import FolderStore, LmdbStore, decode, open_store
from ne_basicsr.data.prepare import write_lmdb
from ne_basicsr.errors import InputError


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
    options = {'dataroot_gt': image_folder, 'io_backend': {'type': 'disk'}, 'meta_info_file': tmp_path / 'list.txt'}
    assert open_store(options).names == ['photo_3', 'photo_1']


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


def test_float_images_keep_their_range():
    image = np.linspace(-0.5, 1.5, 30, dtype=np.float32).reshape(5, 6)
    decoded = decode(cv2.imencode('.tiff', image)[1].tobytes(), 1, 'test')
    np.testing.assert_array_equal(decoded[..., 0], image)


def test_what_is_missing_or_broken_is_named(tmp_path, image_folder):
    with pytest.raises(InputError, match='no such folder'):
        open_store({'dataroot_gt': tmp_path / 'none', 'io_backend': {'type': 'disk'}})
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='empty: no images found'):
        open_store({'dataroot_gt': tmp_path / 'empty', 'io_backend': {'type': 'disk'}})
    with pytest.raises(InputError, match=r'empty/meta_info.txt: No such file'):
        open_store({'dataroot_gt': tmp_path / 'empty', 'io_backend': {'type': 'lmdb'}})
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
