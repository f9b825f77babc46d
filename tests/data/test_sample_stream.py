from itertools import islice

import pytest

from ne_basicsr.data.batch import SampleStream


class Numbered(list):
    takes_sample_numbers = True


DATASET = Numbered(range(6))


def samples(count, **options):
    return list(islice(SampleStream(DATASET, **options), count))


def test_an_epoch_sees_every_image_as_often_and_epochs_differ():
    indices = [index for index, _ in samples(24, ratio=2)]
    assert all(sorted(indices[s : s + 12]) == sorted([*range(6)] * 2) for s in (0, 12))
    assert indices[:12] != indices[12:]


def test_numbers_count_on_over_epochs():
    assert [number for _, number in samples(20)] == list(range(20))


@pytest.mark.parametrize('world_size', [2, 3, 8, 13])
def test_ranks_share_the_stream(world_size):
    alone = samples(5 * world_size)
    for rank in range(world_size):
        assert samples(5, rank=rank, world_size=world_size) == alone[rank::world_size]


@pytest.mark.parametrize('start', [1, 5, 6, 7, 40])
def test_a_stream_goes_on_anywhere(start):
    assert samples(9, start=start) == samples(start + 9)[start:]
    assert samples(4, start=start, rank=1, world_size=2) == samples(start + 8)[start + 1 :: 2]


def test_orders_depend_on_the_seed():
    assert samples(12, seed=1) != samples(12, seed=2)
    assert samples(12, seed=1) == samples(12, seed=1)


def test_data_sets_without_numbers_get_integers_of_python():
    indices = list(islice(SampleStream([0, 1, 2]), 3))
    assert sorted(indices) == [0, 1, 2]
    assert all(type(index) is int for index in indices)
