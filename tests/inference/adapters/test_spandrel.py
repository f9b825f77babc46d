"""spandrel loads our files as we do; what spandrel knows is a backbone like any other."""

import copy
from contextlib import nullcontext

import pytest
import torch
from basicsr.archs import build_network
from basicsr.archs.srvgg_arch import SRVGGNetCompact

import ne_basicsr
from ne_basicsr.archs.swinir_blocks import as_in_basicsr
from ne_basicsr.archs.zero_shot_arch import ZeroShot
from ne_basicsr.cli.main import main
from ne_basicsr.inference.opening import randomize
from ne_basicsr.ops.equivariance import ne_defect
from ne_basicsr.utils.errors import InputError
from ne_basicsr.weights import checkpoint

spandrel = pytest.importorskip('spandrel')
from ne_basicsr.inference.adapters import spandrel as neighbour  # noqa: E402

DNCNN = {'num_feat': 4, 'num_layers': 4, 'act_mode': 'R'}
SWINIR = {
    'img_size': 16,
    'in_chans': 3,
    'window_size': 8,
    'depths': [2],
    'embed_dim': 8,
    'num_heads': [2],
    'mlp_ratio': 2.0,
}
COMPACT = {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_conv': 2, 'upscale': 2}
OURS = {
    'flat': {'type': 'DnCNNWNE', **DNCNN},
    'nested': {'type': 'WNE', 'backbone': {'type': 'DnCNN', **DNCNN}},
    'windows': {'type': 'SwinIRWNE', 'upscale': 1, **SWINIR},
    'larger': {'type': 'SRVGGNetCompactWNE', **COMPACT},
    'statistics': {'type': 'DnCNNWNE', 'statistics': 'min_max', **DNCNN},
    'residual': {'type': 'WNE', 'prediction': 'residual', 'correction': 1, 'backbone': {'type': 'DnCNN', **DNCNN}},
    'target': {'type': 'DnCNNWNE', 'target': {'mean': 0.45, 'scale': 0.25}, **DNCNN},
    'zero-shot': {'type': 'ZeroShot', 'sigma255': 25, 'backbone': {'type': 'DnCNN', **DNCNN}},
    'affine': {'type': 'FDnCNN', 'mode': 'norm-equiv', 'num_feat': 4, 'num_layers': 3},
    'non-blind': {'type': 'DRUNet', 'mode': 'norm-equiv', 'blind': False, 'num_feats': [4, 8], 'num_blocks': 1},
}


@pytest.fixture
def installed(monkeypatch):
    """``install()`` for one test."""
    monkeypatch.setattr(spandrel, 'MAIN_REGISTRY', spandrel.MAIN_REGISTRY.copy())
    for name in ('load_state_dict_from_file', 'load_from_state_dict'):
        monkeypatch.setattr(spandrel.ModelLoader, name, getattr(spandrel.ModelLoader, name))
    neighbour.install()
    return spandrel.ModelLoader(registry=spandrel.MAIN_REGISTRY)


def ours(name, folder, suffix='.pth'):
    """A file of this package, and the network that is in it."""
    options = OURS[name]
    network = build_network(options)
    randomize(network)
    path = folder / 'net.pth'
    checkpoint.save_network(path, {'params': network}, {'network_g': options})
    if suffix != '.pth':
        assert main(['export', str(path), '-o', str(path.with_suffix(suffix))]) == 0
    return path.with_suffix(suffix), network.eval()


def images_for(descriptor, count=1):
    return torch.rand(count, descriptor.input_channels, 19, 22)


# -- our files in spandrel ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('name', OURS)
def test_spandrel_loads_the_network_that_we_load(name, suffix, installed, tmp_path):
    path, _ = ours(name, tmp_path, suffix)
    descriptor = installed.load_from_file(path)
    network = ne_basicsr.load(path)
    image = images_for(descriptor)
    given = {'sigma': 0.1} if name == 'non-blind' else {}
    with torch.no_grad():
        expected = network(image, **given)
        assert torch.equal(descriptor.model(image, **given), expected)
        if not given:
            assert torch.equal(descriptor(image), expected.clamp(0, 1))
    assert descriptor.architecture.id == 'ne_basicsr'
    assert descriptor.input_channels == image.shape[1]
    assert descriptor.output_channels == expected.shape[1]
    assert descriptor.scale == (2 if name == 'larger' else 1)
    assert descriptor.purpose == ('SR' if name == 'larger' else 'Restoration')


def test_options_that_have_no_keys_make_a_difference(installed, tmp_path):
    path, _ = ours('statistics', tmp_path)
    described = installed.load_from_file(path)
    bare = installed.load_from_state_dict(torch.load(path)['params'])
    image = images_for(described)
    assert not torch.allclose(described.model(image), bare.model(image), atol=1e-4)


def test_contents_keep_what_they_say(installed, tmp_path):
    path, network = ours('residual', tmp_path)
    descriptor = installed.load_from_state_dict(torch.load(path))
    image = images_for(descriptor)
    with torch.no_grad():
        assert torch.equal(descriptor.model(image), network(image))


def test_a_bare_state_dict_is_taken_with_the_defaults_and_a_warning(installed, tmp_path, caplog):
    path, network = ours('flat', tmp_path)
    descriptor = installed.load_from_state_dict(torch.load(path)['params'])
    assert 'WNE with its defaults is assumed' in caplog.text
    image = images_for(descriptor)
    with torch.no_grad():
        assert torch.equal(descriptor.model(image), network(image))


def test_averaged_weights_come_first_as_for_us(installed, tmp_path):
    options = OURS['flat']
    network, average = build_network(options).eval(), build_network(options).eval()
    checkpoint.save_network(tmp_path / 'net.pth', {'params': network, 'params_ema': average}, {'network_g': options})
    descriptor = installed.load_from_file(tmp_path / 'net.pth')
    image = images_for(descriptor)
    with torch.no_grad():
        assert torch.equal(descriptor.model(image), average(image))
        assert not torch.equal(descriptor.model(image), network(image))


def test_wrapped_networks_tile_by_themselves_with_the_whole_images_statistics(installed, tmp_path):
    path, network = ours('flat', tmp_path)
    descriptor = installed.load_from_file(path)
    assert descriptor.tiling is spandrel.ModelTiling.INTERNAL
    image = torch.cat([torch.rand(1, 1, 40, 300) * 0.1, torch.rand(1, 1, 40, 300)], dim=3)
    with torch.no_grad():
        whole = network(image).clamp(0, 1)
        torch.testing.assert_close(descriptor(image), whole, atol=1e-5, rtol=0)
        cut = torch.cat([descriptor(image[..., :300]), descriptor(image[..., 300:])], dim=3)  # as a caller would
    assert (cut - whole).abs().max() > 1e-3
    assert installed.load_from_file(ours('affine', tmp_path)[0]).tiling is spandrel.ModelTiling.SUPPORTED


def test_no_size_is_required_since_padding_first_would_change_the_statistics(installed, tmp_path):
    path, network = ours('windows', tmp_path)
    descriptor = installed.load_from_file(path)
    assert descriptor.size_requirements.none
    image = images_for(descriptor)
    padded = torch.nn.functional.pad(image, (0, 2, 0, 5), 'reflect')
    with torch.no_grad():
        assert torch.equal(descriptor.model(image), network(image))
        assert not torch.allclose(network(padded)[..., :19, :22], network(image), atol=1e-4)


def test_non_blind_networks_are_told_the_estimate(installed, tmp_path):
    from ne_basicsr.ops.noise_level import noise_level

    path, network = ours('non-blind', tmp_path)
    descriptor = installed.load_from_file(path)
    image = torch.rand(1, 1, 40, 40)
    with torch.no_grad():
        assert torch.equal(descriptor(image), network(image, sigma=noise_level(image).flatten()).clamp(0, 1))
        assert not torch.equal(descriptor(image), network(image, sigma=0.01).clamp(0, 1))


@pytest.mark.parametrize('name', ['flat', 'windows', "windows in BasicSR's blocks", 'affine'])
def test_half_precision_is_supported_where_the_network_runs_in_it(name, installed, tmp_path):
    name, _, as_before = name.partition(' in ')
    with as_in_basicsr() if as_before else nullcontext():  # its mask of the attention stays in float32
        descriptor = installed.load_from_file(ours(name, tmp_path)[0])
        image = images_for(descriptor)
        expected = descriptor(image)
        given = (torch.float16, descriptor.supports_half), (torch.bfloat16, descriptor.supports_bfloat16)
        for dtype, supported in given:
            assert supported == (not as_before)
            if supported:
                assert (descriptor.to(dtype)(image.to(dtype)).float() - expected).abs().max() < 0.05
            else:
                with pytest.raises(spandrel.UnsupportedDtypeError):
                    descriptor.to(dtype)
                with pytest.raises(RuntimeError):
                    copy.deepcopy(descriptor.model).to(dtype)(image.to(dtype))


def test_installing_twice_is_installing_once(installed):
    count = len(spandrel.MAIN_REGISTRY)
    method = spandrel.ModelLoader.load_state_dict_from_file
    neighbour.install()
    assert len(spandrel.MAIN_REGISTRY) == count
    assert spandrel.ModelLoader.load_state_dict_from_file is method


def test_without_installing_spandrel_does_not_know_wrapped_networks(tmp_path):
    path, _ = ours('flat', tmp_path)
    with pytest.raises(spandrel.UnsupportedModelError):
        spandrel.ModelLoader(registry=untaught()).load_from_file(path)


@pytest.mark.parametrize(
    'options',
    [
        {'type': 'SwinIR', 'upscale': 1, 'upsampler': '', **SWINIR},
        {'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'num_grow_ch': 32},
        {'type': 'SRVGGNetCompact', **COMPACT},
        {'type': 'DnCNN', 'num_feat': 4, 'num_layers': 8},
    ],
    ids=lambda options: options['type'],
)
def test_networks_without_a_wrapper_that_spandrel_knows_need_no_installing(options, tmp_path):
    network = build_network(options).eval()
    checkpoint.save_network(tmp_path / 'net.pth', {'params': network}, {'network_g': options})
    descriptor = spandrel.ModelLoader(registry=untaught()).load_from_file(tmp_path / 'net.pth').eval()
    image = torch.rand(1, descriptor.input_channels, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(descriptor.model(image), network(image))


def test_what_spandrel_knows_and_what_nobody_knows_stays_as_it_was(installed, tmp_path):
    torch.save({'params': SRVGGNetCompact(**COMPACT).state_dict()}, tmp_path / 'compact.pth')
    assert installed.load_from_file(tmp_path / 'compact.pth').architecture.id == 'Compact'
    for number, weights in enumerate(
        ({'a.weight': torch.rand(2, 2)}, {'model.conv_first.weight': torch.rand(2, 2, 3, 3)})
    ):
        torch.save({'params': weights}, tmp_path / f'{number}.pth')
        with pytest.raises(spandrel.UnsupportedModelError):
            installed.load_from_file(tmp_path / f'{number}.pth')


def untaught():
    """spandrel's architectures without ours, whatever was installed before."""
    registry = spandrel.ArchRegistry()
    registry.add(*(each for each in spandrel.MAIN_REGISTRY if each.architecture.id != 'ne_basicsr'))
    return registry


# -- their networks here -----------------------------------------------------------------------------------------------


@pytest.fixture
def compact(tmp_path):
    network = SRVGGNetCompact(**COMPACT)
    randomize(network)
    torch.save({'params': network.state_dict()}, tmp_path / 'compact.pth')
    return tmp_path / 'compact.pth', network.eval()


def test_wrap_makes_what_spandrel_knows_equivariant(compact):
    path, network = compact
    wrapped = neighbour.wrap(path).double()
    image = torch.rand(2, 3, 11, 13, dtype=torch.float64)
    assert wrapped(image).shape == (2, 3, 22, 26)
    assert ne_defect(wrapped, image).max() < 1e-12
    assert ne_defect(network.double(), image).max() > 1e-3


def test_wrap_shows_the_network_the_range_that_it_knows(compact):
    path, network = compact
    image = torch.rand(1, 3, 16, 16)
    image = 0.45 + 0.25 * (image - image.mean()) / image.std(correction=0)  # as the network's own images are
    with torch.no_grad():
        torch.testing.assert_close(neighbour.wrap(path)(image), network(image), atol=1e-5, rtol=0)
        plain = neighbour.wrap(path, target=None, statistics='min_max')
    assert plain.statistics == 'min_max'
    assert plain.target == (0, 1)


def test_wrap_with_the_level_of_the_training_is_zero_shot(tmp_path):
    torch.save(build_network({'type': 'DnCNN', 'num_feat': 4, 'num_layers': 8}).state_dict(), tmp_path / 'dncnn.pth')
    wrapped = neighbour.wrap(tmp_path / 'dncnn.pth', sigma=25 / 255)
    assert isinstance(wrapped, ZeroShot)
    assert ne_defect(wrapped.double(), torch.rand(2, 1, 24, 27, dtype=torch.float64)).max() < 1e-9
    image = torch.rand(2, 1, 24, 27)
    plain = ne_basicsr.load(tmp_path / 'dncnn.pth', wrap='wne', sigma=25 / 255)
    with torch.no_grad():
        torch.testing.assert_close(wrapped.float()(image), plain(image))


def test_wrap_says_what_does_not_go_together(compact):
    path, _ = compact
    with pytest.raises(InputError, match='scale is 2'):
        neighbour.wrap(path, sigma=0.1)
    with pytest.raises(ValueError, match='prediction'):
        neighbour.wrap(path, prediction='noise')
