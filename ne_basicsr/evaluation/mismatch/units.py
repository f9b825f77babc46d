"""The plan of a comparison: which cells pass which network together, and what is measured in each."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ne_basicsr.data.image_store import ImageStore
from ne_basicsr.evaluation.mismatch.sweep import Cell, cells_of
from ne_basicsr.inference.denoiser import Denoiser
from ne_basicsr.ops.degradations import Degradation
from ne_basicsr.utils.errors import InputError
from ne_basicsr.utils.result_store import key_of

PROTOCOL = 2  # to be raised when a change of this package changes the value of a cell
PIXELS = {'cpu': 2**19, 'cuda': 2**23}  # that pass a network together, unless the batch is given
CROP = 144  # pixels of the images in strips
DEFECT_SAMPLES = {'none': 0, 'few': 1, 'all': 8}
FEW_LEVELS = 5


class Precision(NamedTuple):
    """How networks compute: the type of ``torch.autocast``, the memory format."""

    dtype: str = 'float32'
    channels_last: bool = False

    def __str__(self) -> str:
        return self.dtype + (', channels_last' if self.channels_last else '')


class Request(NamedTuple):
    """What to compare, and how: the arguments of ``basicsr mismatch``, see ``cli/commands.toml``."""

    networks: Sequence[str]
    data: Sequence[Path]
    degradations: Sequence[str] = ('gaussian',)  # as ``parse_degradation`` takes them
    labels: Sequence[str] = ()
    draws: int = 1
    seed: int = 0
    # ``few``, one (a, b) at draw 0 of at most five levels; ``all``, eight in every cell, the paper's protocol; ``none``
    defect: str = 'few'
    strip_levels: Sequence[float] = ()
    perceptual: Sequence[str] = ()
    device: str = 'cpu'
    precision: Precision = Precision()
    batch: int | None = None  # cells that pass a network together; where not given, as many as have ``PIXELS``
    trusted: bool = False  # see ``exported_graphs.open_exported``
    data_range: float | None = None  # value of white in ``data``; where not given, the largest of the type, of floats 1


class Axis(NamedTuple):
    """One data set under one degradation, before anything is measured."""

    data: str
    store: ImageStore
    degradation: Degradation
    strip_levels: tuple[float, ...]


class Unit(NamedTuple):
    """Cells of one image that pass one network together. What is in a unit does not depend on who works."""

    axis: Axis
    denoiser: Denoiser
    image: str
    digest: str
    cells: tuple[Cell, ...]
    precision: Precision
    is_shown: bool  # in strips


class WorkPlan(NamedTuple):
    """What is to be measured."""

    request: Request
    channels: int  # that all networks take, 1 or 3

    def units(self, axis: Axis, denoisers: Sequence[Denoiser], failures: dict[str, None]) -> Iterator[Unit]:
        """All units of an axis, in the order of the rows; images that cannot be read become lines in ``failures``."""
        images = []
        for name in axis.store.names:
            try:
                pixels = axis.store.pixels(name, self.channels)
            except InputError as error:
                failures[str(error)] = None
                continue
            digest = hashlib.blake2b(f'{pixels.shape}{pixels.dtype}'.encode(), digest_size=12)
            digest.update(np.ascontiguousarray(pixels).tobytes())
            images.append((name, digest.hexdigest(), pixels.shape[0] * pixels.shape[1]))
        for denoiser in denoisers:
            for number, (name, image_digest, count) in enumerate(images):
                cells = cells_of(axis.degradation, self.request.draws)
                size = self.request.batch or max(1, PIXELS.get(self.request.device, 2**19) // count)
                precisions = [self.request.precision]
                if number == 0 and self.request.precision != Precision() and not denoiser.is_identity:
                    precisions.append(Precision())  # what reduced precision costs is measured on the first image
                for precision in precisions:
                    for start in range(0, len(cells), size):
                        chunk = tuple(cells[start : start + size])
                        yield Unit(axis, denoiser, name, image_digest, chunk, precision, is_shown=number == 0)

    def wanted(self, unit: Unit, cell: Cell) -> dict[str, str]:
        """What is measured in a cell (``quality``, ``defect``, ``crop``), each with the key of its value."""
        axis, request = unit.axis, self.request
        parts = {
            'protocol': PROTOCOL, 'network': unit.denoiser.digest, 'image': unit.digest, 'name': unit.image,
            'channels': self.channels, 'kind': axis.degradation.kind, 'beside': axis.degradation.sigma255,
            'level': float(cell.level), 'draw': cell.draw, 'seed': request.seed, 'precision': str(unit.precision),
            'device': request.device,
        }  # fmt: skip
        wanted = {'quality': key_of(what='quality', **parts)}
        if unit.precision != request.precision:
            return wanted
        wanted |= {name: key_of(what=name, **parts) for name in request.perceptual}
        # a network that is told the noise level would have to be told a times that level for a y + b
        can_ask = not (request.defect == 'none' or unit.denoiser.is_identity or unit.denoiser.needs_sigma)
        few = cell.draw == 0 and cell.level in spread(unit.axis.degradation.levels, FEW_LEVELS)
        if can_ask and (few or request.defect == 'all'):
            wanted['defect'] = key_of(what='defect', samples=DEFECT_SAMPLES[request.defect], **parts)
        if unit.is_shown and cell.draw == 0 and cell.level in axis.strip_levels:
            wanted['crop'] = key_of(what='crop', size=CROP, **parts)
        return wanted

    def keys(self, units: Iterable[Unit]) -> Iterator[str]:
        for unit in units:
            for cell in unit.cells:
                yield from self.wanted(unit, cell).values()


def spread(levels: Sequence[float], count: int) -> tuple[float, ...]:
    """At most ``count`` of the levels, the first and the last among them, evenly by their places."""
    if len(levels) <= count:
        return tuple(levels)
    places = sorted({round(i * (len(levels) - 1) / (count - 1)) for i in range(count)})
    return tuple(levels[place] for place in places)


def strip_levels(degradation: Degradation, trained: Sequence[float], asked: Sequence[float]) -> tuple[float, ...]:
    if asked:
        return tuple(level for level in degradation.levels if any(math.isclose(level, each) for each in asked))
    chosen = list(spread(degradation.levels, 4))
    for level in trained[:1]:
        if degradation.is_noise and level in degradation.levels and level not in chosen:
            inner = chosen[1:-1] or chosen
            chosen[chosen.index(min(inner, key=lambda each: abs(math.log((each or 1) / level))))] = level
    return tuple(sorted(chosen))
