"""The quality of a denoiser at each difficulty: with f~ = (f(y) - m) / s, and x~ as in ``difficulty``,

    Q = -10 log10 ||f~(y) - x~||^2 = -20 log10 (||f(y) - x|| / s).

For a normalization-equivariant denoiser the curves of Q over Delta at all noise levels are one curve.

Reference: Saied and Fleuret, ICML 2026.
"""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ne_basicsr.evaluation.analysis.difficulty import CENTRAL, Row, Values, central, difficulty, noisy_patches
from ne_basicsr.ops.equivariance import Network, mean_std

BATCH = 32
FEWEST = 3  # patches in a bin; below it there is no deviation


def residual_quality(output: Tensor, noisy: Tensor, clean: Tensor) -> Tensor:
    """Q of each image in dB, (N,), from f(y), y and x, each (N, C, H, W)."""
    error = (output.double() - clean.double()).flatten(1).norm(dim=1)
    return -20 * torch.log10(error / mean_std(noisy.double()).scale.flatten())


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
