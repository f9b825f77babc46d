"""Random crops for training, a whole batch at once, each the same whatever batch it is in."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ne_basicsr.data.image_store import Image, ImageStore, on_unit_range
from ne_basicsr.ops.noise import seed_of
from ne_basicsr.ops.random_numbers import below, draws, fractions
from ne_basicsr.utils.errors import InputError


def cut_crops(
    store: ImageStore,
    names: Sequence[str],
    numbers: NDArray[np.int64],
    *,
    size: int,
    channels: int,
    seed: int,
    augment: bool = True,
    reflect: bool = True,
) -> NDArray[np.uint8] | NDArray[np.float32]:
    """A crop of each image, flipped and turned, that depends on (seed, number) alone.

    Args:
        store: of the images; equal seeds and numbers give equal places in every store, which is how pairs are cut.
        names: N images.
        numbers: (N,) of the samples.
        size: side of the crops.
        augment: draw one of the eight flips and rotations by right angles.
        reflect: mirror the borders of images smaller than ``size`` rather than refuse them.

    Returns:
        (N, channels, size, size); uint8, or float32 on [0, 1] where an image has more than 8 bits.

    Raises:
        InputError: for an unreadable image, or without ``reflect`` a too small one.
    """
    crops: NDArray[np.uint8] | NDArray[np.float32] = np.empty((len(names), channels, size, size), np.uint8)
    random = fractions(draws(seed_of(seed, 'crop'), numbers, 3)).tolist()
    for i, (name, (vertical, horizontal, symmetry)) in enumerate(zip(names, random, strict=True)):
        image = store.pixels(name, channels)
        height, width = image.shape[:2]
        if height < size or width < size:
            if not reflect:
                raise InputError(
                    f'{store.root}/{name}: {height}x{width} is smaller than gt_size {size}; remove it,'
                    ' lower gt_size, or set small_images: reflect'
                )
            grow = [(0, max(0, size - height)), (0, max(0, size - width)), (0, 0)]
            image = np.pad(image, grow, mode='reflect')
            height, width = image.shape[:2]
        top, left = below(vertical, height - size + 1), below(horizontal, width - size + 1)
        window = image[top : top + size, left : left + size].transpose(2, 0, 1)
        if augment:
            window = one_of_eight(window, below(symmetry, 8))
        if window.dtype != crops.dtype:  # 16 bits or float: all of the batch is
            crops, window = on_unit_range(crops), on_unit_range(window)
        crops[i] = window
    return crops


def one_of_eight(image: Image, which: int) -> Image:
    """One of the eight flips and rotations by right angles of (C, H, W), as a view."""
    if which & 1:
        image = image.transpose(0, 2, 1)
    return image[:, :: -1 if which & 2 else 1, :: -1 if which & 4 else 1]
