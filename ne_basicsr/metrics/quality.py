"""How close two images are: as they are; clamped to the clean image's range, as in the paper; and as 8-bit files."""

import numpy as np
from skimage.metrics import structural_similarity
from torch import Tensor


def psnr(image: Tensor, clean: Tensor) -> float:
    """10 log10(1 / MSE) in dB, for images of one shape as they are, data range 1; infinite where they are equal."""
    error = (image.double() - clean.double()).square().mean().item()
    return float('inf') if error == 0 else -10 * float(np.log10(error))


def psnr_clamped(output: Tensor, clean: Tensor) -> float:
    """PSNR in dB of a network's output clamped to [0, 1], not rounded: what the paper's curves and tables show.

    The noisy input is not clamped there: its PSNR is ``psnr``. An output that is not finite is not clamped either, so
    that it counts as what it is: its PSNR is NaN, or -inf where infinities are all that is wrong with it.
    """
    return psnr(output.clamp(0, 1) if bool(output.isfinite().all()) else output, clean)


def psnrs(noisy: Tensor, output: Tensor, clean: Tensor) -> dict[str, float]:
    """The columns of every table of PSNR: of the input, of the output as it is, and of the output clamped."""
    return {
        'psnr_in': psnr(noisy, clean),
        'psnr_out': psnr(output, clean),
        'psnr_clamped': psnr_clamped(output, clean),
    }


def psnr_8bit(image: Tensor, clean: Tensor) -> float:
    """PSNR in dB of both images as 8-bit files hold them, clipped to [0, 1] and rounded: BasicSR's calculate_psnr."""
    return psnr(*((x.clamp(0, 1) * 255).round() / 255 for x in (image, clean)))


def ssim(image: Tensor, clean: Tensor) -> float:
    """Structural similarity of (C, H, W) images on [0, 1], as in the paper's protocol.

    scikit-image's default, a uniform 7x7 window, on [0, 255]; ``image`` is clipped, neither is rounded.
    """
    a, b = (x.detach().double().cpu().numpy() * 255 for x in (image.clamp(0, 1), clean))
    return float(structural_similarity(a, b, data_range=255, channel_axis=0))
