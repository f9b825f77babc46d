"""Statistics of images that are too large for temporaries of their size: sums over strips of rows.

The results are those of the plain formulas up to the order of summation. The plain formulas serve whatever is smaller,
is differentiated, or is exported.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ne_basicsr.ops.magnitude import ends, unit_of
from ne_basicsr.ops.padding import widen

LARGE = 2**22  # values; 16 MiB in float32, and 64 times as much in a DCT of all blocks
STRIP = 2**19  # values of a strip, about


def is_large(y: Tensor) -> bool:
    """Whether statistics of y (N, C, H, W) are to be taken in strips."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or (y.requires_grad and torch.is_grad_enabled()):
        return False
    return y.numel() > LARGE


def strips_of(y: Tensor, overlap: int = 0) -> Iterator[Tensor]:
    """Views of y (N, C, H, W), in float32 or better, whose rows cover it; neighbours share ``overlap`` rows."""
    height = y.shape[2]
    step = max(1, STRIP // max(1, y[:, :, :1].numel()))
    for top in range(0, height - overlap, step):
        yield widen(y[:, :, top : top + step + overlap])


def var_mean(y: Tensor, origin: Tensor, unit: Tensor, correction: int) -> tuple[Tensor, Tensor]:
    """``torch.var_mean`` of (y - origin) / unit over C, H, W; (N, 1, 1, 1) each, in origin's type. Sums in float64."""
    total = square = origin.new_zeros((), dtype=torch.float64)
    for strip in strips_of(y):
        difference = (strip - origin).div_(unit).double()
        total = total + difference.sum(dim=(1, 2, 3), keepdim=True)
        square = square + difference.square_().sum(dim=(1, 2, 3), keepdim=True)
    count = y[0].numel()
    mean = total / count
    variance = ((square - mean * total) / (count - correction)).clamp(min=0)
    return variance.to(origin.dtype), mean.to(origin.dtype)


def noise_level(
    y: Tensor,
    size: int,
    block_energies: Callable[[Tensor, int], tuple[Tensor, Tensor]],
    unspoilt_blocks: Callable[[Tensor, int, Tensor, Tensor], tuple[Tensor, Tensor]],
    quietest: Callable[[Tensor], Tensor],
) -> Tensor:
    """``ne_basicsr.ops.noise.noise_level`` of y (N, C, H, W), with the functions that it is made of; (N, 1, 1, 1).

    Two passes: the first finds how much texture the quietest blocks have, the second sums up over those blocks.
    """
    return torch.cat([_noise_level(image, size, block_energies, unspoilt_blocks, quietest) for image in y.split(1)])


def _noise_level(
    y: Tensor,
    size: int,
    block_energies: Callable[[Tensor, int], tuple[Tensor, Tensor]],
    unspoilt_blocks: Callable[[Tensor, int, Tensor, Tensor], tuple[Tensor, Tensor]],
    quietest: Callable[[Tensor], Tensor],
) -> Tensor:
    limits = ends(y)
    origin = y[:, :1, :1, :1]
    unit = unit_of(y, origin)
    mean = origin + unit * var_mean(y, origin, unit, 0)[1]

    blocks = (y.shape[2] - size + 1) * (y.shape[3] - size + 1)
    most = int(quietest(torch.tensor(blocks)))  # no more blocks than these can speak
    pools = [_Smallest(most, y), _Smallest(most, y)]  # of the textured blocks, and of those that are unsaturated, too
    for strip in strips_of(y, size - 1):
        texture = block_energies((strip - mean).div_(unit), size)[0][0]
        for pool, alive in zip(pools, unspoilt_blocks(strip, size, *limits), strict=True):
            pool.add(texture[alive[0]])
    textured, unsaturated = pools
    chosen = unsaturated if unsaturated.count else textured
    if chosen.count == 0:
        return y.new_zeros(1, 1, 1, 1)
    limit = chosen.value(int(quietest(torch.tensor(chosen.count))))
    if limit == 0:
        return y.new_zeros(1, 1, 1, 1)

    weights = sums = 0.0
    for strip in strips_of(y, size - 1):
        texture, variance = (energy[0] for energy in block_energies((strip - mean).div_(unit), size))
        alive = unspoilt_blocks(strip, size, *limits)[chosen is unsaturated][0]
        weight = (2 - texture[alive] / limit).clamp(0, 1)
        weights += weight.double().sum().item()
        sums += (weight * variance[alive]).double().sum().item()
    return unit * math.sqrt(sums / weights)


class _Smallest:
    """The ``most`` smallest of all values that were added, and how many they were."""

    def __init__(self, most: int, like: Tensor) -> None:
        self.most, self.count, self._kept = most, 0, like.new_empty(0)

    def add(self, values: Tensor) -> None:
        self.count += len(values)
        if len(self._kept) == self.most:
            values = values[values < self._kept.max()]
        kept = torch.cat([self._kept, values])
        self._kept = kept.topk(self.most, largest=False, sorted=False).values if len(kept) > self.most else kept

    def value(self, rank: int) -> Tensor:
        """The value with ``rank`` values up to it, itself included; 1 is the smallest."""
        return self._kept.kthvalue(rank).values
