"""U-shaped networks: DRUNet in two layouts, Restormer."""

import math
import re
from collections.abc import Mapping
from typing import Any

from ne_basicsr.weights.formats.layout import Layout, StateDict, length


def drunet(weights: StateDict) -> Layout:
    """Herbreteau et al.'s DRUNet, which is this package's own."""
    levels, num_blocks = length(weights, 'm_down'), length(weights, 'm_body')
    num_in_ch, num_out_ch = weights['m_head.weight'].shape[1], weights['m_tail.weight'].shape[0]
    coarser = [weights[f'm_down.{i}.{num_blocks}.weight'].shape[0] for i in range(levels)]
    options: dict[str, Any] = {'type': 'DRUNet', 'num_in_ch': num_out_ch, 'num_out_ch': num_out_ch}
    options |= {'num_feats': [weights['m_head.weight'].shape[0], *coarser], 'num_blocks': num_blocks}
    biased = any(key.endswith('.bias') for key in weights)
    mode = 'norm-equiv' if 'res.0.alpha' in weights else 'ordinary' if biased else 'scale-equiv'
    blind = num_in_ch == num_out_ch
    return Layout(
        'DRUNet', {**options, 'mode': mode, 'blind': blind}, weights, '' if blind else 'non-blind: call it with sigma'
    )


def kair_drunet(weights: StateDict) -> Layout:
    """KAIR's DRUNet: ``m_down1`` for ``m_down.0``, ``m_up3`` for ``m_up.0``, ``res`` for ``m_res``."""
    levels = max((int(match[1]) for key in weights if (match := re.match(r'm_up(\d)\.', key))), default=0)

    def rename(key: str) -> str:
        key = re.sub(r'^m_down(\d)', lambda match: f'm_down.{int(match[1]) - 1}', key)
        key = re.sub(r'^m_up(\d)', lambda match: f'm_up.{levels - int(match[1])}', key)
        return key.replace('.res.', '.m_res.')

    own = drunet({rename(key): value for key, value in weights.items()})
    return own._replace(name='KAIR DRUNet')


def restormer(weights: StateDict) -> Layout:
    """The official Restormer, which is this package's own."""
    dim, inp_channels = weights['patch_embed.proj.weight'].shape[:2]
    parts = ('encoder_level1', 'encoder_level2', 'encoder_level3', 'latent')
    hidden = {dim * 2**i: weights[f'{part}.0.ffn.project_out.weight'].shape[1] for i, part in enumerate(parts)}
    options = {
        'type': 'Restormer',
        'inp_channels': inp_channels,
        'out_channels': weights['output.weight'].shape[0],
        'dim': dim,
        'num_blocks': [length(weights, part) for part in parts],
        'num_refinement_blocks': length(weights, 'refinement'),
        'heads': [weights[f'{part}.0.attn.temperature'].shape[0] for part in parts],
        'ffn_expansion_factor': _expansion(hidden),
        'bias': 'encoder_level1.0.attn.qkv.bias' in weights,
        'LayerNorm_type': 'WithBias' if 'encoder_level1.0.norm1.body.bias' in weights else 'BiasFree',
        'dual_pixel_task': 'skip_conv.weight' in weights,
    }
    return Layout('Restormer', options, weights)


def _expansion(hidden: Mapping[int, int]) -> float:
    """The shortest decimal f with int(f channels) = hidden for all levels: 2.66 for 48 -> 127, 96 -> 255, ..."""
    low = max(number / channels for channels, number in hidden.items())
    for digits in range(16):
        factor = math.ceil(low * 10**digits) / 10**digits
        if all(int(channels * factor) == number for channels, number in hidden.items()):
            return factor
    return low
