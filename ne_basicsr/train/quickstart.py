"""The effect of the wrapper in one command: a small DnCNN with and without it, trained at one noise level."""

import logging
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import skimage
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

import ne_basicsr
from ne_basicsr.data.image_store import LmdbStore, decode
from ne_basicsr.data.prepare import write_lmdb
from ne_basicsr.evaluation import mismatch, report
from ne_basicsr.evaluation.mismatch import Curve
from ne_basicsr.evaluation.report.page import Column, Tile, table, write_page
from ne_basicsr.evaluation.report.tables import text_table
from ne_basicsr.metrics.quality import psnr, psnr_clamped
from ne_basicsr.ops.degradations import Degradation
from ne_basicsr.options import load_options, shipped
from ne_basicsr.options.printing import kept_text
from ne_basicsr.train import pipeline

# scikit-image carries these in its wheel (public domain or CC0, see skimage/data/README.txt)
TRAINING_PHOTOGRAPHS = (
    'astronaut.png', 'brick.png', 'clock_motion.png', 'coins.png', 'grass.png', 'gravel.png', 'ihc.png', 'moon.png',
    'motorcycle_left.png', 'motorcycle_right.png', 'rocket.jpg',
)  # fmt: skip
TILE_SIZE = 96
HELD_OUT_PHOTOGRAPHS = ('camera.png', 'chelsea.png', 'coffee.png')
OPTION_FILES = {'DnCNN': 'quickstart_dncnn.yml', 'DnCNN-WNE': 'quickstart_dncnn_wne.yml'}

TRAINING_LEVEL = 25  # sigma in 8-bit units, as in both option files
STRIP_IMAGE = 'camera'
STRIP_CORNER, STRIP_SIZE = (96, 176), 144
STRIP_LEVELS = (10, 25, 50, 85)


class Trained(NamedTuple):
    """One network of the comparison."""

    model: Any
    curve: Curve
    seconds: float


def quickstart(folder: Path, total_iter: int | None = None) -> Path:
    """Train both networks, sweep the held-out photographs, print the table, write the figure and the report.

    Args:
        folder: where data, runs and ``report.html`` go; the data and the runs of an earlier quickstart are replaced.
        total_iter: iterations instead of the option files'.

    Returns:
        The report's path.
    """
    write_photographs(folder / 'data')
    trained = {}
    for number, (name, file) in enumerate(OPTION_FILES.items(), 1):
        print(f'\n[{number}/{len(OPTION_FILES)}] Training {name} at sigma 25 only (options/{file})', flush=True)
        trained[name] = _train(folder, file, total_iter)
    curves = {name: each.curve for name, each in trained.items()}
    print(f'\n{curves_text(curves)}\n')
    figure = report.mismatch_figure(curves, [TRAINING_LEVEL])
    report.save_figure(figure, folder / 'mismatch.png')
    path = folder / 'report.html'
    _write_report(path, trained, figure)
    print(f'Report: {path.resolve()}')
    return path


def write_photographs(folder: Path) -> None:
    """The photographs as LMDBs, gray, 8 bits: ``train.lmdb``, cut into tiles, and ``held_out.lmdb``, whole."""
    for name in ('train', 'held_out'):
        shutil.rmtree(folder / f'{name}.lmdb', ignore_errors=True)
    training = (tile for name, image in _photographs(TRAINING_PHOTOGRAPHS) for tile in _tiles(name, image))
    write_lmdb(folder / 'train.lmdb', training)
    write_lmdb(folder / 'held_out.lmdb', _photographs(HELD_OUT_PHOTOGRAPHS))


def _photographs(files: Iterable[str]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    source = Path(skimage.__file__).parent / 'data'
    for file in files:
        yield Path(file).stem, (decode((source / file).read_bytes(), 1, file)[..., 0] * 255).round().astype(np.uint8)


def _tiles(name: str, image: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Tiles without overlap: a training crop comes from one tile, which decodes faster than a whole photograph."""
    for top, left in product(range(0, image.shape[0], TILE_SIZE), range(0, image.shape[1], TILE_SIZE)):
        tile = image[top : top + TILE_SIZE, left : left + TILE_SIZE]
        if min(tile.shape) >= TILE_SIZE // 2:
            yield f'{name}_{top}_{left}', tile


def curves_text(curves: dict[str, Curve]) -> str:
    """Output PSNR by level, a column per network, and the gain of the last over the first."""
    cells = [[f'{sigma:g}', *(f'{psnr:.2f}' for psnr in each), f'{gain:+.2f}'] for sigma, *each, gain in rows(curves)]
    header = ['sigma', 'noisy', *curves, 'gain']
    title = f'PSNR in dB on {_held_out()}; both networks trained at sigma 25 only'
    return f'{title}\n{text_table([header, *cells], left=())}'


def rows(curves: dict[str, Curve]) -> list[tuple[float, ...]]:
    """(sigma255, noisy PSNR, one output PSNR per curve, gain of the last over the first), by level."""
    first, *_, last = curves.values()
    gains = [b - a for a, b in zip(first.psnr_out, last.psnr_out, strict=True)]
    outputs = [curve.psnr_out for curve in curves.values()]
    return list(zip(first.levels, first.psnr_in, *outputs, gains, strict=True))


def _train(folder: Path, file: str, total_iter: int | None) -> Trained:
    path = shipped.FOLDER / file
    overrides = [f'datasets:{phase}:dataroot_gt={folder / "data" / name}.lmdb' for phase, name in
                 (('train', 'train'), ('val', 'held_out'))]  # fmt: skip
    if total_iter is not None:
        overrides += [f'train:total_iter={total_iter}', f'val:val_freq={total_iter}']
    options = load_options(path, overrides, is_train=True, root=folder)
    shutil.rmtree(options['path']['experiments_root'], ignore_errors=True)
    shutil.rmtree(folder / 'tb_logger' / options['name'], ignore_errors=True)
    start = time.perf_counter()
    with _only_progress():
        model = pipeline.train(options | {'dist': False, 'rank': 0, 'world_size': 1}, kept_text(path, overrides))
    curve = mismatch.curve(model.rows[options['datasets']['val']['name']])
    return Trained(model, curve, time.perf_counter() - start)


@contextmanager
def _only_progress() -> Iterator[None]:
    """On the terminal, BasicSR's log lines of iterations only; the run's log file has them all."""
    from basicsr.utils import get_root_logger

    def is_progress(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or all(word in record.getMessage() for word in ('iter:', 'eta:'))

    handlers = [each for each in get_root_logger().handlers if not isinstance(each, logging.FileHandler)]
    for handler in handlers:
        handler.addFilter(is_progress)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(is_progress)


def _write_report(path: Path, trained: dict[str, Trained], figure: Figure) -> None:
    curves = {name: each.curve for name, each in trained.items()}
    (plain, wrapped), by_level = curves, {row[0]: row for row in rows(curves)}
    above, below = (f'{by_level[level][3]:.1f} dB against {by_level[level][2]:.1f} dB' for level in (50, 5))
    columns = [Column('σ', 'g'), Column('noisy', '.2f')]
    columns += [Column(plain, '.2f', 'row'), Column(wrapped, '.2f', 'row'), Column('gain', '+.2f')]
    write_page(
        path,
        'quickstart.html',
        lead=f'Two copies of one small network, trained at noise level σ = {TRAINING_LEVEL} only. At σ = 50 {wrapped}'
        f' reaches {above} for {plain}; at σ = 5 it reaches {below}. No parameters are added.',
        plain=plain,
        wrapped=wrapped,
        parameters=f'{sum(p.numel() for p in trained[plain].model.net_g.parameters()):,}',
        level=TRAINING_LEVEL,
        held_out=_held_out(),
        figure=figure,
        curves=table(columns, rows(curves), marked={curves[plain].levels.index(TRAINING_LEVEL): 'training level'}),
        strips=_strips(trained),
        size=STRIP_SIZE,
        image=STRIP_IMAGE,
        settings=_facts(trained),
    )


def _strips(trained: dict[str, Trained]) -> dict[str, list[Tile]]:
    """Noisy, each network's output and clean, at some levels, with the noise that the sweep used."""
    model = next(iter(trained.values())).model
    store = LmdbStore(Path(model.opt['datasets']['val']['dataroot_gt']))
    clean = torch.from_numpy(decode(store.read(STRIP_IMAGE), 1, STRIP_IMAGE)).permute(2, 0, 1)[None]
    strips, gaussian = {}, Degradation('gaussian', STRIP_LEVELS)
    for level in STRIP_LEVELS:
        noisy = gaussian.apply(clean, STRIP_IMAGE, level, seed=model.opt['manual_seed'])
        images = {'noisy': noisy}
        for name, each in trained.items():
            with each.model.evaluating():
                images[name] = each.model.denoise(noisy.to(each.model.device)).cpu()
        measured = {
            name: (psnr if name == 'noisy' else psnr_clamped)(_crop(y), _crop(clean)) for name, y in images.items()
        }
        tiles = [Tile(_crop(y), name, f'{measured[name]:.2f} dB') for name, y in images.items()]
        heading = f'σ = {level:g}' + (', the training level' if level == TRAINING_LEVEL else '')
        strips[heading] = [*tiles, Tile(_crop(clean), 'clean')]
    return strips


def _crop(image: Tensor) -> Tensor:
    (top, left), size = STRIP_CORNER, STRIP_SIZE
    return image[0, :, top : top + size, left : left + size].cpu()


def _facts(trained: dict[str, Trained]) -> dict[str, str]:
    options = next(iter(trained.values())).model.opt
    train, data, net = options['train'], options['datasets']['train'], options['network_g']
    crops = f'{data["batch_size_per_gpu"]} crops of {data["gt_size"]} × {data["gt_size"]}'
    photographs = f'{len(TRAINING_PHOTOGRAPHS)} to train on, {len(HELD_OUT_PHOTOGRAPHS)} held out'
    times = ', '.join(f'{name} {each.seconds:.0f} s' for name, each in trained.items())
    device = torch.cuda.get_device_name() if options['num_gpu'] else f'CPU, {torch.get_num_threads()} threads'
    return {
        'Networks': f'DnCNN, {net["num_layers"]} layers of {net["num_feat"]} features, plain and wrapped',
        'Training': f'{train["total_iter"]} iterations of {crops}, Adam, MSE, σ = 25',
        'Photographs': f'{photographs}, from scikit-image',
        'PSNR': 'output clamped to [0, 1], not rounded; the noisy image is not clamped',
        'Time': f'{times}, the sweep over noise levels included',
        'Device': device,
        'Versions': f'ne_basicsr {ne_basicsr.__version__}, torch {torch.__version__}',
    }


def _held_out() -> str:
    return ', '.join(Path(file).stem for file in HELD_OUT_PHOTOGRAPHS)
