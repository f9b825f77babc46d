"""The measured noise: known levels, correlation and dependence on the brightness, and what it commutes with."""

import math

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from ne_basicsr.ops.noise_model import correlation, level_map, measure

SIDE = 224


def photograph(channels: int = 1) -> Tensor:
    """Smooth shades with edges, and a third of it texture, (C, SIDE, SIDE) on [0.1, 0.9]."""
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.random((SIDE // 32 + 2, SIDE // 32 + 2)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    image[60:130, 150:230] = 0.8
    image[170:, 90:] += 0.1 * cv2.GaussianBlur(rng.standard_normal((SIDE - 170, SIDE - 90)), None, 0.8)
    image = torch.from_numpy(0.1 + 0.8 * (image - image.min()) / (image.max() - image.min()))
    return torch.stack([image, 0.9 - 0.8 * image, image.square()])[:channels]


def white(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def correlated(width: float, *shape: int) -> Tensor:
    """Of deviation 1, with the correlation of the model in rows and in columns, periodic."""
    distance = torch.arange(SIDE, dtype=torch.float64).minimum(SIDE - torch.arange(SIDE, dtype=torch.float64))
    density = torch.fft.fft((1 + (distance / width) ** 2) ** -2).real.clamp(min=0)
    return torch.fft.ifft2(torch.fft.fft2(white(*shape)) * (density[:, None] * density).sqrt()).real


def poisson(clean: Tensor, photons: float) -> Tensor:
    return torch.poisson(clean * photons, generator=torch.Generator().manual_seed(0)) / photons


@pytest.mark.parametrize('sigma255', [5, 15, 50])
def test_white_noise_is_found_white_at_its_level(sigma255):
    model = measure(photograph() + sigma255 / 255 * white(1, SIDE, SIDE))
    assert model.level * 255 == pytest.approx(sigma255, rel=0.08)  # 16 blocks in each of 8 parts: 1.3%, and texture
    assert (model.width, model.stride, model.depends) == (0.0, 1, False)
    assert model.told() == model.level


def test_each_channel_has_its_level():
    levels = torch.tensor([5.0, 20.0, 40.0], dtype=torch.float64)[:, None, None] / 255
    model = measure(photograph(3) + levels * white(3, SIDE, SIDE))
    torch.testing.assert_close(model.levels, levels.flatten(), rtol=0.1, atol=0)
    assert model.level == pytest.approx(float(levels.square().mean().sqrt()), rel=0.08)


@pytest.mark.parametrize('width', [1.6, 2.2])
def test_the_width_of_correlated_noise_and_its_level_are_found(width):
    model = measure(photograph() + 20 / 255 * correlated(width, 1, SIDE, SIDE))
    assert model.width == pytest.approx(width, rel=0.15)
    assert model.level * 255 == pytest.approx(20, rel=0.15)
    assert correlation(model.width, model.stride) <= 0.3 < correlation(model.width, model.stride - 1)
    assert model.told(1) > model.told(model.stride) > model.level


def test_noise_of_photons_depends_on_the_brightness():
    model = measure(poisson(photograph(), 200))
    slope, floor = model.gain_and_floor
    assert model.depends and model.width == 0
    assert slope == pytest.approx(1 / 200, rel=0.25) and abs(floor) < 0.2 / 200
    assert (model.brightness.diff() > 0).all() and model.by_brightness[-1] > 1.5 * model.by_brightness[0]


@pytest.mark.parametrize(('a', 'b', 'width'), [(255.0, -3.0, 2.0), (1e-3, 20.0, 0.0), (1e-28, 0.0, 2.0)])
def test_every_number_commutes_with_affine_maps(a, b, width):
    y = photograph() + (correlated(width, 1, SIDE, SIDE) if width else white(1, SIDE, SIDE)) / 10
    one, other = measure(y), measure(a * y + b)
    # a y + b is rounded, to 2^-53 of b: with a 1e-3, 2e-12 of the noise
    torch.testing.assert_close(other.levels, a * one.levels, rtol=1e-9, atol=0)
    torch.testing.assert_close(other.by_brightness, a * one.by_brightness, rtol=1e-9, atol=0)
    torch.testing.assert_close(other.brightness, a * one.brightness + b, rtol=1e-9, atol=0)
    assert (other.width, other.depends) == (one.width, one.depends)
    places = [level_map(each, width, cells=2).levels for each in (y, a * y + b)]
    torch.testing.assert_close(places[1], a * places[0], rtol=1e-9, atol=0)


def test_blocks_that_are_equal_keep_their_order_in_another_unit():
    y = poisson(photograph(), 5).float()  # few values, so that means of blocks are equal up to rounding
    one, other = measure(y), measure(3 * y + 7)
    # 3 y + 7 is rounded to 2^-21, 1e-6 of the noise. With ties broken by rounding, levels differ by 3e-2.
    torch.testing.assert_close(other.by_brightness, 3 * one.by_brightness, rtol=1e-5, atol=0)


def test_float32_keeps_its_range():
    y = (photograph() + white(1, SIDE, SIDE) / 10).float()
    assert measure(1e28 * y).level == pytest.approx(1e28 * measure(y).level, rel=1e-4)  # its square is no float32


def test_a_place_has_its_level():
    levels = torch.full((SIDE, SIDE), 5 / 255, dtype=torch.float64)
    levels[:, SIDE // 2 :] = 30 / 255
    found = 255 * level_map(0.5 + levels * white(1, SIDE, SIDE), 0.0, cells=4).levels
    assert found.shape == (4, 4)
    torch.testing.assert_close(found, torch.tensor([5.0, 5, 30, 30]).double().expand(4, 4), rtol=0.2, atol=0)


@pytest.mark.parametrize('side', [32, 33, 64])
def test_images_without_noise_or_with_few_blocks_give_numbers(side):
    constant = torch.full((1, side, side), 0.3)
    assert measure(constant).level == 0 and not measure(constant).depends
    saturated = (torch.rand(1, side, side) > 0.5).float()  # every block is spoilt
    few = torch.ones(1, side, side)
    few[:, : side // 2, :16] = torch.rand(side // 2, 16)  # fewer blocks than parts
    for y in (saturated, few, photograph()[:, :side, :side]):
        model = measure(y)
        assert math.isfinite(model.level) and math.isfinite(sum(model.gain_and_floor)) and math.isfinite(model.told())


def test_a_plane_without_noise_of_its_own_has_the_width_of_the_image():
    y = photograph() + 10 / 255 * white(1, SIDE, SIDE)
    assert measure(y).width == 0 and measure(y, 2.0).width == 2.0
    assert measure(y, 2.0).told(2) > measure(y).told(2)
    noisy = photograph() + 20 / 255 * correlated(1.6, 1, SIDE, SIDE)
    assert measure(noisy, 2.5).width == measure(noisy).width < 2
