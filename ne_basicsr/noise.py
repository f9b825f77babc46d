"""Noise: its models, the seeds of its draws, the levels of a training, and the level found in an image.

Sigma is on the [0, 1] scale of the images here; eight-bit values (``sigma255``) come from option files and are
converted once, in ``TrainingNoise.from_options``.
"""

import hashlib
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ne_basicsr.archs.padding import widen
from ne_basicsr.dct import BLOCK, dct_kernels

Shape = Sequence[int]

QUIETEST = 0.005  # share of the blocks that speaks for the image
FEWEST = 64  # blocks that speak at least, so that the answer of a small image is not one block's


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


def noise_level(y: Tensor) -> Tensor:
    """Standard deviation of the white Gaussian noise in each image, joint over its channels.

    Looks at every 8x8 block through an orthonormal DCT. The blocks with the least energy in the low frequencies
    (0 < u + v < 8) have the least texture, and the energy of their high frequencies (u + v >= 8) is the noise. White
    noise is independent in the two, so choosing by one does not bias the other: no correction factor. Saturated and
    synthetic blocks, found by equal pixels, carry no noise of the sensor and are left out.

    Args:
        y: (N, C, H, W), any range.

    Returns:
        (N, 1, 1, 1) on the scale of y, in float32 or better: the level of a y + b is a times the level of y. Zero where
        no block carries noise: a constant image, or one of a single row or column.

    Source: Ponomarenko et al., An automatic approach to lossy compression of AVIRIS images, IGARSS 2007; Colom and
    Buades, Analysis and extension of the Ponomarenko et al. method, IPOL 2013. Here the selection is a ramp instead of
    a step, which keeps the level a continuous function of the image.
    """
    y = widen(y)
    n, channels, height, width = y.shape
    size = min(BLOCK, height, width)
    if size < 2:
        return y.new_zeros(n, 1, 1, 1)
    order = torch.arange(size, device=y.device)
    order = (order[:, None] + order[None, :]).flatten()  # u + v of each coefficient
    low, high = (order > 0) & (order < size), order >= size

    centred = (y - y.mean(dim=(1, 2, 3), keepdim=True)).reshape(n * channels, 1, height, width)
    with torch.autocast(y.device.type, enabled=False):
        energy = F.conv2d(centred, dct_kernels(size, y)).square()  # (N C, size^2, H - size + 1, ...)
    energy = energy.reshape(n, channels, size * size, -1)
    texture = energy[:, :, low].sum(dim=(1, 2))  # (N, blocks)
    variance = energy[:, :, high].mean(dim=(1, 2))

    alive = _carries_noise(y, size)
    count = alive.sum(dim=1, keepdim=True)
    texture = texture.masked_fill(~alive, math.inf)
    rank = (QUIETEST * count).long().clamp(min=FEWEST).minimum(count) - 1
    limit = texture.sort(dim=1).values.gather(1, rank.clamp(min=0))
    weight = (2 - texture / limit).clamp(0, 1)  # 1 up to the limit, falling to 0 at twice the limit
    level = ((weight * variance).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True)).sqrt()
    return level.masked_fill((count == 0) | (limit == 0), 0.0)[:, :, None, None]


def _carries_noise(y: Tensor, size: int) -> Tensor:
    """Blocks whose noise is still there, (N, blocks), bool: neither synthetic nor saturated.

    Synthetic: more than half of the horizontal neighbours are equal in every channel. Saturated: more than one pixel
    has the largest value of the image, or the smallest; where that holds for every block, it is overlooked.
    Equality survives a y + b in floating point, unlike "energy below a threshold".
    """
    equal = (y[..., 1:] == y[..., :-1]).all(dim=1, keepdim=True).to(y.dtype)  # (N, 1, H, W - 1)
    textured = F.avg_pool2d(equal, (size, size - 1), stride=1).flatten(1) <= 0.5
    at_ends = [y == y.amax(dim=(1, 2, 3), keepdim=True), y == y.amin(dim=(1, 2, 3), keepdim=True)]
    most = torch.cat([F.avg_pool2d(end.to(y.dtype), size, stride=1).flatten(2) for end in at_ends], dim=1)
    unsaturated = textured & (most.amax(dim=1) * size**2 < 1.5)  # one pixel of the block may be the extreme one
    return torch.where(unsaturated.any(dim=1, keepdim=True), unsaturated, textured)
