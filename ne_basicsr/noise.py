"""Noise models: unit-deviation noise of each kind, seeds that depend on what the noise is for, and training levels.

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

Shape = Sequence[int]


def gaussian(shape: Shape, generator: Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)


def uniform(shape: Shape, generator: Generator) -> Tensor:
    """U(-sqrt(3), sqrt(3))."""
    return (2 * torch.rand(shape, generator=generator, device=generator.device) - 1) * math.sqrt(3)


def laplace(shape: Shape, generator: Generator) -> Tensor:
    """Laplace(0, 1) / sqrt(2): a random sign times an exponential."""
    magnitude = torch.empty(shape, device=generator.device).exponential_(generator=generator)
    sign = torch.empty(shape, device=generator.device).bernoulli_(0.5, generator=generator).mul_(2).sub_(1)
    return sign * magnitude / math.sqrt(2)


def rayleigh(shape: Shape, generator: Generator) -> Tensor:
    """Rayleigh(1) / sqrt((4 - pi) / 2). Not recentred, as published: it brightens the image by 1.91 sigma."""
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
    """``clean`` plus noise of deviation ``sigma``, not clipped; the same on every device, since it is drawn on the CPU.

    Args:
        clean: an image or images of any shape, on [0, 1].
        sigma: standard deviation on the [0, 1] scale.
        kind: one of ``UNIT_NOISE``.
        seed: see ``seed_of``.
    """
    noise = UNIT_NOISE[kind](clean.shape, Generator().manual_seed(seed))
    return clean + sigma * noise.to(clean)


class TrainingNoise(NamedTuple):
    """What is added to clean crops during training.

    Args:
        kind: one of ``UNIT_NOISE``.
        sigma_type: how each image gets its sigma: ``constant``, ``random`` (uniform between two values) or ``choice``.
        sigmas: one value, the two bounds, or the list to choose from, on the [0, 1] scale.
    """

    kind: str
    sigma_type: str
    sigmas: tuple[float, ...]

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> 'TrainingNoise':
        """From a training set's ``noise: {type, sigma_type, sigma255}``, or Restormer's ``sigma_type, sigma_range``."""
        noise = options.get('noise') or {}
        sigma_type = noise.get('sigma_type', options.get('sigma_type', 'constant'))
        levels = noise.get('sigma255', options.get('sigma_range'))
        levels = levels if isinstance(levels, Sequence) else [levels]
        return cls(noise.get('type', 'gaussian'), sigma_type, tuple(level / 255 for level in levels))

    def add(self, clean: Tensor, seeds: Sequence[int]) -> Tensor:
        """Noisy copies of ``clean`` (N, C, H, W), drawn on its device, each from its own seed and no other state."""
        generator = Generator(clean.device)
        unit_noise = UNIT_NOISE[self.kind]
        noise = torch.empty_like(clean)
        for image, seed in zip(noise, seeds, strict=True):
            sigma = self.draw_sigma(seed)
            image.copy_(unit_noise(image.shape, generator.manual_seed(seed))).mul_(sigma)
        return noise.add_(clean)

    def draw_sigma(self, seed: int) -> float:
        """The sigma of the image with this seed."""
        if self.sigma_type == 'constant':
            return self.sigmas[0]
        draw = random.Random(seed)
        return draw.uniform(*self.sigmas) if self.sigma_type == 'random' else draw.choice(self.sigmas)
