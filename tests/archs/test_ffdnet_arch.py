"""FFDNet against its formula, pixel by pixel, with random weights."""

import math

import pytest
import torch
import torch.nn.functional as F
from basicsr.archs import build_network

import ne_basicsr


def network(name='FFDNet', channels=1, **options):
    torch.manual_seed(0)
    options = {'type': name, 'num_in_ch': channels, 'num_out_ch': channels, 'num_feat': 6, 'num_layers': 4} | options
    return build_network(options).double().eval()


def original(weights, y, sigma):
    """Pixel (2 i + a, 2 j + b) of channel c is channel 4 c + 2 a + b at (i, j); the map of the level comes last."""
    _, channels, height, width = y.shape
    y = F.pad(y, (0, width % 2, 0, height % 2), mode='replicate')
    planes = [y[:, c, a::2, b::2] for c in range(channels) for a in (0, 1) for b in (0, 1)]
    z = torch.stack([*planes, torch.full_like(planes[0], sigma)], dim=1)
    for i in range(4):
        z = F.conv2d(z.relu() if i else z, weights[f'model.{2 * i}.weight'], weights[f'model.{2 * i}.bias'], padding=1)
    output = torch.empty_like(y)
    for k in range(4 * channels):
        output[:, k // 4, k % 4 // 2 :: 2, k % 2 :: 2] = z[:, k]
    return output[..., :height, :width]


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('size', [(12, 16), (9, 13), (1, 1)])
def test_it_is_its_formula_at_any_size(channels, size):
    net, y = network(channels=channels), torch.rand(2, channels, *size, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(net(y, sigma=0.1), original(net.state_dict(), y, 0.1), rtol=0, atol=1e-13)


@torch.no_grad()
def test_each_image_has_its_own_level(images):
    net = network()
    levels = torch.tensor([0.05, 0.1, 0.2, 0.3])
    alone = torch.cat([net(y[None], sigma=level) for y, level in zip(images, levels, strict=True)])
    torch.testing.assert_close(net(images, sigma=levels), alone, rtol=0, atol=1e-13)
    assert (net(images, sigma=0.1) - alone).abs().max() > 1e-3


@torch.no_grad()
def test_the_wrapped_one_is_equivariant_and_the_plain_one_is_not(images):
    a, b, defect = 3.7, -1.3, {}
    for name in ('FFDNet', 'FFDNetWNE'):
        net = network(name)
        defect[name] = (net(a * images + b, sigma=a * 0.1) - a * net(images, sigma=0.1) - b).abs().max().item()
    assert defect['FFDNetWNE'] < 1e-12 < 1e-3 < defect['FFDNet']


def test_files_of_kair_are_told_from_fdncnns_and_the_level_is_asked_for(tmp_path):
    for channels in (1, 3):
        net = network(channels=channels).float()
        torch.save(net.state_dict(), tmp_path / 'ffdnet.pth')
        loaded = ne_basicsr.load(tmp_path / 'ffdnet.pth')
        y = torch.rand(1, channels, 9, 11)
        assert type(loaded.network).__name__ == 'FFDNet'
        assert torch.equal(loaded(y, sigma=0.1), net(y, sigma=0.1))
        for call, message in (
            (loaded, 'is non-blind and needs the noise level'),
            (net, 'FFDNet with blind=False needs sigma'),
        ):
            with pytest.raises(ValueError, match=message):
                call(y)
        wrapped = ne_basicsr.load(tmp_path / 'ffdnet.pth', wrap='wne').double()
        y, sigma = y.double(), 0.1
        error = wrapped(2 * y - 1, sigma=2 * sigma) - (2 * wrapped(y, sigma=sigma) - 1)
        assert error.abs().max() < 1e-12
    with pytest.raises(ValueError, match='at least 2'):
        network(num_layers=1)


@torch.no_grad()
def test_the_authors_weights_denoise(shared):
    cv2 = pytest.importorskip('cv2')
    pytest.importorskip('h5py')
    net = ne_basicsr.load(shared / 'weights' / 'FFDNet_gray.mat')
    image = cv2.imread(str(shared / 'data' / 'Set12' / '01.png'), cv2.IMREAD_GRAYSCALE)
    clean = torch.from_numpy(image)[None, None] / 255
    noisy = clean + 25 / 255 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    psnr = -10 * math.log10((net(noisy, sigma=25 / 255) - clean).square().mean())
    assert abs(psnr - 30.04) < 0.1  # 27.6 with the 2x2 pixels in another order
