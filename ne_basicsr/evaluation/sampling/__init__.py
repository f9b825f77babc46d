"""Sampling with a denoiser as the prior: inpainting and other linear inverse problems, and denoising in small steps.

The sampler of Kadkhodaie and Simoncelli, Algorithm 1 of the WNE paper, takes small steps along the denoiser's residual.

With D the denoiser, P the projector on what was measured, d the number of values of the image, z white Gaussian noise,

    y_0 = P x + 0.5 (I - P) 1 + sigma_0 z
    for t = 1, 2, ..., T:
        u         = (I - P) (D(y) - y) + P x - P y        (= P x + (I - P) D(y) - y)
        sigma     = ||u|| / sqrt(d);  stop where sigma <= sigma_L
        h         = h_0 t / (1 + h_0 (t - 1))
        gamma^2   = ((1 - beta h)^2 - (1 - h)^2) sigma^2
        y         = y + h u + gamma z
    result: P x + (I - P) y.

A step takes the share h of the noise away and puts so much new noise in that beta h of it is gone in the end: beta 1
adds none and walks straight to an image, a small beta wanders. A denoiser that works at one level only cannot be
relied on to walk down through all the others.

Reference: Kadkhodaie and Simoncelli, Stochastic solutions for linear inverse problems using the prior implicit in a
denoiser, NeurIPS 2021; Saied and Fleuret, ICML 2026.

Measurements are ``projectors``. For command lines: ``tasks`` by name, a ``session`` of networks over images, its
``outputs``.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ne_basicsr.evaluation.report.page import display_pixels
from ne_basicsr.evaluation.sampling.projectors import (
    BlockMeans,
    LowPass,
    Nothing,
    Pixels,
    Projector,
    around_hole,
    low_frequencies,
    random_pixels,
)
from ne_basicsr.inference.denoiser import as_denoiser
from ne_basicsr.metrics.quality import SSIM_WINDOW, psnr, psnr_clamped, ssim
from ne_basicsr.ops.noise import seed_of
from ne_basicsr.ops.padding import widen
from ne_basicsr.utils.errors import InputError

__all__ = [
    'RESIDUAL_STOPPED', 'SAMPLING', 'BlockMeans', 'LowPass', 'Noise', 'Nothing', 'Pixels', 'Projector', 'Quality',
    'Record', 'Schedule', 'Spread', 'State', 'Trajectory', 'aggregate', 'around_hole', 'low_frequencies',
    'random_pixels', 'sample', 'start', 'summarize', 'walk',
]  # fmt: skip

FRAMES = 96  # of a film, at most
CONVERGED, UNFINISHED, DIVERGED = 'converged', 'unfinished', 'diverged'
FARTHEST = 10.0  # sigma, in units of what a sampler starts with, of an image that does not come back


class Schedule(NamedTuple):
    """The constants of Algorithm 1; sigmas are on the [0, 1] scale of the images.

    Raises (``check``):
        InputError: for values that the algorithm has no meaning for.
    """

    sigma_start: float = 1.0
    sigma_stop: float = 0.01
    h0: float = 0.01
    beta: float = 0.01
    max_steps: int = 1000

    def check(self) -> 'Schedule':
        """Itself, where its values make sense."""
        rules = {
            'sigma_start is 0 or more': self.sigma_start >= 0,
            'sigma_stop is above 0': self.sigma_stop > 0,
            'h0 is above 0 and at most 1': 0 < self.h0 <= 1,
            'beta is above 0 and at most 1': 0 < self.beta <= 1,
            'max_steps is 1 or more': self.max_steps >= 1,
        }
        for rule, holds in rules.items():
            name = rule.split()[0]
            if not holds or not math.isfinite(getattr(self, name)):
                raise InputError(f'schedule: {rule}; got {getattr(self, name):g}')
        return self

    def step_size(self, step: int) -> float:
        """h of step 1, 2, ...: from h_0 towards 1."""
        return self.h0 * step / (1 + self.h0 * (step - 1))

    def gamma(self, h: float, sigma: float) -> float:
        """Deviation of the noise that a step adds."""
        return math.sqrt(max(0.0, (1 - self.beta * h) ** 2 - (1 - h) ** 2)) * sigma


SAMPLING = Schedule()
"""Inpainting and the other constrained tasks of the paper."""

RESIDUAL_STOPPED = Schedule(sigma_start=10 / 255, sigma_stop=1 / 255, beta=1.0)
"""Denoising in small steps without new noise."""


class State(NamedTuple):
    """One image of the batch after ``step`` steps."""

    number: int  #: which of the batch
    step: int
    y: Tensor  #: P x + (I - P) y, (C, H, W): the result if one stopped here
    denoised: Tensor  #: P x + (I - P) D(y), (C, H, W); at step 0 this is what one pass of the denoiser makes
    sigma: float  #: ||u|| / sqrt(d), what the denoiser finds left in y
    #: h, gamma: of the step that led here; None at step 0
    h: float | None
    gamma: float | None
    #: None while it goes on; at the last state of an image ``converged`` (sigma <= sigma_L), ``unfinished`` (no steps
    #: left) or ``diverged`` (sigma is not finite, or is ten times what it may be at the start)
    outcome: str | None


class Noise:
    """White Gaussian noise, an own stream for each image: it depends on ``seed`` and the image's name alone.

    Drawn on the CPU in float32, the same for every device.
    """

    def __init__(self, names: Sequence[str], seed: int) -> None:
        self._generators = [torch.Generator().manual_seed(seed_of('sampling noise', seed, name)) for name in names]

    def draw(self, numbers: Sequence[int], like: Tensor) -> Tensor:
        """The next noise of some of the images, (n, C, H, W), in the shape and type of ``like`` and where it is."""
        return torch.stack([torch.randn(like.shape[1:], generator=self._generators[n]) for n in numbers]).to(like)


def start(x: Tensor, projector: Projector, schedule: Schedule, noise: Noise) -> Tensor:
    """y_0 = P x + 0.5 (I - P) 1 + sigma_0 z."""
    grey = projector.meet(torch.full_like(x, 0.5), projector(x))
    return grey + schedule.sigma_start * noise.draw(range(len(x)), x)


def walk(
    denoiser: Callable[..., Tensor],
    y: Tensor,
    measured: Tensor,
    projector: Projector,
    schedule: Schedule,
    noise: Noise,
) -> Iterator[list[State]]:
    """Algorithm 1 for a batch, image by image as if each were alone: the states of those that are on the way.

    Args:
        denoiser: D, (N, C, H, W) to the same shape; a ``Denoiser``, a module or a function. A non-blind one is told
            sigma_0 at first, then (1 - beta h) sigma, N values.
        y: y_0, (N, C, H, W), see ``start``; for denoising the noisy images.
        measured: P x, (N, C, H, W).

    Yields:
        The states after 0, 1, 2, ... steps, one for each image that had not ended before.

    Raises:
        InputError: for a denoiser that returns another shape than it is given.
    """
    schedule.check()
    denoiser = as_denoiser(denoiser)
    numbers = list(range(len(y)))
    limit = FARTHEST * max(1.0, schedule.sigma_start)
    level = y.new_full((len(y),), schedule.sigma_start)
    h: float | None = None
    gammas: list[float | None] = [None] * len(y)
    for step in range(schedule.max_steps + 1):
        with torch.no_grad():
            output = denoiser.denoise(y, denoiser.needed(level))
        denoised = projector.meet(output.to(y.dtype), measured)
        u = denoised - y
        sigmas = widen(u).square().mean(dim=(1, 2, 3)).sqrt().tolist()
        outcomes: list[str | None] = [UNFINISHED if step == schedule.max_steps else None] * len(sigmas)
        for i, sigma in enumerate(sigmas):
            if not math.isfinite(sigma) or sigma > limit:
                outcomes[i] = DIVERGED
            elif sigma <= schedule.sigma_stop:
                outcomes[i] = CONVERGED
        result = projector.meet(y, measured)
        yield [
            State(number, step, result[i], denoised[i], sigmas[i], h, gammas[i], outcomes[i])
            for i, number in enumerate(numbers)
        ]
        going = [i for i, outcome in enumerate(outcomes) if outcome is None]
        if not going:
            return
        if len(going) < len(numbers):
            numbers = [numbers[i] for i in going]
            y, u, measured, projector = y[going], u[going], measured[going], projector.take(going)
            sigmas = [sigmas[i] for i in going]
        h = schedule.step_size(step + 1)
        gammas = [schedule.gamma(h, sigma) for sigma in sigmas]
        level = y.new_tensor([(1 - schedule.beta * h) * sigma for sigma in sigmas])
        y = y + h * u
        if schedule.beta < 1:
            y = y + y.new_tensor(gammas).view(-1, 1, 1, 1) * noise.draw(numbers, y)


class Quality(NamedTuple):
    """Against the clean image: PSNR in dB, see ``quality_of``; SSIM, None for images smaller than its window."""

    psnr: float
    ssim: float | None


class Record(NamedTuple):
    """One step, see ``sampler.State``; ``psnr`` and ``ssim`` are None where there is nothing to compare with."""

    step: int
    h: float | None
    sigma: float
    gamma: float | None
    psnr: float | None
    ssim: float | None


@dataclass
class Trajectory:
    """The walk of one image; images are (C, H, W) on the CPU."""

    image: str
    draw: int
    outcome: str  #: ``converged``, ``unfinished`` or ``diverged``
    records: list[Record]
    observed: Tensor  #: P x, or the noisy image where the walk starts from one
    one_pass: Tensor  #: P x + (I - P) D(y_0)
    result: Tensor  #: P x + (I - P) y at the end; of a walk that diverged, the last that was finite
    observed_quality: Quality | None
    one_pass_quality: Quality | None
    #: the step and the image, 8-bit (H, W) or (H, W, 3), at steps of equal distance; empty unless wanted
    frames: list[tuple[int, NDArray[np.uint8]]]

    def see(self, state: State, clean: Tensor | None, with_frames: bool) -> None:
        """Add the next state."""
        y, self.outcome = state.y.cpu(), state.outcome or ''
        if not self.records:
            self.one_pass = state.denoised.cpu()
            self.one_pass_quality = quality_of(self.one_pass, clean)
        if not self.records or state.outcome != DIVERGED or bool(y.isfinite().all()):
            self.result = y
        quality = quality_of(y, clean) or (None, None)
        self.records.append(Record(state.step, state.h, state.sigma, state.gamma, *quality))
        stride = self.frames[1][0] if len(self.frames) > 1 else 1
        if with_frames and (state.step % stride == 0 or state.outcome):
            self.frames.append((state.step, display_pixels(y)))
            if len(self.frames) > FRAMES and not state.outcome:
                self.frames = [frame for frame in self.frames if frame[0] % (2 * stride) == 0]


def sample(
    denoiser: Callable[..., Tensor],
    x: Tensor,
    projector: Projector,
    schedule: Schedule,
    names: Sequence[str],
    *,
    seed: int = 0,
    draw: int = 0,
    from_noisy: bool = False,
    has_reference: bool = True,
    with_frames: bool = False,
    on_step: Callable[[int], object] = lambda count: None,
) -> list[Trajectory]:
    """Algorithm 1 (``sampler``) for images of one size: a trajectory for each.

    Args:
        denoiser: D, in eval mode, on the device of ``x``; see ``walk``.
        x: clean images (N, C, H, W) on [0, 1].
        projector: P; the sampler depends on x only by P x, unless ``from_noisy``.
        names: of the images; the noise of an image depends on (seed, draw, name) alone, whatever else is in the batch.
        from_noisy: start from y_0 = x + sigma_0 z, which is residual-stopped denoising with P = 0 and beta = 1.
        has_reference: whether PSNR and SSIM against x are measured.
        with_frames: keep up to 96 images of each walk.
        on_step: called with the number of steps that are done or are no longer needed.

    Raises:
        InputError: unless there is a name for each image; see ``walk``, too.
    """
    if isinstance(names, str) or len(names) != len(x):
        raise InputError(f'sample needs a list of names, one for each image; got {names!r} for {len(x)}')
    noise = Noise([f'{name} draw {draw}' for name in names], seed)
    measured = projector(x)
    y = x + schedule.sigma_start * noise.draw(range(len(x)), x) if from_noisy else start(x, projector, schedule, noise)
    observed = (y if from_noisy else measured).cpu()
    references: list[Tensor | None] = [*x.cpu()] if has_reference else [None] * len(x)
    trajectories = [
        Trajectory(name, draw, '', [], image, image, image, quality_of(image, clean, psnr), None, [])
        for name, image, clean in zip(names, observed, references, strict=True)
    ]
    for states in walk(denoiser, y, measured, projector, schedule, noise):
        for state in states:
            trajectories[state.number].see(state, references[state.number], with_frames)
            left = schedule.max_steps - state.step
            on_step(int(state.step > 0) + (left if state.outcome else 0))
    return trajectories


def quality_of(
    image: Tensor, clean: Tensor | None, measure: Callable[[Tensor, Tensor], float] = psnr_clamped
) -> Quality | None:
    """PSNR and SSIM of (C, H, W); None without ``clean``. NaN where the image is not finite.

    As in the paper's tables, PSNR is that of the image clamped to [0, 1]; what was observed is an input and is taken as
    it is: ``measure`` is ``psnr`` then.
    """
    if clean is None:
        return None
    if not bool(image.isfinite().all()):
        return Quality(math.nan, math.nan)
    fits = min(clean.shape[-2:]) >= SSIM_WINDOW
    return Quality(measure(image, clean), ssim(image, clean) if fits else None)


# -- rows and tables ---------------------------------------------------------------------------------------------------

Row = dict[str, Any]

MEASURES = (
    'observed_psnr', 'observed_ssim', 'one_pass_psnr', 'one_pass_ssim', 'best_psnr', 'best_step', 'final_psnr',
    'final_ssim', 'gap', 'steps', 'final_sigma',
)  # fmt: skip


def summarize(network: str, trajectory: Trajectory) -> Row:
    """A row for a trajectory, ``network, image, draw, outcome`` and ``MEASURES``.

    one pass: P x + (I - P) D(y_0). best: the highest PSNR of the walk and its step. gap = final - best. Empty (None)
    where there is nothing to compare with; of a walk that diverged, all but what was observed and the one pass.
    """
    row: Row = {'network': network, 'image': trajectory.image, 'draw': trajectory.draw, 'outcome': trajectory.outcome}
    row |= dict.fromkeys(MEASURES)
    for name, quality in (('observed', trajectory.observed_quality), ('one_pass', trajectory.one_pass_quality)):
        if quality is not None:
            row |= {f'{name}_psnr': quality.psnr, f'{name}_ssim': quality.ssim}
    if trajectory.outcome == DIVERGED:
        return row
    last = trajectory.records[-1]
    row |= {'steps': last.step, 'final_sigma': last.sigma}
    scored = [record for record in trajectory.records if record.psnr is not None]
    if scored:
        best = max(scored, key=lambda record: record.psnr or 0.0)
        row |= {'best_psnr': best.psnr, 'best_step': best.step, 'final_psnr': last.psnr, 'final_ssim': last.ssim}
        row['gap'] = (last.psnr or 0.0) - (best.psnr or 0.0)
    return row


class Spread(NamedTuple):
    """Mean, standard deviation (n - 1; None of a single value) and number of the values."""

    mean: float
    deviation: float | None
    number: int


def aggregate(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Spread | None]:
    """Tables 11 and 12: every measure over the images and draws of a network; None where nothing was measured."""
    found: dict[str, Spread | None] = dict.fromkeys(MEASURES)
    for name in MEASURES:
        if values := [row[name] for row in summaries if row[name] is not None and math.isfinite(row[name])]:
            deviation = statistics.stdev(values) if len(values) > 1 else None
            found[name] = Spread(statistics.fmean(values), deviation, len(values))
    return found
