"""The work: units that are not finished pass their networks, and their measures go to the store."""

import base64
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ne_basicsr.data.image_store import on_unit_range
from ne_basicsr.evaluation.mismatch.sweep import Cell, degraded, denoised, measured
from ne_basicsr.evaluation.mismatch.units import CROP, DEFECT_SAMPLES, Precision, Unit, WorkPlan
from ne_basicsr.inference.denoiser import Denoiser
from ne_basicsr.metrics.perceptual import perceptual
from ne_basicsr.metrics.quality import psnr, psnr_8bit, psnr_clamped, ssim
from ne_basicsr.ops.center import center
from ne_basicsr.ops.equivariance import ne_defect
from ne_basicsr.ops.noise import seed_of
from ne_basicsr.utils.errors import InputError, first_line
from ne_basicsr.utils.process_group import dealt
from ne_basicsr.utils.progress import progress
from ne_basicsr.utils.result_store import CellStore, Value

DTYPES = {'float32': None, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
SSIM_WINDOW = 7

T = TypeVar('T')
U = TypeVar('U')
Missing = dict[str, list[Cell]]
"""Cells for which a measure is not in the store, by measure."""


class Failed(Exception):
    """A network that cannot be used; the comparison goes on without it."""


class Worker:
    """Turns units into values in the store.

    Args:
        failures: gets a line for each network that fails.
    """

    def __init__(self, plan: WorkPlan, store: CellStore, failures: dict[str, None]) -> None:
        self.plan, self.store, self.failures = plan, store, failures
        self.device = torch.device(plan.request.device)
        self.seconds = self.seconds_inside = 0.0  # of work(), and of these inside networks
        self.computed = 0  # cells

    def timing(self) -> str:
        """How many cells were computed, and how much of the time networks took."""
        if not self.computed:
            return 'All cells were there already.'
        share = self.seconds_inside / self.seconds
        return f'{self.computed} cells in {self.seconds:.1f} s, {share:.0%} of it inside the networks.'

    @staticmethod
    def _reduced(unit: Unit, missing: Missing) -> Unit:
        """The unit with the cells that something is missing for: all of them unless the request has grown."""
        wanted = {cell for cells in missing.values() for cell in cells}
        return unit._replace(cells=tuple(cell for cell in unit.cells if cell in wanted))

    def missing(self, unit: Unit) -> Missing:
        """The cells of a unit for which a measure is not in the store, by measure."""
        found: Missing = {}
        for cell in unit.cells:
            for what, key in self.plan.wanted(unit, cell).items():
                if key not in self.store:
                    found.setdefault(what, []).append(cell)
        return found

    def work(self, units: Sequence[Unit], world_size: int, shown: bool) -> None:
        """Measure what is missing; several ranks with the same units share them.

        Noise and measures are computed by other threads while the network works, the noise once for all networks.
        """
        todo: dict[Any, list[tuple[Unit, Missing]]] = {}
        for whole in units:
            if missing := self.missing(whole):
                unit = self._reduced(whole, missing)
                todo.setdefault((id(unit.axis), unit.image, unit.cells), []).append((unit, missing))
        start = time.perf_counter()
        workers = 1 if self.device.type == 'cpu' else min(8, os.cpu_count() or 1)
        pending: deque[tuple[Unit, Future[dict[str, Value]]]] = deque()
        total = sum(len(unit.cells) for group in todo.values() for unit, _ in group) // world_size
        with (
            ThreadPoolExecutor(workers) as pool,
            progress(total, 'Denoising', 'cell', shown) as bar,
            ExitStack() as stack,
        ):
            stack.enter_context(torch.no_grad())
            stack.enter_context(torch.backends.cudnn.flags(True, benchmark=True, allow_tf32=False))

            def finish(count: int) -> None:
                while len(pending) > count:
                    unit, future = pending.popleft()
                    self.store.add(future.result())
                    bar.update(len(unit.cells))

            dead: set[str] = set()
            placed: tuple[str, Precision] | None = None
            groups = _ahead(pool, self._prepare, dealt(list(todo.values())), 2 * workers)
            for unit, missing, (clean, noisy) in ((*each, prepared) for group, prepared in groups for each in group):
                label = unit.denoiser.label
                if label in dead:
                    bar.update(len(unit.cells))
                    continue
                if placed != (label, unit.precision):
                    self._place(unit.denoiser, unit.precision)
                    placed = (label, unit.precision)
                try:
                    output, defects = self._denoise(unit, noisy, missing.get('defect', []))
                except Failed as failure:
                    self.failures[f'{unit.denoiser.source}: {failure}'] = None
                    dead.add(label)
                    continue
                pending.append((unit, pool.submit(self._measure, unit, missing, clean, noisy, output, defects)))
                self.computed += len(unit.cells)
                finish(2 * workers)
            finish(0)
        self.seconds += time.perf_counter() - start

    def _place(self, denoiser: Denoiser, precision: Precision) -> None:
        memory_format = torch.channels_last if precision.channels_last else torch.contiguous_format
        network: Any = denoiser.to(self.device)  # torch's stubs lack the keyword
        network.to(memory_format=memory_format)

    def _prepare(self, group: Sequence[tuple[Unit, Missing]]) -> tuple[Tensor, Tensor]:
        unit, _ = group[0]
        image = on_unit_range(unit.axis.store.pixels(unit.image, self.plan.channels))
        clean = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
        return clean, degraded(clean, unit.image, unit.axis.degradation, unit.cells, self.plan.request.seed)

    def _denoise(self, unit: Unit, noisy: Tensor, with_defect: Sequence[Cell]) -> tuple[Tensor, dict[Cell, float]]:
        """Outputs on the CPU, gain and offset still in them, and defects; in smaller batches where memory is short."""
        start = time.perf_counter()
        size, network = len(noisy), self._network(unit)

        def outputs(part: slice) -> Tensor:
            images, cells = noisy[part].to(self.device), unit.cells[part]
            return denoised(unit.denoiser, images, unit.axis.degradation, cells, network).float().cpu()

        while True:
            try:
                parts = [outputs(slice(i, i + size)) for i in range(0, len(noisy), size)]
                defects = self._defects(unit, noisy, with_defect, size)
                break
            except (RuntimeError, ValueError, IndexError, InputError) as error:
                if not _is_out_of_memory(error) or size == 1:
                    raise Failed(first_line(error)) from error
                size = (size + 1) // 2
                if self.device.type == 'cuda':
                    torch.cuda.empty_cache()
        self.seconds_inside += time.perf_counter() - start
        return torch.cat(parts), defects

    def _network(self, unit: Unit) -> Callable[..., Tensor]:
        """The denoiser as (images, levels or None) to outputs, in the arithmetic of the unit."""
        dtype = DTYPES[unit.precision.dtype]
        memory_format = torch.channels_last if unit.precision.channels_last else torch.contiguous_format

        def call(y: Tensor, sigma: Any = None) -> Tensor:
            y = y.contiguous(memory_format=memory_format)
            with torch.autocast(y.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
                return unit.denoiser.denoise(y, sigma)

        return call

    def _defects(self, unit: Unit, noisy: Tensor, cells: Sequence[Cell], size: int) -> dict[Cell, float]:
        if not cells:
            return {}
        chosen = noisy[[unit.cells.index(cell) for cell in cells]]
        network = self._network(unit)
        samples = DEFECT_SAMPLES[self.plan.request.defect]
        kind, start = unit.axis.degradation.kind, self.plan.request.seed
        seeds = [seed_of(start, 'defect', unit.image, kind, float(cell.level), cell.draw) for cell in cells]
        parts = [
            ne_defect(network, chosen[i : i + size].to(self.device), samples=samples, seed=seeds[i : i + size]).cpu()
            for i in range(0, len(cells), size)
        ]
        return dict(zip(cells, torch.cat(parts).tolist(), strict=True))

    def _measure(
        self,
        unit: Unit,
        missing: Mapping[str, Sequence[Cell]],
        clean: Tensor,
        noisy: Tensor,
        outputs: Tensor,
        defects: Mapping[Cell, float],
    ) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for i, cell in enumerate(unit.cells):
            keys = self.plan.wanted(unit, cell)
            given = noisy[i : i + 1]
            restored, quality = measured(given, outputs[i : i + 1], clean, unit.axis.degradation, cell.level)
            if cell in missing.get('quality', ()):
                values[keys['quality']] = quality | _further_quality(restored, clean)
            for name in self.plan.request.perceptual:
                if cell in missing.get(name, ()):
                    values[keys[name]] = {name: perceptual(name, restored[0], clean[0])}
            if cell in missing.get('crop', ()):
                shown, measure = (given, psnr) if unit.denoiser.is_identity else (restored, psnr_clamped)
                values[keys['crop']] = _crop_value(shown, restored, clean, measure)
        values |= {self.plan.wanted(unit, cell)['defect']: {'ne_defect': defect} for cell, defect in defects.items()}
        return values


# -- measures ----------------------------------------------------------------------------------------------------------


def _further_quality(restored: Tensor, clean: Tensor) -> dict[str, float | None]:
    large = min(clean.shape[-2:]) >= SSIM_WINDOW
    return {
        'psnr_8bit': psnr_8bit(restored, clean),
        'ssim': ssim(restored[0], clean[0]) if large else None,
    }


def _crop_value(shown: Tensor, restored: Tensor, clean: Tensor, measure: Callable[[Tensor, Tensor], float]) -> Value:
    shown, restored, clean = (center(x, CROP) for x in (shown, restored, clean))
    return {'shown': _packed(shown), 'clean': _packed(clean), 'psnr': measure(restored, clean)}


def _packed(image: Tensor) -> dict[str, Any]:
    pixels = (image[0].nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8).movedim(0, -1).contiguous().numpy()
    return {'shape': list(pixels.shape), 'bytes': base64.b64encode(pixels.tobytes()).decode()}


def pixels_of(packed: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    pixels = np.frombuffer(base64.b64decode(packed['bytes']), np.uint8).reshape(packed['shape'])
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


# -- small tools -------------------------------------------------------------------------------------------------------


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[T], U], items: Iterable[T], count: int
) -> Iterator[tuple[T, U]]:
    """Each item with what ``function`` makes of it, computed by the pool at most ``count`` items ahead."""
    waiting: deque[tuple[T, Future[U]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(function, item)))
        if len(waiting) > count:
            first, future = waiting.popleft()
            yield first, future.result()
    while waiting:
        first, future = waiting.popleft()
        yield first, future.result()


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
