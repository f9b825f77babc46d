"""Clean images for denoising: crops to train on, whole images to test on. The model adds the noise."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from basicsr.utils.registry import DATASET_REGISTRY
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ne_basicsr.data.image_store import decode, open_store
from ne_basicsr.errors import InputError
from ne_basicsr.noise import seed_of


@DATASET_REGISTRY.register()
class DenoisingDataset(Dataset[dict[str, Any]]):
    """Clean images from a folder or an LMDB, gray or colour.

    Args:
        opt: the data set's options: ``phase``, ``dataroot_gt``, ``io_backend``, ``meta_info_file``, ``in_ch`` (1 gray,
            3 RGB); for training also ``gt_size``, ``geometric_augs``, ``small_images`` (``reflect`` mirrors images
            smaller than the crop, ``refuse`` stops with their name) and ``seed``.

    Items:
        training: ``gt`` (C, gt_size, gt_size) float32 on [0, 1], ``number`` of the sample, ``gt_path``. The crop
        depends on (seed, number) alone; ``dataset[i, number]`` is sample ``number`` and ``dataset[i]`` is
        ``dataset[i, i]``.
        otherwise: ``gt`` (C, H, W), ``gt_path``.

    Raises:
        InputError: for a missing or empty store, an unreadable image, a too small one with ``small_images: refuse``.
    """

    takes_sample_numbers = True

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self.opt = opt
        self.channels = opt.get('in_ch', 1)
        self.store = open_store({'io_backend': {'type': 'disk'}, **opt})

    def __len__(self) -> int:
        return len(self.store.names)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        index, number = key if isinstance(key, tuple) else (key, key)
        name = self.store.names[index]
        image = decode(self.store.read(name), self.channels, f'{self.store.root}/{name}')
        item: dict[str, Any] = {'gt_path': name}
        if self.opt['phase'] == 'train':
            rng = np.random.default_rng(seed_of(self.opt.get('seed', 0), 'crop', number))
            image = self._crop(image, name, rng)
            if self.opt.get('geometric_augs', True):
                image = _one_of_eight(image, int(rng.integers(8)))
            item['number'] = number
        item['gt'] = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return item

    def _crop(self, image: NDArray[np.float32], name: str, rng: np.random.Generator) -> NDArray[np.float32]:
        size = self.opt['gt_size']
        height, width = image.shape[:2]
        if min(height, width) < size:
            if self.opt.get('small_images', 'reflect') == 'refuse':
                raise InputError(
                    f'{self.store.root}/{name}: {height}x{width} is smaller than gt_size {size}; remove it,'
                    ' lower gt_size, or set small_images: reflect'
                )
            grow = [(0, max(0, size - height)), (0, max(0, size - width)), (0, 0)]
            image = np.pad(image, grow, mode='reflect')
        top, left = (int(rng.integers(length - size + 1)) for length in image.shape[:2])
        return image[top : top + size, left : left + size]


def _one_of_eight(image: NDArray[np.float32], which: int) -> NDArray[np.float32]:
    """One of the eight flips and rotations by right angles of (H, W, C)."""
    turned = np.rot90(image, which % 4)
    return turned[:, ::-1] if which >= 4 else turned
