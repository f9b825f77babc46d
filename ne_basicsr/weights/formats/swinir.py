"""SwinIR, without an upsampler or with one of three.

Keys and shapes do not tell whether an RGB mean is subtracted from colour images. BasicSR's and the official SwinIR do,
and most weights are theirs: without metadata they load as ``SwinIR``. The WNE paper's does not: its weights need
``load(path, options={'type': 'SwinIRNoMean'})``, ``FILE=SwinIRNoMean`` on the command line.
"""

import math
import re
from typing import Any

from ne_basicsr.weights.formats.layout import Layout, StateDict, length


def swinir(weights: StateDict) -> Layout:
    """The official SwinIR, which is BasicSR's: without an upsampler, and its three super-resolution forms."""
    embed_dim, in_chans = weights['conv_first.weight'].shape[:2]
    layers = range(length(weights, 'layers'))
    blocks = [f'layers.{i}.residual_group.blocks' for i in layers]
    table = weights[f'{blocks[0]}.0.attn.relative_position_bias_table']  # ((2 window - 1)^2, heads)
    window = (math.isqrt(table.shape[0]) + 1) // 2
    # one mask per window of the training size; a size of one window has none
    mask = weights.get(f'{blocks[0]}.1.attn_mask')
    options: dict[str, Any] = {
        'type': 'SwinIR',
        'img_size': window if mask is None else window * math.isqrt(mask.shape[0]),
        'in_chans': in_chans,
        'embed_dim': embed_dim,
        'depths': [length(weights, block) for block in blocks],
        'num_heads': [weights[f'{block}.0.attn.relative_position_bias_table'].shape[1] for block in blocks],
        'window_size': window,
        'mlp_ratio': weights[f'{blocks[0]}.0.mlp.fc1.weight'].shape[0] / embed_dim,
        'qkv_bias': f'{blocks[0]}.0.attn.qkv.bias' in weights,
        'ape': 'absolute_pos_embed' in weights,
        'patch_norm': 'patch_embed.norm.weight' in weights,
        'resi_connection': '3conv' if 'conv_after_body.0.weight' in weights else '1conv',
        **_swinir_upsampler(weights, in_chans),
    }
    note = ''
    if in_chans == 3:
        note = "as BasicSR's, which subtracts an RGB mean; the WNE paper's does not: name the type, FILE=SwinIRNoMean"
    if window == 7 and not options['upsampler']:
        options['img_range'] = 255.0
        note = 'window 7 without an upsampler: the official JPEG networks, whose img_range is 255'
    return Layout('SwinIR', options, weights, note)


def _swinir_upsampler(weights: StateDict, in_chans: int) -> dict[str, Any]:
    if 'conv_up1.weight' in weights:
        return {'upsampler': 'nearest+conv', 'upscale': 4}
    convs = [value for key, value in weights.items() if re.fullmatch(r'upsample\.\d+\.weight', key)]
    if 'conv_before_upsample.0.weight' in weights:
        factors = [math.isqrt(conv.shape[0] // conv.shape[1]) for conv in convs]
        return {'upsampler': 'pixelshuffle', 'upscale': math.prod(factors)}
    if convs:
        return {'upsampler': 'pixelshuffledirect', 'upscale': math.isqrt(convs[0].shape[0] // in_chans)}
    return {'upsampler': '', 'upscale': 1}
