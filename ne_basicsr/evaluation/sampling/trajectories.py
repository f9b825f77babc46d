"""Trajectories of the sampler: measures of every step, a row for each trajectory, aggregates for tables."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ne_basicsr.evaluation.report.page import display_pixels
from ne_basicsr.evaluation.sampling.projectors import (
    Projector,
)
from ne_basicsr.evaluation.sampling.sampler import DIVERGED, Noise, Schedule, State, start, walk
from ne_basicsr.metrics.quality import SSIM_WINDOW, psnr, psnr_clamped, ssim
from ne_basicsr.utils.errors import InputError

FRAMES = 96  # of a film, at most


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
