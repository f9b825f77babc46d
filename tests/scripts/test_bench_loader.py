"""What the loader's benchmark runs is checked; how long it takes is not."""

import json

import bench_loader as loader  # of scripts/, see conftest.py
import torch

TINY = loader.Shape(images=3, size=32, batch=4, crop=16)


def test_all_loaders_deliver_the_same_kind_of_batch(tmp_path):
    stores = loader._make_stores(tmp_path, TINY)
    *loaders, noisy, floor = loader._loaders(stores, TINY, 1, 1)
    for each in loaders:
        batch = next(each.batches)
        assert batch.shape == (4, 1, 16, 16)
        assert batch.dtype == torch.float32
        assert 0 <= batch.min() < batch.max() <= 1
        assert not torch.equal(batch, next(each.batches))
    assert next(noisy.batches).shape == next(floor.batches).shape == (4, 1, 16, 16)


def test_rates_of_every_round_and_their_ratios_are_reported():
    turns = []
    report = loader.measure_loaders(TINY, rounds=3, slow_batches=1, fast_batches=1, on_turn=lambda: turns.append(1))
    rates = report['patches_per_s']
    assert len(turns) == 3 * len(rates) == 15
    assert all(len(own) == 3 and min(own) > 0 for own in rates.values())
    assert json.loads(loader.as_json(report))['patches_per_s'] == rates
    table = loader.loader_table(report | {'patches_per_s': {loader.FIRST: [100.0] * 7, 'twice': [200.0] * 7}})
    assert table.splitlines()[-1].split() == ['twice', '200', '5000.00', '2', '2-2', '0.0512']
