"""Data sets for denoising: clean images, to which the model adds noise; noisy ones, alone or in pairs."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from basicsr.utils.registry import DATASET_REGISTRY

from ne_basicsr.data.batch import Batch, CropDataset, Key
from ne_basicsr.data.image_store import ImageStore, MatStore, open_store
from ne_basicsr.ops.noise_level import noise_level
from ne_basicsr.utils.errors import InputError

LEVEL_TARGETS = ('r2r', 'sure')  # those that need the level of the noise
# how SIDD names the two images of a pair: 0001_GT_SRGB_010.PNG and 0001_NOISY_SRGB_010.PNG
_MARK = re.compile(r'(?<![A-Za-z])(GT|NOISY)(?![A-Za-z])')


@DATASET_REGISTRY.register()
class DenoisingDataset(CropDataset):
    """Clean images from a folder, an LMDB or a raw store, gray or colour.

    Args:
        opt: the data set's options: ``phase``, ``dataroot_gt``, ``io_backend``, ``meta_info_file``, ``in_ch`` (1 gray,
            3 RGB); for training also ``gt_size``, ``geometric_augs``, ``small_images`` (``reflect`` mirrors images
            smaller than the crop, ``refuse`` stops with their name) and ``seed``.

    Items:
        training: ``gt`` (C, gt_size, gt_size) float32 on [0, 1], ``number`` of the sample, ``gt_path``. The crop
        depends on (seed, number) alone; ``dataset[i, number]`` is sample ``number`` and ``dataset[i]`` is
        ``dataset[i, i]``. A loader asks for whole batches, whose ``gt`` (N, C, gt_size, gt_size) is uint8 (float32
        if an image has more than 8 bits), see ``batch.as_float``.
        otherwise: ``gt`` (C, H, W) float32, ``gt_path``.
    """

    kind = 'gt'

    def __init__(self, opt: Mapping[str, Any]) -> None:
        backend = opt.get('io_backend', {'type': 'disk'})['type']
        self.store = open_store(opt[f'dataroot_{self.kind}'], backend, opt.get('meta_info_file'))
        items = [(name,) for name in self.store.names]
        reflect = opt.get('small_images', 'reflect') == 'reflect'
        super().__init__(opt, {self.kind: self.store}, items, opt.get('in_ch', 1), reflect)


@DATASET_REGISTRY.register()
class NoisyDataset(DenoisingDataset):
    """Noisy images alone, gray or colour, to train on; ``target`` says how a network learns from them.

    Args:
        opt: the options of ``DenoisingDataset``, with ``dataroot_lq`` for ``dataroot_gt``, ``target`` and ``sigma255``.

    Items: those of ``DenoisingDataset``, with ``lq`` for ``gt``. If the target needs the level of the noise and no
    ``sigma255`` tells it, batches have the ``level`` (N, 1, 1, 1) that ``noise_level`` finds in each whole image: crops
    of 64x64 of photographs read 11% too much at sigma 10, whole ones of 180x180 4%.
    """

    kind = 'lq'

    def __init__(self, opt: Mapping[str, Any]) -> None:
        super().__init__(opt)
        self.measures = opt.get('target') in LEVEL_TARGETS and opt.get('sigma255') is None
        self._levels: dict[int, float] = {}

    def _batch(self, keys: Sequence[Key]) -> Batch:
        batch = super()._batch(keys)
        if self.measures:
            levels = [self._level(key[0] if isinstance(key, tuple) else key) for key in keys]
            batch['level'] = torch.tensor(levels)[:, None, None, None]
        return batch

    def _level(self, index: int) -> float:
        if index not in self._levels:
            name = self.items[index][0]
            image = self._scaled(self.store.pixels(name, self.channels), self.kind, name)
            pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
            self._levels[index] = float(noise_level(pixels[None]))
        return self._levels[index]


@DATASET_REGISTRY.register()
class NoisyPairDataset(CropDataset):
    """Pairs of images of one scene and size: a noisy one (lq) and another one, noisy or clean (gt).

    Args:
        opt: the data set's options: ``phase``, ``dataroot_lq`` and ``dataroot_gt`` (two folders, two LMDBs, or with
            ``io_backend: {type: mat}`` the two ``.mat`` files of blocks), ``in_ch`` (3 RGB, 1 gray); for training also
            ``gt_size``, ``geometric_augs`` and ``seed``. The two images of a pair have one name, or names that differ
            in ``GT`` and ``NOISY`` as SIDD's do; these may be in one folder.

    Items:
        training: ``lq`` and ``gt`` (C, gt_size, gt_size) float32 on [0, 1], one place and one symmetry for both, which
        depend on the seed and the ``number`` of the sample alone; batches as ``DenoisingDataset`` makes them.
        otherwise: ``lq`` and ``gt`` (C, H, W) float32.
        Both have ``lq_path`` and ``gt_path``.

    Reference: Abdelhamed, Lin and Brown, A high-quality denoising dataset for smartphone cameras (SIDD), CVPR 2018.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        backend = (opt.get('io_backend') or {}).get('type', 'disk')
        roots = {key: Path(opt[f'dataroot_{key}']).expanduser() for key in ('lq', 'gt')}
        stores: dict[str, ImageStore] = {
            key: MatStore(root) if backend == 'mat' else open_store(root, backend) for key, root in roots.items()
        }
        super().__init__(opt, stores, pair_names(*stores.values()), opt.get('in_ch', 3), reflect=False)


@DATASET_REGISTRY.register()
class SIDDDataset(NoisyPairDataset):
    """``NoisyPairDataset`` whose second image is clean, unless ``target`` says otherwise."""


def pair_names(lq: ImageStore, gt: ImageStore) -> list[tuple[str, str]]:
    """(noisy name, clean name) of every pair, in the order of the clean ones."""
    noisy, clean = (
        {_MARK.sub('', name): name for name in store.names if other not in _MARK.findall(name)}
        for store, other in ((lq, 'GT'), (gt, 'NOISY'))
    )
    without_noisy, without_clean = clean.keys() - noisy.keys(), noisy.keys() - clean.keys()
    for store, alone, what in ((lq, without_noisy, 'noisy'), (gt, without_clean, 'clean')):
        if alone:
            about = f'no {what} image for {(clean | noisy)[min(alone)]!r}, and {len(alone) - 1} more'
            raise InputError(f'{store.root}: {about}; both of a pair have one name')
    return [(noisy[key], name) for key, name in clean.items()]
