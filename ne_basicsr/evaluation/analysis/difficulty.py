"""How hard a noisy image is in normalized coordinates, which difficulties a noise level covers, and quality at each.

With y = x + sigma z, m and s the mean and standard deviation of y (over C, H, W, divided by d), y~ = (y - m) / s and
x~ = (x - m) / s with the same m and s, the difficulty is

    Delta = ||y~ - x~|| = ||y - x|| / s,        between 0 and about sqrt(d).

A normalization-equivariant denoiser depends on y~ only, hence on Delta rather than sigma: weak noise on a flat image is
as hard as strong noise on an image of high contrast. Training at one sigma covers another as far as their Delta agree,

    m(sigma_test; sigma_train) = share of the Delta at sigma_test in the central 95% of those at sigma_train.

The quality of a denoiser, with f~ = (f(y) - m) / s, is

    Q = -10 log10 ||f~(y) - x~||^2 = -20 log10 (||f(y) - x|| / s),

whose curves over Delta at all noise levels are one curve under normalization equivariance.

Reference: Saied and Fleuret, ICML 2026, Table 3.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ne_basicsr.data.image_store import ImageStore, on_unit_range
from ne_basicsr.ops.equivariance import Network, mean_std
from ne_basicsr.ops.noise import add_noise, seed_of
from ne_basicsr.utils.errors import InputError

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
