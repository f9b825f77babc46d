"""The work: units that are not finished pass their networks, and their measures go to the store."""

import base64
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ne_basicsr.evaluation.mismatch.sweep import Cell, as_tensor, degraded, denoised, measured
from ne_basicsr.evaluation.mismatch.units import CROP, DEFECT_SAMPLES, Precision, Unit, WorkPlan
from ne_basicsr.inference.denoiser import Denoiser
from ne_basicsr.metrics.perceptual import perceptual
from ne_basicsr.metrics.quality import psnr, psnr_8bit, psnr_clamped, ssim
from ne_basicsr.ops.center import center
from ne_basicsr.ops.equivariance import ne_defect
from ne_basicsr.ops.noise import seed_of
from ne_basicsr.utils.ahead import ahead
from ne_basicsr.utils.errors import InputError, first_line
from ne_basicsr.utils.process_group import dealt
from ne_basicsr.utils.progress import progress
from ne_basicsr.utils.result_store import CellStore, Value

DTYPES = {'float32': None, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
SSIM_WINDOW = 7


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

    def work(self, units: Sequence[Unit], world_size: int, shown: bool) -> None:
        """Measure what is missing; several ranks with the same units share them.

        Noise and measures are computed by other threads while the network works, the noise once for all networks.
        """
        todo: dict[Any, list[Unit]] = {}
        known = self.store.values.keys()
        for unit in units:  # where the request has grown, a cell is measured anew
            if cells := tuple(cell for cell in unit.cells if {*self.plan.wanted(unit, cell).values()} - known):
                todo.setdefault((id(unit.axis), unit.image, cells), []).append(unit._replace(cells=cells))
        start = time.perf_counter()
        workers = 1 if self.device.type == 'cpu' else min(8, os.cpu_count() or 1)
        pending: deque[tuple[Unit, Future[dict[str, Value]]]] = deque()
        total = sum(len(unit.cells) for group in todo.values() for unit in group) // world_size
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
            groups = ahead(pool, self._prepare, dealt(list(todo.values())), 2 * workers)
            for unit, prepared in ((unit, prepared) for group, prepared in groups for unit in group):
                clean, noisy = prepared.result()
                label = unit.denoiser.label
                if label in dead:
                    bar.update(len(unit.cells))
                    continue
                if placed != (label, unit.precision):
                    self._place(unit.denoiser, unit.precision)
                    placed = (label, unit.precision)
                try:
                    output, defects = self._denoise(unit, noisy)
                except Failed as failure:
                    self.failures[f'{unit.denoiser.source}: {failure}'] = None
                    dead.add(label)
                    continue
                pending.append((unit, pool.submit(self._measure, unit, clean, noisy, output, defects)))
                self.computed += len(unit.cells)
                finish(2 * workers)
            finish(0)
        self.seconds += time.perf_counter() - start

    def _place(self, denoiser: Denoiser, precision: Precision) -> None:
        memory_format = torch.channels_last if precision.channels_last else torch.contiguous_format
        network: Any = denoiser.to(self.device)  # torch's stubs lack the keyword
        network.to(memory_format=memory_format)

    def _prepare(self, group: Sequence[Unit]) -> tuple[Tensor, Tensor]:
        unit = group[0]
        clean = as_tensor(unit.axis.store.pixels(unit.image, self.plan.channels))
        return clean, degraded(clean, unit.image, unit.axis.degradation, unit.cells, self.plan.request.seed)

    def _denoise(self, unit: Unit, noisy: Tensor) -> tuple[Tensor, dict[Cell, float]]:
        """Outputs on the CPU, gain and offset still in them, and defects; in smaller batches where memory is short."""
        start = time.perf_counter()
        size, network = len(noisy), self._network(unit)

        def outputs(part: slice) -> Tensor:
            images, cells = noisy[part].to(self.device), unit.cells[part]
            return denoised(unit.denoiser, images, unit.axis.degradation, cells, network).float().cpu()

        while True:
            try:
                parts = [outputs(slice(i, i + size)) for i in range(0, len(noisy), size)]
                defects = self._defects(unit, noisy, size)
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

    def _defects(self, unit: Unit, noisy: Tensor, size: int) -> dict[Cell, float]:
        cells = [cell for cell in unit.cells if 'defect' in self.plan.wanted(unit, cell)]
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
        self, unit: Unit, clean: Tensor, noisy: Tensor, outputs: Tensor, defects: Mapping[Cell, float]
    ) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for cell, given, output in zip(unit.cells, noisy.split(1), outputs.split(1), strict=True):
            restored, quality = measured(given, output, clean, unit.axis.degradation, cell.level)
            for what, key in self.plan.wanted(unit, cell).items():
                if what == 'quality':
                    values[key] = quality | _further_quality(restored, clean)
                elif what == 'defect':
                    values[key] = {'ne_defect': defects[cell]}
                elif what == 'crop':
                    shown, measure = (given, psnr) if unit.denoiser.is_identity else (restored, psnr_clamped)
                    values[key] = _crop_value(shown, restored, clean, measure)
                else:
                    values[key] = {what: perceptual(what, restored[0], clean[0])}
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


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
