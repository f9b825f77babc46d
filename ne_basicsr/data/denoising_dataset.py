"""Clean images for denoising: crops to train on, whole images to test on. The model adds the noise."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from basicsr.utils.registry import DATASET_REGISTRY
from torch.utils.data import Dataset

from ne_basicsr.data.batch import Batch, as_float
from ne_basicsr.data.crops import cut_crops
from ne_basicsr.data.image_store import on_unit_range, open_store

Key = int | tuple[int, int]


@DATASET_REGISTRY.register()
class DenoisingDataset(Dataset[dict[str, Any]]):
    """Clean images from a folder, an LMDB or a raw store, gray or colour.

    Args:
        opt: the data set's options: ``phase``, ``dataroot_gt``, ``io_backend``, ``meta_info_file``, ``in_ch`` (1 gray,
            3 RGB); for training also ``gt_size``, ``geometric_augs``, ``small_images`` (``reflect`` mirrors images
            smaller than the crop, ``refuse`` stops with their name) and ``seed``.

    Items:
        training: ``gt`` (C, gt_size, gt_size) float32 on [0, 1], ``number`` of the sample, ``gt_path``. The crop
        depends on (seed, number) alone; ``dataset[i, number]`` is sample ``number`` and ``dataset[i]`` is
        ``dataset[i, i]``. A loader asks for whole batches, whose ``gt`` (N, C, gt_size, gt_size) is uint8 (float32
        where an image has more than 8 bits), see ``batch.as_float``.
        otherwise: ``gt`` (C, H, W) float32, ``gt_path``.

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

    def __getitem__(self, key: Key) -> dict[str, Any]:
        if self.opt['phase'] == 'train':
            return {name: values[0] for name, values in as_float(self._batch([key]), 'cpu').items()}
        assert isinstance(key, int), 'only training samples have numbers'
        name = self.store.names[key]
        image = on_unit_range(self.store.pixels(name, self.channels))
        return {'gt_path': name, 'gt': torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))}

    def __getitems__(self, keys: Sequence[Key]) -> list[dict[str, Any]]:
        """What torch's loader asks for: one training batch, made at once, or whole images."""
        return [self._batch(keys)] if self.opt['phase'] == 'train' else [self[key] for key in keys]

    def _batch(self, keys: Sequence[Key]) -> Batch:
        pairs = [key if isinstance(key, tuple) else (key, key) for key in keys]
        names = [self.store.names[index] for index, _ in pairs]
        numbers = np.array([number for _, number in pairs], np.int64)
        crops = cut_crops(
            self.store,
            names,
            numbers,
            size=self.opt['gt_size'],
            channels=self.channels,
            seed=self.opt.get('seed', 0),
            augment=self.opt.get('geometric_augs', True),
            reflect=self.opt.get('small_images', 'reflect') == 'reflect',
        )
        return Batch(gt=torch.from_numpy(crops), number=torch.from_numpy(numbers), gt_path=names)
