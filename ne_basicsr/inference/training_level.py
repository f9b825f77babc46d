"""The noise levels that a denoiser was trained at, found by running it on photographs.

A denoiser that has the least squared error at its level returns y - r with a residual r of which no other multiple
removes more. Below the level of its training it removes too much, above it too little. So with clean images x, noisy
ones y = x + sigma z, and the residual r = y - D(y), the best multiple

    alpha(sigma) = <y - x, r> / <r, r>

is 1 at the level of the training, or over the range of it, smaller below and larger above.
"""

import json
import math
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from itertools import takewhile
from pathlib import Path

import torch
from platformdirs import user_cache_path
from torch import Tensor

from ne_basicsr.data.image_store import decode, read_file
from ne_basicsr.inference.denoiser import Denoiser
from ne_basicsr.ops.center import center
from ne_basicsr.ops.noise import LevelRange
from ne_basicsr.utils import atomic_files

# scikit-image carries these in its wheel
_GRAY = (
    'camera.png', 'coins.png', 'brick.png', 'astronaut.png', 'chelsea.png', 'coffee.png', 'rocket.jpg', 'grass.png',
)  # fmt: skip
_COLOUR = ('astronaut.png', 'chelsea.png', 'coffee.png', 'rocket.jpg')
_SIDE = 80

LADDER = (2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0)
"""The levels that are tried first, in 8-bit units."""

_TOO_LITTLE = 1.02  # alpha; blind networks stay below 1.005 over the whole range of their training
_FALL = {1: 2.2, 3: 1.1}  # by channels: alpha of blind networks on these images is above 1 - this / level
_GAIN = 2.0  # dB by which a denoiser must improve photographs at its level


def training_levels(denoiser: Denoiser) -> tuple[float, ...]:
    """As ``find_training_levels``; what was found for these weights once is kept in the user's cache folder."""
    file = user_cache_path('ne_basicsr') / 'training_levels' / f'{denoiser.digest}.json'
    try:
        levels = tuple(map(float, json.loads(file.read_text())))
        return LevelRange(*levels) if len(levels) == 2 else levels
    except (OSError, ValueError, TypeError):
        found = find_training_levels(denoiser)
    with suppress(OSError):  # a home that cannot be written costs seconds
        atomic_files.write(file, lambda stream: stream.write(json.dumps(found).encode()), durable=False)
    return found


@torch.no_grad()
def find_training_levels(denoiser: Denoiser) -> tuple[float, ...]:
    """The levels of white Gaussian noise that a blind denoiser of gray or colour images on [0, 1] was trained at.

    It takes 8 to 12 passes over crops of 80x80 pixels, eight of gray or four of colour photographs.

    Returns:
        In 8-bit units: one level; a ``LevelRange``, whose lower end is one of ``LADDER``, and whose upper end may be
        higher if it is the last of them; or nothing if the network does not denoise photographs at any level.
    """
    clean = _photographs(denoiser.channels)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))

    @cache
    def measured(level: float) -> tuple[float, float]:
        return _measure(denoiser, clean, level / 255 * noise)

    def alpha(level: float) -> float:
        return measured(level)[0]

    def is_known(level: float) -> bool:
        return alpha(level) > 1 - _FALL[denoiser.channels] / level

    with denoiser.evaluating():
        beyond = next((level for level in LADDER if alpha(level) > _TOO_LITTLE), None)
        if beyond == LADDER[0]:
            return ()
        high = LADDER[-1] if beyond is None else _crossing(alpha, 1.0, beyond / 2, beyond)
        # a network that blackens its images, say, improves the noisiest, but would do better to subtract less
        if not measured(high)[1] > _GAIN or not is_known(high):
            return ()
        if not is_known(high / 2):
            return (high,)
        if beyond is not None:
            high = _crossing(alpha, _TOO_LITTLE, high, beyond)
        below = [level for level in reversed(LADDER) if level < high]
        return LevelRange(min(takewhile(is_known, below), default=high / 2), high)


def _measure(denoiser: Denoiser, clean: Tensor, noise: Tensor) -> tuple[float, float]:
    """(alpha, gain in PSNR in dB) over all images."""
    own = denoiser.like
    output = torch.cat([denoiser.denoise(y[None].to(own)).float().cpu() for y in clean + noise])
    residual = clean + noise - output
    gain = 10 * torch.log10(noise.square().sum() / (output - clean).square().sum())
    return ((noise * residual).sum() / residual.square().sum()).item(), gain.item()


def _crossing(function: Callable[[float], float], value: float, low: float, high: float) -> float:
    """Where a function of the level that is above ``value`` at ``high`` crosses it, to 2%; ``low`` if it does not."""
    from scipy.optimize import brentq  # takes 0.2 s to import, which few commands need

    if function(low) >= value:
        return low
    return math.exp(brentq(lambda x: function(math.exp(x)) - value, math.log(low), math.log(high), xtol=0.02))


@cache
def _photographs(channels: int) -> Tensor:
    """(N, C, H, W) on [0, 1]."""
    import skimage

    folder = Path(skimage.__file__).parent / 'data'
    names = _GRAY if channels == 1 else _COLOUR
    images = [torch.from_numpy(decode(read_file(folder / name), channels, name)).movedim(-1, 0) for name in names]
    return torch.stack([center(image, _SIDE) for image in images]).float()
