import math
from pathlib import Path

import pytest
import torch

from ne_basicsr.ops import jpeg
from ne_basicsr.ops import noise_level as noise_level_module
from ne_basicsr.ops.noise import (
    UNIT_NOISE,
    TrainingNoise,
    add_noise,
    seed_of,
)
from ne_basicsr.ops.noise_kinds import QUANTILE
from ne_basicsr.ops.noise_level import noise_level, quietest, unspoilt_blocks


@pytest.mark.parametrize('kind', UNIT_NOISE)
def test_noise_has_unit_deviation_and_its_published_mean(kind):
    noise = UNIT_NOISE[kind]((1000, 1000), torch.Generator().manual_seed(1))
    mean = math.sqrt(math.pi / (4 - math.pi)) if kind == 'rayleigh' else 0.0  # not recentred
    assert noise.mean().item() == pytest.approx(mean, abs=5e-3)
    assert noise.std().item() == pytest.approx(1, abs=5e-3)


@pytest.mark.parametrize(('kind', 'kurtosis'), [('gaussian', 3), ('uniform', 1.8), ('laplace', 6), ('rayleigh', 3.245)])
def test_noise_has_the_shape_of_its_distribution(kind, kurtosis):
    noise = UNIT_NOISE[kind]((2000, 1000), torch.Generator().manual_seed(2)).double()
    centred = noise - noise.mean()
    assert (centred**4).mean().item() / (centred**2).mean().item() ** 2 == pytest.approx(kurtosis, rel=0.02)


def test_uniform_noise_is_bounded_by_root_three():
    noise = UNIT_NOISE['uniform']((500, 500), torch.Generator())
    assert noise.abs().max() <= math.sqrt(3)


def test_seeds_depend_on_every_part_and_on_nothing_else():
    parts = (0, 'image', 'gaussian', 25.0, 1)
    assert seed_of(*parts) == seed_of(*parts) == 7869422803950585737  # pinned: other seeds, other results
    others = {seed_of(*parts[:i], 'other', *parts[i + 1 :]) for i in range(len(parts))}
    assert len(others | {seed_of(*parts)}) == 6
    assert all(0 <= seed < 2**63 for seed in others)


def test_added_noise_is_scaled_not_clipped_and_repeats():
    clean = torch.full((1, 1, 200, 200), 0.95)
    noisy = add_noise(clean, 0.2, seed=3)
    assert (noisy - clean).std().item() == pytest.approx(0.2, rel=0.02)
    assert noisy.max() > 1
    assert torch.equal(noisy, add_noise(clean, 0.2, seed=3))
    assert not torch.equal(noisy, add_noise(clean, 0.2, seed=4))
    torch.testing.assert_close((add_noise(clean, 0.4, seed=3) - clean) / 2, noisy - clean)  # one draw, scaled


def training_noise(kind: str, sigma_type: str, sigmas: tuple[float, ...]) -> TrainingNoise:
    return (
        TrainingNoise('jpeg', 'choice', (), (5, 30, 60, 90))
        if kind == 'jpeg'
        else TrainingNoise(kind, sigma_type, sigmas)
    )


@pytest.mark.parametrize('kind', [*QUANTILE, 'jpeg'])
def test_training_noise_of_a_sample_does_not_depend_on_its_batch(kind):
    noise = training_noise(kind, 'random', (0.0, 0.2))
    clean, seeds = torch.rand(5, 1, 7, 9), [11, 12, 13, 14, 15]  # odd sizes: an image begins anywhere in a register
    together = noise.add(clean, seeds)
    for index in range(5):
        assert torch.equal(together[index : index + 1], noise.add(clean[index : index + 1], seeds[index : index + 1]))
        rest = slice(index, None)
        assert torch.equal(together[rest], noise.add(clean[rest], seeds[rest]))
    assert len({round(row.std().item(), 6) for row in together - clean}) == 5
    assert not torch.equal(together, noise.add(clean, [seed + 1 for seed in seeds]))


@pytest.mark.parametrize('kind', QUANTILE)
def test_training_and_test_noise_are_one_distribution(kind):
    assert QUANTILE.keys() == UNIT_NOISE.keys()
    count = 400_000
    clean = torch.zeros(4, 1, 1, count // 4)
    training = TrainingNoise(kind, 'constant', (1.0,)).add(clean, [1, 2, 3, 4]).flatten()
    testing = UNIT_NOISE[kind]((count,), torch.Generator().manual_seed(5))
    shares = torch.linspace(0.001, 0.999, 201)
    # Kolmogorov and Smirnov: the shares of the one below the quantiles of the other
    below = torch.searchsorted(training.sort().values, testing.sort().values[(shares * count).long()]) / count
    assert (below - shares).abs().max() < 1.95 * (2 / count) ** 0.5  # exceeded by chance in 1 of 1000
    assert training.std().item() == pytest.approx(1, abs=5e-3)
    assert training.isfinite().all()
    wrong = torch.searchsorted((1.02 * training).sort().values, testing.sort().values[(shares * count).long()]) / count
    assert (wrong - shares).abs().max() > 1.95 * (2 / count) ** 0.5  # two per cent more would be noticed


def test_jpeg_of_a_crop_has_its_own_quality_and_loses_less_the_higher_it_is():
    clean = photograph('astronaut.png')[..., :64, :64].float().expand(200, -1, -1, -1)
    seeds = range(200)
    noise = TrainingNoise('jpeg', 'choice', (), (5, 40, 90))
    errors = (noise.add(clean, seeds) - clean).square().mean(dim=(1, 2, 3))
    by_quality = {
        q: {errors[n].item() for n, level in enumerate(noise.levels(seeds)) if level == q} for q in (5, 40, 90)
    }
    assert all(len(values) == 1 for values in by_quality.values())
    (low,), (middle,), (high,) = by_quality.values()
    assert low > 2 * middle > 4 * high > 0


def test_jpeg_keeps_colours_in_their_channels():
    red = torch.tensor([0.9, 0.2, 0.1])[:, None, None].expand(3, 16, 16)
    torch.testing.assert_close(jpeg.compress(red, 95), red, rtol=0, atol=0.02)
    torch.testing.assert_close(jpeg.compress(red[:1], 95), red[:1], rtol=0, atol=0.02)


def test_training_levels_follow_their_type():
    seeds = range(4000)
    constant = TrainingNoise('gaussian', 'constant', (0.1,))
    assert set(constant.levels(seeds)) == {0.1}
    choice = TrainingNoise('gaussian', 'choice', (0.1, 0.2)).levels(seeds)
    assert set(choice) == {0.1, 0.2}
    assert 0.45 < choice.count(0.1) / len(choice) < 0.55
    levels = torch.tensor(TrainingNoise('gaussian', 'random', (0.0, 55 / 255)).levels(seeds)) * 255
    assert 0 <= levels.min() < 1
    assert 54 < levels.max() <= 55
    assert levels.mean().item() == pytest.approx(27.5, abs=1)


def test_a_set_of_pairs_has_no_noise():
    assert TrainingNoise.from_options({'type': 'SIDDDataset'}) is None


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        ({'noise': {'type': 'laplace', 'sigma255': 20}}, ('laplace', 'constant', (20 / 255,))),
        (
            {'noise': {'type': 'gaussian', 'sigma_type': 'random', 'sigma255': [0, 55]}},
            ('gaussian', 'random', (0, 55 / 255)),
        ),
        ({'noise': {'type': 'jpeg', 'quality': 40}}, ('jpeg', 'choice', (), (40,))),
        ({'noise': {'type': 'jpeg', 'quality': [5, 85]}}, ('jpeg', 'choice', (), (5, 85))),
        ({'sigma_type': 'constant', 'sigma_range': 15}, ('gaussian', 'constant', (15 / 255,))),
        ({'sigma_type': 'choice', 'sigma_range': [15, 25]}, ('gaussian', 'choice', (15 / 255, 25 / 255))),
    ],
)
def test_options_in_8_bit_units_become_sigmas_on_the_unit_range(options, expected):
    assert TrainingNoise.from_options(options) == TrainingNoise(*expected)


def photograph(name: str) -> torch.Tensor:
    """One of scikit-image's photographs, gray, (1, 1, H, W) in float64."""
    import skimage

    from ne_basicsr.data.image_store import decode

    data = (Path(skimage.__file__).parent / 'data' / name).read_bytes()
    return torch.from_numpy(decode(data, 1, name)).permute(2, 0, 1)[None].double()


@pytest.mark.parametrize('name', ['camera.png', 'astronaut.png', 'chelsea.png', 'coffee.png'])
@pytest.mark.parametrize('level', [10, 25, 50, 100])
def test_the_level_of_known_noise_is_found_on_photographs(name, level):
    noisy = add_noise(photograph(name), level / 255, seed=seed_of(name, level))
    assert noise_level(noisy).item() * 255 == pytest.approx(level, rel=0.08)


@pytest.mark.parametrize('name', ['camera.png', 'astronaut.png', 'coffee.png'])
@pytest.mark.parametrize('level', [25, 50])
def test_the_level_is_found_on_photographs_that_are_clipped_and_rounded_to_8_bits(name, level):
    noisy = add_noise(photograph(name), level / 255, seed=seed_of(name, level))
    in_8_bits = (255 * noisy).round().clamp(0, 255) / 255
    assert noise_level(in_8_bits).item() * 255 == pytest.approx(level, rel=0.08)


def test_texture_does_not_pass_for_noise_as_it_does_for_the_median_deviation():
    noisy = add_noise(photograph('brick.png'), 5 / 255, seed=1)
    diagonal = (noisy[..., ::2, ::2] - noisy[..., 1::2, ::2] - noisy[..., ::2, 1::2] + noisy[..., 1::2, 1::2]) / 2
    haar = diagonal.abs().median().item() / 0.6745 * 255
    assert abs(noise_level(noisy).item() * 255 - 5) < abs(haar - 5)


@pytest.mark.parametrize(('a', 'b'), [(3.0, 0.0), (1e-3, 5.0), (250.0, -7.0)])
def test_the_level_follows_scaling_and_ignores_shifts(a, b):
    y = torch.cat([add_noise(photograph('camera.png')[..., :96, :80], s, seed=1) for s in (0.02, 0.2)])
    torch.testing.assert_close(noise_level(a * y + b), a * noise_level(y), rtol=1e-9, atol=0)


def test_the_level_is_that_of_each_image_alone():
    y = torch.cat([add_noise(photograph('camera.png')[..., :64, :64], s, seed=2) for s in (0.02, 0.2)])
    torch.testing.assert_close(noise_level(y), torch.cat([noise_level(image[None]) for image in y]), rtol=1e-12, atol=0)


def test_bands_of_a_large_image_have_its_level(monkeypatch):
    y = torch.linspace(0, 1, 400)[:, None] * torch.linspace(0, 1, 600) + 0.1 * torch.rand(2, 3, 400, 600)
    whole = noise_level(y)
    monkeypatch.setattr(noise_level_module, 'MOST', 20_000)  # bands of 8 rows, 12 rows apart
    torch.testing.assert_close(noise_level(y), whole, rtol=0.03, atol=0)  # each of 100 blocks of 36 x 3 values
    assert not torch.equal(noise_level(y), whole)
    changed = y.clone()
    changed[:, :, 8:12] = torch.rand(2, 3, 4, 600)  # between bands, inside the range
    torch.testing.assert_close(noise_level(changed), noise_level(y), rtol=0, atol=0)


@pytest.mark.parametrize('shape', [(1, 1), (1, 9), (2, 2), (5, 9), (40, 40)])
def test_an_image_without_noise_has_level_zero_and_any_size_is_finite(shape):
    assert noise_level(torch.full((1, 3, *shape), 0.3)).item() == 0
    assert noise_level(torch.rand(2, 3, *shape)).isfinite().all()


def test_white_noise_alone_is_measured_in_colour_too():
    for channels in (1, 3):
        y = 0.1 * torch.randn(2, channels, 128, 128, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(noise_level(y).flatten(), torch.full((2,), 0.1), rtol=0.05, atol=0)


def test_a_200th_of_the_blocks_speaks_and_64_at_least():
    assert quietest(torch.tensor([0, 10, 64, 1000, 20000])).tolist() == [0, 10, 64, 64, 100]


def test_a_block_is_saturated_from_its_second_pixel_at_an_end_of_the_image():
    y = torch.linspace(0.2, 0.8, 64).view(1, 1, 8, 8).clone()
    for end in (0.0, 1.0):
        saturated = y.clone()
        for pixel, expected in (((1, 2), True), ((5, 6), False)):
            saturated[0, 0, pixel[0], pixel[1]] = end
            textured, unsaturated = unspoilt_blocks(saturated, 8, saturated.min(), saturated.max())
            assert (textured.all(), unsaturated.all()) == (True, expected)
