"""Clean images for denoising: crops for training, whole images for testing. The model adds the noise."""

from collections.abc import Mapping
from typing import Any

from basicsr.utils.registry import DATASET_REGISTRY

from ne_basicsr.data.batch import CropDataset
from ne_basicsr.data.image_store import open_store


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

    Raises:
        InputError: for a missing or empty store, an unreadable image, a too small one with ``small_images: refuse``.
    """

    kind = 'gt'

    def __init__(self, opt: Mapping[str, Any]) -> None:
        backend = opt.get('io_backend', {'type': 'disk'})['type']
        self.store = open_store(opt[f'dataroot_{self.kind}'], backend, opt.get('meta_info_file'))
        items = [(name,) for name in self.store.names]
        reflect = opt.get('small_images', 'reflect') == 'reflect'
        super().__init__(opt, {self.kind: self.store}, items, opt.get('in_ch', 1), reflect)
