import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from basicsr.archs import build_network
from torch import nn

from ne_basicsr import checkpoint
from ne_basicsr.errors import InputError

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


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04 cut short', b'not a checkpoint', pickle.dumps([1, 2])])
def test_broken_files_are_named(tmp_path, content):
    path = tmp_path / 'broken.pth'
    path.write_bytes(content)
    with pytest.raises(InputError, match=r'broken\.pth'):
        checkpoint.select_weights(checkpoint.read(path))


def test_truncation_anywhere_is_noticed(tmp_path):
    path = tmp_path / 'net.pth'
    checkpoint.write(path, {'params': nn.Conv2d(8, 8, 3).state_dict()})
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match='not a complete checkpoint'):
            checkpoint.read(path)


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
        'import sys, torch\nfrom pathlib import Path\nfrom ne_basicsr import checkpoint\n'
        'while True:\n'
        '    checkpoint.write(Path(sys.argv[1]) / "net.pth", {"params": {"w": torch.zeros(2_000_000)}})\n'
        '    print("written", flush=True)\n'
    )
    process = subprocess.Popen([sys.executable, '-c', script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
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


def test_public_weights_load_into_plain_and_wrapped(shared):
    for name in ('DnCNN', 'DnCNNWNE'):
        net = build_network({'type': name, 'num_layers': 17, 'act_mode': 'R'})
        checkpoint.load_network(net, shared / 'weights' / 'kair_dncnn_25.pth')
