"""Laws of the noises that depend on the image, on the place or on the neighbours."""

import math

import pytest
import torch
from scipy import stats

from ne_basicsr.ops import jpeg
from ne_basicsr.ops.noise import TrainingNoise, seed_of
from ne_basicsr.ops.noise_kinds import QUANTILE, camera, correlated, demosaicked, kernel_of, level_maps, poisson
from ne_basicsr.utils.errors import InputError

NOISES = {
    'poisson_gaussian': {'type': 'poisson_gaussian', 'photons': [20, 500], 'sigma255': 3},
    'speckle': {'type': 'speckle', 'sigma_type': 'random', 'sigma255': [10, 50]},
    'correlated': {'type': 'correlated', 'sigma255': 25, 'kernel': [[1, 2, 0]]},
    'demosaicked': {'type': 'demosaicked', 'sigma255': 25},
    'camera': {'type': 'camera', 'sigma_type': 'random', 'sigma255': [5, 25]},
    'varying': {'sigma_type': 'varying', 'sigma255': [5, 50]},
    'jpeg after noise': {'type': 'laplace', 'sigma_type': 'choice', 'sigma255': [10, 25], 'quality': [30, 60, 90]},
}
NOISES['mixture'] = {'type': 'mixture', 'of': [{**each, 'weight': 1 + n} for n, each in enumerate(NOISES.values())]}


def noise_of(options: dict) -> TrainingNoise:
    noise = TrainingNoise.from_options({'noise': options})
    assert noise is not None
    return noise


def flat(value: float, channels: int = 1, side: int = 512) -> torch.Tensor:
    return torch.full((1, channels, side, side), value)


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()


@pytest.mark.parametrize('name', NOISES)
def test_noise_of_a_sample_does_not_depend_on_its_batch_and_differs_between_samples(name):
    noise, seeds = noise_of(NOISES[name]), list(range(60, 72))
    clean = torch.linspace(0.2, 0.7, 3 * 37 * 41).reshape(1, 3, 37, 41).expand(12, -1, -1, -1).contiguous()
    together = noise.add(clean, seeds)
    assert torch.equal(together, noise.add(clean, seeds))
    for index in range(12):
        assert torch.equal(together[index : index + 1], noise.add(clean[index : index + 1], seeds[index : index + 1]))
    correlations = torch.corrcoef((together - clean).flatten(1)) - torch.eye(12)
    # 5 deviations of 1 / sqrt(4551), and twice that for JPEG and kernels, which leave fewer independent values
    assert correlations.abs().max() < 0.15


@pytest.mark.parametrize('mean', [0.0, 0.3, 3.0, 9.9, 10.1, 40.0, 1e3, 1e6])
def test_photon_counts_are_the_quantiles_of_their_distribution(mean):
    v = torch.linspace(2**-24 - 1, 1 - 2**-24, 8001, dtype=torch.float64)  # the ends of ``centred_uniforms``
    counts, exact = poisson(v, torch.full_like(v, mean)), torch.from_numpy(stats.poisson.ppf((1 + v) / 2, mean))
    wrong = counts != exact
    assert (counts - exact).abs().max() <= 1
    assert wrong.double().mean() <= (0 if mean < 10 else 1e-3)
    if 0 < mean < 1e3:  # a Gaussian of that mean and variance would be noticed
        rounded = (mean + mean**0.5 * QUANTILE['gaussian'](v)).round().clamp(min=0)
        assert (rounded != exact).double().mean() > 5e-3


def test_the_variance_of_photon_noise_is_linear_in_brightness():
    photons, sigma255 = 50, 5.1
    noise = noise_of({'type': 'poisson_gaussian', 'photons': photons, 'sigma255': sigma255})
    for number, brightness in enumerate((0.0, 0.05, 0.3, 1.5)):  # 0 to 75 photons
        noisy = noise.add(flat(brightness, side=300), [number]).double()
        variance = brightness / photons + (sigma255 / 255) ** 2
        count = noisy.numel()
        assert noisy.mean().item() == pytest.approx(brightness, abs=5 * (variance / count) ** 0.5)
        assert noisy.var().item() == pytest.approx(variance, rel=5 * (3 / count) ** 0.5)  # kurtosis below 4
    alone = {'type': 'poisson_gaussian', 'photons': photons, 'sigma_type': 'varying'}  # of no Gaussian noise
    counts = noise_of(alone).add(flat(0.3), [1]) * photons
    torch.testing.assert_close(counts, counts.round(), rtol=0, atol=1e-5)  # whole photons


def test_photons_are_drawn_by_equal_ratios():
    noise = noise_of(NOISES['poisson_gaussian'])
    photons = torch.tensor([noise._level(seed)[1] for seed in range(2000)])
    assert 20 <= photons.min() < 21 and 490 < photons.max() <= 500
    assert photons.log().mean().item() == pytest.approx(math.log(100), abs=0.1)  # geometric mean; 5 deviations


def test_speckle_is_proportional_to_the_image():
    noise = noise_of({'type': 'speckle', 'sigma255': 51})
    assert torch.equal(noise.add(flat(0), [1]), flat(0))
    for brightness in (0.25, 1.0):
        noisy = noise.add(flat(brightness), [1])
        assert noisy.std().item() == pytest.approx(0.2 * brightness, rel=5 * (1 / 2 / noisy.numel()) ** 0.5)
        assert noisy.mean().item() == pytest.approx(brightness, abs=5 * 0.2 * brightness / noisy.numel() ** 0.5)


@pytest.mark.parametrize('kernel', [[[1.0, 2, 1]], [[1.0], [-1]], kernel_of(1), [[5.0]]])
def test_correlated_noise_has_the_autocorrelation_of_its_kernel(kernel):
    noise = noise_of({'type': 'correlated', 'sigma255': 51, 'kernel': kernel}).add(flat(0.0), [4])[0, 0] / 0.2
    weights = torch.tensor(kernel, dtype=torch.float64)
    weights = torch.nn.functional.pad(weights, (0, 4, 0, 4))
    energy = weights.square().sum().item()
    white = QUANTILE['gaussian'](torch.rand(512, 512).mul(1.99).sub(0.995))
    found_in_white = 0.0
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (3, 1)):

        def product(image: torch.Tensor, down: int = down, right: int = right) -> float:
            height, width = image.shape
            return (image[: height - down, : width - right] * image[down:, right:]).double().mean().item()

        expected = (weights * weights.roll((-down, -right), (0, 1))).sum().item() / energy
        # the sum of squared correlations, at most 13 here, over 2^18 values: 5 deviations
        assert product(noise) == pytest.approx(expected, abs=5 * (26 / 2**18) ** 0.5)
        found_in_white = max(found_in_white, abs(product(white) - expected) if down or right else 0)
    assert (found_in_white > 0.1) == (len(kernel) * len(kernel[0]) > 1)


def test_demosaicked_noise_is_the_mean_of_the_measured_neighbours():
    mosaic = torch.randn(1, 1, 302, 302, dtype=torch.float64)
    red, green, blue = demosaicked(mosaic)[0]
    inner = mosaic[0, 0, 1:-1, 1:-1]  # red is measured at even rows and columns of the mosaic, odd ones here
    torch.testing.assert_close(red[1::2, 1::2], inner[1::2, 1::2])
    torch.testing.assert_close(blue[::2, ::2], inner[::2, ::2])
    torch.testing.assert_close(green[::2, 1::2], inner[::2, 1::2])
    around = mosaic[0, 0, :-2, 1:-1] + mosaic[0, 0, 2:, 1:-1], mosaic[0, 0, 1:-1, :-2] + mosaic[0, 0, 1:-1, 2:]
    torch.testing.assert_close(green[1::2, 1::2], sum(around)[1::2, 1::2] / 4)
    torch.testing.assert_close(red[::2, 1::2], around[0][::2, 1::2] / 2)
    assert red[::2, ::2].var().item() == pytest.approx(1 / 4, rel=0.05)
    assert abs(correlation(red, green)) < 0.02  # of different pixels of the sensor
    assert correlation(red[:, 1:], red[:, :-1]) > 0.5
    with pytest.raises(InputError, match=r'RGB images; got 1 channel\(s\)'):
        noise_of(NOISES['demosaicked']).add(flat(0.5, side=8), [1])


def test_noise_of_cameras_has_its_level_and_is_coarser_in_colour():
    noise = camera(flat(0.5, 3, side=64).expand(100, -1, -1, -1), range(100))
    gray = camera(flat(0.5, side=64).expand(100, -1, -1, -1), range(100))
    for each in (noise, gray):  # 64^2 pixels, the widest grain covers some 50 of them, variance of a square 2
        assert each.square().mean().item() == pytest.approx(1, abs=5 * (2 * 50 / 100 / 64**2) ** 0.5)
    colour = noise[:, 0] - noise[:, 2]
    luminance = noise.mean(1)  # its neighbours at w of 0.25 to 0.8 pixels, and those of colour at 0.5 to 2
    assert 0.3 < correlation(luminance[..., 1:], luminance[..., :-1]) < 0.7
    assert 0.7 < correlation(colour[..., 1:], colour[..., :-1]) < 0.95
    assert abs(correlation(gray[..., :1], gray[..., -1:])) < 0.05  # opposite edges


def test_noise_of_cameras_rises_or_falls_with_the_brightness():
    black, medium, white = (camera(flat(x, side=64).expand(200, -1, -1, -1), range(200)) for x in (0.0, 0.5, 1.0))
    # the same noise times sqrt(1 - c), 1 and sqrt(1 + c)
    ratios = (black / medium).square().mean((1, 2, 3)), (white / medium).square().mean((1, 2, 3))
    torch.testing.assert_close(sum(ratios), torch.full_like(ratios[0], 2))
    assert 0.2 <= ratios[1].min() < 0.25 and 1.75 < ratios[1].max() <= 1.8


def test_a_map_of_levels_is_smooth_and_its_nodes_are_uniform():
    maps = level_maps(0.1, 0.5, range(500), (61, 91), torch.device('cpu'))
    assert 0.1 <= maps.min() < 0.101 and 0.499 < maps.max() <= 0.5
    assert maps[:, 0, ::20, ::30].flatten().std().item() == pytest.approx(0.4 / 12**0.5, rel=0.03)
    assert maps.diff(dim=2).abs().max() <= 0.4 / 20 + 1e-6 and maps.diff(dim=3).abs().max() <= 0.4 / 30 + 1e-6


def test_noise_of_varying_level_has_the_deviation_of_its_map():
    noise = noise_of({'sigma_type': 'varying', 'sigma255': [5.1, 51]})
    residual = noise.add(flat(0.5), [9]) - 0.5
    (level,) = level_maps(0.02, 0.2, [seed_of(9, 'map')], (512, 512), torch.device('cpu'))[0]
    blocks = torch.nn.functional.avg_pool2d((residual[0] / level).square(), 64)
    assert (blocks - 1).abs().max() < 5 * (2 / 64**2) ** 0.5  # of 64 blocks of 4096 squares
    plain = torch.nn.functional.avg_pool2d(residual[0].square(), 64)
    assert plain.max() > 3 * plain.min()  # the negative control: one level does not describe it


def test_jpeg_comes_after_the_noise():
    noise = noise_of(NOISES['jpeg after noise'])
    bare, clean = noise._replace(qualities=()), flat(0.5, 3, 40)
    for seed in range(5):
        quality = int(noise._level(seed)[2])
        assert torch.equal(noise.add(clean, [seed])[0], jpeg.compress(bare.add(clean, [seed])[0], quality))
    assert {noise._level(seed)[2] for seed in range(50)} == {30, 60, 90}


def test_a_mixture_gives_each_sample_one_of_its_noises_by_weight():
    parts = [{'sigma255': 10, 'weight': 3}, {'type': 'uniform', 'sigma255': 50}]
    noise, seeds, clean = noise_of({'type': 'mixture', 'of': parts}), range(2000), torch.rand(2000, 1, 5, 5)
    noisy = noise.add(clean, seeds)
    alone = [noise_of(part).add(clean, seeds) for part in parts]
    is_first, is_second = ((noisy == each).flatten(1).all(1) for each in alone)
    assert (is_first ^ is_second).all()
    assert is_first.sum().item() == pytest.approx(1500, abs=5 * (2000 * 3 / 16) ** 0.5)


@pytest.mark.parametrize('name', ['poisson_gaussian', 'varying', 'mixture'])
def test_a_second_copy_has_the_levels_of_the_first_and_other_noise(name):
    noise, clean, first, second = noise_of(NOISES[name]), torch.rand(8, 3, 20, 20), range(8), range(100, 108)
    assert torch.equal(noise.add(clean, first, levels_of=first), noise.add(clean, first))
    copy = noise.add(clean, second, levels_of=first)
    assert not torch.equal(copy, noise.add(clean, first)) and not torch.equal(copy, noise.add(clean, second))
    if noise.parts:  # which noise, and its level, are those of the first copy
        pairs = [(part.add(clean, first), part.add(clean, second, first)) for _, part in noise.parts]
        both = torch.stack([torch.stack(pair) for pair in pairs])
        found = torch.stack([noise.add(clean, first), copy])
        assert (both == found).flatten(3).all(3).all(1).any(0).all()


def test_white_noise_through_one_weight_is_itself():
    noise = torch.randn(2, 3, 9, 11)
    torch.testing.assert_close(correlated(noise, [[0.3]]).float(), noise, rtol=0, atol=0)
