"""PSNR and SSIM of two images: of the values themselves, clamped to [0, 1] as in the paper, or rounded to 8 bits."""

import numpy as np
from torch import Tensor

SSIM_WINDOW = 7  # pixels; smaller images have no SSIM


def psnr(image: Tensor, clean: Tensor) -> float:
    """10 log10(1 / MSE) in dB, of images of one shape on [0, 1], neither clamped nor rounded; infinite if equal."""
    error = (image.double() - clean.double()).square().mean().item()
    return float('inf') if error == 0 else -10 * float(np.log10(error))


def psnr_clamped(output: Tensor, clean: Tensor) -> float:
    """PSNR in dB of a network's output clamped to [0, 1], not rounded: what the paper's curves and tables show.

    Both images have one shape, any; ``clean`` is on [0, 1]. The PSNR of the noisy input is ``psnr``, without clamping.
    An output that is not finite is not clamped either: its PSNR is NaN, or -inf if it has infinities and no NaN.
    """
    return psnr(output.clamp(0, 1) if bool(output.isfinite().all()) else output, clean)


def psnrs(noisy: Tensor, output: Tensor, clean: Tensor) -> dict[str, float]:
    """The columns of every table of PSNR, in dB: of the input, the output, and the output clamped; all of one shape."""
    return {
        'psnr_in': psnr(noisy, clean),
        'psnr_out': psnr(output, clean),
        'psnr_clamped': psnr_clamped(output, clean),
    }


def psnr_8bit(image: Tensor, clean: Tensor) -> float:
    """PSNR in dB of two images of one shape, clipped to [0, 1] and rounded to 8 bits: BasicSR's calculate_psnr."""
    return psnr(*((x.clamp(0, 1) * 255).round() / 255 for x in (image, clean)))


def ssim(image: Tensor, clean: Tensor) -> float:
    """Structural similarity of (C, H, W) images on [0, 1], as in the paper's protocol.

    scikit-image's default, a uniform 7x7 window, on [0, 255]; ``image`` is clipped, neither is rounded.
    """
    from skimage.metrics import structural_similarity  # brings scipy.ndimage, which takes 0.15 s

    a, b = (x.detach().double().cpu().numpy() * 255 for x in (image.clamp(0, 1), clean))
    return float(structural_similarity(a, b, data_range=255, channel_axis=0))
