import argparse
import logging
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from basicsr.archs import build_network
from damage import outcomes, write_files
from forked import Forked
from torch import nn

from ne_basicsr.utils.errors import InputError
from ne_basicsr.weights import checkpoint

OPTIONS = {
    'network_g': {'type': 'DnCNN', 'num_feat': 4, 'num_layers': 3},
    'datasets': {'train': {'noise': {'type': 'gaussian', 'sigma255': 25}}},
}


def dncnn(name='DnCNN', **options):
    return build_network({'type': name, 'num_feat': 4, 'num_layers': 3} | options)


def test_what_is_saved_is_loaded_and_describes_itself(tmp_path):
    net, other = dncnn(), dncnn()
    path = tmp_path / 'models' / 'net_g_10.pth'
    checkpoint.save_network(path, {'params': net}, OPTIONS)
    checkpoint.load_network(other, path)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    described = checkpoint.read(path)['ne_basicsr']
    assert described['network_g'] == OPTIONS['network_g']
    assert described['noise'] == OPTIONS['datasets']['train']


def test_ema_weights_are_chosen_by_key_and_params_stand_in(tmp_path):
    net, average, other = dncnn(), dncnn(), dncnn()
    checkpoint.write(tmp_path / 'both.pth', {'params': net.state_dict(), 'params_ema': average.state_dict()})
    checkpoint.load_network(other, tmp_path / 'both.pth', param_key='params_ema')
    assert torch.equal(other.model[0].weight, average.model[0].weight)
    checkpoint.write(tmp_path / 'one.pth', {'params': net.state_dict()})
    checkpoint.load_network(other, tmp_path / 'one.pth', param_key='params_ema')
    assert torch.equal(other.model[0].weight, net.model[0].weight)


def test_bare_and_parallel_state_dicts_load_into_plain_and_wrapped_networks(tmp_path):
    net = dncnn()
    weights = net.state_dict()
    for number, content in enumerate((weights, {f'module.{k}': v for k, v in weights.items()})):
        checkpoint.write(tmp_path / f'{number}.pth', content)
        for name in ('DnCNN', 'DnCNNWNE'):
            other = dncnn(name)
            checkpoint.load_network(other, tmp_path / f'{number}.pth')
            assert torch.equal(next(iter(other.parameters())), net.model[0].weight)


def test_wrapped_weights_do_not_load_into_a_plain_network(tmp_path):
    checkpoint.write(tmp_path / 'wrapped.pth', {'params': dncnn('DnCNNWNE').state_dict()})
    with pytest.raises(InputError, match='belong to a wrapped network: use its type, such as DnCNNWNE'):
        checkpoint.load_network(dncnn(), tmp_path / 'wrapped.pth')


def test_a_misfit_names_keys_and_shapes(tmp_path):
    checkpoint.write(tmp_path / 'wide.pth', {'params': dncnn(num_feat=6).state_dict()})
    with pytest.raises(
        InputError, match=r'model.0.weight is \(6, 1, 3, 3\) in the file, \(4, 1, 3, 3\) in the network'
    ):
        checkpoint.load_network(dncnn(), tmp_path / 'wide.pth')
    checkpoint.write(tmp_path / 'deep.pth', {'params': dncnn(num_layers=4, act_mode='R').state_dict()})
    with pytest.raises(InputError, match=r'missing \(model.3.weight'):
        checkpoint.load_network(dncnn(), tmp_path / 'deep.pth')


def test_without_strict_what_agrees_is_loaded(tmp_path):
    source, target = dncnn(num_feat=6), dncnn()
    checkpoint.write(tmp_path / 'wide.pth', {'params': source.state_dict()})
    checkpoint.load_network(target, tmp_path / 'wide.pth', strict=False)
    assert torch.equal(target.model[-1].bias, source.model[-1].bias)


class RunsCode:
    def __reduce__(self):
        return os.system, ('touch it_ran',)


def test_reading_runs_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({'params': RunsCode()}, 'evil.pth')
    with pytest.raises(InputError, match='not readable as weights alone'):
        checkpoint.read('evil.pth')
    assert not Path('it_ran').exists()
    torch.load('evil.pth', weights_only=False)  # the control: it would have run
    assert Path('it_ran').exists()


def with_namespace(path):
    net = dncnn(act_mode='R')
    torch.save({'model': [net.state_dict()], 'args': argparse.Namespace(lr=0.1)}, path)
    return net


def test_a_kept_command_line_is_read_and_runs_nothing(tmp_path):
    net = with_namespace(tmp_path / 'full.pt')
    assert checkpoint.read(tmp_path / 'full.pt')['args'].lr == 0.1
    other = dncnn(act_mode='R')
    checkpoint.load_network(other, tmp_path / 'full.pt')
    assert torch.equal(other.model[0].weight, net.model[0].weight)
    inside = argparse.Namespace(lr=RunsCode())  # attributes are looked into
    torch.save({'params': {}, 'args': inside}, tmp_path / 'evil.pt')
    with pytest.raises(InputError, match=r'asks for posix\.system'):
        checkpoint.read(tmp_path / 'evil.pt')


def test_code_is_not_offered_to_be_allowed(tmp_path):
    torch.save({'params': RunsCode()}, tmp_path / 'evil.pth')
    with pytest.raises(InputError, match=r'asks for posix.system, .* may run code') as refusal:
        checkpoint.read(tmp_path / 'evil.pth', allow=[argparse.Namespace])
    assert 'allow' not in str(refusal.value)
    with pytest.raises(ValueError, match='allow takes classes'):
        checkpoint.read(tmp_path / 'evil.pth', allow=[os.system])


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04 cut short', b'not a checkpoint', pickle.dumps([1, 2])])
def test_broken_files_are_named(tmp_path, content):
    path = tmp_path / 'broken.pth'
    path.write_bytes(content)
    with pytest.raises(InputError, match=r'broken\.pth'):
        checkpoint.select_weights(checkpoint.read(path))


def test_other_files_are_refused_without_torchs_advice(tmp_path):
    # torch advises to read them with weights_only=False, which may run what they hold
    script = torch.jit.trace(nn.Conv2d(1, 1, 3), torch.rand(1, 1, 8, 8))
    torch.jit.save(script, tmp_path / 'script.pth')
    (tmp_path / 'image.pth').write_bytes(b'\x89PNG\r\n' + bytes(range(256)))
    (tmp_path / 'text.pth').write_text('not a checkpoint')
    (tmp_path / 'pickled.pth').write_bytes(pickle.dumps({'weights': [1, 2], 'of': object}))
    for path in tmp_path.iterdir():
        with pytest.raises(InputError) as refusal:
            checkpoint.read(path)
        assert 'weights_only' not in str(refusal.value), path
        assert '\n' not in str(refusal.value), path


def test_truncation_anywhere_is_noticed(tmp_path):
    path = tmp_path / 'net.pth'
    checkpoint.write(path, {'params': nn.Conv2d(8, 8, 3).state_dict()})
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match='not a complete checkpoint'):
            checkpoint.read(path)


def test_no_random_damage_goes_unnoticed_that_changes_a_number(tmp_path):
    for path in write_files(tmp_path):
        found = outcomes(path, 40, seed=0)
        assert found['refused'] > 0.7 * 40, path.name
        assert found['unnoticed'] == 0, path.name


def test_a_weight_with_a_flipped_bit_is_named_and_resuming_skips_it(tmp_path, caplog):
    states, models = tmp_path / 'training_states', tmp_path / 'models'
    for iteration in (8, 16, 24):
        checkpoint.write(states / f'{iteration}.state', {'iter': iteration, 'momentum': torch.full((99,), 0.3)})
        checkpoint.write(models / f'net_g_{iteration}.pth', {'params': {'w': torch.full((99,), 0.7)}})
    for path, value in ((states / '24.state', 0.3), (models / 'net_g_16.pth', 0.7)):
        numbers, whole = torch.full((99,), value).numpy().tobytes(), path.read_bytes()
        start = whole.index(numbers)
        path.write_bytes(whole[: start + 9] + bytes([whole[start + 9] ^ 4]) + whole[start + 10 :])
        torch.load(path, weights_only=True)  # the control: torch reads other numbers without a word
        with pytest.raises(InputError, match=rf"{path.name}: a damaged file: the record 'archive/data/0' differs"):
            checkpoint.read(path)
    assert checkpoint.last_complete_state(states, models, ['net_g']).name == '8.state'
    skipped = re.findall(r'Skipping an unusable checkpoint: \S*/(\S+): a damaged', caplog.text)
    assert skipped == ['24.state', 'net_g_16.pth']


def test_a_failed_write_leaves_the_older_file_and_nothing_else(tmp_path):
    path = tmp_path / 'net.pth'
    checkpoint.write(path, {'version': 1})

    class Unpicklable:
        def __reduce__(self):
            raise OSError('disk full')

    with pytest.raises(OSError, match='disk full'):
        checkpoint.write(path, {'params': Unpicklable()})
    assert checkpoint.read(path) == {'version': 1}
    assert [p.name for p in tmp_path.iterdir()] == ['net.pth']


def test_a_process_killed_while_writing_leaves_whole_files_only(tmp_path):
    script = (
        'import sys, torch\nfrom pathlib import Path\nfrom ne_basicsr.weights import checkpoint\n'
        'while True:\n'
        '    checkpoint.write(Path(sys.argv[1]) / "net.pth", {"params": {"w": torch.zeros(2_000_000)}})\n'
        '    print("written", flush=True)\n'
    )
    process = Forked([sys.executable, '-c', script, str(tmp_path)], stdout=subprocess.PIPE)
    for _ in range(5):
        process.stdout.readline()
    process.kill()
    process.wait()
    assert checkpoint.read(tmp_path / 'net.pth')['params']['w'].shape == (2_000_000,)


def test_the_last_complete_state_needs_its_networks(tmp_path):
    states, models = tmp_path / 'training_states', tmp_path / 'models'
    for iteration in (8, 16, 24, 100):
        checkpoint.write(states / f'{iteration}.state', {'iter': iteration})
        checkpoint.write(models / f'net_g_{iteration}.pth', {'params': {}})
    find = checkpoint.last_complete_state
    assert find(states, models, ['net_g']).name == '100.state'
    (models / 'net_g_100.pth').unlink()
    assert find(states, models, ['net_g']).name == '24.state'
    (states / '24.state').write_bytes((states / '24.state').read_bytes()[:50])
    assert find(states, models, ['net_g']).name == '16.state'
    assert find(tmp_path / 'nowhere', models, ['net_g']) is None


PAPER_KEYS = {'model.0.': 'first_layer.', 'model.2.': 'hidden_layer_list.0.', 'model.4.': 'last_layer.'}


def paper_weights(net):
    """A 3-layer DnCNN of act_mode R and without biases as Mohan et al.'s: their normalization divides by 1."""
    weights = {PAPER_KEYS[key[:8]] + key[8:]: value for key, value in net.state_dict().items()}
    ones = torch.full((4,), 1 - 1e-5, dtype=torch.float64).square()
    return weights | {'bn_layer_list.0.running_var': ones, 'bn_layer_list.0.weight': torch.ones(4)}


@pytest.mark.parametrize('container', [None, 'model_state', 'params', 'state_dict', 'model'])
@pytest.mark.parametrize('name', ['DnCNN', 'DnCNNWNE'])
def test_other_layouts_are_converted_for_plain_and_wrapped_networks(tmp_path, caplog, container, name):
    net, other = dncnn(act_mode='R', bias=False), dncnn(name, act_mode='R', bias=False)
    weights = {f'module.{key}': value for key, value in paper_weights(net).items()}
    torch.save({container: weights, 'epoch': 3} if container else weights, tmp_path / 'paper.pt')
    with caplog.at_level(logging.INFO, 'basicsr'):
        checkpoint.load_network(other, tmp_path / 'paper.pt')
    assert "Recognised Mohan et al.'s BF-DnCNN: DnCNN(num_in_ch=1" in caplog.text
    assert ('trained without the wrapper' in caplog.text) == (name == 'DnCNNWNE')
    torch.testing.assert_close(list(other.parameters()), list(net.parameters()))


def test_the_papers_checkpoint_goes_to_the_network_that_is_asked_for(tmp_path, caplog):
    net = dncnn(act_mode='R', bias=False)
    held = {f'model.{key}': value for key, value in paper_weights(net).items()}
    torch.save({'model_state': held, 'step': 1}, tmp_path / 'paper.pt')
    for name, options in (('DnCNN', {}), ('DnCNNWNE', {'correction': 1})):
        other = dncnn(name, act_mode='R', bias=False, **options)
        checkpoint.load_network(other, tmp_path / 'paper.pt')
        torch.testing.assert_close(list(other.parameters()), list(net.parameters()))
    assert not [each for each in caplog.records if each.levelname == 'WARNING']
    checkpoint.load_network(dncnn('DnCNNWNE', act_mode='R', bias=False), tmp_path / 'paper.pt')
    assert 'correction=1 in the file, 0 here' in caplog.text
    (tmp_path / 'config.json').write_text('{"model_wrapper_mode": "norm-equiv"}')
    checkpoint.load_network(dncnn(act_mode='R', bias=False), tmp_path / 'paper.pt')
    assert 'its config.json says WNE, here it is no wrapper' in caplog.text


def test_a_misfit_says_what_the_file_holds_and_what_was_asked_for(tmp_path):
    torch.save(dncnn(num_layers=5, act_mode='R').state_dict(), tmp_path / 'net.pth')
    for name in ('DnCNN', 'DnCNNWNE'):
        with pytest.raises(InputError, match=r'holds DnCNN\(num_layers=5, act_mode=R\), the network') as error:
            checkpoint.load_network(dncnn(name), tmp_path / 'net.pth')
        assert 'the network asked for is DnCNN(num_layers=3, act_mode=BR)' in str(error.value)
    with pytest.raises(InputError, match=r'do not fit Restormer; the file holds DnCNN\(num_in_ch=1, .*; \d+ missing'):
        checkpoint.load_network(build_network({'type': 'Restormer', 'dim': 8}), tmp_path / 'net.pth')


@pytest.mark.parametrize(
    ('held', 'asked', 'difference'),
    [
        ({'type': 'DnCNNWNE'}, {'type': 'DnCNNWNE'}, None),
        ({'type': 'DnCNNWNE'}, {'type': 'WNE', 'backbone': {'type': 'DnCNN'}}, None),
        ({'type': 'DnCNN'}, {'type': 'DnCNNWNE'}, None),  # said otherwise: trained without the wrapper
        ({'type': 'DnCNNWNE', 'correction': 1}, {'type': 'DnCNNWNE'}, 'correction=1 in the file, 0 here'),
        ({'type': 'DnCNNWNE'}, {'type': 'DnCNNWNE', 'prediction': 'residual'}, 'prediction=direct in the file, resid'),
        ({'type': 'DnCNNWNE', 'target': {'mean': 0}}, {'type': 'DnCNNWNE'}, None),
        (
            {'type': 'DnCNNWNE'},
            {'type': 'DnCNNWNE', 'target': {'mean': 0.4}},
            'mean=0, scale=1) in the file, Target(me',
        ),
        ({'type': 'DnCNNWNE', 'statistics': 'min_max'}, {'type': 'DnCNNWNE'}, 'min_max in the file, mean_std here'),
        ({'type': 'WSE', 'backbone': {'type': 'DnCNN'}}, {'type': 'DnCNNWNE'}, 'WSE in the file, WNE here'),
        ({'type': 'FDnCNN', 'mode': 'norm-equiv'}, {'type': 'FDnCNN', 'mode': 'scale-equiv'}, 'mode=norm-equiv in the'),
    ],
)
def test_options_without_keys_are_compared(tmp_path, caplog, held, asked, difference):
    checkpoint.save_network(tmp_path / 'net.pth', {'params': build_network(held)}, {'network_g': held})
    checkpoint.load_network(build_network(asked), tmp_path / 'net.pth')
    warned = [each.getMessage() for each in caplog.records if each.levelname == 'WARNING']
    assert any(difference in line for line in warned) if difference else not warned


@pytest.mark.parametrize('held', [{}, {'bn_eps': 1e-5}])
@pytest.mark.parametrize('asked', [{}, {'bn_eps': 1e-5}])
@pytest.mark.parametrize('name', ['DnCNN', 'DnCNNWNE'])
def test_weights_of_another_batchnorm_eps_load_exactly(tmp_path, caplog, held, asked, name):
    net, other = dncnn(**held).eval(), dncnn(name, **asked).eval()
    net.model[3].running_var.uniform_(1e-4, 1e-2)  # where the eps counts
    checkpoint.save_network(tmp_path / 'net.pth', {'params': net}, {'network_g': {'type': 'DnCNN'} | held})
    checkpoint.load_network(other, tmp_path / 'net.pth')
    y = torch.rand(2, 1, 9, 9)
    # float32: two roundings of a variance
    torch.testing.assert_close(getattr(other, 'backbone', other)(y), net(y), rtol=0, atol=2e-6)
    assert ('bn_eps=' in caplog.text) == (held != asked)


def test_weights_that_are_not_finite_are_named(tmp_path):
    net = dncnn()
    with torch.no_grad():
        net.model[0].weight[0] = float('nan')
    torch.save(net.state_dict(), tmp_path / 'net.pth')
    with pytest.raises(InputError, match=r'1 of its 11 tensors hold NaN or infinity \(model.0.weight\)'):
        checkpoint.load_network(dncnn(), tmp_path / 'net.pth')


def test_swinir_of_another_training_size_fits(tmp_path):
    options = {'type': 'SwinIR', 'embed_dim': 8, 'depths': [2], 'num_heads': [2], 'window_size': 4, 'upscale': 1}
    large, small = build_network(options | {'img_size': 16}), build_network(options | {'img_size': 8})
    torch.save(large.state_dict(), tmp_path / 'swinir.pth')
    checkpoint.load_network(small, tmp_path / 'swinir.pth')
    torch.testing.assert_close(list(small.parameters()), list(large.parameters()))


def test_public_weights_load_into_plain_and_wrapped(shared):
    for name in ('DnCNN', 'DnCNNWNE'):
        net = build_network({'type': name, 'num_layers': 17, 'act_mode': 'R'})
        checkpoint.load_network(net, shared / 'weights' / 'kair_dncnn_25.pth')
