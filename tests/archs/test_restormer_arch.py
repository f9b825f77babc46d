"""Restormer: the reference outputs, the official keys, and any input size."""

import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from basicsr.archs import build_network
from conftest import GOLDENS
from torch import Tensor
from torch.nn import functional as F

from ne_basicsr.archs.restormer_arch import ChannelAttention, ChannelScale, Restormer
from ne_basicsr.archs.wne_arch import WNE
from ne_basicsr.ops.equivariance import ne_defect

SMALL: dict[str, Any] = {
    'inp_channels': 1, 'out_channels': 1, 'dim': 4, 'num_blocks': [1, 1, 1, 1], 'num_refinement_blocks': 1,
    'heads': [1, 2, 2, 4],
}  # fmt: skip


def small(**options: Any) -> Restormer:
    return Restormer(**(SMALL | options)).double().eval()


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('norm', ['BiasFree', 'WithBias'])
def test_restormer_reproduces_the_reference(golden: Callable[[str], Any], norm: str) -> None:
    stored = golden(f'restormer_{norm}')
    net = Restormer(**{key: value for key, value in stored.meta.items() if key != 'source'}).double()
    assert list(net.state_dict()) == list(stored.weights)
    net.load_state_dict(stored.weights, strict=True)
    torch.testing.assert_close(net(stored.input), stored.output, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        (
            'restormer_gaussian_gray_denoising (official, BiasFree, dim 48)',
            {'inp_channels': 1, 'out_channels': 1, 'LayerNorm_type': 'BiasFree'},
        ),
        ('restormer_real_denoising (official, BiasFree, 3 channels)', {'LayerNorm_type': 'BiasFree'}),
        ("restormer (the paper's own code, defaults)", {'inp_channels': 1, 'out_channels': 1}),
    ],
)
def test_the_public_checkpoints_fit(name: str, options: dict[str, Any]) -> None:
    manifests = json.loads((GOLDENS / 'state_dict_manifests.json').read_text())
    with torch.device('meta'):
        state_dict = Restormer(**options).state_dict()
    assert [(key, list(value.shape)) for key, value in state_dict.items()] == list(manifests[name].items())


def test_layer_normalization_over_channels() -> None:
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    with_bias, bias_free = ChannelScale(6, True).double(), ChannelScale(6, False).double()
    for parameter in (*with_bias.parameters(), *bias_free.parameters()):
        torch.nn.init.uniform_(parameter, 0.5, 1.5)
    expected = F.layer_norm(x.movedim(1, 3), (6,), with_bias.weight, with_bias.bias, 1e-5).movedim(3, 1)
    torch.testing.assert_close(with_bias(x), expected)
    std = (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(bias_free(x), x / std * bias_free.weight.view(-1, 1, 1))
    shift = bias_free(x + 1) - bias_free(x)  # nothing is subtracted, so a shift shows
    assert shift.abs().min() > 0.1


def test_attention_is_between_channels() -> None:
    attention = ChannelAttention(8, 2, bias=False).double()
    x = torch.randn(1, 8, 4, 6, dtype=torch.float64)
    qkv = attention.qkv_dwconv(attention.qkv(x)).reshape(3, 2, 4, 24)
    out = []
    for q, k, v, temperature in zip(*qkv, attention.temperature, strict=True):
        cosine = F.cosine_similarity(q[:, None], k[None], dim=-1)  # (C / heads, C / heads)
        out.append((cosine * temperature).softmax(dim=1) @ v)
    expected = attention.project_out(torch.cat(out).view(1, 8, 4, 6))
    torch.testing.assert_close(attention(x), expected)


# -- sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('size', [(1, 1), (3, 5), (8, 16), (17, 23)])
@pytest.mark.parametrize('norm', ['BiasFree', 'WithBias'])
def test_any_size(size: tuple[int, int], norm: str) -> None:
    net = small(inp_channels=3, out_channels=3, LayerNorm_type=norm)
    assert net(torch.rand(2, 3, *size, dtype=torch.float64)).shape == (2, 3, *size)
    assert net.size_multiple == 1


def test_padding_is_by_reflection(images: Tensor) -> None:
    net = small()
    padded = F.pad(images, (0, 1, 0, 5), mode='reflect')
    with torch.no_grad():
        torch.testing.assert_close(net(images), net(padded)[..., :19, :23])


def test_an_image_does_not_depend_on_its_neighbours(images: Tensor) -> None:
    net = small()
    with torch.no_grad():
        torch.testing.assert_close(torch.cat([net(images[:1]), net(images[1:2])]), net(images[:2]))


def test_a_wrapped_restormer_commutes_with_affine_maps_and_a_plain_one_does_not(images: Tensor) -> None:
    net = small()
    assert ne_defect(WNE(net), images[1:3], samples=2).max() < 1e-12
    assert ne_defect(net, images[1:3], samples=2).max() > 1e-4


# -- options -----------------------------------------------------------------------------------------------------------


def test_an_option_file_builds_it() -> None:
    assert isinstance(build_network({'type': 'Restormer', **SMALL}), Restormer)
    defaults = {name: p.default for name, p in inspect.signature(Restormer).parameters.items()}
    assert defaults == {
        'inp_channels': 3, 'out_channels': 3, 'dim': 48, 'num_blocks': (4, 6, 6, 8), 'num_refinement_blocks': 4,
        'heads': (1, 2, 4, 8), 'ffn_expansion_factor': 2.66, 'bias': False, 'LayerNorm_type': 'WithBias',
        'dual_pixel_task': False,
    }  # fmt: skip


def test_dual_pixel_task_maps_two_views_to_one_image() -> None:
    net = small(inp_channels=6, out_channels=3, dual_pixel_task=True)
    assert net(torch.rand(1, 6, 9, 8, dtype=torch.float64)).shape == (1, 3, 9, 8)
    assert net.state_dict()['skip_conv.weight'].shape == (8, 4, 1, 1)


@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('norm', ['BiasFree', 'WithBias'])
def test_training_reaches_every_weight(images: Tensor, bias: bool, norm: str) -> None:
    net = small(bias=bias, LayerNorm_type=norm, heads=[1, 1, 1, 1]).train()
    net(images[:2]).square().mean().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert any(key.endswith('qkv.bias') for key in net.state_dict()) == bias
    assert any(key.endswith('norm1.body.bias') for key in net.state_dict()) == (norm == 'WithBias')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'LayerNorm_type': 'biasfree'}, "needs LayerNorm_type 'BiasFree' or 'WithBias'; got 'biasfree'"),
        ({'num_blocks': [1, 2]}, r'4 values of num_blocks; got \[1, 2\]'),
        ({'heads': [1]}, r'4 values of heads; got \[1\]'),
        ({'heads': [3, 1, 1, 1]}, r'multiples of heads \[3, 1, 1, 1\]'),
        ({'dim': 5}, 'even dim'),
        ({'inp_channels': 6, 'out_channels': 3}, 'must be equal unless dual_pixel_task is on; got 6 and 3'),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Restormer(**(SMALL | options))
