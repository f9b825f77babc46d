"""The files of a session: rows as CSV while it runs; images, films; at the end a summary, figures and a page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ne_basicsr.evaluation import sampling
from ne_basicsr.evaluation.report.analysis import trajectory_figure
from ne_basicsr.evaluation.report.files import save_figures
from ne_basicsr.evaluation.report.page import Column, Tile, display_pixels, table, write_page
from ne_basicsr.evaluation.report.tables import write_csv, write_json, writing
from ne_basicsr.evaluation.sampling.sampler import CONVERGED, DIVERGED
from ne_basicsr.evaluation.sampling.session import Request, Session
from ne_basicsr.evaluation.sampling.trajectories import Row
from ne_basicsr.ops.center import center
from ne_basicsr.utils.errors import InputError
from ne_basicsr.utils.file_names import file_names

COLUMNS = ('network', 'image', 'draw', *sampling.Record._fields)

Aggregates = Mapping[str, Mapping[str, sampling.Spread | None]]
"""The aggregates of each network by measure."""

_COLUMNS = {
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

_FRAMES_PER_SECOND = 12
_LAST_FRAME = 1.5  # seconds that the last frame of a film is shown
_CROP = 256  # pixels of an image in a strip
_SHOWN = 4  # images in strips
_FIGURES = {'psnr': ('PSNR (dB)', False), 'ssim': ('SSIM', False), 'sigma': ('noise that the denoiser finds, σ', True)}


class Collector:
    """Writes each trajectory when it ends; ``finish`` writes what needs all of them.

    Args:
        folder: ``rows.csv``, ``images/<network>/<image>.png``, ``films/<network>/<image>.<film>``; later
            ``summary.json``, ``table.csv``, ``figures/`` and ``report.html``. Names are numbered where two networks or
            images would share one. Files of an earlier session are replaced; its images and films of other names stay.

    Raises:
        InputError: where the folder cannot be written.
    """

    def __init__(self, session: Session, folder: Path) -> None:
        self.session, self.folder = session, folder
        self.summaries: list[Row] = []
        self.walks: dict[str, dict[str, list[list[float]]]] = {name: {} for name in _FIGURES}
        self.shown: dict[str, list[Tile]] = {name: [] for name in [*session.pictures][:_SHOWN]}
        labels, images = [entry.label for entry in session.entries], [*session.pictures]
        # a network is one folder: with folders in it, a/b of one network and b of a/ would meet
        self._folders = dict(zip(labels, file_names(label.replace('/', '-') for label in labels), strict=True))
        self._names = dict(zip(images, file_names(images), strict=True))
        with writing(folder):
            write_csv(folder / 'rows.csv', COLUMNS, [])

    def add(self, network: str, trajectory: sampling.Trajectory) -> None:
        """Write the trajectory's rows, image and film, and keep its numbers."""
        rows = ((network, trajectory.image, trajectory.draw, *record) for record in trajectory.records)
        write_csv(self.folder / 'rows.csv', COLUMNS, rows, '.6g', append=True)
        self.summaries.append(sampling.summarize(network, trajectory))
        for name, by_network in self.walks.items():
            values = [getattr(record, name) for record in trajectory.records]
            if trajectory.outcome != DIVERGED and None not in values:
                by_network.setdefault(network, []).append(values)
        request = self.session.request
        suffix = f'_draw{trajectory.draw}' if request.draws > 1 else ''
        name = f'{self._folders[network]}/{self._names[trajectory.image]}{suffix}'
        image = self.folder / 'images' / f'{name}.png'
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(display_pixels(trajectory.result)).save(image)
        if trajectory.frames:
            write_film(self.folder / 'films' / f'{name}.{request.film}', [frame for _, frame in trajectory.frames])
        if trajectory.draw or trajectory.image not in self.shown:
            return
        # the end of the walk and, where they can be compared with the clean image, what it began with
        last, tiles = trajectory.records[-1], self.shown[trajectory.image]
        observed, one_pass = trajectory.observed_quality, trajectory.one_pass_quality
        if observed and not tiles:  # the same for all networks
            tiles.append(_tile('observed', trajectory.observed, observed.psnr))
        if one_pass:
            tiles.append(_tile(network, trajectory.one_pass, one_pass.psnr, 'one pass'))
        is_done = trajectory.outcome == CONVERGED
        how = f'{last.step} steps' if is_done else f'{trajectory.outcome}, step {last.step}'
        tiles.append(_tile(network, trajectory.result, last.psnr, how))

    def finish(self, command: str) -> Path:
        """Write what needs all trajectories; returns the path of the page."""
        session, aggregates, page = self.session, self.aggregates, self.folder / 'report.html'
        request, settings = session.request, settings_of(session.request)
        networks = {
            entry.label: {
                'source': entry.source,
                'description': entry.description,
                'outcomes': dict(sorted(Counter(row['outcome'] for row in self._walks_of(entry.label)).items())),
                'measures': aggregates[entry.label],
            }
            for entry in session.entries
        }
        write_json(self.folder / 'summary.json', {
            'task': str(request.task), 'schedule': request.schedule, 'seed': request.seed, 'draws': request.draws,
            'settings': settings, 'networks': networks, 'walks': self.summaries, 'failures': session.failures,
        })  # fmt: skip
        measures = [(network, *each) for network, by_name in aggregates.items() for each in by_name.items()]
        rows = [(network, name, *spread) for network, name, spread in measures if spread is not None]
        write_csv(self.folder / 'table.csv', ('network', 'measure', *sampling.Spread._fields), rows, '.6g')
        figures = self.figures()
        save_figures(figures, self.folder / 'figures', _FIGURES)
        if request.task.kind != 'unconstrained':
            for name, tiles in self.shown.items():
                tiles.append(_tile('clean', session.pictures[name]))
        headers, *cells = self.table()
        first = ('image', 'network', 'draw', 'outcome')
        columns = [Column(name) for name in first]
        columns += [Column(text, f'.{0 if "step" in name else digits}f') for name, (text, digits) in _COLUMNS.items()]
        write_page(
            page,
            'sampling.html',
            lead=_lead(session, len(self.summaries), aggregates),
            failures=session.failures,
            aggregates=table([Column(header) for header in headers], cells),
            walks=table(columns, [[row[name] for name in (*first, *_COLUMNS)] for row in self.summaries]),
            settings={entry.label: entry.description or entry.source for entry in session.entries} | settings,
            figures=figures,
            strips={name: tiles for name, tiles in self.shown.items() if tiles},
            film=request.film,
            command=command,
        )
        return page

    def table(self) -> list[list[str]]:
        """Headers, then ``12 (1 diverged)`` and ``28.11 ± 2.05`` for each of ``_COLUMNS``, for each network."""
        rows = [['network', 'walks', *(header for header, _ in _COLUMNS.values())]]
        for network, measures in self.aggregates.items():
            outcomes = Counter(row['outcome'] for row in self._walks_of(network))
            odd = ', '.join(f'{count} {name}' for name, count in sorted(outcomes.items()) if name != CONVERGED)
            cells = [_spread_text(measures[name], digits) for name, (_, digits) in _COLUMNS.items()]
            rows.append([network, f'{outcomes.total()}{f" ({odd})" if odd else ""}', *cells])
        return rows

    def _walks_of(self, network: str) -> list[Row]:
        return [row for row in self.summaries if row['network'] == network]

    @property
    def aggregates(self) -> Aggregates:
        return {entry.label: sampling.aggregate(self._walks_of(entry.label)) for entry in self.session.entries}

    def figures(self) -> dict[str, Figure]:
        """PSNR, SSIM and sigma against the step, those that were measured."""
        return {
            name: trajectory_figure(self.walks[name], label, log=log)
            for name, (label, log) in _FIGURES.items()
            if self.walks[name]
        }


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


def _tile(label: str, image: Tensor, psnr: float | None = None, how: str = '') -> Tile:
    """The centre of an image (C, H, W), with how it was made and the PSNR of all of it."""
    note = ', '.join(filter(None, (how, '' if psnr is None else f'{psnr:.2f} dB')))
    return Tile(display_pixels(center(image, _CROP)), label, note.replace(' ', '\u00a0').replace(',\u00a0', ', '))


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


def _spread_text(spread: sampling.Spread | None, digits: int) -> str:
    if spread is None:
        return '–'
    mean = f'{spread.mean:.{digits}f}'.replace('-', '−')
    return mean if spread.deviation is None else f'{mean}\u00a0±\u00a0{spread.deviation:.{digits}f}'


def write_film(path: Path, frames: Sequence[NDArray[np.uint8]]) -> None:
    """Write 8-bit images (H, W) or (H, W, 3) of one size as .gif or .mp4. Makes the folders above.

    MP4 is VP9, which browsers play and OpenCV's wheels can write; images of odd size get one row or column more.

    Raises:
        InputError: where this OpenCV has no encoder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == '.gif':
        images = [Image.fromarray(frame) for frame in frames]
        times = [round(1000 / _FRAMES_PER_SECOND)] * (len(frames) - 1) + [round(1000 * _LAST_FRAME)]
        images[0].save(path, save_all=True, append_images=images[1:], duration=times, loop=0)
        return
    height, width = frames[0].shape[:2]
    odd = height % 2, width % 2
    fourcc = int.from_bytes(b'vp09', 'little')
    writer = cv2.VideoWriter(str(path), fourcc, float(_FRAMES_PER_SECOND), (width + odd[1], height + odd[0]), True)
    if not writer.isOpened():
        raise InputError(f'{path}: this OpenCV cannot write MP4; use gif')
    for frame in [*frames, *[frames[-1]] * round(_LAST_FRAME * _FRAMES_PER_SECOND)]:
        colour = cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR if frame.ndim == 2 else cv2.COLOR_RGB2BGR)
        writer.write(cv2.copyMakeBorder(colour, 0, odd[0], 0, odd[1], cv2.BORDER_REPLICATE))
    writer.release()
