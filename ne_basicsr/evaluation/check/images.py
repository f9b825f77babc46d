"""Images for certification: synthetic, or from a folder."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ne_basicsr.data.image_store import FolderStore, decode
from ne_basicsr.ops.center import center
from ne_basicsr.ops.noise import add_noise
from ne_basicsr.utils.errors import InputError
from ne_basicsr.utils.words import similar_path

LEVELS255 = (25, 5, 50, 12)
SIDE = 64  # of the centre crop of a user's image, to save time; equivariance does not depend on the size


def synthetic_images(channels: int, size: tuple[int, int], count: int = 4) -> list[Tensor]:
    """Images with shading, edges and texture, like natural ones, each with a different level of Gaussian noise.

    Returns:
        ``count`` images (1, channels, H, W) in float64, nominally on [0, 1], the same on every call.
    """
    images = []
    rows, columns = (torch.linspace(-1, 1, side, dtype=torch.float64) for side in size)
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        coarse = torch.rand(1, channels, 3, 4, generator=generator, dtype=torch.float64)
        image = 0.6 * F.interpolate(coarse, size, mode='bicubic', align_corners=False)
        for _ in range(6):  # overlapping discs
            row, column, radius, shade, waves = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
            inside = (rows[:, None] - 2 * row + 1) ** 2 + (columns - 2 * column + 1) ** 2 < (0.2 + 0.5 * radius) ** 2
            texture = 0.1 * torch.sin(20 * waves * rows[:, None] + 25 * columns)
            image = torch.where(inside, 0.1 + 0.7 * shade + texture, image)
        images.append(add_noise(image, LEVELS255[number % len(LEVELS255)] / 255, seed=number))
    return images


def read_images(folder: Path, channels: int, count: int = 4) -> list[Tensor]:
    """The centres, at most ``SIDE`` pixels wide and high, of the first ``count`` images in a folder, unchanged.

    (1, channels, H, W) in float64 on [0, 1]; an ``InputError`` where there are none, or one cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f'{folder}: no such folder of images{similar_path(folder)}')
    if channels not in (1, 3):
        raise InputError(
            f'{folder}: images are gray or RGB, but the network takes {channels} channels; leave out --images'
        )
    store = FolderStore(folder)
    images = (decode(store.read(name), channels, name) for name in store.names[:count])
    return [center(torch.from_numpy(image).double().permute(2, 0, 1)[None], SIDE) for image in images]
