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
from ne_basicsr.utils.errors import InputError


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
