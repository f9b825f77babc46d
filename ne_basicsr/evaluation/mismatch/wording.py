"""A comparison in words: names of degradations, levels and networks, and what was found in two sentences."""

import math
from collections.abc import Sequence

from ne_basicsr.evaluation.mismatch.result import Panel
from ne_basicsr.evaluation.mismatch.summaries import PanelSummary
from ne_basicsr.evaluation.report.horizontal import UNITS, levels_text
from ne_basicsr.inference.denoiser import Entry
from ne_basicsr.inference.opening import IDENTITY
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
    trained = f'trained at {trained_text(entry)}' if entry.training_levels255 else 'training level unknown'
    return ' · '.join(filter(None, (entry.source, entry.description, f'{entry.parameters:,} parameters', trained)))


def trained_text(entry: Entry) -> str:
    """``σ = 15, 25`` or ``σ = 0 to 55``."""
    return f'σ = {levels_text(entry.training_levels255)}'


def counted_text(summary: PanelSummary) -> str:
    """``12 images, 21 levels, 20 noise draws``."""
    draws = [_count(summary.draws, 'noise draw')] if summary.panel.degradation.is_random else []
    return ', '.join([_count(len(summary.panel.images), 'image'), _count(len(summary.levels), 'level'), *draws])


def lead(summaries: Sequence[PanelSummary]) -> str:
    """Which network has the best mean, or has it most often, and the largest loss of all."""
    by_panel = [  # networks with a number at every level
        {k: each for k, each in summary.networks.items() if k != IDENTITY and not math.isnan(each.mean_psnr)}
        for summary in summaries
    ]
    winners = [max(own, key=lambda label: own[label].mean_psnr) for own in by_panel if own]
    if not winners:
        return 'No network could be measured; the reasons are below.'
    winner, networks = max(winners, key=winners.count), len({label for own in by_panel for label in own})
    if len(summaries) == 1:
        mean, levels = by_panel[0][winner].mean_psnr, _count(len(summaries[0].levels), 'level')
        text = f'{winner} has {"the best" if networks > 1 else "a"} mean PSNR of {mean:.2f} dB over {levels}.'
    elif networks == 1:
        text = f'{winner} was tested in {len(winners)} sweeps.'
    else:
        share = f'{winners.count(winner)} of {len(summaries)} sweeps'
        text = f'{winner} has the best mean PSNR of {networks} networks in {share}.'
    both = zip(summaries, by_panel, strict=True)
    losses = [(each, label, summary.panel) for summary, own in both for label, each in own.items()]
    worst, label, panel = max(losses, key=lambda one: one[0].worst_loss)
    if worst.worst_loss_level is None:  # no level has a finite input PSNR
        return text
    if worst.worst_loss <= 0:
        return f'{text} Every network gains at every level, {-worst.worst_loss:.2f} dB or more.'
    place = f'{panel_text(panel)}, {level_text(panel.degradation, worst.worst_loss_level)}'
    return f'{text} The largest loss against the noisy image is {worst.worst_loss:.2f} dB, of {label} ({place}).'


def _count(number: int, noun: str) -> str:
    return f'{number} {noun}' if number == 1 else f'{number} {noun}s'
