"""The names that a notebook needs: found by tab, imported when used, each one call."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import ne_basicsr
from ne_basicsr.archs.dncnn_arch import DnCNN
from ne_basicsr.archs.fdncnn_arch import FDnCNN
from ne_basicsr.inference.opening import randomize
from ne_basicsr.inference.tiles import Tiled
from ne_basicsr.utils.errors import InputError
from ne_basicsr.weights import checkpoint

OPTIONS = {'type': 'DnCNN', 'num_feat': 4, 'num_layers': 3, 'act_mode': 'R'}


def dncnn(**options):
    network = DnCNN(**{'num_feat': 4, 'num_layers': 3, 'act_mode': 'R', **options})
    randomize(network)
    return network.eval()


def photograph(channels=1, side=40):
    rows, columns = np.mgrid[:side, :side] / side
    image = 0.5 + 0.3 * np.sin(7 * rows + 3 * columns) + 0.1 * (rows > columns)
    return np.repeat(image[..., None], channels, axis=2).astype(np.float32)


def test_every_public_name_is_found_explained_and_nothing_else_is_offered():
    for name in ne_basicsr.__all__:
        assert getattr(ne_basicsr, name).__doc__
        assert name in dir(ne_basicsr)
    assert set(ne_basicsr._MODULES) == set(ne_basicsr.__all__)
    with pytest.raises(AttributeError, match='mismach'):
        ne_basicsr.mismach  # noqa: B018


def test_looking_for_names_imports_nothing_heavy():
    script = (
        'import sys, ne_basicsr\n'
        'assert set(ne_basicsr.__all__) <= set(dir(ne_basicsr))\n'
        'assert "torch" not in sys.modules'
    )
    subprocess.run([sys.executable, '-c', script], check=True)


def test_models_that_come_with_the_package_are_listed_and_load():
    assert 'gray' in ne_basicsr.list_models()
    gray = ne_basicsr.load('gray')
    assert (gray.channels, gray.facts.scale, gray.needs_sigma) == (1, 1, False)


def test_a_test_of_someone_else_asserts_equivariance():
    quick = {'dtypes': ('float64',)}
    ne_basicsr.assert_equivariant(ne_basicsr.WNE(dncnn()), **quick)
    assert ne_basicsr.check(ne_basicsr.WNE(dncnn()), **quick).passed
    with pytest.raises(AssertionError, match=r'a plain network(?s:.*)f\(a y\)'):
        ne_basicsr.assert_equivariant(dncnn(), **quick)
    assert not ne_basicsr.check(dncnn(), **quick).passed
    assert ne_basicsr.check('{type: DnCNNWNE, num_feat: 4, num_layers: 3}', **quick).passed
    ne_basicsr.assert_equivariant(lambda y: (y + y.mean(dim=(1, 2, 3), keepdim=True)) / 2, **quick)
    told = ne_basicsr.WNE(FDnCNN(num_feat=4, num_layers=3, blind=False)).eval()
    ne_basicsr.assert_equivariant(told, **quick)


def test_a_curve_is_one_call_for_functions_arrays_and_folders(image_folder):
    images = {'one': photograph(), 'two': photograph()[:, ::-1]}
    identity = ne_basicsr.mismatch(lambda y: y, images, [5, 25])
    assert identity.levels == (5, 25)
    assert identity.psnr_in == pytest.approx([20 * np.log10(255 / level) for level in (5, 25)], abs=0.3)
    clipped = ne_basicsr.mismatch(lambda y: y.clamp(0, 1), images, [5, 25])
    assert identity.psnr_out == clipped.psnr_out  # the published PSNR is of clamped outputs
    as_bytes = ne_basicsr.mismatch(lambda y: y, [(255 * photograph()[..., 0]).astype(np.uint8)], [25])
    assert as_bytes.psnr_in == pytest.approx([20.17], abs=0.3)
    by_folder = ne_basicsr.mismatch(dncnn(), image_folder, [25], draws=2)
    assert by_folder.psnr_out != by_folder.psnr_in
    with pytest.raises(InputError, match='takes images of 2 channels; this needs 1 or 3'):
        ne_basicsr.mismatch(dncnn(num_in_ch=2, num_out_ch=2), images)


def test_a_non_blind_network_is_told_the_level_of_each_cell():
    told = []

    def network(y, sigma):
        told.extend((255 * sigma).tolist())
        return y

    ne_basicsr.mismatch(network, [photograph()], [5, 25])
    assert told[-2:] == pytest.approx([5, 25])


# -- the object --------------------------------------------------------------------------------------------------------


def test_its_parameters_and_state_are_those_of_the_network():
    network = dncnn()
    denoiser = ne_basicsr.Denoiser(network)
    assert list(denoiser.state_dict()) == list(network.state_dict())
    other = ne_basicsr.Denoiser(dncnn())
    other.load_state_dict(network.state_dict())
    y = torch.rand(1, 1, 9, 11)
    with torch.no_grad():
        assert torch.equal(other(y), network(y))
    assert {id(p) for p in denoiser.parameters()} == {id(p) for p in network.parameters()}
    assert not denoiser.training
    assert 'DnCNN' in repr(denoiser)


def test_sizes_that_are_no_multiple_are_padded_and_cropped():
    class Even(nn.Module):
        size_multiple = 4

        def forward(self, y):
            assert y.shape[-2] % 4 == y.shape[-1] % 4 == 0
            return nn.functional.interpolate(y, scale_factor=2)

    denoiser = ne_basicsr.Denoiser(Even())
    assert denoiser(torch.rand(2, 1, 5, 7)).shape == (2, 1, 10, 14)
    assert denoiser.facts.scale == 2
    with pytest.raises(InputError, match='must keep the shape of its images'):
        denoiser.require_image_to_image()


def test_a_level_is_asked_for_where_it_is_needed_and_refused_where_it_is_not():
    y = torch.rand(2, 1, 16, 16)
    blind, told = ne_basicsr.Denoiser(dncnn()), ne_basicsr.Denoiser(FDnCNN(num_feat=4, num_layers=3, blind=False))
    with pytest.raises(InputError, match='is blind and takes no noise level'):
        blind(y, 0.1)
    with pytest.raises(InputError, match='call denoiser'):
        told(y)
    with pytest.raises(InputError, match='one for each of the 2 images; got 3'):
        told(y, [0.1, 0.2, 0.3])
    assert (blind.needed(0.1), told.needed(0.1)) == (None, 0.1)


GRAY = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ('y', 'message'),
    [
        (GRAY.double(), r'computes in float32; got float64: y.to\(torch.float32\)'),
        (
            torch.rand(1, 3, 16, 16),
            r'takes images of 1 channel\(s\); got shape \(1, 3, 16, 16\); .* takes colour images',
        ),
        ((255 * GRAY).byte(), 'got uint8: divide by its largest number'),
        (GRAY[0], r'\(N, C, H, W\), .* got shape \(1, 16, 16\): y\[None\]'),
        (GRAY[:0], 'a batch an image; got shape'),
        ([[0.5]], 'floating-point tensors .* got list'),
        (None, 'got NoneType'),
    ],
)
def test_images_that_a_network_does_not_take_are_one_line(y, message):
    denoiser = ne_basicsr.load('gray')
    assert denoiser(GRAY).shape == GRAY.shape
    with pytest.raises(InputError, match=message) as caught:
        denoiser(y)
    assert '\n' not in str(caught.value)


def test_errors_of_the_network_itself_stay_what_they_are():
    def network(y):
        raise RuntimeError('a bug of mine')

    with pytest.raises(RuntimeError, match='a bug of mine'):
        ne_basicsr.Denoiser(network)(GRAY)


@pytest.mark.parametrize(
    ('sigma', 'message'),
    [
        (25, r'on the scale of the images, whose largest value is [01](\.\d+)?; got 25: divide it by 255'),
        ([25.0], 'got 25: divide it by 255'),
        (-0.1, 'above 0; got -0.1'),
        (float('nan'), 'above 0; got nan'),
        ('a', "above 0; got 'a'"),
    ],
)
def test_a_level_in_other_units_is_one_line(sigma, message):
    told = ne_basicsr.Denoiser(FDnCNN(num_feat=4, num_layers=3, blind=False).eval())
    with pytest.raises(InputError, match=message):
        told(GRAY, sigma)
    if not isinstance(sigma, list):
        with pytest.raises(InputError, match=message):
            told(GRAY[0, 0].numpy(), sigma=sigma)
    assert told(255 * GRAY, 25).shape == told(0 * GRAY, 25).shape == told(GRAY, 0).shape == GRAY.shape
    same = told(GRAY[0, 0].numpy(), sigma=0.1), ne_basicsr.denoise(told, GRAY[0, 0].numpy(), 0.1)
    assert np.array_equal(*same)


def test_what_is_no_network_is_refused_at_once_and_a_repr_is_one_line():
    for network, message in ((3, 'got 3'), ('gray', 'ne_basicsr.load opens files'), (nn.Conv2d, 'make an instance')):
        with pytest.raises(InputError, match=f'a network or a function of images; .*{message}'):
            ne_basicsr.Denoiser(network)
    with pytest.raises(InputError, match=r'got Tensor: call the network itself, network\(y\)'):
        ne_basicsr.denoise(ne_basicsr.load('gray'), GRAY)
    gray = ne_basicsr.load('gray')
    assert '\n' not in repr(gray)
    assert 'DRUNetWNE' in repr(gray)
    outer = [
        ne_basicsr.Denoiser(nn.Sequential(ne_basicsr.Denoiser(nn.Sequential(each())))) for each in (nn.ReLU, nn.ELU)
    ]
    assert outer[0].digest != outer[1].digest


def test_experiments_are_made_once():
    calls = []

    def network(y):
        calls.append(y.shape)
        return y

    denoiser = ne_basicsr.Denoiser(network)
    assert (denoiser.channels, denoiser.facts.scale, denoiser.is_equivariant) == (1, 1, True)
    count = len(calls)
    assert (denoiser.channels, denoiser.facts.scale, denoiser.is_equivariant) == (1, 1, True)
    assert len(calls) == count
    built = ne_basicsr.load('gray')
    built.network.forward = None  # what is known of networks of this package needs no experiment
    assert (built.channels, built.facts.out_channels) == (1, 1)


@pytest.mark.parametrize('around', [nn.Sequential, ne_basicsr.WNE, lambda inner: Tiled(inner, 64)])
def test_it_is_saved_and_loaded_inside_other_modules(around):
    first, second = (around(ne_basicsr.Denoiser(dncnn())) for _ in range(2))
    second.load_state_dict(first.state_dict())
    assert not any('network.' in key for key in first.state_dict())
    y = torch.rand(1, 1, 9, 11)
    with torch.no_grad():
        assert torch.equal(second.eval()(y), first.eval()(y))


def test_what_is_known_of_weights_ends_with_them():
    denoiser, other = ne_basicsr.Denoiser(ne_basicsr.WNE(dncnn()).eval()), ne_basicsr.Denoiser(dncnn())
    torch.manual_seed(5)
    changed = {key: value + 0.1 * torch.randn_like(value) for key, value in denoiser.state_dict().items()}
    before = denoiser.digest
    assert denoiser.digest == before
    denoiser.load_state_dict(changed)
    assert denoiser.digest != before
    assert not other.is_equivariant
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert other.is_equivariant  # y - 0


def test_a_curve_leaves_the_network_in_its_mode_and_its_statistics_as_they_are():
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    ne_basicsr.mismatch(network, [photograph()], [25])
    assert network.training and network[1].training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_wrong_input_of_a_curve_is_one_line():
    blind = ne_basicsr.Denoiser(dncnn())
    told = ne_basicsr.Denoiser(FDnCNN(num_feat=4, num_layers=3, blind=False).eval())
    for arguments, message in (
        ((blind, [photograph(3)], [25]), r'image 0 is \(40, 40, 3\); the network takes \(H, W, 1\)'),
        ((blind, [], [25]), 'at least one image'),
    ):
        with pytest.raises(InputError, match=message):
            ne_basicsr.mismatch(*arguments)
    with pytest.raises(InputError, match=r"one of gaussian.*got 'foo'"):
        ne_basicsr.mismatch(blind, [photograph()], [25], kind='foo')
    with pytest.raises(InputError, match='needs the noise level, and jpeg has none'):
        ne_basicsr.mismatch(told, [photograph()], [25], kind='jpeg')


def test_load_takes_what_commands_take(tmp_path):
    checkpoint.save_network(tmp_path / 'net.pth', {'params': dncnn()}, {'network_g': OPTIONS})
    wrapped = ne_basicsr.load(f'{tmp_path}/net.pth@25+wne')
    assert wrapped.network.sigma == pytest.approx(25 / 255)
    (tmp_path / 'net.yml').write_text(f'network_g: {OPTIONS}\npath: {{pretrain_network_g: {tmp_path}/net.pth}}\n')
    y = torch.rand(1, 1, 9, 11)
    with torch.no_grad():
        assert torch.equal(ne_basicsr.load(tmp_path / 'net.yml')(y), ne_basicsr.load(tmp_path / 'net.pth')(y))
    assert ne_basicsr.load('identity').is_identity
    with pytest.raises(InputError, match=r'on the \[0, 1\] scale; got 25: divide by 255'):
        ne_basicsr.load(tmp_path / 'net.pth', wrap='wne', sigma=25)


def test_an_optional_level_is_taken_and_a_needed_one_is_known_through_wrappers():
    class Optional(nn.Module):
        def forward(self, y, sigma=None):
            return y if sigma is None else 0 * y

    class Needed(nn.Module):
        def forward(self, y, sigma):
            return y * sigma.view(-1, 1, 1, 1)

    y = torch.rand(2, 1, 8, 8)
    assert ne_basicsr.Denoiser(Optional())(y, 0.1).sum() == 0
    assert torch.equal(ne_basicsr.Denoiser(Optional())(y), y)
    assert ne_basicsr.Denoiser(ne_basicsr.WNE(Needed())).needs_sigma
    assert ne_basicsr.Denoiser(Needed()).facts.needs_sigma


def test_wrapping_random_weights_warns_that_they_have_no_level(tmp_path, caplog):
    checkpoint.save_network(tmp_path / 'net.pth', {'params': dncnn()}, {'network_g': OPTIONS})
    with caplog.at_level('WARNING', 'basicsr'):
        ne_basicsr.load(f'{tmp_path}/net.pth@25+wne')
    assert not caplog.records
    with caplog.at_level('WARNING', 'basicsr'):
        ne_basicsr.load(f'{tmp_path}/net.pth+wne')
    assert 'name it, as in net.pth@25+wne' in caplog.text


def test_a_level_in_the_name_is_known_and_a_type_that_is_none_is_one_line(tmp_path):
    checkpoint.save_network(tmp_path / 'net.pth', {'params': dncnn()}, {'network_g': OPTIONS})
    assert ne_basicsr.load(f'{tmp_path}/net.pth@25').training_levels255 == (25,)
    with pytest.raises(InputError, match="is needed; got 'float31'"):
        ne_basicsr.check(dncnn(), dtypes=('float31',))
