"""The orthonormal DCT of overlapping blocks: its kernels, and denoising by shrinking its coefficients."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ne_basicsr.ops.padding import widen

BLOCK = 8  # side of the blocks, in pixels
LOW, HIGH = 2.5, 3.5  # noise levels: where the shrinkage of coefficients ends


def dct_kernels(size: int, like: Tensor) -> Tensor:
    """The orthonormal two-dimensional DCT-II as convolution kernels (size^2, 1, size, size), row-major in (u, v).

    Type and device are those of ``like``.
    """
    i = torch.arange(size, dtype=torch.float64)
    basis = torch.cos((2 * i[None, :] + 1) * i[:, None] * math.pi / (2 * size)) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    kernels = basis[:, None, :, None] * basis[None, :, None, :]  # (u, v, i, j); no einsum: autocast would round it
    return kernels.reshape(size * size, 1, size, size).to(like, non_blocking=True)


def dct_shrink(y: Tensor, noise: Tensor, mean: Tensor) -> Tensor:
    """Denoise by shrinking overlapping 8x8 DCT blocks.

    Coefficients below ``LOW * noise`` become 0, those above ``HIGH * noise`` stay; the linear ramp between (firm
    shrinkage) keeps the result continuous. The mean of a block is kept. Blocks that keep fewer coefficients get more
    weight. Channels are first mixed by an orthonormal DCT. Commutes with y -> a y + b when ``noise`` is scaled by a.

    Args:
        y: (N, C, H, W), any range.
        noise: standard deviation of the noise on the scale of y, (N, 1, 1, 1), positive.
        mean: of y or near it, (N, 1, 1, 1): subtracted before and added after, which saves digits.

    Returns:
        (N, C, H, W) in float32 or better.

    Source: Yu and Sapiro, DCT image denoising, IPOL 2011; Gao and Bruce, Waveshrink with firm shrinkage, 1997.
    """
    with torch.autocast(y.device.type, enabled=False):
        return mean + _shrink(widen(y) - mean, noise)


def _shrink(centred: Tensor, noise: Tensor) -> Tensor:
    n, channels, height, width = centred.shape
    size = min(BLOCK, height, width)
    mix = _channel_dct(channels, centred)
    planes = torch.einsum('dc,nchw->ndhw', mix, centred).reshape(n * channels, 1, height, width)
    noise = noise.expand(n, channels, 1, 1).reshape(n * channels, 1, 1, 1)
    kernels = dct_kernels(size, centred)
    margin = (size - 1,) * 4

    blocks = F.conv2d(F.pad(planes, margin, mode='reflect'), kernels)  # (N C, size^2, H + size - 1, ...)
    keep = ((blocks.abs() / noise - LOW) / (HIGH - LOW)).clamp(0, 1)
    keep[:, 0] = 1
    weight = 1 / keep.sum(dim=1, keepdim=True)
    total = F.conv_transpose2d(blocks * keep * weight, kernels)
    weight = F.conv_transpose2d(weight, torch.ones_like(kernels[:1]))
    restored = F.pad(total / weight, [-p for p in margin])
    return torch.einsum('dc,ndhw->nchw', mix, restored.reshape(n, channels, height, width))


def _channel_dct(channels: int, like: Tensor) -> Tensor:
    """The DCT over ``channels`` values, (C, C): gray first, then colour differences."""
    kernels = dct_kernels(channels, like).reshape(channels, channels, channels, channels)
    return kernels[:, 0, :, 0] * channels**0.5
