import math

import pytest
import torch
from torch import nn

from ne_basicsr.archs.dncnn_arch import DnCNN


@pytest.mark.parametrize('act_mode', ['BR', 'R'])
def test_dncnn_matches_kair(act_mode, golden):
    reference = golden(f'dncnn_kair_{act_mode}')
    names = ('num_in_ch', 'num_feat', 'num_layers', 'act_mode')
    arguments = {k: v for k, v in reference.meta.items() if k in names}
    net = DnCNN(**{'act_mode': act_mode, 'num_feat': 8, 'num_layers': 6} | arguments).double().eval()
    net.load_state_dict(reference.weights)
    with torch.no_grad():
        torch.testing.assert_close(net(reference.input), reference.output, rtol=0, atol=1e-10)


def test_the_paper_s_dncnn_has_668_thousand_parameters():
    # 20 layers, 64 features: 640 + 18 (36928 + 128) + 577
    assert sum(p.numel() for p in DnCNN().parameters()) == 668_225


def test_training_starts_near_the_identity():
    y = torch.rand(2, 1, 32, 32)
    for options in ({}, {'act_mode': 'R'}, {'init': 'paper'}):
        net = DnCNN(num_layers=8, num_feat=32, **options)
        assert 0 < (net(y) - y).norm() / y.norm() < 0.3


def layers(net, kind):
    return [layer for layer in net.model if isinstance(layer, kind)]


@torch.no_grad()
def test_the_paper_s_networks_start_with_batchnorm_weights_of_a_clamped_normal():
    net, usual = DnCNN(init='paper', bn_eps=1e-5), DnCNN()
    weights = torch.cat([norm.weight for norm in layers(net, nn.BatchNorm2d)])  # 18 layers of 64
    assert weights.abs().max() == torch.tensor(0.025)
    # N(0, 0.0589) is beyond 0.025 with probability 0.671; 1152 draws: +-0.055 is 4 standard deviations
    clamped = 1 - math.erf(0.025 / math.sqrt(2 / 9 / 64) / math.sqrt(2))
    assert (weights.abs() == weights.abs().max()).double().mean().item() == pytest.approx(clamped, abs=0.055)
    assert abs(weights.mean()) < 4 * 0.025 / math.sqrt(weights.numel())
    assert {norm.eps for norm in layers(net, nn.BatchNorm2d)} == {1e-5}
    for conv in layers(net, nn.Conv2d):
        fan_in = 9 * conv.in_channels  # 576 weights at least: 4 / sqrt(2 576) of the standard deviation
        assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.12)
        assert not conv.bias.any()
    # and by default, as before: ones, KAIR's eps, and a last convolution of a tenth
    assert all((norm.weight == 1).all() and norm.eps == 1e-4 for norm in layers(usual, nn.BatchNorm2d))
    assert layers(usual, nn.Conv2d)[-1].weight.std().item() == pytest.approx(0.1 * math.sqrt(2 / 576), rel=0.12)


def test_bn_eps_is_what_the_formula_adds_to_the_variance(golden):
    reference = golden('dncnn_kair_BR')
    net = DnCNN(num_feat=8, num_layers=6, bn_eps=1e-5).double().eval()
    net.load_state_dict(reference.weights)
    with torch.no_grad():
        assert (net(reference.input) - reference.output).abs().max() > 1e-8
        for norm in layers(net, nn.BatchNorm2d):
            norm.running_var += 1e-4 - 1e-5
        torch.testing.assert_close(net(reference.input), reference.output, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'act_mode': 'BRL'}, "got 'BRL'"),
        ({'num_in_ch': 3}, 'equal; got 3 and 1'),
        ({'num_layers': 1}, 'at least 2'),
        ({'init': 'orthogonal'}, "'near_identity' or 'paper'; got 'orthogonal'"),
        ({'bn_eps': 0}, 'must be positive, .* got 0'),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DnCNN(**options)
