"""The page of a session: the data for its template."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ne_basicsr.evaluation.report.page import Cell, Column, Table, Tile, table
from ne_basicsr.evaluation.report.tables import text_table
from ne_basicsr.evaluation.sampling.sampler import CONVERGED
from ne_basicsr.evaluation.sampling.session import Request, Session
from ne_basicsr.evaluation.sampling.trajectories import Quality, Row, Spread, Trajectory
from ne_basicsr.ops.center import center

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


def page_of(session: Session, summaries: Sequence[Row], aggregates: Aggregates) -> dict[str, Any]:
    """The data of the page, except figures, images and the command."""
    about = {entry.label: entry.description or entry.source for entry in session.entries}
    return {
        'lead': _lead(session, len(summaries), aggregates),
        'failures': session.failures,
        'aggregates': table([Column(header) for header in _headers()], _rows(aggregates, summaries)),
        'walks': _all_walks(summaries),
        'settings': about | settings_of(session.request),
    }


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


def observed_tiles(trajectory: Trajectory) -> list[Tile]:
    """What was observed, the same for all networks, where it can be compared with the clean image."""
    quality = trajectory.observed_quality
    return [tile('observed', trajectory.observed, quality)] if quality else []


def tiles_of(network: str, trajectory: Trajectory) -> list[Tile]:
    """One pass of the network, where it can be compared with the clean image, and the end of the walk."""
    last, quality = trajectory.records[-1], trajectory.one_pass_quality
    final = None if last.psnr is None else Quality(last.psnr, last.ssim)
    how = f'{last.step} steps' if trajectory.outcome == CONVERGED else f'{trajectory.outcome}, step {last.step}'
    end = tile(network, trajectory.result, final, how)
    return [tile(network, trajectory.one_pass, quality, 'one pass'), end] if quality else [end]


def tile(label: str, image: Tensor, quality: Quality | None = None, how: str = '') -> Tile:
    """The centre of an image (C, H, W), with how it was made and the PSNR of all of it."""
    note = ', '.join(filter(None, (how, '' if quality is None else f'{quality.psnr:.2f} dB')))
    return Tile(center(image, _CROP), label, note.replace(' ', '\u00a0').replace(',\u00a0', ', '))


def _lead(session: Session, walks: int, aggregates: Aggregates) -> str:
    walk, denoiser = ('walk' if walks == 1 else 'walks'), ('denoiser' if len(aggregates) == 1 else 'denoisers')
    text = f'{walks} {walk} of {len(aggregates)} {denoiser} from {session.request.task.what}.'
    final = {label: spread.mean for label, measures in aggregates.items() if (spread := measures['final_psnr'])}
    if not final:
        return text
    best = max(final, key=lambda label: final[label])
    place, observed = 'best, at' if len(final) > 1 else 'at', aggregates[best]['observed_psnr']
    against = f'; observed: {observed.mean:.2f} dB' if observed else ''
    return f'{text} {best} ends {place} {final[best]:.2f} dB on average{against}.'


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
