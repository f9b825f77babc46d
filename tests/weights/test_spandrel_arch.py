"""What spandrel knows is a backbone like any other; without spandrel one line says what to install."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from basicsr.archs import build_network
from basicsr.archs.srvgg_arch import SRVGGNetCompact
from basicsr.utils.registry import ARCH_REGISTRY

import ne_basicsr
from ne_basicsr.archs.dncnn_arch import DnCNN
from ne_basicsr.archs.wne_arch import WNE
from ne_basicsr.cli.main import main
from ne_basicsr.inference.opening import randomize
from ne_basicsr.ops.equivariance import ne_defect
from ne_basicsr.utils.errors import InputError
from ne_basicsr.weights import checkpoint
from ne_basicsr.weights.spandrel_arch import Spandrel, with_weights

needs_spandrel = pytest.mark.skipif(importlib.util.find_spec('spandrel') is None, reason='needs spandrel')
KINDS = ('compact', 'hat', 'drunet', 'dncnn')


@pytest.fixture
def file_of(tmp_path):
    """Write the weights of a small network from elsewhere; returns the file and the network."""

    def write(kind):
        network = made(kind)
        randomize(network)
        path = tmp_path / f'{kind}.pth'
        torch.save({'params': network.state_dict()}, path)
        return str(path), network.eval()

    return write


def made(kind):
    if kind == 'compact':  # doubles the size
        return SRVGGNetCompact(3, 3, num_feat=8, num_conv=2, upscale=2)
    if kind == 'dncnn':  # with BatchNorm
        return DnCNN(num_feat=4, num_layers=8)
    if kind == 'hat':  # has windows, which spandrel pads for
        from spandrel.architectures.HAT import HAT

        small = {'depths': [2], 'num_heads': [2], 'embed_dim': 8, 'window_size': 16, 'mlp_ratio': 2, 'num_feat': 8}
        return HAT(img_size=32, in_chans=3, upscale=2, upsampler='pixelshuffle', squeeze_factor=4, **small)
    from spandrel.architectures.DRUNet import DRUNet  # non-blind: spandrel makes the noise map, for one image

    return DRUNet(in_nc=2, out_nc=1, nc=[4, 8, 8, 8], nb=4)


def built(path, wrapped=True, **options):
    return build_network({'type': 'SpandrelWNE' if wrapped else 'Spandrel', 'weights': path, **options}).eval()


@needs_spandrel
@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_in_wne_it_is_equivariant_and_bare_it_is_not(kind, dtype, tolerance, file_of):
    path, _ = file_of(kind)
    bare, wrapped = (built(path, each).to(dtype) for each in (False, True))
    image = torch.rand(2, bare.input_channels, 19, 22, dtype=dtype)
    assert ne_defect(wrapped, image, samples=3).max() < tolerance
    assert ne_defect(bare, image, samples=3).max() > 1e-3


@needs_spandrel
@torch.no_grad()
def test_a_file_that_only_spandrel_knows_is_loaded_and_super_resolution_is_not_wrapped(file_of):
    path, network = file_of('compact')
    loaded, y = ne_basicsr.load(path), torch.rand(1, 3, 12, 14)
    assert loaded.description.endswith('by spandrel: Spandrel()')
    torch.testing.assert_close(loaded(y), network(y), rtol=0, atol=1e-6)
    with pytest.raises(InputError, match=r'are for denoisers: .* enlarges them 2 times'):
        ne_basicsr.load(path, wrap='wne')


@needs_spandrel
@pytest.mark.parametrize('kind', ['compact', 'hat', 'dncnn'])
def test_bare_it_is_the_network_of_the_file(kind, file_of):
    path, network = file_of(kind)
    bare = built(path, wrapped=False)
    image = 3 * torch.rand(1, bare.input_channels, 16, 32) - 1  # out of [0, 1], which spandrel would clip
    with torch.no_grad():
        torch.testing.assert_close(bare(image), network(image))
    assert bare.scale == (1 if kind == 'dncnn' else 2)
    assert bare.requirements.minimum == (16 if kind == 'hat' else 0)


@needs_spandrel
@pytest.mark.parametrize('kind', KINDS)
def test_any_size_and_a_batch_gives_what_its_images_give_alone(kind, file_of):
    network = built(file_of(kind)[0], wrapped=False)
    images = torch.rand(3, network.input_channels, 5, 21)
    with torch.no_grad():
        output = network(images)
        assert network.size_multiple == (8 if kind == 'drunet' else 1)
        assert output.shape == (3, network.output_channels, 5 * network.scale, 21 * network.scale)
        torch.testing.assert_close(output, torch.cat([network(image) for image in images.split(1)]))


@needs_spandrel
@pytest.mark.parametrize('kind', KINDS)
def test_keys_are_those_of_the_file(kind, file_of):
    path, network = file_of(kind)
    bare, wrapped = (built(path, each) for each in (False, True))
    keys = list(network.state_dict())
    assert list(bare.state_dict()) == keys
    assert list(wrapped.state_dict()) == [f'backbone.{key}' for key in keys]
    for each, source in ((bare, network), (wrapped, network), (wrapped, wrapped)):
        weights = {key: value.clone() for key, value in source.state_dict().items()}
        for parameter in each.parameters():
            parameter.data.zero_()
        each.load_state_dict(weights, strict=True)
        for key, value in network.state_dict().items():
            assert torch.equal(each.state_dict()[key if each is bare else f'backbone.{key}'], value)
    with pytest.raises(RuntimeError, match='Missing key'):
        bare.load_state_dict(dict(list(network.state_dict().items())[1:]), strict=True)
    with pytest.raises(RuntimeError, match='Unexpected key'):
        bare.load_state_dict({**network.state_dict(), 'stranger': torch.zeros(1)}, strict=True)


@needs_spandrel
def test_gradients_flow_and_parameters_train(file_of):
    network = built(file_of('hat')[0]).train()
    network(torch.rand(2, 3, 20, 20)).mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@needs_spandrel
@pytest.mark.parametrize('nested', [False, True])
def test_a_checkpoint_of_it_loads(nested, file_of, tmp_path):
    path, _ = file_of('compact')
    options = {'type': 'SpandrelWNE', 'weights': path}
    if nested:
        options = {'type': 'WNE', 'correction': 1, 'backbone': {'type': 'Spandrel', 'weights': path}}
    network = build_network(options).eval()
    randomize(network)  # trained on
    for parameter in network.parameters():
        parameter.data.add_(0.01)
    checkpoint.save_network(tmp_path / 'net.pth', {'params': network}, {'network_g': options})
    image = torch.rand(1, 3, 9, 10)
    with torch.no_grad():
        assert torch.equal(ne_basicsr.load(tmp_path / 'net.pth')(image), network(image))
        os.unlink(path)  # the file that it was made from
        own = network.state_dict()
        rebuilt = build_network(with_weights(options, own)).eval()
        assert torch.equal(rebuilt(image), network(image))
        assert torch.equal(ne_basicsr.load(tmp_path / 'net.pth')(image), network(image))
    assert with_weights({'type': 'DnCNNWNE', 'num_feat': 4}, own) == {'type': 'DnCNNWNE', 'num_feat': 4}


@needs_spandrel
def test_the_command_line_says_in_one_line_what_is_wrong(tmp_path, capsys):
    (tmp_path / 'net.yml').write_text('network_g: {type: WNE, backbone: {type: Spandrel, weights: missing.pth}}')
    for description in ('{type: SpandrelWNE, weights: missing.pth}', str(tmp_path / 'net.yml')):
        assert main(['check', description]) == 2
        error = capsys.readouterr().err.strip()
        assert 'missing.pth: no such checkpoint file' in error
        assert '\n' not in error
    assert main(['check', '{type: SpandrelWNE, weigths: net.pth}']) == 2
    assert "did you mean 'weights'" in capsys.readouterr().err


@needs_spandrel
def test_wrong_files_are_explained_in_one_line(tmp_path):
    torch.save({'params': {'a.weight': torch.zeros(2, 2)}}, tmp_path / 'stranger.pth')
    torch.save([1, 2], tmp_path / 'list.pth')
    damaged = made('compact').state_dict()
    del damaged['body.2.weight']
    torch.save(damaged, tmp_path / 'damaged.pth')
    for name, reason in (
        ('stranger.pth', 'knows no network with these weights (keys a.weight'),
        ('list.pth', 'must hold a mapping of weights'),
        ('damaged.pth', 'cannot build the network of these weights'),
    ):
        with pytest.raises(InputError) as error:
            Spandrel(str(tmp_path / name))
        assert name in str(error.value)
        assert reason in str(error.value)
        assert '\n' not in str(error.value)
    with pytest.raises(InputError, match='weights is the file of a network'):
        Spandrel(3)


@needs_spandrel
def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'it_ran'),)

    for name in ('evil.pth', 'evil.ckpt', 'evil.pt'):
        torch.save({'params': made('compact').state_dict(), 'evil': Evil()}, tmp_path / name)
        with pytest.raises(InputError, match='not readable as weights alone'):
            Spandrel(str(tmp_path / name))
    assert not (tmp_path / 'it_ran').exists()
    torch.load(tmp_path / 'evil.pth', weights_only=False)  # the file is what it claims to be
    assert (tmp_path / 'it_ran').exists()


@needs_spandrel
def test_a_spandrel_that_calls_otherwise_is_one_line(file_of, monkeypatch):
    from ne_basicsr.weights import spandrel_arch

    found = spandrel_arch.recognise(path := file_of('compact')[0])
    del found._call_fn
    monkeypatch.setattr(spandrel_arch, 'recognise', lambda weights: found)
    with pytest.raises(InputError, match=r'^spandrel [\d.]+ calls its networks in a new way: pip install spandrel.+$'):
        Spandrel(path)


def test_without_spandrel_the_name_exists_and_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'spandrel', None)
    torch.save({'params': made('compact').state_dict()}, tmp_path / 'compact.pth')
    assert {'Spandrel', 'SpandrelWNE'} <= set(ARCH_REGISTRY.keys())
    for build in (
        Spandrel,
        lambda weights: built(weights),
        lambda weights: WNE({'type': 'Spandrel', 'weights': weights}),
    ):
        with pytest.raises(InputError, match=r"pip install 'ne-basicsr\[spandrel\]'") as error:
            build(str(tmp_path / 'compact.pth'))
        assert '\n' not in str(error.value)


def test_nothing_imports_the_neighbours_until_they_are_asked_for():
    code = (
        'import sys, ne_basicsr, basicsr\nfrom ne_basicsr import cli\nfrom ne_basicsr.inference import loading\n'
        "assert 'Spandrel' in basicsr.utils.registry.ARCH_REGISTRY\n"
        "assert not {'spandrel', 'deepinv'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
