"""Powers of two that bring images of any magnitude to where squares neither vanish nor overflow, and safe divisors.

Division by a power of two is exact, so what is computed from y / unit and multiplied by ``unit`` again is, bit for bit,
what the same formula gives from y, wherever that one neither under- nor overflows.
"""

import math

import torch
from torch import Tensor

from ne_basicsr.ops.padding import widen


def power_of_two(x: Tensor) -> Tensor:
    """A power of two near x >= 0, without gradient: neither it nor its inverse is subnormal or infinite. 1 for 0."""
    limit = -math.log2(torch.finfo(x.dtype).tiny)
    # frexp would say it directly, but ONNX has none; exp2 of integers is exact
    return torch.exp2(torch.log2(nonzero(x.detach())).floor().clamp(-limit, limit))


def unit_of(y: Tensor, origin: Tensor | float = 0.0) -> Tensor:
    """A power of two near the largest |y - origin| of each image, (N, 1, 1, 1), in float32 or better."""
    low, high = map(widen, ends(y.detach()))
    # infinite where images have nearly the largest number there is, with both signs
    largest = torch.maximum(high - origin, origin - low).clamp(max=torch.finfo(low.dtype).max)
    return power_of_two(largest)


def ends(y: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of each image, (N, 1, 1, 1)."""
    return y.amin(dim=(1, 2, 3), keepdim=True), y.amax(dim=(1, 2, 3), keepdim=True)


def nonzero(scale: Tensor) -> Tensor:
    """``scale`` with 1 for 0, to divide by. NaN stays."""
    return torch.where(scale == 0, torch.ones_like(scale), scale)


def root(x: Tensor) -> Tensor:
    """The square root, with gradient 0 at 0, where a deviation has its minimum and the root no gradient."""
    return nonzero(x).sqrt().masked_fill(x == 0, 0.0)
