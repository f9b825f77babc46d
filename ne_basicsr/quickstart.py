"""The effect in one command: a small DnCNN with and without the wrapper, trained at one noise level, tested at all."""

import logging
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import skimage
import torch
from numpy.typing import NDArray
from torch import Tensor

from ne_basicsr import mismatch, pipeline, report
from ne_basicsr.data.image_store import LmdbStore, decode
from ne_basicsr.data.prepare import write_lmdb
from ne_basicsr.mismatch import Curve
from ne_basicsr.noise import add_noise, seed_of
from ne_basicsr.options import load_options

# scikit-image carries these in its wheel (public domain or CC0, see skimage/data/README.txt)
TRAINING_PHOTOGRAPHS = (
    'astronaut.png', 'brick.png', 'clock_motion.png', 'coins.png', 'grass.png', 'gravel.png', 'hubble_deep_field.jpg',
    'ihc.png', 'moon.png', 'motorcycle_left.png', 'motorcycle_right.png', 'retina.jpg', 'rocket.jpg',
)  # fmt: skip
HELD_OUT_PHOTOGRAPHS = ('camera.png', 'chelsea.png', 'coffee.png')
OPTION_FILES = {'DnCNN': 'quickstart_dncnn.yml', 'DnCNN-WNE': 'quickstart_dncnn_wne.yml'}

STRIP_IMAGE = 'camera'
STRIP_CORNER, STRIP_SIZE = (96, 176), 144
STRIP_LEVELS = (10, 25, 50, 85)


class Trained(NamedTuple):
    """One network of the comparison."""

    model: Any
    curve: Curve
    seconds: float


def quickstart(folder: Path, total_iter: int | None = None) -> Path:
    """Train both networks, sweep the held-out photographs, print the table and write the report.

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
    print(f'\n{table(curves)}\n')
    path = folder / 'report.html'
    _write_report(path, trained)
    print(f'Report: {path.resolve()}')
    return path


def write_photographs(folder: Path) -> None:
    """The photographs as LMDBs, gray, 8 bits: ``train.lmdb`` and ``held_out.lmdb``."""
    shutil.rmtree(folder, ignore_errors=True)
    source = Path(skimage.__file__).parent / 'data'
    for name, files in (('train', TRAINING_PHOTOGRAPHS), ('held_out', HELD_OUT_PHOTOGRAPHS)):
        images = ((Path(file).stem, cv2.imread(str(source / file), cv2.IMREAD_GRAYSCALE)) for file in files)
        write_lmdb(folder / f'{name}.lmdb', images)


def shipped_options(file: str) -> Path:
    """The path of an option file of this project, in a clone or in an installed package."""
    package = Path(__file__).parent
    return next(p for p in (package / 'shipped_options' / file, package.parent / 'options' / file) if p.is_file())


def table(curves: dict[str, Curve]) -> str:
    """Output PSNR by level, a column per network, and what the last gains over the first."""
    lines = [f'{"sigma":>6} {"noisy":>9}' + ''.join(f' {name:>10}' for name in curves) + f' {"gain":>8}']
    for sigma, noisy, *outputs in rows(curves):
        cells = ''.join(f' {value:>10.2f}' for value in outputs)
        lines.append(f'{sigma:>6g} {noisy:>9.2f}{cells} {outputs[-1] - outputs[0]:>+8.2f}')
    held_out = ', '.join(Path(file).stem for file in HELD_OUT_PHOTOGRAPHS)
    return '\n'.join([f'PSNR in dB on {held_out}; both networks trained at sigma 25 only', *lines])


def rows(curves: dict[str, Curve]) -> list[tuple[float, ...]]:
    """(sigma255, noisy PSNR, one output PSNR per curve), by level."""
    first = next(iter(curves.values()))
    outputs = [curve.psnr_out for curve in curves.values()]
    return list(zip(first.sigma255, first.psnr_in, *outputs, strict=True))


def _train(folder: Path, file: str, total_iter: int | None) -> Trained:
    path = shipped_options(file)
    overrides = [f'datasets:{phase}:dataroot_gt={folder / "data" / name}.lmdb' for phase, name in
                 (('train', 'train'), ('val', 'held_out'))]  # fmt: skip
    if total_iter is not None:
        overrides += [f'train:total_iter={total_iter}', f'val:val_freq={total_iter}']
    options = load_options(path, overrides, is_train=True, root=folder)
    shutil.rmtree(options['path']['experiments_root'], ignore_errors=True)
    shutil.rmtree(folder / 'tb_logger' / options['name'], ignore_errors=True)
    start = time.perf_counter()
    with _only_progress():
        model = pipeline.train(options | {'dist': False, 'rank': 0, 'world_size': 1}, path.read_text(encoding='utf-8'))
    curve = mismatch.curve(model.rows[options['datasets']['val']['name']])
    return Trained(model, curve, time.perf_counter() - start)


class _only_progress:  # noqa: N801 - used as a function
    """On the terminal, BasicSR's log lines of iterations only; the run's log file has them all."""

    def __enter__(self) -> None:
        from basicsr.utils import get_root_logger

        self.handlers = [h for h in get_root_logger().handlers if not isinstance(h, logging.FileHandler)]
        for handler in self.handlers:
            handler.addFilter(self._is_progress)

    def __exit__(self, *_: object) -> None:
        for handler in self.handlers:
            handler.removeFilter(self._is_progress)

    @staticmethod
    def _is_progress(record: logging.LogRecord) -> bool:
        return 'iter:' in record.getMessage() and 'eta:' in record.getMessage() or record.levelno >= logging.WARNING


def _write_report(path: Path, trained: dict[str, Trained]) -> None:
    raise SystemExit('filled in below')
