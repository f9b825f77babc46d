"""What a comparison of networks found: the data that tables, figures and the page are made from."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ne_basicsr.degradations import Degradation
from ne_basicsr.mismatch.rows import Row

IDENTITY = 'identity'
"""Label of the built-in network that leaves the image as it is."""


class Entry(NamedTuple):
    """A network that was compared.

    Args:
        label: its name in tables and figures, unique.
        source: what the command line said.
        description: what the file was recognised as, in a line; empty for the identity.
        parameters: their number.
        training_levels255: the noise of its training, in 8-bit units: one level, several, or the two ends of a range;
            empty where it is not known.
    """

    label: str
    source: str
    description: str = ''
    parameters: int = 0
    training_levels255: tuple[float, ...] = ()


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
