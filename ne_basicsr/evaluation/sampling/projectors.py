"""Measurements of an image as projectors P, linear with P P = P = P^T: P x is all that is known of x.

P x + (I - P) y agrees with the measurements for every y; the sampler looks for a y that is likely under the denoiser's
prior. Source of the choice: Kadkhodaie and Simoncelli, NeurIPS 2021, Section 4.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ne_basicsr.ops.noise import seed_of
from ne_basicsr.utils.errors import InputError


class Projector(ABC):
    """P: ``projector(y)`` maps (N, C, H, W) to the same shape, every channel on its own."""

    @abstractmethod
    def __call__(self, y: Tensor) -> Tensor:
        """P y."""

    def meet(self, y: Tensor, measured: Tensor) -> Tensor:
        """P x + (I - P) y, for ``measured`` = P x: the image nearest to y that meets the measurements.

        Written as measured + (y - P y): where P keeps pixels this is exact in floating point, too.
        """
        return measured + (y - self(y))

    def take(self, numbers: Sequence[int]) -> 'Projector':
        """The projector of some of the images of a batch, for projectors that differ from image to image."""
        return self


class Nothing(Projector):
    """P = 0: nothing is known."""

    def __call__(self, y: Tensor) -> Tensor:
        return torch.zeros_like(y)


class Pixels(Projector):
    """Some pixels are known, the same in all channels.

    Args:
        mask: bool, (N, 1, H, W), or (1, 1, H, W) for all images alike; true where the pixel is known.
    """

    def __init__(self, mask: Tensor) -> None:
        assert mask.dtype == torch.bool and mask.dim() == 4 and mask.shape[1] == 1, 'a mask is bool, (N or 1, 1, H, W)'
        self.mask = mask

    def __call__(self, y: Tensor) -> Tensor:
        return torch.where(self.mask.to(y.device), y, torch.zeros_like(y))

    def take(self, numbers: Sequence[int]) -> Projector:
        return self if len(self.mask) == 1 else Pixels(self.mask[list(numbers)])


class BlockMeans(Projector):
    """The means of ``size`` x ``size`` blocks are known; blocks that the right and bottom edge cut are smaller."""

    def __init__(self, size: int = 4) -> None:
        if size < 2:
            raise InputError(f'block means: the side of a block is 2 pixels or more; got {size}')
        self.size = size

    def __call__(self, y: Tensor) -> Tensor:
        height, width = y.shape[-2:]
        # with ceil_mode, avg_pool2d divides a cut block by the number of its pixels
        means = F.avg_pool2d(y, self.size, ceil_mode=True)
        return means.repeat_interleave(self.size, -2).repeat_interleave(self.size, -1)[..., :height, :width]


class LowPass(Projector):
    """The lowest frequencies are known: P y = F^-1 (M F y), M a disc in cycles per pixel.

    Args:
        share: of the frequencies in the disc. A frequency comes in with all others of its radius, so the share that is
            kept is the nearest there is; the mean, frequency 0, is always known.
    """

    def __init__(self, share: float = 0.05) -> None:
        _check_share('low pass', 'frequencies', share)
        self.share = share
        self._discs: dict[tuple[int, int, torch.device], Tensor] = {}  # made once: a walk asks at every step

    def __call__(self, y: Tensor) -> Tensor:
        height, width = y.shape[-2:]
        key = (height, width, y.device)
        if key not in self._discs:
            self._discs[key] = low_frequencies(height, width, self.share).to(y.device)
        half = self._discs[key][:, : width // 2 + 1]  # what a real transform holds
        return torch.fft.irfft2(torch.fft.rfft2(y) * half, s=(height, width))


def low_frequencies(height: int, width: int, share: float) -> Tensor:
    """The disc M of ``LowPass``, bool (H, W), in the order of ``torch.fft.fft2``; symmetric, so P y is real."""
    rows, columns = torch.meshgrid(_wave_numbers(height), _wave_numbers(width), indexing='ij')
    # squared radius times (H W)^2, in integers: equal radii are equal
    radii = (rows * width) ** 2 + (columns * height) ** 2
    values, counts = radii.flatten().unique(return_counts=True)
    kept = counts.cumsum(0)
    nearest = (kept - share * height * width).abs().argmin()
    return radii <= values[nearest]


def random_pixels(share: float, names: Sequence[str], size: tuple[int, int], seed: int = 0) -> Pixels:
    """A share of the pixels, chosen at random: exactly round(share H W), and never none.

    The choice depends on ``seed`` and the image's name alone, whatever else is in ``names``.
    """
    _check_share('random pixels', 'pixels', share)
    height, width = size
    count = max(1, round(share * height * width))
    mask = torch.zeros(len(names), height * width, dtype=torch.bool)
    for row, name in zip(mask, names, strict=True):
        generator = torch.Generator().manual_seed(seed_of('sampling pixels', seed, name))
        row[torch.randperm(height * width, generator=generator)[:count]] = True
    return Pixels(mask.view(-1, 1, height, width))


def around_hole(side: float, size: tuple[int, int]) -> Pixels:
    """All pixels but a centred rectangle, each of whose sides is ``side`` times that of the image."""
    if not 0 < side < 1:
        raise InputError(f'hole: its side is a share of the image between 0 and 1; got {side:g}')
    mask = torch.ones(1, 1, *size, dtype=torch.bool)
    lengths = [max(1, round(side * length)) for length in size]
    (top, left) = ((whole - length) // 2 for whole, length in zip(size, lengths, strict=True))
    mask[..., top : top + lengths[0], left : left + lengths[1]] = False
    return Pixels(mask)


def _wave_numbers(length: int) -> Tensor:
    numbers = torch.arange(length)
    return torch.minimum(numbers, length - numbers)


def _check_share(what: str, of: str, share: float) -> None:
    if not 0 < share <= 1:
        raise InputError(f'{what}: the share of the {of} that is known is above 0 and at most 1; got {share:g}')
