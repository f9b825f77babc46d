"""The level of the white noise in an image, estimated from its quietest blocks."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ne_basicsr.ops.dct import BLOCK, dct_kernels
from ne_basicsr.ops.magnitude import ends, nonzero, root, unit_of
from ne_basicsr.ops.padding import widen

QUIETEST = 0.005  # share of the blocks that the noise level is estimated from
FEWEST = 64  # blocks at least, so that the estimate of a small image does not rest on one
MOST = 2**18  # blocks at most, about: their DCT takes 64 MiB for each channel


def noise_level(y: Tensor) -> Tensor:
    """Standard deviation of the white Gaussian noise in each image, joint over its channels.

    Every 8x8 block goes through an orthonormal DCT. The blocks with the least energy in the low frequencies
    (0 < u + v < 8) have the least texture, and the energy of their high frequencies (u + v >= 8) is the noise. White
    noise is independent in the two, so a choice by one does not bias the other, and no correction factor is needed.
    Saturated and synthetic blocks, found by equal pixels, show no sensor noise and are left out. Images of more than
    ``MOST`` pixels are read in bands of rows, as high as a block and evenly spaced.

    Args:
        y: (N, C, H, W), any range.

    Returns:
        (N, 1, 1, 1) on the scale of y, in float32 or better: the level of a y + b is a times the level of y. Zero where
        no block shows noise: a constant image, or one of a single row or column.

    Source: Ponomarenko et al., An automatic approach to lossy compression of AVIRIS images, IGARSS 2007; Colom and
    Buades, Analysis and extension of the Ponomarenko et al. method, IPOL 2013. Here the selection is a ramp instead of
    a step, which keeps the level a continuous function of the image.
    """
    y = widen(y)
    size = min(BLOCK, *y.shape[-2:])
    if size < 2:
        return y.new_zeros(len(y), 1, 1, 1)
    limits, unit = ends(y), unit_of(y, y[:, :1, :1, :1])
    is_exported = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if not is_exported and (pixels := y[0, 0].numel()) > MOST:  # bands side by side: the few blocks of two do no harm
        bands = y.unfold(2, size, math.ceil(pixels / MOST))  # (N, C, bands, W, size)
        y = bands.permute(0, 1, 4, 2, 3).flatten(3)

    textured, unsaturated = unspoilt_blocks(y, size, *limits)
    texture, variance = block_energies(y / unit - (y / unit).mean(dim=(1, 2, 3), keepdim=True), size)
    blocks = unsaturated | (textured & ~unsaturated.any(dim=1, keepdim=True))  # all saturated: overlooked
    count = blocks.sum(dim=1, keepdim=True)
    limit = texture.masked_fill(~blocks, math.inf).sort(dim=1).values.gather(1, (quietest(count) - 1).clamp(min=0))
    silent = (count == 0) | (limit == 0)
    # 1 up to the limit, falling to 0 at twice the limit; in silent images divisors are 1 for the gradient's sake
    weight = (2 - texture / limit.masked_fill(silent, 1.0)).clamp(0, 1).masked_fill(~blocks, 0.0)
    energy = (weight * variance).sum(dim=1, keepdim=True) / nonzero(weight.sum(dim=1, keepdim=True))
    return unit * root(energy).masked_fill(silent, 0.0)[:, :, None, None]


def block_energies(centred: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Energy of the low and mean energy of the high frequencies, (N, blocks) each, of y (N, C, H, W) less its mean."""
    n, channels, height, width = centred.shape
    order = [u + v for u in range(size) for v in range(size)]  # of each coefficient
    low, high = (
        torch.tensor([k for k, sum_ in enumerate(order) if is_in(sum_)]).to(centred.device, non_blocking=True)
        for is_in in (lambda sum_: 0 < sum_ < size, lambda sum_: sum_ >= size)
    )
    with torch.autocast(centred.device.type, enabled=False):
        planes = centred.reshape(n * channels, 1, height, width)
        energy = F.conv2d(planes, dct_kernels(size, centred)).square()  # (N C, size^2, H - size + 1, ...)
    energy = energy.reshape(n, channels, size * size, -1)
    return energy[:, :, low].sum(dim=(1, 2)), energy[:, :, high].mean(dim=(1, 2))


def unspoilt_blocks(y: Tensor, size: int, smallest: Tensor, largest: Tensor) -> tuple[Tensor, Tensor]:
    """Blocks that are not synthetic, and of these the ones that are not saturated; (N, blocks), bool, each.

    Synthetic: more than half of the horizontal neighbours are equal in every channel. Saturated: more than one pixel
    has the largest value of the image, or the smallest. Equality survives a y + b in floating point, unlike "energy
    below a threshold".
    """
    equal = (y[..., 1:] == y[..., :-1]).all(dim=1, keepdim=True).to(y.dtype)  # (N, 1, H, W - 1)
    textured = F.avg_pool2d(equal, (size, size - 1), stride=1).flatten(1) <= 0.5
    at_ends = [y == largest, y == smallest]
    most = torch.cat([F.avg_pool2d(end.to(y.dtype), size, stride=1).flatten(2) for end in at_ends], dim=1)
    return textured, textured & (most.amax(dim=1) * size**2 < 1.5)  # one pixel of the block may be the extreme one


def quietest(count: Tensor) -> Tensor:
    """How many of ``count`` blocks (integers, any shape) the noise level is estimated from."""
    return (QUIETEST * count).long().clamp(min=FEWEST).minimum(count)
