"""The page of a comparison: what was found, each panel with its numbers, figures and images, and how it was done."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ne_basicsr.evaluation.mismatch import wording
from ne_basicsr.evaluation.mismatch.result import Comparison, Crop, Panel
from ne_basicsr.evaluation.mismatch.summaries import PanelSummary, is_failed, matched_levels
from ne_basicsr.evaluation.report.html_page import (
    Cell,
    Html,
    Link,
    Tile,
    code_block,
    contents_block,
    facts_block,
    figure_block,
    fold_block,
    row_block,
    section_block,
    strip_block,
    table_block,
    text_block,
    warning_block,
    write_page,
)
from ne_basicsr.inference.denoiser import Entry
from ne_basicsr.inference.opening import IDENTITY

FAILED = 'failed'
_FEW_PANELS = 2  # so many show their tables by level without being asked


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
    blocks = []
    if comparison.failures:
        blocks.append(warning_block('Not everything could be measured', comparison.failures))
    blocks.append(contents_block(_contents(comparison)))
    if len(comparison.panels) > 1:
        blocks.append(_overview(comparison, summaries))
    for number, panel in enumerate(comparison.panels):
        blocks.append(_panel(number, panel, summaries[number], figures[number], comparison))
    networks = {entry.label: wording.entry_text(entry) for entry in comparison.entries}
    blocks.append(section_block('Networks', facts_block(networks), anchor='networks'))
    protocol = section_block('Protocol', facts_block(comparison.settings), code_block(command), anchor='protocol')
    write_page(path, 'Mismatch evaluation', wording.lead(comparison, summaries), [*blocks, protocol])


def _contents(comparison: Comparison) -> list[tuple[str, list[Link]]]:
    groups: dict[str, list[Link]] = {}
    for number, panel in enumerate(comparison.panels):
        groups.setdefault(panel.data, []).append(
            Link(wording.degradation_text(panel.degradation), _anchor(number)),
        )
    overview = [Link('Overview', 'overview')] if len(comparison.panels) > 1 else []
    about = [*overview, Link('Networks', 'networks'), Link('Protocol', 'protocol')]
    return [*groups.items(), ('About', about)]


def _anchor(number: int) -> str:
    return f'panel-{number + 1}'


def _overview(comparison: Comparison, summaries: Sequence[PanelSummary]) -> Html:
    """Mean PSNR of every network on every panel."""
    labels = [entry.label for entry in comparison.entries]
    rows: list[list[Cell]] = []
    for number, (panel, summary) in enumerate(zip(comparison.panels, summaries, strict=True)):
        found = {label: each.mean_psnr for label, each in summary.networks.items()}
        numbers = [_value(found.get(label, math.nan)) for label in labels]
        rows.append([Link(wording.panel_text(panel), _anchor(number)), *numbers])
    table = table_block(
        {_header('sweep', labels): '', **dict.fromkeys(labels, '.2f')},
        rows,
        'Output PSNR in dB, mean over the levels of each sweep; the best network in bold. The identity is the image'
        ' left alone.',
        compare=[label for label in labels if label != IDENTITY],
    )
    return section_block('Overview', table, anchor='overview')


def _panel(
    number: int, panel: Panel, summary: PanelSummary, figures: Mapping[str, Figure], comparison: Comparison
) -> Html:
    name = wording.panel_text(panel)
    blocks = []
    if len(comparison.panels) > 1:
        blocks.append(text_block(wording.finding(panel, summary, comparison.entries)))
    if summary.levels:
        blocks.append(_summary_table(panel, summary, comparison.entries))
    drawn = {
        what: figure_block(figures[what], caption, alt=f'{name}: {caption}')
        for what, caption in _captions(panel).items()
        if what in figures
    }
    if 'psnr' in drawn:
        blocks.append(drawn.pop('psnr'))
    if drawn:
        blocks.append(row_block(*drawn.values()))
    if summary.curves:
        table = _level_table(panel, summary, comparison.entries)
        blocks.append(fold_block('Output PSNR by level', table, is_open=len(comparison.panels) <= _FEW_PANELS))
    if panel.strips:
        blocks.append(_strips(panel, comparison.entries))
    return section_block(name, *blocks, anchor=_anchor(number))


def _summary_table(panel: Panel, summary: PanelSummary, entries: Sequence[Entry]) -> Html:
    labels = [entry.label for entry in entries]
    levels = {each.matched_level for each in summary.networks.values()} - {None}  # the identity has none, by noise
    degradation = panel.degradation
    columns = {'network': '', 'mean PSNR': '.2f', 'worst loss': '.2f', 'where': ''}
    best = {'mean PSNR': 'highest', 'worst loss': 'lowest'}
    if levels:
        is_one = len(levels) == 1
        matched = 'unchanged' if degradation.is_affine else f'at σ = {next(iter(levels)):.4g}' if is_one else 'matched'
        columns |= {matched: '.2f', **({} if is_one else {'trained at': ''}), 'drop': '.2f'}
        best |= {'drop': 'lowest'} | ({matched: 'highest'} if is_one else {})
    columns |= {'mean SSIM': '.4f', 'worst NE defect': '.1e'}
    best |= {'mean SSIM': 'highest'}
    rows: list[list[Cell]] = []
    for label in labels:
        each = summary.networks.get(label)
        if each is None:
            rows.append([label, FAILED, *[None] * (len(columns) - 2)])
            continue
        place = '' if each.worst_loss_level is None else wording.level_text(degradation, each.worst_loss_level)
        row: list[Cell] = [label, _value(each.mean_psnr), _value(each.worst_loss), '' if label == IDENTITY else place]
        if levels:
            trained = '' if each.matched_level is None else wording.level_text(degradation, each.matched_level)
            # what the identity has at somebody's training level says nothing about it
            row += [_value(each.matched_psnr), *([] if len(levels) == 1 else [trained]), _value(each.drop)]
        rows.append([*row, _value(each.mean_ssim), _value(each.worst_defect)])
    matched_text = {
        True: 'Drop: from the unchanged image to the lowest of the sweep.',
        False: 'Drop: from the training level to the lowest of the sweep.',
    }[degradation.is_affine]
    return table_block(
        columns,
        rows,
        f'{_capital(wording.counted_text(panel, summary))}; PSNR in dB. Worst loss: against leaving the image alone,'
        f' negative where the network gains at every level. {matched_text if levels else ""}'.strip(),
        best=best,
        reference=[labels.index(IDENTITY)] if IDENTITY in labels else [],
    )


def _captions(panel: Panel) -> dict[str, str]:
    """What the figures show."""
    if panel.degradation.is_affine:
        what = 'gain' if panel.degradation.kind == 'gain' else 'offset'
        return {
            'psnr': f'Output PSNR against the {what}, which is taken back before the comparison with the clean image:'
            ' an equivariant network is flat.',
            'ssim': f'SSIM against the {what}.',
            'defect': 'Defect of normalization equivariance.',
        }
    return {
        'psnr': 'Output against input PSNR. Above the dashed line a network improves the image; on it, it might as well'
        ' have left it alone.',
        'ssim': 'SSIM against input PSNR; dashed, the image left alone.',
        'defect': 'Defect of normalization equivariance, relative to the output. In the shaded region it is rounding.',
    }


def _level_table(panel: Panel, summary: PanelSummary, entries: Sequence[Entry]) -> Html:
    labels = [entry.label for entry in entries if entry.label in summary.curves]
    rows: list[list[Cell]] = []
    for index, level in enumerate(summary.levels):
        outputs = [_value(summary.curves[label].psnr_out[index]) for label in labels]
        rows.append([level, summary.identity.psnr_out[index], *outputs])
    return table_block(
        {
            _header(wording.level_header(panel.degradation), labels): '.4g',
            IDENTITY: '.2f',
            **dict.fromkeys(labels, '.2f'),
        },
        rows,
        f'Output PSNR in dB, mean over {wording.counted_text(panel, summary)}; the best network in bold.',
        compare=labels,
        marked=_marks(panel, summary, [entry for entry in entries if entry.label in summary.curves]),
    )


def _marks(panel: Panel, summary: PanelSummary, entries: Sequence[Entry]) -> dict[int, str]:
    """Rows of the table by level that networks were made for."""
    if panel.degradation.is_affine:
        return {
            summary.levels.index(level): 'unchanged' for level in matched_levels(panel.degradation, summary.levels, ())
        }
    made_for: dict[float, list[str]] = {}
    for entry in entries:
        for level in matched_levels(panel.degradation, summary.levels, entry.training_levels255):
            made_for.setdefault(level, []).append(entry.label)
    known = [entry for entry in entries if entry.training_levels255]
    return {
        summary.levels.index(level): 'training level' if len(labels) == len(known) else f'trained: {", ".join(labels)}'
        for level, labels in made_for.items()
    }


def _strips(panel: Panel, entries: Sequence[Entry]) -> Html:
    trained = wording.training_levels(entries)
    matched = matched_levels(panel.degradation, panel.strips, trained)
    mark = (
        ', unchanged'
        if panel.degradation.is_affine
        else ', a training level'
        if len(trained) > 1
        else ', the training level'
    )
    strips = {
        wording.level_text(panel.degradation, level) + (mark if level in matched else ''): [
            _tile('JPEG' if name == 'noisy' and panel.degradation.kind == 'jpeg' else name, crop)
            for name, crop in strip.items()
        ]
        for level, strip in panel.strips.items()
    }
    return strip_block(strips, f"A crop of {panel.strip_image}. PSNR is the crop's; images are clipped for display.")


def _tile(name: str, crop: Crop) -> Tile:
    note = '' if crop.psnr is None else FAILED if is_failed(crop.psnr) else f'{crop.psnr:.2f} dB'
    return Tile(crop.pixels / 255, name, note)


def _value(number: float | None) -> Cell:
    return FAILED if number is not None and (math.isnan(number) or number == -math.inf) else number


def _header(name: str, labels: Sequence[str]) -> str:
    """A header that is the label of no network: headers are unique."""
    return f'({name})' if name in labels else name


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
