"""The sampler of Kadkhodaie and Simoncelli, Algorithm 1 of the WNE paper: small steps along the residual of a denoiser.

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
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ne_basicsr.evaluation.sampling.projectors import (
    Projector,
)
from ne_basicsr.inference.denoiser import as_denoiser
from ne_basicsr.ops.noise import seed_of
from ne_basicsr.ops.padding import widen
from ne_basicsr.utils.errors import InputError

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
