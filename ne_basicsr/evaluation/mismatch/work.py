"""The work: units that are not finished pass their networks, and their measures go to the store."""

import base64
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ne_basicsr.evaluation.mismatch import Cell, as_tensor, degraded, levels_given, measured
from ne_basicsr.evaluation.mismatch.units import CROP, DEFECT_SAMPLES, Precision, Request, Unit
from ne_basicsr.evaluation.report.page import display_pixels
from ne_basicsr.metrics.perceptual import perceptual
from ne_basicsr.metrics.quality import SSIM_WINDOW, psnr, psnr_8bit, psnr_clamped, ssim
from ne_basicsr.ops.center import center
from ne_basicsr.ops.equivariance import ne_defect
from ne_basicsr.ops.noise import seed_of
from ne_basicsr.utils.ahead import ahead
from ne_basicsr.utils.errors import InputError, first_line
from ne_basicsr.utils.process_group import dealt
from ne_basicsr.utils.progress import progress
from ne_basicsr.utils.result_store import CellStore, Value

DTYPES = {'float32': None, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


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
