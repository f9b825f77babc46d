"""Training targets: from clean images and their seeds, pairs of input and target.

Every pair depends on the image and its seed alone. The option file chooses the loss; the papers use the mean square.
"""

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ne_basicsr.ops.noise import TrainingNoise, seed_of

Pair = tuple[Tensor, Tensor]
"""(lq, gt), each (N, C, H, W): the input of the network, and the target of its output."""


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
