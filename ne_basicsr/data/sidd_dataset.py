"""Noisy photographs with their clean references, as of the Smartphone Image Denoising Dataset (SIDD)."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from basicsr.utils.registry import DATASET_REGISTRY
from torch.utils.data import Dataset

from ne_basicsr.data.batch import Batch, as_float
from ne_basicsr.data.crops import cut_crops
from ne_basicsr.data.image_store import Image, ImageStore, on_unit_range, open_store
from ne_basicsr.data.mat_store import MatStore
from ne_basicsr.utils.errors import InputError

Key = int | tuple[int, int]

# how SIDD tells the two images of a pair apart: 0001_GT_SRGB_010.PNG and 0001_NOISY_SRGB_010.PNG
_MARK = re.compile(r'(?<![A-Za-z])(GT|NOISY)(?![A-Za-z])')


@DATASET_REGISTRY.register()
class SIDDDataset(Dataset[dict[str, Any]]):
    """Pairs of a noisy and a clean image of one size.

    Args:
        opt: the data set's options: ``phase``, ``dataroot_lq`` and ``dataroot_gt`` (two folders, two LMDBs, or with
            ``io_backend: {type: mat}`` the two ``.mat`` files of blocks), ``in_ch`` (3 RGB, 1 gray); for training also
            ``gt_size``, ``geometric_augs`` and ``seed``. The two of a pair have one name, or names that differ in
            ``GT`` and ``NOISY`` as SIDD's own do, which may lie in one folder.

    Items:
        training: ``lq`` and ``gt`` (C, gt_size, gt_size) float32 on [0, 1], one place and one symmetry for both, which
        depend on the seed and the ``number`` of the sample alone; batches as ``DenoisingDataset`` makes them.
        otherwise: ``lq`` and ``gt`` (C, H, W) float32.
        Both have ``lq_path`` and ``gt_path``.

    Raises:
        InputError: for a missing or empty store, an image without its partner, an unreadable one, a pair of two sizes.

    Reference: Abdelhamed, Lin and Brown, A high-quality denoising dataset for smartphone cameras, CVPR 2018.
    """

    takes_sample_numbers = True

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self.opt = opt
        self.channels = opt.get('in_ch', 3)
        self.stores = {key: Measured(_open(opt, f'dataroot_{key}')) for key in ('lq', 'gt')}
        self.pairs = pair_names(self.stores['lq'], self.stores['gt'])

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        if self.opt['phase'] == 'train':
            return {name: values[0] for name, values in as_float(self._batch([key]), 'cpu').items()}
        assert isinstance(key, int), 'only training samples have numbers'
        item: dict[str, Any] = dict(zip(('lq_path', 'gt_path'), self.pairs[key], strict=True))
        for kind, store in self.stores.items():
            image = on_unit_range(store.pixels(item[f'{kind}_path'], self.channels))
            item[kind] = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        self._check_sizes([self.pairs[key]])
        return item

    def __getitems__(self, keys: Sequence[Key]) -> list[dict[str, Any]]:
        """What torch's loader asks for: one training batch, made at once, or whole images."""
        return [self._batch(keys)] if self.opt['phase'] == 'train' else [self[key] for key in keys]

    def _batch(self, keys: Sequence[Key]) -> Batch:
        numbered = [key if isinstance(key, tuple) else (key, key) for key in keys]
        pairs = [self.pairs[index] for index, _ in numbered]
        numbers = np.array([number for _, number in numbered], np.int64)
        batch = Batch(number=torch.from_numpy(numbers))
        for place, (kind, store) in enumerate(self.stores.items()):
            names = batch[f'{kind}_path'] = [pair[place] for pair in pairs]
            crops = cut_crops(
                store,
                names,
                numbers,
                size=self.opt['gt_size'],
                channels=self.channels,
                seed=self.opt.get('seed', 0),
                augment=self.opt.get('geometric_augs', True),
                reflect=False,
            )
            batch[kind] = torch.from_numpy(crops)
        self._check_sizes(pairs)
        return batch

    def _check_sizes(self, pairs: Sequence[tuple[str, str]]) -> None:
        lq, gt = self.stores.values()
        for noisy, clean in pairs:
            if lq.sizes[noisy] != gt.sizes[clean]:
                sizes = ' and '.join(f'{height}x{width}' for height, width in (lq.sizes[noisy], gt.sizes[clean]))
                raise InputError(f'{gt.root}/{clean}: the noisy and the clean image must have one size; got {sizes}')


class Measured:
    """An ``ImageStore`` that remembers (height, width) of the images that were read from it."""

    def __init__(self, store: ImageStore) -> None:
        self.store, self.root, self.names = store, store.root, store.names
        self.sizes: dict[str, tuple[int, int]] = {}

    def pixels(self, name: str, channels: int) -> Image:
        image = self.store.pixels(name, channels)
        self.sizes[name] = image.shape[0], image.shape[1]
        return image


def pair_names(lq: ImageStore, gt: ImageStore) -> list[tuple[str, str]]:
    """(noisy name, clean name) of every pair, in the order of the clean ones.

    Raises:
        InputError: where one of the two is missing.
    """
    noisy, clean = (
        {_MARK.sub('', name): name for name in store.names if other not in _MARK.findall(name)}
        for store, other in ((lq, 'GT'), (gt, 'NOISY'))
    )
    without_noisy, without_clean = clean.keys() - noisy.keys(), noisy.keys() - clean.keys()
    for store, alone, what in ((lq, without_noisy, 'noisy'), (gt, without_clean, 'clean')):
        if alone:
            name = (clean | noisy)[min(alone)]
            raise InputError(
                f'{store.root}: no {what} image for {name!r}, and {len(alone) - 1} more; both of a pair have one name'
            )
    return [(noisy[key], name) for key, name in clean.items()]


def _open(options: Mapping[str, Any], key: str) -> ImageStore:
    backend = {'type': 'disk'} | (options.get('io_backend') or {})
    if backend['type'] == 'mat':
        return MatStore(Path(options[key]).expanduser())
    return open_store({'dataroot_gt': options[key], 'io_backend': backend})
