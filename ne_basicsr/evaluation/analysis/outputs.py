"""The files of a study: arrays, rows as CSV, figures and a page."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ne_basicsr.evaluation.analysis.study import Findings, Row
from ne_basicsr.evaluation.report import save_figures
from ne_basicsr.evaluation.report.analysis import (
    filters_figure,
    histogram_figure,
    interval_figure,
    interval_name,
    quality_figure,
)
from ne_basicsr.evaluation.report.html_page import (
    Cell,
    Html,
    Tile,
    code_block,
    facts_block,
    figure_block,
    row_block,
    section_block,
    strip_block,
    table_block,
    text_block,
    warning_block,
    write_page,
)
from ne_basicsr.utils.errors import InputError


def write_study(findings: Findings, folder: Path, command: str) -> Path:
    """Write ``coverage.csv`` (in the form in which the paper's Table 3 is published), ``difficulty.csv``,
    ``quality.csv``, ``filters.csv``, ``intervals.csv``, ``arrays.npz``, ``figures/`` and ``report.html``.

    Files of an earlier study are replaced, and removed where there is nothing to write.

    Returns:
        The page's path.

    Raises:
        InputError: where the folder cannot be written.
    """
    make_writable(folder)
    try:
        write_coverage(folder / 'coverage.csv', findings.table)
        _write_rows(folder / 'difficulty.csv', difficulty_rows(findings))
        _write_rows(folder / 'quality.csv', quality_rows(findings))
        _write_rows(folder / 'filters.csv', findings.filter_rows)
        _write_rows(folder / 'intervals.csv', findings.interval_rows)
        np.savez_compressed(folder / 'arrays.npz', **arrays(findings))  # type: ignore[arg-type]
        figures = figures_of(findings)
        save_figures(figures, folder / 'figures', ('filters', 'intervals', 'quality_[0-9]*'))
        page = folder / 'report.html'
        _write_page(page, findings, figures, command)
        return page
    except OSError as error:
        raise _refusal(folder, error) from error


def make_writable(folder: Path) -> None:
    """Make the folder, and find out now whether files can be written to it.

    Raises:
        InputError: where they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise _refusal(folder, error) from error


def write_coverage(path: Path, table: Sequence[Row]) -> None:
    """Rows are levels of the training, columns levels of the test, shares from 0 to 1; then the ends and the count."""
    with open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file, lineterminator='\n')
        levels = [f'{level:g}' for level in table[0]['coverage']]
        writer.writerow(['sigma_train\\sigma_test', *levels, 'q0.025', 'q0.975', 'train_samples'])
        for row in table:
            shares = [f'{share:.4f}' for share in row['coverage'].values()]
            ends = [f'{row[name]:.4f}' for name in ('low', 'high')]
            writer.writerow([f'{row["sigma_train"]:g}', *shares, *ends, row['samples']])


def coverage_text(table: Sequence[Row]) -> str:
    """Table 3 in percent, as plain text."""
    levels = list(table[0]['coverage'])
    lines = ['coverage of Δ in percent; rows: sigma of the training, columns: of the test']
    lines.append('      ' + ''.join(f'{level:>6g}' for level in levels))
    for row in table:
        lines.append(f'{row["sigma_train"]:>6g}' + ''.join(f'{100 * row["coverage"][level]:>6.0f}' for level in levels))
    return '\n'.join(lines)


def difficulty_rows(findings: Findings) -> list[Row]:
    """Rows ``what`` (``delta``, ``sigma_x``), ``sigma255, mean, deviation, low, high, median`` of Delta at each level
    and of the contrast sigma_x (``sigma255`` empty), which is on [0, 1]; deviations are divided by n."""
    rows: list[Row] = []
    for what, level, values in [
        *(('delta', level, values) for level, values in findings.deltas.items()),
        ('sigma_x', None, findings.contrasts),
    ]:
        low, high = np.quantile(values, [0.025, 0.975])
        numbers = {
            'mean': values.mean(),
            'deviation': values.std(),
            'low': low,
            'high': high,
            'median': np.median(values),
        }
        rows.append({'what': what, 'sigma255': level, **{name: float(x) for name, x in numbers.items()}})
    return rows


def quality_rows(findings: Findings) -> list[Row]:
    """Rows ``network, sigma255`` and those of ``quality_curve``."""
    return [
        {'network': label, 'sigma255': level, **row}
        for label, by_level in findings.curves.items()
        for level, rows in by_level.items()
        for row in rows
    ]


def arrays(findings: Findings) -> dict[str, NDArray[Any]]:
    """By name: ``sigma_x``; ``delta/<sigma255>``; ``<network>/<sigma255>/delta`` and ``/quality``;
    ``<network>/filter/<row>,<column>``; ``crop/clean`` and ``crop/noisy``."""
    found: dict[str, NDArray[Any]] = {'sigma_x': findings.contrasts}
    found |= {f'delta/{level:g}': values for level, values in findings.deltas.items()}
    for label, by_level in findings.quality.items():
        for level, (delta, quality) in by_level.items():
            found |= {f'{label}/{level:g}/delta': delta, f'{label}/{level:g}/quality': quality}
    for label, filters in findings.filters.items():
        found |= {f'{label}/filter/{row},{column}': weights.numpy() for (row, column), weights in filters.items()}
    found |= {f'crop/{name}': x.numpy() for name, x in zip(('clean', 'noisy'), findings.shown, strict=False)}
    return found


def figures_of(findings: Findings) -> dict[str, Figure]:
    """All figures by their file's name."""
    levels = {f'σ = {level:g}': values for level, values in findings.deltas.items()}
    spans = {f'σ = {row["sigma_train"]:g}': (row['low'], row['high']) for row in findings.table}
    figures = {
        'difficulty': histogram_figure(levels, 'difficulty Δ', spans),
        'sigma_x': histogram_figure({'patches': 255 * findings.contrasts}, 'contrast σ_x of the patches (of 255)'),
    }
    for number, (label, curves) in enumerate(findings.curves.items()):
        shown = {f'σ = {level:g}': rows for level, rows in curves.items()}
        figures[f'quality_{number + 1}'] = quality_figure(shown, label)
    if findings.filters:
        figures['filters'] = filters_figure(
            {
                label: [(f'row {r}, column {c}', weights.sum(0).numpy()) for (r, c), weights in filters.items()]
                for label, filters in findings.filters.items()
            }
        )
        figures['intervals'] = interval_figure(_changes(findings))
    return figures


# -- parts -------------------------------------------------------------------------------------------------------------


def _changes(findings: Findings) -> dict[str, dict[str, float]]:
    changes: dict[str, dict[str, float]] = {}
    for row in findings.interval_rows:
        change = row['change'] if math.isfinite(row['change']) else math.nan
        changes.setdefault(row['network'], {})[interval_name(row['a'], row['b'])] = change
    return changes


def _write_page(path: Path, findings: Findings, figures: Mapping[str, Figure], command: str) -> None:
    request = findings.request
    blocks: list[Html] = []
    if findings.failures:
        blocks.append(warning_block('Not everything could be studied', findings.failures))
    coverage_columns = {'trained at σ': 'g', **{f'{level:g}': '.0f' for level in findings.deltas}}
    coverage_rows: list[list[Cell]] = [
        [row['sigma_train'], *(100 * share for share in row['coverage'].values())] for row in findings.table
    ]
    caption = 'Share of Δ at the test level (columns) in the central 95% of the training level, in percent.'
    what = (
        'Δ = ||y − x|| / s(y) is how hard a noisy image is to a normalization-equivariant denoiser. Training at one'
        ' noise level covers others as far as their Δ are the same. Bars below the axis: the central 95%.'
    )
    drawn = [
        figure_block(figures['difficulty'], 'Difficulty by noise level.'),
        figure_block(figures['sigma_x'], 'Contrast.'),
    ]
    table = table_block(coverage_columns, coverage_rows, caption)
    blocks.append(section_block('Difficulty', text_block(what), row_block(*drawn), table))
    if findings.curves:
        qualities = [
            figure_block(figures[f'quality_{number + 1}'], f'{label}: Q against Δ, mean ± deviation.')
            for number, label in enumerate(findings.curves)
        ]
        note = 'Q = −20 log10(||f(y) − x|| / s(y)). Equivariant: one curve. Each level over its central 95% of Δ.'
        blocks.append(section_block('Residual quality', text_block(note), row_block(*qualities)))
        blocks.append(_filters(findings, figures))
        blocks.append(_intervals(findings, figures))
    facts = {
        'Patches': f'{request.patches} of {request.patch_size} x {request.patch_size} from {request.data.name}'
        + (f'; residual quality of the first {min(request.denoised, request.patches)}' if findings.curves else ''),
        **_about_crop(findings),
        'Seed': str(request.seed),
    } | {entry.label: entry.description or entry.source for entry in findings.entries}
    blocks.append(section_block('How', facts_block(facts), code_block(command)))
    first, last = findings.table[0], list(findings.deltas)[-1]
    lead = (
        f'Training at σ = {first["sigma_train"]:g} covers {100 * first["coverage"][last]:.0f}% of the difficulties at'
        f' σ = {last:g}.'
    )
    write_page(path, 'Analysis in normalized coordinates', lead, blocks)


def _about_crop(findings: Findings) -> dict[str, str]:
    if not findings.shown:
        return {}
    height, width = findings.shown[0].shape[-2:]
    noise = f'noise {findings.request.filter_sigma255:g}'
    return {'Crop': f'centre of {findings.image}, {height} rows and {width} columns, {noise}'}


def _filters(findings: Findings, figures: Mapping[str, Figure]) -> Html:
    rows: list[list[Cell]] = []
    for row in findings.filter_rows:
        at = 'worst of all' if row['row'] is None else f'{row["row"]}, {row["column"]}'
        rows.append([row['network'], at, row['sum'], row['rho']])
    table = table_block(
        {'network': 's', 'row, column': 's', 'Σ': '.7g', 'ρ': '.2e'}, rows,
        'Sum Σ of the filter, 1 under equivariance; ρ of the whole crop, 0 under equivariance. In float64.',
    )  # fmt: skip
    strip = strip_block(
        {findings.image: [Tile(x, name) for x, name in zip(findings.shown, ('clean', 'noisy'), strict=False)]},
        'What the filters were taken at.',
    )
    figure = figure_block(
        figures['filters'], 'Rows of the Jacobian; red positive, blue negative, summed over channels.'
    )
    return section_block('Adaptive filters', row_block(figure, strip), table)


def _intervals(findings: Findings, figures: Mapping[str, Figure]) -> Html:
    columns = {'network': 's', 'interval': 's', 'PSNR': '.2f', 'change': '.2e'}
    rows: list[list[Cell]] = [
        [row['network'], interval_name(row['a'], row['b']), row['psnr'], row['change']]
        for row in findings.interval_rows
    ]
    table = table_block(
        columns, rows, 'PSNR of the crop in dB, clamped to [0, 1], and the relative change against the image as it is.'
    )
    note = 'The image is brought to [a, b] by its minimum and maximum, denoised, and brought back.'
    figure = figure_block(figures['intervals'], 'Relative change of the answer.')
    return section_block('Intervals', text_block(note), figure, table)


def _refusal(folder: Path, error: OSError) -> InputError:
    return InputError(f'{folder}: the results cannot be written ({error.strerror}); give another folder')


def _write_rows(path: Path, rows: Sequence[Row]) -> None:
    if not rows:
        path.unlink(missing_ok=True)  # of an earlier study
        return
    with open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows({key: _text(value) for key, value in row.items()} for row in rows)


def _text(value: Any) -> Any:
    if value is None:
        return ''
    return f'{value:.10g}' if isinstance(value, float) else value
