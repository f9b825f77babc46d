"""What the network sees and what it is compared with."""

import pytest
import torch
import torch.nn.functional as F
from basicsr.archs import build_network
from torch import Tensor, nn

from ne_basicsr.ops.noise import TrainingNoise
from ne_basicsr.ops.noise_kinds import FURTHER, QUANTILE
from ne_basicsr.train import targets
from ne_basicsr.train.targets import FROM_NOISY, TARGETS, Task, clean, noise2noise, r2r, soft_ne, sure, task_of

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


# -- from noisy images alone -------------------------------------------------------------------------------------------

SIGMA, COUNT, GROUPS = 0.3, 1600, 20
LEVELS = torch.full((COUNT, 1, 1, 1), SIGMA, dtype=torch.float64)
CELLS = torch.rand(COUNT, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
CELLS = CELLS.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)  # equal in each cell of 2x2
NOISY = CELLS + SIGMA * torch.randn(CELLS.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def gradients(task: Task, network: nn.Module) -> Tensor:
    """Of the whole loss, in the weights, of each group of images, (GROUPS, weights)."""
    found, groups = [], [each.unflatten(0, (-1, GROUPS, COUNT // GROUPS)).movedim(1, 0) for each in task[:2]]
    for lq, gt in zip(*(group.flatten(1, 2) for group in groups), strict=True):
        loss = F.mse_loss(network(lq)[: len(gt)], gt)
        found.append(torch.autograd.grad(loss, list(network.parameters())))
    if task.addition:  # a mean over all images: its share is not known by group
        added = torch.autograd.grad(task.addition(network, network(task.lq)), list(network.parameters()))
        found = [tuple(a + b for a, b in zip(each, added, strict=True)) for each in found]
    return torch.stack([torch.cat([part.flatten() for part in each]) for each in found])


def deviation(found: Tensor, wanted: Tensor) -> float:
    """The largest distance between the means of (GROUPS, weights), in standard errors of their difference."""
    difference = found - wanted
    return float((difference.mean(dim=0).abs() / (difference.std(dim=0) / GROUPS**0.5)).max())


@pytest.fixture
def linear() -> nn.Module:
    return nn.Conv2d(1, 1, 3, padding=1, dtype=torch.float64)


def test_recorrupted_pairs_have_the_gradient_of_clean_targets(linear: nn.Module) -> None:
    task = r2r(NOISY, LEVELS, range(COUNT))
    wanted = gradients(Task(task.lq, CELLS), linear)
    assert deviation(gradients(task, linear), wanted) < 4
    for wrong in (r2r(NOISY, 0.8 * LEVELS, range(COUNT)), Task(task.lq, NOISY)):
        assert deviation(gradients(wrong, linear), gradients(Task(wrong.lq, CELLS), linear)) > 10


def test_neighbours_have_the_gradient_of_clean_targets_where_they_show_the_same(linear: nn.Module) -> None:
    task = targets.neighbor2neighbor(NOISY, LEVELS, range(COUNT))._replace(addition=None)
    wanted = gradients(Task(task.lq, targets.neighbor2neighbor(CELLS, LEVELS, range(COUNT)).gt), linear)
    assert deviation(gradients(task, linear), wanted) < 4
    assert deviation(gradients(Task(task.lq, task.lq), linear), wanted) > 10


def test_sure_has_the_gradient_of_clean_targets(linear: nn.Module) -> None:
    wanted = gradients(Task(NOISY, CELLS), linear)
    assert deviation(gradients(sure(NOISY, LEVELS, range(COUNT)), linear), wanted) < 4
    for wrong in (sure(NOISY, 0.8 * LEVELS, range(COUNT)), Task(NOISY, NOISY)):
        assert deviation(gradients(wrong, linear), wanted) > 10


@pytest.mark.parametrize('name', FROM_NOISY)
def test_the_task_of_a_sample_does_not_depend_on_its_batch(name: str) -> None:
    noisy, levels, network = RANDOM.add(IMAGES, SEEDS), torch.full((4, 1, 1, 1), 0.1), nn.Conv2d(3, 3, 3, padding=1)
    together, added = FROM_NOISY[name](noisy, levels, SEEDS), []
    for index in range(4):
        part = slice(index, index + 1)
        alone = FROM_NOISY[name](noisy[part], levels[part], SEEDS[part])
        assert torch.equal(alone.gt, together.gt[index::4])
        assert torch.equal(alone.lq, together.lq[index::4])
        assert not torch.equal(alone.lq, FROM_NOISY[name](noisy[part], levels[part], [5]).lq)
        added.append(alone.addition(network, network(alone.lq)) if alone.addition else torch.zeros(()))
    if together.addition:
        torch.testing.assert_close(together.addition(network, network(together.lq)), torch.stack(added).mean())


def test_the_second_loss_of_neighbours_knows_what_they_show() -> None:
    """Without noise, the identity is right, though the neighbours differ; a blur is not."""
    task = FROM_NOISY['neighbor2neighbor'](IMAGES, LEVELS, SEEDS, weight=3)
    assert F.mse_loss(task.lq, task.gt) > 0.1
    assert task.addition(lambda images: images, task.lq) == 0
    blur = task.addition(lambda images: F.avg_pool2d(images, 3, 1, 1), F.avg_pool2d(task.lq, 3, 1, 1))
    assert blur > 0.01
    doubled = FROM_NOISY['neighbor2neighbor'](IMAGES, LEVELS, SEEDS, weight=6)
    assert doubled.addition(lambda images: 0 * images, 0 * task.lq) == 2 * task.addition(lambda y: 0 * y, 0 * task.lq)


def test_neighbours_share_no_pixel_and_are_no_diagonal() -> None:
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing='ij')
    places = torch.stack([rows, columns])[None]
    first, second, _ = FROM_NOISY['neighbor2neighbor'](places, LEVELS, [3])
    assert torch.equal(first.div(2).floor(), second.div(2).floor())  # of one cell
    assert (first - second).abs().sum(dim=1).eq(1).all()
    assert first.shape == second.shape == (4, 2, 20, 20)
    apart = (first - second).abs().mean(dim=(2, 3))  # in rows, in columns: two parts are halved in width, two in height
    assert apart.tolist() == [[0, 1], [0, 1], [1, 0], [1, 0]]
    for draw in (first, second):  # each of two neighbours half of the times: 4 standard errors of 400 draws
        for odd in draw.remainder(2).flatten(2)[0]:
            assert odd.mean().item() == pytest.approx(0.5, abs=0.1)


def test_either_of_two_noisy_shots_is_the_input() -> None:
    batch = {'lq': IMAGES, 'gt': IMAGES + 1, 'number': torch.arange(4)}
    found = [task_of(batch, seed, {'target': 'noise2noise'}, None) for seed in range(8)]
    for lq, gt, _ in found:
        is_swapped = (lq != IMAGES).flatten(1).any(dim=1)[:, None, None, None]
        assert torch.equal(lq, IMAGES + is_swapped)
        assert torch.equal(gt, IMAGES + ~is_swapped)
    assert 4 < sum(int((lq != IMAGES).flatten(1).any(dim=1).sum()) for lq, _, _ in found) < 28
    for kept in (task_of(batch, 0, {}, None), task_of({'lq': IMAGES, 'gt': IMAGES + 1}, 0, {}, None)):
        assert kept.lq is IMAGES and torch.equal(kept.gt, IMAGES + 1)


def test_the_level_is_what_is_given_or_added_or_measured() -> None:
    noise = TrainingNoise('gaussian', 'constant', (0.1,))
    noisy, numbers = noise.add(IMAGES, SEEDS), {'number': torch.arange(4)}
    recorrupted = {'target': 'r2r'}

    def level(task: Task) -> Tensor:
        return (task.lq - task.gt).flatten(1).std(dim=1) / 2.5  # of a n + n / a, a = 1 / 2

    for options, batch, wanted in (
        (recorrupted | {'sigma255': 51}, {'lq': noisy}, 0.2),
        (recorrupted, {'lq': noisy, 'level': torch.full((6, 1, 1, 1), 0.3)}, 0.3),
        (recorrupted, {'gt': IMAGES}, 0.1),
    ):
        assert level(task_of(batch | numbers, 0, options, noise)).tolist() == pytest.approx([wanted] * 4, rel=0.04)
    flat = noise.add(torch.zeros_like(IMAGES), SEEDS)
    assert level(task_of({'lq': flat} | numbers, 0, recorrupted, None)).tolist() == pytest.approx([0.1] * 4, rel=0.1)


def small(kind: str) -> nn.Module:
    return build_network({'type': kind, 'num_feat': 8, 'num_layers': 4, 'act_mode': 'R'})


@pytest.mark.parametrize('kind', ['DnCNN', 'DnCNNWNE'])
@pytest.mark.parametrize('amp', [False, True])
def test_sure_is_the_error_against_clean_images(kind: str, amp: bool) -> None:
    network, clean, levels = small(kind), CELLS[:1000].float(), LEVELS[:1000].float()
    noisy = NOISY[:1000].float()
    task = sure(noisy, levels, range(1000))
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=amp):
        output = network(task.lq).float()
    residual = F.mse_loss(output[:1000], noisy)
    error = F.mse_loss(output[:1000], clean)
    found = residual + task.addition(network, output)
    assert found.item() == pytest.approx(error.item(), abs=0.05 * SIGMA**2)  # 4 standard errors of 64,000 pixels
    assert abs(residual - error) > 0.5 * SIGMA**2
