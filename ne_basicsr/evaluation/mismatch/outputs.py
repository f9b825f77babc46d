"""The files of a comparison: rows and curves as CSV, a summary as JSON, figures, and the page.

Equal comparisons give equal bytes.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ne_basicsr.evaluation.mismatch.page import write_comparison
from ne_basicsr.evaluation.mismatch.result import Comparison
from ne_basicsr.evaluation.mismatch.summaries import PanelSummary, matched_levels, summarize_panel
from ne_basicsr.evaluation.report import defect_figure, mismatch_figure, save_figures, ssim_figure
from ne_basicsr.evaluation.report.horizontal import UNITS
from ne_basicsr.evaluation.report.tables import json_text, write_csv, write_json, write_rows, writing
from ne_basicsr.inference.opening import IDENTITY
from ne_basicsr.metrics.curves import KEYS
from ne_basicsr.utils.file_names import file_names

FIGURES = ('psnr', 'ssim', 'defect')
MEASURES = ('psnr_in', 'psnr_out', 'psnr_clamped', 'psnr_8bit', 'ssim', 'ne_defect')


def write_outputs(comparison: Comparison, folder: Path, command: str) -> Path:
    """Write all results of a comparison.

    ``rows.csv``, one line per network, image, level and draw; ``summary.json``; ``report.html``; for each panel
    ``curves/<data>_<degradation>.csv`` and ``figures/<data>_<degradation>_{psnr,ssim,defect}.{png,pdf}``.

    Args:
        folder: made where it is not there; files of an earlier comparison are replaced.
        command: the command line, for the page.

    Returns:
        The page's path.

    Raises:
        InputError: where the folder cannot be written.
    """
    with writing(folder):
        summaries = [summarize_panel(panel, comparison.entries) for panel in comparison.panels]
        rows = [row for panel in comparison.panels for row in panel.rows]
        write_rows(folder / 'rows.csv', rows, [*KEYS, *MEASURES])
        write_json(folder / 'summary.json', json_text(summary_of(comparison, summaries)))
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
    ``quality_factor``, ``photons``, ``gain`` or ``offset`` (which were undone before PSNR was computed),
    ``input_psnr_db``, then the networks.
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
    """The content of ``summary.json``, where numbers that are not finite become null."""
    panels = [
        {
            'data': summary.panel.data,
            'degradation': str(summary.panel.degradation),
            'unit': summary.panel.degradation.unit,
            'levels': list(summary.levels),
            'images': len(summary.panel.images),
            'draws': summary.draws,
            'networks': {
                label: {name: _significant(value) for name, value in (values | values.pop('perceptual')).items()}
                for label, values in ((label, each._asdict()) for label, each in summary.networks.items())
            },
        }
        for summary in summaries
    ]
    return {
        'settings': comparison.settings,
        'entries': [entry._asdict() for entry in comparison.entries],
        'panels': panels,
        'failures': comparison.failures,
    }


def _significant(value: float | None) -> float | None:
    """Ten significant digits, not decimals: the defect of an equivariant network is as small as rounding."""
    return None if value is None else float(f'{value:.10g}')
