import math

import pytest
import torch

from ne_basicsr.ops.degradations import KINDS, Degradation, parse_degradation
from ne_basicsr.ops.jpeg import compress
from ne_basicsr.utils.errors import InputError

CLEAN = torch.full((1, 1, 64, 64), 0.5)


def apply(text: str, level: float, **options) -> torch.Tensor:
    return parse_degradation(text).apply(CLEAN, 'image', level, **options)


@pytest.mark.parametrize('kind', ['gaussian', 'uniform', 'laplace', 'rayleigh'])
def test_the_level_of_noise_is_its_standard_deviation(kind):
    noise = apply(kind, 25) - CLEAN
    assert noise.std().item() == pytest.approx(25 / 255, rel=0.05)
    mean = math.sqrt(math.pi / (4 - math.pi)) if kind == 'rayleigh' else 0  # of sigma: not recentred, as published
    assert noise.mean().item() * 255 / 25 == pytest.approx(mean, abs=0.05)


def test_photon_noise_has_the_variance_of_its_counts():
    noisy = parse_degradation('poisson@0').apply(CLEAN, 'image', 100)
    assert noisy.mean().item() == pytest.approx(0.5, abs=0.005)
    assert noisy.var().item() == pytest.approx(0.5 / 100, rel=0.08)
    with_gaussian = parse_degradation('poisson@51').apply(CLEAN, 'image', 100)
    assert with_gaussian.var().item() == pytest.approx(0.5 / 100 + 0.2**2, rel=0.08)


def test_gain_and_offset_change_the_gaussian_image_by_a_y_plus_b_alone():
    noisy = apply('gaussian', 25)
    assert torch.equal(apply('gain', 3), noisy * 3)
    assert torch.equal(apply('offset@25', -2), noisy - 2)
    for kind, level in (('gain', 3.0), ('offset', -2.0)):
        degradation = parse_degradation(kind)
        assert torch.allclose(degradation.undo(degradation.apply(CLEAN, 'image', level), level), noisy, atol=1e-6)


def test_jpeg_loses_more_at_lower_quality_and_draws_nothing():
    ramp = torch.rand(1, 3, 48, 48)
    jpeg = parse_degradation('jpeg')
    errors = [(jpeg.apply(ramp, 'image', quality) - ramp).square().mean().item() for quality in (5, 40, 95)]
    assert errors == sorted(errors, reverse=True)
    assert torch.equal(jpeg.apply(ramp, 'image', 40, draw=3, seed=7), jpeg.apply(ramp, 'other', 40))
    flat = torch.tensor([0.2, 0.5, 0.8]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    assert (jpeg.apply(flat, 'image', 95) - flat).abs().max() < 0.02  # channels keep their places


def test_random_numbers_depend_on_seed_name_kind_level_and_draw():
    def residual(text, name, level, draw, seed):
        noise = parse_degradation(text).apply(CLEAN, name, level, draw, seed) - CLEAN
        return (noise - noise.mean()).flatten()

    base = ('gaussian', 'a', 25.0, 0, 0)
    others = [('laplace', 'a', 25.0, 0, 0), ('gaussian', 'b', 25.0, 0, 0), ('gaussian', 'a', 26.0, 0, 0),
              ('gaussian', 'a', 25.0, 1, 0), ('gaussian', 'a', 25.0, 0, 1), ('poisson', 'a', 25.0, 0, 0)]  # fmt: skip
    assert torch.equal(residual(*base), residual('gaussian', 'a', 25, 0, 0))
    correlations = torch.corrcoef(torch.stack([residual(*base), *(residual(*other) for other in others)]))
    assert (correlations - torch.eye(len(others) + 1)).abs().max() < 0.1


@pytest.mark.parametrize(
    ('text', 'level', 'given255'),
    [
        ('gaussian', 25, 25), ('laplace', 10, 10), ('gain@10', 3, 30), ('gain', 0.5, 12.5), ('offset@10', 3, 10),
        ('offset', -2, 25), ('offset@0', 1, 0), ('jpeg', 40, None), ('poisson', 100, None),
    ],
)  # fmt: skip
def test_networks_are_told_the_noise_that_is_in_the_image(text, level, given255):
    degradation = parse_degradation(text)
    given = degradation.noise_given(level)
    assert given == (None if given255 is None else pytest.approx(given255 / 255))
    if given is not None:
        noise = degradation.apply(CLEAN, 'image', level)
        assert (noise - noise.mean()).std().item() == pytest.approx(given, rel=0.05, abs=1e-6)


@pytest.mark.parametrize('kind', ['camera', 'correlated', 'demosaicked', 'speckle', 'varying'])
def test_further_noise_is_as_strong_as_its_level_at_most(kind):
    clean = torch.ones(1, 3, 96, 96)
    noisy = parse_degradation(kind).apply(clean, 'image', 51)
    # the variance of camera noise at white is 0.2 to 1.8; demosaicking means over neighbours; the mean square of a map
    # between 0 and 1 is 1/4 to 1/3
    bounds = {'camera': (0.44, 1.35), 'demosaicked': (0.74, 0.8), 'varying': (0.35, 0.7)}
    low, high = bounds.get(kind, (0.95, 1.05))
    assert 0.2 * low < (noisy - clean).std() < 0.2 * high
    assert torch.equal(parse_degradation(kind).apply(clean, 'image', 0), clean)
    assert torch.equal(parse_degradation(kind).apply(clean, 'image', 51.0), noisy)
    assert not torch.equal(parse_degradation(kind).apply(clean, 'image', 51, draw=1), noisy)


def test_jpeg_after_noise_compresses_the_gaussian_image():
    noisy = parse_degradation('gaussian').apply(CLEAN, 'image', 25)
    degradation = parse_degradation('jpeg@25=30,90')
    assert degradation.is_random and not parse_degradation('jpeg').is_random
    assert torch.equal(degradation.apply(CLEAN, 'image', 30), compress(noisy[0], 30)[None])
    assert degradation.noise_given(30) is None and str(degradation) == 'jpeg@25'


def test_the_earlier_name_of_photon_noise_still_counts():
    assert parse_degradation('poisson@3=10,100') == parse_degradation('poisson_gaussian@3=10,100')


def test_a_validation_set_names_its_degradation():
    section = {'noise': {'type': 'poisson_gaussian', 'sigma255': 2}, 'sigma_test': [100, 10]}
    assert Degradation.from_options(section) == parse_degradation('poisson_gaussian=10,100')
    assert Degradation.from_options({'sigma_test': 25}) == parse_degradation('gaussian=25')
    rows = Degradation.from_options({'noise': {'type': 'correlated', 'kernel': [[1, 1]]}, 'sigma_test': 25})
    assert rows.kernel == ((1, 1),)


def test_levels_are_listed_or_spaced():
    assert parse_degradation('gaussian=50,5,25').levels == (5, 25, 50)
    spaced = parse_degradation('gaussian', [25]).levels
    assert (len(spaced), spaced[0], spaced[-1]) == (21, 5, 100)
    assert 25 in spaced and spaced[1] == pytest.approx(5.8539, abs=1e-4)  # the paper's second level
    assert parse_degradation('gaussian=5:10:2', [0, 7]).levels == (5, 7, 10)  # no noise is no level to add
    assert parse_degradation('gaussian=50', [25]).levels == (50,)  # what is listed is not added to
    assert parse_degradation('jpeg').levels == tuple(range(5, 86, 5))
    assert parse_degradation('gain@10=0.1:10:3').levels == (0.1, 1, 10)
    assert parse_degradation('offset=-1:1:3') == Degradation('offset', (-1, 0, 1), 25)


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_has_levels_of_its_own(kind):
    degradation = parse_degradation(kind)
    assert len(degradation.levels) > 5
    assert degradation.apply(torch.rand(1, 3, 16, 16), 'image', degradation.levels[0]).shape == (1, 3, 16, 16)


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('gausian', "got 'gausian'; did you mean 'gaussian'"),
        ('gaussian=5:100', 'first:last:count'),
        ('gaussian=0:100:5', 'equal ratios need levels above 0'),
        ('gaussian=five', "'five' is not a number"),
        ('gaussian=-5', 'between 0 and inf'),
        ('gaussian@25', 'no noise beside it'),
        ('gain@-1', 'at least 0'),
        ('gain=0', 'between 1e-06 and'),
        ('jpeg=0', 'between 1 and 100'),
        ('jpeg=12.5', 'a whole number'),
        ('gaussian=nan', 'is not a number'),
    ],
)
def test_a_wrong_degradation_is_explained(text, reason):
    with pytest.raises(InputError, match=reason):
        parse_degradation(text)
