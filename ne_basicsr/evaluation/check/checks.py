"""The certificate of a network: one row for each check of the law (a, b, constants, sizes, batches, number types)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ne_basicsr.archs.network_inputs import REFUSALS
from ne_basicsr.data.image_store import FolderStore, decode
from ne_basicsr.evaluation.check import law as laws
from ne_basicsr.evaluation.check.law import PRECISIONS, Point, Precision, Runner, agreement, constant, evaluator
from ne_basicsr.inference.tiles import Tiled
from ne_basicsr.ops.center import center
from ne_basicsr.ops.equivariance import Network
from ne_basicsr.ops.noise import add_noise
from ne_basicsr.utils.errors import InputError, first_line
from ne_basicsr.utils.progress import progress
from ne_basicsr.utils.words import similar_path

Form = Callable[[Network], Network]
"""Another form of a network, such as compiled: maps the network to the function that is called instead."""

SCALES = (1e-3, 1e3)
SHIFTS = (-10.0, 10.0)
TILE, LARGE = 128, (24, 160)  # pixels: two tiles side by side
DRAWS = 4  # random (a, b) per range, in addition to its ends
LEVELS255 = (25, 5, 50, 12)  # of the noise of synthetic images
SIDE = 64  # of the centre crop of a user's image, to save time; equivariance does not depend on the size
CONSTANTS = (0.0, 1e-3, 0.1, 1 / 3, -7.3, 1234.567, -1e6, 1e9)
LARGE_PAIRS = ((1.0, 1e6), (1.0, -1e6), (1e9, 0.0), (1e9, -3e9))
# distance to the ends of a type's range: below for digits and small pixels, above for the network's factors
RESERVE = 1e8
SIZES = ((1, 1), (1, 9), (9, 1), (7, 13), (37, 53), (8, 521), (521, 8))
SIZE_PAIRS = ((0.01, 0.0), (3.0, -2.0), (100.0, 700.0))


class Row(NamedTuple):
    """One check."""

    name: str  #: short and fixed, for programs: ``scale``, ``shift``, ``size 7x13``, ``float16``, ...
    what: str  #: description for people
    points: tuple[Point, ...]  #: the measurements
    problem: str = ''  #: why the check did not run, or stopped
    must_run: bool = False  #: whether the network also fails if the check does not run

    @property
    def status(self) -> str:
        """``pass``, ``fail`` or ``not run``."""
        if not all(point.holds for point in self.points) or (self.problem and self.must_run):
            return 'fail'
        return 'not run' if self.problem or not self.points else 'pass'

    @property
    def worst(self) -> Point | None:
        """The point with the largest defect in units of its tolerance."""
        return max(self.points, key=lambda point: point.excess, default=None)


class Certificate(NamedTuple):
    """All rows."""

    rows: tuple[Row, ...]
    precision: str  #: number type of the rows without a type in their name: float64 if the network runs in it
    rounding: Mapping[str, str]  #: for each type, how the rounding for its tolerance was measured (``law``)

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)


def certify(
    network: Network,
    images: Sequence[Tensor],
    *,
    device: str = 'cpu',
    dtypes: Sequence[str] = tuple(PRECISIONS),
    sigma: float | None = None,
    forms: Mapping[str, Form] | None = None,
    on_row: Callable[[Row], object] = lambda row: None,
    shown: bool = False,
) -> Certificate:
    """Measure how well f(a y + b) = a f(y) + b holds. The network is copied; it and its training mode do not change.

    Args:
        network: f, (N, C, H, W) to (N, C', rH, rW).
        images: y, each (1, C, H, W) in float64, all of one shape, nominally on [0, 1] and not constant.
        device: where it runs.
        dtypes: number types to check, of ``PRECISIONS``. Rows without a type use the first one that runs.
        sigma: noise level for non-blind networks, on the [0, 1] scale. The law is then
            f(a y + b, a sigma) = a f(y, sigma) + b and f(c, 0) = c.
        forms: other forms of the network by name, which must obey the law and agree with the network.
        on_row: called with each row as soon as it is measured.
        shown: whether stderr shows the progress and the time left.

    Raises:
        InputError: if the network runs in none of the types.
    """
    checks = _Checks(network, images, device, sigma, forms or {})
    runners, refusals = checks.runners(dtypes)
    if not runners:
        raise InputError(
            f'the network does not run on images {"x".join(map(str, images[0].shape))} in any of'
            f' {", ".join(dtypes)}: {next(iter(refusals.values()))}'
        )
    rows: list[Row] = []
    with progress(len(runners) + len([*checks.steps(runners)]), 'Checking', 'step', shown) as bar:
        for name in runners:
            runners[name] = runners[name].on(images)
            bar.update()
        for step in checks.steps(runners):
            rows.append(step.measure())
            bar.update()
            on_row(rows[-1])
        for name, problem in refusals.items():
            rows.append(Row(name, name, (), problem))
            on_row(rows[-1])
    return Certificate(tuple(rows), next(iter(runners)), {name: each.how for name, each in runners.items()})


class _Step(NamedTuple):
    """A row to measure; ``must_ask``: a row without any (a, b) says why."""

    name: str
    what: str
    points: Iterator[Point]  # of a generator: they are measured when they are asked for
    must_run: bool = False
    must_ask: bool = False

    def measure(self) -> Row:
        points: list[Point] = []
        problem = ''
        try:
            for point in self.points:
                points.append(point)
        except REFUSALS as error:
            problem = first_line(error)
        if self.must_ask and not problem and not any(point.a for point in points):
            problem = 'too few digits: the rounding error of the network is as large as the contrast of the image'
        return Row(self.name, self.what, tuple(points), problem, self.must_run)


class _Checks(NamedTuple):
    """All checks, for the arguments of ``certify``."""

    network: Network
    images: Sequence[Tensor]
    device: str
    sigma: float | None
    forms: Mapping[str, Form]

    def runners(self, dtypes: Sequence[str]) -> tuple[dict[str, Runner], dict[str, str]]:
        """Runners for each type in which the network runs, autocast last, and the errors for the other types."""
        wanted = [PRECISIONS[name] for name in dtypes]
        half = 'float16' if torch.device(self.device).type == 'cuda' else 'bfloat16'  # the usual type of the device
        if {'float32', half} <= {*dtypes}:
            wanted.append(Precision(f'autocast {half}', torch.float32, PRECISIONS[half].dtype))
        double, single = PRECISIONS['float64'], PRECISIONS['float32']
        evaluators, refusals = {}, {}
        for precision in dict.fromkeys([*wanted, double]):  # float64 always, for comparison
            try:
                evaluate = evaluator(self.network, precision, self.device, self.sigma)
                evaluate(self.images[0], 1.0)
            except REFUSALS as error:
                refusals[precision] = first_line(error)
            else:
                evaluators[precision] = evaluate
        exact = evaluators.get(double)
        runners = {
            each.name: Runner(evaluators[each], each, exact=exact if each.roundoff > single.roundoff else None)
            for each in wanted
            if each in evaluators
        }
        return runners, {each.name: refusals[each] for each in wanted if each in refusals}

    def steps(self, runners: Mapping[str, Runner]) -> Iterator[_Step]:
        """The rows to measure, in order."""
        first, *others = runners.values()
        images, shape = self.images, self.images[0].shape
        yield _Step('repeat', 'f(y) twice', self.repeated(first), must_run=True)
        for name, what, pairs in _ranges():
            yield _Step(name, what, _laws(first, images, pairs), must_run=True, must_ask=name == 'scale')
        yield _Step('large numbers', 'f(a y + b), a, b to 1e9', _laws(first, images, LARGE_PAIRS))
        for runner in runners.values():
            name, info = runner.precision.name, torch.finfo(runner.precision.dtype)
            if name in (
                'float64',
                'float32',
            ):  # near the smallest normal and the largest number, and their square roots
                suffix = '' if runner is first else f' {name}'
                least, most = info.smallest_normal * RESERVE, info.max / RESERVE
                ends = _laws(runner, images, [(a, 0.0) for a in (least, least**0.5, most**0.5, most)])
                yield _Step(f'extreme scale{suffix}', f'f(a y), ends of {name}', ends, must_run=True)
        constants = (constant(first, shape, value) for value in CONSTANTS)
        yield _Step('constants', 'f(c), constant images', constants, must_run=True)
        yield _Step('batch', 'f(y) beside other images', self.beside_others(first))
        for height, width in SIZES:
            small, size = synthetic_images(shape[1], (height, width), count=1), f'{height}x{width}'
            yield _Step(f'size {size}', f'{size} pixels', _laws(first, small, SIZE_PAIRS, measured=False))
        for name, form in self.forms.items():
            yield _Step(name, name, self.in_form(form, first))
        if isinstance(self.network, nn.Module):
            yield _Step('tiles', f'in tiles of {TILE} pixels', self.in_tiles(self.network, first))
        for runner in others:
            yield _Step(runner.precision.name, runner.precision.name, self.in_type(runner), must_ask=True)

    def repeated(self, runner: Runner) -> Iterator[Point]:
        y = self.images[0]
        yield agreement(runner, y, runner.evaluate(y, 1.0), runner.evaluate(y, 1.0))

    def beside_others(self, runner: Runner) -> Iterator[Point]:
        """Compare each image alone with the same image in a batch of other contrast, brightness, and a constant one."""
        y, neighbour = self.images[0], self.images[-1]
        batch = torch.cat([y, 100 * neighbour - 30, torch.full_like(y, 0.25), 0.01 * neighbour + 2])
        together = runner.evaluate(batch, 1.0)
        for number, image in enumerate(batch.split(1)):
            yield agreement(runner, image, together[number : number + 1], runner.evaluate(image, 1.0))

    def in_form(self, form: Form, runner: Runner) -> Iterator[Point]:
        """The law for the form, and its agreement with the network itself."""
        evaluate, y = evaluator(form(self.network), runner.precision, self.device, self.sigma), self.images[0]
        formed = runner._replace(evaluate=evaluate, exact=None).on([y])
        yield agreement(formed, y, evaluate(y, 1.0), runner.evaluate(y, 1.0))
        yield from _laws(formed, self.images, SIZE_PAIRS)

    def in_tiles(self, network: nn.Module, runner: Runner) -> Iterator[Point]:
        """The law in tiles, and agreement with the whole image if tiles cover the receptive field."""
        (y,) = synthetic_images(self.images[0].shape[1], LARGE, count=1)
        own = next(network.parameters(), torch.empty(0))
        plan = Tiled(deepcopy(network).to(device=self.device, dtype=own.dtype), TILE).plan(y.shape[1])
        evaluate = evaluator(Tiled(network, TILE), runner.precision, self.device, self.sigma)
        tiled = runner._replace(evaluate=evaluate, exact=None).on([y])
        if plan.exact:
            yield agreement(tiled, y, evaluate(y, 1.0), runner.evaluate(y, 1.0))
        yield from _laws(tiled, [y], SIZE_PAIRS[1:2])

    def in_type(self, runner: Runner) -> Iterator[Point]:
        """The law in another number type, for (a, b) where the type has enough digits for a y + b."""
        scales, shifts = (0.3, 1e-3, 0.03, 1.0, 30.0, 1e3), (0.0, 0.0, -1.0, 0.5, -10.0, 3.0)
        pairs = [(a, a * b) for a, b in zip(scales, shifts, strict=True)] + [(1e-3, 0.25), (100.0, 0.25)]
        yield from _laws(runner, self.images, pairs)
        yield constant(runner, self.images[0].shape, 0.0)
        yield constant(runner, self.images[0].shape, 0.1)


def _ranges() -> list[tuple[str, str, list[tuple[float, float]]]]:
    """(name, description, pairs (a, b)): the ends of each range and random draws between, log-uniform for a."""
    generator = torch.Generator().manual_seed(0)

    def drawn(low: float, high: float) -> list[float]:
        return (low + (high - low) * torch.rand(DRAWS, generator=generator, dtype=torch.float64)).tolist()

    low, high = (torch.tensor(end, dtype=torch.float64).log10().item() for end in SCALES)
    scales = [*SCALES, *(10**exponent for exponent in drawn(low, high))]
    shifts = [*SHIFTS, *drawn(*SHIFTS)]
    mixed = list(zip(scales, reversed(shifts), strict=True))
    return [
        ('scale', 'f(a y), a {:g} to {:g}'.format(*SCALES), [(a, 0.0) for a in scales]),
        ('shift', 'f(y + b), b {:g} to {:g}'.format(*SHIFTS), [(1.0, b) for b in shifts]),
        ('scale and shift', 'f(a (y + b)), both', [(a, a * b) for a, b in mixed]),
        ('fixed shift', 'f(a y + b), both', [*mixed, (SCALES[0], SHIFTS[1])]),
    ]


def _laws(
    runner: Runner, images: Sequence[Tensor], pairs: Sequence[tuple[float, float]], measured: bool = True
) -> Iterator[Point]:
    """Points at the pairs; ``measured``: whether the rounding of ``runner`` is that of these images."""
    runner = runner if measured else runner.on(images)
    asked = (laws.law(runner, images[number % len(images)], a, b) for number, (a, b) in enumerate(pairs))
    yield from (point for point in asked if point is not None)


# -- images ------------------------------------------------------------------------------------------------------------


def synthetic_images(channels: int, size: tuple[int, int], count: int = 4) -> list[Tensor]:
    """Images with shading, edges and texture, like natural ones, each with a different level of Gaussian noise.

    Returns:
        ``count`` images (1, channels, H, W) in float64, nominally on [0, 1], the same on every call.
    """
    images = []
    rows, columns = (torch.linspace(-1, 1, side, dtype=torch.float64) for side in size)
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        coarse = torch.rand(1, channels, 3, 4, generator=generator, dtype=torch.float64)
        image = 0.6 * F.interpolate(coarse, size, mode='bicubic', align_corners=False)
        for _ in range(6):  # overlapping discs
            row, column, radius, shade, waves = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
            inside = (rows[:, None] - 2 * row + 1) ** 2 + (columns - 2 * column + 1) ** 2 < (0.2 + 0.5 * radius) ** 2
            texture = 0.1 * torch.sin(20 * waves * rows[:, None] + 25 * columns)
            image = torch.where(inside, 0.1 + 0.7 * shade + texture, image)
        images.append(add_noise(image, LEVELS255[number % len(LEVELS255)] / 255, seed=number))
    return images


def read_images(folder: Path, channels: int, count: int = 4) -> list[Tensor]:
    """The centres, at most ``SIDE`` pixels wide and high, of the first ``count`` images in a folder, unchanged.

    (1, channels, H, W) in float64 on [0, 1]; an ``InputError`` where there are none, or one cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f'{folder}: no such folder of images{similar_path(folder)}')
    if channels not in (1, 3):
        raise InputError(
            f'{folder}: images are gray or RGB, but the network takes {channels} channels; leave out --images'
        )
    store = FolderStore(folder)
    images = (decode(store.read(name), channels, name) for name in store.names[:count])
    return [center(torch.from_numpy(image).double().permute(2, 0, 1)[None], SIDE) for image in images]
