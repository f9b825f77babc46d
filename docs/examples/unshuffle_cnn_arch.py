"""UnshuffleCNN: a convolutional stack at half the resolution, which takes a quarter of the arithmetic."""

import itertools

from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn


@ARCH_REGISTRY.register()
class UnshuffleCNN(nn.Module):
    """Denoiser f(y) = y - R(y), R 3x3 convolutions between pixel unshuffle and pixel shuffle.

    Args:
        num_in_ch, num_out_ch: channels of the input and of the output; equal, since the output is a difference.
        num_feat: channels of the hidden layers.
        num_layers: number of convolutions.

    Input and output: (N, C, H, W), nominally in [0, 1], not clipped, height and width multiples of 2.

    Raises:
        ValueError: for different channel counts, or fewer than 2 layers.

    Reference: Zhang et al., FFDNet, IEEE TIP 2018, without the noise map.
    """

    size_multiple = 2

    def __init__(self, num_in_ch: int = 1, num_out_ch: int = 1, num_feat: int = 64, num_layers: int = 12) -> None:
        super().__init__()
        if num_in_ch != num_out_ch:
            raise ValueError(
                'UnshuffleCNN subtracts the predicted noise from its input, so num_in_ch and num_out_ch must be equal;'
                f' got {num_in_ch} and {num_out_ch}.'
            )
        if num_layers < 2:
            raise ValueError(f'UnshuffleCNN needs num_layers of at least 2, a first and a last; got {num_layers}.')
        channels = [4 * num_in_ch, *[num_feat] * (num_layers - 1), 4 * num_out_ch]
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        for in_ch, out_ch in itertools.pairwise(channels):
            layers += [nn.Conv2d(in_ch, out_ch, 3, padding=1), nn.ReLU(inplace=True)]
        layers[-1] = nn.PixelShuffle(2)  # instead of the last ReLU
        self.body = nn.Sequential(*layers)

    def forward(self, y: Tensor) -> Tensor:
        """Denoise y (N, C, H, W)."""
        return y - self.body(y)
