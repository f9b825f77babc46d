"""The files of a session: rows as CSV while it runs; images, films; at the end a summary, figures and a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from ne_basicsr.evaluation.report import save_figures
from ne_basicsr.evaluation.report.page import Tile, display_pixels
from ne_basicsr.evaluation.report.tables import json_text, write_csv, write_json, writing
from ne_basicsr.evaluation.report.trajectories import trajectory_figure
from ne_basicsr.evaluation.sampling.films import write_film
from ne_basicsr.evaluation.sampling.page import Aggregates, settings_of, tile, tiles_of, write_session
from ne_basicsr.evaluation.sampling.sampler import DIVERGED
from ne_basicsr.evaluation.sampling.session import Session
from ne_basicsr.evaluation.sampling.trajectories import Row, Spread, Trajectory, aggregate, rows_of, summarize
from ne_basicsr.utils.file_names import file_names

COLUMNS = ('network', 'image', 'draw', 'step', 'h', 'sigma', 'gamma', 'psnr', 'ssim')

_SHOWN = 4  # images in strips
_FIGURES = {'psnr': ('PSNR (dB)', False), 'ssim': ('SSIM', False), 'sigma': ('noise that the denoiser finds, σ', True)}


class Collector:
    """Takes trajectories as they end and writes them down; ``finish`` writes what needs all of them.

    Args:
        folder: ``rows.csv``, ``images/<network>/<image>.png``, ``films/<network>/<image>.<film>``; later
            ``summary.json``, ``table.csv``, ``figures/`` and ``report.html``. Names are numbered where two networks or
            images would share one. Files of an earlier session are replaced; its images and films of other names stay.
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
        labels, images = [entry.label for entry in session.entries], [picture.name for picture in session.pictures]
        # a network is one folder: with folders in it, a/b of one network and b of a/ would meet
        self._folders = dict(zip(labels, file_names(label.replace('/', '-') for label in labels), strict=True))
        self._names = dict(zip(images, file_names(images), strict=True))
        with writing(folder):
            write_csv(folder / 'rows.csv', COLUMNS, [])

    def add(self, network: str, trajectory: Trajectory) -> None:
        """Write the trajectory's rows, image and film, and keep its numbers."""
        rows = (row.values() for row in rows_of(network, trajectory))
        write_csv(self.folder / 'rows.csv', COLUMNS, rows, '.6g', append=True)
        self.summaries.append(summarize(network, trajectory))
        for name, by_network in self.walks.items():
            values = [getattr(record, name) for record in trajectory.records]
            if trajectory.outcome != DIVERGED and None not in values:
                by_network.setdefault(network, []).append(values)
        suffix = f'_draw{trajectory.draw}' if self.session.request.draws > 1 else ''
        name = f'{self._folders[network]}/{self._names[trajectory.image]}{suffix}'
        image = self.folder / 'images' / f'{name}.png'
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(display_pixels(trajectory.result)).save(image)
        if self.film and trajectory.frames:
            write_film(self.folder / 'films' / f'{name}.{self.film}', [frame for _, frame in trajectory.frames])
        if trajectory.draw == 0 and trajectory.image in self._clean:
            strip = self.shown.setdefault(trajectory.image, {})
            strip |= {name: tile for name, tile in tiles_of(network, trajectory).items() if name not in strip}

    def finish(self, command: str) -> Path:
        """Write what needs all trajectories; the page's path."""
        aggregates = {
            entry.label: aggregate([row for row in self.summaries if row['network'] == entry.label])
            for entry in self.session.entries
        }
        write_json(self.folder / 'summary.json', json_text(summary_of(self.session, self.summaries, aggregates)))
        write_table(self.folder / 'table.csv', aggregates)
        figures = self.figures()
        save_figures(figures, self.folder / 'figures', _FIGURES)
        page = self.folder / 'report.html'
        is_known = self.session.request.task.has_reference
        strips = {
            name: [*tiles.values(), *([tile('clean', self._clean[name])] if is_known else [])]
            for name, tiles in self.shown.items()
        }
        write_session(page, self.session, self.summaries, aggregates, figures, strips, self.film, command)
        return page

    def figures(self) -> dict[str, Figure]:
        """PSNR, SSIM and sigma against the step, what there is of them."""
        return {
            name: trajectory_figure(self.walks[name], label, log=log)
            for name, (label, log) in _FIGURES.items()
            if self.walks[name]
        }


def summary_of(session: Session, summaries: Sequence[Row], aggregates: Aggregates) -> dict[str, Any]:
    """What ``summary.json`` holds, but that numbers that are not finite are null there."""
    networks = {}
    for entry in session.entries:
        outcomes = [row['outcome'] for row in summaries if row['network'] == entry.label]
        networks[entry.label] = {
            'source': entry.source,
            'description': entry.description,
            'outcomes': {name: outcomes.count(name) for name in sorted(set(outcomes))},
            'measures': {name: spread and spread._asdict() for name, spread in aggregates[entry.label].items()},
        }
    return {
        'task': str(session.request.task),
        'schedule': session.request.schedule._asdict(),
        'seed': session.request.seed,
        'draws': session.request.draws,
        'settings': settings_of(session.request),
        'networks': networks,
        'walks': summaries,
        'failures': session.failures,
    }


def write_table(path: Path, aggregates: Aggregates) -> None:
    """The aggregates as CSV: a line for each network and measure, ``network, measure, mean, deviation, number``."""
    rows = [
        (network, name, *spread)
        for network, measures in aggregates.items()
        for name, spread in measures.items()
        if spread is not None
    ]
    write_csv(path, ('network', 'measure', *Spread._fields), rows, '.6g')
