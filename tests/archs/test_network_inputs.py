"""What a network takes is found out in one place, for every command; docs/guides/new_network.md says how it says so."""

import inspect

import numpy as np
import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

import ne_basicsr
from ne_basicsr.archs.backbone import build_arch
from ne_basicsr.archs.dncnn_arch import DnCNN
from ne_basicsr.archs.fdncnn_arch import FDnCNN
from ne_basicsr.archs.network_inputs import Facts, facts_of, is_non_blind
from ne_basicsr.archs.wne_arch import WNE, is_image_to_image
from ne_basicsr.archs.zero_shot_arch import ZeroShot
from ne_basicsr.evaluation import check
from ne_basicsr.inference.denoiser import Denoiser
from ne_basicsr.inference.opening import open_denoiser, parse_spec
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
    assert Denoiser(WNE(dncnn(channels))).channels == channels


def test_where_the_first_convolution_takes_more_than_the_image_gray_is_tried():
    assert Denoiser(FDnCNN(num_feat=4, num_layers=3, blind=False)).channels == 1
    assert Denoiser(nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 12, 3, padding=1))).channels == 3
    assert Denoiser(nn.Identity()).channels == 1
    with pytest.raises(InputError, match=r'^net: does not run on images of 1, 3 channels and 64x64 pixels: '):
        Denoiser(nn.Linear(5, 5), source='net').channels  # noqa: B018


def test_a_caller_says_which_it_can_use():
    with pytest.raises(InputError, match=r'^net: takes images of 2 channels; this needs 1 or 3'):
        Denoiser(dncnn(2), source='net').require_image_to_image()
    Denoiser(dncnn(3)).require_image_to_image()
    Denoiser(dncnn(2)).require_image_to_image(only=())


def test_commands_on_image_files_refuse_two_channels(tmp_path):
    path = tmp_path / 'net.pth'
    options = {'type': 'DnCNN', 'num_in_ch': 2, 'num_out_ch': 2, 'num_feat': 4, 'num_layers': 3, 'act_mode': 'R'}
    checkpoint.save_network(path, {'params': dncnn(2)}, {'network_g': options})
    with pytest.raises(InputError, match='takes images of 2 channels; this needs 1 or 3'):
        open_denoiser(parse_spec(str(path)), 'net')
    with pytest.raises(InputError, match='takes images of 2 channels; this needs 1 or 3'):
        ne_basicsr.denoise(dncnn(2), np.zeros((8, 8), np.float32))
    assert open_denoiser(parse_spec(str(path)), 'net', only=()).channels == 2


# -- facts about a network without building it -------------------------------------------------------------------------

SMALL = {
    **dict.fromkeys(('num_in_ch', 'num_out_ch', 'in_channels', 'out_channels', 'num_layers'), 3),
    **dict.fromkeys(('num_feat', 'num_channel', 'dim', 'embed_dim', 'num_grow_ch'), 8),
    **dict.fromkeys(('num_block', 'num_group', 'num_conv'), 1),
    **{'num_feats': [4, 4], 'heads': [1] * 4, 'mid_channels': 16, 'depths': [2], 'num_heads': [2], 'img_size': 56},
    **{'with_idt': False, 'act_type': 'prelu', 'squeeze_factor': 2},
}
FURTHER = [
    {'type': 'FDnCNN', 'blind': False, 'num_in_ch': 1},
    {'type': 'DRUNetWNE', 'blind': False, 'prediction': 'residual'},
    {'type': 'SwinIR', 'window_size': 8, 'upscale': 3, 'upsampler': 'pixelshuffledirect', 'in_chans': 1},
    {'type': 'SwinIRNoMeanWNE', 'window_size': 8, 'img_size': [4, 8]},
    *({'type': 'RRDBNet', 'scale': scale} for scale in (1, 2)),
]  # fmt: skip


def small(options):
    taken = inspect.signature(ARCH_REGISTRY.get(options['type'])).parameters
    blocks = {'num_blocks': [1] * 4} if 'Restormer' in options['type'] else {'num_blocks': 1}
    return {key: value for key, value in {'scale': 2, **SMALL, **blocks}.items() if key in taken} | options


def image_to_image():
    names = [name for name, arch in ARCH_REGISTRY if isinstance(arch, type) and is_image_to_image(name)]
    return sorted(
        {*names} - {'WNE', 'WSE', 'InputNorm', 'ZeroShot', 'Spandrel', 'HiFaceGAN', 'SpandrelWNE', 'HiFaceGANWNE'}
    )


@pytest.mark.parametrize('options', [*({'type': name} for name in image_to_image()), *FURTHER], ids=lambda o: o['type'])
def test_what_options_say_is_what_the_network_does(options):
    facts, network = facts_of(small(options)), build_arch(small(options)).eval()
    assert facts_of(network) == facts
    assert facts.needs_sigma == is_non_blind(network)
    side = max(3 * facts.size_multiple, 16)
    with torch.no_grad():
        image = torch.rand(1, facts.in_channels, side, side)
        output = network(image, sigma=0.1) if facts.needs_sigma else network(image)
    assert output.shape == (1, facts.out_channels, side * facts.scale, side * facts.scale)
    assert facts.size_multiple == getattr(network, 'size_multiple', 1)


def test_facts_of_networks_around_networks():
    colour = {'type': 'DnCNN', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 4, 'num_layers': 3}
    zero_shot = {'type': 'ZeroShot', 'backbone': {'type': 'WNE', 'backbone': colour}, 'sigma255': 15.0}
    assert facts_of(zero_shot) == facts_of(build_arch(zero_shot)) == Facts(3, 3, sigma255=15.0)
    assert facts_of({'type': 'ZeroShot', 'backbone': colour}).sigma255 == 25
    assert facts_of(WNE(FDnCNN(num_feat=4, num_layers=3, blind=False))) == Facts(needs_sigma=True)  # not by options


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
    subject = check.find_subject('{type: NotSaidCNNWNE}')
    with pytest.raises(InputError, match='does not run on images'):
        check.certify(subject.network, subject.images(None), sigma=subject.sigma)
    assert check.find_subject('{type: NoDefaultCNN}').sigma == 25 / 255
    assert 'NoDefaultCNNWNE' not in ARCH_REGISTRY
