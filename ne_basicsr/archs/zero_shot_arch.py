"""A denoiser trained at one noise level, used at every level with no training, exactly normalization-equivariant.

With s(y) the estimated noise, sigma the level of the training and k = sigma / s(y) the gain that brings the one to the
other, x0 a first estimate and

    D_k(z) = mean z + (g(k (z - mean z) + 0.45) - 0.45) / k,

the result is

    f(y) = b + D_k(y - b),    b = w m + v (x0 - m),    w = max(0, 1 - CONTRAST / (k std y)).

Above the training level k is small and w = 0: the image is scaled down and denoised. Below it, k would stretch the
image beyond the contrast that the network has seen; taking the share w of the first estimate away leaves it the
contrast of a natural image, while its noise, of which x0 has none, arrives at the training level. The share v of what
x0 has beside its local mean m depends on the local contrast: with s the deviation of x0 in a Gaussian window,

    v = max(0, 1 - LOCAL / (k s)) min(1, w / RAMP).

With two passes, x0 is already good, and v = w. Every quantity commutes with y -> a y + b.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from ne_basicsr.archs.backbone import BackboneHolder
from ne_basicsr.ops.dct import dct_shrink
from ne_basicsr.ops.equivariance import Network, mean_std
from ne_basicsr.ops.magnitude import power_of_two
from ne_basicsr.ops.noise_level import noise_level
from ne_basicsr.ops.padding import pad, pad_to_multiple, widen
from ne_basicsr.utils.errors import InputError

MEAN = 0.45  # where natural images lie in [0, 1]
CONTRAST = 0.21  # standard deviation of what the network is shown, at most
LOCAL, WINDOW = 0.2, 4  # that of what it is shown within a window of so many pixels, at most
RAMP = 0.1  # of w, over which the local share sets in: the result is continuous where w becomes 0
TRUST = 2 / 3  # of a pass of the network in the first estimate, at most


class Measured(NamedTuple):
    """Measurements of whole images, each (N, 1, 1, 1) in float32 or better."""

    # mean, contrast: mean and standard deviation over C, H, W
    mean: Tensor
    contrast: Tensor
    noise: Tensor  # its level
    base_mean: Tensor | None = None  # the mean of ``first_share``; None: that of the images that are denoised is taken

    @property
    def noisy(self) -> Tensor:
        """Whether there is something to remove, (N, 1, 1, 1), bool; else f(y) = y."""
        return (self.noise > torch.finfo(self.noise.dtype).eps * self.contrast) & (self.contrast > 0)

    @property
    def unit(self) -> Tensor:
        """A power of two near the contrast, (N, 1, 1, 1): the gain of images over it is an ordinary number."""
        return power_of_two(self.contrast)

    def over(self, unit: Tensor) -> 'Measured':
        """The measurements of the images divided by ``unit`` (N, 1, 1, 1)."""
        base_mean = None if self.base_mean is None else self.base_mean / unit
        return Measured(self.mean / unit, self.contrast / unit, self.noise / unit, base_mean)


@ARCH_REGISTRY.register()
class ZeroShot(BackboneHolder):
    """Makes a denoiser of one noise level work at all of them: f(a y + b) = a f(y) + b for a > 0.

    Args:
        backbone: denoises (N, C, H, W) on [0, 1] with noise of ``sigma255``; a module, or options with a ``type``.
        sigma255: the noise that the backbone was trained at, in 8-bit units; ``auto``: what the file of its weights
            says, or what is measured on photographs once they are loaded.
        passes: 1 takes shrinkage of the DCT as first estimate; 2 mixes it with a pass of the backbone, which gains 0 to
            0.16 dB down to a fifth of the training level, and doubles the time there. Above it both take one pass.
        size_multiple: as for ``WNE``.

    Input: (N, C, H, W), any range, not clipped; images do not depend on each other. A constant image, and one in which
    no noise is found, is returned unchanged. ``forward(y, sigma)`` takes a known noise level, on the scale of y.

    Raises:
        ValueError: for a level that is not positive, or another number of passes.
        InputError: on calls with ``auto`` before weights are loaded.
    """

    def __init__(
        self,
        backbone: nn.Module | Mapping[str, Any],
        sigma255: float | Literal['auto'] = 25.0,
        passes: int = 1,
        size_multiple: int | None = None,
    ) -> None:
        super().__init__(backbone, size_multiple)
        is_auto = sigma255 == 'auto'
        if not is_auto and (isinstance(sigma255, str) or not sigma255 > 0):
            raise ValueError(
                f"sigma255, the noise of the backbone's training, is positive or 'auto'; got {sigma255!r}."
            )
        if passes not in (1, 2):
            raise ValueError(f'passes must be 1 (DCT estimate first) or 2 (and a pass of the backbone); got {passes}.')
        self.sigma: float | None = None if is_auto else float(sigma255) / 255
        self.passes = passes

    def forward(self, y: Tensor, sigma: float | Tensor | None = None) -> Tensor:
        """Denoise y (N, C, H, W); ``sigma``, on the scale of y, is the noise level if it is known, one value or N."""
        return self.restore(y, self.measure(y, sigma))

    def measure(
        self, y: Tensor, sigma: float | Tensor | None = None, mean_of: Callable[[Network], Tensor] | None = None
    ) -> Measured:
        """The measurements of whole images y (N, C, H, W) that ``restore`` needs.

        Args:
            sigma: the noise level on the scale of y, where it is known, one value or N.
            mean_of: takes a function of images to the mean of its values over y, (N, 1, 1, 1), tile by tile for
                instance. Without it ``restore`` computes the mean, and has to see the whole images.
        """
        if sigma is not None:
            sigma = torch.as_tensor(sigma, device=y.device).to(widen(y).dtype).expand(len(y)).view(-1, 1, 1, 1)
        measured = measure(y, sigma)
        level = self._level
        if mean_of is None or not bool((share_and_gain(level, measured)[0] > 0).any()):
            return measured
        unit, g = measured.unit, self._denoiser(y.dtype)
        scaled = measured.over(unit)
        mean = mean_of(lambda part: first_share(g, level, widen(part) / unit, scaled, self.passes))
        return measured._replace(base_mean=unit * mean)

    def restore(self, y: Tensor, measured: Measured, sigma: float | Tensor | None = None) -> Tensor:
        """As ``forward`` for images, or parts of them, (N, C, H, W), measured as a whole; ``measured`` has sigma."""
        return zero_shot(self._denoiser(y.dtype), self._level, y, measured, self.passes)

    @property
    def _level(self) -> float:
        if self.sigma is None:
            raise InputError("ZeroShot's sigma255: auto is found when weights are loaded: path:pretrain_network_g")
        return self.sigma

    def _denoiser(self, dtype: torch.dtype) -> Network:
        """The backbone, computing in ``dtype``, for images of any type and size."""

        def denoise(z: Tensor) -> Tensor:
            padded, (height, width) = pad_to_multiple(z.to(dtype), self.pad_to)
            return self.backbone(padded)[..., :height, :width].to(z.dtype)

        return denoise

    def extra_repr(self) -> str:
        return f'sigma255={"auto" if self.sigma is None else f"{255 * self.sigma:g}"}, passes={self.passes}'


def zero_shot(g: Network, sigma: float, y: Tensor, measured: Measured, passes: int = 1) -> Tensor:
    """The formula of this file, for a denoiser ``g`` that was trained at ``sigma`` on the [0, 1] scale.

    ``y`` (N, C, H, W) are the images that were measured, or the same part of each.
    """
    unit, image = measured.unit, widen(y)
    z, measured = image / unit, measured.over(unit)
    share, gain = share_and_gain(sigma, measured)
    base_mean: Tensor | float = 0.0
    base = None
    if torch.compiler.is_compiling() or bool((share > 0).any()):  # most images above the training level need no base
        base = first_share(g, sigma, z, measured, passes)
        base_mean = base.mean(dim=(1, 2, 3), keepdim=True) if measured.base_mean is None else measured.base_mean
    restored = _denoise_at(g, z if base is None else z - base, gain, measured.mean - base_mean)
    restored = restored if base is None else base + restored
    return torch.where(measured.noisy, unit * restored, image).to(y.dtype)


def measure(y: Tensor, noise: Tensor | None = None) -> Measured:
    """Mean, contrast and noise of each image of y (N, C, H, W).

    Args:
        noise: the level in y, (N, 1, 1, 1) on the scale of y, where it is known; else it is estimated. A level given as
            a constant fixes the scale: the result then commutes with y + b, and with a y only if it is scaled, too.
    """
    mean, contrast = mean_std(y)
    return Measured(mean, contrast, noise_level(y) if noise is None else noise)


def share_and_gain(sigma: float, measured: Measured) -> tuple[Tensor, Tensor]:
    """w and k of the formula, (N, 1, 1, 1) each; w = 0 and any finite k where there is no noise."""
    gain = sigma / torch.where(measured.noisy, measured.noise, torch.ones_like(measured.noise))
    contrast = torch.where(measured.noisy, measured.contrast, torch.ones_like(measured.contrast))
    share = (1 - CONTRAST / (gain * contrast)).clamp(min=0)
    return torch.where(measured.noisy, share, torch.zeros_like(share)), gain


def first_share(g: Network, sigma: float, y: Tensor, measured: Measured, passes: int) -> Tensor:
    """b of the formula, up to a constant: what is subtracted before the network sees y; (N, C, H, W) as y."""
    share, gain = share_and_gain(sigma, measured)
    noisy, ones = measured.noisy, torch.ones_like(measured.noise)
    first = dct_shrink(y, torch.where(noisy, measured.noise, ones), mean=measured.mean)
    if passes == 2:
        limited = torch.minimum(gain, CONTRAST / torch.where(noisy, measured.contrast, ones))
        trust = (limited / gain).sqrt().clamp(max=TRUST)  # a pass below the gain of its level removes too much
        return share * (first + trust * (_denoise_at(g, y, limited, measured.mean) - first))
    first = first - measured.mean
    local = _blurred(first)
    power, local_power = (x.square().mean(dim=1, keepdim=True) for x in (first, local))
    contrast = gain * (_blurred(power) - local_power).clamp(min=0).sqrt()
    details = (1 - LOCAL / torch.where(contrast > LOCAL, contrast, LOCAL * ones)) * (share / RAMP).clamp(max=1)
    return share * local + details * (first - local)


def _blurred(x: Tensor) -> Tensor:
    """x (N, C, H, W) with a Gaussian window of deviation ``WINDOW``; its borders are repeated."""
    radius, channels = 3 * WINDOW, x.shape[1]
    line = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    line = torch.exp(-(line**2) / (2 * WINDOW**2))
    line = (line / line.sum()).expand(channels, 1, 1, -1)
    with torch.autocast(x.device.type, enabled=False):
        rows = F.conv2d(pad(x, (radius,) * 4, 'replicate'), line, groups=channels)
        return F.conv2d(rows, line.transpose(2, 3), groups=channels)


def _denoise_at(g: Network, z: Tensor, gain: Tensor, mean: Tensor) -> Tensor:
    """D_k: ``g`` on ``z`` with its mean moved to 0.45 and its contrast multiplied by ``gain``, and back."""
    return mean + (g(gain * (z - mean) + MEAN) - MEAN) / gain
