"""A session in words: its protocol, and its aggregates as text."""

from collections.abc import Mapping, Sequence

from ne_basicsr.evaluation.sampling.sampler import CONVERGED
from ne_basicsr.evaluation.sampling.session import Request
from ne_basicsr.evaluation.sampling.trajectories import Row, Spread

Table = Mapping[str, Mapping[str, Spread | None]]
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


def settings_of(request: Request) -> dict[str, str]:
    """The protocol, names with values."""
    schedule = request.schedule
    return {
        'Task': f'{request.task}: {request.task.what}',
        'Schedule': f'h0 {schedule.h0:g}, beta {schedule.beta:g}, from sigma {schedule.sigma_start:.4g} to'
        f' {schedule.sigma_stop:.4g} (on [0, 1]), at most {schedule.max_steps} steps',
        'Draws': f'{request.draws} per image, seed {request.seed}',
        'One pass': 'P x + (I - P) D(y_0), the denoiser applied once to what the walk starts from',
        'PSNR': 'clamped to [0, 1] but for what was observed, not rounded, data range 1',
        'SSIM': 'scikit-image, 7 x 7 uniform window, clipped and not rounded, data range 255',
        'Deviation': 'over images and draws, n - 1; a walk that diverged counts in what was observed and in the one'
        ' pass, and in nothing that its end decides',
    }


def table_text(table: Table, summaries: Sequence[Row]) -> str:
    """The aggregates as plain text, columns aligned."""
    rows = [['', 'walks', *(header for header, _ in COLUMNS.values())]]
    for network, measures in table.items():
        rows.append([network, walks_text(network, summaries), *spread_texts(measures)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ('  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return '\n'.join(map(str.rstrip, lines))


def walks_text(network: str, summaries: Sequence[Row]) -> str:
    """``12``, ``12 (1 diverged)``."""
    outcomes = [row['outcome'] for row in summaries if row['network'] == network]
    odd = [f'{outcomes.count(name)} {name}' for name in sorted(set(outcomes) - {CONVERGED})]
    return f'{len(outcomes)}' + (f' ({", ".join(odd)})' if odd else '')


def spread_texts(measures: Mapping[str, Spread | None]) -> list[str]:
    """``28.11 ± 2.05`` for each of ``COLUMNS``."""
    texts = []
    for name, (_, digits) in COLUMNS.items():
        spread = measures[name]
        if spread is None:
            texts.append('–')
        else:
            extra = '' if spread.deviation is None else f' ± {spread.deviation:.{digits}f}'
            texts.append(f'{spread.mean:.{digits}f}'.replace('-', '−') + extra)
    return texts
