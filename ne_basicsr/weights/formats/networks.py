"""Networks that are registered here with the keys of their authors: DRUNet, Restormer, SwinIR and others.

Keys and shapes do not tell whether an RGB mean is subtracted from colour images of SwinIR. BasicSR and the official one
do, and most weights are theirs: without metadata they load as ``SwinIR``. The WNE paper's does not: its weights need
``load(path, options={'type': 'SwinIRNoMean'})``, ``FILE=SwinIRNoMean`` on the command line.
"""

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
        'upsampler': '',
        'upscale': 1,
    }
    convs = [value for key, value in weights.items() if re.fullmatch(r'upsample\.\d+\.weight', key)]
    if 'conv_up1.weight' in weights:
        options |= {'upsampler': 'nearest+conv', 'upscale': 4}
    elif 'conv_before_upsample.0.weight' in weights:
        factors = [math.isqrt(conv.shape[0] // conv.shape[1]) for conv in convs]
        options |= {'upsampler': 'pixelshuffle', 'upscale': math.prod(factors)}
    elif convs:
        options |= {'upsampler': 'pixelshuffledirect', 'upscale': math.isqrt(convs[0].shape[0] // in_chans)}
    note = ''
    if in_chans == 3:
        note = "as BasicSR's, which subtracts an RGB mean; the WNE paper's does not: name the type, FILE=SwinIRNoMean"
    if window == 7 and not options['upsampler']:
        options['img_range'] = 255.0
        note = 'window 7 without an upsampler: the official JPEG networks, whose img_range is 255'
    return Layout('SwinIR', options, weights, note)


def mohan_stages(weights: StateDict) -> Layout:
    """Mohan et al.'s recurrent CNN, ``cnn``, and simplified DenseNet, ``cnn_list``."""
    stages = length(weights, 'cnn_list') if any(key.startswith('cnn_list.') for key in weights) else 0
    first, last = ('cnn_list.0', f'cnn_list.{stages - 1}') if stages else ('cnn', 'cnn')
    options = {
        'type': 'SDenseNet' if stages else 'RecurrentCNN',
        'num_in_ch': weights[f'{last}.last_layer.weight'].shape[0],
        'num_feat': weights[f'{first}.first_layer.weight'].shape[0],
        'num_hidden': length(weights, f'{first}.hidden_layer_list'),
        'bias': f'{first}.first_layer.bias' in weights,
    }
    if stages:
        return Layout("Mohan et al.'s DenseNet", {**options, 'stages': stages}, weights)
    note = 'the number of stages, 4 by default, has no key'
    return Layout("Mohan et al.'s recurrent CNN", options, weights, note)


def mohan_unet(weights: StateDict) -> Layout:
    """Mohan et al.'s U-Net."""
    options = {'type': 'MohanUNet', 'num_in_ch': weights['conv1.weight'].shape[1], 'bias': 'conv1.bias' in weights}
    return Layout("Mohan et al.'s U-Net", options, weights, 'residual, off by default, has no key')


def adnet(weights: StateDict) -> Layout:
    """Tian et al.'s ADNet."""
    features, channels = weights['conv1_1.0.weight'].shape[:2]
    return Layout('ADNet', {'type': 'ADNet', 'num_in_ch': channels, 'num_feat': features}, weights)
