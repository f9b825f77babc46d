"""Training targets: what the network sees, what its output is compared with, and what is added to the loss.

Everything depends on an image and its seed alone. The option file chooses the loss; the papers use the mean square.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ne_basicsr.ops.noise import TrainingNoise, seed_of
from ne_basicsr.ops.noise_kinds import QUANTILE
from ne_basicsr.ops.noise_level import noise_level
from ne_basicsr.ops.random_numbers import centred_uniforms

Pair = tuple[Tensor, Tensor]
"""(lq, gt), each (N, C, H, W): the input of the network, and the target of its output."""

R2R_STRENGTH = 0.5  # of the paper's experiments
SURE_STEP = 0.1  # of the noise level: large enough for bfloat16, and the divergence is that of 0.5% more noise


class Task(NamedTuple):
    """What one training step does."""

    lq: Tensor  # the input of the network, (M, C, H, W)
    gt: Tensor  # what the first N of its M outputs are compared with, (N, C, H, W)
    # a further loss, from the network, to be used without gradients, and its M outputs
    addition: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor] | None = None


def task_of(batch: Mapping[str, Any], seed: int, options: Mapping[str, Any], noise: TrainingNoise | None) -> Task:
    """The step for a batch, as ``target`` of its data set says.

    Args:
        batch: ``gt``, clean images; ``lq``, noisy ones; or both, pairs. Each (N, C, H, W). The ``level`` of noisy ones,
            (N or more, 1, 1, 1), where the data set measured it. The ``number`` (N,) of the samples, from which and
            the ``seed`` of the run everything random comes; pairs of other packages have none, and need none.
        options: of the data set: ``target``, ``regularization`` and ``sigma255``.
        noise: what clean images get.
    """
    target, noisy = options.get('target', 'clean'), batch.get('lq')
    seeds = [seed_of(seed, 'noise', number) for number in batch['number'].tolist()] if 'number' in batch else []
    if target in FROM_NOISY:
        if noisy is None:
            assert noise is not None, 'clean images need noise'
            noisy = noise.add(batch['gt'], seeds)
            levels = torch.tensor(noise.levels(seeds)).to(noisy, non_blocking=True)[:, None, None, None]
        elif (given := options.get('sigma255')) is not None:
            levels = noisy.new_full((len(noisy), 1, 1, 1), given / 255)
        else:
            found = batch.get('level')
            levels = noise_level(noisy) if found is None else found[: len(noisy)].to(noisy, non_blocking=True)
        weight = {'weight': options['regularization']} if target == 'neighbor2neighbor' else {}
        return FROM_NOISY[target](noisy, levels, seeds, **weight)
    if noisy is None:
        assert noise is not None, 'clean images need noise'
        return Task(*TARGETS[target](noise, batch['gt'], seeds))
    if target == 'noise2noise':  # either of the two is the input
        swapped = torch.tensor([seed_of(seed, 'swap') % 2 == 1 for seed in seeds])
        swapped = swapped.to(noisy.device, non_blocking=True)[:, None, None, None]
        return Task(torch.where(swapped, batch['gt'], noisy), torch.where(swapped, noisy, batch['gt']))
    return Task(noisy, batch['gt'])


# -- from clean images -------------------------------------------------------------------------------------------------


def clean(noise: TrainingNoise, images: Tensor, seeds: Sequence[int]) -> Pair:
    """The noisy image, and the clean one."""
    return noise.add(images, seeds), images


def noise2noise(noise: TrainingNoise, images: Tensor, seeds: Sequence[int]) -> Pair:
    """Two independent noisy copies of one level: no clean image is needed.

    Reference: Lehtinen et al., Noise2Noise: learning image restoration without clean data, ICML 2018.
    """
    return noise.add(images, seeds), noise.add(images, [seed_of(s, 'second copy') for s in seeds], levels_of=seeds)


def soft_ne(noise: TrainingNoise, images: Tensor, seeds: Sequence[int]) -> Pair:
    """Equivariance by augmentation: (alpha y + mu, alpha x + mu), alpha and mu uniform on [0, 1), a pair per image.

    Reference: Saied and Fleuret, ICML 2026.
    """
    draws = [random.Random(seed_of(seed, 'soft_ne')) for seed in seeds]
    affine = torch.tensor([[draw.random(), draw.random()] for draw in draws]).to(images, non_blocking=True)
    alpha, mu = affine.T[..., None, None, None]  # each (N, 1, 1, 1)
    return alpha * noise.add(images, seeds) + mu, alpha * images + mu


TARGETS: dict[str, Callable[[TrainingNoise, Tensor, Sequence[int]], Pair]] = {
    'clean': clean,
    'noise2noise': noise2noise,
    'soft_ne': soft_ne,
}


# -- from noisy images alone: the mean square is what their theory is about --------------------------------------------


def neighbor2neighbor(noisy: Tensor, levels: Tensor, seeds: Sequence[int], weight: float = 2.0) -> Task:
    """Of every two neighbours one pixel for the input and the other for the target: four parts of half the size.

    For noise of mean 0 that is independent from pixel to pixel, of any distribution and level. The two also differ in
    what they show: a second loss takes off the difference that the denoised whole image has between them.

    The authors take two pixels of each cell of 2x2, at half the size in both directions, where texture is as fine as
    noise. Here two parts are halved in width, the other two in height: 0.3 dB more with as many pixels a step.

    Args:
        levels: not used.
        weight: of the second loss, constant; the authors' code lets it grow from 0.

    Reference: Huang et al., Neighbor2Neighbor: self-supervised denoising from single noisy images, CVPR 2021.
    """
    height, width = (side // 2 for side in noisy.shape[-2:])
    draws = centred_uniforms([seed_of(seed, 'neighbours') for seed in seeds], (2, 2 * height * width), noisy.device)
    swaps = (draws[:, 0].view(-1, 1, 2 * height, width) > 0, draws[:, 1].view(-1, 1, height, 2 * width) > 0)

    def halves(images: Tensor) -> tuple[Tensor, Tensor]:
        firsts: list[Tensor] = []
        seconds: list[Tensor] = []
        for dim, swap in zip((3, 2), swaps, strict=True):
            one, other = images[..., : 2 * height, : 2 * width].unflatten(dim, (-1, 2)).unbind(dim + 1)
            firsts += torch.where(swap, other, one).chunk(2, dim=5 - dim)
            seconds += torch.where(swap, one, other).chunk(2, dim=5 - dim)
        return torch.cat(firsts), torch.cat(seconds)  # (4 N, C, H / 2, W / 2) each

    first, second = halves(noisy)

    def addition(network: Callable[[Tensor], Tensor], output: Tensor) -> Tensor:
        one, other = halves(network(noisy))
        return weight * (output - second - (one - other)).square().mean()

    return Task(first, second, addition)


def r2r(noisy: Tensor, levels: Tensor, seeds: Sequence[int]) -> Task:
    """Recorrupted-to-Recorrupted: y + a n and y - n / a, n of the level of y's noise: their noises are uncorrelated.

    For white Gaussian noise of a known level. The network learns the level of its input, sqrt(1 + a^2) = 1.12 times
    that of y. It is used on y as it is; the authors average over many y + a n instead.

    Args:
        levels: (N, 1, 1, 1), standard deviations of the noise.

    Reference: Pang et al., Recorrupted-to-Recorrupted: unsupervised deep learning for image denoising, CVPR 2021.
    """
    noise = levels * _unit_noise(noisy, seeds, 'recorrupted')
    return Task(noisy + R2R_STRENGTH * noise, noisy - noise / R2R_STRENGTH)


def sure(noisy: Tensor, levels: Tensor, seeds: Sequence[int]) -> Task:
    """Stein's unbiased risk estimate, |f(y) - y|^2 - s^2 + 2 s^2 div f(y): its mean is the error against clean images.

    For white Gaussian noise of a known level s. The divergence is b (f(y + e b) - f(y)) / e with b of N(0, 1) and e of
    ``SURE_STEP`` times s: one further image for the network. By Stein's lemma its mean is the divergence at y + e b.

    Args:
        levels: (N, 1, 1, 1), standard deviations of the noise.

    Reference: Ramani, Blu and Unser, Monte-Carlo SURE, IEEE TIP 2008; Soltanayev and Chun, Training deep learning based
    denoisers without ground truth data, NeurIPS 2018.
    """
    direction = _unit_noise(noisy, seeds, 'direction')

    def addition(network: Callable[[Tensor], Tensor], output: Tensor) -> Tensor:
        change = output[len(noisy) :] - output[: len(noisy)]
        return (2 / SURE_STEP * levels * direction * change).mean() - levels.square().mean()

    return Task(torch.cat([noisy, noisy + SURE_STEP * levels * direction]), noisy, addition)


FROM_NOISY: dict[str, Callable[..., Task]] = {
    'neighbor2neighbor': neighbor2neighbor,
    'r2r': r2r,
    'sure': sure,
}
"""From noisy images (N, C, H, W), their levels (N, 1, 1, 1) and their seeds."""


def _unit_noise(like: Tensor, seeds: Sequence[int], purpose: str) -> Tensor:
    draws = centred_uniforms([seed_of(seed, purpose) for seed in seeds], like.shape[1:], like.device)
    return QUANTILE['gaussian'](draws).to(like)
