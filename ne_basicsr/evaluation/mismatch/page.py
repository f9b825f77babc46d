"""The page of a comparison: the data for its template."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ne_basicsr.evaluation.mismatch import wording
from ne_basicsr.evaluation.mismatch.result import Comparison
from ne_basicsr.evaluation.mismatch.summaries import NetworkSummary, PanelSummary, is_failed, matched_levels
from ne_basicsr.evaluation.report.horizontal import UNITS
from ne_basicsr.evaluation.report.page import Cell, Column, Table, Tile, link, table, write_page
from ne_basicsr.inference.denoiser import Entry
from ne_basicsr.inference.opening import IDENTITY
from ne_basicsr.ops.noise import LevelRange

FAILED = 'failed'


def write_comparison(
    path: Path,
    comparison: Comparison,
    summaries: Sequence[PanelSummary],
    figures: Sequence[Mapping[str, Figure]],
    command: str,
) -> None:
    """Write the page.

    Args:
        summaries: of each panel.
        figures: of each panel, by what they show: ``psnr``, ``ssim``, ``defect``; what was not measured is missing.
        command: that made the comparison.
    """
    entries = comparison.entries
    shown = [_panel(f'panel-{n}', *pair) for n, pair in enumerate(zip(summaries, figures, strict=True), 1)]
    columns = [Column(entry.label, '.2f', '' if entry.label == IDENTITY else 'row') for entry in entries]
    means: list[list[Cell]] = [
        [link(panel['name'], panel['anchor']), *(_value(each.mean_psnr) if each else FAILED for each in own)]
        for panel, summary in zip(shown, summaries, strict=True)
        for own in [[summary.networks.get(entry.label) for entry in entries]]
    ]
    write_page(
        path,
        'mismatch.html',
        lead=wording.lead(summaries),
        failures=comparison.failures,
        panels=shown,
        contents={each.data: [panel for panel in shown if panel['data'] == each.data] for each in comparison.panels},
        overview=table([Column('sweep'), *columns], means),
        networks={entry.label: wording.entry_text(entry) for entry in entries},
        settings=comparison.settings,
        command=command,
    )


def _panel(anchor: str, summary: PanelSummary, figures: Mapping[str, Figure]) -> dict[str, Any]:
    return summary.panel._asdict() | {
        'anchor': anchor,
        'title': wording.degradation_text(summary.panel.degradation),
        'name': wording.panel_text(summary.panel),
        'counted': wording.counted_text(summary),
        'has_drop': any(each.drop is not None for each in summary.networks.values()),
        'summary': _summary_table(summary) if summary.levels else None,
        'figures': figures,
        'levels': _level_table(summary) if summary.curves else None,
        'strips': _strips(summary),
    }


def _summary_table(summary: PanelSummary) -> Table:
    """A row for each network; where there is one matched level, a header names it."""
    levels = {each.matched_level for each in summary.networks.values()} - {None}  # the identity has none, by noise
    is_affine, is_one = summary.panel.degradation.is_affine, len(levels) == 1
    matched = 'unchanged' if is_affine else f'at σ = {next(iter(levels)):.4g}' if is_one else 'matched'

    def place(level: float | None) -> Cell:
        return '' if level is None else wording.level_text(summary.panel.degradation, level)

    def at_matched(entry: Entry, each: NetworkSummary) -> Cell:
        if not is_one:
            return _value(each.matched_psnr)
        of = summary.identity if entry.label == IDENTITY else summary.curves[entry.label]
        return _value(of.psnr_out[of.levels.index(next(iter(levels)))])  # of every network, whatever its training

    def trained(entry: Entry, each: NetworkSummary) -> Cell:
        is_range = isinstance(entry.training_levels255, LevelRange)
        return wording.trained_text(entry) if is_range else place(each.matched_level)

    columns: list[tuple[Column, Callable[[Entry, NetworkSummary], Cell]]] = [
        (Column('mean PSNR', '.2f', 'highest'), lambda _, each: _value(each.mean_psnr)),
        (Column('worst loss', '.2f', 'lowest'), lambda _, each: _value(each.worst_loss)),
        (Column('where'), lambda entry, each: '' if entry.label == IDENTITY else place(each.worst_loss_level)),
    ]
    if levels:
        columns.append((Column(matched, '.2f', 'highest' if is_one else ''), at_matched))
        columns += [] if is_one else [(Column('trained at'), trained)]
        columns.append((Column('drop', '.2f', 'lowest'), lambda _, each: _value(each.drop)))
    columns += [
        (Column('mean SSIM', '.4f', 'highest'), lambda _, each: each.mean_ssim),
        (Column('worst NE defect', '.1e'), lambda _, each: each.worst_defect),
    ]
    for name in dict.fromkeys(name for each in summary.networks.values() for name in each.perceptual):
        header = f'mean {name.removeprefix("mean_").upper()}'
        columns.append((Column(header, '.4f', 'lowest'), lambda _, each, name=name: each.perceptual[name]))  # type: ignore[misc]
    failed = [FAILED, *[None] * (len(columns) - 1)]
    rows: list[list[Cell]] = [
        [entry.label, *([cell(entry, each) for _, cell in columns] if each else failed)]
        for entry in summary.entries
        for each in [summary.networks.get(entry.label)]
    ]
    reference = [index for index, entry in enumerate(summary.entries) if entry.label == IDENTITY]
    return table([Column('network'), *(column for column, _ in columns)], rows, reference=reference)


def _level_table(summary: PanelSummary) -> Table:
    """A row for each level; levels of the training are marked."""
    degradation = summary.panel.degradation
    shown = [entry for entry in summary.entries if entry.label in summary.curves]
    columns = [Column(UNITS[degradation.unit].header, '.4g'), Column(IDENTITY, '.2f')]
    columns += [Column(entry.label, '.2f', 'row') for entry in shown]
    known = [entry for entry in shown if entry.training_levels255]
    rows: list[list[Cell]] = []
    marked = {}
    for index, (level, identity) in enumerate(zip(summary.levels, summary.identity.psnr_out, strict=True)):
        rows.append([level, identity, *(_value(summary.curves[entry.label].psnr_out[index]) for entry in shown)])
        made = [each.label for each in shown if matched_levels(degradation, [level], each.training_levels255)]
        if made:
            text = 'training level' if len(made) == len(known) else f'trained: {", ".join(made)}'
            marked[index] = 'unchanged' if degradation.is_affine else text
    return table(columns, rows, marked=marked)


def _strips(summary: PanelSummary) -> dict[str, list[Tile]]:
    degradation, strips = summary.panel.degradation, summary.panel.strips
    matched = matched_levels(degradation, strips, summary.trained)
    one = len(summary.trained) == 1 and not isinstance(summary.trained[0], LevelRange)
    training = 'the training level' if one else 'a training level'
    mark = f', {"unchanged" if degradation.is_affine else training}'
    noisy = 'JPEG' if degradation.kind == 'jpeg' else 'noisy'
    return {
        wording.level_text(degradation, level) + (mark if level in matched else ''): [
            Tile(crop.pixels / 255, noisy if name == 'noisy' else name, note)
            for name, crop in strip.items()
            for note in ['' if crop.psnr is None else FAILED if is_failed(crop.psnr) else f'{crop.psnr:.2f} dB']
        ]
        for level, strip in strips.items()
    }


def _value(number: float | None) -> Cell:
    return FAILED if number is not None and is_failed(number) else number
