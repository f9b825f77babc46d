"""The plan of a comparison: which cells pass which network together, and what is measured in each."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ne_basicsr.data.image_store import ImageStore
from ne_basicsr.evaluation.mismatch import Cell, cells_of
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
    precision: Precision
    #: what is measured in each cell (``quality``, ``defect``, ``crop``, perceptual metrics), with the key of its value
    wanted: Mapping[Cell, Mapping[str, str]]


def units_of(
    axis: Axis, denoisers: Sequence[Denoiser], request: Request, channels: int, failures: dict[str, None]
) -> Iterator[Unit]:
    """All units of an axis, in the order of the rows; images that cannot be read become lines in ``failures``."""
    images = []
    for name in axis.store.names:
        try:
            pixels = axis.store.pixels(name, channels)
        except InputError as error:
            failures[str(error)] = None
            continue
        digest = hashlib.blake2b(f'{pixels.shape}{pixels.dtype}'.encode(), digest_size=12)
        digest.update(np.ascontiguousarray(pixels).tobytes())
        images.append((name, digest.hexdigest(), pixels.shape[0] * pixels.shape[1]))
    cells, few = cells_of(axis.degradation, request.draws), spread(axis.degradation.levels, FEW_LEVELS)
    for denoiser in denoisers:
        # a network that is told the noise level would have to be told a times that level for a y + b
        can_ask = not (request.defect == 'none' or denoiser.is_identity or denoiser.needs_sigma)
        for name, image_digest, count in images:
            is_first = name == images[0][0]
            precisions = [request.precision]
            if is_first and request.precision != Precision() and not denoiser.is_identity:
                precisions.append(Precision())  # what reduced precision costs is measured on the first image
            for precision in precisions:
                wanted = {}
                for cell in cells:
                    parts = {
                        'protocol': PROTOCOL, 'network': denoiser.digest, 'image': image_digest, 'name': name,
                        'channels': channels, 'kind': axis.degradation.kind, 'beside': axis.degradation.sigma255,
                        'level': float(cell.level), 'draw': cell.draw, 'seed': request.seed,
                        'precision': str(precision), 'device': request.device,
                    }  # fmt: skip
                    wanted[cell] = {'quality': key_of(what='quality', **parts)}
                    if precision != request.precision:
                        continue
                    wanted[cell] |= {metric: key_of(what=metric, **parts) for metric in request.perceptual}
                    if can_ask and (request.defect == 'all' or (cell.draw == 0 and cell.level in few)):
                        samples = DEFECT_SAMPLES[request.defect]
                        wanted[cell]['defect'] = key_of(what='defect', samples=samples, **parts)
                    if is_first and cell.draw == 0 and cell.level in axis.strip_levels:
                        wanted[cell]['crop'] = key_of(what='crop', size=CROP, **parts)
                size = request.batch or max(1, PIXELS.get(request.device, PIXELS['cpu']) // count)
                for start in range(0, len(cells), size):
                    chunk = {cell: wanted[cell] for cell in cells[start : start + size]}
                    yield Unit(axis, denoiser, name, precision, chunk)


def spread(levels: Sequence[float], count: int) -> tuple[float, ...]:
    """At most ``count`` of the levels, the first and the last among them, evenly by their places."""
    if len(levels) <= count:
        return tuple(levels)
    places = sorted({round(i * (len(levels) - 1) / (count - 1)) for i in range(count)})
    return tuple(levels[place] for place in places)


def strip_levels(degradation: Degradation, trained: Sequence[float], asked: Sequence[float]) -> tuple[float, ...]:
    """The levels whose crops are shown: those ``asked`` for, or four, the first one of the training among them."""
    if asked:
        return tuple(level for level in degradation.levels if any(math.isclose(level, each) for each in asked))
    chosen = list(spread(degradation.levels, 4))
    for level in trained[:1]:
        if degradation.is_noise and level in degradation.levels and level not in chosen:
            inner = chosen[1:-1] or chosen
            chosen[chosen.index(min(inner, key=lambda each: abs(math.log((each or 1) / level))))] = level
    return tuple(sorted(chosen))
