"""Layouts: whose network a state dict belongs to, found by its keys, and the same network in this package.

One function per layout takes a state dict to a ``Layout``: the options of a registered network that computes the same
images, and its weights. Conversions are exact, up to one rounding where a factor is folded. Networks that return the
noise become ``DnCNN``, which subtracts it. ``num_*`` come from shapes; what keys and shapes do not tell is in ``note``.

Normalization layers, at evaluation:

    DnCNN (KAIR)                         (x - mean) / sqrt(var + 1e-4) * w + b
    DnCNN-PyTorch, the WNE paper         (x - mean) / sqrt(var + 1e-5) * w + b     var changes by 1e-5 - 1e-4
    Mohan et al.                         x / (sqrt(var) + 1e-5) * w                folded into the convolution
    Kadkhodaie and Simoncelli            x / sd * gamma                            folded into the convolution
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ne_basicsr.errors import InputError

StateDict = dict[str, Tensor]
OWN_EPS = 1e-4  # of DnCNN's BatchNorm


class Layout(NamedTuple):
    """What was recognised.

    Attributes:
        name: whose layout it is.
        options: ``type`` and arguments of the registered network.
        weights: the state dict of that network.
        note: what had to be assumed, or how the network differs from the original; may be empty.
    """

    name: str
    options: dict[str, Any]
    weights: StateDict
    note: str = ''

    def __str__(self) -> str:
        return f'{self.name}: {describe(self.options)}' + (f' ({self.note})' if self.note else '')


def recognise(weights: Mapping[str, Tensor], container: str | None = None) -> Layout | None:
    """The layout whose keys these are, None where no layout has them all.

    Args:
        weights: a state dict, without ``module.`` prefixes.
        container: the key of the checkpoint that it was under. Below ``state_dict`` the prefix ``model.`` is that of a
            training framework; elsewhere it is the wrapper of the WNE paper's code.

    Raises:
        InputError: where the keys are those of a layout, but some are missing or of unknown shape.
    """
    for prefix in ('backbone.', 'model.'):
        if weights and all(key.startswith(prefix) for key in weights):
            plain = recognise({key.removeprefix(prefix): value for key, value in weights.items()})
            if plain is not None:
                return plain if (prefix, container) == ('model.', 'state_dict') else _wrapped(plain, prefix)
    for name, (pattern, function) in LAYOUTS.items():
        if weights and all(re.fullmatch(pattern, key) for key in weights):
            try:
                return function(dict(weights))
            except KeyError as error:
                raise InputError(f'the keys are those of {name}, but {error.args[0]} is missing') from error
    return None


def explain_unknown(weights: Mapping[str, Tensor]) -> str:
    """Why nothing was recognised: the nearest layout and the keys that it does not have, or the layouts there are."""
    strangers = {
        name: [key for key in weights if not re.fullmatch(pattern, key)] for name, (pattern, _) in LAYOUTS.items()
    }
    nearest = min(strangers, key=lambda name: len(strangers[name]))
    if len(strangers[nearest]) <= len(weights) / 2:
        keys = strangers[nearest]
        return f'unknown layout; the nearest is {nearest}, which does not have {len(keys)} of its keys ({some(keys)})'
    return f'unknown layout with keys {some(list(weights))}; known are {", ".join(LAYOUTS)}'


def describe(options: Mapping[str, Any]) -> str:
    """``{type: DnCNN, num_layers: 17}`` as ``DnCNN(num_layers=17)``."""
    arguments = (
        describe(value) if key == 'backbone' else f'{key}={_compact(value)}'
        for key, value in options.items()
        if key != 'type'
    )
    return f'{options["type"]}({", ".join(arguments)})'


def some(keys: list[str]) -> str:
    """The first keys of a list, in words."""
    return ', '.join(keys[:3]) + (', ...' if len(keys) > 3 else '')


# -- stacks of 3x3 convolutions ----------------------------------------------------------------------------------------


def kair_dncnn(weights: StateDict) -> Layout:
    """KAIR's DnCNN, which is this package's own, and its FDnCNN, which gets a noise map and returns the image."""
    options = _stack_options(weights, 'model')
    if options['num_in_ch'] == options['num_out_ch'] + 1 and options['act_mode'] == 'R':
        return _kair_fdncnn(weights, options)
    dilated = options['num_layers'] == 7 and options['act_mode'] == 'R'
    note = "KAIR's IRCNN has the same keys, but dilated convolutions: for it the result is wrong" if dilated else ''
    return Layout('KAIR DnCNN', {'type': 'DnCNN', **options}, _counted(weights), note)


def _kair_fdncnn(weights: StateDict, stack: Mapping[str, Any]) -> Layout:
    weights = {key.replace('model.', 'fdncnn.', 1): value for key, value in weights.items()}
    width, note = stack['num_feat'], 'non-blind: call it with sigma'
    last = f'fdncnn.{2 * stack["num_layers"] - 2}'
    bias = weights.pop(f'{last}.bias', None)
    if bias is not None and (bias.is_meta or bias.any()):
        weights = _bias_as_channel(weights, last, bias)
        width, note = width + 1, f'{note}; the last bias, which FDnCNN does not have, is a hidden channel that is 1'
    options = {'num_in_ch': stack['num_out_ch'], 'num_out_ch': stack['num_out_ch'], 'num_feat': width}
    options |= {'num_layers': stack['num_layers'], 'mode': 'ordinary' if stack['bias'] else 'scale-equiv'}
    return Layout('KAIR FDnCNN', {'type': 'FDnCNN', **options, 'blind': False}, weights, note)


def dncnn_pytorch(weights: StateDict) -> Layout:
    """DnCNN-PyTorch: convolutions without biases, BatchNorm of eps 1e-5; its network returns the noise."""
    options = _stack_options(weights, 'dncnn')
    weights = {key.replace('dncnn.', 'model.', 1): value for key, value in weights.items()}
    return Layout('DnCNN-PyTorch', {'type': 'DnCNN', **options}, _counted(_own_eps(weights, 1e-5)))


def dncnn_lists(weights: StateDict) -> Layout:
    """``first_layer``, ``hidden_layer_list``, ``bn_layer_list``, ``last_layer``: the WNE paper's DnCNN with biases and
    BatchNorm, or Mohan et al.'s without biases, whose normalization has no mean."""
    has_bias = 'first_layer.bias' in weights
    hidden = _length(weights, 'hidden_layer_list')
    options = _dncnn_options(weights['first_layer.weight'], weights['last_layer.weight'], hidden + 2, has_bias)
    if not has_bias:
        factors = []
        for i in range(hidden):
            deviation = weights[f'bn_layer_list.{i}.running_var'].double().sqrt() + 1e-5
            factors.append(weights[f'bn_layer_list.{i}.weight'].double() / deviation)
        convs = [weights[f'hidden_layer_list.{i}.weight'] for i in range(hidden)]
        folded = _fold(weights['first_layer.weight'], convs, factors, weights['last_layer.weight'])
        return Layout("Mohan et al.'s BF-DnCNN", {'type': 'DnCNN', **options, 'act_mode': 'R'}, folded)

    def position(key: str) -> str:
        if match := re.fullmatch(r'(hidden|bn)_layer_list\.(\d+)\.(.*)', key):
            return f'model.{2 + 3 * int(match[2]) + (match[1] == "bn")}.{match[3]}'
        return key.replace('first_layer', 'model.0').replace('last_layer', f'model.{2 + 3 * hidden}')

    weights = _own_eps({position(key): value for key, value in weights.items()}, 1e-5)
    return Layout("the WNE paper's DnCNN", {'type': 'DnCNN', **options, 'act_mode': 'BR'}, _counted(weights))


def bf_cnn(weights: StateDict) -> Layout:
    """Kadkhodaie and Simoncelli's bias-free CNN; its network returns the noise."""
    last = _length(weights, 'conv_layers') - 1
    convs = [weights[f'conv_layers.{i}.weight'] for i in range(last + 1)]
    factors = [
        weights[f'gammas.{i}'].double().flatten() / weights[f'running_sd.{i}'].double().flatten()
        for i in range(last - 1)
    ]
    options = _dncnn_options(convs[0], convs[-1], last + 1, bias=False)
    folded = _fold(convs[0], convs[1:-1], factors, convs[-1])
    return Layout("Kadkhodaie and Simoncelli's BF-CNN", {'type': 'DnCNN', **options, 'act_mode': 'R'}, folded)


def fdncnn(weights: StateDict) -> Layout:
    """Herbreteau et al.'s FDnCNN, which is this package's own."""
    stack = _stack_options(weights, 'fdncnn')
    channels = {'num_in_ch': stack['num_out_ch'], 'num_out_ch': stack['num_out_ch'], 'num_feat': stack['num_feat']}
    options = {'type': 'FDnCNN', **channels, 'num_layers': stack['num_layers']}
    mode, note = 'ordinary', ''
    if 'fdncnn.0.bias' not in weights:
        scale = _keeps_constants([weights[f'fdncnn.{2 * i}.weight'] for i in range(stack['num_layers'])])
        mode = 'scale-equiv' if scale else 'norm-equiv'
        note = f'the mode has no key: read as scale-equiv, it {"keeps" if scale else "does not keep"} a constant image'
    return Layout(
        'FDnCNN', {**options, 'mode': mode, 'blind': stack['num_in_ch'] == stack['num_out_ch']}, weights, note
    )


# -- U-nets and transformers -------------------------------------------------------------------------------------------


def drunet(weights: StateDict) -> Layout:
    """Herbreteau et al.'s DRUNet, which is this package's own."""
    levels, num_blocks = _length(weights, 'm_down'), _length(weights, 'm_body')
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
    levels = max(int(match[1]) for key in weights if (match := re.match(r'm_up(\d)\.', key)))

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
        'num_blocks': [_length(weights, part) for part in parts],
        'num_refinement_blocks': _length(weights, 'refinement'),
        'heads': [weights[f'{part}.0.attn.temperature'].shape[0] for part in parts],
        'ffn_expansion_factor': _expansion(hidden),
        'bias': 'encoder_level1.0.attn.qkv.bias' in weights,
        'LayerNorm_type': 'WithBias' if 'encoder_level1.0.norm1.body.bias' in weights else 'BiasFree',
        'dual_pixel_task': 'skip_conv.weight' in weights,
    }
    return Layout('Restormer', options, weights)


def swinir(weights: StateDict) -> Layout:
    """The official SwinIR, which is BasicSR's: without an upsampler, and its three super-resolution forms."""
    embed_dim, in_chans = weights['conv_first.weight'].shape[:2]
    layers = range(_length(weights, 'layers'))
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
        'depths': [_length(weights, block) for block in blocks],
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


_BATCH_NORM = r'(weight|bias|running_mean|running_var|num_batches_tracked)'
_SWIN_BLOCK = (
    r'(attn_mask|norm[12]\.\w+|mlp\.fc[12]\.\w+'
    r'|attn\.(relative_position_bias_table|relative_position_index|qkv\.\w+|proj\.\w+))'
)
# name -> (what every key looks like, the function)
LAYOUTS: dict[str, tuple[str, Callable[[StateDict], Layout]]] = {
    'KAIR DnCNN and FDnCNN': (rf'model\.\d+\.{_BATCH_NORM}', kair_dncnn),
    'DnCNN-PyTorch': (rf'dncnn\.\d+\.{_BATCH_NORM}', dncnn_pytorch),
    "the WNE paper's DnCNN and Mohan et al.'s BF-DnCNN": (
        rf'(first_layer|hidden_layer_list\.\d+|bn_layer_list\.\d+|last_layer)\.{_BATCH_NORM}',
        dncnn_lists,
    ),
    "Kadkhodaie and Simoncelli's BF-CNN": (r'conv_layers\.\d+\.weight|(running_sd|gammas)\.\d+', bf_cnn),
    'FDnCNN': (r'fdncnn\.\d+\.(weight|bias)', fdncnn),
    'DRUNet': (
        r'm_(head|tail|(down|up)\.\d\.\d+|body\.\d+)(\.m_res\.\d|\.conv1x1)?\.(weight|bias)|.*\bsum\.alpha|res\.\d\.alpha',
        drunet,
    ),
    'KAIR DRUNet': (r'm_(head|tail|(down|up)\d\.\d+|body\.\d+)(\.res\.\d)?\.(weight|bias)', kair_drunet),
    'Restormer': (
        r'(patch_embed\.proj|(encoder|decoder)_level\d\.\d+|latent\.\d+|refinement\.\d+|(down|up)\d_\d\.body'
        r'|reduce_chan_level\d|skip_conv|output)\..*',
        restormer,
    ),
    'SwinIR': (
        rf'layers\.\d+\.(conv(\.\d)?\.\w+|residual_group\.blocks\.\d+\.{_SWIN_BLOCK})|absolute_pos_embed'
        r'|(conv_first|patch_embed\.norm|norm|conv_(after_body|before_upsample|up\d|hr|last)|upsample)(\.\d)?\.\w+',
        swinir,
    ),
}


# -- what they share ---------------------------------------------------------------------------------------------------


def _wrapped(plain: Layout, prefix: str) -> Layout:
    weights = {f'backbone.{key}': value for key, value in plain.weights.items()}
    if prefix == 'backbone.':
        return Layout(f'{plain.name}, wrapped', {'type': 'WNE', 'backbone': plain.options}, weights, plain.note)
    options = {'type': 'WNE', 'correction': 1, 'backbone': plain.options}
    note = '; '.join(filter(None, (plain.note, 'the wrapper has no keys: taken as WNE with direct prediction')))
    return Layout(f"{plain.name} in the WNE paper's wrapper", options, weights, note)


def _stack_options(weights: StateDict, prefix: str) -> dict[str, Any]:
    last = _length(weights, prefix) - 1
    normalized = f'{prefix}.3.running_var' in weights or f'{prefix}.3.weight' in weights
    num_layers = (last + 4) // 3 if normalized else last // 2 + 1  # conv relu (conv norm relu)* conv
    first, final = weights[f'{prefix}.0.weight'], weights[f'{prefix}.{last}.weight']
    options = _dncnn_options(first, final, num_layers, f'{prefix}.0.bias' in weights)
    return {**options, 'act_mode': 'BR' if normalized else 'R'}


def _dncnn_options(first: Tensor, last: Tensor, num_layers: int, bias: bool) -> dict[str, Any]:
    for weight in (first, last):
        if weight.dim() != 4 or weight.shape[2:] != (3, 3):
            raise InputError(f'its convolutions must be 3x3; these weights are of shape {tuple(weight.shape)}')
    channels = {'num_in_ch': first.shape[1], 'num_out_ch': last.shape[0], 'num_feat': first.shape[0]}
    return {**channels, 'num_layers': num_layers, 'bias': bias}


def _fold(first: Tensor, convs: list[Tensor], factors: list[Tensor], last: Tensor) -> StateDict:
    """Convolutions (C_out, C_in, 3, 3), each multiplied per output channel, as a DnCNN of act_mode R without biases."""
    hidden = [
        (conv.double() * factor.view(-1, 1, 1, 1)).to(conv.dtype) for conv, factor in zip(convs, factors, strict=True)
    ]
    return {f'model.{2 * i}.weight': weight for i, weight in enumerate([first, *hidden, last])}


def _own_eps(weights: StateDict, eps: float) -> StateDict:
    """BatchNorm of another eps as one of ``OWN_EPS``: only var + eps matters, so var takes the difference."""
    return {
        key: (value.double() + (eps - OWN_EPS)).to(value.dtype) if key.endswith('.running_var') else value
        for key, value in weights.items()
    }


def _counted(weights: StateDict) -> StateDict:
    """With BatchNorm's counters, which files of torch before 0.4.1 do not have."""
    stems = (key.removesuffix('running_var') for key in weights if key.endswith('.running_var'))
    return {f'{stem}num_batches_tracked': torch.zeros((), dtype=torch.long) for stem in stems} | weights


def _bias_as_channel(weights: StateDict, last: str, bias: Tensor) -> StateDict:
    """One more hidden channel, 0 in all hidden layers but the last, where it is 1: its weights are the output's bias."""
    wide = {}
    before = f'fdncnn.{int(last.split(".")[1]) - 2}'
    for key, value in weights.items():
        stem, kind = key.rsplit('.', 1)
        if kind == 'bias':
            wide[key] = F.pad(value, (0, 1), value=1.0 if stem == before else 0.0)
        else:
            wide[key] = F.pad(value, (0, 0, 0, 0, 0, int(stem != 'fdncnn.0'), 0, int(stem != last)))
    wide[f'{last}.weight'][:, -1, 1, 1] = bias
    return wide


@torch.no_grad()
def _keeps_constants(convs: list[Tensor]) -> bool:
    """Whether f(1) = 1 within 10%, f a bias-free stack of convolutions and ReLUs: any denoiser does that.

    Weights of affine convolutions, read as kernels, do not. A noise map beyond the image's channels is 25 / 255.
    """
    if convs[0].is_meta:
        return False
    size = 2 * len(convs) + 1  # each convolution takes a border of 1
    x = torch.ones(1, convs[0].shape[1], size, size, dtype=convs[0].dtype)
    x[:, convs[-1].shape[0] :] = 25 / 255
    for conv in convs[:-1]:
        x = F.conv2d(x, conv).relu_()
    return bool((F.conv2d(x, convs[-1]) - 1).abs().max() < 0.1)


def _length(weights: StateDict, prefix: str) -> int:
    """The number of entries of the list or sequence ``prefix``."""
    heads = (key[len(prefix) + 1 :].split('.')[0] for key in weights if key.startswith(f'{prefix}.'))
    indices = [int(head) for head in heads if head.isdigit()]
    if not indices:
        raise KeyError(f'{prefix}.0')
    return max(indices) + 1


def _expansion(hidden: Mapping[int, int]) -> float:
    """The shortest decimal f with int(f channels) = hidden for all levels: 2.66 for 48 -> 127, 96 -> 255, ..."""
    low = max(number / channels for channels, number in hidden.items())
    for digits in range(16):
        factor = math.ceil(low * 10**digits) / 10**digits
        if all(int(channels * factor) == number for channels, number in hidden.items()):
            return factor
    return low


def _compact(value: Any) -> str:
    return '[' + ','.join(map(str, value)) + ']' if isinstance(value, (list, tuple)) else str(value)
