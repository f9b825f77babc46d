"""Padding that commutes with y -> a y + b: every new pixel is a copy of one of the image, or the image's mean.

Position i of a line of n pixels, i < 0 or i >= n, takes its value from the position

    reflect    n - 1 - |n - 1 - (i mod 2 (n - 1))|      replicate    min(max(i, 0), n - 1)      circular    i mod n

which is defined for any amount of padding: reflection repeats where an image is smaller than its padding, and a line of
one pixel is repeated.
"""

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

MODES = ('reflect', 'replicate', 'circular')


def pad_to_multiple(x: Tensor, multiple: int, mode: str = 'reflect') -> tuple[Tensor, tuple[int, int]]:
    """Pad x (N, C, H, W) right and bottom, to the next multiples of ``multiple``; x itself where nothing is missing.

    Args:
        mode: one of ``MODES``, or ``mean``: each image's own mean over C, H and W, so that batches do not matter. A
            ``ValueError`` for others.

    Returns:
        The padded images, and x's own (H, W), to crop the output to.
    """
    height, width = x.shape[-2:]
    if multiple == 1:
        return x, (height, width)
    # in this form, tracers see at once that the new sizes divide
    missing_right, missing_below = ((side + multiple - 1) // multiple * multiple - side for side in (width, height))
    padded = pad(x, (0, missing_right, 0, missing_below), 'replicate' if mode == 'mean' else mode)
    if mode == 'mean' and padded is not x:
        mean = widen(x).mean(dim=(1, 2, 3), keepdim=True).to(x.dtype)
        rows = torch.arange(padded.shape[2], device=x.device) < height
        columns = torch.arange(padded.shape[3], device=x.device) < width
        padded = torch.where(rows[:, None] & columns, padded, mean)
    return padded, (height, width)


def crop(x: Tensor, height: int, width: int) -> Tensor:
    """The top left (height, width) of x (..., H, W): the way back from ``pad_to_multiple``."""
    if torch.compiler.is_compiling():
        # A slice is contiguous at some sizes only, and torch.export would fix whether it is: copy.
        rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
        return x.index_select(-2, rows).index_select(-1, columns)
    return x[..., :height, :width]


def pad(x: Tensor, pads: Sequence[int], mode: str = 'reflect') -> Tensor:
    """Pad x (..., H, W) by (left, right, top, bottom), any amounts; x itself where all are 0.

    Unlike torch's it takes images smaller than the padding. A ``ValueError`` for a mode that is none of ``MODES``.
    """
    check_mode(mode, 'padding')
    left, right, top, bottom = pads
    if torch.compiler.is_compiling() and not all(isinstance(amount, int) for amount in pads):
        # The amounts follow from a size that is not known yet: one route that is right for all of them.
        return _gather(_gather(x, -1, left, right, mode), -2, top, bottom, mode)
    if not any(pads):
        return x
    height, width = x.shape[-2:]
    slack = {'reflect': 1, 'replicate': -max(pads), 'circular': 0}[mode]  # what torch's own padding can do
    if max(left, right) + slack <= width and max(top, bottom) + slack <= height:
        return F.pad(x, tuple(pads), mode=mode)
    return _gather(_gather(x, -1, left, right, mode), -2, top, bottom, mode)


def source(i: Tensor, n: int, mode: str) -> Tensor:
    """Which positions, 0 to n - 1, the positions i (M,) of a line of n pixels copy: the formulas above."""
    if mode == 'reflect':
        # a tensor: ONNX has no remainder by a size that is not known yet
        period = torch.full_like(i[:1], torch.sym_max(2 * (n - 1), 1))
        return n - 1 - (n - 1 - i % period).abs()
    if mode == 'replicate':
        return i.clamp(0, n - 1)
    return i % n


@functools.lru_cache(maxsize=1024)
def border_sources(n: int, before: int, after: int, mode: str) -> tuple[tuple[int, int], ...]:
    """(new line, line it copies) for each line that padding adds to n lines, both counted in the padded image."""
    new = torch.cat([torch.arange(-before, 0), torch.arange(n, n + after)])
    return tuple(zip((new + before).tolist(), (source(new, n, mode) + before).tolist(), strict=True))


def check_mode(mode: str, who: str) -> None:
    """Raise unless ``mode`` is one of ``MODES``."""
    if mode not in MODES:
        reason = ' (zero padding is not affine-invariant)' if mode in ('zeros', 'constant') else ''
        raise ValueError(f"{who} needs padding_mode 'reflect', 'replicate' or 'circular'{reason}; got {mode!r}.")


def widen(x: Tensor) -> Tensor:
    """float16 and bfloat16, of any shape, to float32; wider types unchanged. Sums of many terms need the digits."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def in_float64(x: Tensor) -> Tensor:
    """x in float64, for sums over large images; on the CPU if x is on Apple's GPU (mps), which has no float64."""
    return (x.cpu() if x.device.type == 'mps' else x).double()


def _gather(x: Tensor, dim: int, before: int, after: int, mode: str) -> Tensor:
    n = x.shape[dim]
    return x.index_select(dim, source(torch.arange(-before, n + after, device=x.device), n, mode))
