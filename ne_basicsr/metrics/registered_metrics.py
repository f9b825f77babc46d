"""The metrics that this package adds to BasicSR's METRIC_REGISTRY.

A metric whose name ends in ``_float`` is given float images on [0, 1]; BasicSR's own see clipped 8-bit images. The
protocol behind the paper's numbers is the float one, with the output clamped to [0, 1].
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from basicsr.utils.registry import METRIC_REGISTRY
from numpy.typing import NDArray
from torch import Tensor

from ne_basicsr.metrics.curves import Row, curve, summarize
from ne_basicsr.metrics.perceptual import perceptual
from ne_basicsr.metrics.quality import psnr, psnr_clamped, ssim
from ne_basicsr.ops.equivariance import Network, ne_defect

Image = Tensor | NDArray[np.floating]


@METRIC_REGISTRY.register()
def calculate_psnr_float(img: Image, img2: Image, crop_border: int = 0, clamp: bool = True, **_: Any) -> float:
    """PSNR in dB of float images on [0, 1], not rounded, the output clamped to [0, 1] as in the paper's numbers.

    Args:
        img, img2: tensors (C, H, W) or (1, C, H, W), or arrays (H, W) or (H, W, C).
        crop_border: pixels left out at each edge.
        clamp: whether ``img``, the output, is clamped to [0, 1], the range of ``img2``.

    Raises:
        ValueError: for images of integer type, or of different shapes.
    """
    return (psnr_clamped if clamp else psnr)(*_as_pair(img, img2, crop_border, 'calculate_psnr'))


@METRIC_REGISTRY.register()
def calculate_ssim_float(img: Image, img2: Image, crop_border: int = 0, **_: Any) -> float:
    """SSIM of float images on [0, 1], see ``ssim``. Arguments and errors as ``calculate_psnr_float``."""
    return ssim(*_as_pair(img, img2, crop_border, 'calculate_ssim'))


@METRIC_REGISTRY.register()
def calculate_lpips_float(img: Image, img2: Image, crop_border: int = 0, **_: Any) -> float:
    """LPIPS (AlexNet), lower is better, see ``perceptual``. Arguments and errors as ``calculate_psnr_float``."""
    return perceptual('lpips', *_as_pair(img, img2, crop_border, 'LPIPS'))


@METRIC_REGISTRY.register()
def calculate_dists_float(img: Image, img2: Image, crop_border: int = 0, **_: Any) -> float:
    """DISTS, lower is better, see ``perceptual``. Arguments and errors as ``calculate_psnr_float``."""
    return perceptual('dists', *_as_pair(img, img2, crop_border, 'DISTS'))


@METRIC_REGISTRY.register()
def calculate_ne_defect(net: Network, lq: Tensor, samples: int = 2, images: int = 4, seed: int = 0, **_: Any) -> float:
    """Relative defect of normalization equivariance of ``net`` at ``lq`` (1, C, H, W) on [0, 1], see ``ne_defect``.

    Args:
        samples: number of (a, b) pairs of each image; each runs the network once.
        images: number of images of a validation set, the first ones, at its middle noise level. ``basicsr check`` and
            ``basicsr mismatch`` measure more.
    """
    return ne_defect(net, lq, samples=samples, seed=seed).mean().item()


@METRIC_REGISTRY.register()
def calculate_mismatch(rows: Sequence[Row], summary: str = 'mean_psnr', **_: Any) -> float:
    """One number for a mismatch curve.

    Args:
        rows: cells of a sweep over noise levels, from ``sweep``. PSNR is that of the output clamped to [0, 1].
        summary: ``mean_psnr``, the output PSNR averaged over the levels, in dB; or ``worst_loss``, the largest input
            less output PSNR, in dB, negative where the network improves every level.

    Raises:
        ValueError: for an unknown summary.
    """
    summaries = summarize(curve(rows))
    if summary not in summaries._fields:
        raise ValueError(f'summary must be one of {", ".join(summaries._fields)}; got {summary!r}.')
    return getattr(summaries, summary)


def _as_pair(img: Image, img2: Image, crop_border: int, eight_bit: str) -> tuple[Tensor, Tensor]:
    pair: list[Tensor] = []
    for image in (img, img2):
        if isinstance(image, np.ndarray):
            array = np.ascontiguousarray(image[..., None] if image.ndim == 2 else image)
            image = torch.from_numpy(array).permute(2, 0, 1)
        if not image.is_floating_point():
            raise ValueError(
                f'{eight_bit}_float compares float images on [0, 1]; got {image.dtype}: use {eight_bit} for 8-bit'
                ' images, or model_type DenoisingModel, which passes float ones.'
            )
        pair.append(image.squeeze(0) if image.dim() == 4 else image)
    first, second = pair
    if first.shape != second.shape:
        raise ValueError(f'the two images must have one shape; got {tuple(first.shape)} and {tuple(second.shape)}.')
    if crop_border:
        inner = (..., slice(crop_border, -crop_border), slice(crop_border, -crop_border))
        first, second = first[inner], second[inner]
    return first, second
