"""Random numbers that depend on (seed, number of the sample) alone, for whole batches at once.

Counter-based: the n-th number of a stream is a hash of n, so neither batches nor workers nor ranks nor a resume can
change it. A generator made anew for every sample gives the same guarantee and takes tens of microseconds each.

Reference: Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014 (SplitMix64).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def draws(seed: int, numbers: ArrayLike, count: int) -> NDArray[np.uint64]:
    """``count`` independent 64-bit numbers per sample.

    Args:
        seed: of the stream, see ``noise.seed_of``; streams of different seeds are independent.
        numbers: (N,) sample numbers, at least 0.
        count: numbers per sample; must be the same for all uses of one stream.

    Returns:
        (N, count), uniform on [0, 2^64).
    """
    counters = np.asarray(numbers, np.uint64)[:, None] * np.uint64(count) + np.arange(1, count + 1, dtype=np.uint64)
    z = np.multiply(counters, GOLDEN, dtype=np.uint64) + np.uint64(seed)  # in arrays, 64 bits wrap around
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


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
