"""The files of a study: arrays, rows as CSV, figures and a page."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ne_basicsr.evaluation.analysis.study import Findings, Row
from ne_basicsr.evaluation.report.analysis import filters_figure, histogram_figure, interval_figure, quality_figure
from ne_basicsr.evaluation.report.files import save_figures
from ne_basicsr.evaluation.report.page import Column, Tile, display_pixels, table, write_page
from ne_basicsr.evaluation.report.tables import text_table, write_csv, writing


def write_study(findings: Findings, folder: Path, command: str) -> Path:
    """Write ``coverage.csv``, ``difficulty.csv``, ``quality.csv``, ``filters.csv``, ``intervals.csv``, ``arrays.npz``,
    ``figures/`` and ``report.html``, whose path is returned; an ``InputError`` where the folder cannot be written.

    ``coverage.csv`` is as the paper's Table 3 is published: rows are levels of the training, columns levels of the
    test, shares from 0 to 1; then the ends of the central share and the number of samples. ``difficulty.csv`` has Delta
    at each level and the contrast sigma_x (``sigma255`` empty), which is on [0, 1]; deviations are divided by n. The
    arrays are ``sigma_x``; ``delta/<sigma255>``; ``<network>/<sigma255>/delta`` and ``/quality``;
    ``<network>/filter/<row>,<column>``; ``crop/clean`` and ``crop/noisy``. Files of an earlier study are replaced, and
    removed where there is nothing to write.
    """
    with writing(folder):
        columns = ['sigma_train\\sigma_test', *(f'{level:g}' for level in findings.deltas)]
        shares = (
            [f'{row["sigma_train"]:g}', *row['coverage'].values(), row['low'], row['high'], row['samples']]
            for row in findings.table
        )
        write_csv(folder / 'coverage.csv', [*columns, 'q0.025', 'q0.975', 'train_samples'], shares, '.4f')
        difficulty: list[Row] = []
        for level, values in [*findings.deltas.items(), (None, findings.contrasts)]:
            low, high = np.quantile(values, [0.025, 0.975])
            numbers = map(float, (values.mean(), values.std(), low, high, np.median(values)))
            named = dict(zip(('mean', 'deviation', 'low', 'high', 'median'), numbers, strict=True))
            difficulty.append({'what': 'sigma_x' if level is None else 'delta', 'sigma255': level, **named})
        quality = [
            {'network': label, 'sigma255': level, **row}
            for label, by_level in findings.curves.items()
            for level, rows in by_level.items()
            for row in rows
        ]
        arrays: dict[str, NDArray[Any]] = {'sigma_x': findings.contrasts}
        arrays |= {f'delta/{level:g}': values for level, values in findings.deltas.items()}
        for label, found in findings.quality.items():
            for level, (delta, q) in found.items():
                arrays |= {f'{label}/{level:g}/delta': delta, f'{label}/{level:g}/quality': q}
        for label, filters in findings.filters.items():
            arrays |= {f'{label}/filter/{row},{column}': weights.numpy() for (row, column), weights in filters.items()}
        arrays |= {f'crop/{name}': x.numpy() for name, x in findings.shown.items()}
        np.savez_compressed(folder / 'arrays.npz', **arrays)  # type: ignore[arg-type]
        files = {'difficulty': difficulty, 'quality': quality}
        files |= {'filters': findings.filter_rows, 'intervals': findings.interval_rows}
        for name, rows in files.items():
            path = folder / f'{name}.csv'
            if rows:
                write_csv(path, rows[0], (row.values() for row in rows), '.10g')
            else:
                path.unlink(missing_ok=True)
        figures = figures_of(findings)
        save_figures(figures, folder / 'figures', ('filters', 'intervals', 'quality_[0-9]*'))
        page = folder / 'report.html'
        _write_page(page, findings, figures, command)
    return page


def coverage_text(table: Sequence[Row]) -> str:
    """Table 3 in percent, as plain text."""
    rows = [[f'{row["sigma_train"]:g}', *(f'{100 * share:.0f}' for share in row['coverage'].values())] for row in table]
    header = ['', *(f'{level:g}' for level in table[0]['coverage'])]
    title = 'coverage of Δ in percent; rows: sigma of the training, columns: of the test'
    return f'{title}\n{text_table([header, *rows], left=())}'


def figures_of(findings: Findings) -> dict[str, Figure]:
    """All figures by their file's name."""
    levels = {f'σ = {level:g}': values for level, values in findings.deltas.items()}
    spans = {f'σ = {row["sigma_train"]:g}': (row['low'], row['high']) for row in findings.table}
    figures = {
        'difficulty': histogram_figure(levels, 'difficulty Δ', spans),
        'sigma_x': histogram_figure({'patches': 255 * findings.contrasts}, 'contrast σ_x of the patches (of 255)'),
    }
    for number, (label, curves) in enumerate(findings.curves.items(), 1):
        shown = {f'σ = {level:g}': rows for level, rows in curves.items()}
        figures[f'quality_{number}'] = quality_figure(shown, label)
    if findings.filters:
        figures['filters'] = filters_figure({
            label: [(f'row {r}, column {c}', weights.sum(0).numpy()) for (r, c), weights in filters.items()]
            for label, filters in findings.filters.items()
        })  # fmt: skip
        changes: dict[str, dict[str, float]] = {}
        for row in findings.interval_rows:
            change = row['change'] if math.isfinite(row['change']) else math.nan
            changes.setdefault(row['network'], {})[_interval(row)] = change
        figures['intervals'] = interval_figure(changes)
    return figures


def _write_page(path: Path, findings: Findings, figures: Mapping[str, Figure], command: str) -> None:
    request, levels = findings.request, list(findings.deltas)
    first = findings.table[0]
    patches = f'{request.patches} of {request.patch_size} x {request.patch_size} from {request.data.name}'
    if findings.quality:
        patches += f'; residual quality of the first {min(request.denoised, request.patches)}'
    settings = {'Patches': patches}
    if findings.shown:
        size = '{} rows and {} columns'.format(*findings.shown['clean'].shape[-2:])
        settings['Crop'] = f'centre of {findings.image}, {size}, noise {request.filter_sigma255:g}'
    about = {entry.label: entry.description or entry.source for entry in findings.entries}
    write_page(
        path,
        'analysis.html',
        lead=f'Training at σ = {first["sigma_train"]:g} covers {100 * first["coverage"][levels[-1]]:.0f}% of the'
        f' difficulties at σ = {levels[-1]:g}.',
        failures=findings.failures,
        figures=figures,
        qualities={
            f'quality_{n}': f'{label}: Q against Δ, mean ± deviation.' for n, label in enumerate(findings.quality, 1)
        },
        coverage=table(
            [Column('trained at σ', 'g'), *(Column(f'{level:g}', '.0f') for level in levels)],
            [[row['sigma_train'], *(100 * share for share in row['coverage'].values())] for row in findings.table],
        ),
        crop={findings.image: [Tile(display_pixels(x), name) for name, x in findings.shown.items()]},
        filters=table(
            [Column('network'), Column('row, column'), Column('Σ', '.7g'), Column('ρ', '.2e')],
            [[row['network'], _place(row), row['sum'], row['rho']] for row in findings.filter_rows],
        ),
        intervals=table(
            [Column('network'), Column('interval'), Column('PSNR', '.2f'), Column('change', '.2e')],
            [[row['network'], _interval(row), row['psnr'], row['change']] for row in findings.interval_rows],
        ),
        settings={**settings, 'Seed': str(request.seed), **about},
        command=command,
    )


def _place(row: Row) -> str:
    return 'worst' if row['row'] is None else f'{row["row"]}, {row["column"]}'


def _interval(row: Row) -> str:
    return f'[{row["a"]:g}, {row["b"]:g}]'
