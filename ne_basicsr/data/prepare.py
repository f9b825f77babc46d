"""Writing image stores."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import lmdb
import numpy as np
from numpy.typing import NDArray

from ne_basicsr.errors import InputError


def write_lmdb(path: Path, images: Iterable[tuple[str, NDArray[np.uint8]]], compress_level: int = 1) -> None:
    """Write images as an LMDB in BasicSR's layout: PNG values under their names, and ``meta_info.txt``.

    Args:
        path: a folder that ends in ``.lmdb`` and does not exist.
        images: (name, (H, W) gray or (H, W, 3) RGB uint8 array).
        compress_level: of PNG, 0 to 9.

    Raises:
        InputError: where ``path`` exists or does not end in ``.lmdb``.
    """
    if path.suffix != '.lmdb':
        raise InputError(f'{path}: the folder of an LMDB must end in .lmdb')
    if path.exists():
        raise InputError(f'{path}: exists already; remove it or choose another name')
    path.mkdir(parents=True)
    lines = []
    # the map is a limit, not a size: the file grows with what is written
    with lmdb.open(str(path), map_size=2**40) as environment, environment.begin(write=True) as transaction:
        for name, image in images:
            ordered = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            _, encoded = cv2.imencode('.png', ordered, [cv2.IMWRITE_PNG_COMPRESSION, compress_level])
            transaction.put(name.encode(), encoded.tobytes())
            height, width, channels = (*image.shape, 1)[:3]
            lines.append(f'{name}.png ({height},{width},{channels}) {compress_level}\n')
    (path / 'meta_info.txt').write_text(''.join(lines), encoding='utf-8')
