"""LPIPS and DISTS, by torchmetrics; their networks need weights of torchvision, which it downloads once."""

import math
import threading
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ne_basicsr.utils.errors import InputError, first_line
from ne_basicsr.utils.optional import require

PERCEPTUAL = {  # name: class of torchmetrics, its arguments, torchvision's weights
    'lpips': (
        'image.lpip.LearnedPerceptualImagePatchSimilarity',
        {'net_type': 'alex', 'normalize': True},
        'AlexNet_Weights',
    ),
    'dists': ('functional.image.dists.DISTSNetwork', {}, 'VGG16_Weights'),  # its Metric loads the weights in each call
}

_ONE_AT_A_TIME = threading.Lock()  # metrics of torchmetrics keep sums


@cache
def metric(name: str, device: torch.device | str = 'cpu') -> Any:
    """The metric of torchmetrics, ready to call with two batches of images on ``device``.

    Raises:
        InputError: without torchmetrics, or if its weights cannot be had.
    """
    path, arguments, weights = PERCEPTUAL[name]
    module, _, kind = path.rpartition('.')
    found = getattr(require(f'torchmetrics.{module}', extra='perceptual'), kind)
    try:
        return found(**arguments).to(device)
    except OSError as error:
        url = getattr(require('torchvision.models'), weights).DEFAULT.url
        raise InputError(
            f'{name} needs weights of torchvision that cannot be had here ({first_line(error)}); download {url}'
            f' elsewhere and put the file into {torch.hub.get_dir()}/checkpoints'
        ) from error


def perceptual(name: str, image: Tensor, clean: Tensor) -> float:
    """``lpips`` (AlexNet) or ``dists`` (VGG-16) of (C, H, W) images on [0, 1]; 0 for equal ones, lower is better.

    ``image`` is clamped. Gray images are shown to the networks as three equal channels.

    Raises:
        InputError: see ``metric``; for images that are too small, or not finite.
    """
    pair = [x.detach().float().clamp(0, 1).expand(3, -1, -1)[None] for x in (image, clean)]
    network = metric(name, image.device)
    try:
        with _ONE_AT_A_TIME, torch.no_grad():
            value = float(network(*pair))
            if name == 'lpips':
                network.reset()
        if not math.isfinite(value):
            raise ValueError('nothing is left of them, or they are not finite')
    except (RuntimeError, ValueError) as error:
        size = 'x'.join(map(str, image.shape[-2:]))
        raise InputError(f'{name} cannot compare images of {size} pixels: {first_line(error)}') from error
    return value
