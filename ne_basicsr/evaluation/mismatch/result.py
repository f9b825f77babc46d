"""What a comparison of networks found: the data that tables, figures and the page are made from."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ne_basicsr.inference.denoiser import Entry
from ne_basicsr.metrics.curves import Row
from ne_basicsr.ops.degradations import Degradation


class Crop(NamedTuple):
    """Part of an image for display: uint8 (H, W) or (H, W, 3), and its PSNR in dB where there is one."""

    pixels: NDArray[np.uint8]
    psnr: float | None


class Panel(NamedTuple):
    """One data set under one degradation: rows of all networks, the identity first, and crops of one image.

    Args:
        strips: level to name to crop; names are ``noisy``, the labels of the networks, ``clean``.
        strip_image: whose crops these are.
    """

    data: str
    degradation: Degradation
    images: tuple[str, ...]
    rows: list[Row]
    strips: Mapping[float, Mapping[str, Crop]]
    strip_image: str


class Comparison(NamedTuple):
    """Everything that was found.

    Args:
        settings: the protocol behind the numbers, names with values.
        failures: a line for each network, image or setting that could not be measured.
    """

    entries: list[Entry]
    panels: list[Panel]
    settings: Mapping[str, str]
    failures: list[str]
