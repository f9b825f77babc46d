"""Powers of two that scale images of any magnitude so that squares neither underflow nor overflow, and safe divisors.

Division by a power of two is exact. A formula of degree 1 applied to y / unit and multiplied by ``unit`` therefore
gives the same bits as applied to y, wherever the latter neither under- nor overflows.
"""

import math

import torch
from torch import Tensor

from ne_basicsr.ops.padding import widen


def power_of_two(x: Tensor) -> Tensor:
    """A power of two near each x >= 0, of any shape, without gradient; 1 for 0.

    Neither it nor its inverse is subnormal or infinite.
    """
    limit = -math.log2(torch.finfo(x.dtype).tiny)
    # frexp would say it directly, but ONNX has none; exp2 of integers is exact
    return torch.exp2(torch.log2(nonzero(x.detach())).floor().clamp(-limit, limit))


def unit_of(y: Tensor, origin: Tensor | float = 0.0) -> Tensor:
    """A power of two near the largest |y - origin| of each image of y (N, C, H, W): (N, 1, 1, 1), float32 or better."""
    low, high = map(widen, ends(y.detach()))
    # the difference overflows where an image has nearly the largest number, with both signs
    largest = torch.maximum(high - origin, origin - low).clamp(max=torch.finfo(low.dtype).max)
    return power_of_two(largest)


def ends(y: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of each image of y (N, C, H, W), (N, 1, 1, 1) each."""
    return y.amin(dim=(1, 2, 3), keepdim=True), y.amax(dim=(1, 2, 3), keepdim=True)


def nonzero(scale: Tensor) -> Tensor:
    """``scale``, of any shape, with 1 for 0, to divide by. NaN stays."""
    return torch.where(scale == 0, torch.ones_like(scale), scale)


def root(x: Tensor) -> Tensor:
    """The square root of x >= 0, of any shape, with gradient 0 at 0, where the root itself has none."""
    return nonzero(x).sqrt().masked_fill(x == 0, 0.0)
