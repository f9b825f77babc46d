"""Denoise arrays of pixels; the result has the shape and type of the input."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ne_basicsr.data.image_store import on_unit_range
from ne_basicsr.data.stacks import TYPES
from ne_basicsr.inference import real_noise
from ne_basicsr.inference.denoiser import as_denoiser
from ne_basicsr.inference.real_noise import Settings
from ne_basicsr.inference.tiles import TILE, Tiled
from ne_basicsr.ops.noise_level import noise_level
from ne_basicsr.utils.errors import InputError

Pixels = NDArray[Any]

ROWS = 256  # rows of an image that change colour space at once

# Orthonormal: brightness, red against blue, green against both. White noise stays white at the same level, while nearly
# all of an image goes into the brightness, where a gray network can best separate it from the noise.
OPPONENT = torch.tensor(
    [[1 / 3**0.5] * 3, [1 / 2**0.5, 0, -1 / 2**0.5], [1 / 6**0.5, -2 / 6**0.5, 1 / 6**0.5]], dtype=torch.float64
)

AS_WHITE = Settings(stride=1, stabilize=False)


def denoise(
    network: nn.Module,
    image: Pixels,
    noise: float | None = None,
    tile: int = TILE,
    overlap: int | None = None,
    stride: int | None = None,
    stabilize: bool | None = None,
    strength: float = 1.0,
    data_range: float | None = None,
) -> Pixels:
    """Denoise an array and return an array of the same shape and type.

    Gray networks process a colour image as brightness and two colour differences if they are blind and
    normalization-equivariant, otherwise each channel separately. Colour networks process a gray image as three equal
    channels, and the mean of the results is returned. Integers are scaled to [0, 1], and the result is rounded and
    clipped. Floating-point images keep their range, nominally [0, 1], and are not clipped. Networks run in the
    precision of their parameters, so float64 images are converted to float32, unless the network is ``.double()`` or
    float32 cannot represent the image (``fits_float32``); then float64 is used.

    Args:
        network: a ``Denoiser``, as ``ne_basicsr.load`` returns it, or a module.
        image: (H, W) or (H, W, C), C 1 or 3 (RGB); uint8, uint16 or floating point.
        noise: noise level for non-blind and zero-shot networks, on the [0, 1] scale or in the units of a
            floating-point image; the noise is white then, unless ``stride`` or ``stabilize`` is given. None: estimated.
        tile: side of the tiles for larger images, in pixels.
        overlap: overlap of the tiles, see ``ne_basicsr.inference.tiles.Tiled``.
        stride, stabilize, strength: what is known about noise that is not white, see ``real_noise.Settings``.
        data_range: the value of white where it is not that of the type, such as 4095 for 12 bits in uint16; ``noise``
            is then a share of it.

    Raises:
        InputError: for other shapes or types, values that are not finite, invalid noise levels (for integers also those
            above 1), or networks that do not fit the image.
    """
    if not isinstance(image, np.ndarray) or image.dtype.name not in TYPES:
        given = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        way_out = ': call the network itself, network(y)' if isinstance(image, Tensor) else ''
        raise InputError(
            f'denoise(network, image) takes numpy arrays of uint8, uint16 or floating point; got {given}{way_out}'
        )
    shape = image.shape
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3) or image.size == 0:
        raise InputError(f'denoise takes images (H, W), (H, W, 1) or (H, W, 3); got shape {shape}')
    if image.dtype.kind == 'f' and not np.isfinite(image).all():
        raise InputError('denoise takes finite values; the image has others')
    denoiser = as_denoiser(network)
    denoiser.require_image_to_image()
    denoiser.check_level(noise, image if image.dtype.kind == 'f' and data_range is None else None)
    settings = Settings(stride, stabilize, strength, data_range)
    real_noise.check(settings, shape)
    return restore(Tiled(denoiser, tile, overlap), image[None], image.dtype, noise, settings)[0].reshape(shape)


def restore(
    tiled: Tiled,
    batch: Pixels,
    dtype: np.dtype[Any],
    noise: float | None = None,
    settings: Settings = AS_WHITE,
    on_tile: Callable[[float], None] = lambda pixels: None,
    on_found: Callable[[str, int], None] = lambda words, number: None,
) -> Pixels:
    """Denoise pixels (N, H, W, C), C 1 or 3, into an array of the same shape and of type ``dtype``.

    Args:
        noise: noise level in units of the network's input; None: estimated for non-blind networks.
        settings: about noise that is not white.
        on_tile: called after each tile with the number of pixels of each image in it.
        on_found: called with what is done about noise that is not white, and with the number of the image.

    Raises:
        InputError: if the network changes the size, or returns values that are not finite.
    """
    if batch.dtype.kind == 'u' and noise is not None and noise > 1:
        rule = 'the noise level of integer images is at most white: 1, or --image-sigma255 255'
        raise InputError(f'{rule}; got {noise:g}, or {255 * noise:g} of 255')
    if (data_range := settings.data_range) is not None:
        shares = on_data_range(batch, data_range)
        shares = restore(tiled, shares, shares.dtype, noise, settings._replace(data_range=None), on_tile, on_found)
        if dtype != batch.dtype:
            return to_type(shares, dtype)
        values = shares * data_range
        return values if dtype.kind == 'f' else np.rint(values).clip(0, data_range).astype(dtype)
    n, height, width, channels = batch.shape
    denoiser = tiled.denoiser
    if denoiser.like.dtype != torch.float64 and not fits_float32(batch):
        if denoiser.like.device.type == 'mps':
            raise InputError('float32 cannot represent this image, and mps has no float64; use the CPU (--device cpu)')
        denoiser = deepcopy(denoiser).double()
        tiled = Tiled(denoiser, tiled.tile, tiled.overlap, tiled.memory)
    parameter = denoiser.like
    exact = parameter.dtype == torch.float64
    y = _on_unit_range(batch, np.float64 if exact else np.float32).to(parameter).permute(0, 3, 1, 2)  # (N, C, H, W)
    settings = settings.given(noise)
    judges = not denoiser.takes_sigma or getattr(denoiser.network, 'estimates_noise', False)
    treatments = [real_noise.find(image, settings, judges) for image in y]
    untreated = [denoiser.takes_sigma and found is None for found in treatments]
    clean = [maybe and real_noise.is_clean(image, settings) for image, maybe in zip(y, untreated, strict=True)]
    if n > 1 and (any(treatments) or any(clean)):

        def one(i: int) -> Pixels:
            reports = (lambda pixels: on_tile(pixels / n), lambda words, _: on_found(words, i))
            return restore(tiled, batch[i : i + 1], dtype, noise, settings, *reports)

        return np.concatenate([one(i) for i in range(n)])
    if any(clean):
        on_found(f'noise below {real_noise.CLEAN:.1%} of the contrast: left as it is', 0)
        on_tile(height * width)
        return np.array(to_type(batch, dtype))
    treatment = treatments[0] if n == 1 else None
    if treatment and settings.stride is settings.stabilize is None and treatment.traits <= denoiser.knows:
        on_found(f'{treatment.found}: left to the network, which was trained on such noise', 0)
        treatment = None
    curve, gain, stride = (treatment.curve, treatment.gain, treatment.stride) if treatment else (None, None, 1)
    if treatment:
        on_found(str(treatment), 0)
        y = curve.forward(y) if curve else y
        y = gain.forward(y) if gain else y
    split = channels > denoiser.channels  # each channel separately
    axes = OPPONENT.to(y) if split and denoiser.is_equivariant else None
    if axes is not None:
        for rows in y.permute(0, 2, 3, 1).split(ROWS, dim=1):  # in place, since memory may not hold two large images
            rows.copy_(rows @ axes.T)
    y = y.reshape(-1, 1, height, width) if split else y
    sigma = None if noise is None else torch.full((len(y),), noise).to(y)
    if sigma is None and treatment and denoiser.takes_sigma:
        sigma = real_noise.told(treatment, y)
    elif sigma is None and (denoiser.needs_sigma or (settings.strength != 1 and denoiser.takes_sigma)):
        sigma = noise_level(y).flatten().to(y)
    sigma = None if sigma is None else settings.strength * sigma
    replicated = channels < denoiser.channels
    y = y.expand(-1, denoiser.channels, -1, -1) if replicated else y

    result = np.empty(batch.shape, dtype)

    def write(rows: slice, total: int, part: Tensor) -> None:
        if (total, *part.shape[1::2]) != (height, *y.shape[1::2]):
            raise InputError(
                f'a denoiser must keep the size of its images; {width}x{height} became {part.shape[3]}x{total}'
            )
        part = part.mean(dim=1, keepdim=True) if replicated else part
        part = part.reshape(n, channels, *part.shape[2:]) if split else part
        part = torch.einsum('ij,nihw->njhw', axes, part) if axes is not None else part
        part = gain.inverse(part, rows) if gain else part
        part = curve.inverse(part) if curve else part
        if not part.isfinite().all():
            raise InputError('the network returned values that are not finite')
        part = part if part.dtype == torch.float64 else part.float()
        with np.errstate(over='ignore'):
            values = to_type(part.permute(0, 2, 3, 1).cpu().numpy(), dtype)
        if dtype.kind == 'f' and not np.isfinite(values).all():
            raise InputError(f'{dtype} cannot represent some values of the result; save the image as float64')
        result[:, rows] = values

    if stride == 1 and (settings.strength == 1 or denoiser.takes_sigma):
        tiled.run(y, write, sigma, on_tile)
        return result
    told = [None] * stride**2 if sigma is None else sigma.repeat_interleave(stride**2).split(len(y))
    outputs = []
    for images, levels in zip(real_noise.phases(y, stride).split(len(y)), told, strict=True):  # memory for one at once
        output = tiled(images, levels, on_tile)
        if settings.strength != 1 and not denoiser.takes_sigma:  # a blind network sees, or is denied, so much noise
            change = (settings.strength - 1) * (images - output)
            output = tiled(images + change) if settings.strength > 1 else output - change
        outputs.append(output)
    write(slice(0, height), height, real_noise.joined(torch.cat(outputs), stride, height, width))
    return result


def on_data_range(pixels: Pixels, data_range: float) -> Pixels:
    """Floating-point pixels whose white, ``data_range``, is 1; an ``InputError`` for integers above it."""
    return pixels / pixels.dtype.type(data_range) if pixels.dtype.kind == 'f' else on_unit_range(pixels, data_range)


def as_image(pixels: Pixels) -> Tensor:
    """Pixels (H, W, C) as an image (C, H, W): integers on [0, 1], floating point as it is."""
    return _on_unit_range(pixels, np.float32 if fits_float32(pixels[None]) else np.float64).movedim(-1, 0)


def fits_float32(pixels: Pixels) -> bool:
    """Whether float32 represents the contrast of each image (N, H, W, C), far from its smallest and largest numbers.

    Rounding to float32 then changes values by at most 2^-13 of the image's range, a 30th of an 8-bit step.
    """
    if pixels.dtype.kind == 'u':
        return True
    low, high = (end.astype(np.float64) for end in (pixels.min((1, 2, 3)), pixels.max((1, 2, 3))))
    largest, half_range = np.maximum(-low, high), high / 2 - low / 2  # the whole range may overflow
    size = np.where(half_range > 0, half_range, largest)
    fits = (largest == 0) | ((size >= 2.0**-100) & (largest <= 2.0**100))
    if pixels.dtype == np.float64:
        fits &= (half_range == 0) | (half_range >= largest * 2.0**-12)
    return bool(fits.all())


def to_type(pixels: Pixels, dtype: np.dtype[Any]) -> Pixels:
    """Convert pixels to another type; integers represent [0, 1] from 0 to their maximum, rounded and clipped."""
    if pixels.dtype == dtype:
        return pixels
    if pixels.dtype.kind == 'u':
        pixels = pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    if dtype.kind == 'u':
        largest = np.iinfo(dtype).max
        pixels = np.rint(pixels * np.float32(largest)).clip(0, largest)
    return pixels.astype(dtype)


def _on_unit_range(pixels: Pixels, dtype: type[np.floating[Any]]) -> Tensor:
    """Like ``ne_basicsr.data.image_store.on_unit_range``, without temporary arrays, to save memory."""
    tensor = torch.from_numpy(pixels.astype(dtype))
    return tensor.div_(np.iinfo(pixels.dtype).max) if pixels.dtype.kind == 'u' else tensor
