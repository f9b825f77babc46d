"""The noise of a photograph as it is: its level by channel and by brightness, and how far it is correlated.

``noise_level`` reads the highest frequencies of the quietest blocks. The noise of a camera has little there, since it
was interpolated and compressed, and the quietest blocks are the darkest, where it is weak. Here the blocks are taken
within parts of equal brightness, from neighbouring pixels and from every second one. The levels at the two distances
tell the correlation R(d) = (1 + d^2 / w^2)^-2 of pixels d apart in a row or column, and with it the level itself.
"""

import math
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from ne_basicsr.ops.dct import BLOCK, dct_basis
from ne_basicsr.ops.magnitude import unit_of
from ne_basicsr.ops.padding import widen

PARTS = 8  # of equal brightness
QUIETEST, FEWEST = 0.01, 16  # share of the blocks of a part that its noise is read from, and their least number
STEP, MOST = 4, 2**15  # pixels from block to block at least, and blocks at most
INDEPENDENT = 0.3  # correlation of neighbours that counts as none
WIDEST = 3.0  # w at most, in pixels
# Texture passes for correlated noise, but it is stronger in the next quietest blocks, missing in some parts of the
# image, or weak to the contrast. Limits from photographs: clean, with noise of a camera, and with noise added.
UNEVEN, MISSING, LEAST = 1.35, 3.0, 0.025
CORRELATED = 1.7  # level of every second pixel to that of all; texture with white noise has less
DEPENDENT = 1.5  # level of one part, or channel, to that of another: more depends on the brightness, or differs
LINEAR = 0.9  # correlation of variance and brightness at least, where the noise is white
CELLS, EVEN = 8, 1.25  # parts of a side; how uneven blocks are at most where there is no texture


class NoiseModel(NamedTuple):
    """The noise of one image, on its scale; every number commutes with a y + b.

    Args:
        levels: its standard deviation in each channel, (C,).
        width: w, in pixels: how far it is correlated; 0 where it is white.
        brightness, by_brightness: the means of parts of the image, increasing, and the level in each, (K,) both.
        depends: whether the level depends on the brightness by more than ``DEPENDENT``.
        contrast: standard deviation of the image.
    """

    levels: Tensor
    width: float
    brightness: Tensor
    by_brightness: Tensor
    depends: bool
    contrast: float

    @property
    def level(self) -> float:
        """Joint over the channels."""
        return float(self.levels.double().square().mean().sqrt())

    @property
    def by_channel(self) -> bool:
        """Whether the level differs from channel to channel by more than ``DEPENDENT``."""
        return float(self.levels.max()) > DEPENDENT * float(self.levels.min())

    @property
    def stride(self) -> int:
        """Distance in pixels at which the noise is nearly independent."""
        return next(s for s in range(1, 99) if correlation(self.width, s) <= INDEPENDENT)

    @property
    def gain_and_floor(self) -> tuple[float, float]:
        """(a, b) of the variance a x + b of the noise where the image is x, fitted to the parts."""
        x, v = self.brightness.double(), self.by_brightness.double().square()
        x_mean, spread = x.mean(), (x - x.mean()).square().sum()
        a = float(((x - x_mean) * v).sum() / spread) if spread > 0 else 0.0
        return a, float(v.mean() - a * x_mean)

    def told(self, stride: int = 1) -> float:
        """The level to tell a network for white noise, given every ``stride``-th pixel.

        It is the root of the largest spectral density, that of the lowest frequencies: noise that is told weaker stays
        there as spots.
        """
        return self.level * (1 + 2 * sum(correlation(self.width, stride * k) for k in range(1, 20)))


class Blocks(NamedTuple):
    """Of blocks of an image: mean (B,), energy of the low frequencies (B,), of the high ones (B, C)."""

    mean: Tensor
    low: Tensor
    high: Tensor


def correlation(width: float, distance: int) -> float:
    """R(d), of pixels ``distance`` apart in a row or column; 1/4 at ``width``."""
    return (1 + (distance / width) ** 2) ** -2 if width else float(distance == 0)


def measure(y: Tensor, width: float = 0.0) -> NoiseModel:
    """The noise of an image y (C, H, W), any range, at least 32 pixels high and wide.

    ``width`` is that of the noise where y shows none, as the colour differences of a photograph with correlated noise.

    Source: Ponomarenko et al., IGARSS 2007, and Colom and Buades, IPOL 2013, for blocks that are quiet, in parts of
    equal brightness; the model of the correlation is this package's.
    """
    z, origin, unit = _standard(y)
    found = [_levels(blocks_of(z, stride)) for stride in (1, 2)]
    (_, one, uneven), (_, two, uneven_two) = found
    pairs = two.mean(dim=1), one.mean(dim=1)
    ratio = math.sqrt(float((pairs[0] / pairs[1].clamp(min=1e-30)).median()))
    typical = float(pairs[0].median().sqrt())
    even = uneven * uneven_two <= UNEVEN
    everywhere = typical <= MISSING * float(pairs[0].min().sqrt())
    width = _width(ratio) if ratio >= CORRELATED and even and everywhere and typical >= LEAST else width
    brightness, variances, _ = found[1 if width else 0]
    joint = variances.mean(dim=1)
    variances = variances * (joint.clamp(max=4 * float(joint.median())) / joint.clamp(min=1e-30))[:, None]
    variances = variances / high_share(width, 2 if width else 1)
    by_brightness = variances.mean(dim=1).sqrt()
    spread = float(by_brightness.max() / by_brightness.min().clamp(min=1e-30))
    if width == 0.0:  # texture differs from part to part, too, but its variance is not linear, as that of photons
        pair = torch.stack([brightness, by_brightness.square()]).double()
        spread *= float(uneven <= UNEVEN and torch.corrcoef(pair)[0, 1].abs() > LINEAR and by_brightness.mean() > LEAST)
    depends = spread > DEPENDENT
    levels = variances.mean(dim=0).sqrt()
    return NoiseModel(unit * levels, width, unit * brightness + origin, unit * by_brightness, depends, unit)


def _standard(y: Tensor) -> tuple[Tensor, float, float]:
    """y (C, H, W) of any range as (y - mean) / deviation, in float32 or better, with both."""
    y = widen(y)
    power = float(unit_of(y[None]))  # squares of y may overflow
    z = y / power
    origin = z.mean()
    unit = float(z.sub_(origin).std())
    return z.div_(unit or 1.0), power * float(origin), power * unit


class LevelMap(NamedTuple):
    """The noise level in CELLS x CELLS parts of an image, and whether it differs from place to place."""

    levels: Tensor
    differs: bool


def level_map(y: Tensor, width: float, cells: int = CELLS) -> LevelMap:
    """Where the noise of y (C, H, W) is; that of parts with texture is taken from those beside them.

    It differs where most parts are even, as noise is, or most of the noise has one level, and the rest of the image
    less. ``width`` is that of its ``NoiseModel``.
    """
    (z, _, unit), stride = _standard(y), 2 if width else 1
    cells = max(1, min(cells, min(y.shape[1:]) // 32))
    rows = [row.tensor_split(cells, dim=2) for row in z.tensor_split(cells, dim=1)]
    found = [_levels(blocks_of(cell, stride, MOST // cells**2), 1) for row in rows for cell in row]
    levels = (torch.stack([variances.mean() for _, variances, _ in found]) / high_share(width, stride)).sqrt()
    even = torch.tensor([uneven <= EVEN for *_, uneven in found]).to(levels)
    low, middle, high = torch.quantile(levels[even > 0] if even.any() else levels, levels.new_tensor([0.1, 0.5, 0.9]))
    is_noise = (even.mean() > 0.85) | (middle > 0.75 * high)
    differs = is_noise & (even.mean() >= 0.5) & (high > 2 * low) & (high > 0.1)
    place = torch.cartesian_prod(*[torch.arange(cells)] * 2).reshape(-1, 2).to(levels)
    near = torch.exp(-(torch.cdist(place, place).square()) / 2) * even
    levels = torch.where(even > 0, levels, near @ levels / near.sum(dim=1).clamp(min=1e-30))
    return LevelMap(unit * levels.view(cells, cells), bool(differs))


def _levels(blocks: Blocks, parts: int = PARTS) -> tuple[Tensor, Tensor, float]:
    """Of parts of equal brightness: means (K,), variances of the high frequencies (K, C); how uneven these are.

    All on the CPU, whatever the device of the blocks.
    """
    means, variances, ratios = [], [], []
    mean, low = blocks.mean.round(decimals=4), blocks.low.round(decimals=4)  # equal ones stay so in a y + b
    for part in mean.argsort(stable=True).tensor_split(parts):
        order = part[low[part].argsort(stable=True)]
        count = max(FEWEST, int(QUIETEST * len(order)))
        quiet = blocks.high[order[:count]].mean(dim=0)
        means.append(blocks.mean[order[:count]].mean())
        variances.append(quiet)
        ratios.append(blocks.high[order[: 10 * count]].mean() / quiet.mean().clamp(min=1e-30))
    return torch.stack(means).cpu(), torch.stack(variances).cpu(), math.sqrt(float(torch.stack(ratios).median()))


@cache
def high_share(width: float, stride: int) -> float:
    """Variance of the high frequencies of a block, each ``stride``-th pixel, to that of the noise."""
    basis = dct_basis(BLOCK)
    place = torch.arange(BLOCK, dtype=torch.float64) * stride
    distance = (place[:, None] - place).square()
    matrix = (1 + distance / width**2) ** -2 if width else torch.eye(BLOCK, dtype=torch.float64)
    density = (basis @ matrix @ basis.T).diagonal()
    order = torch.arange(BLOCK)[:, None] + torch.arange(BLOCK)
    return float((density[:, None] * density)[order >= BLOCK].mean())


def _width(ratio: float) -> float:
    """w, from the level of every second pixel to that of all."""
    low, high = 0.0, WIDEST
    for _ in range(30):
        middle = (low + high) / 2
        larger = math.sqrt(high_share(middle, 2) / high_share(middle, 1)) < ratio
        low, high = (middle, high) if larger else (low, middle)
    return round(low, 3)


def blocks_of(y: Tensor, stride: int, most: int = MOST) -> Blocks:
    """Blocks of y (C, H, W) whose pixels are ``stride`` apart; none of those at the ends of the range of values."""
    side = (BLOCK - 1) * stride + 1
    channels, height, width = y.shape
    step = max(STEP, math.ceil(math.sqrt(height * width / most)))
    step += 1 - step % 2  # odd, so that blocks meet every phase of a mosaic
    windows = y.unfold(1, side, step).unfold(2, side, step)[..., ::stride, ::stride].reshape(channels, -1, BLOCK, BLOCK)
    ends = torch.stack([y.amin(dim=(1, 2)), y.amax(dim=(1, 2))])[:, :, None, None, None]
    spoilt = (windows == ends).sum(dim=(-2, -1)).amax(dim=(0, 1)) > 1
    windows = windows[:, ~spoilt] if int((~spoilt).sum()) >= PARTS else windows
    mean = windows.mean(dim=(0, 2, 3))
    basis = dct_basis(BLOCK).to(y)
    energy = (basis @ (windows - mean[:, None, None]) @ basis.T).square()
    order = torch.arange(BLOCK)[:, None] + torch.arange(BLOCK)
    low, high = (order > 0) & (order < BLOCK), order >= BLOCK
    return Blocks(mean, energy[..., low].sum(dim=(0, 2)), energy[..., high].mean(dim=2).T)
