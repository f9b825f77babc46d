"""The order of training samples: one endless stream that depends on the seed and the number of the sample alone."""

from collections.abc import Iterator, Sized
from typing import Any

from torch.utils.data import Sampler

from ne_basicsr.ops.noise import seed_of
from ne_basicsr.ops.random_numbers import permutation


class SampleStream(Sampler[Any]):
    """Indices of training samples, epoch after epoch without end, each epoch a new permutation.

    Sample n of the stream does not depend on the number of workers or ranks, nor on where a run resumes: rank r of W
    takes the samples n = r mod W. BasicSR's sampler restarts the workers every epoch and cannot start in the middle.

    Args:
        dataset: only its length is used; a data set with ``takes_sample_numbers`` gets (index, n) instead of the
            index, so that it can draw crops from n.
        ratio: an epoch is this many passes over the data (BasicSR's ``dataset_enlarge_ratio``).
        start: number of samples, over all ranks, that were consumed before.
        seed: of the permutations.
    """

    def __init__(
        self, dataset: Sized, *, ratio: int = 1, rank: int = 0, world_size: int = 1, start: int = 0, seed: int = 0
    ) -> None:
        self.dataset = dataset
        self.epoch_size = len(dataset) * ratio
        self.rank, self.world_size, self.start, self.seed = rank, world_size, start, seed
        self.numbered = bool(getattr(dataset, 'takes_sample_numbers', False))

    def __iter__(self) -> Iterator[Any]:
        number = self.start + self.rank
        while True:
            epoch, position = divmod(number, self.epoch_size)
            order = permutation(seed_of(self.seed, 'order', epoch), self.epoch_size)
            indices = order[position :: self.world_size] % len(self.dataset)
            numbers = range(number, number + len(indices) * self.world_size, self.world_size)
            plain = map(int, indices)  # one by one: a list would hold the whole epoch
            yield from zip(plain, numbers, strict=True) if self.numbered else plain
            number = numbers.stop
