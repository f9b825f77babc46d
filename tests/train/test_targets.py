"""What the network sees and what it is compared with."""

import pytest
import torch

from ne_basicsr.ops.noise import TrainingNoise
from ne_basicsr.ops.noise_kinds import FURTHER, QUANTILE
from ne_basicsr.train.targets import TARGETS, clean, noise2noise, soft_ne

SEEDS = [31, 32, 33, 34]
IMAGES = torch.rand(4, 3, 40, 41, generator=torch.Generator().manual_seed(0))
RANDOM = TrainingNoise('gaussian', 'random', (0.02, 0.3), photons=(30.0, 300.0), kernel=((1.0, 2.0),))


@pytest.mark.parametrize('kind', [*QUANTILE, *FURTHER])
@pytest.mark.parametrize('name', TARGETS)
def test_the_pair_of_a_sample_does_not_depend_on_its_batch(name, kind):
    noise = RANDOM._replace(kind=kind)
    together = TARGETS[name](noise, IMAGES, SEEDS)
    for index in range(4):
        alone = TARGETS[name](noise, IMAGES[index : index + 1], SEEDS[index : index + 1])
        for whole, part in zip(together, alone, strict=True):
            assert torch.equal(whole[index : index + 1], part)


def test_a_clean_target_is_the_image_itself():
    lq, gt = clean(RANDOM, IMAGES, SEEDS)
    assert gt is IMAGES
    assert torch.equal(lq, RANDOM.add(IMAGES, SEEDS))


def test_two_noisy_copies_have_one_level_and_independent_noise():
    lq, gt = noise2noise(RANDOM, IMAGES, SEEDS)
    first, second = lq - IMAGES, gt - IMAGES
    for a, b, level in zip(first, second, RANDOM.levels(SEEDS), strict=True):
        assert a.std().item() == pytest.approx(level, rel=0.05)
        assert b.std().item() == pytest.approx(level, rel=0.05)
        assert abs((a * b).mean().item()) < 4 * level**2 / a.numel() ** 0.5
        assert (a * a).mean().item() > 0.9 * level**2  # what the same noise twice would give
    assert torch.equal(lq, clean(RANDOM, IMAGES, SEEDS)[0])  # the input is the one of the clean target


def test_soft_ne_transforms_input_and_target_alike():
    noisy = RANDOM.add(IMAGES, SEEDS)
    lq, gt = soft_ne(RANDOM, IMAGES, SEEDS)
    for n in range(4):
        alpha = gt[n].std() / IMAGES[n].std()
        mu = gt[n].mean() - alpha * IMAGES[n].mean()
        torch.testing.assert_close(gt[n], alpha * IMAGES[n] + mu, rtol=0, atol=1e-5)
        torch.testing.assert_close(lq[n], alpha * noisy[n] + mu, rtol=0, atol=1e-5)


def test_soft_ne_draws_scale_and_shift_uniformly_and_apart():
    count = 4000
    ramp = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).expand(count, -1, -1, -1)
    _, gt = soft_ne(RANDOM, ramp, range(count))
    mu, alpha = gt[:, 0, 0, 0], gt[:, 0, 0, 1] - gt[:, 0, 0, 0]
    for draws in (alpha, mu):
        assert -1e-6 <= draws.min() < 0.01 and 0.99 < draws.max() < 1.000001
        assert draws.mean().item() == pytest.approx(0.5, abs=0.02)
        assert draws.std().item() == pytest.approx(12**-0.5, abs=0.02)
    assert abs(torch.corrcoef(torch.stack([alpha, mu]))[0, 1].item()) < 4 / count**0.5
