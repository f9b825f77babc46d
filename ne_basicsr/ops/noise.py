"""Noise: its distributions, the seeds of its draws, the levels of a training, and the estimate of an image's level.

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

from ne_basicsr.ops import chunked_statistics, jpeg, noise_kinds
from ne_basicsr.ops.dct import BLOCK, dct_kernels
from ne_basicsr.ops.magnitude import ends, nonzero, root, unit_of
from ne_basicsr.ops.noise_kinds import Kernel
from ne_basicsr.ops.padding import in_float64, widen

Shape = Sequence[int]

QUIETEST = 0.005  # share of the blocks that the noise level is estimated from
KEPT = 2**25  # values of images whose energies are kept: 256 MiB; those of larger ones are computed twice
FEWEST = 64  # blocks at least, so that the estimate of a small image does not rest on one


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


def noise_level(y: Tensor) -> Tensor:
    """Standard deviation of the white Gaussian noise in each image, joint over its channels.

    Every 8x8 block goes through an orthonormal DCT. The blocks with the least energy in the low frequencies
    (0 < u + v < 8) have the least texture, and the energy of their high frequencies (u + v >= 8) is the noise. White
    noise is independent in the two, so a choice by one does not bias the other, and no correction factor is needed.
    Saturated and synthetic blocks, found by equal pixels, show no sensor noise and are left out. Large images are read
    in chunks of rows, those of more than ``KEPT`` values twice.

    Args:
        y: (N, C, H, W), any range.

    Returns:
        (N, 1, 1, 1) on the scale of y, in float32 or better: the level of a y + b is a times the level of y. Zero where
        no block shows noise: a constant image, or one of a single row or column.

    Source: Ponomarenko et al., An automatic approach to lossy compression of AVIRIS images, IGARSS 2007; Colom and
    Buades, Analysis and extension of the Ponomarenko et al. method, IPOL 2013. Here the selection is a ramp instead of
    a step, which keeps the level a continuous function of the image.
    """
    y = widen(y)
    size = min(BLOCK, *y.shape[-2:])
    if size < 2:
        return y.new_zeros(len(y), 1, 1, 1)
    origin, limits = y[:, :1, :1, :1], ends(y)
    unit = unit_of(y, origin)
    chunks, most = [y], None
    if is_large := chunked_statistics.is_large(y):
        chunks = list(chunked_statistics.chunks_of(y, overlap=size - 1))
        most = int(quietest(torch.tensor((y.shape[2] - size + 1) * (y.shape[3] - size + 1))))
        mean = origin / unit + chunked_statistics.var_mean(y, origin, unit, 0)[1]
    else:
        mean = (y / unit).mean(dim=(1, 2, 3), keepdim=True)

    masks = [unspoilt_blocks(chunk, size, *limits) for chunk in chunks]
    found = torch.stack([unsaturated.any(dim=1, keepdim=True) for _, unsaturated in masks]).any(dim=0)
    alive = [unsaturated | (textured & ~found) for textured, unsaturated in masks]  # all saturated: overlooked

    # the first pass finds how much texture the quietest blocks have, the second sums up over those blocks
    is_kept = not is_large or y.numel() <= KEPT
    energies = [block_energies(chunk / unit - mean, size) for chunk in chunks] if is_kept else []
    quiet: list[Tensor] = []
    for number, (chunk, blocks) in enumerate(zip(chunks, alive, strict=True)):
        texture, _ = energies[number] if energies else block_energies(chunk / unit - mean, size)
        texture = texture.masked_fill(~blocks, math.inf)
        quiet = [torch.cat([*quiet, texture], dim=1).sort(dim=1).values[:, :most]]
    count = torch.stack([blocks.sum(dim=1, keepdim=True) for blocks in alive]).sum(dim=0)
    limit = quiet[0].gather(1, (quietest(count) - 1).clamp(min=0))
    silent = (count == 0) | (limit == 0)
    weights: list[Tensor] = []
    sums: list[Tensor] = []
    for number, (chunk, blocks) in enumerate(zip(chunks, alive, strict=True)):
        texture, variance = energies[number] if energies else block_energies(chunk / unit - mean, size)
        # 1 up to the limit, falling to 0 at twice the limit; in silent images divisors are 1 for the gradient's sake
        weight = (2 - texture / limit.masked_fill(silent, 1.0)).clamp(0, 1).masked_fill(~blocks, 0.0)
        for collected, terms in ((weights, weight), (sums, weight * variance)):
            collected.append((in_float64(terms) if is_large else terms).sum(dim=1, keepdim=True))
    energy = torch.stack(sums).sum(dim=0) / nonzero(torch.stack(weights).sum(dim=0))
    return unit * root(energy).to(unit).masked_fill(silent, 0.0)[:, :, None, None]


def block_energies(centred: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Energy of the low and mean energy of the high frequencies, (N, blocks) each, of y (N, C, H, W) less its mean."""
    n, channels, height, width = centred.shape
    order = [u + v for u in range(size) for v in range(size)]  # of each coefficient
    low, high = (
        torch.tensor([k for k, sum_ in enumerate(order) if is_in(sum_)]).to(centred.device, non_blocking=True)
        for is_in in (lambda sum_: 0 < sum_ < size, lambda sum_: sum_ >= size)
    )
    with torch.autocast(centred.device.type, enabled=False):
        planes = centred.reshape(n * channels, 1, height, width)
        energy = F.conv2d(planes, dct_kernels(size, centred)).square()  # (N C, size^2, H - size + 1, ...)
    energy = energy.reshape(n, channels, size * size, -1)
    return energy[:, :, low].sum(dim=(1, 2)), energy[:, :, high].mean(dim=(1, 2))


def unspoilt_blocks(y: Tensor, size: int, smallest: Tensor, largest: Tensor) -> tuple[Tensor, Tensor]:
    """Blocks that are not synthetic, and of these the ones that are not saturated; (N, blocks), bool, each.

    Synthetic: more than half of the horizontal neighbours are equal in every channel. Saturated: more than one pixel
    has the largest value of the image, or the smallest. Equality survives a y + b in floating point, unlike "energy
    below a threshold".
    """
    equal = (y[..., 1:] == y[..., :-1]).all(dim=1, keepdim=True).to(y.dtype)  # (N, 1, H, W - 1)
    textured = F.avg_pool2d(equal, (size, size - 1), stride=1).flatten(1) <= 0.5
    at_ends = [y == largest, y == smallest]
    most = torch.cat([F.avg_pool2d(end.to(y.dtype), size, stride=1).flatten(2) for end in at_ends], dim=1)
    return textured, textured & (most.amax(dim=1) * size**2 < 1.5)  # one pixel of the block may be the extreme one


def quietest(count: Tensor) -> Tensor:
    """How many of ``count`` blocks (integers, any shape) the noise level is estimated from."""
    return (QUIETEST * count).long().clamp(min=FEWEST).minimum(count)
