"""The receptive field of a network: how far from an output pixel the input still affects it."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

GRID = 32  # a multiple of the strides, windows and poolings of networks that do not declare them


@runtime_checkable
class MeasuresWhole(Protocol):
    """A network with two steps: measure statistics of the whole image, then restore it, or a part of it, with them.

    ``forward(y) = restore(y, measure(y))``. ``measure(y, sigma, mean_of)`` calls ``mean_of(function)`` for the mean of
    ``function(y)`` over the image; ``sigma`` is the noise level, for networks that take one.
    """

    def measure(self, y: Tensor, sigma: Any = None, mean_of: Any = None) -> Any: ...

    def restore(self, y: Tensor, measured: Any, sigma: Any = None) -> Tensor: ...


def grid(network: nn.Module) -> int:
    """Tiles may begin at multiples of this many pixels: there the network behaves as at 0."""
    multiples = [getattr(module, name, 1) for module in network.modules() for name in ('size_multiple', 'pad_to')]
    multiple = math.lcm(*(int(multiple) for multiple in multiples))
    return multiple * -(-GRID // multiple)


@torch.no_grad()
def receptive_radius(network: nn.Module, channels: int, limit: int, sigma: float | None = None) -> int | None:
    """How many pixels the receptive field extends beyond a block of ``grid`` pixels; None if more than ``limit``.

    Measured: a block of the input is set to NaN, and every output pixel that depends on it becomes NaN. This works for
    convolutions, shifted windows and any other layer. Networks that look at the whole image, such as those with channel
    attention, give None. Statistics of a network that ``MeasuresWhole`` do not count. For convolutions, it is the sum
    of (kernel - 1) / 2 times the stride before each of them. Non-blind networks are told ``sigma``.
    """
    step = grid(network)
    width = 5 * step
    while True:
        found = [_spread(network, channels, step, width, sigma, transposed) for transposed in (False, True)]
        spreads = [spread for spread in found if spread is not None]
        if len(spreads) == 2:
            return max(spreads) if max(spreads) <= limit else None
        if width > 2 * limit + step:
            return None
        width = (2 * width // step + 1) * step


def _spread(
    network: nn.Module, channels: int, step: int, width: int, sigma: float | None, transposed: bool
) -> int | None:
    """How many input pixels NaN spreads from the middle of a stripe; None if it reaches the ends."""
    parameter = next(network.parameters(), torch.empty(0))
    generator = torch.Generator().manual_seed(0)
    noise = 0.01 * torch.randn(1, channels, step, width, generator=generator)
    y = (noise + torch.linspace(0.2, 0.8, width)).to(parameter)  # little noise, so that ZeroShot runs all of its steps
    y = y.transpose(2, 3) if transposed else y
    given = {} if sigma is None else {'sigma': sigma}
    measured = None
    if isinstance(network, MeasuresWhole):
        measured = network.measure(y, sigma, lambda function: function(y).mean(dim=(1, 2, 3), keepdim=True))

    start = width // step // 2 * step
    broken = y.clone()
    (broken.transpose(2, 3) if transposed else broken)[..., start : start + step] = math.nan
    with _plain_convolutions():
        if isinstance(network, MeasuresWhole):
            output = network.restore(broken, measured, **given)
        else:
            output = network(broken, **given)
    lines = output.isnan().amax(dim=(0, 1, 3 if transposed else 2))
    ratio = len(lines) / width
    hit = lines.nonzero().flatten().tolist() or [start * ratio]
    if hit[0] == 0 or hit[-1] == len(lines) - 1:
        return None
    return math.ceil(max(start - hit[0] / ratio, (hit[-1] + 1) / ratio - start - step, 0))


@contextmanager
def _plain_convolutions() -> Iterator[None]:
    """Turn off fast convolutions by FFT or Winograd, which spread NaN to unrelated pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # switching oneDNN off warns about Intel GPUs
        with torch.backends.mkldnn.flags(enabled=False), torch.backends.cudnn.flags(enabled=False):
            yield
