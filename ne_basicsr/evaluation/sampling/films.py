"""Trajectories as films: GIF by Pillow, MP4 by OpenCV."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ne_basicsr.utils.errors import InputError

FRAMES_PER_SECOND = 12
LAST_FRAME = 1.5  # seconds that the last frame is shown

Frame = NDArray[np.uint8]


def write_film(path: Path, frames: Sequence[Frame]) -> None:
    """Write 8-bit images (H, W) or (H, W, 3) of one size as .gif or .mp4. Makes the folders above.

    MP4 is VP9, which browsers play and OpenCV's wheels can write; images of odd size get one row or column more.

    Raises:
        InputError: for another suffix, or where this OpenCV has no encoder.
    """
    assert frames, 'a film has one frame or more'
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix.lower()
    if kind not in ('.gif', '.mp4'):
        raise InputError(f'films are written as .gif or .mp4; got {path.name!r}')
    if kind == '.gif':
        images = [Image.fromarray(frame) for frame in frames]
        times = [round(1000 / FRAMES_PER_SECOND)] * (len(frames) - 1) + [round(1000 * LAST_FRAME)]
        images[0].save(path, save_all=True, append_images=images[1:], duration=times, loop=0)
        return
    height, width = frames[0].shape[:2]
    odd = height % 2, width % 2
    fourcc = int.from_bytes(b'vp09', 'little')
    writer = cv2.VideoWriter(str(path), fourcc, float(FRAMES_PER_SECOND), (width + odd[1], height + odd[0]), True)
    if not writer.isOpened():
        raise InputError(f'{path}: this OpenCV cannot write MP4; use gif')
    for frame in [*frames, *[frames[-1]] * round(LAST_FRAME * FRAMES_PER_SECOND)]:
        colour = cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR if frame.ndim == 2 else cv2.COLOR_RGB2BGR)
        writer.write(cv2.copyMakeBorder(colour, 0, odd[0], 0, odd[1], cv2.BORDER_REPLICATE))
    writer.release()
