"""FFDNet: a plain non-blind stack of convolutions at half the resolution."""

from collections.abc import Sequence

import torch.nn.functional as F
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from ne_basicsr.archs.ne_layers import append_noise_map
from ne_basicsr.ops.padding import crop, pad_to_multiple


@ARCH_REGISTRY.register()
class FFDNet(nn.Module):
    """Denoiser f(y, sigma) = U R(D y, sigma), D the 2x2 pixels of y as 4 channels, U the way back.

    R is a stack of 3x3 convolutions with biases, zero padding and ReLUs, whose input has the noise level as its last
    channel. It returns the image.

    Args:
        num_in_ch, num_out_ch: channels of the input image (without the noise map) and of the output.
        num_feat: channels of the hidden layers; the authors' networks have 64 for gray images and 96 for colour.
        num_layers: number of convolutions; the authors' networks have 15 and 12.

    Input and output: (N, C, H, W), nominally in [0, 1], not clipped, any height and width: odd sizes are filled up by
    repeating the last row and column. Keys ``model.<i>`` as in KAIR's model zoo.

    Raises:
        ValueError: for fewer than 2 layers.

    Reference: Zhang, Zuo and Zhang, FFDNet, IEEE TIP 2018.
    """

    size_multiple = 1  # it pads inside
    blind = False

    def __init__(self, num_in_ch: int = 1, num_out_ch: int = 1, num_feat: int = 64, num_layers: int = 15) -> None:
        super().__init__()
        if num_layers < 2:
            raise ValueError(f'FFDNet needs num_layers of at least 2, a first and a last; got {num_layers}.')
        self.pad_to = 2
        layers: list[nn.Module] = [nn.Conv2d(4 * num_in_ch + 1, num_feat, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(num_layers - 2):
            layers += [nn.Conv2d(num_feat, num_feat, 3, padding=1), nn.ReLU(inplace=True)]
        self.model = nn.Sequential(*layers, nn.Conv2d(num_feat, 4 * num_out_ch, 3, padding=1))

    def forward(self, x: Tensor, sigma: float | Sequence[float] | Tensor | None = None) -> Tensor:
        """Denoise x (N, C, H, W).

        ``sigma``: the noise level on the scale of x, one value or N; errors as ``append_noise_map``.
        """
        padded, (height, width) = pad_to_multiple(x, 2, 'replicate')
        z = append_noise_map(F.pixel_unshuffle(padded, 2), sigma, self.blind, 'FFDNet')  # (N, 4 C + 1, H/2, W/2)
        return crop(F.pixel_shuffle(self.model(z), 2), height, width)
