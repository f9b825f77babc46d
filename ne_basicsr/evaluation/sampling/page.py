"""The page of a session: the data for its template."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from ne_basicsr.evaluation.report.page import Cell, Column, Table, Tile, table, write_page
from ne_basicsr.evaluation.report.tables import text_table
from ne_basicsr.evaluation.sampling.sampler import CONVERGED
from ne_basicsr.evaluation.sampling.session import Request, Session
from ne_basicsr.evaluation.sampling.trajectories import Quality, Row, Spread, Trajectory

Aggregates = Mapping[str, Mapping[str, Spread | None]]
"""The aggregates of each network by measure."""

COLUMNS = {
    'observed_psnr': ('observed', 2),
    'one_pass_psnr': ('one pass', 2),
    'best_psnr': ('best', 2),
    'final_psnr': ('final', 2),
    'gap': ('final − best', 2),
    'final_ssim': ('SSIM', 3),
    'best_step': ('step of best', 1),
    'steps': ('steps', 1),
}
"""Measure to header and decimals, in the order of the paper's Tables 11 and 12."""

_CROP = 256  # pixels of an image in a strip


def write_session(
    path: Path,
    session: Session,
    summaries: Sequence[Row],
    aggregates: Aggregates,
    figures: Mapping[str, Figure],
    strips: Mapping[str, Sequence[Tile]],
    film: str,
    command: str,
) -> None:
    """Write the page.

    Args:
        figures: by what they show: ``psnr``, ``ssim``, ``sigma``.
        strips: what is shown of an image, by its name.
        film: the suffix of the films, empty without them.
        command: that made the session.
    """
    write_page(
        path,
        'sampling.html',
        lead=_lead(session, len(summaries), aggregates),
        failures=session.failures,
        aggregates=table([Column(header) for header in _headers()], _rows(aggregates, summaries)),
        figures=figures,
        strips=strips,
        film=film,
        walks=_all_walks(summaries),
        settings={entry.label: entry.description or entry.source for entry in session.entries}
        | settings_of(session.request),
        command=command,
    )


def table_text(aggregates: Aggregates, summaries: Sequence[Row]) -> str:
    """The aggregates as plain text."""
    return text_table([_headers(), *_rows(aggregates, summaries)])


def settings_of(request: Request) -> dict[str, str]:
    """The protocol, names with values."""
    schedule = request.schedule
    return {
        'Task': f'{request.task}: {request.task.what}',
        'Schedule': f'h0 {schedule.h0:g}, beta {schedule.beta:g}, from sigma {schedule.sigma_start:.4g} to'
        f' {schedule.sigma_stop:.4g} (on [0, 1]), at most {schedule.max_steps} steps',
        'Draws': f'{request.draws} per image, seed {request.seed}',
        'One pass': 'P x + (I - P) D(y_0), the denoiser applied once to the start of the walk',
        'PSNR': 'clamped to [0, 1] except for what was observed, not rounded, data range 1',
        'SSIM': 'scikit-image, 7 x 7 uniform window, clipped and not rounded, data range 255',
        'Deviation': 'over images and draws, n - 1; a walk that diverged counts in what was observed and in the one'
        ' pass only',
    }


def tiles_of(network: str, trajectory: Trajectory) -> dict[str, Tile]:
    """What is shown of a walk: what was observed, the same for all networks, one pass, and the end."""
    tiles = {}
    if trajectory.observed_quality is not None:
        tiles['observed'] = tile('observed', trajectory.observed, trajectory.observed_quality)
        tiles[f'{network} one'] = tile(f'{network}, one pass', trajectory.one_pass, trajectory.one_pass_quality)
    last = trajectory.records[-1]
    final = None if last.psnr is None else Quality(last.psnr, last.ssim)
    how = f'{last.step} steps' if trajectory.outcome == CONVERGED else f'{trajectory.outcome}, step {last.step}'
    return tiles | {f'{network} end': tile(f'{network}, {how}', trajectory.result, final)}


def tile(label: str, image: Tensor, quality: Quality | None = None) -> Tile:
    """The centre of an image (C, H, W), with the PSNR of all of it."""
    top, left = (max(0, (side - _CROP) // 2) for side in image.shape[-2:])
    crop = image[:, top : top + _CROP, left : left + _CROP]
    return Tile(crop, label, '' if quality is None else f'{quality.psnr:.2f} dB')


def _lead(session: Session, walks: int, aggregates: Aggregates) -> str:
    walk, denoiser = ('walk' if walks == 1 else 'walks'), ('denoiser' if len(aggregates) == 1 else 'denoisers')
    text = f'{walks} {walk} of {len(aggregates)} {denoiser} from {session.request.task.what}.'
    final = {label: spread.mean for label, measures in aggregates.items() if (spread := measures['final_psnr'])}
    if not final:
        return text
    best = max(final, key=lambda label: final[label])
    observed = aggregates[best]['observed_psnr']
    return f'{text} {best} ends at {final[best]:.2f} dB on average' + (
        f'; observed: {observed.mean:.2f} dB.' if observed else '.'
    )


def _headers() -> list[str]:
    return ['network', 'walks', *(header for header, _ in COLUMNS.values())]


def _rows(aggregates: Aggregates, summaries: Sequence[Row]) -> list[list[str]]:
    """``12 (1 diverged)`` and ``28.11 ± 2.05`` for each of ``COLUMNS``, for each network."""
    rows = []
    for network, measures in aggregates.items():
        outcomes = [row['outcome'] for row in summaries if row['network'] == network]
        odd = ', '.join(f'{outcomes.count(name)} {name}' for name in sorted(set(outcomes) - {CONVERGED}))
        cells = [_spread_text(measures[name], digits) for name, (_, digits) in COLUMNS.items()]
        rows.append([network, f'{len(outcomes)} ({odd})' if odd else f'{len(outcomes)}', *cells])
    return rows


def _spread_text(spread: Spread | None, digits: int) -> str:
    if spread is None:
        return '–'
    mean = f'{spread.mean:.{digits}f}'.replace('-', '−')
    return mean if spread.deviation is None else f'{mean}\u00a0±\u00a0{spread.deviation:.{digits}f}'


def _all_walks(summaries: Sequence[Row]) -> Table:
    first = ('image', 'network', 'draw', 'outcome')
    columns = [Column(name) for name in first]
    columns += [Column(header, f'.{0 if "step" in name else digits}f') for name, (header, digits) in COLUMNS.items()]
    rows: list[list[Cell]] = [[row[name] for name in (*first, *COLUMNS)] for row in summaries]
    return table(columns, rows)
