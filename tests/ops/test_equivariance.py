import pytest
import torch

from ne_basicsr.ops import equivariance
from ne_basicsr.ops.equivariance import (
    denormalize,
    mean_noise,
    mean_std,
    min_max,
    ne_defect,
    normalize,
    root_mean_square,
)
from ne_basicsr.ops.magnitude import nonzero
from ne_basicsr.ops.noise_level import noise_level

AFFINE = [(3.0, 0.0), (1e-3, 5.0), (250.0, -7.0)]


@pytest.mark.parametrize(('a', 'b'), AFFINE)
@pytest.mark.parametrize('statistics', [mean_std, min_max])
def test_statistics_follow_the_affine_action(statistics, images, a, b):
    shift, scale = statistics(images)
    moved = statistics(a * images + b)
    torch.testing.assert_close(moved.shift, a * shift + b, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(moved.scale, a * scale, rtol=1e-9, atol=0)


def test_root_mean_square_follows_scaling_and_not_shifts(images):
    torch.testing.assert_close(root_mean_square(3 * images).scale, 3 * root_mean_square(images).scale)
    assert not torch.allclose(root_mean_square(images + 1).scale, root_mean_square(images).scale)


def test_statistics_are_those_of_each_image_alone(images):
    together = mean_std(images)
    for index in range(len(images)):
        alone = mean_std(images[index : index + 1])
        assert torch.equal(together.shift[index : index + 1], alone.shift)
        assert torch.equal(together.scale[index : index + 1], alone.scale)


@pytest.mark.parametrize('correction', [0, 1])
def test_mean_std_is_the_textbook_one_over_all_channels(correction):
    y = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    shift, scale = mean_std(y, correction)
    for image, m, s in zip(y, shift, scale, strict=True):
        assert m.item() == pytest.approx(image.mean().item(), rel=1e-14)
        assert s.item() == pytest.approx(image.std(correction=correction).item(), rel=1e-12)


def test_a_tiny_image_may_begin_with_its_smallest_or_its_largest_value():
    y = torch.rand(2, 1, 5, 7, dtype=torch.float64)
    y[:, 0, 0, 0] = torch.tensor([-1, 2])  # the others are taken relative to it
    torch.testing.assert_close(1e200 * mean_std(1e-200 * y).scale, mean_std(y).scale)


def test_root_mean_square_and_range_join_the_channels():
    y = torch.rand(2, 3, 5, 7, dtype=torch.float64) + torch.arange(3.0).view(3, 1, 1)
    for image, rms, low, extent in zip(y, root_mean_square(y).scale, *min_max(y), strict=True):
        assert rms.item() == pytest.approx(image.square().mean().item() ** 0.5, rel=1e-12)
        assert (low.item(), (low + extent).item()) == pytest.approx((image.min().item(), image.max().item()))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize('value', [0.0, 0.1, 1 / 3, -7.3, 1234.567])
def test_a_constant_image_has_its_value_as_shift_and_scale_zero_exactly(dtype, value):
    y = torch.full((2, 3, 37, 41), value, dtype=dtype)
    for statistics in (mean_std, min_max):
        shift, scale = statistics(y)
        assert torch.equal(shift, y[:, :1, :1, :1].to(shift.dtype))
        assert torch.equal(scale, torch.zeros_like(scale))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_where_there_is_no_noise_the_deviation_is_the_scale(dtype):
    step = torch.zeros(1, 1, 32, 32, dtype=dtype)
    step[..., 16:] = 1.0
    noisy = torch.rand(1, 1, 32, 32, dtype=dtype, generator=torch.Generator().manual_seed(0))
    for unit in (1.0, 1e-30):
        shift, scale = mean_noise(unit * torch.cat([step, noisy]))
        assert shift[0].item() == pytest.approx(0.5 * unit)
        assert scale[0].item() == pytest.approx(0.5 * unit)  # the level of noise is 0
        assert torch.equal(scale[1:], noise_level(unit * noisy))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_what_may_be_rounding_is_no_noise_to_divide_by(dtype, monkeypatch):
    y = torch.rand(2, 1, 9, 9, dtype=dtype)
    deviation = mean_std(y).scale
    for share, expected in ((0.5, deviation), (2.0, 2.0 * torch.finfo(dtype).eps * deviation)):
        monkeypatch.setattr(
            equivariance, 'noise_level', lambda y, share=share: share * torch.finfo(dtype).eps * deviation
        )
        assert torch.equal(mean_noise(y).scale, expected)


def test_a_single_pixel_is_a_constant_image_with_either_correction():
    for correction in (0, 1):
        assert mean_std(torch.full((2, 1, 1, 1), 0.3), correction).scale.eq(0).all()


def test_statistics_of_half_precision_do_not_overflow():
    y = torch.linspace(0, 60000, 64 * 64).view(1, 1, 64, 64)
    shift, scale = mean_std(y.half())
    assert shift.dtype == scale.dtype == torch.float32
    torch.testing.assert_close(scale, y.double().std(correction=0).float().view(1, 1, 1, 1), rtol=1e-3, atol=0)


def test_normalize_is_undone_by_denormalize(images):
    pair = mean_std(images)
    z = normalize(images, pair)
    torch.testing.assert_close(z.mean((1, 2, 3)), torch.zeros(4, dtype=z.dtype), atol=1e-12, rtol=0)
    torch.testing.assert_close(z.std((1, 2, 3), correction=0), torch.ones(4, dtype=z.dtype))
    torch.testing.assert_close(denormalize(z, pair), images)


def test_normalize_leaves_its_input_alone_and_is_differentiable(images):
    before = images.clone()
    normalize(images, mean_std(images))
    assert torch.equal(images, before)
    y = images[:1, :, :4, :4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda y: normalize(y, mean_std(y)), y)


def test_defect_is_zero_for_an_equivariant_map_and_known_for_a_shifted_one():
    y = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    assert ne_defect(lambda y: 2 * y - y.mean((1, 2, 3), keepdim=True), y).max() < 1e-14
    # f(y) = y + c misses a f(y) + b by c (1 - a)
    c = 0.3
    generator = torch.Generator().manual_seed(5)
    a = torch.empty(8, dtype=torch.float64).uniform_(0.5, 1.5, generator=generator)
    b = torch.empty(8, dtype=torch.float64).uniform_(-0.25, 0.25, generator=generator)
    expected = [
        sum(8 * c * abs(1 - s) / ((s * (image + c) + t).norm() + 1e-6) for s, t in zip(a, b, strict=True)) / 8
        for image in y
    ]
    torch.testing.assert_close(ne_defect(lambda y: y + c, y, seed=5), torch.stack(expected))


def test_a_seed_for_each_image_draws_pairs_of_its_own():
    y = torch.rand(1, 1, 8, 8, dtype=torch.float64).repeat(3, 1, 1, 1)
    shared, own = (ne_defect(lambda y: y + 0.3, y, seed=seed) for seed in (5, [5, 6, 5]))
    assert shared[0] == shared[1] == shared[2] == own[0] == own[2] != own[1]


def test_nonzero_keeps_nan():
    scale = torch.tensor([0.0, 2.0, float('nan')])
    assert nonzero(scale)[:2].tolist() == [1.0, 2.0]
    assert nonzero(scale)[2].isnan()
