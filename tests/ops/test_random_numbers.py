import numpy as np
import pytest
import torch

from ne_basicsr.ops.random_numbers import below, centred_uniforms, draws, fractions, permutation


def test_the_numbers_are_those_of_splitmix64():
    # the first outputs for seed 1234567, as listed for the reference implementation (Rosetta Code, Splitmix64)
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert draws(1234567, [0], 5)[0].tolist() == expected


def test_a_number_depends_on_its_place_alone():
    together = draws(3, range(100), 4)
    assert np.array_equal(together[[17, 99, 17]], draws(3, [17, 99, 17], 4))
    assert len(np.unique(together)) == 400
    assert not np.isin(together, draws(4, range(100), 4)).any()


def test_large_seeds_and_numbers_wrap_without_a_warning(recwarn):
    draws(2**63 - 1, [0, 2**62], 3)
    assert not recwarn.list


def test_integers_below_a_limit_are_uniform():
    fraction = fractions(draws(0, range(40_000), 1)[:, 0])
    for limit in (1, 8, 411):
        values = below(fraction, limit)
        assert (values.min(), values.max()) == (0, limit - 1)
        expected = len(values) / limit
        chi_square = ((np.bincount(values, minlength=limit) - expected) ** 2 / expected).sum()
        assert chi_square < limit - 1 + 4 * np.sqrt(2 * limit)  # four deviations


def test_columns_are_independent():
    columns = draws(0, range(40_000), 3).astype(float)
    assert np.abs(np.corrcoef(columns.T) - np.eye(3)).max() < 4 / np.sqrt(40_000)


def test_permutations_have_every_index_once_and_differ_by_seed():
    first, second = permutation(0, 1000), permutation(1, 1000)
    assert sorted(first) == sorted(second) == list(range(1000))
    assert (first == second).sum() < 10
    assert (first == np.arange(1000)).sum() < 10


@pytest.mark.parametrize('shape', [(1, 1, 1), (1, 7, 9), (3, 8, 8)])
def test_centred_uniforms_are_odd_multiples_of_2_to_the_minus_24(shape):
    v = centred_uniforms(range(64), shape)
    assert v.shape == (64, *shape)
    steps = v.double() * 2**24
    assert torch.equal(steps, steps.round())
    assert (steps % 2 == 1).all()
    assert steps.abs().max() < 2**24


def test_neighbours_seeds_and_images_are_independent():
    v = centred_uniforms(range(400), (1, 50, 50))[:, 0] * 3**0.5
    for a, b in [(v[:, 1:], v[:, :-1]), (v[:, :, 1:], v[:, :, :-1]), (v[1:], v[:-1]), (v[:, :, 2:], v[:, :, :-2])]:
        assert abs((a * b).mean().item()) < 4 / a.numel() ** 0.5
