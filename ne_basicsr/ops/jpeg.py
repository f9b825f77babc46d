"""JPEG compression of images, by OpenCV (libjpeg): 8 bits, chroma subsampled by two where there is colour."""

import cv2
import numpy as np
import torch
from torch import Tensor


def compress(image: Tensor, quality: int) -> Tensor:
    """An image (C, H, W) on [0, 1], C = 1 or 3 (RGB), rounded to 8 bits and compressed; its type and device stay.

    ``quality`` is the quality factor, 1 to 100. The result has multiples of 1/255.
    """
    assert image.dim() == 3 and image.shape[0] in (1, 3), 'JPEG knows gray and colour images'
    pixels = (image.clamp(0, 1) * 255).round().byte().movedim(0, -1).cpu().numpy()  # (H, W, C)
    bgr = np.ascontiguousarray(pixels[..., ::-1])  # of one channel, itself
    _, encoded = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    flag = cv2.IMREAD_COLOR_RGB if bgr.shape[-1] == 3 else cv2.IMREAD_GRAYSCALE
    decoded = cv2.imdecode(encoded, flag)
    assert decoded is not None, 'what OpenCV encoded it decodes'
    decoded = decoded.reshape(bgr.shape)
    return torch.from_numpy(decoded).movedim(-1, 0).to(image) / 255
