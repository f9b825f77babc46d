"""The central part of an image, for displays and quick checks."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Image = TypeVar('Image', Tensor, NDArray[np.uint8], NDArray[np.float32])


def center(image: Image, size: int) -> Image:
    """The central ``size`` x ``size`` pixels of (..., H, W), fewer where the image is smaller; a view."""
    top, left = (max(0, length - size) // 2 for length in image.shape[-2:])
    return image[..., top : top + size, left : left + size]
