"""Noise: its distributions, the seeds of its draws, and the levels of a training.

Sigma is on the [0, 1] scale of the images here; eight-bit values (``sigma255``) come from option files and are
converted once, in ``TrainingNoise.from_options``.
"""

import hashlib
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from ne_basicsr.ops import jpeg, noise_kinds
from ne_basicsr.ops.noise_kinds import Kernel

Shape = Sequence[int]


def gaussian(shape: Shape, generator: Generator) -> Tensor:
    """N(0, 1), of any shape, in float32 on the generator's device."""
    return torch.randn(shape, generator=generator, device=generator.device)


def uniform(shape: Shape, generator: Generator) -> Tensor:
    """U(-sqrt(3), sqrt(3)), of any shape, in float32 on the generator's device. Standard deviation 1."""
    return (2 * torch.rand(shape, generator=generator, device=generator.device) - 1) * math.sqrt(3)


def laplace(shape: Shape, generator: Generator) -> Tensor:
    """Laplace(0, 1) / sqrt(2): a random sign times an exponential. Of any shape, in float32, standard deviation 1."""
    magnitude = torch.empty(shape, device=generator.device).exponential_(generator=generator)
    sign = torch.empty(shape, device=generator.device).bernoulli_(0.5, generator=generator).mul_(2).sub_(1)
    return sign * magnitude / math.sqrt(2)


def rayleigh(shape: Shape, generator: Generator) -> Tensor:
    """Rayleigh(1) / sqrt((4 - pi) / 2), of any shape, in float32. Standard deviation 1.

    Not recentred, as published: it brightens the image by 1.91 sigma.
    """
    radius = torch.empty(shape, device=generator.device).exponential_(generator=generator).mul_(2).sqrt_()
    return radius / math.sqrt((4 - math.pi) / 2)


UNIT_NOISE: dict[str, Callable[[Shape, Generator], Tensor]] = {
    'gaussian': gaussian,
    'uniform': uniform,
    'laplace': laplace,
    'rayleigh': rayleigh,
}


def seed_of(*parts: str | int | float) -> int:
    """A 63-bit seed that depends on ``parts`` alone: equal parts, equal noise; any other part, independent noise."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'big') >> 1


def add_noise(clean: Tensor, sigma: float, kind: str = 'gaussian', *, seed: int) -> Tensor:
    """``clean`` plus noise, of the same shape, not clipped; the same on every device, since it is drawn on the CPU.

    Args:
        clean: an image or images of any shape, on [0, 1].
        sigma: standard deviation of the noise on the [0, 1] scale.
        kind: one of ``UNIT_NOISE``.
        seed: see ``seed_of``.
    """
    noise = UNIT_NOISE[kind](clean.shape, Generator().manual_seed(seed))
    return clean + sigma * noise.to(clean)


class LevelRange(NamedTuple):
    """Every noise level from ``low`` to ``high`` in 8-bit units, where a list would be these levels alone."""

    low: float
    high: float


Training = Sequence[float | LevelRange]
"""Noise levels of a training in 8-bit units, and ranges of them; a ``LevelRange`` itself is one range."""


def parts_of(training: Training) -> list[float | LevelRange]:
    """Its levels and ranges, once each, in increasing order, levels first."""
    parts = {training} if isinstance(training, LevelRange) else set(training)
    return sorted(parts, key=lambda part: (isinstance(part, tuple), part if isinstance(part, tuple) else (part,)))


class TrainingNoise(NamedTuple):
    """The noise, or JPEG compression, or both, that clean crops get during training."""

    kind: str  # one of ``QUANTILE`` and ``FURTHER``; ``jpeg``, which is no noise; or ``mixture``
    # how each image gets its level: ``constant``, ``random`` (uniform between two values), ``choice``, or ``varying``
    # (a map over the image, smooth and between two values)
    sigma_type: str
    # one value, the two bounds, or the list to choose from, on the [0, 1] scale; none with ``jpeg``
    sigmas: tuple[float, ...]
    qualities: tuple[int, ...] = ()  # JPEG's quality factors to choose from, 1 to 100; after the noise, if there is any
    photons: tuple[float, ...] = ()  # with ``poisson_gaussian``: one value, or two bounds of a draw by equal ratios
    kernel: Kernel = ()  # with ``correlated``
    parts: 'tuple[tuple[float, TrainingNoise], ...]' = ()  # of a mixture: weights and noises; each image gets one

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> 'TrainingNoise | None':
        """From a training set's ``noise: {type, sigma255, ...}``, or Restormer's ``sigma_type, sigma_range``.

        JPEG is ``noise: {type: jpeg, quality}``, a factor or a list of them. None where there is neither: pairs are
        noisy already.
        """
        noise = options.get('noise') or {}
        if not noise and options.get('sigma_range') is None:
            return None
        kind, qualities = noise.get('type', 'gaussian'), _listed(noise.get('quality'))
        if kind in ('jpeg', 'mixture'):
            parts = [(each.get('weight', 1.0), cls.from_options({'noise': each})) for each in noise.get('of', ())]
            return cls(kind, 'choice', (), qualities, parts=tuple((weight, part) for weight, part in parts if part))
        sigma_type = noise.get('sigma_type', options.get('sigma_type', 'constant'))
        levels = tuple(level / 255 for level in _listed(noise.get('sigma255', options.get('sigma_range'))))
        kernel = noise_kinds.kernel_of(noise.get('kernel') or 1.0) if kind == 'correlated' else ()
        return cls(kind, sigma_type, levels, qualities, _listed(noise.get('photons')), kernel)

    @property
    def traits(self) -> frozenset[str]:
        """Of ``noise_kinds.TRAITS``, what the noise of some images has."""
        own = {
            'correlation': self.kind in noise_kinds.DEPENDENT or bool(self.qualities),
            'brightness': self.kind in noise_kinds.BY_BRIGHTNESS,
            'place': self.sigma_type == 'varying',
        }
        return frozenset(trait for trait, has in own.items() if has).union(*(part.traits for _, part in self.parts))

    def add(self, clean: Tensor, seeds: Sequence[int], levels_of: Sequence[int] | None = None) -> Tensor:
        """Noisy copies of ``clean``, (N, C, H, W) on [0, 1], not clipped, on its device; each from its seed alone.

        JPEG runs on the CPU, image by image, and waits for the device.

        Args:
            levels_of: the seeds that levels are drawn from, where they are not those of the noise.
        """
        sources = seeds if levels_of is None else levels_of
        assert len(clean) == len(seeds) == len(sources), 'each image has its seed'
        if self.parts:
            weights, noises = zip(*self.parts, strict=True)
            draws = [random.Random(seed_of(seed, 'mixture')) for seed in sources]
            chosen, noisy = [draw.choices(range(len(noises)), weights)[0] for draw in draws], torch.empty_like(clean)
            for number, noise in enumerate(noises):
                if own := [place for place, each in enumerate(chosen) if each == number]:
                    at = torch.tensor(own).to(clean.device, non_blocking=True)
                    noisy[at] = noise.add(clean[at], [seeds[i] for i in own], [sources[i] for i in own])
            return noisy
        levels = [self._level(seed) for seed in sources]
        both = torch.tensor(levels, dtype=torch.float64)[:, :2].to(clean.device, non_blocking=True)
        sigmas, photons = both.T[..., None, None, None]
        sigmas = sigmas.float()
        if self.sigma_type == 'varying' and self.sigmas:
            (low, high), maps = self.sigmas, [seed_of(seed, 'map') for seed in sources]
            sigmas = noise_kinds.level_maps(low, high, maps, clean.shape[2:], clean.device)
        noisy = clean
        if self.kind != 'jpeg':
            noisy = noise_kinds.noisy(self.kind, clean, sigmas, seeds, photons, self.kernel)
        if self.qualities:
            pairs = zip(noisy.cpu(), levels, strict=True)
            noisy = torch.stack([jpeg.compress(image, int(level[2])) for image, level in pairs]).to(clean.device)
        return noisy

    def levels(self, seeds: Sequence[int]) -> list[float]:
        """The standard deviation (on the [0, 1] scale), or the quality factor, of the image with each seed."""
        return [self._level(seed)[2 if self.kind == 'jpeg' else 0] for seed in seeds]

    def _level(self, seed: int) -> tuple[float, float, float]:
        """Standard deviation, photons and quality factor of an image, 0 where it has none."""
        draw, sigma, photons = random.Random(seed), next(iter(self.sigmas), 0.0), 0.0
        if self.sigma_type == 'random' and self.sigmas:
            sigma = draw.uniform(*self.sigmas)
        elif self.sigma_type == 'choice' and self.sigmas:
            sigma = draw.choice(self.sigmas)
        if self.photons:
            photons = self.photons[0] * (self.photons[-1] / self.photons[0]) ** draw.random()
        return sigma, photons, draw.choice(self.qualities) if self.qualities else 0.0


def _listed(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, Sequence) else (value,)
