"""A comparison in words: names of degradations and levels, and sentences that say what was found."""

import math
from collections.abc import Sequence

from ne_basicsr.evaluation.mismatch.result import Comparison, Panel
from ne_basicsr.evaluation.mismatch.summaries import NetworkSummary, PanelSummary, matched_levels
from ne_basicsr.inference.denoiser import Entry
from ne_basicsr.inference.opening import IDENTITY
from ne_basicsr.ops.degradations import Degradation

UNNOTICED = 0.01  # dB: what a table of two decimals cannot show

_NOISES = {'gaussian': 'Gaussian noise', 'laplace': 'Laplace noise', 'rayleigh': 'Rayleigh noise'}
_OTHERS = {'jpeg': 'JPEG compression', 'poisson': 'photon noise', 'gain': 'gain', 'offset': 'offset'}


def degradation_text(degradation: Degradation) -> str:
    """``Gaussian noise``, ``JPEG compression``, ``gain at σ = 25``."""
    name = _NOISES.get(degradation.kind) or _OTHERS.get(degradation.kind) or f'{degradation.kind} noise'
    if not degradation.sigma255:
        return name
    beside = 'at' if degradation.is_affine else 'and'
    return f'{name} {beside} σ\u00a0=\u00a0{degradation.sigma255:g}'


def panel_text(panel: Panel) -> str:
    """What a panel is called."""
    return f'{panel.data}, {degradation_text(panel.degradation)}'


def level_text(degradation: Degradation, level: float) -> str:
    """``σ = 25``, ``quality 10``, ``100 photons``, ``a = 0.5``, ``b = −1``, in one piece wherever lines break."""
    value = f'{level:.4g}'.replace('-', '−')
    forms = {'sigma255': 'σ = {}', 'quality': 'quality {}', 'photons': '{} photons', 'a': 'a = {}', 'b': 'b = {}'}
    return forms[degradation.unit].format(value).replace(' ', '\u00a0')


def level_header(degradation: Degradation) -> str:
    """The levels' name above a column."""
    return {'sigma255': 'σ', 'quality': 'quality', 'photons': 'photons', 'a': 'gain a', 'b': 'offset b'}[
        degradation.unit
    ]


def entry_text(entry: Entry) -> str:
    """What a network is: file, layout, parameters, training."""
    levels = ', '.join(f'{level:.4g}' for level in entry.training_levels255)
    trained = f'trained at σ = {levels}' if levels else 'training level not known'
    if entry.label == IDENTITY:
        return 'the image as it is, built in'
    return ' · '.join(
        part for part in (entry.source, entry.description, f'{entry.parameters:,} parameters', trained) if part
    )


def counted_text(panel: Panel, summary: PanelSummary) -> str:
    """``12 images, 21 levels, 20 draws``."""
    parts = [_count(len(panel.images), 'image'), _count(len(summary.levels), 'level')]
    if panel.degradation.is_random:
        parts.append(_count(summary.draws, 'noise draw'))
    return ', '.join(parts)


def training_levels(entries: Sequence[Entry]) -> list[float]:
    """The levels that any of the networks was trained at, in increasing order."""
    return sorted({level for entry in entries for level in entry.training_levels255})


def lead(comparison: Comparison, summaries: Sequence[PanelSummary]) -> str:
    """What was found, in a few sentences."""
    found = [pair for pair in zip(comparison.panels, summaries, strict=True) if _whole(pair[1])]
    if not found:
        return 'No network could be measured. The reasons are below.'
    first = finding(*found[0], comparison.entries)
    if len(comparison.panels) == 1:
        return first
    data = len({panel.data for panel in comparison.panels})
    networks = len([entry for entry in comparison.entries if entry.label != IDENTITY])
    sweeps = _count(len(comparison.panels), 'sweep')
    counted = f'{_count(networks, "network")} on {_count(data, "data set")}, {sweeps} in all.'
    return f'{counted} {first} {_furthest_below(found)}'.strip()


def finding(panel: Panel, summary: PanelSummary, entries: Sequence[Entry]) -> str:
    """What was found on one panel: the best at the matched level, who loses most away from it, the best on average."""
    whole = _whole(summary)
    where = f'On {panel.data} under {degradation_text(panel.degradation)}'
    if not whole:
        return f'{where} no network could be measured.'
    trained = training_levels([entry for entry in entries if entry.label in whole])
    matched = matched_levels(panel.degradation, summary.levels, trained)
    sentences = [_at_matched(panel, summary, matched[0], whole) if len(matched) == 1 else '']
    sentences += [_far_away(panel, summary, whole), _on_average(summary, whole)]
    if panel.degradation.is_affine:
        sentences.append(_unmoved(panel, summary, whole))
    text = ' '.join(sentence for sentence in sentences if sentence)
    return f'{where}: {text}'


# -- sentences ---------------------------------------------------------------------------------------------------------


def _whole(summary: PanelSummary) -> list[str]:
    """Networks with a number at every level."""
    networks = summary.networks.items()
    return [label for label, each in networks if label != IDENTITY and not math.isnan(each.mean_psnr)]


def _at_matched(panel: Panel, summary: PanelSummary, level: float, whole: Sequence[str]) -> str:
    place = level_text(panel.degradation, level)
    if not panel.degradation.is_affine:
        place += ', the training level,'
    ranked = sorted(
        ((summary.curves[label].psnr_out[summary.levels.index(level)], label) for label in whole), reverse=True
    )
    best, label = ranked[0]
    if len(ranked) == 1:
        return f'at {place} {label} reaches {best:.2f} dB.'
    second, follower = ranked[1]
    return f'at {place} {label} is best with {best:.2f} dB ({follower}: {second:.2f} dB).'


def _far_away(panel: Panel, summary: PanelSummary, whole: Sequence[str]) -> str:
    """Who is furthest behind the best of a level, and who would better have left the image alone."""
    behind = []
    for index, level in enumerate(summary.levels):
        at = {label: summary.curves[label].psnr_out[index] for label in whole}
        best = max(at, key=lambda label: at[label])
        behind += [(at[best] - psnr, level, label, psnr, best) for label, psnr in at.items() if psnr < at[best]]
    text, last = '', whole[0] if len(whole) == 1 else ''
    if behind:
        gap, level, last, psnr, best = max(behind, key=lambda each: each[0])
        start = f'{last} falls behind most: {psnr:.2f} dB at {level_text(panel.degradation, level)}'
        text = f'{start}, {gap:.2f} dB less than {best}; '
    label = max(whole, key=lambda label: summary.networks[label].worst_loss)
    worst = summary.networks[label]
    if worst.worst_loss_level is None:  # no level has an input PSNR that is finite
        return text and f'{text[:-2]}.'
    who = 'it' if label == last else label
    if worst.worst_loss > 0:
        place = level_text(panel.degradation, worst.worst_loss_level)
        text += f'at {place} {who} is {worst.worst_loss:.2f} dB worse than the image left alone.'
    else:
        who = 'every network' if len(whole) > 1 else 'it'
        text += f'{who} gains at every level, {-worst.worst_loss:.2f} dB or more.'
    return _capital(text) if not behind else text


def _on_average(summary: PanelSummary, whole: Sequence[str]) -> str:
    best = max(whole, key=lambda label: summary.networks[label].mean_psnr)
    mean, levels = summary.networks[best].mean_psnr, _count(len(summary.levels), 'level')
    if len(whole) == 1:
        return f'Its mean over the {levels} is {mean:.2f} dB.'
    return f'{best} has the best mean over the {levels}: {mean:.2f} dB.'


def _unmoved(panel: Panel, summary: PanelSummary, whole: Sequence[str]) -> str:
    outputs = {label: summary.curves[label].psnr_out for label in whole}
    flat = [label for label, psnr in outputs.items() if max(psnr) - min(psnr) < UNNOTICED]
    what = 'gain' if panel.degradation.kind == 'gain' else 'offset'
    names = ', '.join(flat)
    return f'The {what} changes nothing for {names}: less than {UNNOTICED:g} dB.' if flat else ''


def _furthest_below(found: Sequence[tuple[Panel, PanelSummary]]) -> str:
    losses: list[tuple[float, str, Panel, NetworkSummary]] = [
        (summary.networks[label].worst_loss, label, panel, summary.networks[label])
        for panel, summary in found
        for label in _whole(summary)
    ]
    loss, label, panel, network = max(losses, key=lambda each: each[0])
    if loss <= 0 or network.worst_loss_level is None:
        return 'No network ever makes an image worse.'
    if panel is found[0][0]:
        return ''  # that was said
    place = f'{panel_text(panel)}, {level_text(panel.degradation, network.worst_loss_level)}'
    return f'The largest loss against the image left alone is that of {label}: {loss:.2f} dB ({place}).'


def _count(number: int, noun: str) -> str:
    return f'{number} {noun}' if number == 1 else f'{number} {noun}s'


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
