"""Steps of an optimizer: parts of a batch, clipping, mixed precision and the scale of the loss."""

import copy

import pytest
import torch
import torch.nn.functional as F
from basicsr.archs import build_network
from torch import nn

from ne_basicsr.train.gradient_step import GradientStep

CPU = torch.device('cpu')


def network():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 3)).double()


def stepped(net, batches, **options):
    """``net`` after one step on the mean loss over ``batches``, and the step's gradient norm."""
    step = GradientStep(torch.optim.SGD(net.parameters(), lr=0.5), CPU, **options)
    for batch in batches:
        with step.autocast():
            output = net(batch)
        step.backward(F.mse_loss(output.to(batch.dtype), batch[..., 2:-2, 2:-2]))
    norm = step.apply()
    return net, norm


def gap(first, second):
    return max(
        float((a - b).detach().abs().max()) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )


def test_parts_of_a_batch_step_as_the_whole():
    net, batch = network(), torch.rand(6, 1, 8, 8, dtype=torch.float64)
    whole, _ = stepped(copy.deepcopy(net), [batch])
    parts, _ = stepped(copy.deepcopy(net), batch.split(2), parts=3)
    unweighted, _ = stepped(copy.deepcopy(net), batch.split(2))
    assert gap(whole, parts) < 1e-14
    assert gap(whole, unweighted) > 1e-3


def test_gradients_are_forgotten_after_the_step():
    net, _ = stepped(network(), [torch.rand(2, 1, 8, 8, dtype=torch.float64)])
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize('amp', [None, 'fp16'])
def test_the_norm_of_all_gradients_is_limited(amp):
    net = network().float()
    before = copy.deepcopy(net)
    net, norm = stepped(net, [torch.rand(2, 1, 8, 8)], clip_norm=1e-3, amp=amp)
    moved = torch.cat([(a - b).flatten() for a, b in zip(before.parameters(), net.parameters(), strict=True)]).norm()
    assert norm > 1e-2
    assert float(moved) == pytest.approx(0.5 * 1e-3, rel=1e-2)


def test_a_limit_that_is_not_reached_changes_nothing():
    net, batch = network(), torch.rand(2, 1, 8, 8, dtype=torch.float64)
    free, norm = stepped(copy.deepcopy(net), [batch])
    limited, _ = stepped(copy.deepcopy(net), [batch], clip_norm=1e3)
    assert norm is None
    assert gap(free, limited) == 0


@pytest.mark.parametrize(('amp', 'dtype'), [('bf16', torch.bfloat16), ('fp16', torch.float16), (None, torch.float32)])
def test_networks_run_in_the_precision_and_wrappers_measure_in_float32(amp, dtype):
    net = build_network({'type': 'DnCNNWNE', 'num_feat': 4, 'num_layers': 3, 'act_mode': 'R'})
    step = GradientStep(torch.optim.SGD(net.parameters(), lr=0.1), CPU, amp=amp)
    seen = []
    net.backbone.model[0].register_forward_hook(lambda module, given, output: seen.append(output.dtype))
    measure = net.measure
    net.measure = lambda y, sigma=None: seen.append(measure(y)) or seen[-1]
    y = 0.5 + 1e-3 * torch.rand(2, 1, 8, 8)  # with bfloat16's 8 bits, the deviation would be 0
    with step.autocast():
        output = net(y)
    (statistics, _), of_backbone = seen
    assert of_backbone == dtype
    assert statistics.shift.dtype == statistics.scale.dtype == output.dtype == torch.float32
    torch.testing.assert_close(statistics.scale.flatten(), y.std((1, 2, 3), correction=0))
    assert y.to(torch.bfloat16).float().std(correction=0) == 0  # the control


def test_an_overflowing_step_is_left_out_and_the_scale_falls():
    net = network().float()
    before = copy.deepcopy(net)
    step = GradientStep(torch.optim.SGD(net.parameters(), lr=0.5), CPU, amp='fp16')
    scale = step.scaler.get_scale()
    step.backward(1e38 * net(torch.rand(2, 1, 8, 8)).sum())
    step.apply()
    assert gap(before, net) == 0
    assert step.scaler.get_scale() == scale / 2
    step.backward(net(torch.rand(2, 1, 8, 8)).sum())
    step.apply()
    assert gap(before, net) > 0
