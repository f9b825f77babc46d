"""Rows of a sweep, and what is read off them: the curve and its summary."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Row = Mapping[str, Any]
"""One cell of a sweep.

``image``; ``degradation`` with its ``level`` and the level's ``unit``; ``draw``; ``psnr_in`` and ``psnr_out``, PSNR in
dB of input and output as they are; ``psnr_clamped``, of the output clamped to [0, 1], which is what curves and
summaries show, as the paper's do; further measures. A comparison of networks adds ``network`` and ``data``.
"""

KEYS = ('network', 'data', 'image', 'degradation', 'level', 'unit', 'draw')


class Curve(NamedTuple):
    """Means over images and draws at each level, in increasing order. PSNR in dB, of the output clamped to [0, 1]."""

    levels: tuple[float, ...]
    psnr_in: tuple[float, ...]
    psnr_out: tuple[float, ...]


class Summary(NamedTuple):
    """A curve in two numbers, in dB: the mean output PSNR over the levels, and the worst loss against the identity."""

    mean_psnr: float
    worst_loss: float


def means(rows: Sequence[Row], column: str) -> dict[float, float]:
    """Mean of a column over images and draws, by level, in increasing order; of what is there, NaN included."""
    by_level: dict[float, list[float]] = {}
    for row in rows:
        if row.get(column) is not None:
            by_level.setdefault(row['level'], []).append(row[column])
    return {level: sum(by_level[level]) / len(by_level[level]) for level in sorted(by_level)}


def curve(rows: Sequence[Row]) -> Curve:
    """The mismatch curve of a sweep's rows."""
    psnr_in, psnr_out = means(rows, 'psnr_in'), means(rows, 'psnr_clamped')
    return Curve(tuple(psnr_in), tuple(psnr_in.values()), tuple(psnr_out.values()))


def summarize(curve: Curve) -> Summary:
    """Mean output PSNR, and max over the levels of input - output PSNR (negative where the network always gains)."""
    pairs = zip(curve.psnr_in, curve.psnr_out, strict=True)
    losses = [psnr_in - psnr_out for psnr_in, psnr_out in pairs if math.isfinite(psnr_in)] or [0.0]  # not at level 0
    worst = math.nan if any(map(math.isnan, losses)) else max(losses)
    return Summary(sum(curve.psnr_out) / len(curve.psnr_out), worst)


def drop_from(curve: Curve, level: float) -> float | None:
    """Output PSNR at ``level``, the training's, minus the lowest of the curve, in dB; None where it was not tested."""
    if level not in curve.levels:
        return None
    return curve.psnr_out[curve.levels.index(level)] - min(curve.psnr_out)
