"""How far a network looks: the distance beyond which no pixel of the input has a say in a pixel of the output."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

GRID = 32  # what strides, windows and poolings of networks that do not say them divide


@runtime_checkable
class MeasuresWhole(Protocol):
    """A network in two steps: what whole images say, then what is done to them, or to any part of them, with it.

    ``forward(y) = restore(y, measure(y))``. ``measure(y, sigma, mean_of)`` takes the mean of what a function makes of y
    from ``mean_of``, and ``sigma``, the noise level, is for networks that want it.
    """

    def measure(self, y: Tensor, sigma: Any = None, mean_of: Any = None) -> Any: ...

    def restore(self, y: Tensor, measured: Any, sigma: Any = None) -> Tensor: ...


def grid(network: nn.Module) -> int:
    """Where tiles may begin, in pixels: at multiples of this a network does the same as at 0."""
    multiples = [getattr(module, name, 1) for module in network.modules() for name in ('size_multiple', 'pad_to')]
    multiple = math.lcm(*(int(multiple) for multiple in multiples))
    return multiple * -(-GRID // multiple)


@torch.no_grad()
def reach(network: nn.Module, channels: int, limit: int, sigma: float | None = None) -> int | None:
    """How many pixels far the network looks, counted from blocks of ``grid`` pixels; None where it is over ``limit``.

    Found by experiment: where a block of the input is NaN, so is all of the output that it has a say in. Holds for
    convolutions, shifted windows, and whatever else; what looks at the whole image, channel attention for instance, is
    None. Statistics that a network ``MeasuresWhole`` do not count.

    Args:
        channels: that the network takes.
        sigma: what a non-blind network is called with.

    Source: of convolutions the result is their receptive field, sum of (kernel - 1) / 2 times the stride before them.
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
    """How far NaN comes from the middle of a stripe, in pixels of the input; None where it comes to its ends."""
    parameter = next(network.parameters(), torch.empty(0))
    generator = torch.Generator().manual_seed(0)
    noise = 0.01 * torch.randn(1, channels, step, width, generator=generator)
    y = (noise + torch.linspace(0.2, 0.8, width)).to(parameter)  # little noise: ZeroShot then takes all of its steps
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
    """The libraries' fast ones, by FFT or Winograd, mix pixels that have nothing to do with each other."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # switching oneDNN speaks of Intel's GPUs
        with torch.backends.mkldnn.flags(enabled=False), torch.backends.cudnn.flags(enabled=False):
            yield
