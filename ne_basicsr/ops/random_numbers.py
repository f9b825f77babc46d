"""Random numbers that depend on (seed, number) alone, for whole batches at once, the same on every device.

Counter-based: the n-th number of a stream is a hash of (seed, n), so that neither batches nor workers nor ranks nor a
resume can change it. A generator made anew for every sample gives the same guarantee and takes tens of microseconds.

Reference: Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014 (SplitMix64).
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

# as signed integers, which torch multiplies modulo 2^64
GOLDEN = 0x9E3779B97F4A7C15 - 2**64
FIRST = 0xBF58476D1CE4E5B9 - 2**64
SECOND = 0x94D049BB133111EB - 2**64


def splitmix64(seeds: Sequence[int] | Tensor, counters: Tensor) -> Tensor:
    """Numbers of SplitMix64, (N, count), int64, on the device of ``counters``: the 64 bits of each, read as signed.

    Args:
        seeds: N integers of 63 bits, see ``noise.seed_of``.
        counters: (N or 1, count), int64: which numbers of each stream, 1 is the first.
    """
    # as_tensor(..., device) would wait for all that the device has to do
    z = counters * GOLDEN + torch.as_tensor(seeds).to(counters.device, non_blocking=True)[:, None]
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
    words = splitmix64(seeds, torch.arange(1, -(-count // 2) + 1, device=device)[None])
    halves = torch.stack([words >> 39, (words >> 7) & (2**25 - 1)], dim=-1)  # 25 bits each, the first ones signed
    halves[..., 1] -= 2**24
    odd = halves.flatten(1)[:, :count] | 1  # -2^24 + 1, ..., -1, 1, ..., 2^24 - 1
    return odd.float().mul_(2.0**-24).view(len(seeds), *shape)


def draws(seed: int, numbers: ArrayLike, count: int) -> NDArray[np.uint64]:
    """``count`` independent 64-bit numbers per sample, (N, count), uniform on [0, 2^64).

    Args:
        seed: of the stream, see ``noise.seed_of``; streams of different seeds are independent.
        numbers: (N,) sample numbers, at least 0.
        count: must be the same for all uses of one stream.
    """
    counters = torch.from_numpy(np.array(numbers, np.int64))[:, None] * count + torch.arange(1, count + 1)
    return splitmix64([seed], counters).numpy().view(np.uint64)


def fractions(numbers: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The upper halves of 64-bit numbers, for ``below``: each stands for a fraction of 2^32."""
    return (numbers >> np.uint64(32)).astype(np.int64)


def below(fraction: int, limit: int) -> int:
    """An integer uniform on [0, limit), from one of ``fractions``; uneven by at most limit / 2^32.

    Source: Lemire, Fast random integer generation in an interval, TOMACS 2019.
    """
    return fraction * limit >> 32


def permutation(seed: int, length: int) -> NDArray[np.int64]:
    """A random order of 0 ... length - 1."""
    return np.argsort(draws(seed, np.arange(length), 1)[:, 0], kind='stable')
