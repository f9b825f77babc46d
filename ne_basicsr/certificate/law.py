"""The law f(a y + b) = a f(y) + b in one number type: how far a network is off, and how far rounding may put it off.

    x = fl(a y + b),  y' = fl((x - b) / a),      defect = max |f(x) - (a f(y') + b)| / (a std y')

Rounding a y + b loses digits of y, all of them where |b| >> a std y. That is no fault of the network, so the law is
asked of the image that x does hold, y'. The defect is in units of the image's contrast: relative to |a f(y) + b|, as
the paper has it, a large b would hide any failure.

What is left is rounding inside f. A type of unit roundoff u holds a number v to u |v|, and the numbers that f(x) ends
in, and an affine-constrained network computes with, are as large as x. Hence

    tolerance = MARGIN r K,      K = max |x| / (a std y'),      r = max |f(y) - f*(y)| / max |y| >= u,

f* being f in float64: r is what the type costs this network, measured where neither a nor b plays a part, and K the
units of contrast in the largest number, which is the factor by which digits are lost. Below the normal numbers of the
type digits are lost, too: its smallest normal number stands for a smaller max |x|.

For float64 itself, and where float64 does not run, r has to be guessed, and gets a margin of its own, ``GUESSED``:
rounding errors are proportional to u, so the first is float32's r times 2^-29; the second is how far f(y) moves when
every pixel moves by a few u.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ne_basicsr.equivariance import Network

MARGIN = 8  # r is the largest error of a few images, not of all
GUESSED = 16
NUDGE = 64  # of a pixel, in units of roundoff, where r is measured without float64
COARSEST = 0.5  # a tolerance that would let everything pass tells nothing: such (a, b) are not asked


class Precision(NamedTuple):
    """How a network runs: images and weights of ``dtype``, under autocast where ``autocast`` is given."""

    name: str
    dtype: torch.dtype
    autocast: torch.dtype | None = None

    @property
    def roundoff(self) -> float:
        """u, half the distance from 1 to the next number."""
        return torch.finfo(self.autocast or self.dtype).eps / 2


PRECISIONS = {
    name: Precision(name, getattr(torch, name)) for name in ('float64', 'float32', 'bfloat16', 'float16')
}  # fmt: skip

Evaluate = Callable[[Tensor, float], Tensor]
"""f in one precision: images (N, C, H, W) of any type, and a, which scales a known noise level, to float64 on a CPU."""


class Point(NamedTuple):
    """The law at one (a, b) and size.

    Attributes:
        a, b: a = 0 stands for the constant image b.
        size: (H, W).
        defect, tolerance: in units of the contrast a std y; for constant images, of ``|b|``, or of 1 where that is 0.
        change: max |f(a y + b) - f(y)| / std y: 0 for a network that takes a and b away and does not give them back.
    """

    a: float
    b: float
    size: tuple[int, int]
    defect: float
    tolerance: float
    change: float = float('nan')

    @property
    def holds(self) -> bool:
        """Whether the defect is a number within the tolerance."""
        return self.defect <= self.tolerance

    @property
    def excess(self) -> float:
        """Defect in units of the tolerance; infinite where the defect is not a number."""
        return self.defect / self.tolerance if self.defect == self.defect else float('inf')


class Runner(NamedTuple):
    """A network in one precision, with r of this file's formulas."""

    evaluate: Evaluate
    precision: Precision
    rounding: float


def evaluator(network: Network, precision: Precision, device: str = 'cpu', sigma: float | None = None) -> Evaluate:
    """``network`` in a precision, as a copy: the network itself keeps its type, device and buffers.

    Args:
        sigma: for non-blind networks, the noise level that they are told, on the scale of y; a times it with a y + b.
    """
    if isinstance(network, nn.Module):
        network = deepcopy(network).to(device, precision.dtype)

    def evaluate(images: Tensor, a: float = 1.0) -> Tensor:
        arguments: dict[str, Any] = {} if sigma is None else {'sigma': a * sigma}
        autocast = torch.autocast(torch.device(device).type, precision.autocast, enabled=precision.autocast is not None)
        with torch.no_grad(), autocast:
            # a copy, since a network may work in place
            output = network(images.to(device, precision.dtype, copy=True), **arguments)
        if not isinstance(output, Tensor):
            raise TypeError(f'a network that returns one tensor is needed; it returned a {type(output).__name__}')
        return output.cpu().double()

    return evaluate


def rounding(evaluate: Evaluate, precision: Precision, images: Sequence[Tensor], exact: Evaluate | None) -> float:
    """r: the largest error over ``images``, each (1, C, H, W), against ``exact``, f in float64; at least u.

    Without ``exact`` it is guessed: how far f moves when every pixel moves by ``NUDGE`` u up or down, by ``NUDGE``.
    """
    errors = []
    for image in images:
        y = image.to(precision.dtype).double()
        output = evaluate(y, 1.0)
        if exact is not None:
            error = (output - exact(y, 1.0)).abs().max()
        else:
            signs = torch.randint(0, 2, y.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
            moved = evaluate(y * (1 + NUDGE * precision.roundoff * signs), 1.0)
            error = (moved - output).abs().max() * (GUESSED / NUDGE)
        least = precision.roundoff * max(float(y.abs().max()), float(output.abs().max()))
        errors.append(max(float(error), least) / float(y.abs().max()))
    finite = [error for error in errors if error < float('inf')]  # neither infinite nor NaN
    return max([precision.roundoff, *finite])


def rounding_in_float64(in_float32: float) -> float:
    """r of float64, guessed from that of float32."""
    ratio = PRECISIONS['float64'].roundoff / PRECISIONS['float32'].roundoff
    return GUESSED * in_float32 * ratio


def law(runner: Runner, y: Tensor, a: float, b: float) -> Point | None:
    """The law for the image y (1, C, H, W) in float64, a > 0; None where its tolerance would exceed ``COARSEST``."""
    dtype = runner.precision.dtype
    x = (a * y + b).to(dtype).double()
    y = ((x - b) / a).to(dtype).double()
    contrast = _contrast(y)
    tolerance = _tolerance(runner, x, a * contrast)
    if tolerance > COARSEST:
        return None
    moved, output = runner.evaluate(x, a), runner.evaluate(y, 1.0)
    defect = float((moved - (a * output + b)).abs().max()) / (a * contrast)
    change = float((moved - output).abs().max()) / contrast
    return Point(a, b, _size(y), defect, tolerance, change)


def constant(runner: Runner, shape: Sequence[int], value: float) -> Point:
    """f(c) = c for a constant image of ``shape`` (1, C, H, W), relative to c; f(0) relative to 1."""
    x = torch.full(tuple(shape), value, dtype=torch.float64).to(runner.precision.dtype).double()
    c = float(x.flatten()[0])
    unit = abs(c) or 1.0
    defect = float((runner.evaluate(x, 0.0) - c).abs().max()) / unit
    return Point(0.0, value, _size(x), defect, _tolerance(runner, x if c else x + 1, unit))


def agreement(runner: Runner, y: Tensor, first: Tensor, second: Tensor) -> Point:
    """Two results for the image y (1, C, H, W) that have to be the same; NaN agrees with NaN."""
    contrast = _contrast(y)
    if first.shape != second.shape:
        return Point(1.0, 0.0, _size(y), float('inf'), _tolerance(runner, y, contrast))
    difference = (first - second).abs().masked_fill(first.isnan() & second.isnan(), 0.0)
    return Point(1.0, 0.0, _size(y), float(difference.max()) / contrast, _tolerance(runner, y, contrast))


def _tolerance(runner: Runner, x: Tensor, unit: float) -> float:
    """``MARGIN`` r K, the contrast of x being ``unit``."""
    smallest = torch.finfo(runner.precision.dtype).smallest_normal
    return MARGIN * runner.rounding * max(float(x.abs().max()), smallest) / unit


def _contrast(y: Tensor) -> float:
    """The standard deviation; the largest value where that is 0, and 1 where that is 0, too."""
    deviation = float((y - y.flatten()[0]).std(correction=0))
    return deviation or float(y.abs().max()) or 1.0


def _size(y: Tensor) -> tuple[int, int]:
    return y.shape[-2], y.shape[-1]
