"""Images whose noise is neither white nor equal everywhere: what is done to them before the network, and undone after.

Noise that depends on the brightness is made equal by a curve, a variance-stabilizing transform; noise that
depends on the place, by gains. Correlated noise is made nearly white by taking every ``stride``-th pixel, all phases as
images of their own. All of this and the measurement commute with a y + b: an equivariant network stays equivariant.
"""

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ne_basicsr.ops.equivariance import mean_std
from ne_basicsr.ops.noise_level import noise_level
from ne_basicsr.ops.noise_model import LevelMap, NoiseModel, level_map, measure
from ne_basicsr.utils.errors import InputError

SMALLEST = 64  # side in pixels of the images that are measured
NODES = 256  # of a curve
LOCAL = 16  # pixels over which a local mean is taken
CLEAN = 0.012  # noise to contrast: with less an image is left as it is, 50 dB and more in photographs
AT_ONCE = 2**20  # values that a curve maps at once, to save memory


class Settings(NamedTuple):
    """What the user says about an image and its noise; None: as it is measured, or the type has it.

    Args:
        stride: distance in pixels at which the noise is independent; 1: white noise.
        stabilize: whether to make noise equal that depends on the brightness or the place.
        strength: what the noise level is multiplied by. A blind network gets the noise that it removed multiplied, in a
            second pass, or below 1 leaves that share of it.
        data_range: the value of white; in another integer type its largest number becomes white.
    """

    stride: int | None = None
    stabilize: bool | None = None
    strength: float = 1.0
    data_range: float | None = None

    def given(self, noise: float | None) -> 'Settings':
        """Of an image whose noise level is known: nothing is measured."""
        return self if noise is None else self._replace(stride=self.stride or 1, stabilize=bool(self.stabilize))


class Curve(NamedTuple):
    """A variance-stabilizing transform, x to t increasing, (NODES,) each; straight beyond the ends."""

    x: Tensor
    t: Tensor

    def forward(self, y: Tensor) -> Tensor:
        """Of any shape."""
        return _interpolate(y, self.x, self.t)

    def inverse(self, y: Tensor) -> Tensor:
        return _interpolate(y, self.t, self.x)


class Gain(NamedTuple):
    """Contrast beside the local mean, multiplied so that the noise of an image is equal everywhere."""

    mean: Tensor  # (1, C, H, W)
    factor: Tensor  # (1, 1 or C, H, W)

    def forward(self, y: Tensor) -> Tensor:
        """(1, C, H, W)"""
        return torch.lerp(self.mean, y, self.factor)

    def inverse(self, y: Tensor, rows: slice) -> Tensor:
        """``rows`` of the image, (1, C, h, W)."""
        return torch.lerp(self.mean[:, :, rows], y, 1 / self.factor[:, :, rows])


class Treatment(NamedTuple):
    """What is done with one image, besides the network."""

    model: NoiseModel
    stride: int
    curve: Curve | None
    gain: Gain | None
    place: LevelMap | None

    @property
    def found(self) -> str:
        """What was measured, for people."""
        model = self.model
        level = model.level if self.place is None else float(self.place.levels.mean())
        found = [f'noise {255 * level:.2g} of 255']
        if model.width:
            found.append(f'correlated over {model.width:.1f} pixels')
        if self.curve is not None:
            low, high = (255 * float(end) for end in model.by_brightness.aminmax())
            found.append(f'{low:.2g} to {high:.2g} by brightness')
        if self.place is not None:
            low, high = (255 * float(end) for end in self.place.levels.aminmax())
            found.append(f'{low:.2g} to {high:.2g} by place')
        if self.gain is not None and self.gain.factor.shape[1] > 1:
            found.append(f'{255 * float(model.levels.min()):.2g} to {255 * float(model.levels.max()):.2g} by channel')
        return ', '.join(found)

    @property
    def traits(self) -> set[str]:
        """Of ``noise_kinds.TRAITS``, what it is for."""
        treated = {
            'correlation': self.stride > 1,
            'brightness': self.curve is not None,
            'place': self.place is not None,
            'channel': self.gain is not None and self.gain.factor.shape[1] > 1,
        }
        return {trait for trait, is_treated in treated.items() if is_treated}

    def __str__(self) -> str:
        done = [f'every {_nth(self.stride)} pixel by itself'] if self.stride > 1 else []
        done += ['made equal by a curve'] if self.curve is not None else []
        done += ['made equal by gains'] if self.gain is not None else []
        return f'{self.found}: {" and ".join(done)}'


def check(settings: Settings, shape: Sequence[int] = ()) -> None:
    """Raise InputError for settings that no image, or an image of this shape, (H, W, ...), cannot have."""
    stride, side = settings.stride, min(shape[:2], default=sys.maxsize)
    if side < SMALLEST and (settings.stabilize or (stride or 1) > 1):
        rule = f'stride and stabilize are for images of {SMALLEST} pixels a side or more'
        raise InputError(f'{rule}; got {shape[1]}x{shape[0]}: leave them out')
    most = max(1, side // 8)
    if stride is not None and not 1 <= stride <= most:
        limit = f', at most an eighth of the image, {most}' if shape else ''
        raise InputError(f'stride (--stride) must be 1 or more{limit}; got {stride}')
    if settings.data_range is not None and not 0 < settings.data_range < math.inf:
        raise InputError(f'data_range (--data-range), the value of white, must be above 0; got {settings.data_range:g}')
    if not 0 < settings.strength < math.inf:
        raise InputError(f'strength (--strength) must be finite and above 0; got {settings.strength:g}')


def told(treatment: Treatment, images: Tensor) -> Tensor:
    """The level to tell a network of each image (N, C, H, W) that is treated, (N,)."""
    model, place = treatment.model, treatment.place
    if place is None:
        levels = [measure(image, model.width).told(treatment.stride) for image in images]
        return torch.tensor(levels, dtype=torch.float64).to(images)
    level = float(place.levels.mean()) * model.told(treatment.stride) / model.level
    return images.new_full((len(images),), level)


def is_clean(image: Tensor, settings: Settings) -> bool:
    """Whether an image (C, H, W) has so little noise that a network that is told its level is not needed."""
    limit = CLEAN * mean_std(image[None])[1]
    if settings != Settings() or not (noise_level(image[None]) <= limit).all():
        return False
    # JPEG takes noise from the highest frequencies first
    return min(image.shape[1:]) < SMALLEST or measure(image).level <= float(limit.max())


def find(image: Tensor, settings: Settings, judges: bool = True) -> Treatment | None:
    """The treatment of an image (C, H, W); None where its noise is white, or it is too small to tell.

    ``judges``: whether the network judges the noise by the image. It then sees which channel is noisier, and gains only
    make colours unnatural: of 5, 10 and 30, the shipped models lose 2 to 5 dB by them, zero-shot ones win 0.6.
    """
    if min(image.shape[1:]) < SMALLEST or (settings.stride == 1 and settings.stabilize is False):
        return None
    model = measure(image)
    stride = settings.stride or model.stride
    # where the noise is correlated as well, its dependence is too rough to gain: on CC15 a curve costs 0.15 dB
    stabilize = stride == 1 if settings.stabilize is None else settings.stabilize
    curve = stabilizing(model) if stabilize and (model.depends or settings.stabilize) else None
    if curve is not None and not all(bool((end.to(image).diff() > 0).all()) for end in curve):
        curve = None
    place = level_map(image, model.width) if stabilize and curve is None else None
    place = place if place is not None and place.differs else None
    shares = torch.ones(1, 1, 1) if place is None else place.levels[None] / place.levels.mean()
    if model.by_channel and not judges and stabilize:
        shares = shares * (model.levels / model.level)[:, None, None]
    gain = equalizing(image, shares) if shares.numel() > 1 else None
    return Treatment(model, stride, curve, gain, place) if curve or gain or stride > 1 else None


def equalizing(image: Tensor, shares: Tensor) -> Gain:
    """The gains that make the noise of an image (C, H, W) equal; ``shares`` of its level in parts, (1 or C, h, w)."""
    size = image.shape[1:]
    mean = F.avg_pool2d(image[None], LOCAL, ceil_mode=True)
    shares = shares.clamp(min=float(shares.max()) / 20)
    mean, shares = (F.interpolate(each, size, mode='bilinear') for each in (mean, shares[None]))
    return Gain(mean.to(image), (1 / shares).to(image))


def stabilizing(model: NoiseModel) -> Curve:
    """T(x), the integral of dx / s(x) with s the level at brightness x, times the mean level.

    Source: Foi, Practical denoising of clipped or overexposed noisy images, EUSIPCO 2008, for any s. The inverse is the
    curve's own, not corrected for the bias at few photons.
    """
    x, s = model.brightness.double(), model.by_brightness.double()
    padded = torch.cat([s[:1], s, s[-1:]])
    s = padded.unfold(0, 3, 1).median(dim=1).values  # a single part that is louder has texture
    s = s.clamp(min=float(s.max()) / 10)
    grid = torch.linspace(float(x[0]), float(x[-1]), NODES, dtype=torch.float64)
    level = _interpolate(grid, x + torch.arange(len(x)) * 1e-9 * model.contrast, s)
    steps = (grid[1] - grid[0]) * (1 / level[1:] + 1 / level[:-1]) / 2
    t = torch.cat([grid.new_zeros(1), steps.cumsum(0)]) * s.mean()
    return Curve(grid, t + grid.mean() - t.mean())


def phases(y: Tensor, stride: int) -> Tensor:
    """(N, C, H, W) to (N stride^2, C, H / stride, W / stride): every ``stride``-th pixel; sizes filled by reflection.

    Source: Zhou et al., When AWGN-based denoiser meets real noises, AAAI 2020 (pixel-shuffle downsampling).
    """
    channels, height, width = y.shape[1:]
    y = F.pad(y, (0, -width % stride, 0, -height % stride), mode='reflect')
    y = F.pixel_unshuffle(y, stride).unflatten(1, (channels, stride**2)).transpose(1, 2)
    return y.flatten(0, 1)


def joined(z: Tensor, stride: int, height: int, width: int) -> Tensor:
    """The way back from ``phases``, to (N, C, height, width)."""
    z = z.unflatten(0, (-1, stride**2)).transpose(1, 2).flatten(1, 2)
    return F.pixel_shuffle(z, stride)[..., :height, :width]


def _interpolate(y: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The polygon through (x, t) at y, straight beyond the ends."""
    x, t = x.to(y), t.to(y)
    slope = (t[1:] - t[:-1]) / (x[1:] - x[:-1])
    result = torch.empty_like(y, memory_format=torch.contiguous_format)
    for part, out in zip(y.reshape(-1).split(AT_ONCE), result.view(-1).split(AT_ONCE), strict=True):
        k = torch.bucketize(part, x[1:-1])
        out.copy_(t[k] + (part - x[k]) * slope[k])
    return result


def _nth(stride: int) -> str:
    return {2: 'second', 3: 'third'}.get(stride, f'{stride}th')
