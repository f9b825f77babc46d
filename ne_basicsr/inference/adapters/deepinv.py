"""deepinv, plug-and-play methods for inverse problems: networks of this package as its denoisers.

``Denoiser(ne_basicsr.load('net.pth'))`` goes wherever deepinv takes a denoiser, such as ``PnP``, ``RED`` and DPIR.
"""

from typing import Any

from torch import Tensor, nn

from ne_basicsr.inference.denoiser import as_denoiser
from ne_basicsr.utils.optional import require

Base: Any = require('deepinv.models').Denoiser


class Denoiser(Base):
    """A network as ``denoiser(x, sigma)``.

    Args:
        network: as ``ne_basicsr.load`` returns it, for images (N, C, H, W); it is used as it is, in its mode.

    Non-blind networks and zero-shot wrapped ones get ``sigma``, the noise level on the scale of x, one value or N;
    blind ones find the noise by themselves, and sigma makes no difference. With a normalization-equivariant network an
    algorithm that uses nothing but the denoiser and linear steps commutes with a y + b as well; where the network is
    told a sigma, with y + b, and with a only if that sigma is multiplied by a, too.

    Raises:
        InputError: when called, for a sigma that is missing, or is neither one value nor N.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.denoiser = as_denoiser(network)

    def forward(self, x: Tensor, sigma: float | Tensor | None = None, **_: Any) -> Tensor:
        """Denoise x (N, C, H, W); further arguments are other denoisers' and make no difference."""
        return self.denoiser(x, sigma if self.denoiser.takes_sigma else None)
