"""Tasks by name, as command lines give them: what is known of an image, and how the walk starts and ends."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from ne_basicsr.data.image_store import decode, read_file
from ne_basicsr.evaluation.sampling.projectors import (
    BlockMeans,
    LowPass,
    Nothing,
    Pixels,
    Projector,
    around_hole,
    random_pixels,
)
from ne_basicsr.evaluation.sampling.sampler import RESIDUAL_STOPPED, SAMPLING, Schedule
from ne_basicsr.utils.errors import InputError

MOST_LEVEL = 255.0


class Kind(NamedTuple):
    """Args:
    what: for help and reports; ``{}`` stands for the value.
    default: of the value; None where it has to be given, or there is none.
    mark: what stands before the value: ``=``, or ``@`` before an 8-bit noise level; empty where there is no value.
    """

    what: str
    default: str | None = None
    mark: str = '='


KINDS = {
    'random': Kind('a share {} of the pixels, chosen at random', '0.1'),
    'hole': Kind('all but a centred hole, {} of the sides', '0.25'),
    'blocks': Kind('the means of blocks of {0} x {0} pixels', '4'),
    'lowpass': Kind('the lowest frequencies, a share of {}', '0.05'),
    'mask': Kind('the pixels that are white in {}'),
    'denoise': Kind('a noisy image at level {}, denoised in small steps', '10', '@'),
    'unconstrained': Kind('nothing', None, ''),
}


class Task(NamedTuple):
    """One of ``KINDS`` with its value, as the command line has it."""

    kind: str
    value: str = ''

    def __str__(self) -> str:
        return self.kind + (KINDS[self.kind].mark + self.value if self.value else '')

    @property
    def what(self) -> str:
        """What is known of the image, for people."""
        return KINDS[self.kind].what.format(self.value)

    @property
    def has_reference(self) -> bool:
        """Whether a result can be compared with the image: not where nothing of it is known."""
        return self.kind != 'unconstrained'

    @property
    def starts_noisy(self) -> bool:
        """Whether y_0 = x + sigma_0 z."""
        return self.kind == 'denoise'

    def schedule(self) -> Schedule:
        """That of the paper for this task."""
        if not self.starts_noisy:
            return SAMPLING
        return RESIDUAL_STOPPED._replace(sigma_start=_number(self, 0, MOST_LEVEL) / 255)

    def projector(self, names: Sequence[str], size: tuple[int, int], seed: int) -> Projector:
        """P for images of one size (height, width).

        Raises:
            InputError: for a value that does not fit the images.
        """
        if self.kind in ('denoise', 'unconstrained'):
            return Nothing()
        if self.kind == 'mask':
            return _mask(Path(self.value).expanduser(), size)
        if self.kind == 'random':
            return random_pixels(_number(self, 0, 1), names, size, seed)
        if self.kind == 'hole':
            return around_hole(_number(self, 0, 1), size)
        if self.kind == 'lowpass':
            return LowPass(_number(self, 0, 1))
        side = _number(self, 2, min(size))
        if side != int(side):
            raise InputError(f'task {self}: the side of a block is a whole number of pixels')
        return BlockMeans(int(side))


def parse_task(text: str) -> Task:
    """``KIND``, ``KIND=VALUE`` or ``denoise@SIGMA255``.

    Raises:
        InputError: for an unknown kind, or a value that is missing or no number.
    """
    name, mark = text, ''
    for separator in '=@':
        if separator in text and (not mark or text.index(separator) < text.index(mark)):
            name, mark = text.split(separator, 1)[0], separator
    if name not in KINDS:
        raise InputError(f'task {text!r}: not one of {", ".join(KINDS)}')
    kind = KINDS[name]
    if mark != kind.mark and mark:
        way = f'write {name}{kind.mark}VALUE' if kind.mark else 'it takes no value'
        raise InputError(f'task {text!r}: {way}')
    value = text.split(mark, 1)[1] if mark else kind.default
    if value is None and kind.mark:
        raise InputError(f'task {text!r}: the file is missing; write {name}=FILE')
    task = Task(name, value or '')
    if mark and not value:
        raise InputError(f'task {text!r}: a value follows {mark}')
    if name not in ('mask', 'unconstrained'):
        _number(task, 0, {'blocks': float('inf'), 'denoise': MOST_LEVEL}.get(name, 1))
    return task


def _number(task: Task, low: float, high: float) -> float:
    try:
        value = float(task.value)
    except ValueError:
        value = float('nan')
    if not (value > low or value == low > 0) or value > high:
        above = f'{low:g} or more' if low > 0 else 'above 0'
        most = '' if high == float('inf') else f' and at most {high:g}'
        raise InputError(f'task {task}: its value is a number {above}{most}')
    return value


def _mask(path: Path, size: tuple[int, int]) -> Pixels:
    image = decode(read_file(path), 1, str(path))[..., 0]
    if image.shape != size:
        height, width = image.shape
        raise InputError(
            f'{path}: a mask has the size of the images; it is {width} x {height} and the images are'
            f' {size[1]} x {size[0]}'
        )
    mask = torch.from_numpy(image) > 0.5
    if not mask.any():
        raise InputError(f'{path}: a mask is white where pixels are known; this one has no white pixel')
    return Pixels(mask[None, None])
