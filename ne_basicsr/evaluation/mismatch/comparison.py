"""The comparison of networks over data sets and degradations; finished cells are kept, processes share the work."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ne_basicsr.data.image_store import ImageStore, open_any
from ne_basicsr.evaluation.mismatch import Cell, row_of
from ne_basicsr.evaluation.mismatch.summaries import Comparison, Crop, Panel
from ne_basicsr.evaluation.mismatch.units import Axis, Precision, Request, Unit, strip_levels, units_of
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
from ne_basicsr.utils.result_store import CellStore, Value


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
    stores = _open_stores(request, failures)
    parts = parts_of([part for each in denoisers for part in parts_of(each.training_levels255)])
    trained = [part for part in parts if not isinstance(part, LevelRange)]
    degradations = [parse_degradation(text, trained) for text in request.degradations]
    if any(each.needs_sigma for each in denoisers) and (odd := [d for d in degradations if d.noise_given(1) is None]):
        raise InputError(f'{odd[0]}: a non-blind network needs the noise level, and {odd[0].kind} has none')
    if channels == 1 and any(each.kind == 'demosaicked' for each in degradations):
        raise InputError('demosaicked: noise of colour images, and the networks are for gray ones; take correlated')
    axes = [
        Axis(name, store, degradation, strip_levels(degradation, trained, request.strip_levels))
        for name, store in stores.items()
        for degradation in degradations
    ]

    store = CellStore(folder / 'cells', rank)
    units = [unit for axis in axes for unit in units_of(axis, denoisers, request, channels, failures)]
    gathered(None)  # nobody writes before all have read
    worker = Worker(request, channels, store, failures)
    worker.work(units, world_size, shown=rank == 0)
    keys = [key for unit in units for keys in unit.wanted.values() for key in keys.values()]
    for values, lines in gathered(({key: store.values[key] for key in keys if key in store.values}, list(failures))):
        store.values |= values
        failures |= dict.fromkeys(lines)

    rows = [(unit, cell, row_in(store.values, request, unit, cell)) for unit in units for cell in unit.wanted]
    own = [each for each in rows if each[0].precision == request.precision]
    panels = [_panel(axis, denoisers, [e for e in own if e[0].axis is axis], store.values, failures) for axis in axes]
    settings = _settings(request, channels, axes)
    if request.precision != Precision():
        settings['Effect of the arithmetic'] = effect_of(request.precision, rows)
    lines = [printable(line) for line in failures]
    return Comparison([each.entry for each in denoisers], panels, settings, lines), worker.timing


def row_in(values: Mapping[str, Value], request: Request, unit: Unit, cell: Cell) -> dict[str, Any]:
    """The row of a cell; empty where it was not measured."""
    keys = unit.wanted[cell]
    if keys['quality'] not in values:
        return {}
    row = {'network': unit.denoiser.label, 'data': unit.axis.data, **row_of(unit.image, unit.axis.degradation, cell)}
    row |= values[keys['quality']] | dict.fromkeys((*request.perceptual, 'ne_defect'))
    for what in (*request.perceptual, 'defect'):
        row |= values.get(keys.get(what, ''), {})
    return row


def _panel(
    axis: Axis,
    denoisers: Sequence[Denoiser],
    measured: Sequence[tuple[Unit, Cell, Row]],
    values: Mapping[str, Value],
    failures: dict[str, None],
) -> Panel:
    """The rows of completely measured networks; each network that returned NaN adds a line to ``failures``."""
    rows: list[Row] = []
    for denoiser in denoisers:
        own = [row for unit, _, row in measured if unit.denoiser is denoiser]
        rows += own if all(own) else []
        if broken := sorted({row['level'] for row in own if row and math.isnan(row['psnr_out'])}):
            levels = ', '.join(f'{level:g}' for level in broken[:5]) + (', ...' if len(broken) > 5 else '')
            where = f'on {axis.data} with {axis.degradation}, {axis.degradation.unit} {levels}'
            failures[f'{denoiser.source}: the network returns NaN {where}'] = None
    images = tuple(dict.fromkeys(unit.image for unit, _, _ in measured))
    strips: dict[float, dict[str, Crop]] = {level: {} for level in axis.strip_levels}
    clean: dict[str, Crop] = {}
    for unit, cell, _ in measured:
        if value := values.get(unit.wanted[cell].get('crop', '')):
            label = 'noisy' if unit.denoiser.is_identity else unit.denoiser.label
            strips[cell.level][label] = Crop(pixels_of(value['shown']), value['psnr'])
            clean = {'clean': Crop(pixels_of(value['clean']), None)}
    strips = {level: strip | clean for level, strip in strips.items() if strip}
    return Panel(axis.data, axis.degradation, images, rows, strips, images[0] if images else '')


def _open_stores(request: Request, failures: dict[str, None]) -> dict[str, ImageStore]:
    """The stores that can be opened, by name; the others add a line to ``failures``."""
    stores = []
    for path in request.data:
        try:
            stores.append(open_any(Path(path), request.data_range))
        except InputError as error:
            failures[str(error)] = None
    if not stores:
        raise InputError([*failures][-1])
    names = [printable(store.root.resolve().name).removesuffix('.lmdb') for store in stores]
    numbered = [f'{k} #{names[: i + 1].count(k)}' if names.count(k) > 1 else k for i, k in enumerate(names)]
    return dict(zip(numbered, stores, strict=True))


def _settings(request: Request, channels: int, axes: Sequence[Axis]) -> dict[str, str]:
    """The protocol behind the numbers, for the page."""
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
        'Images': 'gray' if channels == 1 else 'colour',
        **({'Data range': f'{request.data_range:g} is white'} if request.data_range else {}),
        'Arithmetic': f'{request.precision} on {request.device}',
    }  # fmt: skip
    kinds = dict.fromkeys(axis.degradation.kind for axis in axes)
    return settings | {f'Degradation {kind}': f'{KINDS[kind].what}; unit {KINDS[kind].unit}' for kind in kinds}


def effect_of(precision: Precision, rows: Iterable[tuple[Unit, Cell, Row]]) -> str:
    """The change of PSNR from float32, contiguous, to the ``precision`` of the run."""
    found: dict[Precision, dict[Any, float]] = {Precision(): {}, precision: {}}
    for unit, cell, row in rows:
        if row and not unit.denoiser.is_identity:
            found[unit.precision][id(unit.axis), unit.denoiser.label, unit.image, cell] = row['psnr_clamped']
    reference, own = found.values()
    changes = [own[cell] - value for cell, value in reference.items() if cell in own and math.isfinite(value)]
    if not changes:
        return 'not known'
    worst = max(changes, key=abs)
    return (
        f'against float32, contiguous: {sum(changes) / len(changes):+.4f} dB on average, {worst:+.4f} dB at most'
        f' ({len(changes)} cells of the first image)'
    )
