"""Degradations of test images: noise, JPEG, few photons, a change of gain or offset, each with one level.

The random numbers of a cell of a test depend on (seed, image, kind, level, draw) alone and are drawn on the CPU, so
that its image is the same whatever else is computed.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ne_basicsr.ops.jpeg import compress
from ne_basicsr.ops.noise import UNIT_NOISE, TrainingNoise, add_noise, seed_of
from ne_basicsr.ops.noise_kinds import Kernel, kernel_of
from ne_basicsr.utils.errors import InputError
from ne_basicsr.utils.words import one_of


class Kind(NamedTuple):
    """A family of degradations: the unit of its levels, the default levels, their limits and spacing."""

    what: str
    unit: str
    default: str
    low: float
    high: float = math.inf
    spacing: str = 'log'
    sigma255: float | None = None  # of the Gaussian noise that is added as well, where there is some


_NOISE = Kind('noise of that standard deviation', 'sigma255', '5:100:20', 0)
KINDS: dict[str, Kind] = {
    **{kind: _NOISE._replace(what=f'{kind} noise of that standard deviation') for kind in UNIT_NOISE},
    'rayleigh': _NOISE._replace(what='Rayleigh noise scaled to that standard deviation, not recentred: it brightens'),
    'correlated': _NOISE._replace(what='Gaussian noise of that standard deviation, through a Gaussian of 1 pixel'),
    'demosaicked': _NOISE._replace(what='Gaussian noise of that standard deviation on a Bayer sensor, demosaicked'),
    'camera': _NOISE._replace(what='Gaussian noise of that standard deviation, as cameras leave it: coarse in colour'),
    'speckle': _NOISE._replace(what='Gaussian noise times the image, that strong at white', unit='max_sigma255'),
    'varying': _NOISE._replace(what='Gaussian noise, by a smooth map from none to that', unit='max_sigma255'),
    'jpeg': Kind('JPEG compression, 8 bits, after noise if there is some', 'quality', '5:85:17', 1, 100, 'linear'),
    'poisson_gaussian': Kind(
        'photon noise at that many photons for white, then Gaussian', 'photons', '10:1000:9', 1e-3, 1e9, 'log', 2
    ),
    'gain': Kind('the noisy image multiplied by the gain a', 'a', '0.1:10:9', 1e-6, 1e6, 'log', 25),
    'offset': Kind('the noisy image plus the offset b', 'b', '-1:1:9', -1e6, 1e6, 'linear', 25),
}  # fmt: skip
_SHIFTS = ('gain', 'offset')
_OLDER = {'poisson': 'poisson_gaussian'}  # earlier names


class Degradation(NamedTuple):
    """One axis of a test."""

    kind: str  # one of ``KINDS``
    # in the unit of the kind: 8-bit standard deviations, JPEG quality factors, photons, gains a or offsets b
    levels: tuple[float, ...]
    # of the Gaussian noise of ``poisson_gaussian``, ``jpeg``, ``gain`` and ``offset``, in 8-bit units
    sigma255: float | None = None
    kernel: Kernel = kernel_of(1)  # of ``correlated``

    @property
    def unit(self) -> str:
        """Of the levels: ``sigma255``, ``max_sigma255``, ``quality``, ``photons``, ``a`` or ``b``."""
        return KINDS[self.kind].unit

    @property
    def is_noise(self) -> bool:
        """Whether the level is a standard deviation of noise."""
        return self.unit == 'sigma255'

    @property
    def is_affine(self) -> bool:
        """Whether the curve of an equivariant network is flat: its outputs differ by a y + b alone."""
        return self.kind in _SHIFTS

    @property
    def is_random(self) -> bool:
        """Whether there are several draws; only JPEG without noise has one result."""
        return self.kind != 'jpeg' or bool(self.sigma255)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> 'Degradation':
        """From a validation set's ``noise: {type, sigma255, kernel}`` and ``sigma_test``, a level or a list of them."""
        noise, levels = options.get('noise') or {}, options['sigma_test']
        levels = sorted(levels) if isinstance(levels, list | tuple) else [levels]
        kernel = kernel_of(noise.get('kernel') or 1)
        return cls(noise.get('type', 'gaussian'), tuple(levels), noise.get('sigma255'), kernel)

    def apply(self, clean: Tensor, name: str, level: float, draw: int = 0, seed: int = 0) -> Tensor:
        """The degraded image of a cell, (1, C, H, W) on the CPU, not clipped.

        Args:
            clean: (1, C, H, W) on [0, 1]; with ``jpeg`` C is 1 or 3.
            name: of the image.
        """
        key = seed_of(seed, name, self.kind, float(level), draw)
        if self.kind in UNIT_NOISE:
            return add_noise(clean, level / 255, self.kind, seed=key)
        if self.kind in (*_SHIFTS, 'jpeg'):  # the noise of the Gaussian cell: the image is the same at every level
            seed = seed_of(seed, name, 'gaussian', float(self.sigma255 or 0), draw)
            noisy = add_noise(clean, (self.sigma255 or 0) / 255, seed=seed)
            if self.kind == 'jpeg':
                return torch.stack([compress(image, int(level)) for image in noisy])
            return noisy * level if self.kind == 'gain' else noisy + level
        noise = TrainingNoise(self.kind, 'constant', (level / 255,), kernel=self.kernel)
        if self.kind == 'poisson_gaussian':
            noise = noise._replace(sigmas=((self.sigma255 or 0) / 255,), photons=(level,))
        elif self.kind == 'varying':
            noise = TrainingNoise('gaussian', 'varying', (0.0, level / 255))
        return noise.add(clean, [key])

    def undo(self, image: Tensor, level: float) -> Tensor:
        """An image of any shape with gain or offset undone, to compare with the clean one; else unchanged."""
        if self.kind == 'gain':
            return image / level
        return image - level if self.kind == 'offset' else image

    def noise_given(self, level: float) -> float | None:
        """``sigma`` for a network that needs it, on the [0, 1] scale; None where the noise has no single level."""
        if self.kind in (*UNIT_NOISE, 'correlated'):
            return level / 255
        if self.is_affine:
            return (self.sigma255 or 0) / 255 * (level if self.kind == 'gain' else 1)
        return None

    def __str__(self) -> str:
        beside = '' if self.sigma255 is None else f'@{self.sigma255:g}'
        return f'{self.kind}{beside}'


def parse_degradation(text: str, further_levels: Sequence[float] = ()) -> Degradation:
    """A degradation from a command line: ``kind[@sigma255][=levels]``.

    Levels are a list, ``5,10,25``, or ``first:last:count``, spaced by equal ratios (noise, photons, gain) or equal
    steps (quality, offset). The defaults for noise and JPEG are the paper's.

    Args:
        further_levels: 8-bit noise levels to add to spaced ones; the paper adds the level of the training.

    Raises:
        InputError: an unknown kind, or levels that it does not have.
    """
    try:
        return _parsed(text, further_levels)
    except InputError as error:
        raise InputError(f'degradation {text!r}: {error}') from None


def _parsed(text: str, further_levels: Sequence[float]) -> Degradation:
    match = re.fullmatch(r'(?P<kind>[\w-]+)(@(?P<sigma>[^=]*))?(=(?P<levels>.*))?', text.strip())
    name = _OLDER.get(match['kind'], match['kind']) if match else text
    if match is None or name not in KINDS:
        raise InputError(f'{one_of(KINDS, name)} (as in gaussian=5:100:20 or jpeg=10,40)')
    kind = KINDS[name]
    sigma = kind.sigma255
    if match['sigma'] is not None:
        if sigma is None and name != 'jpeg':
            raise InputError(f'{name} has no noise beside it; leave out @{match["sigma"]}')
        sigma = _number(match['sigma'])
        if sigma < 0:
            raise InputError(f'noise levels are at least 0; got {sigma:g}')
    spelled = kind.default if match['levels'] is None else match['levels']
    levels = _spaced(spelled, kind) if ':' in spelled else [_number(part) for part in spelled.split(',')]
    if ':' in spelled and kind.unit == 'sigma255':
        levels += [float(level) for level in further_levels if level > 0]
    for level in levels:
        check_level(name, level)
    return Degradation(name, tuple(sorted(set(levels))), sigma)


def check_level(kind: str, level: float) -> None:
    """Raise InputError unless a degradation of this kind has this level."""
    low, high = KINDS[kind].low, KINDS[kind].high
    if not low <= level <= high:
        raise InputError(f'a level lies between {low:g} and {high:g}; got {level:g}')
    if kind == 'jpeg' and level != int(level):
        raise InputError(f'a quality factor is a whole number; got {level:g}')


def _spaced(spelled: str, kind: Kind) -> list[float]:
    parts = spelled.split(':')
    if len(parts) != 3 or not parts[2].strip().isdecimal() or int(parts[2]) < 1:
        raise InputError('spaced levels are first:last:count, as in 5:100:20')
    first, last, count = _number(parts[0]), _number(parts[1]), int(parts[2])
    if kind.spacing == 'log' and not (first > 0 and last > 0):
        raise InputError('equal ratios need levels above 0; list them instead: 0,5,10')
    space = np.geomspace if kind.spacing == 'log' else np.linspace
    values = [float(f'{value:.6g}') for value in space(first, last, count)]  # what is printed is what is used
    return [float(round(value)) for value in values] if kind.unit == 'quality' else values


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f'{text.strip()!r} is not a number')
    return value
