"""Blocks of images in a MATLAB file, the format of SIDD's validation and benchmark data."""

from functools import cached_property
from pathlib import Path

import numpy as np
import scipy  # which imports scipy.io when it is used
from numpy.typing import NDArray

from ne_basicsr.data.image_store import Image, as_gray
from ne_basicsr.utils.errors import InputError


class MatStore:
    """The one array (images, blocks, H, W, 3) of uint8 in a ``.mat`` file.

    ``ValidationNoisyBlocksSrgb.mat`` holds 40 x 32 blocks of 256x256, 251 MB; block 3 of image 2 is called ``0002_03``.
    The shape is in the header; the array is read with the first block. An ``InputError`` if the file is missing, is no
    MATLAB file up to version 7, or holds something else.
    """

    def __init__(self, file: Path) -> None:
        self.root = file
        try:
            contents = scipy.io.whosmat(str(file), appendmat=False)
        except (OSError, ValueError, TypeError, NotImplementedError, scipy.io.matlab.MatReadError) as error:
            reason = getattr(error, 'strerror', None) or 'not a MATLAB file of version 7 or earlier'
            raise InputError(f'{file}: {reason}') from error
        blocks = [(name, shape) for name, shape, _ in contents if len(shape) == 5 and shape[-1] == 3]
        if len(blocks) != 1:
            found = ', '.join(f'{name} {tuple(shape)}' for name, shape, _ in contents) or 'nothing'
            raise InputError(f'{file}: one array (images, blocks, height, width, 3) is needed, as of SIDD; got {found}')
        (self._variable, shape), *_ = blocks
        self._places = {f'{i + 1:04}_{b + 1:02}': (i, b) for i in range(shape[0]) for b in range(shape[1])}
        self.names = list(self._places)

    def pixels(self, name: str, channels: int) -> Image:
        image = np.ascontiguousarray(self._blocks[self._places[name]])
        return image if channels == 3 else as_gray(image)

    @cached_property
    def _blocks(self) -> NDArray[np.uint8]:
        try:
            array = scipy.io.loadmat(str(self.root), variable_names=[self._variable], appendmat=False)[self._variable]
        except (OSError, ValueError, TypeError, EOFError, scipy.io.matlab.MatReadError) as error:
            raise InputError(f'{self.root}: {self._variable} cannot be read ({error}); download it again') from error
        if array.dtype != np.uint8:
            raise InputError(f'{self.root}: {self._variable} must hold uint8; got {array.dtype}')
        return array
