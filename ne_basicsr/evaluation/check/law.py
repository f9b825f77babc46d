"""The law f(a y + b) = a f(y) + b in one number type: how far a network is off, and how far rounding may put it off.

    x = fl(a y + b),  y' = fl((x - b) / a),      defect = max |f(x) - (a f(y') + b)| / (a std y')

Rounding a y + b loses digits of y, all of them where |b| >> a std y. That is no fault of the network, so the law is
asked of the image that x does hold, y'. The defect is in units of the image's contrast: relative to |a f(y) + b|, as
the paper has it, a large b would hide any failure.

What is left is rounding inside f. A type of unit roundoff u holds a number v to u |v|, and the numbers that f(x) ends
in, and an affine-constrained network computes with, are as large as x. Hence

    tolerance = MARGIN r K,      K = max(|x|, a |y'|) / (a std y'),      r = max |f~(y) - f(y)| / max |y| >= u,

r being what rounding does to this network on an image of this size, where neither a nor b plays a part, and K the units
of contrast in the largest number, which is the factor by which digits are lost. Below the normal numbers of the type
digits are lost, too: its smallest normal number stands for a smaller max |x|.

r is measured, not guessed: f~ is f in the same type with every operation rounded at random (Monte Carlo arithmetic, see
``monte_carlo``) or, for types coarser than float32, whose sums are held in float32, f in float64 if that runs. r is the
largest difference of a few runs: random roundings of one y, or multiples of y. It depends on no processor's order of
summation, and what breaks the law, such as a bias, an epsilon, a wrong kernel sum, zero padding, clipping or a coarser
type inside, is in both runs and leaves their difference as it is. Functions that torch does not see into, such as ONNX
files, have f~(y) = f at y with every pixel moved by a few u, which sees nothing of what is rounded inside, and so get a
margin of their own, ``GUESSED``.

What is asked, and no more: a from 1e-3 to 1e3 with b / a and with b from -10 to 10; a up to 1e9 with b up to 3e9;
constants up to 1e9; a near the ends of the range of float64 and float32, ``checks.RESERVE`` short of them, room for
what an affine-constrained network multiplies by inside; images of 1 to 521 pixels a side, and tiles of 128.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ne_basicsr.archs.network_inputs import REFUSALS
from ne_basicsr.evaluation.check.monte_carlo import rounded_otherwise
from ne_basicsr.ops.equivariance import Network

MARGIN = 8  # r is the largest error of a few images and draws, not of all
DRAWS = 3  # of Monte Carlo arithmetic, as one batch; one where an image has more than MANY values
MANY = 2**11
MULTIPLES = (1.0, 5 / 6, 2 / 3)  # of y, against float64: each is rounded in its own way
GUESSED = 16
NUDGE = 64  # of a pixel, in units of roundoff, where torch does not see into the network
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
    """A network in one precision, with r of this file's formulas.

    Attributes:
        exact: f in float64, where r is the error against it.
        how: how r was measured, in words.
    """

    evaluate: Evaluate
    precision: Precision
    rounding: float = 0.0
    exact: Evaluate | None = None
    how: str = ''

    def on(self, images: Sequence[Tensor]) -> 'Runner':
        """With r measured on ``images``, each (1, C, H, W): the largest."""
        measured = [rounding(self, image) for image in images]
        finite = [r for r, _ in measured if r < float('inf')]  # neither infinite nor NaN
        return self._replace(rounding=max([self.precision.roundoff, *finite]), how=measured[-1][1])


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


def rounding(runner: Runner, image: Tensor) -> tuple[float, str]:
    """r for ``image`` (1, C, H, W), at least u, and how it was measured."""
    dtype = runner.precision.dtype
    if runner.exact is not None:
        images = [(factor * image).to(dtype).double() for factor in MULTIPLES]
        pairs = zip(images, MULTIPLES, strict=True)
        found = [_r(runner, y, runner.evaluate(y, factor), runner.exact(y, factor)) for y, factor in pairs]
        return max(found, key=lambda r: float('inf') if r != r else r), 'measured against float64'
    y, output = _copies(runner.evaluate, image.to(dtype).double())
    other = rounded_otherwise(lambda: _repeatably(runner.evaluate, y), dtype)
    if other is not None:
        return _r(runner, y, output, other), 'measured by Monte Carlo arithmetic'
    signs = torch.randint(0, 2, y.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    other = _repeatably(runner.evaluate, y * (1 + NUDGE * runner.precision.roundoff * signs))
    return _r(runner, y, output, output + (other - output) * GUESSED / NUDGE), 'guessed from moved pixels'


def _r(runner: Runner, y: Tensor, output: Tensor, other: Tensor) -> float:
    largest = float(y.abs().max())
    least = runner.precision.roundoff * max(largest, float(output.abs().max()))
    return max(float((other - output).abs().max()), least) / largest


def _copies(evaluate: Evaluate, y: Tensor) -> tuple[Tensor, Tensor]:
    """A batch of ``DRAWS`` copies of y, and f of it; y alone if it is large, or the network takes no batches."""
    copies = torch.cat([y] * (1 if y.numel() > MANY else DRAWS))
    try:
        return copies, _repeatably(evaluate, copies)
    except REFUSALS:
        return y, _repeatably(evaluate, y)


def _repeatably(evaluate: Evaluate, y: Tensor) -> Tensor:
    """f(y) with the same random numbers every time, such as those of dropout: they are no rounding."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(0)
        return evaluate(y, 1.0)


def law(runner: Runner, y: Tensor, a: float, b: float) -> Point | None:
    """The law for the image y (1, C, H, W) in float64, a > 0; None where its tolerance would exceed ``COARSEST``."""
    dtype = runner.precision.dtype
    x = (a * y + b).to(dtype).double()
    y = ((x - b) / a).to(dtype).double()
    contrast = _contrast(y)
    tolerance = _tolerance(runner, max(float(x.abs().max()), a * float(y.abs().max())), a * contrast)
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
    return Point(0.0, value, _size(x), defect, _tolerance(runner, unit, unit))


def agreement(runner: Runner, y: Tensor, first: Tensor, second: Tensor) -> Point:
    """Two results for the image y (1, C, H, W) that have to be the same; NaN agrees with NaN."""
    contrast = _contrast(y)
    if first.shape != second.shape:
        return Point(1.0, 0.0, _size(y), float('inf'), _tolerance(runner, float(y.abs().max()), contrast))
    difference = (first - second).abs().masked_fill(first.isnan() & second.isnan(), 0.0)
    return Point(
        1.0, 0.0, _size(y), float(difference.max()) / contrast, _tolerance(runner, float(y.abs().max()), contrast)
    )


def _tolerance(runner: Runner, largest: float, unit: float) -> float:
    """``MARGIN`` r K, for numbers up to ``largest`` and a contrast of ``unit``."""
    return MARGIN * runner.rounding * max(largest, torch.finfo(runner.precision.dtype).smallest_normal) / unit


def _contrast(y: Tensor) -> float:
    """The standard deviation; the largest value where that is 0, and 1 where that is 0, too."""
    deviation = float((y - y.flatten()[0]).std(correction=0))
    return deviation or float(y.abs().max()) or 1.0


def _size(y: Tensor) -> tuple[int, int]:
    return y.shape[-2], y.shape[-1]
