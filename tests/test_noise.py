import math

import pytest
import torch

from ne_basicsr.noise import UNIT_NOISE, TrainingNoise, add_noise, seed_of


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


def test_training_noise_of_a_sample_does_not_depend_on_its_batch():
    noise = TrainingNoise('gaussian', 'random', (0.0, 0.2))
    clean, seeds = torch.rand(5, 1, 8, 8), [11, 12, 13, 14, 15]
    together = noise.add(clean, seeds)
    for index in (0, 3):
        assert torch.equal(together[index : index + 1], noise.add(clean[index : index + 1], seeds[index : index + 1]))
    assert len({round(row.std().item(), 6) for row in together - clean}) == 5


def test_training_levels_follow_their_type():
    seeds = range(4000)
    constant = TrainingNoise('gaussian', 'constant', (0.1,))
    assert {constant.draw_sigma(seed) for seed in seeds} == {0.1}
    choice = [TrainingNoise('gaussian', 'choice', (0.1, 0.2)).draw_sigma(seed) for seed in seeds]
    assert set(choice) == {0.1, 0.2}
    assert 0.45 < choice.count(0.1) / len(choice) < 0.55
    levels = torch.tensor([TrainingNoise('gaussian', 'random', (0.0, 55 / 255)).draw_sigma(s) for s in seeds]) * 255
    assert 0 <= levels.min() < 1
    assert 54 < levels.max() <= 55
    assert levels.mean().item() == pytest.approx(27.5, abs=1)


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        ({'noise': {'type': 'laplace', 'sigma255': 20}}, ('laplace', 'constant', (20 / 255,))),
        (
            {'noise': {'type': 'gaussian', 'sigma_type': 'random', 'sigma255': [0, 55]}},
            ('gaussian', 'random', (0, 55 / 255)),
        ),
        ({'sigma_type': 'constant', 'sigma_range': 15}, ('gaussian', 'constant', (15 / 255,))),
        ({'sigma_type': 'choice', 'sigma_range': [15, 25]}, ('gaussian', 'choice', (15 / 255, 25 / 255))),
    ],
)
def test_options_in_8_bit_units_become_sigmas_on_the_unit_range(options, expected):
    assert TrainingNoise.from_options(options) == expected
