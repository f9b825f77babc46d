"""Exported graphs are the network: at sizes other than the traced one, and as equivariant as it is."""

import pytest
import torch
from conftest import needs_export

import ne_basicsr
from ne_basicsr.archs import zero_shot_arch
from ne_basicsr.archs.backbone import build_arch
from ne_basicsr.archs.network_inputs import Facts
from ne_basicsr.archs.zero_shot_arch import ZeroShot
from ne_basicsr.cli.main import main
from ne_basicsr.evaluation import check
from ne_basicsr.inference.denoiser import as_denoiser
from ne_basicsr.inference.exporting import graphs, swinir
from ne_basicsr.inference.opening import randomize
from ne_basicsr.weights import checkpoint

DNCNN = {'num_in_ch': 1, 'num_out_ch': 1, 'num_feat': 8, 'num_layers': 4}
SWINIR = {'img_size': 16, 'window_size': 4, 'in_chans': 1, 'depths': [2], 'embed_dim': 4, 'num_heads': [2]}
SWINIR |= {'mlp_ratio': 2.0, 'upsampler': '', 'upscale': 1, 'img_range': 1.0, 'resi_connection': '1conv'}
# one block, at the last scale: to write more of the same takes most of the time
RESTORMER = {'inp_channels': 1, 'out_channels': 1, 'dim': 2, 'num_blocks': [0, 0, 0, 1], 'num_refinement_blocks': 0}
RESTORMER |= {'heads': [1, 1, 1, 1]}
DRUNET = {'num_feats': [4, 8], 'num_blocks': 1}
NETWORKS = {
    'DnCNNWNE': DNCNN,
    'SwinIRWNE': SWINIR,
    'RestormerWNE': RESTORMER,
    'DRUNetWNE': DRUNET,
    'FDnCNN': {'num_feat': 8, 'num_layers': 4, 'mode': 'norm-equiv'},
    'DnCNN': DNCNN,
}
TOLD = {'num_feat': 8, 'num_layers': 3, 'blind': False, 'estimate': True}


pytestmark = needs_export


def network_of(name, options):
    network = build_arch({'type': name, **options})
    randomize(network)
    return as_denoiser(network).eval()


@pytest.mark.parametrize('name', NETWORKS)
def test_onnx_is_the_network_at_any_size(name, tmp_path):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    network = network_of(name, NETWORKS[name])
    path = tmp_path / 'net.onnx'
    graphs.write_onnx(graphs.trace(network), path, 'about it')
    agreements = graphs.compare(path, network)
    assert {each.shape[0] for each in agreements} >= {1, 3}
    assert all(each.shape[2:] not in {graphs.TRACED[1:]} or each.shape[0] != graphs.TRACED[0] for each in agreements)
    assert max(each.difference for each in agreements) < 2e-5
    subject = check.find_subject(str(path), dtypes=['float32'])
    found = check.certify(subject.network, subject.images(None), dtypes=subject.dtypes)
    assert check.judge(found).passed == (name != 'DnCNN')


@pytest.mark.parametrize('name', ['FDnCNNWNE', 'SwinIRWNE'])
def test_programs_are_the_network_at_any_size(name, tmp_path):
    network = network_of(name, NETWORKS.get(name, TOLD))
    graphs.write_program(graphs.trace(network), tmp_path / 'net.pt2')
    assert max(each.difference for each in graphs.compare(tmp_path / 'net.pt2', network)) < 2e-5


def test_the_comparison_sees_the_first_estimate_of_a_zero_shot_network(tmp_path, monkeypatch):
    network = ZeroShot(network_of('DnCNN', DNCNN), sigma255=5).eval()
    for sigma255 in (5, 25, 50):
        shares = []
        for *size, noise255 in graphs.CHECKED:
            (y,) = graphs._inputs(as_denoiser(network), size, noise255 / 255)
            shares.append(zero_shot_arch.share_and_gain(sigma255 / 255, zero_shot_arch.measure(y))[0].max())
        assert max(shares) > 0.5
    with monkeypatch.context() as patch:
        patch.setattr(zero_shot_arch, 'dct_shrink', lambda y, noise, mean: 5 * torch.ones_like(y))
        graphs.write_program(graphs.trace(network), tmp_path / 'net.pt2')
    with pytest.raises(graphs.InputError, match=r'net\.pt2: differs from the network by'):
        graphs.compare(tmp_path / 'net.pt2', network)


BLOCKS = {'statistics': 'mean_noise', 'target': {'mean': 0.45, 'sigma255': 25}}


@pytest.mark.parametrize(('options', 'least'), [({}, 1), (BLOCKS, 8)])
def test_a_graph_takes_images_of_its_least_size(options, least, tmp_path):
    network = network_of('DnCNNWNE', DNCNN | options)
    program = graphs.trace(network)
    assert graphs.least_side(program) == least
    graphs.write_program(program, tmp_path / 'net.pt2')
    exported = graphs.open_exported(tmp_path / 'net.pt2', 'cpu', trusted=True)
    with torch.no_grad():
        for shape in ((1, 1, least, least), (2, 1, least, 19), (1, 1, 19, least)):
            y = torch.rand(shape)
            torch.testing.assert_close(exported.network(y), network(y), rtol=1e-5, atol=1e-5)
        for shape in ((1, 1, least - 1, 19), (1, 1, 19, least - 1)) if least > 1 else ((1, 2, 19, 19),):
            with pytest.raises(RuntimeError):
                exported.network(torch.rand(shape))


def test_a_non_blind_network_takes_its_noise_level(tmp_path):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    network = network_of('FDnCNNWNE', {'num_feat': 8, 'num_layers': 3, 'blind': False})
    graphs.write_onnx(graphs.trace(network), tmp_path / 'net.onnx')
    graphs.compare(tmp_path / 'net.onnx', network)


def test_another_network_is_not_taken_for_the_exported_one(tmp_path):
    network = network_of('DnCNNWNE', DNCNN)
    graphs.write_program(graphs.trace(network), tmp_path / 'net.pt2')
    with torch.no_grad():
        next(network.parameters()).add_(0.01)
    with pytest.raises(graphs.InputError, match=r'net\.pt2: differs from the network by'):
        graphs.compare(tmp_path / 'net.pt2', network)


@pytest.mark.parametrize('size', [(16, 24), (8, 8), (40, 16)])
@pytest.mark.parametrize('shift', [0, 4])
def test_attention_masks_are_basicsrs(size, shift):
    from basicsr.archs.swinir_arch import SwinTransformerBlock

    block = SwinTransformerBlock(4, (32, 32), 1, window_size=8, shift_size=shift)
    expected = block.calculate_mask(size)
    assert torch.equal(swinir.attention_mask(block, size).expand_as(expected), expected)


def test_swinir_is_itself_again_after_an_export():
    network = network_of('SwinIRWNE', SWINIR)
    y = torch.rand(1, 1, 24, 40)
    with torch.no_grad():
        before = network(y)
        with swinir.any_size(network):
            assert torch.allclose(network(y), before, atol=1e-6)
        assert torch.equal(network(y), before)


def test_a_network_that_looks_at_values_cannot_be_exported():
    class Looks(torch.nn.Module):
        def forward(self, y):
            return y if y.max() > 1 else -y

    with pytest.raises(
        graphs.InputError, match='Looks cannot be exported: its code depends on the values of the image'
    ):
        graphs.trace(Looks())


def test_a_network_of_one_size_is_refused():
    class OneSize(torch.nn.Module):
        facts = Facts(in_channels=1, out_channels=1)

        def forward(self, y):
            return y @ torch.eye(graphs.TRACED[2])

    with pytest.raises(graphs.InputError, match=r'OneSize cannot be exported .*fixes the width'):
        graphs.trace(OneSize())


def saved(path, options):
    network = build_arch(options)
    randomize(network)
    checkpoint.save_network(path, {'params': network}, {'network_g': options})
    return str(path)


def test_the_command(tmp_path, capsys):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    net = saved(tmp_path / 'net.pth', {'type': 'DnCNNWNE', **DNCNN})
    assert main(['export', net, '-o', str(tmp_path / 'net.onnx')]) == 0
    out = capsys.readouterr().out
    assert 'net.onnx' in out
    assert 'at 3x1x37x53: ' in out
    assert 'or more' not in out
    assert main(['check', str(tmp_path / 'net.onnx')]) == 0
    assert 'exported, float32, anyx1xanyxany' in capsys.readouterr().out


def test_a_zero_shot_network_is_exported_with_its_estimates(tmp_path, monkeypatch, capsys):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    import onnx

    monkeypatch.chdir(tmp_path)
    saved(tmp_path / 'net.pth', {'type': 'DnCNN', **DNCNN})
    assert main(['export', 'net.pth@25+wne', '--sigma255', '15', '-o', 'new/net.onnx']) == 2
    assert 'net.pth@25+wne and --training-sigma255 15 give different training levels' in capsys.readouterr().err
    assert main(['export', 'net.pth', '--wne', '--sigma255', '15', '-o', 'new/net.onnx']) == 0
    about = onnx.load('new/net.onnx').doc_string
    assert about.endswith('wrapped without training; for images of at least 8x8 pixels')
    assert about in capsys.readouterr().out
    y = torch.rand(1, 1, 8, 8)
    given = graphs.open_exported(tmp_path / 'new' / 'net.onnx', 'cpu', trusted=False).network(y)
    with torch.no_grad():
        expected = [ne_basicsr.load('net.pth', wrap='wne', sigma=sigma255 / 255)(y) for sigma255 in (15, 25)]
    torch.testing.assert_close(given, expected[0], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(given, expected[1], atol=1e-3)


def test_networks_of_any_number_of_channels_are_exported(tmp_path, capsys):
    net = saved(tmp_path / 'net.pth', {'type': 'DnCNNWNE', **DNCNN, 'num_in_ch': 2, 'num_out_ch': 2})
    assert main(['export', net, '-o', str(tmp_path / 'net.pt2')]) == 0
    assert 'at 3x2x37x53: ' in capsys.readouterr().out


def test_an_older_file_stays_where_the_new_one_differs(tmp_path, monkeypatch, capsys):
    net = saved(tmp_path / 'net.pth', {'type': 'DnCNNWNE', **DNCNN})
    path = tmp_path / 'old.pt2'
    path.write_bytes(b'old')
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(graphs, 'TOLERANCE', -1.0)
    assert main(['export', net, '-o', str(path)]) == 2
    *steps, line = capsys.readouterr().err.strip().splitlines()
    assert steps == [
        'export: tracing the network ...',
        f'export: writing {path} ...',
        'export: comparing it with the network ...',
    ]
    assert line.startswith(f'basicsr: {path}: differs from the network by')
    assert path.read_bytes() == b'old'
    assert sorted(tmp_path.iterdir()) == before
    monkeypatch.undo()
    assert main(['export', net, '-o', str(path)]) == 0
    assert path.read_bytes() != b'old'
    assert sorted(tmp_path.iterdir()) == before
