"""A comparison in words: names of degradations, levels and networks, and what was found in about two sentences."""

import math
from collections.abc import Sequence

from ne_basicsr.evaluation.mismatch.result import Panel
from ne_basicsr.evaluation.mismatch.summaries import PanelSummary, matched_levels
from ne_basicsr.evaluation.report.horizontal import UNITS
from ne_basicsr.inference.denoisers import IDENTITY, Entry
from ne_basicsr.ops.degradations import Degradation

_NAMES = {'jpeg': 'JPEG compression', 'poisson': 'photon noise', 'gain': 'gain', 'offset': 'offset'}


def degradation_text(degradation: Degradation) -> str:
    """``Gaussian noise``, ``JPEG compression``, ``gain at σ = 25``."""
    kind = degradation.kind
    name = _NAMES.get(kind) or f'{kind if kind == "uniform" else kind.capitalize()} noise'
    if not degradation.sigma255:
        return name
    return f'{name} {"at" if degradation.is_affine else "and"} σ\u00a0=\u00a0{degradation.sigma255:g}'


def panel_text(panel: Panel) -> str:
    """What a panel is called."""
    return f'{panel.data}, {degradation_text(panel.degradation)}'


def level_text(degradation: Degradation, level: float) -> str:
    """``σ = 25``, ``quality 10``, ``100 photons``, ``a = 0.5``, ``b = −1``, without a line break."""
    value = f'{level:.4g}'.replace('-', '−')
    return UNITS[degradation.unit].text.format(value).replace(' ', '\u00a0')


def entry_text(entry: Entry) -> str:
    """What a network is: file, layout, parameters, training."""
    if entry.label == IDENTITY:
        return 'the noisy image as it is, built in'
    levels = ', '.join(f'{level:.4g}' for level in entry.training_levels255)
    trained = f'trained at σ = {levels}' if levels else 'training level unknown'
    return ' · '.join(filter(None, (entry.source, entry.description, f'{entry.parameters:,} parameters', trained)))


def counted_text(panel: Panel, summary: PanelSummary) -> str:
    """``12 images, 21 levels, 20 noise draws``."""
    draws = [_count(summary.draws, 'noise draw')] if panel.degradation.is_random else []
    return ', '.join([_count(len(panel.images), 'image'), _count(len(summary.levels), 'level'), *draws])


def training_levels(entries: Sequence[Entry]) -> list[float]:
    """The levels that any of the networks was trained at, in increasing order."""
    return sorted({level for entry in entries for level in entry.training_levels255})


def lead(panels: Sequence[Panel], summaries: Sequence[PanelSummary], entries: Sequence[Entry]) -> str:
    """The finding of the only panel, or who is best in most of them and the largest loss in any."""
    if len(panels) == 1:
        return finding(panels[0], summaries[0], entries)
    best = [max(means, key=lambda label: means[label]) for each in summaries if (means := _mean_psnr(each))]
    if not best:
        return 'No network could be measured; the reasons are below.'
    winner, networks = max(best, key=best.count), len([entry for entry in entries if entry.label != IDENTITY])
    text = f'{winner} has the best mean PSNR of {_count(networks, "network")} in {best.count(winner)} of'
    text += f' {_count(len(panels), "sweep")}.'
    losses = [(_worst(each), panel) for panel, each in zip(panels, summaries, strict=True) if _mean_psnr(each)]
    (loss, label, level), panel = max(losses, key=lambda each: each[0][0])
    if loss <= 0 or level is None:
        return f'{text} No network makes an image worse at any level.'
    where = f'{panel_text(panel)}, {level_text(panel.degradation, level)}'
    return f'{text} The largest loss against the noisy image is {loss:.2f} dB, of {label} ({where}).'


def finding(panel: Panel, summary: PanelSummary, entries: Sequence[Entry]) -> str:
    """Two sentences: who is best, at the level of the training and on average; who loses most, or who is flat."""
    means = _mean_psnr(summary)
    if not means:
        return 'No network could be measured.'
    label = max(means, key=lambda label: means[label])
    is_one, levels = len(means) == 1, _count(len(summary.levels), 'level')
    text = f'{label} has {"a" if is_one else "the best"} mean PSNR of {means[label]:.2f} dB over {levels}'
    trained = training_levels([entry for entry in entries if entry.label in means])
    if len(matched := matched_levels(panel.degradation, summary.levels, trained)) == 1:
        place = summary.levels.index(matched[0])
        at = {label: summary.curves[label].psnr_out[place] for label in means}
        first = max(at, key=lambda label: at[label])
        where = level_text(panel.degradation, matched[0]) + (
            '' if panel.degradation.is_affine else ', the training level'
        )
        text += f'; at {where}, {first} {"has" if is_one else "is best with"} {at[first]:.2f} dB'
    if panel.degradation.is_affine:
        ranges = {label: max(psnr := summary.curves[label].psnr_out) - min(psnr) for label in means}
        changes = ', '.join(f'{ranges[label]:.2f} dB for {label}' for label in sorted(ranges, key=lambda x: ranges[x]))
        return f'{text}. The {panel.degradation.kind} changes PSNR by {changes}.'
    loss, label, level = _worst(summary)
    if level is None:  # no level has a finite input PSNR
        return f'{text}.'
    if loss <= 0:
        return f'{text}. {"It" if is_one else "Every network"} gains at every level, {-loss:.2f} dB or more.'
    where = level_text(panel.degradation, level)
    return f'{text}. The largest loss against the noisy image is {loss:.2f} dB, of {label} at {where}.'


def _mean_psnr(summary: PanelSummary) -> dict[str, float]:
    """Of networks with a number at every level."""
    networks = summary.networks.items()
    return {label: each.mean_psnr for label, each in networks if label != IDENTITY and not math.isnan(each.mean_psnr)}


def _worst(summary: PanelSummary) -> tuple[float, str, float | None]:
    """The largest loss against the noisy image, of which network and at which level."""
    losses = {label: summary.networks[label].worst_loss for label in _mean_psnr(summary)}
    label = max(losses, key=lambda label: losses[label])
    return losses[label], label, summary.networks[label].worst_loss_level


def _count(number: int, noun: str) -> str:
    return f'{number} {noun}' if number == 1 else f'{number} {noun}s'
