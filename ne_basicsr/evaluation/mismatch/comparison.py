"""The comparison of networks over data sets and degradations; finished cells are kept, processes share the work."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ne_basicsr.data.image_store import ImageStore, open_any
from ne_basicsr.evaluation.mismatch.summaries import Comparison, Crop, Panel
from ne_basicsr.evaluation.mismatch.sweep import Cell, row_of
from ne_basicsr.evaluation.mismatch.units import Axis, Precision, Request, Unit, WorkPlan, strip_levels
from ne_basicsr.evaluation.mismatch.work import Worker, pixels_of
from ne_basicsr.inference.denoiser import Denoiser
from ne_basicsr.inference.opening import common_channels, identity, open_denoisers
from ne_basicsr.metrics.curves import Row
from ne_basicsr.metrics.perceptual import metric
from ne_basicsr.ops.degradations import KINDS, parse_degradation
from ne_basicsr.ops.noise import LevelRange, parts_of
from ne_basicsr.utils.errors import InputError
from ne_basicsr.utils.file_names import printable
from ne_basicsr.utils.process_group import gathered
from ne_basicsr.utils.result_store import CellStore


def compare(request: Request, folder: Path, rank: int = 0, world_size: int = 1) -> tuple[Comparison, str]:
    """Measure what is missing and gather the result, equal on every rank, with a line on the time taken.

    Args:
        folder: finished cells are kept in its ``cells/``.

    Raises:
        InputError: where nothing can be measured, or options contradict each other.
    """
    opened, lines = open_denoisers(request.networks, request.labels, device=request.device, trusted=request.trusted)
    for name in request.perceptual:
        metric(name)  # weights that cannot be had are found before the work
    denoisers, failures = [identity(), *opened], dict.fromkeys(lines)  # a set that keeps its order
    channels = common_channels(denoisers)
    stores = _stores(request, failures)
    parts = parts_of([part for each in denoisers for part in parts_of(each.training_levels255)])
    trained = [part for part in parts if not isinstance(part, LevelRange)]
    degradations = [parse_degradation(text, trained) for text in request.degradations]
    if any(each.needs_sigma for each in denoisers) and (odd := [d for d in degradations if d.noise_given(1) is None]):
        raise InputError(f'{odd[0]}: a non-blind network needs the noise level, and {odd[0].kind} has none')
    if channels == 1 and any(each.kind == 'demosaicked' for each in degradations):
        raise InputError('demosaicked: noise of colour images, and the networks are for gray ones; take correlated')
    axes = [
        Axis(name, store, degradation, strip_levels(degradation, trained, request.strip_levels))
        for name, store in zip(_names_of(stores), stores, strict=True)
        for degradation in degradations
    ]

    plan = WorkPlan(request, channels)
    store = CellStore(folder / 'cells', rank)
    units = [unit for axis in axes for unit in plan.units(axis, denoisers, failures)]
    gathered(None)  # nobody writes before all have read
    worker = Worker(plan, store, failures)
    worker.work(units, world_size, shown=rank == 0)
    mine = {key: store[key] for key in plan.keys(units) if key in store}
    for values, lines in gathered((mine, list(failures))):
        store.values |= values
        failures |= dict.fromkeys(lines)

    finished = _Finished(plan, store, units)
    panels = [finished.panel(axis, denoisers, failures) for axis in axes]
    lines = [printable(line) for line in failures]
    comparison = Comparison([each.entry for each in denoisers], panels, _settings(finished), lines)
    return comparison, worker.timing()


class _Finished:
    """Values from the store as rows and crops."""

    def __init__(self, plan: WorkPlan, store: CellStore, units: Sequence[Unit]) -> None:
        self.plan, self.store, self.units = plan, store, units

    def panel(self, axis: Axis, denoisers: Sequence[Denoiser], failures: dict[str, None]) -> Panel:
        """The rows of completely measured networks; each network that returned NaN adds a line to ``failures``."""
        mine = [unit for unit in self.units if unit.axis is axis and unit.precision == self.plan.request.precision]
        rows: list[Row] = []
        for denoiser in denoisers:
            own = [(unit, cell) for unit in mine if unit.denoiser is denoiser for cell in unit.cells]
            found = [row for unit, cell in own if (row := self.row(unit, cell))]
            if len(found) == len(own):
                rows += found
            if broken := sorted({row['level'] for row in found if math.isnan(row['psnr_out'])}):
                levels = ', '.join(f'{level:g}' for level in broken[:5]) + (', ...' if len(broken) > 5 else '')
                where = f'on {axis.data} with {axis.degradation}, {axis.degradation.unit} {levels}'
                failures[f'{denoiser.source}: the network returns NaN {where}'] = None
        images = tuple(dict.fromkeys(unit.image for unit in mine))
        return Panel(axis.data, axis.degradation, images, rows, self._strips(axis, mine), images[0] if images else '')

    def row(self, unit: Unit, cell: Cell) -> dict[str, Any]:
        """The row of a cell; empty where it was not measured."""
        keys = self.plan.wanted(unit, cell)
        if keys['quality'] not in self.store:
            return {}
        defect = self.store[keys['defect']]['ne_defect'] if keys.get('defect', '') in self.store else None
        names = {'network': unit.denoiser.label, 'data': unit.axis.data}
        quality = dict(self.store[keys['quality']])
        for name in self.plan.request.perceptual:
            quality |= self.store[keys[name]] if keys.get(name, '') in self.store else {name: None}
        return {**names, **row_of(unit.image, unit.axis.degradation, cell), **quality, 'ne_defect': defect}

    def _strips(self, axis: Axis, units: Sequence[Unit]) -> dict[float, dict[str, Crop]]:
        strips: dict[float, dict[str, Crop]] = {level: {} for level in axis.strip_levels}
        clean: Crop | None = None
        for unit in units:
            for cell in unit.cells:
                key = self.plan.wanted(unit, cell).get('crop', '')
                if key in self.store:
                    value = self.store[key]
                    label = 'noisy' if unit.denoiser.is_identity else unit.denoiser.label
                    strips[cell.level][label] = Crop(pixels_of(value['shown']), value['psnr'])
                    clean = Crop(pixels_of(value['clean']), None)
        return {level: {**strip, 'clean': clean} for level, strip in strips.items() if strip and clean}


def _names_of(stores: Sequence[ImageStore]) -> list[str]:
    names = [printable(store.root.resolve().name).removesuffix('.lmdb') for store in stores]
    return [name if names.count(name) == 1 else f'{name} #{names[: i + 1].count(name)}' for i, name in enumerate(names)]


def _stores(request: Request, failures: dict[str, None]) -> list[ImageStore]:
    """The stores that can be opened; the others add a line to ``failures``."""
    stores, lines = [], []
    for path in request.data:
        try:
            stores.append(open_any(Path(path), request.data_range))
        except InputError as error:
            lines.append(str(error))
    if not stores:
        raise InputError(lines[0])
    failures |= dict.fromkeys(lines)
    return stores


def _settings(finished: _Finished) -> dict[str, str]:
    request, units = finished.plan.request, finished.units
    defect = {
        'few': 'one (a, b) for each noisy image at draw 0 of at most five levels',
        'all': 'eight (a, b) for each noisy image, drawn anew',
        'none': 'not measured',
    }
    settings = {
        'PSNR': 'output clamped to [0, 1], the range of the clean image, after gain and offset are undone, not rounded,'
        ' as in the paper; the noisy input is not clamped; data range 1, mean over images and draws (rows.csv:'
        ' psnr_clamped; psnr_out is not clamped)',
        'PSNR 8-bit': 'output and clean image clipped and rounded to 8 bits, as BasicSR calculates it',
        'SSIM': 'scikit-image, 7 x 7 uniform window, output clipped and not rounded, data range 255',
        'NE defect': '|f(a y + b) - (a f(y) + b)| / |a f(y) + b|, a in [0.5, 1.5], b in [-0.25, 0.25];'
        f' {defect[request.defect]}',
        'Draws': f'{request.draws} per image and level, seed {request.seed}; noise is not clipped',
        'Images': 'gray' if finished.plan.channels == 1 else 'colour',
        **({'Data range': f'{request.data_range:g} is white'} if request.data_range else {}),
        'Arithmetic': f'{request.precision} on {request.device}',
    }  # fmt: skip
    if request.precision != Precision():
        settings['Effect of the arithmetic'] = _effect(finished)
    kinds = dict.fromkeys(unit.axis.degradation.kind for unit in units)
    return settings | {f'Degradation {kind}': f'{KINDS[kind].what}; unit {KINDS[kind].unit}' for kind in kinds}


def _effect(finished: _Finished) -> str:
    """The change of PSNR from float32, contiguous, to the arithmetic of the run."""

    def outputs(precision: Precision) -> dict[tuple[Any, ...], float]:
        return {
            (id(unit.axis), unit.denoiser.label, unit.image, cell): row['psnr_clamped']
            for unit in finished.units
            if unit.precision == precision and not unit.denoiser.is_identity
            for cell in unit.cells
            if (row := finished.row(unit, cell))
        }

    reference, own = outputs(Precision()), outputs(finished.plan.request.precision)
    changes = [own[cell] - value for cell, value in reference.items() if cell in own and math.isfinite(value)]
    if not changes:
        return 'not known'
    worst = max(changes, key=abs)
    return (
        f'against float32, contiguous: {sum(changes) / len(changes):+.4f} dB on average, {worst:+.4f} dB at most'
        f' ({len(changes)} cells of the first image)'
    )
