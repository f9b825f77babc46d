"""Adaptive filters: locally a denoiser is linear, f(y + e) = f(y) + J e, and a row of J is what it does at a pixel.

Under normalization equivariance, differentiating f(a y + b 1) = a f(y) + b 1 with respect to b and to a gives

    J 1 = 1:     every row sums to 1, Sigma_i = sum_j J_ij = 1, a weighted mean of pixels;
    J y = f(y):  the filters explain all of the output, rho = ||f(y) - J y|| / ||f(y)|| = 0.

A network that follows the scale alone has rho = 0, one that follows the shift alone has Sigma = 1.

Source: Mohan et al., Robust and interpretable blind image denoising via bias-free convolutional neural networks, ICLR
2020; Herbreteau et al., NeurIPS 2023.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.functional import jvp

from ne_basicsr.ops.equivariance import Network
from ne_basicsr.utils.errors import InputError


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
