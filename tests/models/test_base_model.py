"""Optimizers and schedules by name; rates against closed forms, and through a pause."""

import math
from types import SimpleNamespace

import pytest
import torch
from basicsr.archs import build_network
from basicsr.models.lr_scheduler import CosineAnnealingRestartLR

from ne_basicsr.archs.zero_shot_arch import ZeroShot
from ne_basicsr.models import base_model
from ne_basicsr.ops.noise import LevelRange
from ne_basicsr.options.optimizers import OPTIMIZERS, CosineAnnealingRestartCyclicLR
from ne_basicsr.utils.errors import InputError

CYCLIC = {'periods': [4, 6], 'restart_weights': [1, 0.5], 'eta_mins': [0.3, 0.01]}
SCHEDULES = [
    {'type': 'MultiStepLR', 'milestones': [3, 8], 'gamma': 0.5},
    {'type': 'CosineAnnealingRestartLR', 'periods': [5, 20], 'restart_weights': [1, 0.5], 'eta_min': 1e-3},
    {'type': 'CosineAnnealingRestartCyclicLR', **CYCLIC},
    {'type': 'CosineAnnealingLR', 'T_max': 12, 'eta_min': 1e-3},
    {'type': 'TrueCosineAnnealingLR', 'T_max': 12},
    {'type': 'CosineAnnealingWarmRestarts', 'T_0': 5},
    {'type': 'StepLR', 'step_size': 4, 'gamma': 0.1},
    {'type': 'ExponentialLR', 'gamma': 0.9},
    {'type': 'PolynomialLR', 'total_iters': 12},
]


def optimizer(lr=0.8, name='SGD', shape=(2, 2)):
    return base_model.get_optimizer(None, name, [torch.nn.Parameter(torch.zeros(shape))], lr=lr)


def scheduled(options, lr=0.8):
    """A model as far as its learning rates go."""
    model = SimpleNamespace(opt={'train': {'scheduler': options}}, optimizers=[optimizer(lr)], schedulers=[])
    base_model.setup_schedulers(model)
    return model


def rates(options, iterations, warmup_iter=-1, lr=0.8, resumed_at=None):
    """The learning rate of each iteration; saved and loaded into new objects after ``resumed_at``."""
    model = scheduled(options, lr)
    found = []
    for iteration in range(1, iterations + 1):
        base_model.update_learning_rate(model, iteration, warmup_iter)
        found.append(model.optimizers[0].param_groups[0]['lr'])
        model.optimizers[0].step()
        if iteration == resumed_at:
            states = model.optimizers[0].state_dict(), model.schedulers[0].state_dict()
            model = scheduled(options, lr)
            model.optimizers[0].load_state_dict(states[0])
            model.schedulers[0].load_state_dict(states[1])
    return found


def test_cyclic_cosine_is_its_closed_form():
    found = rates({'type': 'CosineAnnealingRestartCyclicLR', **CYCLIC}, 14)

    def cosine(low, weight, share):
        return low + weight * (0.8 - low) * (1 + math.cos(math.pi * share)) / 2

    expected = [cosine(0.3, 1, t / 4) for t in range(5)] + [cosine(0.01, 0.5, t / 6) for t in range(1, 7)] + [0.01] * 3
    assert found == pytest.approx(expected)


def test_cyclic_cosine_with_one_minimum_is_basicsr_s():
    options = {'periods': [4, 6], 'restart_weights': [1, 0.5]}
    ours = rates({'type': 'CosineAnnealingRestartCyclicLR', **options, 'eta_mins': [0.02, 0.02]}, 10)
    assert ours == pytest.approx(rates({'type': 'CosineAnnealingRestartLR', **options, 'eta_min': 0.02}, 10))
    assert CosineAnnealingRestartLR is not CosineAnnealingRestartCyclicLR


def test_restormer_s_schedule_is_constant_and_then_falls():
    options = {'periods': [3, 5], 'restart_weights': [1, 1], 'eta_mins': [0.8, 1e-6]}
    found = rates({'type': 'CosineAnnealingRestartCyclicLR', **options}, 9)
    assert found[:4] == [0.8] * 4
    assert sorted(found[3:], reverse=True) == found[3:]
    assert found[-1] == pytest.approx(1e-6)


@pytest.mark.parametrize('changes', [{'eta_mins': [0.1]}, {'restart_weights': [1]}, {'periods': [4, 0]}])
def test_cyclic_cosine_refuses_what_does_not_fit(changes):
    with pytest.raises(ValueError, match='periods'):
        CosineAnnealingRestartCyclicLR(optimizer(), **(CYCLIC | changes))


@pytest.mark.parametrize('options', SCHEDULES, ids=lambda options: options['type'])
@pytest.mark.parametrize('warmup_iter', [-1, 5])
def test_a_schedule_goes_on_where_it_was_saved(options, warmup_iter):
    given = dict(options)
    straight = rates(options, 12, warmup_iter)
    assert len(set(straight)) > 1
    for resumed_at in (1, 3, 4, 5, 9):
        assert rates(options, 12, warmup_iter, resumed_at=resumed_at) == straight
    assert options == given


@pytest.mark.parametrize('options', SCHEDULES, ids=lambda options: options['type'])
def test_warming_up_leaves_the_schedule_as_it_is(options):
    warmed, plain = rates(options, 12, 5), rates(options, 12)
    assert warmed[:4] == pytest.approx([0.8 * k / 5 for k in (1, 2, 3, 4)])
    assert warmed[4:] == plain[4:]


def test_every_optimizer_steps():
    for name in OPTIMIZERS:
        made = optimizer(0.1, name)
        made.param_groups[0]['params'][0].grad = torch.ones(2, 2)
        made.step()
        assert made.param_groups[0]['params'][0].ne(0).all(), name
    assert {'Adam', 'AdamW', 'SGD', 'RMSprop'} <= set(OPTIMIZERS)
    assert not {'LBFGS', 'SparseAdam', 'Optimizer'} & set(OPTIMIZERS)


def test_what_an_optimizer_refuses_is_one_line():
    with pytest.raises(InputError, match='no optimizer is called'):
        optimizer(name='Adm')
    if hasattr(torch.optim, 'Muon'):  # torch 2.9; for matrices only
        with pytest.raises(InputError, match='Muon refuses this network'):
            optimizer(0.1, 'Muon', (3, 3, 3, 3))
    with pytest.raises(InputError, match='no scheduler'):
        scheduled({'type': 'Cosine'})


ZERO_SHOT = {'type': 'ZeroShot', 'sigma255': 'auto', 'backbone': {'type': 'DnCNN', 'num_feat': 4, 'num_layers': 3}}


@pytest.mark.parametrize(
    ('metadata', 'found', 'level'),
    [
        ({'network_g': ZERO_SHOT | {'sigma255': 20.5}}, (), 20.5),
        ({'network_g': ZERO_SHOT['backbone'], 'noise': {'sigma_type': 'constant', 'sigma_range': 15}}, (), 15),
        ({}, (30.0,), 30),
    ],
    ids=['of ZeroShot', 'of a training', 'measured'],
)
def test_the_level_auto_is_settled_by_the_weights_and_recorded(tmp_path, monkeypatch, metadata, found, level):
    monkeypatch.setattr('ne_basicsr.inference.loading.training_levels', lambda denoiser: found)
    network = build_network(ZERO_SHOT)
    y = torch.rand(1, 1, 16, 16)
    with pytest.raises(InputError, match='auto is found when weights are loaded'):
        network(y)
    torch.save({'params': network.state_dict(), 'ne_basicsr': metadata}, tmp_path / 'net.pth')
    given = {'network_g': ZERO_SHOT}
    model = SimpleNamespace(opt=dict(given), get_bare_model=lambda net: net)
    base_model.load_network(model, network, str(tmp_path / 'net.pth'))
    assert network.sigma == pytest.approx(level / 255)
    assert model.opt['network_g'] == ZERO_SHOT | {'sigma255': pytest.approx(level)}
    assert given == {'network_g': ZERO_SHOT}
    assert network(y).shape == y.shape


@pytest.mark.parametrize(('found', 'said'), [(LevelRange(5.0, 55.0), '5 to 55'), ((), 'none found')])
def test_auto_needs_one_level(tmp_path, monkeypatch, found, said):
    monkeypatch.setattr('ne_basicsr.inference.loading.training_levels', lambda denoiser: found)
    network = ZeroShot(build_network(ZERO_SHOT['backbone']), 'auto')
    torch.save(network.state_dict(), tmp_path / 'net.pth')
    model = SimpleNamespace(opt={'network_g': ZERO_SHOT}, get_bare_model=lambda net: net)
    with pytest.raises(InputError, match=f'one training level .*{said}.*name it, or take WNE'):
        base_model.load_network(model, network, str(tmp_path / 'net.pth'))
