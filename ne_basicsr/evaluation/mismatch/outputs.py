"""The files of a comparison: rows and curves as CSV, a summary as JSON, figures, and the page.

Equal comparisons give equal bytes.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ne_basicsr.evaluation.mismatch.page import write_comparison
from ne_basicsr.evaluation.mismatch.result import Comparison, Panel
from ne_basicsr.evaluation.mismatch.summaries import PanelSummary, matched_levels, summarize_panel
from ne_basicsr.evaluation.mismatch.wording import training_levels
from ne_basicsr.evaluation.report import defect_figure, mismatch_figure, save_figures, ssim_figure
from ne_basicsr.evaluation.report.horizontal import UNITS
from ne_basicsr.evaluation.report.tables import json_text, write_csv, write_json, write_rows, writing
from ne_basicsr.inference.denoisers import IDENTITY, Entry
from ne_basicsr.metrics.curves import KEYS
from ne_basicsr.utils.file_names import file_names

FIGURES = ('psnr', 'ssim', 'defect')
MEASURES = ('psnr_in', 'psnr_out', 'psnr_clamped', 'psnr_8bit', 'ssim', 'ne_defect')


def write_outputs(comparison: Comparison, folder: Path, command: str) -> Path:
    """Write all there is about a comparison.

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
    entries = comparison.entries
    with writing(folder):
        summaries = [summarize_panel(panel, entries) for panel in comparison.panels]
        rows = [row for panel in comparison.panels for row in panel.rows]
        write_rows(folder / 'rows.csv', rows, [*KEYS, *MEASURES])
        write_json(folder / 'summary.json', json_text(summary_of(comparison, summaries)))
        figures = []
        names = file_names(f'{panel.data}_{panel.degradation}'.replace('/', '-') for panel in comparison.panels)
        for name, panel, found in zip(names, comparison.panels, summaries, strict=True):
            write_curves(folder / 'curves' / f'{name}.csv', panel, found, entries)
            figures.append(figures_of(panel, found, entries))
            named = {f'{name}_{what}': figure for what, figure in figures[-1].items()}
            save_figures(named, folder / 'figures', [f'{name}_{what}' for what in FIGURES])
        page = folder / 'report.html'
        write_comparison(page, comparison, summaries, figures, command)
    return page


def figures_of(panel: Panel, summary: PanelSummary, entries: Sequence[Entry]) -> dict[str, Figure]:
    """The figures of a panel by what they show; a network has the same colour in all figures of a comparison."""
    names = [entry.label for entry in entries if entry.label != IDENTITY]
    style: dict[str, Any] = {'unit': panel.degradation.unit, 'names': names}
    trained = training_levels(entries)
    figures = {}
    if summary.curves:
        figures['psnr'] = mismatch_figure(summary.curves, trained, **style)
    if summary.ssim:
        figures['ssim'] = ssim_figure(summary.ssim, summary.identity, summary.identity_ssim, trained, **style)
    if summary.defects:
        figures['defect'] = defect_figure(summary.defects, trained, **style)
    return figures


def write_curves(path: Path, panel: Panel, summary: PanelSummary, entries: Sequence[Entry]) -> None:
    """Mean output PSNR, a line per level, a column per network, as the paper's curves are published.

    Noise: ``sigma_8bit, sigma, input_psnr_db, is_train_sigma``, then the networks. Other degradations:
    ``quality_factor``, ``photons``, ``gain`` or ``offset`` (which were undone before PSNR was computed),
    ``input_psnr_db``, then the networks.
    """
    matched = matched_levels(panel.degradation, summary.levels, training_levels(entries))
    is_noise = panel.degradation.is_noise
    columns = [UNITS[panel.degradation.unit].column, *(['sigma'] if is_noise else []), 'input_psnr_db']
    columns += [*(['is_train_sigma'] if is_noise else []), *summary.curves]
    rows = []
    for index, level in enumerate(summary.levels):
        place = [level, round(level / 255, 8)] if is_noise else [level]
        outputs = [_rounded(curve.psnr_out[index]) for curve in summary.curves.values()]
        trained = [level in matched] if is_noise else []
        rows.append([*place, _rounded(summary.identity.psnr_in[index]), *trained, *outputs])
    write_csv(path, columns, rows)


def summary_of(comparison: Comparison, summaries: Sequence[PanelSummary]) -> dict[str, Any]:
    """What ``summary.json`` holds, but that numbers that are not finite are null there."""
    panels = [
        {
            'data': panel.data,
            'degradation': str(panel.degradation),
            'unit': panel.degradation.unit,
            'levels': list(summary.levels),
            'images': len(panel.images),
            'draws': summary.draws,
            # significant digits, not decimals: the defect of an equivariant network is as small as rounding
            'networks': {
                label: {
                    name: value if value is None else float(f'{value:.10g}') for name, value in each._asdict().items()
                }
                for label, each in summary.networks.items()
            },
        }
        for panel, summary in zip(comparison.panels, summaries, strict=True)
    ]
    return {
        'settings': comparison.settings,
        'entries': [entry._asdict() for entry in comparison.entries],
        'panels': panels,
        'failures': comparison.failures,
    }


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
