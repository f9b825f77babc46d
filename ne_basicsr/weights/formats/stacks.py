"""Plain stacks of 3x3 convolutions, as ``DnCNN`` or ``FDnCNN``.

Conversions are exact, up to one rounding where a factor is folded. Normalization, at evaluation:

    DnCNN, KAIR's and by default this package's        (x - mean) / sqrt(var + 1e-4) * w + b
    DnCNN-PyTorch, the WNE paper's code                (x - mean) / sqrt(var + 1e-5) * w + b
    Mohan et al., without biases                       x / (sqrt(var) + 1e-5) * w
    Kadkhodaie and Simoncelli                          x / sd * gamma

The second stays a BatchNorm, so that it can be trained further: its var takes the difference of the two eps. Those
without a mean are factors, and are folded into the convolutions: no layer here would compute them.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ne_basicsr.weights.formats.layout import Layout, StateDict, length

OWN_EPS = 1e-4  # of DnCNN's BatchNorm, by default


def kair_dncnn(weights: StateDict) -> Layout:
    """KAIR's DnCNN and FFDNet, which have the keys of this package, and its FDnCNN; the last two take a noise map.

    FFDNet's has 4 channels for each of the image: 5 to 4 or 13 to 12, where FDnCNN's has 2 to 1 or 4 to 3.
    """
    options = _stack_options(weights, 'model')
    plain = options['act_mode'] == 'R'
    if not plain or options['num_in_ch'] != options['num_out_ch'] + 1:
        if plain and options['num_layers'] == 7 and options['bias']:
            note = 'a DnCNN of 7 layers has the same keys: for it, name the type, FILE=DnCNN'
            return Layout('KAIR IRCNN', {'type': 'IRCNN', **options}, weights, note)
        return Layout('KAIR DnCNN', {'type': 'DnCNN', **options}, _counted(weights))
    stack, note = _without_mode(options), 'non-blind: call it with sigma'
    if options['num_out_ch'] in (4, 12) and options['bias']:
        channels = dict.fromkeys(('num_in_ch', 'num_out_ch'), options['num_out_ch'] // 4)
        return Layout('KAIR FFDNet', {'type': 'FFDNet', **stack, **channels}, weights, note)
    weights = {key.replace('model.', 'fdncnn.', 1): value for key, value in weights.items()}
    last = f'fdncnn.{2 * stack["num_layers"] - 2}'
    bias = weights.pop(f'{last}.bias', None)
    if bias is not None and (bias.is_meta or bias.any()):
        weights = _bias_as_channel(weights, last, bias)
        stack['num_feat'] += 1
        note += '; the last bias, which FDnCNN does not have, is a hidden channel that is 1'
    mode = 'ordinary' if options['bias'] else 'scale-equiv'
    return Layout('KAIR FDnCNN', {'type': 'FDnCNN', **stack, 'mode': mode, 'blind': False}, weights, note)


def dncnn_pytorch(weights: StateDict) -> Layout:
    """DnCNN-PyTorch, and BUIFD one module deeper: no biases, BatchNorm of eps 1e-5; its network returns the noise."""
    weights = {key.replace('dncnn.dncnn.', 'dncnn.', 1): value for key, value in weights.items()}
    options = _stack_options(weights, 'dncnn')
    weights = {key.replace('dncnn.', 'model.', 1): value for key, value in weights.items()}
    return Layout('DnCNN-PyTorch', {'type': 'DnCNN', **options}, _counted(change_eps(weights, 1e-5, OWN_EPS)))


def dncnn_lists(weights: StateDict) -> Layout:
    """Mohan et al.'s DnCNN and the WNE paper's, which has its keys; without biases, the normalization has no mean."""
    has_bias, hidden = 'first_layer.bias' in weights, range(length(weights, 'hidden_layer_list'))
    if not has_bias:
        convs = ['first_layer', *(f'hidden_layer_list.{i}' for i in hidden), 'last_layer']
        gains = [weights[f'bn_layer_list.{i}.weight'].double() for i in hidden]
        deviations = [weights[f'bn_layer_list.{i}.running_var'].double().sqrt() + 1e-5 for i in hidden]
        return _folded("Mohan et al.'s BF-DnCNN", [weights[f'{name}.weight'] for name in convs], gains, deviations)

    def position(key: str) -> str:
        if match := re.fullmatch(r'(hidden|bn)_layer_list\.(\d+)\.(.*)', key):
            return f'model.{2 + 3 * int(match[2]) + (match[1] == "bn")}.{match[3]}'
        return key.replace('first_layer', 'model.0').replace('last_layer', f'model.{2 + 3 * len(hidden)}')

    options = _dncnn_options(weights['first_layer.weight'], weights['last_layer.weight'], len(hidden) + 2, bias=True)
    weights = change_eps({position(key): value for key, value in weights.items()}, 1e-5, OWN_EPS)
    name = "the WNE paper's or Mohan et al.'s DnCNN"
    return Layout(name, {'type': 'DnCNN', **options, 'act_mode': 'BR'}, _counted(weights))


def bf_cnn(weights: StateDict) -> Layout:
    """Kadkhodaie and Simoncelli's bias-free CNN; its network returns the noise."""
    convs = [weights[f'conv_layers.{i}.weight'] for i in range(length(weights, 'conv_layers'))]
    gains, deviations = (
        [weights[f'{name}.{i}'].double() for i in range(len(convs) - 2)] for name in ('gammas', 'running_sd')
    )
    return _folded("Kadkhodaie and Simoncelli's BF-CNN", convs, gains, deviations)


def fdncnn(weights: StateDict) -> Layout:
    """Herbreteau et al.'s FDnCNN, which has the keys of this package."""
    options = _stack_options(weights, 'fdncnn')
    stack = _without_mode(options)
    mode, note = 'ordinary', ''
    if not options['bias']:
        scale = _keeps_constants([weights[f'fdncnn.{2 * i}.weight'] for i in range(stack['num_layers'])])
        mode = 'scale-equiv' if scale else 'norm-equiv'
        note = f'the mode has no key: read as scale-equiv, it {"keeps" if scale else "does not keep"} a constant image'
    blind = options['num_in_ch'] == options['num_out_ch']
    return Layout('FDnCNN', {'type': 'FDnCNN', **stack, 'mode': mode, 'blind': blind}, weights, note)


def change_eps(weights: StateDict, eps: float, new: float) -> StateDict:
    """BatchNorm of ``eps`` as one of ``new``: only var + eps matters, so var takes the difference."""
    return {
        key: (value.double() + (eps - new)).to(value.dtype) if key.endswith('.running_var') else value
        for key, value in weights.items()
    }


def _stack_options(weights: StateDict, prefix: str) -> dict[str, Any]:
    last = length(weights, prefix) - 1
    normalized = f'{prefix}.3.running_var' in weights or f'{prefix}.3.weight' in weights
    num_layers = (last + 4) // 3 if normalized else last // 2 + 1  # conv relu (conv norm relu)* conv
    first, final = weights[f'{prefix}.0.weight'], weights[f'{prefix}.{last}.weight']
    options = _dncnn_options(first, final, num_layers, f'{prefix}.0.bias' in weights)
    return {**options, 'act_mode': 'BR' if normalized else 'R'}


def _dncnn_options(first: Tensor, last: Tensor, num_layers: int, bias: bool) -> dict[str, Any]:
    for weight in (first, last):
        if weight.dim() != 4 or weight.shape[2:] != (3, 3):
            raise ValueError(f'convolutions must be 3x3; got weights of shape {tuple(weight.shape)}')
    channels = {'num_in_ch': first.shape[1], 'num_out_ch': last.shape[0], 'num_feat': first.shape[0]}
    return {**channels, 'num_layers': num_layers, 'bias': bias}


def _without_mode(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options of a stack that FDnCNN and FFDNet have, too; the noise map is no channel of the image."""
    kept = {key: options[key] for key in ('num_out_ch', 'num_feat', 'num_layers')}
    return kept | {'num_in_ch': options['num_out_ch']}


def _folded(name: str, convs: list[Tensor], gains: list[Tensor], deviations: list[Tensor]) -> Layout:
    """Convolutions (C_out, C_in, 3, 3), hidden ones times gain / deviation per output channel, as a bias-free DnCNN."""
    options = _dncnn_options(convs[0], convs[-1], len(convs), bias=False)
    hidden = [
        (conv.double() * (gain / deviation).view(-1, 1, 1, 1)).to(conv.dtype)
        for conv, gain, deviation in zip(convs[1:-1], gains, deviations, strict=True)
    ]
    weights = {f'model.{2 * i}.weight': weight for i, weight in enumerate([convs[0], *hidden, convs[-1]])}
    return Layout(name, {'type': 'DnCNN', **options, 'act_mode': 'R'}, weights)


def _counted(weights: StateDict) -> StateDict:
    """With BatchNorm's counters, which files of torch before 0.4.1 do not have."""
    stems = (key.removesuffix('running_var') for key in weights if key.endswith('.running_var'))
    return {f'{stem}num_batches_tracked': torch.zeros((), dtype=torch.long) for stem in stems} | weights


def _bias_as_channel(weights: StateDict, last: str, bias: Tensor) -> StateDict:
    """One more hidden channel, 1 in the last hidden layer and 0 before: the output's bias is its weight."""
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
    """Whether a bias-free stack keeps ones within 10%, as any denoiser does; affine kernels read as plain do not."""
    if convs[0].is_meta:
        return False
    size = 2 * len(convs) + 1  # each convolution takes a border of 1
    x = torch.ones(1, convs[0].shape[1], size, size, dtype=convs[0].dtype)
    x[:, convs[-1].shape[0] :] = 25 / 255
    for conv in convs[:-1]:
        x = F.conv2d(x, conv).relu_()
    return bool((F.conv2d(x, convs[-1]) - 1).abs().max() < 0.1)
