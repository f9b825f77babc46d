"""The work of a comparison: which cells pass which network together, what is measured in each; and measuring it."""

import base64
import hashlib
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ne_basicsr.data.image_store import ImageStore
from ne_basicsr.evaluation.mismatch import Cell, as_tensor, cells_of, degraded, levels_given, measured
from ne_basicsr.evaluation.report.page import display_pixels
from ne_basicsr.inference.denoiser import Denoiser
from ne_basicsr.metrics.perceptual import perceptual
from ne_basicsr.metrics.quality import SSIM_WINDOW, psnr, psnr_8bit, psnr_clamped, ssim
from ne_basicsr.ops.center import center
from ne_basicsr.ops.degradations import Degradation
from ne_basicsr.ops.equivariance import ne_defect
from ne_basicsr.ops.noise import seed_of
from ne_basicsr.utils.ahead import ahead
from ne_basicsr.utils.errors import InputError, first_line
from ne_basicsr.utils.process_group import dealt
from ne_basicsr.utils.progress import progress
from ne_basicsr.utils.result_store import CellStore, Value, key_of

PROTOCOL = 2  # to be raised when a change of this package changes the value of a cell
PIXELS = {'cpu': 2**19, 'cuda': 2**23}  # that pass a network together, unless the batch is given
CROP = 144  # pixels of the images in strips
DEFECT_SAMPLES = {'none': 0, 'few': 1, 'all': 8}
FEW_LEVELS = 5
DTYPES = {'float32': None, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


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


class Worker:
    """Turns units into values in the store.

    Args:
        failures: gets a line for each network that fails.
    """

    def __init__(self, request: Request, channels: int, store: CellStore, failures: dict[str, None]) -> None:
        self.request, self.channels, self.store, self.failures = request, channels, store, failures
        self.device = torch.device(request.device)
        self.timing = 'All cells were there already.'
        self._inside = 0.0  # seconds in networks

    def work(self, units: Sequence[Unit], world_size: int, shown: bool) -> None:
        """Measure what is missing; several ranks with the same units share them.

        Noise and measures are computed by other threads while the network works, the noise once for all networks.
        """
        todo: dict[Any, list[Unit]] = {}
        known = self.store.values.keys()
        for unit in units:  # where the request has grown, a cell is measured anew
            if wanted := {cell: keys for cell, keys in unit.wanted.items() if {*keys.values()} - known}:
                group = (id(unit.axis), unit.image, tuple(wanted))
                todo.setdefault(group, []).append(unit._replace(wanted=wanted))
        start, computed = time.perf_counter(), 0
        workers = 1 if self.device.type == 'cpu' else min(8, os.cpu_count() or 1)
        pending: deque[tuple[Unit, Future[dict[str, Value]]]] = deque()
        total = sum(len(unit.wanted) for group in todo.values() for unit in group) // world_size
        dead: set[str] = set()
        placed: tuple[str, Precision] | None = None
        with (
            ThreadPoolExecutor(workers) as pool,
            progress(total, 'Denoising', 'cell', shown) as bar,
            torch.no_grad(),
            torch.backends.cudnn.flags(True, benchmark=True, allow_tf32=False),
        ):
            groups = ahead(pool, self._prepare, dealt(list(todo.values())), 2 * workers)
            for unit, prepared in ((unit, prepared) for group, prepared in groups for unit in group):
                clean, noisy = prepared.result()
                label, network = unit.denoiser.label, unit.denoiser
                if label in dead:
                    bar.update(len(unit.wanted))
                    continue
                if placed != (label, unit.precision):
                    network.to(self.device, memory_format=_memory_format(unit))  # type: ignore[call-overload] # see _Run
                    placed = (label, unit.precision)
                try:
                    output, defects = self._denoise(unit, noisy)
                except (RuntimeError, ValueError, IndexError, InputError) as error:  # the others go on without it
                    self.failures[f'{network.source}: {first_line(error)}'] = None
                    dead.add(label)
                    continue
                pending.append((unit, pool.submit(self._measure, unit, clean, noisy, output, defects)))
                computed += len(unit.wanted)
                if len(pending) > 2 * workers:
                    self._keep(*pending.popleft(), bar)
            for each in pending:
                self._keep(*each, bar)
        if computed:
            seconds = time.perf_counter() - start
            self.timing = (
                f'{computed} cells in {seconds:.1f} s, {self._inside / seconds:.0%} of it inside the networks.'
            )

    def _keep(self, unit: Unit, values: Future[dict[str, Value]], bar: Any) -> None:
        self.store.add(values.result())
        bar.update(len(unit.wanted))

    def _prepare(self, group: Sequence[Unit]) -> tuple[Tensor, Tensor]:
        unit = group[0]
        clean = as_tensor(unit.axis.store.pixels(unit.image, self.channels))
        return clean, degraded(clean, unit.image, unit.axis.degradation, [*unit.wanted], self.request.seed)

    def _denoise(self, unit: Unit, noisy: Tensor) -> tuple[Tensor, dict[Cell, float]]:
        """Outputs on the CPU, gain and offset still in them, and defects; in smaller batches where memory is short."""
        start, size, cells = time.perf_counter(), len(noisy), [*unit.wanted]
        while True:
            try:
                parts = [
                    _call(unit)(
                        noisy[i : i + size].to(self.device),
                        levels_given(unit.denoiser, unit.axis.degradation, cells[i : i + size]),
                    ).float().cpu()
                    for i in range(0, len(noisy), size)
                ]  # fmt: skip
                defects = self._defects(unit, noisy, size)
                break
            except RuntimeError as error:
                is_short = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
                if not is_short or size == 1:
                    raise
                size = (size + 1) // 2
                if self.device.type == 'cuda':
                    torch.cuda.empty_cache()
        self._inside += time.perf_counter() - start
        return torch.cat(parts), defects

    def _defects(self, unit: Unit, noisy: Tensor, size: int) -> dict[Cell, float]:
        asked = {cell: place for place, (cell, keys) in enumerate(unit.wanted.items()) if 'defect' in keys}
        if not asked:
            return {}
        chosen, samples = noisy[[*asked.values()]], DEFECT_SAMPLES[self.request.defect]
        seeds = [
            seed_of(self.request.seed, 'defect', unit.image, unit.axis.degradation.kind, float(cell.level), cell.draw)
            for cell in asked
        ]
        parts = [
            ne_defect(
                _call(unit), chosen[i : i + size].to(self.device), samples=samples, seed=seeds[i : i + size]
            ).cpu()
            for i in range(0, len(chosen), size)
        ]
        return dict(zip(asked, torch.cat(parts).tolist(), strict=True))

    def _measure(
        self, unit: Unit, clean: Tensor, noisy: Tensor, outputs: Tensor, defects: Mapping[Cell, float]
    ) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for (cell, keys), given, output in zip(unit.wanted.items(), noisy.split(1), outputs.split(1), strict=True):
            restored, quality = measured(given, output, clean, unit.axis.degradation, cell.level)
            for what, key in keys.items():
                if what == 'quality':
                    large = min(clean.shape[-2:]) >= SSIM_WINDOW
                    further = psnr_8bit(restored, clean), ssim(restored[0], clean[0]) if large else None
                    values[key] = quality | dict(zip(('psnr_8bit', 'ssim'), further, strict=True))
                elif what == 'defect':
                    values[key] = {'ne_defect': defects[cell]}
                elif what == 'crop':
                    shown, measure = (given, psnr) if unit.denoiser.is_identity else (restored, psnr_clamped)
                    values[key] = crop_value(shown, restored, clean, measure)
                else:
                    values[key] = {what: perceptual(what, restored[0], clean[0])}
        return values


def _memory_format(unit: Unit) -> torch.memory_format:
    return torch.channels_last if unit.precision.channels_last else torch.contiguous_format


def _call(unit: Unit) -> Callable[..., Tensor]:
    """The denoiser as (images, levels or None) to outputs, in the arithmetic of the unit."""
    dtype = DTYPES[unit.precision.dtype]

    def call(y: Tensor, sigma: Any = None) -> Tensor:
        y = y.contiguous(memory_format=_memory_format(unit))
        with torch.autocast(y.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            return unit.denoiser.denoise(y, sigma)

    return call


def crop_value(shown: Tensor, restored: Tensor, clean: Tensor, measure: Callable[[Tensor, Tensor], float]) -> Value:
    """The centres of an image and the clean one, for the store, and the PSNR there; images (1, C, H, W)."""
    shown, restored, clean = (center(x, CROP) for x in (shown, restored, clean))
    value: dict[str, Any] = {'psnr': measure(restored, clean)}
    for name, pixels in (('shown', display_pixels(shown[0])), ('clean', display_pixels(clean[0]))):
        value[name] = {'shape': list(pixels.shape), 'bytes': base64.b64encode(pixels.tobytes()).decode()}
    return value


def pixels_of(packed: Mapping[str, Any]) -> NDArray[np.uint8]:
    """An image of ``crop_value``, (H, W) or (H, W, 3)."""
    pixels = np.frombuffer(base64.b64decode(packed['bytes']), np.uint8).reshape(packed['shape'])
    return pixels[..., 0] if pixels.shape[2:] == (1,) else pixels  # as earlier versions kept gray ones
