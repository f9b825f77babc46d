"""The results of a validation: rows as CSV, the mismatch curve as figure and numbers, images in TensorBoard."""

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ne_basicsr.evaluation import mismatch
from ne_basicsr.evaluation.mismatch import Row
from ne_basicsr.ops.center import center
from ne_basicsr.ops.noise import Training

STRIP_SIZE = 256  # pixels, of the images in TensorBoard


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Rows in an order that does not depend on the number of ranks."""
    return sorted(rows, key=lambda row: (row['image'], row['level'], row['draw']))


def keep_curve(
    rows: Sequence[Row],
    folder: Path,
    run: str,
    data_set: str,
    iteration: int | str,
    training_levels: Training,
    tb_logger: Any,
) -> None:
    """Write the curve of a data set and its rows to the folder of a run, ``mismatch/<data set>_<iteration>.{csv,png}``.

    ``training_levels`` are in 8-bit units; the summary goes to the log and, where there is one, TensorBoard's writer.
    """
    curve = mismatch.curve(rows)
    summary = mismatch.summarize(curve)
    stem = folder / 'mismatch' / f'{data_set}_{iteration}'
    mismatch.write_csv(Path(f'{stem}.csv'), rows)
    unit = rows[0]['unit']
    word = unit.removesuffix('255')
    table = ''.join(
        f'\n\t {word} {level:6.2f}: noisy {psnr_in:6.2f} dB, denoised {psnr_out:6.2f} dB'
        for level, psnr_in, psnr_out in zip(*curve, strict=True)
    )
    numbers = f'mean output PSNR {summary.mean_psnr:.4f} dB, worst loss against identity {summary.worst_loss:+.2f} dB'
    logging.getLogger('basicsr').info(f'Mismatch {data_set}{table}\n\t {numbers}')
    pixels = draw(Path(f'{stem}.png'), {run: curve}, training_levels, title=data_set, unit=unit)
    if tb_logger:
        tb_logger.add_scalar(f'mismatch/{data_set}/mean_psnr', summary.mean_psnr, iteration)
        tb_logger.add_scalar(f'mismatch/{data_set}/worst_loss', summary.worst_loss, iteration)
        for level, value in zip(curve.levels, curve.psnr_out, strict=True):
            tb_logger.add_scalar(f'mismatch/{data_set}/psnr_out_{word}{level:g}', value, iteration)
        tb_logger.add_image(f'mismatch/{data_set}', pixels(), iteration, dataformats='HWC')


def draw(path: Path, *curves: Any, **how: Any) -> Callable[[], NDArray[np.uint8]]:
    """Save the figure of mismatch curves; what is returned makes its pixels, (H, W, 3)."""
    from ne_basicsr.evaluation.report import figures, files  # matplotlib, which other commands start without

    figure = figures.mismatch_figure(*curves, **how)
    files.save_figure(figure, path)
    return lambda: files.figure_array(figure)


def keep_pairs(rows: Sequence[Row], folder: Path, data_set: str, iteration: int | str) -> None:
    """Write the rows of pairs, which have no levels and so no curve, as ``pairs/<data set>_<iteration>.csv``."""
    kept = [{key: value for key, value in row.items() if key not in ('level', 'draw')} for row in rows]
    mismatch.write_csv(folder / 'pairs' / f'{data_set}_{iteration}.csv', kept)
    noisy, denoised = (sum(row[key] for row in rows) / len(rows) for key in ('psnr_in', 'psnr_clamped'))
    numbers = f'{len(rows)} pairs, noisy {noisy:.2f} dB, denoised {denoised:.2f} dB (float images)'
    logging.getLogger('basicsr').info(f'Pairs {data_set}: {numbers}')


def image_strip(noisy: Tensor, output: Tensor, clean: Tensor, size: int = STRIP_SIZE) -> Tensor:
    """The centers of three images (1, C, H, W), at most ``size`` wide and high, side by side on [0, 1], (C, h, 3 w)."""
    images = center(torch.cat([noisy, output, clean]).float().cpu(), size)
    return torch.cat(list(images.clamp(0, 1)), dim=-1)
