"""The page of a session: the aggregates, figures, images as strips, all walks, and how it was done."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from ne_basicsr.evaluation.report.html_page import (
    Cell,
    Html,
    Tile,
    code_block,
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
from ne_basicsr.evaluation.sampling.sampler import CONVERGED
from ne_basicsr.evaluation.sampling.session import Session
from ne_basicsr.evaluation.sampling.trajectories import Quality, Row, Trajectory
from ne_basicsr.evaluation.sampling.wording import COLUMNS, Table, settings_of, spread_texts, walks_text

_CROP = 256  # pixels of an image in a strip
_CAPTIONS = {
    'psnr': 'PSNR against the step; thick: the mean of a network, a walk that has ended counts as it ended.',
    'ssim': 'SSIM against the step.',
    'sigma': 'What the denoiser finds left in the image; the walk ends where it is small enough.',
}


def write_session(
    path: Path,
    session: Session,
    summaries: Sequence[Row],
    table: Table,
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
    blocks = []
    if session.failures:
        blocks.append(warning_block('Not everything went well', session.failures))
    blocks.append(_aggregates(table, summaries))
    blocks.append(row_block(*(figure_block(figure, _CAPTIONS[name]) for name, figure in figures.items())))
    if strips:
        note = 'PSNR of the whole image; images are clipped for display.'
        blocks.append(strip_block(strips, f'The centre of the first images. {note}', scale=1))
    if film:
        blocks.append(text_block(f'Films of the walks are in films/ beside this page, as .{film}.'))
    blocks.append(fold_block('All walks', _all_walks(summaries)))
    about = {entry.label: entry.description or entry.source for entry in session.entries}
    blocks.append(section_block('How', facts_block(about | settings_of(session.request)), code_block(command)))
    lead = (
        f'Sampling with {len(table)} {"denoisers" if len(table) > 1 else "denoiser"} from {session.request.task.what},'
        f' {len(summaries)} {"walk" if len(summaries) == 1 else "walks"}.'
    )
    write_page(path, 'Sampling with a denoiser', lead, blocks)


def tiles_of(network: str, trajectory: Trajectory) -> dict[str, Tile]:
    """What is shown of a walk: what was observed, the same for all networks, one pass, and the end."""
    tiles = {}
    if trajectory.observed_quality is not None:
        tiles['observed'] = _tile('observed', trajectory.observed, trajectory.observed_quality)
        tiles[f'{network} one'] = _tile(f'{network}, one pass', trajectory.one_pass, trajectory.one_pass_quality)
    last = trajectory.records[-1]
    final = None if last.psnr is None else Quality(last.psnr, last.ssim)
    how = f'{last.step} steps' if trajectory.outcome == CONVERGED else f'{trajectory.outcome}, step {last.step}'
    return tiles | {f'{network} end': _tile(f'{network}, {how}', trajectory.result, final)}


def clean_tile(image: Tensor) -> Tile:
    """What is shown of a clean image (C, H, W)."""
    return _tile('clean', image, None)


# -- parts -------------------------------------------------------------------------------------------------------------


def _aggregates(table: Table, summaries: Sequence[Row]) -> Html:
    columns = {'': 's', 'walks': 's', **{header: 's' for header, _ in COLUMNS.values()}}
    rows: list[list[Cell]] = [
        [network, walks_text(network, summaries), *spread_texts(measures)] for network, measures in table.items()
    ]
    return table_block(columns, rows, 'Mean ± deviation over images and draws; PSNR in dB.')


def _all_walks(summaries: Sequence[Row]) -> Html:
    columns = {'image': 's', 'network': 's', 'draw': 'd', 'outcome': 's'}
    columns |= {header: f'.{0 if "step" in name else digits}f' for name, (header, digits) in COLUMNS.items()}
    rows: list[list[Cell]] = [
        [row['image'], row['network'], row['draw'], row['outcome'], *(row[name] for name in COLUMNS)]
        for row in summaries
    ]
    return table_block(columns, rows, 'Every walk; PSNR in dB.')


def _tile(label: str, image: Tensor, quality: Quality | None) -> Tile:
    height, width = image.shape[-2:]
    top, left = (max(0, (side - _CROP) // 2) for side in (height, width))
    crop = image[:, top : top + _CROP, left : left + _CROP]
    return Tile(crop, label, '' if quality is None else f'{quality.psnr:.2f} dB')
