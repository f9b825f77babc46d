"""Checkpoints of this package in the ways that BasicSR's scripts (inference/inference_*.py) load theirs.

Each test is one habit: the network is built by hand, the file opened with ``torch.load``, and nothing of this package
called in between.
"""

import pytest
import torch
from basicsr.archs.rrdbnet_arch import RRDBNet
from basicsr.archs.swinir_arch import SwinIR
from torch.nn import functional as F

from ne_basicsr.archs import wne_arch
from ne_basicsr.archs.wne_arch import WNE
from ne_basicsr.inference.opening import randomize
from ne_basicsr.weights import checkpoint

RRDB = {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'num_grow_ch': 4}
SWIN = {
    'upscale': 1, 'in_chans': 1, 'img_size': 16, 'window_size': 8, 'img_range': 1.0, 'depths': [2], 'embed_dim': 8,
    'num_heads': [2], 'mlp_ratio': 2, 'upsampler': '', 'resi_connection': '1conv',
}  # fmt: skip
# what a script builds by hand, and the options that the same network was trained with
NETWORKS = {
    'plain RRDBNet': (lambda: RRDBNet(**RRDB), {'type': 'RRDBNet', **RRDB}),
    'plain SwinIR': (lambda: SwinIR(**SWIN), {'type': 'SwinIR', **SWIN}),
    'RRDBNet in WNE': (lambda: WNE(RRDBNet(**RRDB)), {'type': 'RRDBNetWNE', **RRDB}),
    'SwinIR in WNE': (lambda: WNE(SwinIR(**SWIN)), {'type': 'WNE', 'backbone': {'type': 'SwinIR', **SWIN}}),
    'SwinIRWNE': (lambda: wne_arch.SwinIRWNE(**SWIN), {'type': 'SwinIRWNE', **SWIN}),
}


@pytest.fixture(params=NETWORKS)
def saved(request, tmp_path):
    """How a network is built, the network that was trained, its average, and the checkpoint of both."""
    build, options = NETWORKS[request.param]
    trained, average = (randomized(build()) for _ in range(2))
    path = tmp_path / 'net_g_latest.pth'
    checkpoint.save_network(path, {'params': trained, 'params_ema': average}, {'network_g': options})
    return build, trained, average, path


def randomized(network):
    randomize(network)
    return network.eval()


def assert_same(network, other):
    channels = 3 if any('conv_up1' in key for key in network.state_dict()) else 1
    image = torch.rand(1, channels, 16, 16)
    with torch.no_grad():
        assert torch.equal(network(image), other(image))


def test_params_load_strictly(saved):  # inference_esrgan.py, inference_swinir.py, inference_basicvsr.py
    build, trained, average, path = saved
    model = build()
    model.load_state_dict(torch.load(path)['params'], strict=True)
    model.eval()
    model = model.to(torch.device('cpu'))
    assert_same(model, trained)
    with pytest.raises(AssertionError):
        assert_same(model, average)


def test_averaged_params_load_strictly(saved):  # inference_swinir.py, real_sr
    build, _, average, path = saved
    model = build().eval()
    model.load_state_dict(torch.load(path)['params_ema'], strict=True)
    assert_same(model, average)


def test_the_averaged_come_first_where_a_script_looks_for_them(
    saved, tmp_path
):  # as Real-ESRGAN's and HAT's scripts do
    build, trained, average, path = saved
    checkpoint.save_network(tmp_path / 'plain.pth', {'params': trained}, {})
    for file, expected in ((path, average), (tmp_path / 'plain.pth', trained)):
        loadnet = torch.load(file, map_location=torch.device('cpu'))
        model = build().eval()
        model.load_state_dict(loadnet['params_ema' if 'params_ema' in loadnet else 'params'], strict=True)
        assert_same(model, expected)


def test_bare_state_dicts_load(saved, tmp_path):  # inference_ridnet.py
    build, trained, _, path = saved
    torch.save(torch.load(path)['params'], tmp_path / 'bare.pth')
    state = torch.load(tmp_path / 'bare.pth', map_location=lambda storage, loc: storage)
    model = build().eval()
    model.load_state_dict(state)
    assert_same(model, trained)


@pytest.mark.parametrize('saved', [name for name in NETWORKS if 'WNE' in name], indirect=True)
def test_files_of_the_wrapped_network_do_not_load_as_the_plain_one(saved):
    _, trained, _, path = saved
    plain = SwinIR(**SWIN) if 'SwinIR' in str(type(trained.backbone)) else RRDBNet(**RRDB)
    with pytest.raises(RuntimeError, match=r'backbone\.'):
        plain.load_state_dict(torch.load(path)['params'], strict=True)


def test_plain_weights_load_into_the_wrapped_network(tmp_path):
    plain = randomized(SwinIR(**SWIN))
    checkpoint.save_network(tmp_path / 'plain.pth', {'params': plain}, {'network_g': {'type': 'SwinIR', **SWIN}})
    model = WNE(SwinIR(**SWIN)).eval()
    model.load_state_dict(torch.load(tmp_path / 'plain.pth')['params'], strict=True)
    assert_same(model, WNE(plain))


@pytest.mark.parametrize('wrapped', [True, False])
def test_padding_by_hand_as_for_the_plain_network_keeps_the_law(wrapped):  # inference_swinir.py
    plain = randomized(SwinIR(**SWIN)).double()
    model = WNE(plain).eval() if wrapped else plain

    def script(img):
        window_size, scale = 8, 1
        _, _, h, w = img.size()
        mod_pad_h, mod_pad_w = -h % window_size, -w % window_size
        with torch.no_grad():
            output = model(F.pad(img, (0, mod_pad_w, 0, mod_pad_h), 'reflect'))
        _, _, h, w = output.size()
        return output[:, :, 0 : h - mod_pad_h * scale, 0 : w - mod_pad_w * scale]

    image = torch.rand(1, 1, 19, 21, dtype=torch.float64)
    defect = (script(0.3 * image + 2) - (0.3 * script(image) + 2)).abs().max()
    assert script(image).shape == image.shape
    assert defect < 1e-12 if wrapped else defect > 1e-3
