"""The effect of the wrapper in one command: a small DnCNN with and without it, trained at one noise level."""

import logging
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import skimage
from numpy.typing import NDArray

from ne_basicsr.data.image_store import decode
from ne_basicsr.data.prepare import write_lmdb
from ne_basicsr.evaluation.mismatch import Curve
from ne_basicsr.evaluation.mismatch.comparison import compare
from ne_basicsr.evaluation.mismatch.outputs import write_outputs
from ne_basicsr.evaluation.mismatch.summaries import summarize_panel
from ne_basicsr.evaluation.mismatch.units import Request
from ne_basicsr.evaluation.report.tables import text_table
from ne_basicsr.options import load_options, read_yaml, shipped
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


def quickstart(folder: Path, total_iter: int | None = None) -> Path:
    """Train both networks and compare them on the held-out photographs, as ``basicsr mismatch`` does; print the table.

    Args:
        folder: where data, runs and results go; the data and the runs of an earlier quickstart are replaced.
        total_iter: iterations instead of the option files'.

    Returns:
        The path of the page, ``report.html``.
    """
    write_photographs(folder / 'data')
    levels = read_yaml(shipped.find(OPTION_FILES['DnCNN']))['datasets']['val']['sigma_test']
    networks, times = [], []
    for number, (name, file) in enumerate(OPTION_FILES.items(), 1):
        print(f'\n[{number}/{len(OPTION_FILES)}] Training {name} at sigma 25 only (options/{file})', flush=True)
        start = time.perf_counter()
        options = _train(folder, file, total_iter)
        networks.append(f'{options["path"]["models"]}/net_g_latest.pth')
        times.append(f'{name} {time.perf_counter() - start:.0f} s')
    request = Request(
        networks,
        [folder / 'data' / 'held_out.lmdb'],
        [f'gaussian={",".join(map(str, levels))}'],
        labels=list(OPTION_FILES),
        seed=options['manual_seed'],
        device='cuda' if options['num_gpu'] else 'cpu',
    )
    comparison, _ = compare(request, folder)
    print(f'\n{curves_text(summarize_panel(comparison.panels[0], comparison.entries).curves)}\n')
    photographs = f'{len(TRAINING_PHOTOGRAPHS)} to train on, {len(HELD_OUT_PHOTOGRAPHS)} held out, from scikit-image'
    facts = {
        'Wrapper': 'normalizes each image by its mean and standard deviation, denoises it, and maps it back, so that'
        ' f(a y + b) = a f(y) + b; it adds no parameters',
        'Photographs': photographs,
        'Training': f'{options["train"]["total_iter"]} iterations; {", ".join(times)}',
    }
    page = write_outputs(comparison._replace(settings={**comparison.settings, **facts}), folder, 'basicsr quickstart')
    print(f'Report: {page.resolve()}')
    return page


def write_photographs(folder: Path) -> None:
    """The photographs as LMDBs, gray, 8 bits: ``train.lmdb``, cut into tiles, and ``held_out.lmdb``, whole."""
    for name in ('train', 'held_out'):
        shutil.rmtree(folder / f'{name}.lmdb', ignore_errors=True)
    # tiles without overlap: a training crop comes from one tile, which decodes faster than a whole photograph
    tiles = (
        (f'{name}_{top}_{left}', tile)
        for name, image in _photographs(TRAINING_PHOTOGRAPHS)
        for top, left in product(range(0, image.shape[0], TILE_SIZE), range(0, image.shape[1], TILE_SIZE))
        for tile in [image[top : top + TILE_SIZE, left : left + TILE_SIZE]]
        if min(tile.shape) >= TILE_SIZE // 2
    )
    write_lmdb(folder / 'train.lmdb', tiles)
    write_lmdb(folder / 'held_out.lmdb', _photographs(HELD_OUT_PHOTOGRAPHS))


def _photographs(files: Iterable[str]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    source = Path(skimage.__file__).parent / 'data'
    for file in files:
        yield Path(file).stem, (decode((source / file).read_bytes(), 1, file)[..., 0] * 255).round().astype(np.uint8)


def curves_text(curves: Mapping[str, Curve]) -> str:
    """Output PSNR by level, a column per network, and the gain of the last over the first."""
    first, *_, last = curves.values()
    outputs = zip(*(curve.psnr_out for curve in curves.values()), strict=True)
    cells = [
        [f'{sigma:g}', f'{noisy:.2f}', *(f'{psnr:.2f}' for psnr in each), f'{each[-1] - each[0]:+.2f}']
        for sigma, noisy, each in zip(last.levels, first.psnr_in, outputs, strict=True)
    ]
    held_out = ', '.join(Path(file).stem for file in HELD_OUT_PHOTOGRAPHS)
    title = f'PSNR in dB on {held_out}; both networks trained at sigma 25 only'
    return f'{title}\n{text_table([["sigma", "noisy", *curves, "gain"], *cells], left=())}'


def _train(folder: Path, file: str, total_iter: int | None) -> dict[str, Any]:
    """One run of the ordinary path; its options."""
    path = shipped.FOLDER / file
    overrides = [f'datasets:{phase}:dataroot_gt={folder / "data" / name}.lmdb' for phase, name in
                 (('train', 'train'), ('val', 'held_out'))]  # fmt: skip
    overrides.append('datasets:val:sigma_test=25')  # the comparison measures all levels
    if total_iter is not None:
        overrides += [f'train:total_iter={total_iter}', f'val:val_freq={total_iter}']
    options = load_options(path, overrides, is_train=True, root=folder)
    shutil.rmtree(options['path']['experiments_root'], ignore_errors=True)
    shutil.rmtree(folder / 'tb_logger' / options['name'], ignore_errors=True)
    with _only_progress():
        pipeline.train(options | {'dist': False, 'rank': 0, 'world_size': 1}, kept_text(path, overrides))
    return options


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
