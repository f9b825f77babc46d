"""The x8 self-ensemble: the mean over the four rotations of an image and of its mirror image, each turned back.

    g(y) = 1/8 sum_T T^-1 f(T y)

It commutes with the eight T, and with a y + b if f does. Source: Timofte et al., Seven ways to improve example-based
single image super resolution, CVPR 2016.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ne_basicsr.inference.denoiser import Denoiser
from ne_basicsr.ops.padding import widen

COUNT = 8


class Ensemble(nn.Module):
    """A ``Denoiser`` as its x8 self-ensemble: (N, C, H, W) to (N, C', rH, rW), at eight times the cost."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.facts = denoiser.facts

    def forward(self, y: Tensor, sigma: float | Tensor | None = None) -> Tensor:
        return averaged(lambda turned: self.denoiser(turned, sigma), y)


def averaged(function: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    """The formula of this file with ``function`` as f."""
    total: Tensor | float = 0.0
    for mirrored in (False, True):
        image = y.flip(-1) if mirrored else y
        for turns in range(COUNT // 2):
            output = function(torch.rot90(image, turns, (-2, -1)))
            back = torch.rot90(output, -turns, (-2, -1))
            total = total + widen(back.flip(-1) if mirrored else back)
    assert isinstance(total, Tensor)
    return (total / COUNT).to(output.dtype)
