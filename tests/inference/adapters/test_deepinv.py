"""Networks of this package as deepinv's denoisers, and in its plug-and-play algorithms."""

import pytest
import torch

import ne_basicsr
from ne_basicsr.archs.dncnn_arch import DnCNN
from ne_basicsr.archs.fdncnn_arch import FDnCNN
from ne_basicsr.archs.wne_arch import WNE
from ne_basicsr.archs.zero_shot_arch import ZeroShot
from ne_basicsr.inference.opening import randomize
from ne_basicsr.inference.tiles import Tiled
from ne_basicsr.utils.errors import InputError

deepinv = pytest.importorskip('deepinv')
from ne_basicsr.inference.adapters.deepinv import Denoiser  # noqa: E402


def randomized(network):
    randomize(network)
    return network.eval()


def small_dncnn():
    return randomized(DnCNN(num_feat=4, num_layers=3, act_mode='R'))


def smoothing(strength):
    """A DnCNN that takes away ``strength`` times what a 3x3 binomial filter does; relu(h) - relu(-h) = h."""
    network = DnCNN(num_feat=2, num_layers=2, act_mode='R', bias=False)
    binomial = torch.tensor([1.0, 2.0, 1.0])
    rest = -(binomial[:, None] * binomial) / 16
    rest[1, 1] += 1
    with torch.no_grad():
        first, last = (parameter for parameter in network.parameters())
        first.copy_(torch.stack([rest, -rest])[:, None])
        last.zero_()
        last[0, :, 1, 1] = torch.tensor([strength, -strength])
    return network.eval()


def photograph(height=48, width=56):
    """An image on [0, 1] with edges and slopes, (1, 1, H, W), float64."""
    rows = torch.linspace(0, 3, height, dtype=torch.float64)[:, None]
    columns = torch.linspace(0, 4, width, dtype=torch.float64)
    image = 0.5 + 0.25 * torch.sin(rows * 2) * torch.cos(columns)
    image[height // 3 : height // 2, width // 4 : width // 2] += 0.2
    return image[None, None]


def psnr(output, image):
    return -10 * (output - image).square().mean().log10().item()


# -- denoiser(x, sigma) ------------------------------------------------------------------------------------------------


def test_blind_networks_ignore_sigma():
    for network in (small_dncnn(), WNE(small_dncnn()), randomized(FDnCNN(num_feat=4, num_layers=3))):
        denoiser = Denoiser(network)
        x = torch.rand(2, 1, 9, 11)
        with torch.no_grad():
            expected = network(x)
            for sigma in (0.1, torch.tensor([0.1, 0.2]), None):
                assert torch.equal(denoiser(x, sigma), expected)
            assert torch.equal(denoiser(x, sigma=0.3, physics=None), expected)
    assert isinstance(denoiser, deepinv.models.Denoiser)


NON_BLIND = {
    'non-blind': lambda: randomized(FDnCNN(num_feat=4, num_layers=3, mode='norm-equiv', blind=False)),
    'wrapped': lambda: WNE(randomized(FDnCNN(num_feat=4, num_layers=3, blind=False))),
    'zero-shot': lambda: ZeroShot(small_dncnn(), sigma255=25),
    'zero-shot in tiles': lambda: Tiled(ZeroShot(small_dncnn(), sigma255=25), 32),
    'non-blind in tiles': lambda: Tiled(randomized(FDnCNN(num_feat=4, num_layers=3, blind=False)), 32),
}


@pytest.mark.parametrize('kind', NON_BLIND)
def test_others_get_it_as_one_value_or_one_for_each_image(kind):
    network = NON_BLIND[kind]().eval()
    denoiser = Denoiser(network)
    x = torch.rand(2, 1, 16, 47)
    with torch.no_grad():
        one, two = network(x, sigma=0.05), network(x, sigma=torch.tensor([0.05, 0.2]))
        for sigma in (0.05, torch.tensor(0.05), torch.tensor([0.05]), torch.tensor([0.05, 0.05]).view(2, 1, 1, 1)):
            torch.testing.assert_close(denoiser(x, sigma), one)
        torch.testing.assert_close(denoiser(x, torch.tensor([0.05, 0.2], dtype=torch.float64)), two)
        assert not torch.allclose(two[1], one[1], atol=1e-4)
    with pytest.raises(InputError, match='one for each of the 2 images; got 3'):
        denoiser(x, torch.rand(3))


def test_the_noise_level_is_asked_for_only_where_it_is_needed():
    x = torch.rand(1, 1, 16, 17)
    with pytest.raises(InputError, match='needs the noise level'):
        Denoiser(NON_BLIND['non-blind']())(x, None)
    network = NON_BLIND['zero-shot']()
    with torch.no_grad():
        assert torch.equal(Denoiser(network)(x, None), network(x))  # estimates it


# -- plug-and-play -----------------------------------------------------------------------------------------------------


def plug_and_play(network, y, physics, iterations, init=None, sigma=0.05):
    """Proximal gradient descent with the denoiser in the place of the proximal map."""
    model = deepinv.optim.PGD(
        prior=deepinv.optim.PnP(denoiser=Denoiser(network.to(y.dtype))),
        data_fidelity=deepinv.optim.L2(),
        stepsize=1.0,
        sigma_denoiser=sigma,
        max_iter=iterations,
        early_stop=False,
    )
    with torch.no_grad():
        return model(y, physics, init=init)


def test_it_inpaints_and_a_network_that_removes_nothing_does_not():
    image = photograph()
    mask = (torch.rand(1, *image.shape[2:], generator=torch.Generator().manual_seed(0)) < 0.5).double()
    physics = deepinv.physics.Inpainting(tuple(image.shape[1:]), mask=mask)
    y = physics(image)
    found = {s: psnr(plug_and_play(WNE(smoothing(s)), y, physics, 60), image) for s in (0.0, 0.5)}
    assert found[0.0] == pytest.approx(psnr(y, image), abs=1e-6)
    assert found[0.5] > psnr(y, image) + 12


def blur(image):
    binomial = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=image.dtype)
    kernel = binomial[:, None] * binomial
    return deepinv.physics.Blur(filter=kernel[None, None] / kernel.sum(), padding='circular')


@pytest.mark.parametrize('equivariant', [True, False])
def test_with_an_equivariant_network_the_whole_algorithm_is(equivariant):
    image = photograph()
    physics = blur(image)
    y = physics(image) + 0.01 * torch.randn(image.shape, dtype=image.dtype)
    network = small_dncnn()
    network.model[-1].weight.data.mul_(0.05)  # ten steps stay finite
    network = WNE(network) if equivariant else network

    def restore(observed):
        return plug_and_play(network, observed, physics, 10)

    assert (restore(y) - y).abs().max() > 1e-3
    a, b = 0.2, 3.0
    difference = (restore(a * y + b) - (a * restore(y) + b)).abs().max()
    assert difference < 1e-11 if equivariant else difference > 1e-3


def test_a_network_that_is_told_sigma_keeps_the_shift_and_the_scale_where_sigma_has_it():
    image = photograph()
    physics = blur(image)
    y = physics(image) + 0.01 * torch.randn(image.shape, dtype=image.dtype)
    network = ZeroShot(smoothing(0.5))

    def restore(observed, sigma):
        return plug_and_play(network, observed, physics, 5, sigma=sigma)

    def difference(a, b, sigma):
        return (restore(a * y + b, sigma) - (a * restore(y, 0.05) + b)).abs().max()

    assert difference(1, 3.0, 0.05) < 1e-11
    assert difference(0.2, 3.0, 0.2 * 0.05) < 1e-11
    assert difference(0.2, 3.0, 0.05) > 1e-4


def test_it_sharpens_without_sharpening_the_noise(shared):
    network = ne_basicsr.load(shared / 'weights' / 'kair_dncnn_25.pth', wrap='wne', sigma=25 / 255)
    image = photograph().float()
    physics = blur(image)
    y = physics(image) + 0.05 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    assert psnr(plug_and_play(network, y, physics, 10), image) > psnr(y, image) + 6
    assert psnr(plug_and_play(smoothing(0.0), y, physics, 10), image) < psnr(y, image) + 1
