"""Metrics on images as they are, neither clipped nor rounded, and what BasicSR's METRIC_REGISTRY gets of them.

A metric whose name ends in ``_float`` is given float images on [0, 1]; BasicSR's own see clipped 8-bit images. The
protocol behind the paper's numbers is the float one.
"""

from typing import Any

import numpy as np
import torch
from basicsr.utils.registry import METRIC_REGISTRY
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from torch import Tensor

from ne_basicsr.equivariance import Network, ne_defect

Image = Tensor | NDArray[np.floating]


def psnr(image: Tensor, clean: Tensor) -> float:
    """10 log10(1 / MSE) in dB, for images of one shape with data range 1; infinite where they are equal."""
    error = (image.double() - clean.double()).square().mean().item()
    return float('inf') if error == 0 else -10 * float(np.log10(error))


def ssim(image: Tensor, clean: Tensor) -> float:
    """Structural similarity of (C, H, W) images on [0, 1], as in the paper's protocol.

    scikit-image's default, a uniform 7x7 window, on [0, 255]; ``image`` is clipped, neither is rounded.
    """
    a, b = (x.detach().double().cpu().numpy() * 255 for x in (image.clamp(0, 1), clean))
    return float(structural_similarity(a, b, data_range=255, channel_axis=0))


@METRIC_REGISTRY.register()
def calculate_psnr_float(img: Image, img2: Image, crop_border: int = 0, **_: Any) -> float:
    """PSNR in dB of float images on [0, 1], unclipped and unrounded.

    Args:
        img, img2: tensors (C, H, W) or (1, C, H, W), or arrays (H, W) or (H, W, C).
        crop_border: pixels left out at each edge.

    Raises:
        ValueError: for images of integer type, or of different shapes.
    """
    return psnr(*_as_pair(img, img2, crop_border, 'calculate_psnr'))


@METRIC_REGISTRY.register()
def calculate_ssim_float(img: Image, img2: Image, crop_border: int = 0, **_: Any) -> float:
    """SSIM of float images on [0, 1], see ``ssim``. Arguments and errors as ``calculate_psnr_float``."""
    return ssim(*_as_pair(img, img2, crop_border, 'calculate_ssim'))


@METRIC_REGISTRY.register()
def calculate_ne_defect(net: Network, lq: Tensor, samples: int = 8, seed: int = 0, **_: Any) -> float:
    """Relative defect of normalization equivariance of ``net`` at ``lq`` (1, C, H, W), see ``ne_defect``."""
    return ne_defect(net, lq, samples=samples, seed=seed).mean().item()


def _as_pair(img: Image, img2: Image, crop_border: int, eight_bit: str) -> tuple[Tensor, Tensor]:
    first, second = (_as_chw(x, eight_bit) for x in (img, img2))
    if first.shape != second.shape:
        raise ValueError(f'the two images must have one shape; got {tuple(first.shape)} and {tuple(second.shape)}.')
    if crop_border:
        inner = (..., slice(crop_border, -crop_border), slice(crop_border, -crop_border))
        first, second = first[inner], second[inner]
    return first, second


def _as_chw(image: Image, eight_bit: str) -> Tensor:
    if isinstance(image, np.ndarray):
        image = torch.from_numpy(np.ascontiguousarray(image[..., None] if image.ndim == 2 else image)).permute(2, 0, 1)
    if not image.is_floating_point():
        raise ValueError(
            f'{eight_bit}_float compares float images on [0, 1]; got {image.dtype}: use {eight_bit} for 8-bit images, or'
            ' model_type DenoisingModel, which passes float ones.'
        )
    return image.squeeze(0) if image.dim() == 4 else image
