"""What a denoiser sees and does in normalized coordinates: functions that return arrays and rows.

**Difficulty.** With y = x + sigma z, m and s the mean and standard deviation of y (over C, H, W, divided by d),
y~ = (y - m) / s and x~ = (x - m) / s with the same m and s, the difficulty is

    Delta = ||y~ - x~|| = ||y - x|| / s,        between 0 and about sqrt(d).

A normalization-equivariant denoiser depends on y~ only, hence on Delta rather than sigma: weak noise on a flat image is
as hard as strong noise on an image of high contrast. Training at one sigma covers another as far as their Delta agree,

    m(sigma_test; sigma_train) = share of the Delta at sigma_test in the central 95% of those at sigma_train.

The quality of a denoiser, with f~ = (f(y) - m) / s, is

    Q = -10 log10 ||f~(y) - x~||^2 = -20 log10 (||f(y) - x|| / s),

whose curves over Delta at all noise levels are one curve under normalization equivariance.
Reference: Saied and Fleuret, ICML 2026, Table 3.

**Adaptive filters.** Locally a denoiser is linear, f(y + e) = f(y) + J e, and a row of J is what it does at a pixel.
Under normalization equivariance, differentiating f(a y + b 1) = a f(y) + b 1 with respect to b and to a gives

    J 1 = 1:     every row sums to 1, Sigma_i = sum_j J_ij = 1, a weighted mean of pixels;
    J y = f(y):  the filters explain all of the output, rho = ||f(y) - J y|| / ||f(y)|| = 0.

A network that follows the scale alone has rho = 0, one that follows the shift alone has Sigma = 1.
Source: Mohan et al., Robust and interpretable blind image denoising via bias-free convolutional neural networks, ICLR
2020; Herbreteau et al., NeurIPS 2023.

**Intervals.** Images are mapped to [a, b] by their minimum and maximum, denoised, and mapped back:

    f_ab(y) = (f(a + (b - a) (y - min y) / (max y - min y)) - a) / (b - a) (max y - min y) + min y

There is no rule for a and b. f_ab = f for every choice of them if f is normalization-equivariant, and only then.
Source: the poster of Herbreteau et al., NeurIPS 2023.

For command lines: a ``study`` of networks on patches, and its ``outputs``.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.autograd.functional import jvp

from ne_basicsr.data.image_store import ImageStore, on_unit_range
from ne_basicsr.metrics.quality import psnr_clamped
from ne_basicsr.ops.equivariance import Network, Statistics, denormalize, mean_std, min_max, normalize
from ne_basicsr.ops.noise import add_noise, seed_of
from ne_basicsr.utils.errors import InputError

INTERVALS = ((0.0, 1.0), (0.0, 0.5), (0.25, 0.75), (0.5, 1.0), (-1.0, 1.0), (0.0, 2.0), (0.0, 255.0))
CENTRAL = 0.95
CHUNK = 1024  # patches at a time
BATCH = 32
FEWEST = 3  # patches in a bin; below it there is no deviation

Row = dict[str, Any]
Values = NDArray[np.float64]


def difficulty(noisy: Tensor, clean: Tensor) -> Tensor:
    """Delta of each image, (N,), from (N, C, H, W); infinite or NaN where y is constant."""
    return (noisy.double() - clean.double()).flatten(1).norm(dim=1) / contrast(noisy)


def contrast(images: Tensor) -> Tensor:
    """The standard deviation of each image over C, H, W, of a clean one sigma_x: (N,)."""
    return mean_std(images.double()).scale.flatten()


def central(values: ArrayLike, share: float = CENTRAL) -> tuple[float, float]:
    """The ends of the central ``share`` of some values: their (1 - share) / 2 and (1 + share) / 2 quantiles."""
    # (1 - 0.95) / 2 is 0.025 and a little in binary, which would move an end off the value that it is
    ends = [round((1 - share) / 2, 12), round((1 + share) / 2, 12)]
    low, high = np.quantile(np.asarray(values, np.float64), ends)
    return float(low), float(high)


def coverage(test: ArrayLike, train: ArrayLike, share: float = CENTRAL) -> float:
    """m(test; train): the share of ``test`` that lies in the central ``share`` of ``train``, ends included."""
    low, high = central(train, share)
    values = np.asarray(test, np.float64)
    return float(np.mean((values >= low) & (values <= high)))


def coverage_table(deltas: Mapping[float, ArrayLike], share: float = CENTRAL) -> list[Row]:
    """Table 3: a row for each level as that of the training, in the order of ``deltas``.

    Args:
        deltas: Delta of many images, by noise level.

    Returns:
        Rows ``sigma_train, coverage`` (by test level), ``low, high`` (ends of the central share), ``samples``.
    """
    return [
        {
            'sigma_train': trained,
            'coverage': {tested: coverage(values, own, share) for tested, values in deltas.items()},
            **dict(zip(('low', 'high'), central(own, share), strict=True)),
            'samples': np.size(np.asarray(own)),
        }
        for trained, own in deltas.items()
    ]


def sizes_of(store: ImageStore, channels: int = 1) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """(height, width) of each image by its name, and a line for each that cannot be read.

    Raises:
        InputError: where none can be read.
    """
    sizes, failures = {}, []
    for name in store.names:
        try:
            sizes[name] = store.pixels(name, channels).shape[:2]
        except InputError as error:
            failures.append(str(error))
    if not sizes:
        raise InputError(failures[0])
    return sizes, failures


def draw_patches(
    store: ImageStore,
    count: int,
    size: int,
    channels: int = 1,
    seed: int = 0,
    sizes: Mapping[str, tuple[int, int]] | None = None,
) -> Tensor:
    """Random crops (count, C, size, size) on [0, 1]: an image chosen uniformly, then a place, as in training.

    One image is in memory at a time.

    Args:
        sizes: of the images to draw from, see ``sizes_of``; all of the store where not given.

    Raises:
        InputError: where no image is large enough, or one cannot be read.
    """
    random = np.random.default_rng(seed_of('analysis patches', seed))
    if sizes is None:
        sizes, failures = sizes_of(store, channels)
        if failures:
            raise InputError(failures[0])
    sides = {name: own for name, own in sizes.items() if min(own) >= size}
    if not sides:
        raise InputError(f'{store.root}: no image has {size} x {size} pixels, the size of the patches')
    names = list(sides)
    places: dict[str, list[tuple[int, int, int]]] = {}  # number, top and left of the patches of an image
    for number, chosen in enumerate(random.integers(len(names), size=count)):
        name = names[chosen]
        top, left = (int(random.integers(side - size + 1)) for side in sides[name])
        places.setdefault(name, []).append((number, top, left))
    patches = np.empty((count, size, size, channels), np.float32)
    for name, own in places.items():
        image = store.pixels(name, channels)
        for number, top, left in own:
            patches[number] = on_unit_range(image[top : top + size, left : left + size])
        del image  # before the next one is read
    return torch.from_numpy(patches).permute(0, 3, 1, 2).contiguous()


def noisy_patches(clean: Tensor, sigma: float, seed: int = 0) -> Tensor:
    """x + sigma z, not clipped; the noise depends on (seed, sigma) and on the place in the batch."""
    return add_noise(clean, sigma, seed=seed_of('analysis noise', seed, float(sigma)))  # numpy's have another repr


def difficulties(clean: Tensor, sigmas: Sequence[float], seed: int = 0) -> dict[float, Values]:
    """Delta of all patches at each noise level, sigma on the [0, 1] scale: arrays (N,)."""
    chunks = list(enumerate(clean.split(CHUNK)))
    return {
        sigma: torch.cat([difficulty(noisy_patches(x, sigma, seed_of(seed, i)), x) for i, x in chunks]).numpy()
        for sigma in sigmas
    }


def residual_quality(output: Tensor, noisy: Tensor, clean: Tensor) -> Tensor:
    """Q of each image in dB, (N,), from f(y), y and x, each (N, C, H, W)."""
    return -20 * torch.log10((output.double() - clean.double()).flatten(1).norm(dim=1) / contrast(noisy))


def qualities(
    network: Network, clean: Tensor, sigma: float, *, seed: int = 0, batch: int = BATCH
) -> tuple[Values, Values]:
    """(Delta, Q) of patches (N, C, H, W) with noise of ``sigma``, two arrays (N,). Runs where ``clean`` is.

    ``batch`` patches pass the network together; their noise does not depend on it.
    """
    deltas, values = [], []
    for noisy, chunk in zip(noisy_patches(clean, sigma, seed).split(batch), clean.split(batch), strict=True):
        with torch.no_grad():
            output = network(noisy)
        deltas.append(difficulty(noisy, chunk).cpu())
        values.append(residual_quality(output, noisy, chunk).cpu())
    return torch.cat(deltas).numpy(), torch.cat(values).numpy()


def quality_curve(deltas: ArrayLike, values: ArrayLike, bins: int = 12, share: float = CENTRAL) -> list[Row]:
    """Mean and deviation of Q in bins of equal width over the central ``share`` of Delta.

    Returns:
        Rows ``low, high`` (of the bin), ``delta`` (mean in it), ``mean, deviation`` (of Q; n - 1; None below three
        values), ``number``. Bins without values are left out.
    """
    delta, quality = (np.asarray(each, np.float64) for each in (deltas, values))
    first, last = central(delta, share)
    edges = np.linspace(first, last, bins + 1)
    inside = (delta >= first) & (delta <= last)
    places = np.clip(np.searchsorted(edges, delta, side='right') - 1, 0, bins - 1)
    chosen = [inside & (places == place) for place in range(bins)]
    return [
        {
            'low': float(low),
            'high': float(high),
            'delta': float(delta[own].mean()),
            'mean': float(quality[own].mean()),
            'deviation': float(quality[own].std(ddof=1)) if own.sum() >= FEWEST else None,
            'number': int(own.sum()),
        }
        for low, high, own in zip(edges[:-1], edges[1:], chosen, strict=True)
        if own.any()
    ]


class Homogeneity(NamedTuple):
    """What derivatives say of a network at an image."""

    rho: Tensor  #: ||f(y) - J y|| / ||f(y)||, one value per image, (N,)
    sums: Tensor  #: Sigma at every output value, J 1, (N, C, H, W)
    output: Tensor  #: f(y), (N, C, H, W)


def adaptive_filter(network: Network, y: Tensor, row: int, column: int, channel: int = 0) -> Tensor:
    """The row of the Jacobian at an output pixel, d f(y)[channel, row, column] / d y: (C, H, W).

    Args:
        network: (1, C, H, W) to (1, C', H, W).
        y: one image (1, C, H, W).

    Raises:
        InputError: for a pixel outside the output.
    """
    y = y.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        output = network(y)
        channels, height, width = output.shape[1:]
        if not (0 <= row < height and 0 <= column < width and 0 <= channel < channels):
            raise InputError(
                f'a filter belongs to an output pixel: rows 0 to {height - 1}, columns 0 to {width - 1}, channels 0 to'
                f' {channels - 1}; got row {row}, column {column}, channel {channel}'
            )
        (gradient,) = torch.autograd.grad(output[0, channel, row, column], y)
    return gradient[0]


def homogeneity(network: Network, y: Tensor) -> Homogeneity:
    """rho and Sigma of a network at images (N, C, H, W), without forming J: two products of J with a vector."""
    # parameters play no part; reverse mode twice, since not every operation has a forward mode
    output, along_y = jvp(network, y.detach(), y.detach())
    _, sums = jvp(network, y.detach(), torch.ones_like(y))
    missing = (output - along_y).flatten(1).norm(dim=1)
    return Homogeneity(missing / output.flatten(1).norm(dim=1), sums.detach(), output.detach())


def check_interval(a: float, b: float) -> None:
    """Raise ``InputError`` unless a < b, both finite."""
    if not 0 < b - a < math.inf:
        raise InputError(f'an interval goes from a to a larger b, both finite; got [{a:g}, {b:g}]')


def in_interval(network: Network, y: Tensor, a: float, b: float) -> Tensor:
    """f_ab of images (N, C, H, W); a constant image is mapped to a.

    Raises:
        InputError: unless a < b, both finite.
    """
    check_interval(a, b)
    pair = min_max(y)
    with torch.no_grad():
        output = network((a + (b - a) * normalize(y, pair)).to(y.dtype))
    return denormalize((output - a) / (b - a), Statistics(*pair)).to(y.dtype)


def interval_rows(
    network: Network, y: Tensor, clean: Tensor, intervals: Sequence[tuple[float, float]] = INTERVALS
) -> list[Row]:
    """The change of the output by each interval, for one image (1, C, H, W).

    Returns:
        Rows ``a, b, psnr`` (dB, clamped to [0, 1]) and ``change``, ||f_ab(y) - f(y)|| / ||f(y)||.
    """
    with torch.no_grad():
        plain = network(y)
    rows = []
    for a, b in intervals:
        output = in_interval(network, y, a, b)
        change = ((output - plain).double().norm() / plain.double().norm()).item()
        rows.append({'a': a, 'b': b, 'psnr': psnr_clamped(output, clean), 'change': change})
    return rows
