"""Noise levels of trainings, found by experiment: denoisers whose level is known by construction, and public ones."""

import json
import logging

import pytest
import torch
from basicsr.archs import build_network
from torch import Tensor, nn

import ne_basicsr
from ne_basicsr.archs.wne_arch import WNE
from ne_basicsr.archs.zero_shot_arch import ZeroShot
from ne_basicsr.inference import training_level
from ne_basicsr.inference.denoiser import SIDE, Denoiser
from ne_basicsr.inference.loading import wrap_zero_shot
from ne_basicsr.inference.training_level import find_training_levels
from ne_basicsr.ops.noise import LevelRange


def box(x: Tensor) -> Tensor:
    return nn.functional.avg_pool2d(nn.functional.pad(x, (2,) * 4, mode='reflect'), 5, 1)


def local_wiener(level255: float) -> Denoiser:
    """A real denoiser of one level, without training: Lee's filter, with means and variances of 5x5 pixels."""

    def denoise(y: Tensor) -> Tensor:
        mean = box(y)
        variance = (box(y * y) - mean * mean).clamp(min=1e-9)
        return mean + (1 - (level255 / 255) ** 2 / variance).clamp(min=0) * (y - mean)

    return Denoiser(denoise)


def knowing(low255: float, high255: float) -> Denoiser:
    """One that knows the photographs and the range: alpha is sigma/low below it, 1 within, sigma/high above."""

    def denoise(y: Tensor) -> Tensor:
        if y.shape[-1] == SIDE:  # of the facts
            return y
        clean = min(training_level._photographs(1).to(y), key=lambda image: (y - image).square().sum())
        noise = y - clean
        level = 255 * noise.std().item()
        alpha = min(1.0, level / low255) * max(1.0, level / high255)
        return y - noise / alpha

    return Denoiser(denoise)


@pytest.mark.parametrize('level', [15, 50])
def test_a_denoiser_of_one_level_is_found_at_it(level):
    # a filter has no training, so the level at which it removes just enough is near its own, not equal
    found = find_training_levels(local_wiener(level))
    assert found == pytest.approx((level,), rel=0.1)


@pytest.mark.parametrize(
    ('low', 'high', 'expected'),
    [(30, 30, (30,)), (70, 70, (70,)), (0.1, 55, (2.5, 56)), (15, 40, (20, 41)), (0.1, 500, (2.5, 160))],
)
def test_levels_are_where_no_multiple_of_the_residual_is_better(low, high, expected):
    # 2% of the search, and 2% more at the upper end of a range, where alpha must be told from 1
    assert find_training_levels(knowing(low, high)) == pytest.approx(expected, rel=0.04)


@pytest.mark.parametrize(
    'network',
    [nn.Identity(), lambda y: 0 * y, lambda y: 1 - y, lambda y: y / 0, lambda y: y.round(), lambda y: y + 0.1],
    ids=['identity', 'black', 'negative', 'nan', 'binary', 'brighter'],
)
def test_what_does_not_denoise_has_no_level(network):
    assert find_training_levels(Denoiser(network)) == ()


def test_what_was_found_is_kept_by_the_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(training_level, 'user_cache_path', lambda name: tmp_path / name)
    calls = []
    monkeypatch.setattr(training_level, 'find_training_levels', lambda denoiser: calls.append(1) or LevelRange(5, 55))
    first, other = (Denoiser(build_network({'type': 'DnCNN', 'num_feat': 4, 'num_layers': n})) for n in (3, 4))
    assert training_level.training_levels(first) == training_level.training_levels(first) == (5, 55)
    assert len(calls) == 1
    training_level.training_levels(other)
    assert len(calls) == 2
    file = next(tmp_path.rglob(f'{first.digest}.json'))
    assert json.loads(file.read_text()) == [5, 55]
    file.write_text('[5')  # damaged
    assert training_level.training_levels(first) == (5, 55)
    assert len(calls) == 3
    monkeypatch.setattr(training_level, 'user_cache_path', lambda name: tmp_path / 'file')
    (tmp_path / 'file').touch()  # no folder can be made
    assert training_level.training_levels(first) == (5, 55)


@pytest.mark.parametrize(
    ('found', 'wrapper', 'value', 'said'),
    [
        ((30.0,), ZeroShot, 30 / 255, 'trained at noise level 30 of 255'),
        (LevelRange(5.0, 30.0), WNE, 30 / 255, 'trained at noise levels 5 to 30 of 255'),
        (LevelRange(5.0, 160.0), WNE, 0.25, '5 to 160 of 255'),
        ((), WNE, 0.25, 'name it, as in net.pth@25+wne'),
    ],
)
def test_a_file_without_record_is_wrapped_by_what_is_found(tmp_path, monkeypatch, caplog, found, wrapper, value, said):
    monkeypatch.setattr('ne_basicsr.inference.loading.training_levels', lambda denoiser: found)
    torch.save(build_network({'type': 'DnCNN', 'num_feat': 4, 'num_layers': 3}).state_dict(), tmp_path / 'net.pth')
    with caplog.at_level(logging.INFO, 'basicsr'):
        denoiser = ne_basicsr.load(tmp_path / 'net.pth', wrap='wne')
    assert type(denoiser.network) is wrapper
    assert (denoiser.network.sigma if wrapper is ZeroShot else denoiser.network.target.scale) == pytest.approx(value)
    assert denoiser.training_levels255 == found
    assert type(denoiser.training_levels255) is type(found)
    assert said in caplog.text
    assert (
        f'in {wrapper.__name__}{", trained at noise" if found else ":"}' in denoiser.description
    )  # which denoise prints


def test_a_network_that_refuses_the_crops_is_wrapped_with_a_warning(caplog):
    class Large(nn.Module):
        def forward(self, y: Tensor) -> Tensor:
            if y.shape[-1] % 128:
                raise RuntimeError('sides must be multiples of 128')
            return y

    network, levels = wrap_zero_shot(Large())
    assert isinstance(network, WNE)
    assert levels == ()
    assert 'cannot be measured' in caplog.text


def test_a_public_denoiser_of_one_level_is_found_at_it(shared):
    found = find_training_levels(
        ne_basicsr.load(shared / 'weights' / 'kair_cdncnn_50.pth')
    )  # others: docs/zero_shot.md
    assert found == pytest.approx((50,), rel=0.05)


def test_the_shipped_denoiser_has_a_range():
    found = find_training_levels(ne_basicsr.load('gray'))
    assert found.low <= 5
    assert found.high >= 75
