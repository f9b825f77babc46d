"""Noisy images with another image of each scene: a second noisy one, or a clean one, as in SIDD."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from basicsr.utils.registry import DATASET_REGISTRY

from ne_basicsr.data.batch import CropDataset
from ne_basicsr.data.image_store import ImageStore, MatStore, open_store
from ne_basicsr.utils.errors import InputError

# how SIDD names the two images of a pair: 0001_GT_SRGB_010.PNG and 0001_NOISY_SRGB_010.PNG
_MARK = re.compile(r'(?<![A-Za-z])(GT|NOISY)(?![A-Za-z])')


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

    Raises:
        InputError: for a missing or empty store, an image without its partner, an unreadable one, a pair of two sizes.

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
