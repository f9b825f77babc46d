"""Pairs: found by name in folders, LMDBs and SIDD's own layout, cut in one place, read from blocks of .mat files."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
import torch
from basicsr.data import build_dataset
from conftest import smooth_photograph
from numpy.typing import NDArray

from ne_basicsr.data.denoising_dataset import NoisyPairDataset
from ne_basicsr.data.image_store import MatStore
from ne_basicsr.data.prepare import write_lmdb
from ne_basicsr.utils.errors import InputError

NAMES = [f'scene_{index}' for index in range(5)]


def colour(seed: int) -> NDArray[np.uint8]:
    return np.stack([smooth_photograph(40, 48, 3 * seed + channel) for channel in range(3)], axis=-1)


def noisy_of(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Something that tells the two of a pair apart and belongs to one pixel alone."""
    return 255 - image


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """(noisy, clean): folders of five RGB pairs of one name."""
    lq, gt = tmp_path / 'input', tmp_path / 'target'
    for folder in (lq, gt):
        folder.mkdir()
    for seed, name in enumerate(NAMES):
        image = colour(seed)
        cv2.imwrite(str(gt / f'{name}.png'), image[..., ::-1])
        cv2.imwrite(str(lq / f'{name}.png'), noisy_of(image)[..., ::-1])
    return lq, gt


def pairs(lq: Path, gt: Path, phase: str = 'train', backend: str = 'disk', **options: object) -> NoisyPairDataset:
    given = {'name': 'p', 'type': 'SIDDDataset', 'phase': phase, 'gt_size': 16, 'io_backend': {'type': backend}}
    return build_dataset(given | {'dataroot_lq': str(lq), 'dataroot_gt': str(gt)} | options)


def assert_is_pair(lq: torch.Tensor, gt: torch.Tensor) -> None:
    torch.testing.assert_close(lq, 1 - gt, rtol=0, atol=1e-6)


def test_the_two_of_a_pair_are_cut_and_turned_alike(folders: tuple[Path, Path]) -> None:
    dataset = pairs(*folders)
    items = [dataset[index % 5, number] for index, number in enumerate(range(40))]
    for item in items:
        assert item['lq'].shape == item['gt'].shape == (3, 16, 16)
        assert_is_pair(item['lq'], item['gt'])
    assert len({item['gt'].numpy().tobytes() for item in items}) == 40
    with pytest.raises(AssertionError):  # the check itself tells pairs apart
        assert_is_pair(items[0]['lq'], items[5]['gt'])


def test_a_pair_depends_on_seed_and_number_alone(folders: tuple[Path, Path]) -> None:
    dataset = pairs(*folders)
    (batch,) = dataset.__getitems__([(3, 7), (1, 8), (3, 9)])
    assert batch['lq'].dtype == torch.uint8
    for place, key in enumerate([(3, 7), (1, 8), (3, 9)]):
        alone = pairs(*folders)[key]
        for kind in ('lq', 'gt'):
            assert torch.equal(batch[kind][place].float() / 255, alone[kind])
    assert not torch.equal(dataset[3, 7]['gt'], dataset[3, 9]['gt'])
    assert not torch.equal(dataset[3, 7]['gt'], pairs(*folders, seed=1)[3, 7]['gt'])


def test_two_lmdbs_with_equal_keys_hold_the_pairs_of_their_folders(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for name, change in (('lq', noisy_of), ('gt', np.array)):
        write_lmdb(tmp_path / f'{name}.lmdb', ((n, change(colour(seed))) for seed, n in enumerate(NAMES)))
    stored = pairs(tmp_path / 'lq.lmdb', tmp_path / 'gt.lmdb', backend='lmdb')
    for number in range(5):
        for kind in ('lq', 'gt'):
            assert torch.equal(stored[number, number][kind], pairs(*folders)[number, number][kind])


def test_sidd_s_own_names_pair_up_in_one_folder(tmp_path: Path) -> None:
    for scene in ('0001_001_S6', '0002_001_GP'):
        folder = tmp_path / scene
        folder.mkdir()
        for number in ('010', '011'):
            image = colour(int(scene[3]) + int(number))
            cv2.imwrite(str(folder / f'{scene[:4]}_GT_SRGB_{number}.PNG'), image[..., ::-1])
            cv2.imwrite(str(folder / f'{scene[:4]}_NOISY_SRGB_{number}.PNG'), noisy_of(image)[..., ::-1])
    dataset = pairs(tmp_path, tmp_path, phase='val')
    assert len(dataset) == 4
    for index in range(4):
        item = dataset[index]
        assert 'NOISY' in item['lq_path'] and 'GT' in item['gt_path']
        assert_is_pair(item['lq'], item['gt'])


def test_a_missing_partner_is_named(folders: tuple[Path, Path]) -> None:
    lq, gt = folders
    (lq / 'scene_3.png').unlink()
    with pytest.raises(InputError, match=r"input: no noisy image for 'scene_3', and 0 more"):
        pairs(lq, gt)
    (gt / 'scene_3.png').unlink()
    (gt / 'scene_1.png').unlink()
    with pytest.raises(InputError, match=r"target: no clean image for 'scene_1'"):
        pairs(lq, gt)


@pytest.mark.parametrize('phase', ['train', 'val'])
def test_a_pair_of_two_sizes_is_refused(folders: tuple[Path, Path], phase: str) -> None:
    lq, gt = folders
    cv2.imwrite(str(lq / 'scene_0.png'), np.zeros((40, 47, 3), np.uint8))
    with pytest.raises(
        InputError, match='scene_0: the noisy and the clean image must have one size; got 40x47 and 40x48'
    ):
        pairs(lq, gt, phase=phase)[0]


def blocks_file(path: Path, variable: str, array: object, **options: object) -> Path:
    scipy.io.savemat(str(path), {variable: array}, **options)
    return path


@pytest.mark.parametrize('compressed', [True, False])
def test_blocks_of_mat_files_are_read_as_they_are(tmp_path: Path, compressed: bool) -> None:
    clean = np.random.default_rng(0).integers(0, 256, (3, 4, 10, 12, 3), np.uint8)
    gt = blocks_file(
        tmp_path / 'ValidationGtBlocksSrgb.mat', 'ValidationGtBlocksSrgb', clean, do_compression=compressed
    )
    lq = blocks_file(tmp_path / 'ValidationNoisyBlocksSrgb.mat', 'ValidationNoisyBlocksSrgb', noisy_of(clean))
    dataset = pairs(lq, gt, phase='val', backend='mat')
    assert len(dataset) == 12
    item = dataset[6]  # image 2, block 3
    assert item['gt_path'] == item['lq_path'] == '0002_03'
    assert torch.equal(item['gt'], torch.from_numpy(clean[1, 2]).permute(2, 0, 1) / 255)
    assert_is_pair(item['lq'], item['gt'])
    assert pairs(lq, gt, phase='val', backend='mat', in_ch=1)[6]['gt'].shape == (1, 10, 12)


def test_files_without_blocks_are_explained(tmp_path: Path) -> None:
    text = tmp_path / 'text.mat'
    text.write_bytes(b'<html>not found</html>' * 20)
    hdf5 = tmp_path / 'hdf5.mat'
    hdf5.write_bytes(b'MATLAB 7.3 MAT-file'.ljust(116) + b'\0' * 8 + b'\x00\x02IM' + b'\x89HDF\r\n\x1a\n' + b'\0' * 99)
    flat = blocks_file(tmp_path / 'flat.mat', 'x', np.zeros((4, 5), np.uint8))
    reals = blocks_file(tmp_path / 'reals.mat', 'x', np.zeros((1, 1, 4, 4, 3)))
    whole = blocks_file(tmp_path / 'whole.mat', 'x', np.ones((2, 2, 40, 40, 3), np.uint8), do_compression=True)
    torn = tmp_path / 'torn.mat'
    torn.write_bytes(whole.read_bytes()[:-20])
    for file, problem in [
        (tmp_path / 'absent.mat', 'No such file'),
        (text, 'not a MATLAB file'),
        (hdf5, 'not a MATLAB file'),
        (flat, r'one array \(images, blocks, height, width, 3\) is needed, as of SIDD; got x \(4, 5\)'),
    ]:
        with pytest.raises(InputError, match=problem):
            MatStore(file)
    for file, problem in [(reals, 'must hold uint8; got float64'), (torn, 'cannot be read')]:
        with pytest.raises(InputError, match=problem):
            MatStore(file).pixels('0001_01', 3)
