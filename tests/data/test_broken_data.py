"""A corpus of broken training data: each ends the run with one line that names the file, and exit code 2."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
import scipy.io
import tifffile
import yaml

from ne_basicsr.cli.main import main
from ne_basicsr.data.prepare import write_lmdb

IMAGE = np.random.default_rng(0).integers(0, 255, (48, 56), dtype=np.uint8)


def folder(path: Path) -> Path:
    path.mkdir()
    for name in 'abc':
        cv2.imwrite(str(path / f'{name}.png'), IMAGE)
    return path


def broken_file(name: str, change: Callable[[Path], object]) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        change(folder(root / 'photos') / name)
        return root / 'photos'

    return make


def cut(share: float) -> Callable[[Path], object]:
    return lambda path: os.truncate(path, int(path.stat().st_size * share))


def damaged(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF  # the checksum no longer fits
    path.write_bytes(data)


def lmdb_with(change: Callable[[Path], object]) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        write_lmdb(root / 'photos.lmdb', [(name, IMAGE) for name in 'abc'])
        change(root / 'photos.lmdb')
        return root / 'photos.lmdb'

    return make


def without_key(path: Path) -> None:
    with lmdb.open(str(path)) as environment, environment.begin(write=True) as transaction:
        transaction.delete(b'b')


def raw_with(change: Callable[[Path], object]) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        assert main(['prepare', str(folder(root / 'photos')), '-o', str(root / 'photos.raw')]) == 0
        change(root / 'photos.raw')
        return root / 'photos.raw'

    return make


def without_last_line(path: Path) -> None:
    lines = (path / 'meta_info.txt').read_text().splitlines(keepends=True)
    (path / 'meta_info.txt').write_text(''.join(lines[:-1]))


def index_with(old: bytes, new: bytes) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        content = (path / 'meta_info.txt').read_bytes()
        assert old in content
        (path / 'meta_info.txt').write_bytes(content.replace(old, new, 1))

    return change


def other_pixels(path: Path) -> None:
    pixels = np.fromfile(path / 'images.raw', np.uint8)
    pixels[::500] ^= 1  # the last bit of few pixels in every image
    pixels.tofile(path / 'images.raw')


CORPUS = {
    'zero bytes': (broken_file('b.png', cut(0)), r'photos/b: not a readable image \(0 bytes\)'),
    'cut after the header': (broken_file('b.png', cut(0.02)), r'photos/b: not a readable image \(\d+ bytes\)'),
    'cut in the middle': (broken_file('b.png', cut(0.5)), r'photos/b: not a readable image \(\d+ bytes\)'),
    'last bytes missing': (broken_file('b.png', cut(0.99)), r'photos/b: not a readable image \(\d+ bytes\)'),
    'a damaged byte': (broken_file('b.png', damaged), r'photos/b: not a readable image \(\d+ bytes\)'),
    'a page instead': (
        broken_file('b.png', lambda path: path.write_text('<html>404</html>')),
        r'photos/b: not a readable image \(16 bytes\)',
    ),
    'a file that is gone': (
        broken_file('b.png', lambda path: (path.unlink(), path.symlink_to('nowhere.png'))),
        r'photos/b.png: No such file',
    ),
    'a file of two pages': (
        broken_file('b.tif', lambda path: tifffile.imwrite(path, np.stack([IMAGE, IMAGE]), photometric='minisblack')),
        r'photos/b.tif: holds 2 pages or frames; save the one .*, or all of a TIFF with basicsr prepare',
    ),
    'not a number': (
        broken_file('b.tif', lambda path: tifffile.imwrite(path, np.full((8, 9), np.nan, np.float32))),
        r'photos/b\.tif: has values that are not finite',
    ),
    'a dangling folder': (broken_file('b.png', lambda path: shutil.rmtree(path.parent)), 'photos'),
    'a folder without images': (
        broken_file('b.png', lambda path: [each.unlink() for each in path.parent.iterdir()]),
        'photos: no images found',
    ),
    'no key in an LMDB': (lmdb_with(without_key), "no entry 'b'"),
    'an LMDB without its list': (lmdb_with(lambda path: (path / 'meta_info.txt').unlink()), 'holds no meta_info.txt'),
    'an LMDB that lists nothing': (lmdb_with(lambda path: (path / 'meta_info.txt').write_text('')), 'lists no images'),
    'an LMDB without its data': (lmdb_with(lambda path: (path / 'data.mdb').unlink()), 'photos.lmdb'),
    'an LMDB that was cut': (lmdb_with(lambda path: cut(0.3)(path / 'data.mdb')), 'photos.lmdb'),
    'a raw store that was cut': (raw_with(lambda path: cut(0.5)(path / 'images.raw')), r'images.raw: \d+ bytes'),
    'a raw store without its list': (
        raw_with(lambda path: (path / 'meta_info.txt').unlink()),
        'meta_info.txt: No such',
    ),
    'a raw store with a torn list': (
        raw_with(lambda path: cut(0.9)(path / 'meta_info.txt')),
        r'photos.raw/meta_info.txt: cut',
    ),
    'a raw store whose list lacks a line': (raw_with(without_last_line), r'meta_info.txt: lists 2 of 3 images'),
    'an LMDB whose list lacks a line': (lmdb_with(without_last_line), r'meta_info.txt: lists 2 of 3 images'),
    'an LMDB with a torn list': (lmdb_with(lambda path: cut(0.9)(path / 'meta_info.txt')), r'meta_info.txt: cut'),
    'a negative offset': (
        raw_with(index_with(b'uint8 0 ', b'uint8 -400000 ')),
        r"meta_info.txt: cut or changed at line 1, 'a.raw \(48,56,1\) uint8 -400000",
    ),
    'another shape': (raw_with(index_with(b'(48,56,1)', b'(56,48,1)')), r'photos.raw/a: damaged since it was written'),
    'a list that is no text': (raw_with(index_with(b'b.raw', b'\xff.raw')), r'meta_info.txt: no UTF-8 text: byte \d+'),
    'an LMDB whose list is no text': (lmdb_with(index_with(b'b.png', b'\xff.png')), r'meta_info.txt: no UTF-8 text'),
    'other pixels': (raw_with(other_pixels), r'photos.raw/[abc]: damaged since it was written \(checksum\)'),
}


def options_for(data: Path) -> dict:
    kind = {'.lmdb': 'lmdb', '.raw': 'raw'}.get(data.suffix, 'disk')
    train = {'name': 'photos', 'type': 'DenoisingDataset', 'dataroot_gt': str(data), 'io_backend': {'type': kind}}
    train |= {'in_ch': 1, 'gt_size': 32, 'num_worker_per_gpu': 0, 'batch_size_per_gpu': 3}
    train |= {'noise': {'type': 'gaussian', 'sigma255': 25}, 'dataset_enlarge_ratio': 10}
    return {
        'name': 'broken',
        'model_type': 'DenoisingModel',
        'num_gpu': 0,
        'manual_seed': 0,
        'datasets': {'train': train},
        'network_g': {'type': 'DnCNNWNE', 'num_in_ch': 1, 'num_out_ch': 1, 'num_feat': 2, 'num_layers': 2},
        'train': {'optim_g': {'type': 'Adam', 'lr': 1e-4}, 'total_iter': 4, 'pixel_opt': {'type': 'MSELoss'}},
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 4, 'use_tb_logger': False},
    }


def train(data: Path) -> int:
    Path('broken.yml').write_text(yaml.safe_dump(options_for(data)))
    return main(['train', '-opt', 'broken.yml'])


@pytest.mark.parametrize('name', CORPUS)
def test_broken_data_is_one_line_and_code_2(name, workplace, tmp_path, capfd):
    make, message = CORPUS[name]
    data = make(tmp_path)
    capfd.readouterr()
    assert train(data) == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert line.startswith('basicsr: ')
    assert re.search(message, line), line


def test_whole_data_trains(workplace, tmp_path, capfd):
    assert train(folder(tmp_path / 'photos')) == 0


def test_pairs_of_different_sizes_are_named(workplace, tmp_path, capfd):
    clean, noisy = folder(tmp_path / 'clean'), folder(tmp_path / 'noisy')
    cv2.imwrite(str(noisy / 'b.png'), IMAGE[:40])
    options = options_for(clean)
    options['model_type'] = 'PairedDenoisingModel'
    options['datasets']['train'] |= {'type': 'SIDDDataset', 'dataroot_lq': str(noisy), 'noise': None}
    Path('broken.yml').write_text(yaml.safe_dump(options))
    assert main(['train', '-opt', 'broken.yml']) == 2
    assert 'b' in capfd.readouterr().err.strip().splitlines()[-1]


def test_mat_blocks_without_their_variable_are_named(tmp_path):
    from ne_basicsr.data.image_store import MatStore
    from ne_basicsr.utils.errors import InputError

    scipy.io.savemat(tmp_path / 'blocks.mat', {'something': np.zeros((2, 2))})
    with pytest.raises(InputError, match=r'blocks\.mat'):
        MatStore(tmp_path / 'blocks.mat')
