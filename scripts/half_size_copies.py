"""Copies of colour photographs at half size with stronger colours, to train colour networks on beside the photographs.

    python scripts/half_size_copies.py datasets/BSDS432 datasets/BSDS432_half

JPEG usually stores colour differences at half size, so such photographs have no fine colour, and a network that is
trained on them alone removes it as noise. At half size, colour is as fine as brightness. What differs from the mean of
the three channels is multiplied by 1 to 2, drawn for each photograph from one seed, and the result is clipped.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from ne_basicsr.data.image_store import image_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('source', type=Path, help='folder of photographs')
    parser.add_argument('target', type=Path, help='folder to write PNGs to')
    arguments = parser.parse_args()
    arguments.target.mkdir(parents=True)
    random = np.random.default_rng(0)
    for path in image_files(arguments.source):
        image = Image.open(arguments.source / path).convert('RGB')
        half = image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
        copy = stronger(np.asarray(half), random.uniform(1, 2))
        Image.fromarray(copy).save(arguments.target / f'{path.stem}_half.png')


def stronger(image, factor):
    """Pixels (H, W, 3), 8 bits, with colour differences ``factor`` times as large."""
    mean = image.mean(2, keepdims=True)
    return (mean + factor * (image - mean)).round().clip(0, 255).astype(np.uint8)


if __name__ == '__main__':
    main()
