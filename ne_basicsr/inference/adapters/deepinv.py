"""Networks of this package as denoisers for deepinv (plug-and-play methods for inverse problems).

Use ``Denoiser(ne_basicsr.load('net.pth'))`` wherever deepinv takes a denoiser, such as ``PnP``, ``RED`` and DPIR.
"""

from typing import Any

from torch import Tensor, nn

from ne_basicsr.inference.denoiser import as_denoiser
from ne_basicsr.utils.optional import require

Base: Any = require('deepinv.models').Denoiser


class Denoiser(Base):
    """A deepinv denoiser, called as ``denoiser(x, sigma)``.

    Args:
        network: a ``Denoiser`` from ``ne_basicsr.load``, or a module, for images (N, C, H, W); its mode is not changed.

    Non-blind and zero-shot networks receive ``sigma``, the noise level on the scale of x, one value or N; blind ones
    ignore it. With a normalization-equivariant network, an algorithm that consists of the denoiser and linear steps is
    normalization-equivariant, too. If the network receives sigma, the algorithm is equivariant to y + b, and to a only
    if sigma is also multiplied by a.

    Raises:
        InputError: when called with a sigma that is missing, or is neither one value nor N.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.denoiser = as_denoiser(network)

    def forward(self, x: Tensor, sigma: float | Tensor | None = None, **_: Any) -> Tensor:
        """Denoise x (N, C, H, W); other arguments are ignored."""
        return self.denoiser(x, sigma if self.denoiser.takes_sigma else None)
