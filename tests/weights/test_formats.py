"""Layouts: each is made here at a small size, with its own formula, beside the stored references."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from basicsr.archs import build_network
from conftest import GOLDENS
from torch import nn

from ne_basicsr.utils.errors import InputError
from ne_basicsr.weights import formats
from ne_basicsr.weights.formats import stacks

NUM_FEAT, NUM_LAYERS = 4, 5


def conv(y, weight, bias=None):
    return F.conv2d(y, weight, bias, padding=1)


def random_weights(shapes):
    """Weights that keep a signal's size; variances and scales positive."""
    weights = {}
    for key, shape in shapes.items():
        value = torch.randn(shape, dtype=torch.float64) / math.sqrt(max(1, math.prod(shape[1:])))
        weights[key] = value.abs() + 0.01 if key.split('.')[0] == 'running_sd' or 'running_var' in key else value
    return weights


def channels(channel=1):
    sizes = [channel, *[NUM_FEAT] * (NUM_LAYERS - 1), channel]
    return list(zip(sizes[1:], sizes[:-1], strict=True))  # (out, in) of each convolution


def batch_norm_shapes(name):
    return {f'{name}.{key}': (NUM_FEAT,) for key in ('weight', 'bias', 'running_mean', 'running_var')}


def batch_norm(y, weights, name, eps):
    mean, var, w, b = (weights[f'{name}.{k}'].view(-1, 1, 1) for k in ('running_mean', 'running_var', 'weight', 'bias'))
    return (y - mean) / (var + eps).sqrt() * w + b


def dncnn_pytorch(channel=3):
    shapes = {}
    for i, (out, width) in enumerate(channels(channel)):
        shapes[f'dncnn.{max(0, 3 * i - 1)}.weight'] = (out, width, 3, 3)
        if 0 < i < NUM_LAYERS - 1:
            shapes |= batch_norm_shapes(f'dncnn.{3 * i}')
    weights = random_weights(shapes)

    def original(y):
        x = conv(y, weights['dncnn.0.weight']).relu()
        for i in range(1, NUM_LAYERS - 1):
            x = batch_norm(conv(x, weights[f'dncnn.{3 * i - 1}.weight']), weights, f'dncnn.{3 * i}', 1e-5).relu()
        return y - conv(x, weights[f'dncnn.{3 * NUM_LAYERS - 4}.weight'])

    return weights, original


def dncnn_lists(bias, channel=1):
    hidden = NUM_LAYERS - 2
    names = ['first_layer', *(f'hidden_layer_list.{i}' for i in range(hidden)), 'last_layer']
    shapes = {}
    for name, (out, width) in zip(names, channels(channel), strict=True):
        shapes |= {f'{name}.weight': (out, width, 3, 3)} | ({f'{name}.bias': (out,)} if bias else {})
    for i in range(hidden):
        shapes |= batch_norm_shapes(f'bn_layer_list.{i}')
    weights = random_weights(shapes)
    weights |= {f'bn_layer_list.{i}.num_batches_tracked': torch.tensor(7) for i in range(hidden)}

    def layer(x, name):
        return conv(x, weights[f'{name}.weight'], weights.get(f'{name}.bias'))

    def original(y):
        x = layer(y, names[0]).relu()
        for i in range(hidden):
            x, norm = layer(x, names[i + 1]), f'bn_layer_list.{i}'
            if bias:
                x = batch_norm(x, weights, norm, 1e-5).relu()
            else:
                deviation = weights[f'{norm}.running_var'].sqrt() + 1e-5
                x = (x / deviation.view(-1, 1, 1) * weights[f'{norm}.weight'].view(-1, 1, 1)).relu()
        return y - layer(x, names[-1])

    return weights, original


def bf_cnn():
    shapes = {f'conv_layers.{i}.weight': (*pair, 3, 3) for i, pair in enumerate(channels())}
    for i in range(NUM_LAYERS - 2):
        shapes |= {f'running_sd.{i}': (1, NUM_FEAT, 1, 1), f'gammas.{i}': (1, NUM_FEAT, 1, 1)}
    weights = random_weights(shapes)

    def original(y):
        x = conv(y, weights['conv_layers.0.weight']).relu()
        for i in range(1, NUM_LAYERS - 1):
            x = conv(x, weights[f'conv_layers.{i}.weight'])
            x = (x / weights[f'running_sd.{i - 1}'] * weights[f'gammas.{i - 1}']).relu()
        return y - conv(x, weights[f'conv_layers.{NUM_LAYERS - 1}.weight'])

    return weights, original


def kair_fdncnn(channel=1):
    pairs = [(NUM_FEAT, channel + 1), *channels(channel)[1:]]
    shapes = {}
    for i, (out, width) in enumerate(pairs):
        shapes |= {f'model.{2 * i}.weight': (out, width, 3, 3), f'model.{2 * i}.bias': (out,)}
    weights = random_weights(shapes)

    def original(y, sigma=0.1):
        x = torch.cat([y, torch.full_like(y[:, :1], sigma)], dim=1)
        for i in range(NUM_LAYERS):
            x = conv(x.relu() if i else x, weights[f'model.{2 * i}.weight'], weights[f'model.{2 * i}.bias'])
        return x

    return weights, original


def kair_drunet():
    """A bias-free DRUNet, two levels below the first, one block each, as KAIR names and runs it; for multiples of 4."""
    n = (4, 6, 8)
    shapes = {'m_head.weight': (n[0], 2, 3, 3), 'm_tail.weight': (1, n[0], 3, 3)}
    blocks = {'m_down1.0': n[0], 'm_down2.0': n[1], 'm_body.0': n[2], 'm_up2.1': n[1], 'm_up1.1': n[0]}
    for name, c in blocks.items():
        shapes |= {f'{name}.res.{i}.weight': (c, c, 3, 3) for i in (0, 2)}
    shapes |= {'m_down1.1.weight': (n[1], n[0], 2, 2), 'm_down2.1.weight': (n[2], n[1], 2, 2)}
    shapes |= {'m_up2.0.weight': (n[2], n[1], 2, 2), 'm_up1.0.weight': (n[1], n[0], 2, 2)}
    w = random_weights(shapes)

    def block(x, name):
        return x + conv(conv(x, w[f'{name}.res.0.weight']).relu(), w[f'{name}.res.2.weight'])

    def original(y, sigma=0.1):
        x1 = conv(torch.cat([y, torch.full_like(y[:, :1], sigma)], dim=1), w['m_head.weight'])
        x2 = F.conv2d(block(x1, 'm_down1.0'), w['m_down1.1.weight'], stride=2)
        x3 = F.conv2d(block(x2, 'm_down2.0'), w['m_down2.1.weight'], stride=2)
        x = block(x3, 'm_body.0') + x3
        x = block(F.conv_transpose2d(x, w['m_up2.0.weight'], stride=2), 'm_up2.1') + x2
        x = block(F.conv_transpose2d(x, w['m_up1.0.weight'], stride=2), 'm_up1.1') + x1
        return conv(x, w['m_tail.weight'])

    return w, original


def restored(layout):
    net = build_network(layout.options).double().eval()
    net.load_state_dict(layout.weights)
    return net


def error(layout, original, channel=1, **arguments):
    y = torch.rand(2, channel, 12, 16, dtype=torch.float64)
    with torch.no_grad():
        return (restored(layout)(y, **arguments) - original(y)).abs().max().item()


@pytest.mark.parametrize(
    ('made', 'name', 'options'),
    [
        (dncnn_pytorch(1), 'DnCNN-PyTorch', {'num_in_ch': 1, 'act_mode': 'BR', 'bias': False}),
        (dncnn_pytorch(3), 'DnCNN-PyTorch', {'num_in_ch': 3, 'num_out_ch': 3, 'act_mode': 'BR', 'bias': False}),
        (dncnn_lists(bias=True), "the WNE paper's or Mohan et al.'s DnCNN", {'act_mode': 'BR', 'bias': True}),
        (dncnn_lists(bias=False), "Mohan et al.'s BF-DnCNN", {'act_mode': 'R', 'bias': False}),
        (bf_cnn(), "Kadkhodaie and Simoncelli's BF-CNN", {'act_mode': 'R', 'bias': False}),
    ],
)
def test_denoisers_of_other_toolboxes_become_the_same_dncnn(made, name, options):
    weights, original = made
    layout = formats.recognise(weights)
    wanted = {'type': 'DnCNN', 'num_feat': NUM_FEAT, 'num_layers': NUM_LAYERS} | options
    assert layout.name == name
    assert wanted.items() <= layout.options.items()
    assert error(layout, original, layout.options['num_in_ch']) < 1e-12


def test_a_wrong_eps_is_noticed(monkeypatch):
    monkeypatch.setattr(stacks, 'OWN_EPS', 1e-5)  # as if DnCNN's BatchNorm had the others' eps
    for weights, original in (dncnn_pytorch(1), dncnn_lists(bias=True)):
        assert error(formats.recognise(weights), original) > 1e-6


@pytest.mark.parametrize('channel', [1, 3])
def test_kair_fdncnn_with_its_last_bias_and_noise_map(channel):
    weights, original = kair_fdncnn(channel)
    layout = formats.recognise(weights)
    assert layout.name == 'KAIR FDnCNN'
    assert {
        'type': 'FDnCNN',
        'num_out_ch': channel,
        'num_feat': NUM_FEAT + 1,
        'blind': False,
    }.items() <= layout.options.items()
    assert error(layout, original, channel, sigma=0.1) < 1e-12
    weights[f'model.{2 * NUM_LAYERS - 2}.bias'].zero_()
    assert formats.recognise(weights).options['num_feat'] == NUM_FEAT
    assert error(formats.recognise(weights), original, channel, sigma=0.1) < 1e-12


def test_kair_drunet_is_the_scale_equivariant_one_of_a_known_noise_level():
    weights, original = kair_drunet()
    layout = formats.recognise(weights)
    wanted = {'num_in_ch': 1, 'num_feats': [4, 6, 8], 'num_blocks': 1, 'mode': 'scale-equiv', 'blind': False}
    assert layout.name == 'KAIR DRUNet'
    assert layout.options == {'type': 'DRUNet', 'num_out_ch': 1} | wanted
    assert error(layout, original, sigma=0.1) < 1e-12


SWINIR = {'type': 'SwinIR', 'embed_dim': 8, 'depths': [2, 1], 'num_heads': [2, 4], 'window_size': 4, 'mlp_ratio': 1.5}
GRAY, COLOUR = {'num_in_ch': 1, 'num_out_ch': 1}, {'num_in_ch': 3, 'num_out_ch': 3}
OWN = [
    {'type': 'DnCNN', **COLOUR, 'num_feat': 4, 'num_layers': 4, 'bias': False, 'act_mode': 'BR'},
    {'type': 'DnCNN', **GRAY, 'num_feat': 4, 'num_layers': 2, 'bias': True, 'act_mode': 'R'},
    {'type': 'FDnCNN', **GRAY, 'num_feat': 4, 'num_layers': 3, 'mode': 'ordinary', 'blind': False},
    {'type': 'FDnCNN', **COLOUR, 'num_feat': 4, 'num_layers': 3, 'mode': 'norm-equiv', 'blind': True},
    *(
        {'type': 'DRUNet', **GRAY, 'num_feats': [2, 4, 6], 'num_blocks': 2, 'mode': mode, 'blind': blind}
        for mode in ('ordinary', 'scale-equiv', 'norm-equiv')
        for blind in (True, False)
    ),
    {
        'type': 'Restormer', 'inp_channels': 1, 'out_channels': 1, 'dim': 4, 'num_blocks': [1, 2, 1, 1],
        'num_refinement_blocks': 2, 'heads': [1, 2, 2, 4], 'ffn_expansion_factor': 2.66, 'bias': True,
        'LayerNorm_type': 'WithBias', 'dual_pixel_task': False,
    },
    {
        'type': 'Restormer', 'inp_channels': 6, 'out_channels': 3, 'dim': 4, 'num_blocks': [1, 1, 1, 1],
        'num_refinement_blocks': 1, 'heads': [1, 1, 1, 1], 'ffn_expansion_factor': 2.0, 'bias': False,
        'LayerNorm_type': 'BiasFree', 'dual_pixel_task': True,
    },
]  # fmt: skip


@pytest.mark.parametrize('options', OWN, ids=lambda options: formats.describe(options)[:60])
def test_options_follow_from_keys_and_shapes(options):
    weights = build_network(options).state_dict()
    layout = formats.recognise(weights)
    assert layout.options == options
    assert layout.weights.keys() == weights.keys()


@pytest.mark.parametrize(
    'options',
    [
        {'in_chans': 1, 'img_size': 16, 'upscale': 1},
        {'in_chans': 3, 'img_size': 4, 'upscale': 1, 'resi_connection': '3conv'},  # one window: no masks
        {'in_chans': 3, 'img_size': 8, 'upscale': 4, 'upsampler': 'pixelshuffle', 'ape': True},
        {'in_chans': 3, 'img_size': 8, 'upscale': 3, 'upsampler': 'pixelshuffle', 'patch_norm': False},
        {'in_chans': 1, 'img_size': 8, 'upscale': 2, 'upsampler': 'pixelshuffledirect', 'qkv_bias': False},
        {'in_chans': 3, 'img_size': 8, 'upscale': 4, 'upsampler': 'nearest+conv'},
    ],
    ids=str,
)
def test_swinir_follows_from_keys_and_shapes(options):
    net = build_network(SWINIR | options)
    layout = formats.recognise(net.state_dict())
    defaults = {'ape': False, 'patch_norm': True, 'qkv_bias': True, 'resi_connection': '1conv', 'upsampler': ''}
    assert layout.options == SWINIR | defaults | options
    build_network(layout.options).load_state_dict(net.state_dict())


def test_swinir_for_jpeg_has_another_range():
    layout = formats.recognise(build_network(SWINIR | {'window_size': 7, 'img_size': 14, 'upscale': 1}).state_dict())
    assert layout.options['img_range'] == 255
    assert 'img_range' in layout.note


def test_a_bias_free_fdncnn_that_keeps_constants_is_scale_equivariant():
    layers = [
        {'type': 'FDnCNN', 'num_feat': 4, 'num_layers': 3, 'mode': mode} for mode in ('scale-equiv', 'norm-equiv')
    ]
    scale, norm = (build_network(options) for options in layers)
    for value in scale.state_dict().values():  # the identity, all weight on one path
        value.zero_()[0, 0, 1, 1] = 1
    with torch.no_grad():
        scale.fdncnn[2].weight += 0.001 * torch.randn(4, 4, 3, 3)
    assert formats.recognise(scale.state_dict()).options['mode'] == 'scale-equiv'
    assert formats.recognise(norm.state_dict()).options['mode'] == 'norm-equiv'
    assert 'keeps a constant image' in formats.recognise(scale.state_dict()).note


def prefixed(weights, prefix):
    return {f'{prefix}{key}': value for key, value in weights.items()}


def test_wrapped_layouts_are_told_from_plain_ones():
    weights, _ = dncnn_lists(bias=True)
    plain = formats.recognise(weights)
    own = formats.recognise(prefixed(plain.weights, 'backbone.'))
    assert own.options == {'type': 'WNE', 'backbone': plain.options}
    paper = formats.recognise(prefixed(weights, 'model.'), 'model_state')
    assert paper.wrapper_is_unknown
    assert not own.wrapper_is_unknown
    wrapped = formats.as_trained(paper, 'WNE')
    assert wrapped.options == {'type': 'WNE', 'correction': 1, 'backbone': plain.options}
    assert wrapped.weights.keys() == own.weights.keys()
    assert formats.as_trained(paper, None).options == plain.options
    framework = formats.recognise(prefixed(weights, 'model.'), 'state_dict')
    assert framework.options == plain.options


def test_what_is_unknown_is_explained():
    weights = build_network({'type': 'DnCNN', 'num_feat': 4, 'num_layers': 4}).state_dict()
    odd = weights | {'head.scale': torch.ones(1)}
    assert formats.recognise(odd) is None
    assert (
        'nearest is KAIR DnCNN, FDnCNN, FFDNet and IRCNN, which does not have 1 of its keys (head.scale)'
        in formats.explain_unknown(odd)
    )
    other = nn.Sequential(nn.Linear(2, 2)).state_dict()
    assert formats.recognise(other) is None
    assert 'known are KAIR DnCNN, FDnCNN, FFDNet and IRCNN, DnCNN-PyTorch, ' in formats.explain_unknown(other)
    assert formats.recognise({}) is None


def test_neighbours_with_similar_keys_are_not_taken():
    hat = {'conv_first.weight': 0, 'layers.0.residual_group.overlap_attn.qkv.weight': 0}
    swin2sr = {'conv_first.weight': 0, 'layers.0.residual_group.blocks.0.attn.logit_scale': 0}
    rrdb = {'conv_first.weight': 0, 'body.0.rdb1.conv1.weight': 0, 'conv_last.weight': 0}
    assert not any(formats.recognise(keys) for keys in (hat, swin2sr, rrdb))


def test_missing_keys_and_other_shapes_of_a_known_layout_are_errors():
    weights, _ = dncnn_lists(bias=False)
    with pytest.raises(InputError, match=r'Mohan .* but last_layer.weight is missing'):
        formats.recognise({key: value for key, value in weights.items() if 'last' not in key})
    with pytest.raises(
        InputError, match=r'DnCNN-PyTorch, but the shapes are not: convolutions must be 3x3; got .*5, 5'
    ):
        formats.recognise({'dncnn.0.weight': torch.ones(4, 1, 5, 5), 'dncnn.2.weight': torch.ones(1, 4, 5, 5)})


@pytest.mark.parametrize('name', ['kair_BR', 'kair_R', 'paper'])
def test_stored_dncnns_are_reproduced(golden, name, monkeypatch):
    expected = golden(f'dncnn_{name}')
    layout = formats.recognise(expected.weights)
    assert layout.options['num_layers'] == 6
    with torch.no_grad():
        assert (restored(layout)(expected.input) - expected.output).abs().max() < 1e-10
    if name == 'paper':  # the control
        monkeypatch.setattr(stacks, 'OWN_EPS', 1e-5)
        with torch.no_grad():
            output = restored(formats.recognise(expected.weights))(expected.input)
        assert (output - expected.output).abs().max() > 1e-6


def test_stored_unets_and_restormers_are_reproduced(golden):
    names = [f'drunet_{mode}' for mode in ('ordinary', 'scale-equiv', 'norm-equiv')]
    for name in (*names, 'fdncnn_ordinary', 'fdncnn_norm-equiv', 'restormer_BiasFree', 'restormer_WithBias'):
        expected = golden(name)
        with torch.no_grad():
            output = restored(formats.recognise(expected.weights))(expected.input)
        assert (output - expected.output).abs().max() < 1e-10, name


FULL_SIZE = {
    'restormer_gaussian_gray': {'type': 'Restormer', 'inp_channels': 1, 'LayerNorm_type': 'BiasFree', 'dim': 48},
    'restormer_real': {'type': 'Restormer', 'inp_channels': 3, 'LayerNorm_type': 'BiasFree', 'bias': False},
    'restormer (the paper': {'type': 'Restormer', 'LayerNorm_type': 'WithBias', 'num_blocks': [4, 6, 6, 8]},
    'drunet_gray norm-equiv': {'type': 'DRUNet', 'mode': 'norm-equiv', 'num_feats': [64, 128, 256, 512]},
    'drunet_gray ordinary': {'type': 'DRUNet', 'mode': 'ordinary', 'num_blocks': 4, 'blind': True},
    'fdncnn norm-equiv': {'type': 'FDnCNN', 'mode': 'norm-equiv', 'num_layers': 20, 'blind': True},
    'fdncnn ordinary': {'type': 'FDnCNN', 'mode': 'ordinary', 'num_layers': 20},
    'dncnn (the paper': {'type': 'DnCNN', 'num_layers': 20, 'act_mode': 'BR', 'bias': True},
    'swinir gray': {'type': 'SwinIR', 'in_chans': 1, 'embed_dim': 180, 'num_heads': [6] * 6, 'img_size': 128},
    'swinir colour': {'type': 'SwinIR', 'in_chans': 3, 'depths': [6] * 6, 'window_size': 8, 'mlp_ratio': 2.0},
    'swinir lightweight': {'type': 'SwinIR', 'in_chans': 1, 'embed_dim': 60, 'depths': [6] * 4, 'img_size': 64},
}


def test_every_public_checkpoint_is_recognised_and_fits(monkeypatch):
    monkeypatch.setattr('basicsr.archs.swinir_arch.trunc_normal_', lambda *_, **__: None)  # 6 s of random weights
    manifests = json.loads((GOLDENS / 'state_dict_manifests.json').read_text())
    assert len(manifests) == len(FULL_SIZE)
    for name, shapes in manifests.items():
        layout = formats.recognise({key: torch.empty(shape, device='meta') for key, shape in shapes.items()})
        expected = next(options for start, options in FULL_SIZE.items() if name.startswith(start))
        assert expected.items() <= layout.options.items(), name
        with torch.device('cpu' if layout.options['type'] == 'SwinIR' else 'meta'):  # its constructor reads values
            own = build_network(layout.options).state_dict()
        assert {key: value.shape for key, value in own.items()} == {k: v.shape for k, v in layout.weights.items()}, name
