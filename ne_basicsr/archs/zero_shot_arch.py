"""A denoiser trained at one noise level, used at every level with no training, exactly normalization-equivariant.

With s(y) the estimated noise, sigma the level of the training and k = sigma / s(y) the gain that brings the one to the
other, x0 a first estimate and

    D_k(z) = mean z + (g(k (z - mean z) + 0.45) - 0.45) / k,

the result is

    f(y) = w x0 + D_k(y - w x0),    w = max(0, 1 - CONTRAST / (k std y)).

Above the training level k is small and w = 0: the image is scaled down and denoised. Below it, k would stretch the
image beyond the contrast that the network has seen; taking the share w of the first estimate away leaves it the
contrast of a natural image, while its noise, of which x0 has none, arrives at the training level. Every quantity
commutes with y -> a y + b.
"""

from collections.abc import Mapping
from typing import Any

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from ne_basicsr.archs.backbone import BackboneHolder
from ne_basicsr.archs.padding import pad_to_multiple, widen
from ne_basicsr.dct import dct_shrink
from ne_basicsr.equivariance import Network
from ne_basicsr.noise import noise_level

MEAN = 0.45  # where natural images lie in [0, 1]
CONTRAST = 0.21  # standard deviation of what the network is shown, at most


@ARCH_REGISTRY.register()
class ZeroShot(BackboneHolder):
    """Makes a denoiser of one noise level work at all of them: f(a y + b) = a f(y) + b for a > 0.

    Args:
        backbone: denoises (N, C, H, W) on [0, 1] with noise of ``sigma255``; a module, or options with a ``type``.
        sigma255: the noise that the backbone was trained at, in 8-bit units.
        passes: 1 takes shrinkage of the DCT as first estimate; 2 averages it with a pass of the backbone, which gains
            little and doubles the time below the training level. Above it both take one pass.
        size_multiple: as for ``WNE``.

    Input: (N, C, H, W), any range, not clipped; images do not depend on each other. A constant image, and one in which
    no noise is found, comes back as it is. ``forward(y, sigma)`` takes a known noise level, on the scale of y.

    Raises:
        ValueError: for a level that is not positive, or another number of passes.
    """

    def __init__(
        self,
        backbone: nn.Module | Mapping[str, Any],
        sigma255: float = 25.0,
        passes: int = 1,
        size_multiple: int | None = None,
    ) -> None:
        super().__init__(backbone, size_multiple)
        if not sigma255 > 0:
            raise ValueError(f'sigma255, the noise that the backbone was trained at, must be positive; got {sigma255}.')
        if passes not in (1, 2):
            raise ValueError(f'passes must be 1 (DCT estimate first) or 2 (and a pass of the backbone); got {passes}.')
        self.sigma = sigma255 / 255
        self.passes = passes

    def forward(self, y: Tensor, sigma: float | Tensor | None = None) -> Tensor:
        if sigma is not None:
            sigma = torch.as_tensor(sigma, device=y.device).to(widen(y).dtype).expand(len(y)).view(-1, 1, 1, 1)
        return zero_shot(self._restore, self.sigma, y, noise=sigma, passes=self.passes)

    def _restore(self, z: Tensor) -> Tensor:
        padded, (height, width) = pad_to_multiple(z, self.pad_to)
        return self.backbone(padded)[..., :height, :width]

    def extra_repr(self) -> str:
        return f'sigma255={255 * self.sigma:g}, passes={self.passes}'


def zero_shot(g: Network, sigma: float, y: Tensor, noise: Tensor | None = None, passes: int = 1) -> Tensor:
    """The formula of this file.

    Args:
        g: the denoiser, trained at ``sigma`` on the [0, 1] scale.
        y: (N, C, H, W).
        noise: the level in y, (N, 1, 1, 1) on the scale of y, where it is known; else it is estimated. A level given as
            a constant fixes the scale: the result then commutes with y + b, and with a y only if it is scaled, too.
        passes: see ``ZeroShot``.
    """
    dtype = y.dtype
    y = widen(y)
    noise = noise_level(y) if noise is None else noise

    def backbone(z: Tensor) -> Tensor:
        return g(z.to(dtype)).to(y.dtype)

    contrast = (y - _mean(y)).square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    noisy = noise > torch.finfo(y.dtype).eps * contrast  # else there is nothing to remove: f(y) = y
    noise = torch.where(noisy, noise, torch.ones_like(noise))
    contrast = torch.where(noisy, contrast, torch.ones_like(contrast))

    gain = sigma / noise
    share = (1 - CONTRAST / (gain * contrast)).clamp(min=0)
    base = torch.zeros_like(y)
    if torch.compiler.is_compiling() or bool((share > 0).any()):  # most images above the training level need no base
        first = dct_shrink(y, noise)
        if passes == 2:
            first = (first + _denoise_at(backbone, y, torch.minimum(gain, CONTRAST / contrast))) / 2
        base = share * first
    return torch.where(noisy, base + _denoise_at(backbone, y - base, gain), y).to(dtype)


def _denoise_at(g: Network, z: Tensor, gain: Tensor) -> Tensor:
    """D_k: ``g`` on ``z`` with its mean moved to 0.45 and its contrast multiplied by ``gain``, and back."""
    mean = _mean(z)
    return mean + (g(gain * (z - mean) + MEAN) - MEAN) / gain


def _mean(z: Tensor) -> Tensor:
    return z.mean(dim=(1, 2, 3), keepdim=True)
