"""The files of a comparison: rows and curves as CSV, a summary as JSON, figures, and the page.

Equal comparisons give equal bytes.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ne_basicsr.evaluation.mismatch.summaries import (
    Comparison,
    Panel,
    PanelSummary,
    is_failed,
    matched_levels,
    summarize_panel,
)
from ne_basicsr.evaluation.report.figures import UNITS, defect_figure, levels_text, mismatch_figure, ssim_figure
from ne_basicsr.evaluation.report.files import save_figures
from ne_basicsr.evaluation.report.page import Cell, Column, Table, Tile, link, table, write_page
from ne_basicsr.evaluation.report.tables import write_csv, write_json, write_rows, writing
from ne_basicsr.inference.opening import IDENTITY
from ne_basicsr.metrics.curves import KEYS
from ne_basicsr.ops.degradations import Degradation
from ne_basicsr.ops.noise import LevelRange
from ne_basicsr.utils.file_names import file_names

FIGURES = ('psnr', 'ssim', 'defect')
MEASURES = ('psnr_in', 'psnr_out', 'psnr_clamped', 'psnr_8bit', 'ssim', 'ne_defect')
FAILED = 'failed'
_NAMES = {'jpeg': 'JPEG compression', 'poisson_gaussian': 'photon noise', 'gain': 'gain', 'offset': 'offset'}


def write_outputs(comparison: Comparison, folder: Path, command: str) -> Path:
    """Write all results of a comparison, replacing those of an earlier one; returns the page's path.

    ``rows.csv``, one line per network, image, level and draw; ``summary.json``; ``report.html`` with the ``command``
    line; for each panel ``curves/<data>_<degradation>.csv`` and
    ``figures/<data>_<degradation>_{psnr,ssim,defect}.{png,pdf}``. An ``InputError`` where they cannot be written.
    """
    with writing(folder):
        summaries = [summarize_panel(panel, comparison.entries) for panel in comparison.panels]
        rows = [row for panel in comparison.panels for row in panel.rows]
        write_rows(folder / 'rows.csv', rows, [*KEYS, *MEASURES])
        write_json(folder / 'summary.json', summary_of(comparison, summaries))
        figures = [figures_of(summary) for summary in summaries]
        names = file_names(f'{panel.data}_{panel.degradation}'.replace('/', '-') for panel in comparison.panels)
        for name, summary, drawn in zip(names, summaries, figures, strict=True):
            write_curves(folder / 'curves' / f'{name}.csv', summary)
            named = {f'{name}_{what}': figure for what, figure in drawn.items()}
            save_figures(named, folder / 'figures', [f'{name}_{what}' for what in FIGURES])
        page = folder / 'report.html'
        write_comparison(page, comparison, summaries, figures, command)
    return page


def figures_of(summary: PanelSummary) -> dict[str, Figure]:
    """The figures of a panel by what they show; a network has the same colour in all figures of a comparison."""
    names = [entry.label for entry in summary.entries if entry.label != IDENTITY]
    style: dict[str, Any] = {'unit': summary.panel.degradation.unit, 'names': names}
    figures = {}
    if summary.curves:
        figures['psnr'] = mismatch_figure(summary.curves, summary.trained, **style)
    if summary.ssim:
        figures['ssim'] = ssim_figure(summary.ssim, summary.identity, summary.identity_ssim, summary.trained, **style)
    if summary.defects:
        figures['defect'] = defect_figure(summary.defects, summary.trained, **style)
    return figures


def write_curves(path: Path, summary: PanelSummary) -> None:
    """Mean output PSNR, a line per level, a column per network, as the paper's curves are published.

    Noise: ``sigma_8bit, sigma, input_psnr_db, is_train_sigma``, then the networks. Other degradations:
    ``quality_factor``, ``photons``, ``max_sigma_8bit``, ``gain`` or ``offset`` (which were undone before PSNR was
    computed), ``input_psnr_db``, then the networks.
    """
    degradation = summary.panel.degradation
    matched = matched_levels(degradation, summary.levels, summary.trained)
    columns = [UNITS[degradation.unit].column, *(['sigma'] if degradation.is_noise else []), 'input_psnr_db']
    columns += [*(['is_train_sigma'] if degradation.is_noise else []), *summary.curves]
    rows = []
    for index, level in enumerate(summary.levels):
        psnr_in, *psnr_out = (
            None if math.isnan(psnr[index]) else round(psnr[index], 6)
            for psnr in (summary.identity.psnr_in, *(curve.psnr_out for curve in summary.curves.values()))
        )
        of_noise = [level, round(level / 255, 8), psnr_in, level in matched]
        rows.append([*(of_noise if degradation.is_noise else [level, psnr_in]), *psnr_out])
    write_csv(path, columns, rows)


def summary_of(comparison: Comparison, summaries: Sequence[PanelSummary]) -> dict[str, Any]:
    """The content of ``summary.json``; its numbers have ten significant digits: defects are as small as rounding."""
    panels = [
        {
            'data': summary.panel.data,
            'degradation': str(summary.panel.degradation),
            'unit': summary.panel.degradation.unit,
            'levels': summary.levels,
            'images': len(summary.panel.images),
            'draws': summary.draws,
            'networks': {
                label: {k: None if value is None else float(f'{value:.10g}') for k, value in numbers.items()}
                for label, each in summary.networks.items()
                for values in [each._asdict()]
                for numbers in [values | values.pop('perceptual')]
            },
        }
        for summary in summaries
    ]
    return {'settings': comparison.settings} | comparison._asdict() | {'panels': panels}


# -- the page ----------------------------------------------------------------------------------------------------------


def write_comparison(
    path: Path,
    comparison: Comparison,
    summaries: Sequence[PanelSummary],
    figures: Sequence[Mapping[str, Figure]],
    command: str,
) -> None:
    """Write the page, from the summaries and the figures (by what they show, see ``FIGURES``) of each panel."""
    labels = [entry.label for entry in comparison.entries]
    panels: list[dict[str, Any]] = []
    for number, (each, drawn) in enumerate(zip(summaries, figures, strict=True), 1):
        named = {'anchor': f'panel-{number}', 'name': panel_text(each.panel), 'figures': drawn}
        named |= {'title': degradation_text(each.panel.degradation), 'strips': _strips(each)}
        panels.append(each._asdict() | named | {'table': _summary_table(each), 'by_level': _level_table(each)})
    columns = [Column('sweep'), *(Column(label, '.2f', '' if label == IDENTITY else 'row') for label in labels)]
    means: list[list[Cell]] = [
        [link(panel['name'], panel['anchor']), *(_value(own[k].mean_psnr) if k in own else FAILED for k in labels)]
        for panel in panels
        for own in [panel['networks']]
    ]
    data = comparison._asdict() | {'panels': panels, 'overview': table(columns, means), 'command': command}
    write_page(path, 'mismatch.html', lead=lead(summaries), identity=IDENTITY, levels_text=levels_text, **data)


def _summary_table(summary: PanelSummary) -> Table:
    """A row for each network; where there is one matched level, a header names it."""
    degradation, networks = summary.panel.degradation, summary.networks
    levels = {each.matched_level for each in networks.values()} - {None}  # the identity has none, by noise
    only = next(iter(levels)) if len(levels) == 1 else None
    perceptual = dict.fromkeys(name for each in networks.values() for name in each.perceptual)
    columns = [Column('network'), Column('mean PSNR', '.2f', 'highest'), Column('worst loss', '.2f', 'lowest')]
    columns.append(Column('where'))
    if levels:
        matched = 'unchanged' if degradation.is_affine else 'matched' if only is None else f'at σ = {only:.4g}'
        columns.append(Column(matched, '.2f', '' if only is None else 'highest'))
        columns += [Column('trained at')] if only is None else []
        columns.append(Column('drop', '.2f', 'lowest'))
    columns += [Column('mean SSIM', '.4f', 'highest'), Column('worst NE defect', '.1e')]
    columns += [Column(f'mean {name.removeprefix("mean_").upper()}', '.4f', 'lowest') for name in perceptual]
    rows: list[list[Cell]] = []
    for entry in summary.entries:
        each, row = networks.get(entry.label), [entry.label]  # type: Any, list[Cell]
        rows.append(row)
        if each is None:
            row += [FAILED, *[None] * (len(columns) - 2)]
            continue
        of = summary.identity if entry.label == IDENTITY else summary.curves[entry.label]
        trained, worst = each.matched_level, None if entry.label == IDENTITY else each.worst_loss_level
        row += [_value(each.mean_psnr), _value(each.worst_loss), level_text(degradation, worst)]
        if levels:  # at the one level every network has a number, whatever its training
            row.append(_value(each.matched_psnr if only is None else of.psnr_out[of.levels.index(only)]))
            if only is None:
                is_range = isinstance(entry.training_levels255, LevelRange)
                several = f'σ = {levels_text(entry.training_levels255)}'
                row.append(several if is_range else level_text(degradation, trained))
            row.append(_value(each.drop))
        row += [each.mean_ssim, each.worst_defect, *(each.perceptual[name] for name in perceptual)]
    reference = [index for index, entry in enumerate(summary.entries) if entry.label == IDENTITY]
    return table(columns, rows, reference=reference)


def _level_table(summary: PanelSummary) -> Table:
    """A row for each level; levels of the training are marked."""
    degradation = summary.panel.degradation
    shown = [entry for entry in summary.entries if entry.label in summary.curves]
    columns = [Column(UNITS[degradation.unit].header, '.4g'), Column(IDENTITY, '.2f')]
    columns += [Column(entry.label, '.2f', 'row') for entry in shown]
    outputs = [summary.curves[entry.label].psnr_out for entry in shown]
    rows = [
        [level, identity, *map(_value, own)]
        for level, identity, *own in zip(summary.levels, summary.identity.psnr_out, *outputs, strict=True)
    ]
    marked = {}
    for index, level in enumerate(summary.levels):
        if made := [each.label for each in shown if matched_levels(degradation, [level], each.training_levels255)]:
            is_all = len(made) == sum(bool(entry.training_levels255) for entry in shown)
            text = 'training level' if is_all else f'trained: {", ".join(made)}'
            marked[index] = 'unchanged' if degradation.is_affine else text
    return table(columns, rows, marked=marked)


def _strips(summary: PanelSummary) -> dict[str, list[Tile]]:
    degradation, strips = summary.panel.degradation, summary.panel.strips
    one = len(summary.trained) == 1 and not isinstance(summary.trained[0], LevelRange)
    mark = 'unchanged' if degradation.is_affine else f'{"the" if one else "a"} training level'
    matched = matched_levels(degradation, strips, summary.trained)
    noisy = 'JPEG' if degradation.kind == 'jpeg' else 'noisy'
    return {
        level_text(degradation, level) + (f', {mark}' if level in matched else ''): [
            Tile(crop.pixels, noisy if name == 'noisy' else name, note)
            for name, crop in strip.items()
            for note in ['' if crop.psnr is None else FAILED if is_failed(crop.psnr) else f'{crop.psnr:.2f} dB']
        ]
        for level, strip in strips.items()
    }


def _value(number: float | None) -> Cell:
    return FAILED if number is not None and is_failed(number) else number


# -- words -------------------------------------------------------------------------------------------------------------


def degradation_text(degradation: Degradation) -> str:
    """``Gaussian noise``, ``JPEG compression``, ``gain at σ = 25``."""
    kind = degradation.kind
    name = _NAMES.get(kind) or f'{kind if kind == "uniform" else kind.capitalize()} noise'
    if not degradation.sigma255:
        return name
    return f'{name} {"at" if degradation.is_affine else "and"} σ\u00a0=\u00a0{degradation.sigma255:g}'


def panel_text(panel: Panel) -> str:
    """What a panel is called."""
    return f'{panel.data}, {degradation_text(panel.degradation)}'


def level_text(degradation: Degradation, level: float | None) -> str:
    """``σ = 25``, ``quality 10``, ``100 photons``, ``a = 0.5``, ``b = −1``, without a line break; empty for None."""
    if level is None:
        return ''
    value = f'{level:.4g}'.replace('-', '−')
    return UNITS[degradation.unit].text.format(value).replace(' ', '\u00a0')


def lead(summaries: Sequence[PanelSummary]) -> str:
    """Which network has the best mean, or has it most often, and the largest loss of all."""
    by_panel = [  # networks with a number at every level
        {k: each for k, each in summary.networks.items() if k != IDENTITY and not math.isnan(each.mean_psnr)}
        for summary in summaries
    ]
    winners = [max(own, key=lambda label: own[label].mean_psnr) for own in by_panel if own]
    if not winners:
        return 'No network could be measured; the reasons are below.'
    winner, networks = max(winners, key=winners.count), len({label for own in by_panel for label in own})
    if len(summaries) == 1:
        mean, count = by_panel[0][winner].mean_psnr, len(summaries[0].levels)
        levels = f'{count} level{"s" if count != 1 else ""}'
        text = f'{winner} has {"the best" if networks > 1 else "a"} mean PSNR of {mean:.2f} dB over {levels}.'
    elif networks == 1:
        text = f'{winner} was tested in {len(winners)} sweeps.'
    else:
        share = f'{winners.count(winner)} of {len(summaries)} sweeps'
        text = f'{winner} has the best mean PSNR of {networks} networks in {share}.'
    both = zip(summaries, by_panel, strict=True)
    losses = [(each, label, summary.panel) for summary, own in both for label, each in own.items()]
    worst, label, panel = max(losses, key=lambda one: one[0].worst_loss)
    if worst.worst_loss_level is None:  # no level has a finite input PSNR
        return text
    if worst.worst_loss <= 0:
        return f'{text} Every network gains at every level, {-worst.worst_loss:.2f} dB or more.'
    place = f'{panel_text(panel)}, {level_text(panel.degradation, worst.worst_loss_level)}'
    return f'{text} The largest loss against the noisy image is {worst.worst_loss:.2f} dB, of {label} ({place}).'
