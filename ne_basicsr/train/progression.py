"""Progressive patch sizes, as Restormer trains: small crops in large batches first, large crops in small batches later.

The loader always delivers the largest crops in the largest batches; they are cut down on the device. So the phase is a
function of the iteration, which follows from the number of a sample, and a run resumes anywhere. The cost: the loader
reads and cuts batch_size x gt_size^2 pixels in every iteration, in Restormer's first phase nine times as many as are
used, in its last one eight times.

Reference: Zamir et al., Restormer: efficient transformer for high-resolution image restoration, CVPR 2022.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ne_basicsr.data.batch import IMAGES, as_float
from ne_basicsr.ops.noise import seed_of


class Progression(NamedTuple):
    """The phases of a training run; the sizes of the last one remain after it."""

    iters: tuple[int, ...]  # iterations of each phase
    gt_sizes: tuple[int, ...]  # sides of its crops
    mini_batch_sizes: tuple[int, ...]  # crops of its batches, per GPU

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> 'Progression | None':
        """From a training set's ``iters, gt_sizes, mini_batch_sizes``; None if it has none."""
        if not options.get('iters'):
            return None
        return cls(*(tuple(options[key]) for key in cls._fields))

    def phase(self, iteration: int) -> int:
        """The phase of ``iteration``, which counts from 1; the last iteration of a phase belongs to it."""
        return min(bisect_left(list(accumulate(self.iters)), iteration), len(self.iters) - 1)

    def cut(self, batch: Mapping[str, Any], iteration: int, seed: int) -> dict[str, Any]:
        """``batch`` with its first images, cut down to the size of the phase of ``iteration``.

        It has ``gt``, ``lq`` or both (N, C, H, W), and the ``number`` (N,) of each sample, on which the place of a crop
        depends, with the seed, alone.
        """
        phase = self.phase(iteration)
        kept, size = self.mini_batch_sizes[phase], self.gt_sizes[phase]
        numbers = batch['number'][:kept]
        images, places = next(batch[key] for key in IMAGES if key in batch), []
        for draw in [seed_of(seed, 'progression', number) for number in numbers.tolist()]:
            height, width = (length - size + 1 for length in images.shape[-2:])
            places.append((draw % height, (draw >> 32) % width))
        cut = {key: windows(batch[key][:kept], places, size) for key in IMAGES if key in batch}
        return {**batch, 'number': numbers, **cut}


def training_batch(
    data: Mapping[str, Any], opt: Mapping[str, Any], device: torch.device | str, progression: Progression | None
) -> dict[str, Any]:
    """A batch of the loader on ``device``, images as float32 on [0, 1], cut down as ``progression`` asks.

    ``data`` has ``gt``, ``lq`` or, for pairs, both; ``number`` (N,) if the data set takes sample numbers.
    """
    batch = as_float(data, device)
    batch |= {key: batch[key].to(device, non_blocking=True) for key in IMAGES if key in batch}
    if progression is None:
        return batch
    iteration = int(batch['number'][0]) // samples_per_iteration(opt) + 1
    return progression.cut(batch, iteration, opt['manual_seed'])


def samples_per_iteration(opt: Mapping[str, Any]) -> int:
    """Samples, over all ranks, that the loader delivers for one step of the optimizer."""
    return prod(batch_of(opt).values())


def batch_of(opt: Mapping[str, Any]) -> dict[str, int]:
    """The factors of ``samples_per_iteration``; ``processes``: ranks, or the GPUs of the one process."""
    return {
        'batch_size_per_gpu': opt['datasets']['train']['batch_size_per_gpu'],
        'processes': opt['world_size'] if opt['dist'] else max(1, opt['num_gpu']),
        'accumulate': opt['train'].get('accumulate') or 1,
    }


def windows(images: Tensor, places: Sequence[tuple[int, int]], size: int) -> Tensor:
    """Squares of side ``size`` from images (N, C, H, W), each from its own place (top, left), at once."""
    if images.shape[-2:] == (size, size):
        return images
    steps = torch.arange(size, device=images.device)
    rows, columns = (
        torch.tensor(starts).to(images.device, non_blocking=True)[:, None] + steps
        for starts in zip(*places, strict=True)
    )
    n = torch.arange(len(images), device=images.device)[:, None, None]
    return images.movedim(1, -1)[n, rows[:, :, None], columns[:, None, :]].movedim(-1, 1).contiguous()
