"""The law f(a y + b) = a f(y) + b in one number type: the defect of a network, and the tolerance for rounding.

    x = fl(a y + b),  y' = fl((x - b) / a),      defect = max |f(x) - (a f(y') + b)| / (a std y')

Rounding a y + b loses digits of y, all of them if |b| >> a std y. The network is not at fault, so the law is checked
for y', the image that x actually contains. The defect is in units of the image's contrast; relative to |a f(y) + b|, as
in the paper, a large b would hide any failure.

What remains is rounding inside f. A type with unit roundoff u represents a number v with an error of u |v|, and the
results of f, and intermediate results of affine-constrained networks, are as large as x. Hence

    tolerance = MARGIN r K,      K = max(|x|, a |y'|) / (a std y'),      r = max |f~(y) - f(y)| / max |y| >= u,

where r is the rounding error of this network on an image of this size, independent of a and b, and K is the largest
number in units of contrast, the factor by which digits are lost. Numbers below the normal numbers of the type also lose
digits, so its smallest normal number replaces a smaller max |x|.

r is measured: f~ is f in the same type with every operation rounded at random (Monte Carlo arithmetic, see
``monte_carlo``). For types coarser than float32, whose sums are computed in float32, f~ is f in float64 if it runs. r
is the largest difference over a few runs: random roundings of one y, or multiples of y. It does not depend on a
processor's order of summation. A fault that breaks the law, such as a bias, an epsilon, a wrong kernel sum, zero
padding, clipping or a coarser type inside, affects both runs in the same way and so does not increase r. Torch cannot
perturb operations inside functions such as ONNX files; for them, f~(y) is f at y with every pixel changed by a few u.
This does not measure the rounding inside, so it has a separate margin, ``GUESSED``.

The checks cover the following, and no more: a from 1e-3 to 1e3 with b / a and with b from -10 to 10; a up to 1e9 with b
up to 3e9; constants up to 1e9; a near the ends of the range of float64 and float32, at a distance of
``checks.RESERVE``, which leaves room for factors inside affine-constrained networks; images with sides of 1 to 521
pixels; tiles of 128.
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
DRAWS = 3  # draws of Monte Carlo arithmetic, in one batch; one if an image has more than MANY values
MANY = 2**11
MULTIPLES = (1.0, 5 / 6, 2 / 3)  # multiples of y to compare with float64; each is rounded differently
GUESSED = 16
NUDGE = 64  # change of a pixel in units of roundoff, if torch cannot perturb operations of the network
COARSEST = 0.5  # a larger tolerance would let everything pass; such (a, b) are skipped


class Precision(NamedTuple):
    """How a network runs: images and weights of ``dtype``, with autocast if ``autocast`` is given."""

    name: str
    dtype: torch.dtype
    autocast: torch.dtype | None = None

    @property
    def roundoff(self) -> float:
        """u, half the distance from 1 to the next number."""
        return torch.finfo(self.autocast or self.dtype).eps / 2


PRECISIONS = {name: Precision(name, getattr(torch, name)) for name in ('float64', 'float32', 'bfloat16', 'float16')}

Evaluate = Callable[[Tensor, float], Tensor]
"""f in one precision: maps images (N, C, H, W) and a, which scales a given noise level, to float64 on the CPU."""


class Point(NamedTuple):
    """The law at one (a, b) and size."""

    #: a, b: a = 0 stands for the constant image b
    a: float
    b: float
    size: tuple[int, int]  #: (H, W)
    #: defect, tolerance: in units of the contrast a std y; for constant images, of ``|b|``, or of 1 if b is 0
    defect: float
    tolerance: float
    change: float = float('nan')  #: max |f(a y + b) - f(y)| / std y: 0 for a network that normalizes without undoing it

    @property
    def holds(self) -> bool:
        """Whether the defect is a number within the tolerance."""
        return self.defect <= self.tolerance

    @property
    def excess(self) -> float:
        """Defect in units of the tolerance; infinite if the defect is NaN."""
        return self.defect / self.tolerance if self.defect == self.defect else float('inf')


class Runner(NamedTuple):
    """A network in one precision, with the rounding error r of the formulas above."""

    evaluate: Evaluate
    precision: Precision
    rounding: float = 0.0
    exact: Evaluate | None = None  #: f in float64, if r is the error against it
    how: str = ''  #: description of how r was measured

    def on(self, images: Sequence[Tensor]) -> 'Runner':
        """A copy with the largest r over ``images``, each (1, C, H, W)."""
        measured = [rounding(self, image) for image in images]
        finite = [r for r, _ in measured if r < float('inf')]  # neither infinite nor NaN
        return self._replace(rounding=max([self.precision.roundoff, *finite]), how=measured[-1][1])


def evaluator(network: Network, precision: Precision, device: str = 'cpu', sigma: float | None = None) -> Evaluate:
    """A copy of ``network`` in a precision; the network itself does not change.

    Args:
        sigma: noise level for non-blind networks, on the scale of y; for a y + b it is multiplied by a.
    """
    if isinstance(network, nn.Module):
        network = deepcopy(network).to(device, precision.dtype)

    def evaluate(images: Tensor, a: float = 1.0) -> Tensor:
        arguments: dict[str, Any] = {} if sigma is None else {'sigma': a * sigma}
        autocast = torch.autocast(torch.device(device).type, precision.autocast, enabled=precision.autocast is not None)
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)  # float32, not its products in 10 bits
        with torch.no_grad(), autocast, exact:
            # a copy, since a network may change its input
            output = network(images.to(device, precision.dtype, copy=True), **arguments)
        if not isinstance(output, Tensor):
            raise TypeError(f'the network must return one tensor; it returned a {type(output).__name__}')
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
    single = image.to(dtype).double()
    y = torch.cat([single] * (1 if single.numel() > MANY else DRAWS))  # a batch, if the network takes one
    try:
        output = _repeatably(runner.evaluate, y)
    except REFUSALS:
        y = single
        output = _repeatably(runner.evaluate, y)
    other = rounded_otherwise(lambda: _repeatably(runner.evaluate, y), dtype)
    if other is not None:
        return _r(runner, y, output, other), 'measured by Monte Carlo arithmetic'
    signs = torch.randint(0, 2, y.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    other = _repeatably(runner.evaluate, y * (1 + NUDGE * runner.precision.roundoff * signs))
    return _r(runner, y, output, output + (other - output) * GUESSED / NUDGE), 'guessed from perturbed pixels'


def _r(runner: Runner, y: Tensor, output: Tensor, other: Tensor) -> float:
    largest = float(y.abs().max())
    least = runner.precision.roundoff * max(largest, float(output.abs().max()))
    return max(float((other - output).abs().max()), least) / largest


def _repeatably(evaluate: Evaluate, y: Tensor) -> Tensor:
    """f(y) with fixed random numbers, so that dropout does not count as rounding."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(0)
        return evaluate(y, 1.0)


def law(runner: Runner, y: Tensor, a: float, b: float) -> Point | None:
    """Check the law for the image y (1, C, H, W) in float64, a > 0; None if the tolerance exceeds ``COARSEST``."""
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
    return Point(a, b, (y.shape[-2], y.shape[-1]), defect, tolerance, change)


def constant(runner: Runner, shape: Sequence[int], value: float) -> Point:
    """Check f(c) = c for a constant image of ``shape`` (1, C, H, W), relative to c; f(0) relative to 1."""
    x = torch.full(tuple(shape), value, dtype=torch.float64).to(runner.precision.dtype).double()
    c = float(x.flatten()[0])
    unit = abs(c) or 1.0
    defect = float((runner.evaluate(x, 0.0) - c).abs().max()) / unit
    return Point(0.0, value, (x.shape[-2], x.shape[-1]), defect, _tolerance(runner, unit, unit))


def agreement(runner: Runner, y: Tensor, first: Tensor, second: Tensor) -> Point:
    """Compare two results for the image y (1, C, H, W) that must be equal; NaN equals NaN."""
    contrast, defect = _contrast(y), float('inf')
    if first.shape == second.shape:
        difference = (first - second).abs().masked_fill(first.isnan() & second.isnan(), 0.0)
        defect = float(difference.max()) / contrast
    return Point(1.0, 0.0, (y.shape[-2], y.shape[-1]), defect, _tolerance(runner, float(y.abs().max()), contrast))


def _tolerance(runner: Runner, largest: float, unit: float) -> float:
    """The tolerance ``MARGIN`` r K for numbers up to ``largest`` and a contrast of ``unit``."""
    return MARGIN * runner.rounding * max(largest, torch.finfo(runner.precision.dtype).smallest_normal) / unit


def _contrast(y: Tensor) -> float:
    """The standard deviation; if it is 0, the largest value; if that is 0, 1."""
    deviation = float((y - y.flatten()[0]).std(correction=0))
    return deviation or float(y.abs().max()) or 1.0
