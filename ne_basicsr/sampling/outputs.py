"""The files of a session: rows as CSV while it runs; images, films; at the end a summary, figures and a page."""

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ne_basicsr.errors import InputError
from ne_basicsr.report import save_figure
from ne_basicsr.report.trajectories import trajectory_figure
from ne_basicsr.report_page import (
    Cell,
    Tile,
    code_block,
    display_pixels,
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
from ne_basicsr.sampling.films import write_film
from ne_basicsr.sampling.sampler import CONVERGED, DIVERGED
from ne_basicsr.sampling.session import Request, Session
from ne_basicsr.sampling.trajectories import Quality, Row, Spread, Trajectory, aggregate, rows_of, summarize

COLUMNS = ('network', 'image', 'draw', 'step', 'h', 'sigma', 'gamma', 'psnr', 'ssim')
TABLE = {
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

_SHOWN = 4  # images in strips
_CROP = 256  # pixels of an image in a strip
_FIGURES = {'psnr': ('PSNR (dB)', False), 'ssim': ('SSIM', False), 'sigma': ('noise that the denoiser finds, σ', True)}


class Collector:
    """Takes trajectories as they end and writes them down; ``finish`` writes what needs all of them.

    Args:
        folder: ``rows.csv``, ``images/<network>/<image>.png``, ``films/<network>/<image>.<film>``; later
            ``summary.json``, ``table.csv``, ``figures/`` and ``report.html``. Files of an earlier session are replaced.
        film: ``gif``, ``mp4`` or empty.

    Raises:
        InputError: where the folder cannot be written.
    """

    def __init__(self, session: Session, folder: Path, film: str = '') -> None:
        self.session, self.folder, self.film = session, folder, film
        self.summaries: list[Row] = []
        self.walks: dict[str, dict[str, list[list[float]]]] = {name: {} for name in _FIGURES}
        self.shown: dict[str, dict[str, Tile]] = {}
        self._clean = {picture.name: picture.pixels for picture in session.pictures[:_SHOWN]}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._rows = open(folder / 'rows.csv', 'w', newline='', encoding='utf-8')  # noqa: SIM115 - closed by finish
        except OSError as error:
            raise InputError(f'{folder}: the results cannot be written ({error.strerror}); give another') from error
        self._writer = csv.DictWriter(self._rows, fieldnames=COLUMNS, lineterminator='\n')
        self._writer.writeheader()

    def add(self, network: str, trajectory: Trajectory) -> None:
        """Write the trajectory's rows, image and film, and keep its numbers."""
        for row in rows_of(network, trajectory):
            self._writer.writerow({key: _csv_value(value) for key, value in row.items()})
        self._rows.flush()
        self.summaries.append(summarize(network, trajectory))
        for name, by_network in self.walks.items():
            values = [getattr(record, name) for record in trajectory.records]
            if trajectory.outcome != DIVERGED and None not in values:
                by_network.setdefault(network, []).append(values)
        suffix = f'_draw{trajectory.draw}' if self.session.request.draws > 1 else ''
        name = f'{file_name(network)}/{file_name(trajectory.image)}{suffix}'
        _save_image(self.folder / 'images' / f'{name}.png', trajectory.result)
        if self.film and trajectory.frames:
            write_film(self.folder / 'films' / f'{name}.{self.film}', [frame for _, frame in trajectory.frames])
        if trajectory.draw == 0 and trajectory.image in self._clean:
            self._show(network, trajectory)

    def finish(self, command: str) -> Path:
        """Write what needs all trajectories; the page's path."""
        self._rows.close()
        entries, request = self.session.entries, self.session.request
        table = {entry.label: aggregate(self._of(entry.label)) for entry in entries}
        text = json.dumps(summary_of(self.session, self.summaries, table), indent=2, allow_nan=False)
        (self.folder / 'summary.json').write_text(text + '\n', encoding='utf-8')
        write_table(self.folder / 'table.csv', table)
        figures = self.figures()
        for name, figure in figures.items():
            for suffix in ('png', 'pdf'):
                save_figure(figure, self.folder / 'figures' / f'{name}.{suffix}')
        page = self.folder / 'report.html'
        self._write_page(page, figures, table, request, command)
        return page

    def figures(self) -> dict[str, Figure]:
        """PSNR, SSIM and sigma against the step, what there is of them."""
        return {
            name: trajectory_figure(self.walks[name], label, log=log)
            for name, (label, log) in _FIGURES.items()
            if self.walks[name]
        }

    def _of(self, label: str) -> list[Row]:
        return [row for row in self.summaries if row['network'] == label]

    def _show(self, network: str, trajectory: Trajectory) -> None:
        strip = self.shown.setdefault(trajectory.image, {})
        known = trajectory.observed_quality
        if known is not None and 'observed' not in strip:
            strip['observed'] = _tile('observed', trajectory.observed, known)
        if known is not None:
            strip[f'{network} one'] = _tile(f'{network}, one pass', trajectory.one_pass, trajectory.one_pass_quality)
        last = trajectory.records[-1]
        final = None if last.psnr is None else Quality(last.psnr, last.ssim)
        how = f'{last.step} steps' if trajectory.outcome == CONVERGED else f'{trajectory.outcome}, step {last.step}'
        strip[f'{network} end'] = _tile(f'{network}, {how}', trajectory.result, final)

    def _write_page(
        self,
        path: Path,
        figures: Mapping[str, Figure],
        table: Mapping[str, Mapping[str, Spread | None]],
        request: Request,
        command: str,
    ) -> None:
        blocks = []
        if self.session.failures:
            blocks.append(warning_block('Not everything went well', self.session.failures))
        blocks.append(_aggregates(table, self.summaries))
        captions = {
            'psnr': 'PSNR against the step; thick: the mean of a network, a walk that has ended counts as it ended.',
            'ssim': 'SSIM against the step.',
            'sigma': 'What the denoiser finds left in the image; the walk ends where it is small enough.',
        }
        blocks.append(row_block(*(figure_block(figure, captions[name]) for name, figure in figures.items())))
        strips = {}
        for name, strip in self.shown.items():
            tiles = list(strip.values())
            if request.task.has_reference:
                tiles.append(Tile(_centre(self._clean[name]), 'clean'))
            strips[name] = tiles
        if strips:
            note = 'PSNR of the whole image, unclipped; images are clipped for display.'
            blocks.append(strip_block(strips, f'The centre of the first images. {note}', scale=1))
        if self.film:
            blocks.append(text_block(f'Films of the walks are in films/ beside this page, as .{self.film}.'))
        blocks.append(fold_block('All walks', _all_walks(self.summaries)))
        about = {entry.label: entry.description or entry.source for entry in self.session.entries}
        settings = section_block('How', facts_block(about | settings_of(request)), code_block(command))
        lead = (
            f'Sampling with {len(table)} {"denoisers" if len(table) > 1 else "denoiser"} from {request.task.what},'
            f' {len(self.summaries)} {"walk" if len(self.summaries) == 1 else "walks"}.'
        )
        write_page(path, 'Sampling with a denoiser', lead, [*blocks, settings])


def settings_of(request: Request) -> dict[str, str]:
    """The protocol, names with values."""
    schedule = request.schedule
    return {
        'Task': f'{request.task}: {request.task.what}',
        'Schedule': f'h0 {schedule.h0:g}, beta {schedule.beta:g}, from sigma {schedule.sigma_start:.4g} to'
        f' {schedule.sigma_stop:.4g} (on [0, 1]), at most {schedule.max_steps} steps',
        'Draws': f'{request.draws} per image, seed {request.seed}',
        'One pass': 'P x + (I - P) D(y_0), the denoiser applied once to what the walk starts from',
        'PSNR': 'neither clipped nor rounded, data range 1',
        'SSIM': 'scikit-image, 7 x 7 uniform window, clipped and not rounded, data range 255',
        'Deviation': 'over images and draws, n - 1; walks that diverged are counted and left out',
    }


def summary_of(
    session: Session, summaries: Sequence[Row], table: Mapping[str, Mapping[str, Spread | None]]
) -> dict[str, Any]:
    """What ``summary.json`` holds; null where there is no number."""
    networks = {}
    for entry in session.entries:
        outcomes = [row['outcome'] for row in summaries if row['network'] == entry.label]
        networks[entry.label] = {
            'source': entry.source,
            'description': entry.description,
            'outcomes': {name: outcomes.count(name) for name in sorted(set(outcomes))},
            'measures': {name: spread and spread._asdict() for name, spread in table[entry.label].items()},
        }
    return {
        'task': str(session.request.task),
        'schedule': session.request.schedule._asdict(),
        'seed': session.request.seed,
        'draws': session.request.draws,
        'settings': settings_of(session.request),
        'networks': networks,
        'walks': [{key: _json_value(value) for key, value in row.items()} for row in summaries],
        'failures': list(session.failures),
    }


def write_table(path: Path, table: Mapping[str, Mapping[str, Spread | None]]) -> None:
    """The aggregates as CSV: a line for each network and measure, ``network, measure, mean, deviation, number``."""
    with open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(['network', 'measure', 'mean', 'deviation', 'number'])
        for network, measures in table.items():
            for name, spread in measures.items():
                if spread is not None:
                    mean, deviation = _csv_value(spread.mean), _csv_value(spread.deviation)
                    writer.writerow([network, name, mean, deviation, spread.number])


def table_text(table: Mapping[str, Mapping[str, Spread | None]], summaries: Sequence[Row]) -> str:
    """The aggregates as plain text, columns aligned."""
    rows = [['', 'walks', *(header for header, _ in TABLE.values())]]
    for network, measures in table.items():
        rows.append([network, _walks(network, summaries), *_spreads(measures)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ('  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return '\n'.join(map(str.rstrip, lines))


def file_name(text: str) -> str:
    """Without what file systems do not take; folders in an image's name stay folders."""
    parts = [re.sub(r'[^\w.@+-]+', '-', part) for part in text.split('/')]
    return '/'.join(part for part in parts if part not in ('', '.', '..')) or '-'


# -- parts -------------------------------------------------------------------------------------------------------------


def _aggregates(table: Mapping[str, Mapping[str, Spread | None]], summaries: Sequence[Row]) -> Any:
    columns = {'': 's', 'walks': 's', **{header: 's' for header, _ in TABLE.values()}}
    rows: list[list[Cell]] = [
        [network, _walks(network, summaries), *_spreads(measures)] for network, measures in table.items()
    ]
    caption = 'Mean ± deviation over images and draws; PSNR in dB.'
    return table_block(columns, rows, caption)


def _walks(network: str, summaries: Sequence[Row]) -> str:
    outcomes = [row['outcome'] for row in summaries if row['network'] == network]
    odd = [f'{outcomes.count(name)} {name}' for name in sorted(set(outcomes) - {CONVERGED})]
    return f'{len(outcomes)}' + (f' ({", ".join(odd)})' if odd else '')


def _spreads(measures: Mapping[str, Spread | None]) -> list[str]:
    texts = []
    for name, (_, digits) in TABLE.items():
        spread = measures[name]
        if spread is None:
            texts.append('–')
        else:
            extra = '' if spread.deviation is None else f' ± {spread.deviation:.{digits}f}'
            texts.append(f'{spread.mean:.{digits}f}'.replace('-', '−') + extra)
    return texts


def _all_walks(summaries: Sequence[Row]) -> Any:
    columns = {'image': 's', 'network': 's', 'draw': 'd', 'outcome': 's'}
    columns |= {header: f'.{0 if "step" in name else digits}f' for name, (header, digits) in TABLE.items()}
    rows: list[list[Cell]] = [
        [row['image'], row['network'], row['draw'], row['outcome'], *(row[name] for name in TABLE)] for row in summaries
    ]
    return table_block(columns, rows, 'Every walk; PSNR in dB.')


def _tile(label: str, image: Tensor, quality: Quality | None) -> Tile:
    return Tile(_centre(image), label, '' if quality is None else f'{quality.psnr:.2f} dB')


def _centre(image: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    top, left = (max(0, (side - _CROP) // 2) for side in (height, width))
    return image[:, top : top + _CROP, left : left + _CROP]


def _save_image(path: Path, image: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(display_pixels(image)).save(path)


def _csv_value(value: Any) -> Any:
    if value is None:
        return ''
    return f'{value:.6g}' if isinstance(value, float) else value


def _json_value(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
