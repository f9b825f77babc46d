"""What tiles cost in PSNR: this package's, and tiles cut as HAT's test mode cuts them, against the whole image.

HAT's tiles see ``tile_pad`` pixels beyond what they are responsible for and abut there, without blending; whatever a
network takes from its whole input (statistics, channel attention) it takes from the tile.

    python tests/tiling_loss.py CHECKPOINT[@SIGMA][+wne] FOLDER --sigma 25 50 --tile 128 --pad 32
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import torch
from torch import Tensor

from ne_basicsr.inference.opening import open_denoiser
from ne_basicsr.inference.tiles import Tiled
from ne_basicsr.metrics.quality import psnr

Network = Callable[[Tensor], Tensor]


def abutting(network: Network, y: Tensor, tile: int, pad: int) -> Tensor:
    """The result for y (1, C, H, W) from tiles of (tile + 2 pad) squared pixels that abut, each seen for itself."""
    result = torch.empty_like(y)
    height, width = y.shape[-2:]
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            above, before = min(top, pad), min(left, pad)
            seen = y[..., top - above : top + tile + pad, left - before : left + tile + pad]
            own = result[..., top : top + tile, left : left + tile]
            own.copy_(network(seen)[..., above : above + own.shape[-2], before : before + own.shape[-1]])
    return result


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('network', help='as for basicsr mismatch: net.pth, or net.pth@25+wne for zero-shot')
    parser.add_argument('folder', type=Path)
    parser.add_argument('--sigma', type=float, nargs='+', default=[25.0], help='noise levels in 8-bit units')
    parser.add_argument('--tile', type=int, default=128, help='what a tile is responsible for, in pixels')
    parser.add_argument('--pad', type=int, default=32, help='what it sees beyond on each side')
    arguments = parser.parse_args()
    network = open_denoiser(arguments.network)
    tiled = Tiled(network, arguments.tile + 2 * arguments.pad, arguments.pad)
    print('ours:', tiled.plan(1))
    print('sigma  whole image   loss of ours   loss of tiles as HAT cuts them   (dB, mean and worst)')
    paths = sorted(path for path in arguments.folder.iterdir() if path.suffix in ('.png', '.tif', '.jpg', '.bmp'))
    for sigma in arguments.sigma:
        found = []
        for number, path in enumerate(paths):
            clean = torch.from_numpy(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))[None, None] / 255
            generator = torch.Generator().manual_seed(number)
            noisy = clean + torch.randn(clean.shape, generator=generator) * sigma / 255
            ways = (network(noisy), tiled(noisy), abutting(network, noisy, arguments.tile, arguments.pad))
            found.append([psnr(way, clean) for way in ways])
        whole, ours, theirs = torch.tensor(found, dtype=torch.float64).unbind(1)
        losses = [f'{(whole - way).mean():8.4f} {(whole - way).max():8.4f}' for way in (ours, theirs)]
        print(f'{sigma:5g}  {whole.mean():8.2f}   {losses[0]}   {losses[1]}', flush=True)


if __name__ == '__main__':
    main()
