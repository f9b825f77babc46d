"""The orthonormal DCT of overlapping blocks: its kernels, and denoising by shrinking its coefficients."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ne_basicsr.ops.padding import widen

BLOCK = 8  # side of the blocks, in pixels
LOW, HIGH = 2.5, 3.5  # noise levels: where the shrinkage of coefficients ends
STRIP = 2**18  # coefficients that are computed at once: 1 MiB, which a processor keeps near


def dct_basis(size: int) -> Tensor:
    """The orthonormal DCT-II of a line, (frequency, position), in float64."""
    i = torch.arange(size, dtype=torch.float64)
    basis = torch.cos((2 * i[None, :] + 1) * i[:, None] * math.pi / (2 * size)) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis


def dct_kernels(size: int, like: Tensor) -> Tensor:
    """The orthonormal two-dimensional DCT-II as convolution kernels (size^2, 1, size, size), row-major in (u, v).

    Type and device are those of ``like``.
    """
    basis = dct_basis(size)
    kernels = basis[:, None, :, None] * basis[None, :, None, :]  # (u, v, i, j); no einsum: autocast would round it
    return kernels.reshape(size * size, 1, size, size).to(like, non_blocking=True)


def in_strips(y: Tensor) -> bool:
    """Whether the DCT of y (N, C, H, W) is taken by ``strips``: without gradients, and not to be exported."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or (y.requires_grad and torch.is_grad_enabled()):
        return False
    # oneDNN is off where dependence is measured with NaN, which products of whole strips would spread
    return y.device.type == 'cpu' and min(y.shape[-2:]) >= BLOCK and bool(torch.backends.mkldnn.enabled)


def strips(plane: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The DCT of all 8x8 blocks of a plane (H, W), in strips: (first row, coefficients (rows, v, W - 7, u)).

    Rows first, then columns: an eighth of the operations of a convolution with 64 kernels. The caller may overwrite the
    coefficients.
    """
    basis = dct_basis(BLOCK).to(plane)
    across = plane.unfold(1, BLOCK, 1) @ basis.T  # (H, W - 7, u)
    height, line = len(plane) - BLOCK + 1, across[0].numel()
    step = max(1, STRIP // (BLOCK * line))
    for top in range(0, height, step):
        count = min(step, height - top)
        windows = across.as_strided((count, BLOCK, line), (line, line, 1), top * line)
        yield top, (basis @ windows).view(count, BLOCK, -1, BLOCK)


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
    mix = dct_basis(channels).to(centred, non_blocking=True)  # gray first, then colour differences
    planes = torch.einsum('dc,nchw->ndhw', mix, centred).reshape(n * channels, 1, height, width)
    noise = noise.expand(n, channels, 1, 1).reshape(n * channels, 1, 1, 1)
    margin = (size - 1,) * 4
    if in_strips(centred):
        padded = (F.pad(plane[None], margin, mode='reflect')[0, 0] for plane in planes)
        shrunk = torch.stack([_shrink_plane(plane, float(level)) for plane, level in zip(padded, noise, strict=True)])
    else:
        kernels = dct_kernels(size, centred)
        blocks = F.conv2d(F.pad(planes, margin, mode='reflect'), kernels)  # (N C, size^2, H + size - 1, ...)
        keep = ((blocks.abs() / noise - LOW) / (HIGH - LOW)).clamp(0, 1)
        keep[:, 0] = 1
        weight = 1 / keep.sum(dim=1, keepdim=True)
        total = F.conv_transpose2d(blocks * keep * weight, kernels)
        shrunk = total / F.conv_transpose2d(weight, torch.ones_like(kernels[:1]))
    restored = F.pad(shrunk, [-p for p in margin])
    return torch.einsum('dc,ndhw->nchw', mix, restored.reshape(n, channels, height, width))


def _shrink_plane(plane: Tensor, noise: float) -> Tensor:
    """As ``_shrink``, of a padded plane (H, W), by ``strips``; what is within the padding is not complete."""
    basis = dct_basis(BLOCK).to(plane)
    height, width = plane.shape
    lines = plane.new_zeros(height, width - BLOCK + 1, BLOCK)  # summed over the blocks above each other
    weights = plane.new_zeros(height, width - BLOCK + 1)
    for top, blocks in strips(plane):
        count = len(blocks)
        keep = blocks.abs().mul_(1 / (noise * (HIGH - LOW))).sub_(LOW / (HIGH - LOW)).clamp_(0, 1)
        keep[:, 0, :, 0] = 1
        weight = keep.sum(dim=1).sum(dim=-1).reciprocal_()  # (count, W - 7)
        blocks.mul_(keep).mul_(weight[..., None].expand(-1, -1, BLOCK).contiguous()[:, None])
        down = plane.new_zeros(count + BLOCK - 1, count, BLOCK)  # the inverse along columns, and its sum, in one matrix
        for row in range(count):
            down[row : row + BLOCK, row] = basis.T
        lines[top : top + len(down)] += (down.flatten(1) @ blocks.view(count * BLOCK, -1)).view(len(down), -1, BLOCK)
        for row in range(BLOCK):
            weights[top + row : top + row + count] += weight
    lines, total, divisor = lines @ basis, torch.zeros_like(plane), torch.zeros_like(plane)
    for column in range(BLOCK):
        place = slice(column, column + width - BLOCK + 1)
        total[:, place] += lines[..., column]
        divisor[:, place] += weights
    return total.div_(divisor)[None]
