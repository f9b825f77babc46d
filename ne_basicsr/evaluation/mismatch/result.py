"""The result of a comparison of networks: the data behind tables, figures and the page."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ne_basicsr.inference.denoiser import Entry
from ne_basicsr.metrics.curves import Row
from ne_basicsr.ops.degradations import Degradation


class Crop(NamedTuple):
    """Part of an image for display: uint8 (H, W) or (H, W, 3); its PSNR in dB, or None for the clean image."""

    pixels: NDArray[np.uint8]
    psnr: float | None


class Panel(NamedTuple):
    """One data set under one degradation: rows of all networks, the identity first, and crops of one image."""

    data: str
    degradation: Degradation
    images: tuple[str, ...]
    rows: list[Row]
    # level to name to crop; names are ``noisy``, the labels of the networks, ``clean``
    strips: Mapping[float, Mapping[str, Crop]]
    strip_image: str  # the image that the crops are from


class Comparison(NamedTuple):
    """All results."""

    entries: list[Entry]
    panels: list[Panel]
    settings: Mapping[str, str]  # the protocol behind the numbers, names with values
    failures: list[str]  # a line for each network, image or setting that could not be measured
