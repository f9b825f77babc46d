"""The files of a comparison: rows and curves as CSV, a summary as JSON, figures, and the page.

Equal comparisons give equal bytes.
"""

import csv
import json
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
from ne_basicsr.inference.denoiser import Entry
from ne_basicsr.inference.opening import IDENTITY
from ne_basicsr.metrics.curves import KEYS, write_csv
from ne_basicsr.utils.errors import InputError
from ne_basicsr.utils.file_names import file_names

FIGURES = ('psnr', 'ssim', 'defect')
MEASURES = ('psnr_in', 'psnr_out', 'psnr_clamped', 'psnr_8bit', 'ssim', 'ne_defect')
_LEVEL_COLUMNS = {'quality': 'quality_factor', 'photons': 'photons', 'a': 'gain', 'b': 'offset'}


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
    try:
        return _write_outputs(comparison, folder, command)
    except OSError as error:
        where = error.filename or folder
        raise InputError(f'{where}: the results cannot be written ({error.strerror}); give another folder') from error


def _write_outputs(comparison: Comparison, folder: Path, command: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    summaries = [summarize_panel(panel, comparison.entries) for panel in comparison.panels]
    _write_rows(folder / 'rows.csv', comparison)
    summary = summary_of(comparison, summaries)
    text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / 'summary.json').write_text(text + '\n', encoding='utf-8', newline='\n')
    figures = []
    names = file_names(f'{panel.data}_{panel.degradation}'.replace('/', '-') for panel in comparison.panels)
    for name, panel, found in zip(names, comparison.panels, summaries, strict=True):
        write_curves(folder / 'curves' / f'{name}.csv', panel, found, comparison.entries)
        drawn = figures_of(panel, found, comparison.entries)
        named = {f'{name}_{what}': figure for what, figure in drawn.items()}
        save_figures(named, folder / 'figures', [f'{name}_{what}' for what in FIGURES])
        figures.append(drawn)
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
    ``quality_factor``, ``photons``, ``gain`` or ``offset`` (which were taken back before PSNR was computed),
    ``input_psnr_db``, then the networks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    matched = matched_levels(panel.degradation, summary.levels, training_levels(entries))
    is_noise = panel.degradation.is_noise
    first = ['sigma_8bit', 'sigma'] if is_noise else [_LEVEL_COLUMNS[panel.degradation.unit]]
    with open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow([*first, 'input_psnr_db', *(['is_train_sigma'] if is_noise else []), *summary.curves])
        for index, level in enumerate(summary.levels):
            place: list[Any] = [level, round(level / 255, 8)] if is_noise else [level]
            outputs = [_csv_number(curve.psnr_out[index]) for curve in summary.curves.values()]
            trained = [level in matched] if is_noise else []
            writer.writerow([*place, _csv_number(summary.identity.psnr_in[index]), *trained, *outputs])


def summary_of(comparison: Comparison, summaries: Sequence[PanelSummary]) -> dict[str, Any]:
    """What ``summary.json`` holds; null where nothing was measured and where a number is not finite."""
    panels = [
        {
            'data': panel.data,
            'degradation': str(panel.degradation),
            'unit': panel.degradation.unit,
            'levels': list(summary.levels),
            'images': len(panel.images),
            'draws': summary.draws,
            'networks': {
                label: {name: _json_number(value) for name, value in each._asdict().items()}
                for label, each in summary.networks.items()
            },
        }
        for panel, summary in zip(comparison.panels, summaries, strict=True)
    ]
    return {
        'settings': dict(comparison.settings),
        'entries': [
            {**entry._asdict(), 'training_levels255': list(entry.training_levels255)} for entry in comparison.entries
        ],
        'panels': panels,
        'failures': list(comparison.failures),
    }


def _write_rows(path: Path, comparison: Comparison) -> None:
    rows = [row for panel in comparison.panels for row in panel.rows]
    if rows:
        write_csv(path, rows)
    else:
        path.write_text(','.join([*KEYS, *MEASURES]) + '\n', encoding='utf-8')


def _csv_number(value: float) -> float | str:
    return '' if math.isnan(value) else round(value, 6)


def _json_number(value: float | None) -> float | None:
    # the defect of an equivariant network is of the size of rounding: significant digits, not decimals
    return None if value is None or not math.isfinite(value) else float(f'{value:.10g}')
