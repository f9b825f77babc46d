"""The mismatch sweep: a denoiser over noise levels it was not trained at, as rows, a curve and a summary."""

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ne_basicsr.equivariance import Network
from ne_basicsr.noise import add_noise, seed_of
from ne_basicsr.quality import psnr

Row = Mapping[str, Any]
"""One cell of a sweep: image, sigma255, draw, psnr_in, psnr_out (dB, unclipped, data range 1), further measures."""

Measure = Callable[[Tensor, Tensor, Tensor], float]
"""(output, clean, noisy), each (1, C, H, W), to one number."""


class Curve(NamedTuple):
    """Means over images and draws at each level, in order of increasing noise. PSNR in dB."""

    sigma255: tuple[float, ...]
    psnr_in: tuple[float, ...]
    psnr_out: tuple[float, ...]


class Summary(NamedTuple):
    """A curve in two numbers, in dB: the mean output PSNR over the levels, and the worst loss against the identity."""

    mean_psnr: float
    worst_loss: float


def sweep(
    network: Network,
    images: Iterable[tuple[str, Tensor]],
    levels255: Sequence[float],
    *,
    kind: str = 'gaussian',
    draws: int = 1,
    seed: int = 0,
    measures: Mapping[str, Measure] | None = None,
    device: torch.device | str = 'cpu',
) -> Iterator[tuple[Row, Tensor, Tensor]]:
    """Denoise every image at every level and draw.

    Args:
        network: (N, C, H, W) to (N, C, H, W).
        images: (name, clean image (1, C, H, W) on [0, 1]).
        levels255: noise levels, standard deviations in 8-bit units.
        kind: a noise of ``noise.UNIT_NOISE``.
        draws: noise draws per image and level.
        seed: with it, the name, the level and the draw the noise is determined, whatever the order or the device.
        measures: further columns, by name.

    Yields:
        (row, noisy, output), images (1, C, H, W) on ``device``.
    """
    for (name, clean), level, draw in ((i, s, d) for i in images for s, d in product(levels255, range(draws))):
        noisy = noisy_copy(clean, name, level, kind=kind, draw=draw, seed=seed).to(device)
        clean = clean.to(device)
        with torch.no_grad():
            output = network(noisy)
        row = {'image': name, 'sigma255': level, 'draw': draw}
        row |= {'psnr_in': psnr(noisy, clean), 'psnr_out': psnr(output, clean)}
        row |= {label: measure(output, clean, noisy) for label, measure in (measures or {}).items()}
        yield row, noisy, output


def noisy_copy(
    clean: Tensor, name: str, level255: float, *, kind: str = 'gaussian', draw: int = 0, seed: int = 0
) -> Tensor:
    """The noisy image of a cell: it depends on the arguments alone."""
    return add_noise(clean, level255 / 255, kind, seed=seed_of(seed, name, kind, float(level255), draw))


def means(rows: Sequence[Row], column: str) -> dict[float, float]:
    """Mean of a column over images and draws, by level, in order of increasing noise."""
    levels = sorted({row['sigma255'] for row in rows})
    by_level = {level: [row[column] for row in rows if row['sigma255'] == level] for level in levels}
    return {level: sum(values) / len(values) for level, values in by_level.items()}


def curve(rows: Sequence[Row]) -> Curve:
    """The mismatch curve of a sweep's rows."""
    psnr_in, psnr_out = means(rows, 'psnr_in'), means(rows, 'psnr_out')
    return Curve(tuple(psnr_in), tuple(psnr_in.values()), tuple(psnr_out.values()))


def summarize(curve: Curve) -> Summary:
    """Mean output PSNR, and max over the levels of input - output PSNR (negative where the network always gains)."""
    pairs = zip(curve.psnr_in, curve.psnr_out, strict=True)
    losses = [psnr_in - psnr_out for psnr_in, psnr_out in pairs if math.isfinite(psnr_in)] or [0.0]  # not at level 0
    return Summary(sum(curve.psnr_out) / len(curve.psnr_out), max(losses))


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """One line per cell, PSNR and other measures with six decimals."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows({k: f'{v:.6f}' if k not in _KEYS else v for k, v in row.items()} for row in rows)


_KEYS = ('image', 'sigma255', 'draw')
