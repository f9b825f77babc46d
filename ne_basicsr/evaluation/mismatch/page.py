"""The page of a comparison: the data for its template."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ne_basicsr.evaluation.mismatch import wording
from ne_basicsr.evaluation.mismatch.result import Comparison, Crop, Panel
from ne_basicsr.evaluation.mismatch.summaries import NetworkSummary, PanelSummary, is_failed, matched_levels
from ne_basicsr.evaluation.report.horizontal import UNITS
from ne_basicsr.evaluation.report.page import Cell, Column, Link, Table, Tile, table, write_page
from ne_basicsr.inference.denoisers import IDENTITY, Entry

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
    entries, panels = comparison.entries, comparison.panels
    shown = [
        _panel(f'panel-{number}', *each, entries)
        for number, each in enumerate(zip(panels, summaries, figures, strict=True), 1)
    ]
    columns = [Column(entry.label, '.2f', '' if entry.label == IDENTITY else 'row') for entry in entries]
    means: list[list[Cell]] = [
        [Link(panel['name'], panel['anchor']), *(_mean_psnr(summary, entry.label) for entry in entries)]
        for panel, summary in zip(shown, summaries, strict=True)
    ]
    write_page(
        path,
        'mismatch.html',
        lead=wording.lead(panels, summaries, entries),
        failures=comparison.failures,
        panels=shown,
        contents={data: [panel for panel in shown if panel['data'] == data] for data in (each.data for each in panels)},
        overview=table([Column('sweep'), *columns], means),
        networks={entry.label: wording.entry_text(entry) for entry in entries},
        settings=comparison.settings,
        command=command,
    )


def _panel(
    anchor: str, panel: Panel, summary: PanelSummary, figures: Mapping[str, Figure], entries: Sequence[Entry]
) -> dict[str, Any]:
    return panel._asdict() | {
        'anchor': anchor,
        'title': wording.degradation_text(panel.degradation),
        'name': wording.panel_text(panel),
        'finding': wording.finding(panel, summary, entries),
        'counted': wording.counted_text(panel, summary),
        'has_drop': any(each.drop is not None for each in summary.networks.values()),
        'summary': _summary_table(panel, summary, entries) if summary.levels else None,
        'figures': figures,
        'levels': _level_table(panel, summary, entries) if summary.curves else None,
        'strips': _strips(panel, entries),
    }


def _summary_table(panel: Panel, summary: PanelSummary, entries: Sequence[Entry]) -> Table:
    """A row for each network; where there is one matched level, a header names it."""
    levels = {each.matched_level for each in summary.networks.values()} - {None}  # the identity has none, by noise
    is_affine, is_one = panel.degradation.is_affine, len(levels) == 1
    matched = 'unchanged' if is_affine else f'at σ = {next(iter(levels)):.4g}' if is_one else 'matched'

    def place(level: float | None) -> Cell:
        return '' if level is None else wording.level_text(panel.degradation, level)

    columns: list[tuple[Column, Callable[[NetworkSummary], Cell]]] = [
        (Column('mean PSNR', '.2f', 'highest'), lambda each: _value(each.mean_psnr)),
        (Column('worst loss', '.2f', 'lowest'), lambda each: _value(each.worst_loss)),
        (Column('where'), lambda each: '' if each is summary.networks.get(IDENTITY) else place(each.worst_loss_level)),
    ]
    if levels:
        columns.append((Column(matched, '.2f', 'highest' if is_one else ''), lambda each: _value(each.matched_psnr)))
        columns += [] if is_one else [(Column('trained at'), lambda each: place(each.matched_level))]
        columns.append((Column('drop', '.2f', 'lowest'), lambda each: _value(each.drop)))
    columns += [
        (Column('mean SSIM', '.4f', 'highest'), lambda each: each.mean_ssim),
        (Column('worst NE defect', '.1e'), lambda each: each.worst_defect),
    ]
    failed = [FAILED, *[None] * (len(columns) - 1)]
    rows = [
        [label, *([cell(each) for _, cell in columns] if (each := summary.networks.get(label)) else failed)]
        for label in (entry.label for entry in entries)
    ]
    reference = [index for index, entry in enumerate(entries) if entry.label == IDENTITY]
    return table([Column('network'), *(column for column, _ in columns)], rows, reference=reference)


def _level_table(panel: Panel, summary: PanelSummary, entries: Sequence[Entry]) -> Table:
    """A row for each level, those marked that networks were made for."""
    shown = [entry for entry in entries if entry.label in summary.curves]
    columns = [Column(UNITS[panel.degradation.unit].header, '.4g'), Column(IDENTITY, '.2f')]
    columns += [Column(entry.label, '.2f', 'row') for entry in shown]
    known = [entry for entry in shown if entry.training_levels255]
    rows: list[list[Cell]] = []
    marked = {}
    for index, (level, identity) in enumerate(zip(summary.levels, summary.identity.psnr_out, strict=True)):
        rows.append([level, identity, *(_value(summary.curves[entry.label].psnr_out[index]) for entry in shown)])
        made = [each.label for each in shown if matched_levels(panel.degradation, [level], each.training_levels255)]
        if made:
            text = 'training level' if len(made) == len(known) else f'trained: {", ".join(made)}'
            marked[index] = 'unchanged' if panel.degradation.is_affine else text
    return table(columns, rows, marked=marked)


def _strips(panel: Panel, entries: Sequence[Entry]) -> dict[str, list[Tile]]:
    trained = wording.training_levels(entries)
    matched = matched_levels(panel.degradation, panel.strips, trained)
    is_one = len(trained) == 1
    mark = 'unchanged' if panel.degradation.is_affine else 'the training level' if is_one else 'a training level'
    noisy = 'JPEG' if panel.degradation.kind == 'jpeg' else 'noisy'
    return {
        wording.level_text(panel.degradation, level) + (f', {mark}' if level in matched else ''): [
            _tile(noisy if name == 'noisy' else name, crop) for name, crop in strip.items()
        ]
        for level, strip in panel.strips.items()
    }


def _tile(name: str, crop: Crop) -> Tile:
    note = '' if crop.psnr is None else FAILED if is_failed(crop.psnr) else f'{crop.psnr:.2f} dB'
    return Tile(crop.pixels / 255, name, note)


def _mean_psnr(summary: PanelSummary, label: str) -> Cell:
    return _value(summary.networks[label].mean_psnr) if label in summary.networks else FAILED


def _value(number: float | None) -> Cell:
    return FAILED if number is not None and is_failed(number) else number
