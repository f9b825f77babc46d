"""Weights in other files are the same weights, and know as much about their network."""

import json

import pytest
import safetensors
import torch
from conftest import needs_export
from torch import nn

import ne_basicsr
from ne_basicsr.archs.backbone import build_arch
from ne_basicsr.cli.main import main
from ne_basicsr.inference.exporting import graphs
from ne_basicsr.inference.opening import randomize
from ne_basicsr.weights import checkpoint

BACKBONE = {'num_in_ch': 1, 'num_out_ch': 1, 'num_feat': 4, 'num_layers': 3, 'act_mode': 'R'}
TARGET = {'mean': 0.45, 'scale': 0.25}
FORMS = {
    'flat': {'type': 'DnCNNWNE', **BACKBONE, 'target': TARGET},
    'nested': {'type': 'WNE', 'target': TARGET, 'backbone': {'type': 'DnCNN', **BACKBONE}},
    'scale': {'type': 'WSE', 'backbone': {'type': 'DnCNN', **BACKBONE}},
}


@pytest.fixture(params=FORMS)
def wrapped(request, tmp_path) -> tuple[nn.Module, str]:
    options = FORMS[request.param]
    network = build_arch(options)
    randomize(network)
    path = tmp_path / 'net.pth'
    train = {'datasets': {'train': {'noise': {'type': 'gaussian', 'sigma255': 25}}}}
    checkpoint.save_network(path, {'params': network}, {'network_g': options, **train})
    return network.eval(), str(path)


def test_safetensors_hold_weights_and_what_describes_them(wrapped, tmp_path, capsys):
    network, path = wrapped
    target = tmp_path / 'net.safetensors'
    assert main(['export', path, '-o', str(target)]) == 0
    y = torch.rand(2, 1, 9, 11)
    with torch.no_grad():
        assert torch.equal(ne_basicsr.load(target)(y), network(y))
    with safetensors.safe_open(target, 'pt') as file:
        held = json.loads(file.metadata()['ne_basicsr'])
    assert held['noise']['noise'] == {'type': 'gaussian', 'sigma255': 25}
    assert set(safetensors.safe_open(target, 'pt').keys()) == set(network.state_dict())


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_unwrapped_is_the_backbone_and_rewrapped_the_whole(wrapped, suffix, tmp_path, capsys):
    network, path = wrapped
    plain, back = tmp_path / f'plain{suffix}', tmp_path / f'back{suffix}'
    assert main(['export', path, '--unwrap', '-o', str(plain)]) == 0
    loaded = ne_basicsr.load(plain)
    assert type(loaded.network).__name__ == 'DnCNN'
    y = torch.rand(1, 1, 9, 11)
    with torch.no_grad():
        assert torch.equal(loaded(y), network.backbone(y))
        assert not torch.allclose(loaded(y), network(y), atol=1e-3)
    assert main(['export', str(plain), '--rewrap', '-o', str(back)]) == 0
    before, after = checkpoint.read(path), checkpoint.read(back)
    assert before[checkpoint.METADATA] == after[checkpoint.METADATA]
    assert before['params'].keys() == after['params'].keys()
    assert all(torch.equal(before['params'][key], after['params'][key]) for key in before['params'])


@pytest.mark.parametrize('form', ['plain', 'flat', 'nested'])
@torch.no_grad()
def test_programs_that_read_keys_alone_get_the_network_of_another_batchnorm_eps(form, tmp_path, capsys):
    inner = BACKBONE | {'act_mode': 'BR', 'bn_eps': 1e-5}
    options = {
        'plain': {'type': 'DnCNN', **inner},
        'flat': {'type': 'DnCNNWNE', **inner},
        'nested': {'type': 'WNE', 'backbone': {'type': 'DnCNN', **inner}},
    }[form]
    network = build_arch(options).eval()
    randomize(network)
    bare = getattr(network, 'backbone', network)
    bare.model[3].running_var.uniform_(1e-4, 1e-2)  # where the eps counts
    checkpoint.save_network(tmp_path / 'net.pth', {'params': network}, {'network_g': options})
    unwrap = ['--unwrap'] if form != 'plain' else []
    assert main(['export', str(tmp_path / 'net.pth'), *unwrap, '-o', str(tmp_path / 'out.pth')]) == 0
    other = build_arch({'type': 'DnCNN', **inner, 'bn_eps': 1e-4}).eval()  # as KAIR and spandrel build it
    y = torch.rand(1, 1, 9, 11)
    other.load_state_dict(checkpoint.read(tmp_path / 'out.pth')['params'])
    torch.testing.assert_close(other(y), bare(y), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ne_basicsr.load(tmp_path / 'out.pth')(y), bare(y), rtol=1e-5, atol=1e-5)
    other.load_state_dict(bare.state_dict())  # the weights as they are do something else
    assert (other(y) - bare(y)).abs().max() > 1e-3


def test_half_the_file_is_nearly_the_network(wrapped, tmp_path, capsys):
    network, path = wrapped
    assert main(['export', path, '--half', '-o', str(tmp_path / 'half.pth')]) == 0
    assert {value.dtype for value in checkpoint.read(tmp_path / 'half.pth')['params'].values()} == {torch.float16}
    y = torch.rand(1, 1, 9, 11)
    with torch.no_grad():
        result = ne_basicsr.load(tmp_path / 'half.pth')(y)
        assert result.dtype == torch.float32
        assert 0 < (result - network(y)).abs().max() < 1e-2 * network(y).abs().max()


def test_other_toolboxes_weights_become_this_packages(tmp_path, capsys):
    network = build_arch({'type': 'DnCNN', **BACKBONE})
    randomize(network)
    torch.save(network.state_dict(), tmp_path / 'bare.pth')
    assert main(['export', str(tmp_path / 'bare.pth'), '-o', str(tmp_path / 'net.safetensors')]) == 0
    y = torch.rand(1, 1, 9, 11)
    with torch.no_grad():
        assert torch.equal(ne_basicsr.load(tmp_path / 'net.safetensors')(y), network.eval()(y))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['net.pth', '-o', 'net.tflite'], "-o must end in .onnx, .pt2, .pth, .safetensors; got 'net.tflite'"),
        (['net.pth', '-o', 'net.pth'], 'is the input file; choose another name'),
        (
            ['net.pth', '-o', 'a.onnx', '--unwrap'],
            '--unwrap, --rewrap and --half need a file of weights (.pth or .safetensors)',
        ),
        (['net.pth', '-o', 'a.pth', '--sigma255', '25'], 'add --wne'),
        (['net.pth', '-o', 'a.pth', '--wne'], '--wne, +wne, +x8 and @LEVEL do not change the weights'),
        (['net.pth+wne', '-o', 'a.pth'], '--wne, +wne, +x8 and @LEVEL do not change the weights'),
        (['net.pth@25', '-o', 'a.safetensors'], '--wne, +wne, +x8 and @LEVEL do not change the weights'),
        (['net.pth', '-o', 'a.pt2', '--wne', '--sigma255', '0'], 'a noise level above 0 in 8-bit units; got 0'),
        (['net.pth', '-o', 'a.pt2', '--wne', '--sigma255=-5'], 'a noise level above 0 in 8-bit units; got -5'),
        (['net.pth@25+wne', '-o', 'a.pt2', '--sigma255', 'nan'], 'a noise level above 0 in 8-bit units; got nan'),
        (['net.pth', '-o', 'folder.pth'], 'export: -o must be a file; folder.pth is a folder'),
        (['net.pth', '-o', 'net.pth/a.pth'], 'basicsr: net.pth/a.pth: '),
        pytest.param(['net.pth', '-o', 'net.pth/a.pt2'], 'basicsr: net.pth/a.pt2: ', marks=needs_export),
        (
            ['big.pth', '-o', 'a.pth', '--half'],
            'big.pth: --half supports values up to 65504; model.0.weight has 100000',
        ),
        (['net.pth', '-o', 'a.pth', '--unwrap'], 'net.pth: --unwrap needs a network with a wrapper, such as DnCNNWNE'),
        (['net.pth', '-o', 'a.pth', '--rewrap'], 'net.pth: --rewrap needs a file that --unwrap wrote'),
        (['none.pth', '-o', 'a.pth'], 'none.pth: no such checkpoint file'),
        (['cut.safetensors', '-o', 'a.pth'], 'cut.safetensors: not a complete safetensors file'),
    ],
)
def test_wrong_input_is_one_line_and_code_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    network = build_arch({'type': 'DnCNN', **BACKBONE})
    torch.save({'params': network.state_dict()}, 'net.pth')
    big = {key: 1e5 * torch.ones_like(value) for key, value in network.state_dict().items()}
    torch.save({'params': big}, 'big.pth')
    (tmp_path / 'folder.pth').mkdir()
    assert main(['export', 'net.pth', '-o', 'whole.safetensors']) == 0
    data = (tmp_path / 'whole.safetensors').read_bytes()
    (tmp_path / 'cut.safetensors').write_bytes(data[:-7])
    capsys.readouterr()
    assert main(['export', *arguments]) == 2
    *steps, line = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert all(step.startswith('export: ') for step in steps)
    assert not list(tmp_path.glob('a.*'))


def test_a_torch_that_is_too_old_to_export_graphs_is_told(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(graphs.torch, '__version__', '2.6.0+cu124')
    assert main(['export', 'gray', '-o', str(tmp_path / 'net.onnx')]) == 2
    assert 'exporting to .onnx and .pt2 needs torch 2.11 or newer; this is 2.6.0+cu124' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
