"""Random numbers for whole batches on their device, each image from its own seed.

A generator serves one image at a time, some launches on a GPU for each. Here the i-th number of an image is a hash of
(seed, i), so that a batch is one expression, the numbers of an image depend on its seed alone, and every device draws
the same bits. It is the generator of ``data/random_numbers.py``, in torch.

Reference: Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014 (SplitMix64).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

# as signed integers, which torch multiplies modulo 2^64
GOLDEN = 0x9E3779B97F4A7C15 - 2**64
FIRST = 0xBF58476D1CE4E5B9 - 2**64
SECOND = 0x94D049BB133111EB - 2**64


def splitmix64(seeds: Sequence[int], count: int, device: torch.device | str = 'cpu') -> Tensor:
    """The first ``count`` numbers of SplitMix64 from each seed, (N, count), int64: its 64 bits, read as signed.

    Args:
        seeds: N integers of 63 bits, see ``noise.seed_of``.
    """
    z = torch.arange(1, count + 1, device=device) * GOLDEN + torch.tensor(seeds, device=device)[:, None]
    z ^= (z >> 30) & (2**34 - 1)  # a shift of signed integers repeats the sign: the mask takes it away
    z *= FIRST
    z ^= (z >> 27) & (2**37 - 1)
    z *= SECOND
    z ^= (z >> 31) & (2**33 - 1)
    return z


def centred_uniforms(seeds: Sequence[int], shape: Sequence[int], device: torch.device | str = 'cpu') -> Tensor:
    """Independent draws from U(-1, 1), (N, *shape), float32, image n from ``seeds[n]`` alone.

    The values are the odd multiples of 2^-24: never 0 or 1 in magnitude, symmetric, and exact in float32, so that their
    logarithms are finite.
    """
    count = torch.Size(shape).numel()
    words = splitmix64(seeds, -(-count // 2), device)
    halves = torch.stack([words >> 39, (words >> 7) & (2**25 - 1)], dim=-1)  # 25 bits each, the first ones signed
    halves[..., 1] -= 2**24
    odd = halves.flatten(1)[:, :count] | 1  # -2^24 + 1, ..., -1, 1, ..., 2^24 - 1
    return odd.float().mul_(2.0**-24).view(len(seeds), *shape)
