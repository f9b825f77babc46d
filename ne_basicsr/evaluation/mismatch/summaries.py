"""The result of a comparison: rows and crops; and the rows of a panel as curves and a few numbers per network."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ne_basicsr.inference.denoiser import Entry
from ne_basicsr.inference.opening import IDENTITY
from ne_basicsr.metrics.curves import Curve, Row, curve, drop_from, means, summarize
from ne_basicsr.metrics.perceptual import PERCEPTUAL
from ne_basicsr.ops.degradations import Degradation
from ne_basicsr.ops.noise import LevelRange, Training, parts_of


class Crop(NamedTuple):
    """Part of an image for display: uint8 (H, W) or (H, W, 3); its PSNR in dB, or None for the clean image."""

    pixels: NDArray[np.uint8]
    psnr: float | None


class Panel(NamedTuple):
    """One data set under one degradation: rows of all networks, the identity first, and crops of one image."""

    data: str
    degradation: Degradation
    images: tuple[str, ...]
    rows: list[Row]
    # level to name to crop; names are ``noisy``, the labels of the networks, ``clean``
    strips: Mapping[float, Mapping[str, Crop]]
    strip_image: str  # the image that the crops are from


class Comparison(NamedTuple):
    """All results."""

    entries: list[Entry]
    panels: list[Panel]
    settings: Mapping[str, str]  # the protocol behind the numbers, names with values
    failures: list[str]  # a line for each network, image or setting that could not be measured


class NetworkSummary(NamedTuple):
    """One network on one panel. PSNR in dB; None where it was not measured, NaN where the network returned NaN."""

    mean_psnr: float  # of the output, over the levels
    worst_loss: float  # against the identity, negative where the network gains at every level
    worst_loss_level: float | None  # the level of the worst loss
    matched_level: float | None  # the level of its training, see ``matched_levels``; None after a training on a range
    matched_psnr: float | None  # at the matched level
    drop: float | None  # from the matched level to its lowest output PSNR
    mean_ssim: float | None  # over the levels
    mean_psnr_8bit: float | None  # as BasicSR calculates it, over the levels
    worst_defect: float | None  # of normalization equivariance, the largest of all cells
    # ``mean_lpips`` and ``mean_dists``, over the levels, as far as they were asked for
    perceptual: Mapping[str, float | None]


class PanelSummary(NamedTuple):
    """A panel by network, the identity first; networks that were not measured completely are missing."""

    panel: Panel
    entries: Sequence[Entry]  # all networks of the comparison
    trained: Training  # the levels and ranges that any of them was trained at, in increasing order
    levels: tuple[float, ...]  # that were tested, in increasing order
    identity: Curve  # the curve of the noisy image
    # curves, ssim, defects: of each network but the identity: means over images and draws by level
    curves: Mapping[str, Curve]
    ssim: Mapping[str, Mapping[float, float]]
    defects: Mapping[str, Mapping[float, float]]
    identity_ssim: Mapping[float, float]  # of the input, by level
    networks: Mapping[str, NetworkSummary]  # of each network and of the identity
    draws: int  # per image and level


def summarize_panel(panel: Panel, entries: Sequence[Entry]) -> PanelSummary:
    """The curves and numbers of a panel, in the order of ``entries``."""
    found = {entry: rows for entry in entries if (rows := [r for r in panel.rows if r['network'] == entry.label])}
    inputs = means(panel.rows, 'psnr_in')
    identity = Curve(tuple(inputs), tuple(inputs.values()), tuple(inputs.values()))  # which is not clamped
    curves = {e.label: identity if e.label == IDENTITY else curve(rows) for e, rows in found.items()}
    ssim, defects = (
        {entry.label: values for entry, rows in found.items() if (values := means(rows, column))}
        for column in ('ssim', 'ne_defect')
    )
    return PanelSummary(
        panel=panel,
        entries=entries,
        trained=parts_of([part for entry in entries for part in parts_of(entry.training_levels255)]),
        levels=identity.levels,
        identity=identity,
        identity_ssim=ssim.pop(IDENTITY, {}),
        ssim=ssim,
        defects=defects,
        networks={
            e.label: _summarize_network(rows, curves[e.label], panel.degradation, e) for e, rows in found.items()
        },
        curves={label: own for label, own in curves.items() if label != IDENTITY},
        draws=1 + max((row['draw'] for row in panel.rows), default=0),
    )


def matched_levels(degradation: Degradation, levels: Iterable[float], trained255: Training) -> list[float]:
    """The tested levels that match the training: its noise levels, or the gain or offset that changes nothing."""
    if degradation.is_affine:
        wanted: Training = (1.0,) if degradation.kind == 'gain' else (0.0,)
    else:
        wanted = trained255 if degradation.is_noise else ()

    def matches(level: float, part: float | LevelRange) -> bool:
        if isinstance(part, LevelRange):
            return part.low <= level <= part.high
        return math.isclose(level, part, rel_tol=1e-6, abs_tol=1e-9)

    return [level for level in levels if any(matches(level, part) for part in parts_of(wanted))]


def is_failed(value: float) -> bool:
    """Whether the output is not an image: its PSNR is NaN or -inf."""
    return math.isnan(value) or value == -math.inf


def _summarize_network(rows: Sequence[Row], of: Curve, degradation: Degradation, entry: Entry) -> NetworkSummary:
    total = summarize(of)
    # of several training levels the noisiest: at less noise PSNR is higher for every network; of a range none
    single = [part for part in parts_of(entry.training_levels255) if not isinstance(part, LevelRange)]
    matched = max(matched_levels(degradation, of.levels, single), default=None)
    lost = {
        level: psnr_in - psnr_out
        for level, psnr_in, psnr_out in zip(of.levels, of.psnr_in, of.psnr_out, strict=True)
        if math.isfinite(psnr_in) and not math.isnan(psnr_out)
    }
    defects = [row['ne_defect'] for row in rows if row['ne_defect'] is not None]
    broken = any(map(is_failed, of.psnr_out))
    return NetworkSummary(
        mean_psnr=math.nan if broken else total.mean_psnr,
        worst_loss=math.nan if broken else total.worst_loss,
        worst_loss_level=None if broken or not lost else max(lost, key=lambda level: lost[level]),
        matched_level=matched,
        matched_psnr=None if matched is None else of.psnr_out[of.levels.index(matched)],
        drop=None if matched is None else math.nan if broken else drop_from(of, matched),
        mean_ssim=_mean(means(rows, 'ssim').values()),
        mean_psnr_8bit=_mean(means(rows, 'psnr_8bit').values()),
        perceptual={f'mean_{name}': _mean(means(rows, name).values()) for name in PERCEPTUAL if name in rows[0]},
        worst_defect=None if not defects else math.nan if any(map(math.isnan, defects)) else max(defects),
    )


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return sum(values) / len(values) if values else None
