"""A training step never waits for its device: what it computes stays there, and what it sends is sent without waiting.

The device is torch's ``meta``, whose values nobody can read: whatever a GPU would have to finish first is an error.
"""

import functools
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from basicsr.models import build_model
from test_pipeline import option_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ne_basicsr.models.denoising_model import DenoisingModel
from ne_basicsr.options import load_options

SWINIR = {
    'type': 'SwinIRWNE', 'upscale': 1, 'in_chans': 1, 'img_size': 16, 'window_size': 8, 'img_range': 1.0,
    'depths': [2], 'embed_dim': 8, 'num_heads': [2], 'mlp_ratio': 2, 'upsampler': '', 'resi_connection': '1conv',
}  # fmt: skip
RESTORMER = {
    'type': 'RestormerWNE', 'inp_channels': 1, 'out_channels': 1, 'dim': 4, 'num_blocks': [1, 1, 1, 1],
    'heads': [1, 1, 1, 1], 'num_refinement_blocks': 1,
}  # fmt: skip
DNCNN = {'type': 'DnCNNWNE', 'num_feat': 6, 'num_layers': 4}
PHASES = {'iters': [1, 1], 'gt_sizes': [8, 16], 'mini_batch_sizes': [2, 1]}


class Waits(TorchFunctionMode):
    """Fails where Python's numbers become a tensor of the device, which torch sends and waits for."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], Tensor):
            assert torch.device(kwargs.get('device') or 'cpu').type == 'cpu', f'{func.__name__} on the device waits'
        return func(*args, **kwargs)


class BlockingCopies(TorchDispatchMode):
    """Fails where a tensor is sent to the device, or from it, and waited for; single numbers of modules excepted."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, target = kwargs or {}, None
        if func is torch.ops.aten._to_copy.default:
            target = kwargs.get('device')
        elif func is torch.ops.aten.copy_.default:
            target, kwargs = args[1].device, {'non_blocking': args[2] if len(args) > 2 else False} | kwargs
        if target is not None and torch.device(target) != args[0].device and args[0].numel() > 1:
            assert kwargs.get('non_blocking'), f'{func} of {tuple(args[0].shape)} waits'
        return func(*args, **(kwargs if func is not torch.ops.aten.copy_.default else {}))


def on_meta(folder, images, **changes):
    """A model whose network, noise and losses are on a device that cannot be read."""
    opt = load_options(option_file(folder, images, **changes), is_train=True)
    model = build_model(opt)
    model.device = torch.device('meta')
    for network in (model.net_g, getattr(model, 'net_g_ema', nn.Identity())):
        network.to('meta')
    model.optimizers.clear()
    model.setup_optimizers()
    model.gradient_step.optimizer, model._nonfinite = model.optimizer_g, model._nonfinite.to('meta')
    return model


def steps(model, size=16):
    batch = {'gt': torch.zeros(4, 1, size, size, dtype=torch.uint8), 'number': torch.arange(4)}
    with Waits(), BlockingCopies():
        for iteration in (1, 2):
            model.feed_data(batch)
            model.accumulate()
            model.feed_data(batch)
            model.optimize_parameters(iteration)


@pytest.mark.parametrize(
    'changes',
    [
        {'network_g': DNCNN, 'train:ema_decay': 0.9, 'train:clip_grad_norm': 1.0, 'train:channels_last': True},
        {'network_g': DNCNN | {'statistics': 'mean_noise'}, 'datasets:train:target': 'noise2noise'},
        {'network_g': {'type': 'FDnCNN', 'num_feat': 6, 'num_layers': 4, 'mode': 'norm-equiv'}},
        {'network_g': SWINIR, 'datasets:train:target': 'soft_ne'},
        {'network_g': DNCNN, 'datasets:train:target': 'neighbor2neighbor'},
        {'network_g': DNCNN, 'datasets:train:target': 'sure'},
        {'network_g': RESTORMER, **{f'datasets:train:{key}': value for key, value in PHASES.items()}},
    ],
    ids=['clipped, averaged', 'noise estimate', 'affine', 'soft-NE', 'neighbours', 'SURE', 'progressive'],
)
def test_a_training_step_does_not_wait_for_its_device(workplace, image_folder, monkeypatch, changes):
    monkeypatch.setattr(torch, 'autocast', lambda *_, **__: nullcontext())  # meta has none
    noise = {'type': 'gaussian', 'sigma_type': 'random', 'sigma255': [0, 55]}
    steps(on_meta(workplace, image_folder, **{'datasets:train:noise': noise, **changes}))


def read_the_loss(model):
    model.optimize_parameters = lambda iteration: (
        DenoisingModel.optimize_parameters(model, iteration) or float(model._losses['l_pix'])
    )


def build_a_mask(model):
    model.net_g.forward = lambda x: model.net_g.model(x) * torch.tensor([1.0, 0.0], device=x.device)[0]


@pytest.mark.parametrize('spoil', [read_the_loss, build_a_mask])
def test_a_step_that_waits_is_noticed(workplace, image_folder, spoil):
    model = on_meta(workplace, image_folder, network_g=DNCNN | {'type': 'DnCNN'})
    spoil(model)
    with pytest.raises((RuntimeError, AssertionError), match=r'meta|waits'):
        steps(model)


def optimizer_of(device, **options):
    network = nn.Linear(2, 2)
    model = SimpleNamespace(opt={'train': {'optim_g': options}}, device=torch.device(device), net_g=network)
    model.optimizers, model.get_optimizer = [], functools.partial(DenoisingModel.get_optimizer, None)
    DenoisingModel.setup_optimizers(model)
    return model.optimizer_g


def test_a_gpu_steps_in_one_kernel_unless_the_file_says_otherwise():
    assert optimizer_of('cuda', type='Adam', lr=1e-3).defaults['fused'] is True
    assert optimizer_of('cpu', type='Adam', lr=1e-3).defaults['fused'] is None
    assert optimizer_of('cuda', type='AdamW', lr=1e-3, fused=False).defaults['fused'] is False
    assert 'fused' not in optimizer_of('cuda', type='NAdam', lr=1e-3).defaults


def test_a_state_of_another_device_resumes_with_the_step_of_this_one(workplace, image_folder):
    opt = load_options(option_file(workplace, image_folder), is_train=True)
    old = build_model(opt)
    batch = {'gt': torch.rand(4, 1, 16, 16), 'number': torch.arange(4)}
    old.feed_data(batch)
    old.optimize_parameters(1)
    state = {'optimizers': [old.optimizer_g.state_dict()], 'schedulers': [each.state_dict() for each in old.schedulers]}
    opt['train']['optim_g']['fused'] = True
    new = build_model(opt)
    new.resume_training(state)
    assert new.optimizer_g.param_groups[0]['fused'] is True
    new.feed_data(batch)
    new.optimize_parameters(2)
