"""Sums over chunks of rows, for images that are too large for temporaries of their size.

Results agree with the plain formulas up to the order of summation. The plain formulas are used for smaller images, and
for images that are differentiated or exported.
"""

import torch
from torch import Tensor

from ne_basicsr.ops.padding import in_float64, widen

LARGE = 2**22  # values: 16 MiB in float32, and 64 times as much for the DCT of all blocks
CHUNK = 2**19  # values of a chunk, about


def is_large(y: Tensor) -> bool:
    """Whether statistics of y (N, C, H, W) are to be taken in chunks."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or (y.requires_grad and torch.is_grad_enabled()):
        return False
    return y.numel() > LARGE


def var_mean(y: Tensor, origin: Tensor, unit: Tensor, correction: int) -> tuple[Tensor, Tensor]:
    """``torch.var_mean`` of (y - origin) / unit over C, H, W; (N, 1, 1, 1) each, in origin's type. Sums in float64."""
    total = square = torch.zeros((), dtype=torch.float64)
    rows = max(1, CHUNK // y[:, :, :1].numel())
    for chunk in y.split(rows, dim=2):
        difference = in_float64((widen(chunk) - origin).div_(unit))
        total = total + difference.sum(dim=(1, 2, 3), keepdim=True)
        square = square + difference.square_().sum(dim=(1, 2, 3), keepdim=True)
    count = y[0].numel()
    mean = total / count
    variance = ((square - mean * total) / (count - correction)).clamp(min=0)
    return variance.to(origin), mean.to(origin)
