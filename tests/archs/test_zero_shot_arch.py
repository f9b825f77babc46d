import cv2
import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from scipy.fft import dctn, idctn
from scipy.ndimage import gaussian_filter
from test_noise import photograph
from torch import nn

from ne_basicsr.archs import zero_shot_arch
from ne_basicsr.archs.zero_shot_arch import ZeroShot
from ne_basicsr.metrics.quality import psnr
from ne_basicsr.ops import dct
from ne_basicsr.ops.dct import dct_kernels, dct_shrink
from ne_basicsr.ops.degradations import Degradation
from ne_basicsr.ops.noise_level import noise_level
from ne_basicsr.weights import checkpoint

DNCNN = {'type': 'DnCNN', 'num_feat': 8, 'num_layers': 5, 'act_mode': 'R'}


def noisy_crops() -> torch.Tensor:
    """The same crop at noise far below, at and far above sigma 25, (3, 1, 61, 64) in float64."""
    clean = photograph('camera.png')[..., 100:161, 200:264]
    return torch.cat([Degradation('gaussian', ()).apply(clean, 'crop', level) for level in (5, 25, 100)])


@pytest.mark.parametrize('passes', [1, 2])
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_zero_shot_commutes_with_affine_maps(passes, dtype, tolerance):
    net = ZeroShot(DNCNN, sigma255=25, passes=passes).to(dtype).eval()
    y = noisy_crops().to(dtype)
    with torch.no_grad():
        expected = net(y)
        for a, b in ((3.0, 0.5), (0.01, -0.02), (100.0, 40.0)):
            error = (net(a * y + b) - (a * expected + b)).flatten(1).norm(dim=1) / (a * expected + b).flatten(1).norm(
                dim=1
            )
            assert error.max() < tolerance
        plain = net.backbone
        assert (plain(3 * y + 0.5) - (3 * plain(y) + 0.5)).norm() / (3 * y).norm() > 1e-3  # the control


def test_wne_with_the_noise_as_scale_commutes_too():
    target = {'mean': 0.45, 'sigma255': 25}
    net = (
        build_network({'type': 'WNE', 'statistics': 'mean_noise', 'target': target, 'backbone': DNCNN}).double().eval()
    )
    seen = []
    net.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    y = noisy_crops()
    with torch.no_grad():
        torch.testing.assert_close(net(7 * y + 2), 7 * net(y) + 2, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(255 * noise_level(seen[0]).flatten(), torch.full((3,), 25.0, dtype=torch.float64))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_images_without_noise_come_back_as_they_are(dtype):
    net = ZeroShot(nn.Conv2d(1, 1, 3, padding=1)).to(dtype)
    square = torch.zeros(1, 1, 40, 40, dtype=dtype)
    square[..., 10:30, 10:30] = 1
    with torch.no_grad():
        for y in (torch.full((2, 1, 17, 21), 0.37, dtype=dtype), square, torch.rand(1, 1, 1, 30).to(dtype)):
            assert torch.equal(net(y), y)
        assert torch.equal(net(torch.full_like(square, 0.37), sigma=0.1), torch.full_like(square, 0.37))


def test_a_broken_image_does_not_touch_the_others():
    net = ZeroShot(DNCNN).double().eval()
    y = noisy_crops()
    broken = y.clone()
    broken[1, 0, 5, 5] = float('nan')
    with torch.no_grad():
        torch.testing.assert_close(net(broken)[[0, 2]], net(y)[[0, 2]], rtol=1e-12, atol=1e-12)


def test_passes_are_counted_as_they_say():
    calls = []

    def backbone(z):
        calls.append(len(z))
        return z

    y = noisy_crops()
    for passes, levels, expected in ((1, (0,), 1), (2, (0,), 2), (2, (2,), 1), (1, (0, 1, 2), 1)):
        calls.clear()
        net = ZeroShot(nn.Identity(), passes=passes)
        net.backbone.forward = backbone
        net(y[list(levels)])
        assert len(calls) == expected


def test_a_known_level_is_used_instead_of_the_estimate():
    net = ZeroShot(DNCNN).double().eval()
    y = noisy_crops()
    sigmas = torch.tensor([5.0, 25.0, 100.0], dtype=torch.float64) / 255
    with torch.no_grad():
        torch.testing.assert_close(net(4 * y + 1, sigma=4 * sigmas), 4 * net(y, sigma=sigmas) + 1, rtol=1e-9, atol=1e-9)
        assert not torch.allclose(net(y, sigma=0.3), net(y))


def test_the_first_share_is_its_formula():
    y = noisy_crops()
    noise, window = noise_level(y), {'sigma': zero_shot_arch.WINDOW, 'truncate': 3, 'mode': 'nearest'}
    measured = zero_shot_arch.measure(y, noise)
    shares, gains = zero_shot_arch.share_and_gain(25 / 255, measured)
    given = zero_shot_arch.first_share(lambda z: z, 25 / 255, y, measured, passes=1)
    first = dct_shrink(y, noise, measured.mean) - measured.mean
    for x0, w, k, found in zip(first[:, 0].numpy(), shares.flatten(), gains.flatten(), given[:, 0], strict=True):
        m = gaussian_filter(x0, **window)
        s = np.sqrt((gaussian_filter(x0**2, **window) - m**2).clip(0))
        v = (1 - 0.2 / (k.item() * s)).clip(0) * min(1, w.item() / 0.1)
        torch.testing.assert_close(found, torch.from_numpy(w.item() * m + v * (x0 - m)), rtol=0, atol=1e-12)
    assert shares[0] > 0.5 > shares[2] == 0
    # a network that returns 0.45 everywhere, the mean: a pass with a share of min(2/3, sqrt q)
    given = zero_shot_arch.first_share(lambda z: torch.full_like(z, 0.45), 25 / 255, y, measured, passes=2)
    trust = (zero_shot_arch.CONTRAST / (gains * measured.contrast)).clamp(max=1).sqrt().clamp(max=2 / 3)
    torch.testing.assert_close(given, shares * (measured.mean + (1 - trust) * first), rtol=0, atol=1e-12)


def test_windowed_backbones_take_any_size():
    swinir = {'type': 'SwinIR', 'upscale': 1, 'in_chans': 1, 'img_size': 16, 'window_size': 8, 'depths': [1]}
    net = ZeroShot(swinir | {'embed_dim': 8, 'num_heads': [2]}).eval()
    with torch.no_grad():
        assert net(torch.rand(1, 1, 19, 30)).shape == (1, 1, 19, 30)


def test_dct_is_orthonormal_and_shrinking_nothing_changes_nothing():
    kernels = dct_kernels(8, torch.zeros(1, dtype=torch.float64)).reshape(64, 64)
    torch.testing.assert_close(kernels @ kernels.T, torch.eye(64, dtype=torch.float64), rtol=0, atol=1e-12)
    y = torch.rand(2, 3, 20, 23, dtype=torch.float64)
    noise = torch.full((2, 1, 1, 1), 1e-9, dtype=torch.float64)
    torch.testing.assert_close(dct_shrink(y, noise, y.mean()), y, rtol=0, atol=1e-6)


def test_dct_shrinkage_is_firm_and_blocks_weigh_by_what_they_lose():
    y = torch.rand(1, 1, 9, 11, dtype=torch.float64)
    padded = np.pad(y[0, 0].numpy(), 7, mode='reflect')
    total, weights = np.zeros_like(padded), np.zeros_like(padded)
    for top, left in np.ndindex(16, 18):
        place = slice(top, top + 8), slice(left, left + 8)
        block = dctn(padded[place], norm='ortho')
        keep = ((abs(block) / 0.2 - 2.5) / (3.5 - 2.5)).clip(0, 1)
        keep[0, 0] = 1
        total[place] += idctn(block * keep, norm='ortho') / keep.sum()
        weights[place] += 1 / keep.sum()
    expected = torch.from_numpy((total / weights)[7:-7, 7:-7])
    torch.testing.assert_close(dct_shrink(y, torch.full((1, 1, 1, 1), 0.2), y.mean())[0, 0], expected)


@pytest.mark.parametrize('strip', [1, 2**11, 2**20])
@pytest.mark.parametrize('size', [(8, 8), (9, 21), (40, 33)])
def test_dct_in_strips_is_that_by_convolution(size, strip, monkeypatch):
    monkeypatch.setattr(dct, 'STRIP', strip)
    y = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).cumsum(-1)
    noise = torch.tensor([0.3, 1.1], dtype=torch.float64).view(2, 1, 1, 1)
    in_strips, by_convolution = dct_shrink(y, noise, y.mean()), dct_shrink(y.clone().requires_grad_(), noise, y.mean())
    assert dct.in_strips(y) and by_convolution.requires_grad
    torch.testing.assert_close(in_strips, by_convolution.detach(), rtol=0, atol=1e-12)


def test_dct_shrinkage_denoises():
    clean = photograph('camera.png')[..., 100:260, 200:360]
    noisy = Degradation('gaussian', ()).apply(clean, 'camera', 25)
    restored = dct_shrink(noisy, torch.full((1, 1, 1, 1), 25 / 255, dtype=torch.float64), noisy.mean())
    assert psnr(restored, clean) > psnr(noisy, clean) + 6


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'sigma255': 0}, "is positive or 'auto'; got 0"),
        ({'sigma255': '25'}, "got '25'"),
        ({'passes': 3}, 'must be 1 .* or 2 .*; got 3'),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ZeroShot(nn.Identity(), **options)


# Set12, images 01 and 05, one draw: what was measured when this was written, less 0.1 dB; the plain network's beside it
MEASURED = {5: (37.6, 31), 15: (32.4, 31), 25: (30.0, 31), 50: (26.2, 18)}


@pytest.mark.parametrize('level', MEASURED)
def test_public_weights_of_one_level_work_at_all(level, shared):
    plain = build_network({'type': 'DnCNN', 'num_layers': 17, 'act_mode': 'R'}).eval()
    checkpoint.load_network(plain, shared / 'weights' / 'kair_dncnn_25.pth')
    net = ZeroShot(plain, sigma255=25).eval()
    results = []
    for name in ('01', '05'):
        image = cv2.imread(str(shared / 'data' / 'Set12' / f'{name}.png'), cv2.IMREAD_GRAYSCALE)
        clean = torch.from_numpy(image)[None, None].float() / 255
        noisy = Degradation('gaussian', ()).apply(clean, name, level)
        with torch.no_grad():
            results.append((psnr(net(noisy), clean), psnr(plain(noisy), clean)))
    zero_shot, unwrapped = torch.tensor(results).mean(0).tolist()
    least, most_plain = MEASURED[level]
    assert zero_shot > least
    assert unwrapped < most_plain
