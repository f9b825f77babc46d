"""The page of a comparison: the data for its template."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ne_basicsr.evaluation.mismatch import wording
from ne_basicsr.evaluation.mismatch.result import Comparison, Crop, Panel
from ne_basicsr.evaluation.mismatch.summaries import PanelSummary, is_failed, matched_levels
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
    degradation = panel.degradation
    return {
        'anchor': anchor,
        'data': panel.data,
        'degradation': wording.degradation_text(degradation),
        'name': wording.panel_text(panel),
        'kind': degradation.kind,
        'is_affine': degradation.is_affine,
        'finding': wording.finding(panel, summary, entries),
        'counted': wording.counted_text(panel, summary),
        'has_drop': any(each.drop is not None for each in summary.networks.values()),
        'summary': _summary_table(panel, summary, entries) if summary.levels else None,
        'figures': figures,
        'levels': _level_table(panel, summary, entries) if summary.curves else None,
        'strips': _strips(panel, entries),
        'strip_image': panel.strip_image,
    }


def _summary_table(panel: Panel, summary: PanelSummary, entries: Sequence[Entry]) -> Table:
    """A row for each network; the column of matched levels names the level where it is one."""
    levels = {each.matched_level for each in summary.networks.values()} - {None}  # the identity has none, by noise
    degradation, is_one = panel.degradation, len(levels) == 1
    columns = [
        Column('network'), Column('mean PSNR', '.2f', 'highest'), Column('worst loss', '.2f', 'lowest'), Column('where')
    ]  # fmt: skip
    if levels:
        matched = 'unchanged' if degradation.is_affine else f'at σ = {next(iter(levels)):.4g}' if is_one else 'matched'
        columns.append(Column(matched, '.2f', 'highest' if is_one else ''))
        columns += [*([] if is_one else [Column('trained at')]), Column('drop', '.2f', 'lowest')]
    columns += [Column('mean SSIM', '.4f', 'highest'), Column('worst NE defect', '.1e')]
    rows: list[list[Cell]] = []
    for label in (entry.label for entry in entries):
        each = summary.networks.get(label)
        if each is None:
            rows.append([label, FAILED, *[None] * (len(columns) - 2)])
            continue
        place, trained = (
            '' if level is None else wording.level_text(degradation, level)
            for level in (each.worst_loss_level, each.matched_level)
        )
        row: list[Cell] = [label, _value(each.mean_psnr), _value(each.worst_loss), '' if label == IDENTITY else place]
        if levels:
            row += [_value(each.matched_psnr), *([] if is_one else [trained]), _value(each.drop)]
        rows.append([*row, _value(each.mean_ssim), _value(each.worst_defect)])
    return table(columns, rows, reference=[i for i, entry in enumerate(entries) if entry.label == IDENTITY])


def _level_table(panel: Panel, summary: PanelSummary, entries: Sequence[Entry]) -> Table:
    shown = [entry for entry in entries if entry.label in summary.curves]
    rows: list[list[Cell]] = [
        [level, identity, *(_value(summary.curves[entry.label].psnr_out[index]) for entry in shown)]
        for index, (level, identity) in enumerate(zip(summary.levels, summary.identity.psnr_out, strict=True))
    ]
    columns = [Column(UNITS[panel.degradation.unit].header, '.4g'), Column(IDENTITY, '.2f')]
    columns += [Column(entry.label, '.2f', 'row') for entry in shown]
    return table(columns, rows, marked=_marks(panel, summary, shown))


def _marks(panel: Panel, summary: PanelSummary, entries: Sequence[Entry]) -> dict[int, str]:
    """Rows of the table by level that networks were made for."""
    made_for: dict[float, list[str]] = {}
    for entry in entries:
        for level in matched_levels(panel.degradation, summary.levels, entry.training_levels255):
            made_for.setdefault(level, []).append(entry.label)
    known = [entry for entry in entries if entry.training_levels255]
    texts = {
        level: 'training level' if len(labels) == len(known) else f'trained: {", ".join(labels)}'
        for level, labels in made_for.items()
    }
    return {
        summary.levels.index(level): 'unchanged' if panel.degradation.is_affine else text
        for level, text in texts.items()
    }


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
