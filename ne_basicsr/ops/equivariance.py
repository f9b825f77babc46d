"""The affine action on images, per-image statistics that follow it, and the defect of a network under it.

A pair (shift, scale) follows the action when shift(a y + b) = a shift(y) + b and scale(a y + b) = a scale(y) for a > 0.
Then z = (y - shift) / scale does not change with a and b, and f(y) = scale g(z) + shift is normalization-equivariant,
f(a y + b) = a f(y) + b, whatever g is (Saied and Fleuret, ICML 2026, Characterization 1).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ne_basicsr.ops import chunked_statistics
from ne_basicsr.ops.magnitude import ends, nonzero, power_of_two, root, unit_of
from ne_basicsr.ops.noise_level import noise_level
from ne_basicsr.ops.padding import widen

Network = Callable[[Tensor], Tensor]


class Statistics(NamedTuple):
    """One (shift, scale) pair per image, each (N, 1, 1, 1), float32 or better. A scale of 0 marks a constant image.

    They are right for images of any magnitude whose range (largest less smallest value) is a number of their type.
    """

    shift: Tensor
    scale: Tensor


def mean_std(y: Tensor, correction: int = 0) -> Statistics:
    """Mean and standard deviation over C, H, W of y (N, C, H, W), any range.

    ``correction`` 0 divides by d (the paper), 1 by d - 1 (its code).
    """
    origin = widen(y[:, :1, :1, :1])
    unit = unit_of(y, origin)
    # Taken relative to one pixel, a constant image has mean 0 and deviation 0 exactly, and a large b costs no digits.
    relative = Statistics(origin, unit)
    correction = min(correction, y[0].numel() - 1)  # a single value has deviation 0
    if chunked_statistics.is_large(y):
        variance, mean = chunked_statistics.var_mean(y, *relative, correction)
    else:
        variance, mean = torch.var_mean(normalize(y, relative), dim=(1, 2, 3), keepdim=True, correction=correction)
    return Statistics(origin + unit * mean, unit * root(variance))


def min_max(y: Tensor) -> Statistics:
    """Minimum and range (largest less smallest value) over C, H, W of y (N, C, H, W), any range."""
    low, high = ends(widen(y))
    return Statistics(low, high - low)


def mean_noise(y: Tensor) -> Statistics:
    """Mean over C, H, W of y (N, C, H, W) and its estimated noise level; the standard deviation where none is found."""
    shift, deviation = mean_std(y)
    level = noise_level(y)
    return Statistics(shift, torch.where(level > torch.finfo(level.dtype).eps * deviation, level, deviation))


def root_mean_square(y: Tensor) -> Statistics:
    """Shift 0 and the root mean square over C, H, W of y (N, C, H, W): follows y -> a y only."""
    unit = unit_of(y)
    scale = unit * root((widen(y) / unit).square().mean(dim=(1, 2, 3), keepdim=True))
    return Statistics(torch.zeros_like(scale), scale)


def normalize(y: Tensor, statistics: Statistics) -> Tensor:
    """z = (y - shift) / scale, and 0 where scale is 0. (N, C, H, W) to (N, C, H, W) in float32 or better."""
    shift, scale = statistics
    unit = power_of_two(scale)  # y - shift may overflow, and 1 / scale^2 in gradients; over the unit they do not
    centred = torch.addcmul(-shift / unit, widen(y), 1 / unit)
    divisor = nonzero(scale) / unit
    # one full-size temporary where autograd does not need both
    return centred / divisor if centred.requires_grad else centred.div_(divisor)


def denormalize(z: Tensor, statistics: Statistics) -> Tensor:
    """scale z + shift, the inverse of ``normalize``. (N, C, H, W) to the same shape, in the statistics' type."""
    return torch.addcmul(statistics.shift, z.to(statistics.scale.dtype), statistics.scale)


def ne_defect(
    network: Network,
    y: Tensor,
    samples: int = 8,
    a_range: tuple[float, float] = (0.5, 1.5),
    b_range: tuple[float, float] = (-0.25, 0.25),
    tau: float = 1e-6,
    seed: int | Sequence[int] = 0,
) -> Tensor:
    """Relative defect of normalization equivariance, eps_NE of the paper's protocol.

    mean over (a, b) of ||f(a y + b) - (a f(y) + b)|| / (||a f(y) + b|| + tau), a and b uniform in their ranges.

    Args:
        network: f, (N, C, H, W) to (N, C', rH, rW).
        y: images (N, C, H, W), nominally on [0, 1].
        samples: number of (a, b) pairs of each image.
        seed: of the pairs, which are the same for all images; or N seeds, and each image has its own pairs.

    Returns:
        (N,), one value per image, in the dtype of the output.
    """
    generators = [torch.Generator().manual_seed(each) for each in ([seed] if isinstance(seed, int) else seed)]
    a_values, b_values = (  # (samples, N or 1, 1, 1, 1)
        torch.stack([torch.empty(samples, dtype=torch.float64).uniform_(*span, generator=g) for g in generators], dim=1)
        .view(samples, -1, 1, 1, 1)
        .to(y)
        for span in (a_range, b_range)
    )
    with torch.no_grad():
        output = network(y)
        defects = []
        for a, b in zip(a_values, b_values, strict=True):
            expected = a * output + b
            difference = network(a * y + b) - expected
            defects.append(difference.flatten(1).norm(dim=1) / (expected.flatten(1).norm(dim=1) + tau))
    return torch.stack(defects).mean(0)
