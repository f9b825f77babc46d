"""What a network takes is found out in one place, for every command; docs/guides/new_network.md says how it says so."""

import numpy as np
import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

import ne_basicsr
from ne_basicsr.archs.dncnn_arch import DnCNN
from ne_basicsr.archs.fdncnn_arch import FDnCNN
from ne_basicsr.archs.network_inputs import GRAY_OR_COLOUR, channels_of, is_non_blind
from ne_basicsr.archs.wne_arch import WNE
from ne_basicsr.archs.zero_shot_arch import ZeroShot
from ne_basicsr.evaluation import check
from ne_basicsr.inference.denoisers import open_denoiser, parse_spec
from ne_basicsr.inference.tiles import Tiled
from ne_basicsr.utils.errors import InputError
from ne_basicsr.weights import checkpoint


def dncnn(channels=1):
    return DnCNN(num_in_ch=channels, num_out_ch=channels, num_feat=4, num_layers=3, act_mode='R')


@pytest.mark.parametrize('blind', [True, False])
def test_what_a_network_is_wrapped_in_makes_no_difference(blind):
    network = FDnCNN(num_feat=4, num_layers=3, blind=blind)
    for each in (network, WNE(network), Tiled(WNE(network), 64), ZeroShot(network)):
        assert is_non_blind(each) == (not blind)


@pytest.mark.parametrize('channels', [1, 2, 3, 5])
def test_channels_are_those_of_the_first_convolution(channels):
    assert channels_of(WNE(dncnn(channels)), False, 'net') == channels


def test_where_the_first_convolution_takes_more_than_the_image_gray_is_tried():
    assert channels_of(FDnCNN(num_feat=4, num_layers=3, blind=False), True, 'net') == 1
    assert channels_of(nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 12, 3, padding=1)), False, 'net') == 3
    assert channels_of(nn.Identity(), False, 'net') == 1


def test_a_caller_says_which_it_can_use():
    with pytest.raises(InputError, match=r'^net: does not run on images of 1, 3 channels and 64x64 pixels: .*channels'):
        channels_of(dncnn(2), False, 'net', GRAY_OR_COLOUR)
    assert channels_of(dncnn(3), False, 'net', GRAY_OR_COLOUR) == 3


def test_commands_on_image_files_refuse_two_channels(tmp_path):
    path = tmp_path / 'net.pth'
    options = {'type': 'DnCNN', 'num_in_ch': 2, 'num_out_ch': 2, 'num_feat': 4, 'num_layers': 3, 'act_mode': 'R'}
    checkpoint.save_network(path, {'params': dncnn(2)}, {'network_g': options})
    with pytest.raises(InputError, match='does not run on images of 1, 3 channels'):
        open_denoiser(parse_spec(str(path)), 'net')
    with pytest.raises(InputError, match='does not run on images of 1, 3 channels'):
        ne_basicsr.denoise(dncnn(2), np.zeros((8, 8), np.float32))
    assert open_denoiser(parse_spec(str(path)), 'net', only=()).channels == 2


# -- a network of one's own, as the guide has it -----------------------------------------------------------------------


class ToldCNN(nn.Module):
    """f(y, sigma) = y - sigma tanh(c(y))."""

    blind = False

    def __init__(self, num_in_ch: int = 1) -> None:
        super().__init__()
        self.body = nn.Conv2d(num_in_ch, num_in_ch, 3, padding=1)

    def forward(self, y, sigma=None):
        return y - torch.as_tensor(sigma).view(-1, 1, 1, 1) * torch.tanh(self.body(y))


class NotSaidCNN(ToldCNN):
    blind = True


class NoDefaultCNN(ToldCNN):
    def forward(self, y, sigma):
        return super().forward(y, sigma)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(ARCH_REGISTRY, '_obj_map', dict(ARCH_REGISTRY._obj_map))
    for arch in (ToldCNN, NotSaidCNN, NoDefaultCNN):
        ARCH_REGISTRY.register(arch)


def test_a_non_blind_network_says_so_and_has_a_wrapped_twin(registered):
    subject = check.find_subject('{type: ToldCNNWNE}')
    assert subject.sigma == 25 / 255
    found = check.certify(subject.network, subject.images(None), dtypes=('float64',), sigma=subject.sigma)
    assert check.judge(found).passed


def test_without_the_attribute_it_is_not_told_and_without_the_default_it_has_no_twin(registered):
    with pytest.raises(InputError, match='does not run on images'):
        check.find_subject('{type: NotSaidCNNWNE}')
    assert check.find_subject('{type: NoDefaultCNN}').sigma == 25 / 255
    assert 'NoDefaultCNNWNE' not in ARCH_REGISTRY
