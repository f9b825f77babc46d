"""The choice of an interval: images are mapped to [a, b] by their minimum and maximum, denoised, and mapped back.

    f_ab(y) = (f(a + (b - a) (y - min y) / (max y - min y)) - a) / (b - a) (max y - min y) + min y

There is no rule for a and b. f_ab = f for every choice of them if f is normalization-equivariant, and only then.

Source: the poster of Herbreteau et al., NeurIPS 2023.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ne_basicsr.evaluation.analysis.difficulty import Row
from ne_basicsr.metrics.quality import psnr_clamped
from ne_basicsr.ops.equivariance import Network, Statistics, denormalize, min_max, normalize
from ne_basicsr.utils.errors import InputError

INTERVALS = ((0.0, 1.0), (0.0, 0.5), (0.25, 0.75), (0.5, 1.0), (-1.0, 1.0), (0.0, 2.0), (0.0, 255.0))


def check_interval(a: float, b: float) -> None:
    """Raise ``InputError`` unless a < b, both finite."""
    if not 0 < b - a < math.inf:
        raise InputError(f'an interval goes from a to a larger b, both finite; got [{a:g}, {b:g}]')


def in_interval(network: Network, y: Tensor, a: float, b: float) -> Tensor:
    """f_ab of images (N, C, H, W); a constant image is mapped to a.

    Raises:
        InputError: unless a < b, both finite.
    """
    check_interval(a, b)
    pair = min_max(y)
    with torch.no_grad():
        output = network((a + (b - a) * normalize(y, pair)).to(y.dtype))
    return denormalize((output - a) / (b - a), Statistics(*pair)).to(y.dtype)


def interval_rows(
    network: Network, y: Tensor, clean: Tensor, intervals: Sequence[tuple[float, float]] = INTERVALS
) -> list[Row]:
    """The change of the output by each interval, for one image (1, C, H, W).

    Returns:
        Rows ``a, b, psnr`` (dB, clamped to [0, 1]) and ``change``, ||f_ab(y) - f(y)|| / ||f(y)||.
    """
    with torch.no_grad():
        plain = network(y)
    rows = []
    for a, b in intervals:
        output = in_interval(network, y, a, b)
        change = ((output - plain).double().norm() / plain.double().norm()).item()
        rows.append({'a': a, 'b': b, 'psnr': psnr_clamped(output, clean), 'change': change})
    return rows
