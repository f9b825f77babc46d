"""The sweep: one network over images, levels and draws, in batches."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ne_basicsr.metrics.curves import Row
from ne_basicsr.metrics.quality import psnr, psnr_clamped
from ne_basicsr.ops.degradations import Degradation
from ne_basicsr.ops.equivariance import Network

Measure = Callable[[Tensor, Tensor, Tensor], float]
"""(output, clean, noisy), each (1, C, H, W), to one number."""


class Cell(NamedTuple):
    """One level and draw of an image."""

    level: float
    draw: int


def sweep(
    network: Network,
    images: Iterable[tuple[str, Tensor]],
    degradation: Degradation,
    *,
    draws: int = 1,
    seed: int = 0,
    measures: Mapping[str, Measure] | None = None,
    device: torch.device | str = 'cpu',
    batch: int = 1,
) -> Iterator[tuple[Row, Tensor, Tensor]]:
    """Denoise every image at every level and draw.

    Args:
        network: (N, C, H, W) to (N, C, H, W).
        images: (name, clean image (1, C, H, W) on [0, 1]).
        draws: noise draws per image and level; 1 where nothing is random.
        seed: with it, the name, the kind, the level and the draw the noise is determined, whatever the order, the
            batch or the device.
        measures: further columns, by name.
        batch: cells of an image that pass the network together.

    Yields:
        (row, noisy, output), images (1, C, H, W) on ``device``; gain and offset of the output are taken back.
    """
    cells = cells_of(degradation, draws)
    for name, clean in images:
        for start in range(0, len(cells), batch):
            chunk = cells[start : start + batch]
            noisy = degraded(clean, name, degradation, chunk, seed).to(device)
            with torch.no_grad():
                output = network(noisy)
            clean = clean.to(device)
            for cell, one_noisy, one_output in zip(chunk, noisy.split(1), output.split(1), strict=True):
                restored = degradation.undo(one_output, cell.level)
                row = row_of(name, degradation, cell)
                row |= {
                    'psnr_in': psnr(degradation.undo(one_noisy, cell.level), clean),
                    'psnr_out': psnr(restored, clean),
                    'psnr_clamped': psnr_clamped(restored, clean),
                }
                row |= {label: measure(restored, clean, one_noisy) for label, measure in (measures or {}).items()}
                yield row, one_noisy, restored


def cells_of(degradation: Degradation, draws: int) -> list[Cell]:
    """Every level and draw, in order."""
    return [Cell(*cell) for cell in product(degradation.levels, range(draws if degradation.is_random else 1))]


def degraded(clean: Tensor, name: str, degradation: Degradation, cells: Sequence[Cell], seed: int) -> Tensor:
    """The degraded images of some cells of an image (1, C, H, W), as one batch on the CPU."""
    clean = clean.cpu()
    return torch.cat([degradation.apply(clean, name, cell.level, cell.draw, seed) for cell in cells])


def row_of(name: str, degradation: Degradation, cell: Cell) -> dict[str, Any]:
    """The columns that say which cell a row is."""
    return {
        'image': name,
        'degradation': str(degradation),
        'level': cell.level,
        'unit': degradation.unit,
        'draw': cell.draw,
    }
