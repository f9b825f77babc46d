"""SwinIR computes what BasicSR's does: outputs, gradients, random numbers; where it cannot, it is BasicSR's."""

import itertools

import pytest
import torch
from basicsr.archs import build_network
from torch.autograd.functional import jvp

from ne_basicsr.archs import swinir_blocks

SMALL = {
    'type': 'SwinIR', 'upscale': 1, 'in_chans': 1, 'img_size': 16, 'window_size': 4, 'embed_dim': 12, 'depths': [3, 2],
    'num_heads': [2, 3], 'mlp_ratio': 2,
}  # fmt: skip


def network(dtype=torch.float64, **options):
    torch.manual_seed(0)
    net = build_network({**SMALL, **options}).to(dtype)
    for name, weights in net.named_parameters():
        if 'relative_position_bias_table' in name:  # at first it is nearly 0
            torch.nn.init.normal_(weights)
    return net


def results(net, y, autocast=False):
    """The output and all gradients, relative to the largest value of each."""
    torch.manual_seed(1)  # of drop paths
    net.zero_grad()
    y = y.clone().requires_grad_()
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        output = net(y)
    output.square().sum().backward()
    return [output.detach(), y.grad, *(weights.grad for weights in net.parameters())]


def difference(found, expected):
    return max(float((a.double() - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True))


@pytest.fixture
def few_windows(monkeypatch):
    """Several parts in small images, of different sizes."""
    monkeypatch.setattr(swinir_blocks, 'WINDOWS', 5)


# the size that it was built for, another, one window
@pytest.mark.parametrize(('size', 'training'), [((16, 16), True), ((8, 20), True), ((8, 20), False), ((4, 4), False)])
def test_outputs_and_gradients_are_basicsr_s(size, training, few_windows):
    net = network().train(training)
    y = torch.rand(3, 1, *size, dtype=torch.float64)
    found = results(net, y)
    with swinir_blocks.as_in_basicsr():
        expected = results(net, y)
    assert difference(found, expected) < 1e-11
    torch.manual_seed(1)
    with torch.no_grad():
        assert difference([net(y)], expected[:1]) < 1e-12
    single = results(net.float(), y.float())
    with swinir_blocks.as_in_basicsr():  # float32 rounds sums of as many terms in both
        assert difference(single, expected) < max(1e-6, 3 * difference(results(net, y.float()), expected))


@pytest.mark.parametrize('wrong', ['mask', 'bias', 'order'])
def test_the_comparison_sees_a_wrong_mask_bias_or_order(wrong, monkeypatch):
    net, y = network(), torch.rand(1, 1, 16, 16, dtype=torch.float64)
    with swinir_blocks.as_in_basicsr():
        expected = results(net.eval(), y)
    if wrong == 'mask':
        monkeypatch.setattr(swinir_blocks, '_mask', lambda window, shift, device: torch.zeros(4, 16, 16))
    elif wrong == 'bias':
        monkeypatch.setattr(swinir_blocks, '_weights', lambda q, k, logits, scale: (scale * q.mT @ k).softmax(-1))
    else:
        monkeypatch.setattr(swinir_blocks, '_route', lambda *_: (torch.arange(256), torch.arange(256)))
    assert difference(results(net, y), expected) > 1e-4


@pytest.mark.parametrize(('window', 'shift', 'size'), [(4, 2, (8, 12)), (8, 4, (8, 8)), (7, 3, (14, 21))])
def test_masks_are_basicsr_s(window, shift, size):
    block = swinir_blocks.SwinTransformerBlock(4, (4 * window, 4 * window), 1, window_size=window, shift_size=shift)
    places = swinir_blocks._places(size, window, shift, torch.device('cpu'))
    assert torch.equal(swinir_blocks._mask(window, shift, torch.device('cpu'))[places], block.calculate_mask(size))


def test_state_dicts_are_basicsr_s():
    with swinir_blocks.as_in_basicsr():
        expected = network().state_dict()
    found = network().state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[key], expected[key]) for key in found)


def test_it_can_be_differentiated_twice():
    net, y = network().eval(), torch.rand(1, 1, 8, 8, dtype=torch.float64)
    found = jvp(net, y, y)
    with swinir_blocks.as_in_basicsr():
        torch.testing.assert_close(found, jvp(net, y, y), rtol=1e-11, atol=1e-11)
    forward = torch.func.jvp(net, (y,), (y,))  # BasicSR's: forward mode follows each operation
    torch.testing.assert_close(found, forward, rtol=1e-11, atol=1e-11)


def test_training_follows_inference_mode():
    net, y = network().train(), torch.rand(1, 1, 12, 24, dtype=torch.float64)  # a size that no other test has
    for kept in (swinir_blocks._mask, swinir_blocks._places, swinir_blocks._order, swinir_blocks._route):
        kept.cache_clear()
    with torch.inference_mode():
        net(y)
    assert all(gradient.isfinite().all() for gradient in results(net, y))


def test_under_autocast_it_is_as_close_as_basicsr_s():
    net, y = network().eval(), torch.rand(2, 1, 16, 16, dtype=torch.float64)
    with swinir_blocks.as_in_basicsr():
        exact = results(net, y)
        usual = results(net.float(), y.float(), autocast=True)
    found = results(net, y.float(), autocast=True)
    assert found[0].dtype == usual[0].dtype
    assert all(a.isfinite().all() for a in found)
    assert difference(found[:2], exact[:2]) < 1.5 * difference(usual[:2], exact[:2])


def test_blocks_that_are_not_basicsr_s_own_compute_as_they_say(monkeypatch):
    class Own(swinir_blocks.WindowAttention):
        def forward(self, x, mask=None):
            return torch.zeros_like(x)

    net, y = network().eval(), torch.rand(1, 1, 8, 8, dtype=torch.float64)
    expected, seen = net(y), []
    for layer in net.layers:
        for block in layer.residual_group.blocks:
            hook = block.attn.register_forward_hook(lambda *_: seen.append(1))
            torch.testing.assert_close(net(y), expected, rtol=1e-11, atol=1e-11)
            hook.remove()
    assert len(seen) == 5
    block.attn.__class__ = Own
    with swinir_blocks.as_in_basicsr():
        expected = net(y)
    torch.testing.assert_close(net(y), expected, rtol=1e-11, atol=1e-11)


def test_dropout_draws_the_numbers_that_it_draws_in_basicsr():
    y = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    for name, training in itertools.product(('drop_rate', 'attn_drop_rate'), (True, False)):
        net = network(**{name: 0.3}).train(training)
        found = results(net, y)
        with swinir_blocks.as_in_basicsr():
            assert difference(found, results(net, y)) < 1e-11
