"""The mismatch evaluation: denoisers under noise levels and other degradations that they were not trained for.

Cells, one for each image, level and draw, become rows (``sweep``: one denoiser over images, in batches); rows become
curves (``metrics.curves``). Networks over data sets become a ``comparison`` (``units`` and their ``work``), whose
finished cells are kept (``utils.result_store``); ``outputs`` writes tables, figures and the page, from ``summaries``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ne_basicsr.data.image_store import on_unit_range, open_any
from ne_basicsr.evaluation.report.tables import write_rows as write_csv
from ne_basicsr.inference.denoiser import Denoiser, as_denoiser
from ne_basicsr.inference.opening import open_denoiser
from ne_basicsr.metrics.curves import Curve, Row, Summary, curve, drop_from, means, summarize
from ne_basicsr.metrics.quality import psnrs
from ne_basicsr.ops.degradations import Degradation, parse_degradation
from ne_basicsr.utils.errors import InputError

__all__ = [
    'Curve', 'Measure', 'Row', 'Summary', 'curve', 'drop_from', 'means', 'mismatch', 'summarize', 'sweep', 'write_csv',
]  # fmt: skip

Measure = Callable[[Tensor, Tensor, Tensor], float]
"""(output, clean, noisy), each (1, C, H, W), to one number."""


class Cell(NamedTuple):
    """One level and draw of an image."""

    level: float
    draw: int


Network = Denoiser | nn.Module | Callable[..., Tensor]


def mismatch(
    network: Network | str,
    images: Path | str | Sequence[NDArray[Any]] | Mapping[str, NDArray[Any]],
    levels255: Sequence[float] = (5, 10, 15, 20, 25, 30, 35, 40, 45, 50),
    *,
    kind: str = 'gaussian',
    draws: int = 1,
    seed: int = 0,
    data_range: float | None = None,
    device: torch.device | str | None = None,
    trusted: bool = False,
) -> Curve:
    """The mismatch curve of a denoiser: mean PSNR of its output, and of its input, at each noise level.

    Args:
        network: a ``Denoiser``, a module, a function (N, C, H, W) to the same shape, or text as on the command line,
            such as ``net.pth@25+wne``. Non-blind ones are told the level.
        images: clean ones: a folder or LMDB, or arrays (H, W) or (H, W, C), C 1 or 3, integers or on [0, 1]. The noise
            of an image depends on its name, which is its number for a sequence of arrays.
        levels255: of the noise, in 8-bit units, or in the unit of ``kind``.
        kind: of the degradation, see ``ne_basicsr.ops.degradations``, such as ``poisson_gaussian@2``.
        draws: noise draws per image and level.
        seed: of the noise.
        data_range: value of white in a folder's images; default: the largest of their type, of floats 1.
        device: where the network is moved and runs; default: where it is.
        trusted: whether a ``.pt2`` file may be read, which can run code.

    Returns:
        ``levels``, ``psnr_in`` and ``psnr_out`` in dB, the output clamped to [0, 1].

    Raises:
        InputError: for a network that cannot be opened or is no denoiser, or images that cannot be read.
    """
    if isinstance(network, str):
        denoiser = open_denoiser(network, device=str(device or 'cpu'), trusted=trusted)
    else:
        denoiser = as_denoiser(network)
    denoiser.require_image_to_image()
    degradation, channels = parse_degradation(kind)._replace(levels=tuple(levels255)), denoiser.channels
    device = denoiser.like.device if device is None else device
    pixels: Iterable[tuple[str, NDArray[Any]]]
    if isinstance(images, (str, Path)):
        store = open_any(Path(images), data_range)
        pixels = ((name, store.pixels(name, channels)) for name in store.names)
    else:
        named = images if isinstance(images, Mapping) else {str(i): image for i, image in enumerate(images)}
        for name, image in named.items():
            if image.ndim not in (2, 3) or (*image.shape, 1)[2] != channels:
                raise InputError(f'image {name} is {image.shape}; the network takes (H, W, {channels}): convert it')
        pixels = named.items()
    with denoiser.evaluating():
        cells = sweep(denoiser.to(device), pixels, degradation, draws=draws, seed=seed, device=device)
        rows = [row for row, _, _ in cells]
    if not rows:
        raise InputError('mismatch needs at least one image and one level')
    return curve(rows)


def sweep(
    network: Network,
    images: Iterable[tuple[str, Tensor | NDArray[Any]]],
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
        network: (N, C, H, W) to (N, C, H, W); a non-blind one is told the level.
        images: (name, clean image), a tensor (1, C, H, W) on [0, 1], or an array as for ``mismatch``.
        draws: noise draws per image and level; 1 where nothing is random.
        seed: with it, the name, the kind, the level and the draw the noise is determined, whatever the order, the
            batch or the device.
        measures: further columns, by name.
        batch: cells of an image that pass the network together.

    Yields:
        (row, noisy, output), images (1, C, H, W) on ``device``; gain and offset of the output are taken back.
    """
    denoiser, cells = as_denoiser(network), cells_of(degradation, draws)
    if denoiser.needs_sigma and degradation.noise_given(1) is None:
        raise InputError(f'{degradation}: a non-blind network needs the noise level, and {degradation.kind} has none')
    for name, image in images:
        clean = image if isinstance(image, Tensor) else as_tensor(image)
        for start in range(0, len(cells), batch):
            chunk = cells[start : start + batch]
            noisy = degraded(clean, name, degradation, chunk, seed).to(device)
            with torch.no_grad():
                output = denoiser.denoise(noisy, levels_given(denoiser, degradation, chunk))
            clean = clean.to(device)
            for cell, one_noisy, one_output in zip(chunk, noisy.split(1), output.split(1), strict=True):
                restored, quality = measured(one_noisy, one_output, clean, degradation, cell.level)
                row = row_of(name, degradation, cell) | quality
                row |= {label: measure(restored, clean, one_noisy) for label, measure in (measures or {}).items()}
                yield row, one_noisy, restored


def as_tensor(image: NDArray[Any]) -> Tensor:
    """(1, C, H, W) on [0, 1] of an array (H, W) or (H, W, C)."""
    image = image[..., None] if image.ndim == 2 else image
    return torch.from_numpy(np.moveaxis(on_unit_range(image), 2, 0).copy())[None]


def cells_of(degradation: Degradation, draws: int) -> list[Cell]:
    """Every level and draw, in order."""
    return [Cell(*cell) for cell in product(degradation.levels, range(draws if degradation.is_random else 1))]


def degraded(clean: Tensor, name: str, degradation: Degradation, cells: Sequence[Cell], seed: int) -> Tensor:
    """The degraded images of some cells of an image (1, C, H, W), as one batch on the CPU."""
    clean = clean.cpu()
    return torch.cat([degradation.apply(clean, name, cell.level, cell.draw, seed) for cell in cells])


def levels_given(denoiser: Denoiser, degradation: Degradation, cells: Sequence[Cell]) -> Any:
    """``sigma`` for a batch of cells: on the [0, 1] scale for a non-blind denoiser, None for others."""
    return denoiser.needed([degradation.noise_given(cell.level) for cell in cells])


def measured(
    noisy: Tensor, output: Tensor, clean: Tensor, degradation: Degradation, level: float
) -> tuple[Tensor, dict[str, float]]:
    """The output with gain and offset taken back, and its PSNR columns; images (1, C, H, W)."""
    restored = degradation.undo(output, level)
    return restored, psnrs(degradation.undo(noisy, level), restored, clean)


def row_of(name: str, degradation: Degradation, cell: Cell) -> dict[str, Any]:
    """The columns that say which cell a row is."""
    return {
        'image': name,
        'degradation': str(degradation),
        'level': cell.level,
        'unit': degradation.unit,
        'draw': cell.draw,
    }
