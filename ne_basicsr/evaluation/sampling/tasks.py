"""Tasks by name, as on the command line: what is known of an image, how the walk starts and ends."""

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch

from ne_basicsr.data.image_store import decode, read_file
from ne_basicsr.evaluation.sampling import projectors
from ne_basicsr.evaluation.sampling.projectors import Pixels, Projector
from ne_basicsr.evaluation.sampling.sampler import RESIDUAL_STOPPED, SAMPLING, Schedule
from ne_basicsr.utils.errors import InputError

MOST_LEVEL = 255.0


class Kind(NamedTuple):
    """A family of tasks."""

    what: str  #: for help and reports; ``{}`` stands for the value
    default: str | None = None  #: of the value; None where it has to be given, or there is none
    mark: str = '='  #: before the value: ``=``, or ``@`` before an 8-bit noise level; empty where there is no value
    most: float | None = 1.0  #: the largest value, where it is a number


KINDS = {
    'random': Kind('a share {} of the pixels, chosen at random', '0.1'),
    'hole': Kind('all but a centred hole, {} of the sides', '0.25'),
    'blocks': Kind('the means of blocks of {0} x {0} pixels', '4', most=math.inf),
    'lowpass': Kind('the lowest frequencies, a share of {}', '0.05'),
    'mask': Kind('the pixels that are white in {}', most=None),
    'denoise': Kind('a noisy image at level {}, denoised in small steps', '10', '@', MOST_LEVEL),
    'unconstrained': Kind('nothing', None, '', None),
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

    def schedule(self) -> Schedule:
        """The schedule of the paper for this task."""
        if self.kind != 'denoise':
            return SAMPLING
        return RESIDUAL_STOPPED._replace(sigma_start=_number(self, 0, MOST_LEVEL) / 255)

    def projector(self, names: Sequence[str], size: tuple[int, int], seed: int) -> Projector:
        """P for images of one size (height, width); an ``InputError`` for a value that does not fit the images."""
        if self.kind in ('denoise', 'unconstrained'):
            return projectors.Nothing()
        if self.kind == 'mask':
            path = Path(self.value).expanduser()
            image = decode(read_file(path), 1, str(path))[..., 0]
            if image.shape != size:
                own, wanted = (f'{width} x {height}' for height, width in (image.shape, size))
                raise InputError(f'{path}: a mask has the size of the images; it is {own} and the images are {wanted}')
            mask = torch.from_numpy(image) > 0.5  # white pixels are known
            if not mask.any():
                raise InputError(f'{path}: a mask is white where pixels are known; this one has no white pixel')
            return Pixels(mask[None, None])
        if self.kind == 'blocks':
            side = _number(self, 2, min(size))
            if side != int(side):
                raise InputError(f'task {self}: the side of a block is a whole number of pixels')
            return projectors.BlockMeans(int(side))
        share = _number(self, 0, 1)
        if self.kind == 'random':
            return projectors.random_pixels(share, names, size, seed)
        return projectors.around_hole(share, size) if self.kind == 'hole' else projectors.LowPass(share)


def parse_task(text: str) -> Task:
    """``KIND``, ``KIND=VALUE`` or ``denoise@SIGMA255``; an ``InputError`` for others."""
    name, mark, value = re.fullmatch(r'([^=@]*)([=@]?)(.*)', text, re.DOTALL).groups()  # type: ignore[union-attr]
    if name not in KINDS:
        raise InputError(f'task {text!r}: not one of {", ".join(KINDS)}')
    kind = KINDS[name]
    if mark and mark != kind.mark:
        raise InputError(f'task {text!r}: {f"write {name}{kind.mark}VALUE" if kind.mark else "it takes no value"}')
    if mark and not value:
        raise InputError(f'task {text!r}: a value follows {mark}')
    if not mark and kind.mark and kind.default is None:
        raise InputError(f'task {text!r}: the file is missing; write {name}=FILE')
    task = Task(name, value or kind.default or '')
    if kind.most is not None:
        _number(task, 0, kind.most)
    return task


def _number(task: Task, low: float, high: float) -> float:
    """The value in (0, high], or in [low, high] where ``low`` is above 0."""
    with suppress(ValueError):
        if (low <= (value := float(task.value)) <= high) and value > 0:
            return value
    above = f'{low:g} or more' if low > 0 else 'above 0'
    most = '' if high == math.inf else f' and at most {high:g}'
    raise InputError(f'task {task}: its value is a number {above}{most}')
