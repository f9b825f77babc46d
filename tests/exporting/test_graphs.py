"""Exported graphs are the network: at sizes other than the traced one, and as equivariant as it is."""

import pytest
import torch

from ne_basicsr import certificate, checkpoint
from ne_basicsr.archs.backbone import build_arch
from ne_basicsr.archs.zero_shot_arch import ZeroShot
from ne_basicsr.certificate.request import randomize
from ne_basicsr.cli import main
from ne_basicsr.exporting import graphs, swinir
from ne_basicsr.pretrained import any_size

DNCNN = {'num_in_ch': 1, 'num_out_ch': 1, 'num_feat': 8, 'num_layers': 4}
SWINIR = {'img_size': 16, 'window_size': 4, 'in_chans': 1, 'depths': [2], 'embed_dim': 4, 'num_heads': [2]}
SWINIR |= {'mlp_ratio': 2.0, 'upsampler': '', 'upscale': 1, 'img_range': 1.0, 'resi_connection': '1conv'}
RESTORMER = {'inp_channels': 1, 'out_channels': 1, 'dim': 2, 'num_blocks': [1, 1, 1, 1], 'num_refinement_blocks': 1}
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


def network_of(name, options):
    network = build_arch({'type': name, **options})
    randomize(network)
    return any_size(network).eval()


@pytest.mark.parametrize('name', NETWORKS)
def test_onnx_is_the_network_at_any_size(name, tmp_path):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    network = network_of(name, NETWORKS[name])
    path = tmp_path / 'net.onnx'
    graphs.write_onnx(graphs.trace(network, 1), path, 'about it')
    agreements = graphs.compare(path, network, 1)
    assert {each.shape[0] for each in agreements} >= {1, 3}
    assert all(each.shape[2:] not in {graphs.TRACED[1:]} or each.shape[0] != graphs.TRACED[0] for each in agreements)
    assert max(each.difference for each in agreements) < 2e-5
    subject = certificate.find_subject(str(path), dtypes='float32')
    found = certificate.certify(subject.network, subject.images(None), dtypes=subject.dtypes)
    assert certificate.judge(found).passed == (name != 'DnCNN')


@pytest.mark.parametrize('name', ['DnCNNWNE', 'SwinIRWNE'])
def test_programs_are_the_network_at_any_size(name, tmp_path):
    network = network_of(name, NETWORKS[name])
    graphs.write_program(graphs.trace(network, 1), tmp_path / 'net.pt2')
    assert max(each.difference for each in graphs.compare(tmp_path / 'net.pt2', network, 1)) < 2e-5


def test_a_zero_shot_network_is_exported_with_its_estimates(tmp_path):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    network = ZeroShot(network_of('DnCNN', DNCNN)).eval()
    graphs.write_onnx(graphs.trace(network, 1), tmp_path / 'net.onnx')
    assert max(each.difference for each in graphs.compare(tmp_path / 'net.onnx', network, 1)) < 1e-4


def test_a_non_blind_network_takes_its_noise_level(tmp_path):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    network = network_of('FDnCNNWNE', {'num_feat': 8, 'num_layers': 3, 'blind': False})
    graphs.write_onnx(graphs.trace(network, 1, needs_sigma=True), tmp_path / 'net.onnx')
    graphs.compare(tmp_path / 'net.onnx', network, 1, needs_sigma=True)


def test_another_network_is_not_taken_for_the_exported_one(tmp_path):
    network = network_of('DnCNNWNE', DNCNN)
    graphs.write_program(graphs.trace(network, 1), tmp_path / 'net.pt2')
    with torch.no_grad():
        next(network.parameters()).add_(0.01)
    with pytest.raises(graphs.InputError, match=r'net\.pt2: differs from the network by'):
        graphs.compare(tmp_path / 'net.pt2', network, 1)


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

    with pytest.raises(graphs.InputError, match='Looks cannot be exported: its code depends on the image'):
        graphs.trace(Looks(), 1)


def test_a_network_of_one_size_is_refused():
    class OneSize(torch.nn.Module):
        def forward(self, y):
            return y @ torch.eye(graphs.TRACED[2])

    with pytest.raises(graphs.InputError, match=r'OneSize cannot be exported .*fixes the width'):
        graphs.trace(OneSize(), 1)


def test_the_command(tmp_path, capsys):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    network = build_arch({'type': 'DnCNNWNE', **DNCNN})
    randomize(network)
    checkpoint.save_network(tmp_path / 'net.pth', {'params': network}, {'network_g': {'type': 'DnCNNWNE', **DNCNN}})
    assert main(['export', str(tmp_path / 'net.pth'), '-o', str(tmp_path / 'net.onnx')]) == 0
    out = capsys.readouterr().out
    assert 'net.onnx' in out
    assert 'at 3x1x37x53: ' in out
    assert main(['check', str(tmp_path / 'net.onnx')]) == 0
    assert 'exported, float32, anyx1xanyxany' in capsys.readouterr().out
