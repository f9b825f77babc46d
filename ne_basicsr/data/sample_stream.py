"""The order of training samples: one endless stream that depends on the sample's number alone."""

from collections.abc import Iterator, Sized
from itertools import count
from typing import Any

import torch
from torch.utils.data import Sampler


class SampleStream(Sampler[Any]):
    """Indices of training samples, epoch after epoch without end, each epoch a new permutation.

    Sample n of the stream is the same whatever the number of workers or ranks, and wherever a run resumes: rank r of W
    takes the samples n = r mod W. BasicSR's sampler restarts the workers every epoch and cannot start in the middle.

    Args:
        dataset: only its length is used; with ``takes_sample_numbers`` it is given (index, n) instead of the index, so
            that it can draw crops from n.
        ratio: an epoch is this many passes over the data (BasicSR's ``dataset_enlarge_ratio``).
        start: number of samples, over all ranks, that were consumed before.
    """

    def __init__(self, dataset: Sized, *, ratio: int = 1, rank: int = 0, world_size: int = 1, start: int = 0) -> None:
        self.dataset = dataset
        self.epoch_size = len(dataset) * ratio
        self.rank, self.world_size, self.start = rank, world_size, start
        self.numbered = bool(getattr(dataset, 'takes_sample_numbers', False))

    def __iter__(self) -> Iterator[Any]:
        known_epoch, order = -1, []
        for number in count(self.start + self.rank, self.world_size):
            epoch, position = divmod(number, self.epoch_size)
            if epoch != known_epoch:
                generator = torch.Generator().manual_seed(epoch)
                known_epoch, order = epoch, torch.randperm(self.epoch_size, generator=generator).tolist()
            index = order[position] % len(self.dataset)
            yield (index, number) if self.numbered else index
