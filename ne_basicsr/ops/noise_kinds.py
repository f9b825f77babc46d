"""Noise that depends on the image, on the place or on its neighbours, for training and for tests, on any device.

Float64 where a rounding or an order of summation could change more than last bits: photons are counted, and a GPU may
compute float32 convolutions with 10 bits.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ne_basicsr.ops.random_numbers import centred_uniforms
from ne_basicsr.utils.errors import InputError

Kernel = Sequence[Sequence[float]]

FEW, TERMS = 10.0, 40  # photons up to which probabilities are summed, and how many: what is left out is below 2^-25
NODES = 4  # of a map of levels, along each side
# of ``camera``, bounds of an image's draws: widths of the grain in pixels, strength of the colour noise, slope of the
# variance; wide ranges about the spectra of the photographs of CC15 (Nam et al., CVPR 2016)
LUMINANCE, COLOUR, STRENGTH, SLOPE = (0.25, 0.8), (0.5, 2.0), (0.4, 1.8), (-0.8, 0.8)
MARGIN = 16  # pixels beyond which its grain is uncorrelated

# distributions of mean square 1 by their quantiles: from v, uniform on (-1, 1), to the quantile of (1 + v) / 2
QUANTILE: dict[str, Callable[[Tensor], Tensor]] = {
    'gaussian': lambda v: math.sqrt(2) * torch.erfinv(v),
    'uniform': lambda v: math.sqrt(3) * v,
    'laplace': lambda v: -v.sign() * torch.log1p(-v.abs()) / math.sqrt(2),
    'rayleigh': lambda v: (-2 * torch.log((1 - v) / 2)).sqrt() / math.sqrt((4 - math.pi) / 2),
}
FURTHER = ('poisson_gaussian', 'speckle', 'correlated', 'demosaicked', 'camera')
DEPENDENT = ('correlated', 'demosaicked', 'camera', 'jpeg')  # not independent from pixel to pixel
BY_BRIGHTNESS = ('poisson_gaussian', 'speckle', 'camera')
TRAITS = frozenset({'correlation', 'brightness', 'place', 'channel'})  # what noise depends on that is not white


def noisy(
    kind: str, clean: Tensor, sigmas: Tensor, seeds: Sequence[int], photons: Tensor | None = None, kernel: Kernel = ()
) -> Tensor:
    """Noisy copies of ``clean``, not clipped, on its device and of its type; each from its seed alone.

    Args:
        kind: one of ``QUANTILE`` or ``FURTHER``.
        clean: (N, C, H, W) on [0, 1].
        sigmas: (N, 1, 1, 1), or maps (N, 1, H, W): standard deviations on the [0, 1] scale; of ``speckle`` for white,
            of ``demosaicked`` on the sensor, of ``poisson_gaussian`` the Gaussian part's.
        photons: (N, 1, 1, 1), with ``poisson_gaussian``: how many white is.
        kernel: with ``correlated``, rows of numbers, to whose ratios white noise is mixed; see ``kernel_of``.
    """
    (channels, *size), device = clean.shape[1:], clean.device

    def gaussian(*shape: int) -> Tensor:
        return QUANTILE['gaussian'](centred_uniforms(seeds, shape, device))

    if kind == 'poisson_gaussian':
        assert photons is not None, 'photon noise needs their number'
        v = centred_uniforms(seeds, (2, *clean.shape[1:]), device)
        clean = (poisson(v[:, 0], clean.double().clamp(min=0) * photons) / photons).to(clean.dtype)
        noise = QUANTILE['gaussian'](v[:, 1])
    elif kind == 'speckle':
        noise = clean * gaussian(channels, *size)
    elif kind == 'correlated':
        noise = correlated(gaussian(channels, size[0] + len(kernel) - 1, size[1] + len(kernel[0]) - 1), kernel)
    elif kind == 'demosaicked':
        if channels != 3:
            raise InputError(f'demosaicked noise is for RGB images; got {channels} channel(s): take correlated')
        noise = demosaicked(gaussian(1, *(side + 2 for side in size)))
    elif kind == 'camera':
        noise = camera(clean, seeds)
    else:
        noise = QUANTILE[kind](centred_uniforms(seeds, clean.shape[1:], device))
    return clean + (sigmas * noise).to(clean.dtype)


def poisson(v: Tensor, mean: Tensor) -> Tensor:
    """Photon counts, in float64: from v, uniform on (-1, 1), to the quantile of (1 + v) / 2 of a Poisson distribution.

    Args:
        v, mean: of one shape; means of at least 0.

    Source: Giles, Algorithm 955: approximation of the inverse Poisson cumulative distribution function, ACM TOMS 2016,
    the expansion for large means.
    """
    v = v.double()
    share, small, large = (1 + v) / 2, mean.clamp(max=FEW), mean.clamp(min=FEW)
    term = torch.exp(-small)
    below, count = term.clone(), torch.zeros_like(term)
    for k in range(1, TERMS):
        count += share >= below
        below += term.mul_(small).div_(k)
    w, root = QUANTILE['gaussian'](v), large.sqrt()
    expanded = large + root * w + (2 + w**2) / 6 - (2 * w + w**3) / 72 / root
    expanded += (-16 + 7 * w**2 + 3 * w**4) / 810 / large
    return torch.where(mean < FEW, count, expanded.floor())


def correlated(noise: Tensor, kernel: Kernel) -> Tensor:
    """White noise (N, C, H + k - 1, W + l - 1) through a kernel of k rows of l: (N, C, H, W), of the same deviation."""
    weights = torch.tensor(kernel, dtype=torch.float64)
    weights = (weights / weights.norm()).to(noise.device, non_blocking=True)
    return F.conv2d(noise.double().flatten(0, 1)[:, None], weights[None, None]).unflatten(0, noise.shape[:2])[:, :, 0]


def kernel_of(given: float | Kernel) -> Kernel:
    """A kernel for ``correlated``: rows of numbers, or a Gaussian by its standard deviation in pixels, cut at three."""
    if not isinstance(given, int | float):
        return tuple(map(tuple, given))
    width, radius = given, math.ceil(3 * given)
    line = [math.exp(-((x / width) ** 2) / 2) for x in range(-radius, radius + 1)]
    return tuple(tuple(a * b for b in line) for a in line)


def demosaicked(mosaic: Tensor) -> Tensor:
    """White noise of a sensor with a Bayer mosaic, (N, 1, H + 2, W + 2), as bilinear demosaicking hands it on, RGB.

    Demosaicking is linear: its noise is the same whatever the image is. Variance 1 where a colour was measured, 1/4 or
    1/2 where it is a mean of four or two, and correlated with the neighbours.
    """
    rows, columns = (torch.arange(side, device=mosaic.device) % 2 for side in mosaic.shape[2:])
    is_red, is_blue = (rows == 0)[:, None] & (columns == 0), (rows == 1)[:, None] & (columns == 1)
    masks = torch.stack([is_red, ~(is_red | is_blue), is_blue])
    kernels = torch.tensor([[[1, 2, 1], [2, 4, 2], [1, 2, 1]], [[0, 1, 0], [1, 4, 1], [0, 1, 0]]], dtype=torch.float64)
    kernels = (kernels[[0, 1, 0], None] / 4).to(mosaic.device, non_blocking=True)
    return F.conv2d(mosaic * masks.double(), kernels, groups=3)


def camera(clean: Tensor, seeds: Sequence[int]) -> Tensor:
    """Gaussian noise as cameras leave it in photographs, (N, C, H, W), float64, of mean square 1 at half brightness.

    Demosaicking, denoising and chroma subsampling leave grain that is fine in luminance and coarse in colour: white
    noise through kernels exp(-r / w), whose amplitude at f cycles per pixel is (1 + (2 pi w f)^2)^(-3/2). Each image
    draws its own w for luminance and for colour, how strong the colour noise is, and how the variance rises or falls
    with the brightness. Gray images get the part of luminance.
    """
    channels, *size = clean.shape[1:]
    padded = [side + MARGIN for side in size]  # since a transform joins opposite edges
    v = centred_uniforms(seeds, (4 + (1 + channels) * math.prod(padded),), clean.device).double()
    draws = zip((LUMINANCE, COLOUR, STRENGTH, SLOPE), v[:, :4].T[..., None, None, None], strict=True)
    fine, coarse, strength, slope = (low + (high - low) * (1 + draw) / 2 for (low, high), draw in draws)
    down, right = (torch.fft.fftfreq(side, dtype=torch.float64, device=clean.device) for side in padded)
    amplitude = (1 + (2 * math.pi) ** 2 * (down[:, None] ** 2 + right**2) * torch.cat([fine, coarse], 1) ** 2) ** -1.5
    amplitude /= amplitude.square().mean((2, 3), keepdim=True).sqrt()
    white = QUANTILE['gaussian'](v[:, 4:].view(-1, 1 + channels, *padded))
    spectrum = torch.fft.fft2(white) * amplitude[:, [0] + [1] * channels]
    grain = torch.fft.ifft2(spectrum).real[..., : size[0], : size[1]]
    colour = strength * (grain[:, 1:] - grain[:, 1:].mean(1, keepdim=True))
    total = 1 + strength**2 * (1 - 1 / channels)
    brightness = clean.double().mean(1, keepdim=True).clamp(0, 1)
    return (grain[:, :1] + colour) * ((1 + slope * (2 * brightness - 1)) / total).sqrt()


def level_maps(low: float, high: float, seeds: Sequence[int], size: Sequence[int], device: torch.device) -> Tensor:
    """Maps of levels (N, 1, H, W): uniform draws from ``low`` to ``high`` at 4 x 4 nodes, bilinear between them."""
    nodes = low + (high - low) * (1 + centred_uniforms(seeds, (1, NODES, NODES), device)) / 2
    return F.interpolate(nodes, tuple(size), mode='bilinear', align_corners=True)
