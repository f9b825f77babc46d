import math

import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_metric

from ne_basicsr.metrics.registered_metrics import (
    calculate_mismatch,
    calculate_ne_defect,
    calculate_psnr_float,
    calculate_ssim_float,
)


def test_psnr_of_a_known_error():
    clean = np.full((16, 16), 0.5)
    assert calculate_psnr_float(clean + 0.1, clean) == pytest.approx(20)
    assert calculate_psnr_float(clean + 25 / 255, clean) == pytest.approx(20 * math.log10(255 / 25))
    assert calculate_psnr_float(clean, clean) == math.inf


def test_psnr_is_that_of_the_clamped_output_unless_asked_otherwise_and_never_rounds():
    clean = torch.tensor([0.0, 1.0]).repeat(1, 8, 4)
    outside = clean + torch.tensor([-0.1, 0.1]).repeat(1, 8, 4)
    assert calculate_psnr_float(outside, clean) == math.inf
    assert calculate_psnr_float(outside, clean, clamp=False) == pytest.approx(20, abs=1e-5)
    for clamp in (True, False):
        assert calculate_psnr_float(0.9 * clean + 0.05, clean, clamp=clamp) == pytest.approx(20 + 20 * math.log10(2))
        assert calculate_psnr_float(clean.flip(-1) * 0.4 / 255 + clean, clean, clamp=clamp) < 60
        for broken in (math.nan, math.inf):  # no image, which clamping must not hide
            assert not calculate_psnr_float(torch.full_like(clean, broken), clean, clamp=clamp) > -math.inf


def test_tensors_and_arrays_of_one_image_give_one_number():
    rng = np.random.default_rng(0)
    image, clean = rng.random((2, 20, 24, 3))
    as_tensors = [torch.from_numpy(x.transpose(2, 0, 1)) for x in (image, clean)]
    for metric in (calculate_psnr_float, calculate_ssim_float):
        expected = metric(image, clean)
        assert metric(*as_tensors) == pytest.approx(expected, rel=1e-12)
        assert metric(*(x[None] for x in as_tensors)) == pytest.approx(expected, rel=1e-12)


def test_border_is_left_out():
    clean = np.zeros((12, 12))
    image = clean.copy()
    image[0] = 1
    assert calculate_psnr_float(image, clean, crop_border=1) == math.inf
    assert calculate_psnr_float(image, clean) < 20
    for edge in (image[::-1], image.T, image.T[:, ::-1]):  # bottom, left and right
        assert calculate_psnr_float(edge, clean, crop_border=1) == math.inf
    assert calculate_psnr_float(np.roll(image, 1, 0), clean, crop_border=1) < 20
    assert calculate_psnr_float(np.roll(image, 1, 0).T, clean, crop_border=1) < 20


def test_ssim_clips_but_does_not_round():
    rng = np.random.default_rng(1)
    clean = rng.random((24, 24))
    assert calculate_ssim_float(clean, clean) == pytest.approx(1)
    assert calculate_ssim_float(clean * 3, clean) == calculate_ssim_float((clean * 3).clip(0, 1), clean)
    assert calculate_ssim_float(clean + 0.3 / 255, clean) < 1


def test_8_bit_images_are_refused_with_the_way_out():
    image = np.zeros((8, 8), np.uint8)
    with pytest.raises(ValueError, match=r'got torch\.uint8: use calculate_psnr for 8-bit images'):
        calculate_psnr_float(image, image)


def test_images_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r'one shape; got \(1, 8, 8\) and \(1, 8, 9\)'):
        calculate_psnr_float(np.zeros((8, 8)), np.zeros((8, 9)))


def test_metrics_are_reached_as_basicsr_s_are():
    clean = torch.rand(1, 1, 8, 8) * 0.9
    data = {'img': clean + 0.1, 'img2': clean, 'lq': clean, 'net': lambda y: y + 1, 'rows': ROWS}
    assert calculate_metric(data, {'type': 'calculate_psnr_float', 'crop_border': 0}) == pytest.approx(20, abs=1e-4)
    assert calculate_metric(data, {'type': 'calculate_ne_defect'}) > 0.01
    assert calculate_metric(data, {'type': 'calculate_mismatch', 'summary': 'worst_loss'}) == pytest.approx(2)


ROWS = [
    {'image': 'a', 'level': 10, 'draw': 0, 'psnr_in': 28.0, 'psnr_out': 0.0, 'psnr_clamped': 34.0},
    {'image': 'b', 'level': 10, 'draw': 0, 'psnr_in': 28.0, 'psnr_out': 0.0, 'psnr_clamped': 32.0},
    {'image': 'a', 'level': 50, 'draw': 0, 'psnr_in': 14.0, 'psnr_out': 0.0, 'psnr_clamped': 13.0},
    {'image': 'b', 'level': 50, 'draw': 0, 'psnr_in': 14.0, 'psnr_out': 0.0, 'psnr_clamped': 11.0},
]


def test_mismatch_is_summarized_over_the_curve():
    assert calculate_mismatch(ROWS) == pytest.approx((33 + 12) / 2)
    assert calculate_mismatch(ROWS, 'worst_loss') == pytest.approx(14 - 12)
    with pytest.raises(ValueError, match="mean_psnr, worst_loss; got 'median'"):
        calculate_mismatch(ROWS, 'median')


def test_defect_tells_equivariant_from_plain():
    y = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    assert calculate_ne_defect(lambda y: y.flip(-1), y) < 1e-14
    assert calculate_ne_defect(lambda y: y.clamp(0.4, 0.6), y) > 1e-2
