"""Mohan et al.'s networks beside DnCNN: a recurrent one, a dense one, a U-Net; without biases f(a y) = a f(y).

They return the image. Input and output: (N, num_in_ch, H, W), nominally in [0, 1], not clipped, any height and width.
Keys as in the authors' files.

Reference: Mohan, Kadkhodaie, Simoncelli and Fernandez-Granda, Robust and interpretable blind image denoising via
bias-free convolutional neural networks, ICLR 2020.
"""

import torch
import torch.nn.functional as F
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from ne_basicsr.ops.padding import crop


class _Stage(nn.Module):
    """3x3 convolutions with ReLUs between them, (N, num_in_ch, H, W) to (N, num_out_ch, H, W)."""

    def __init__(self, num_in_ch: int, num_out_ch: int, num_feat: int, num_hidden: int, bias: bool, last: bool) -> None:
        super().__init__()
        self.first_layer = nn.Conv2d(num_in_ch, num_feat, 3, padding=1, bias=bias)
        hidden = [nn.Conv2d(num_feat, num_feat, 3, padding=1, bias=bias) for _ in range(num_hidden)]
        self.hidden_layer_list = nn.ModuleList(hidden)
        self.last_layer = nn.Conv2d(num_feat, num_out_ch, 3, padding=1, bias=last)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.first_layer, *self.hidden_layer_list):
            x = layer(x).relu()
        return self.last_layer(x)


@ARCH_REGISTRY.register()
class RecurrentCNN(nn.Module):
    """The same stage, ``stages`` times, on the noisy image and the result before.

    Args:
        num_in_ch: channels of the images; the authors' networks are for gray ones.
        num_feat, num_hidden: channels and number of the hidden convolutions.
        bias: whether they have biases; the last one has none.
        stages: has no key in checkpoints; the authors' networks have 4.
    """

    def __init__(
        self, num_in_ch: int = 1, num_feat: int = 64, num_hidden: int = 5, bias: bool = False, stages: int = 4
    ) -> None:
        super().__init__()
        self.cnn = _Stage(2 * num_in_ch, num_in_ch, num_feat, num_hidden, bias, last=False)
        self.stages = stages

    def forward(self, y: Tensor) -> Tensor:
        """Denoise y (N, num_in_ch, H, W)."""
        result = y
        for _ in range(self.stages):
            result = self.cnn(torch.cat([y, result], dim=1))
        return result


@ARCH_REGISTRY.register()
class SDenseNet(nn.Module):
    """Stages of their own weights, each on the noisy image and what the one before found, ``num_hidden`` channels.

    Args:
        num_in_ch, num_feat, num_hidden, bias: as for ``RecurrentCNN``.
        stages: number of stages.
    """

    def __init__(
        self, num_in_ch: int = 1, num_feat: int = 64, num_hidden: int = 5, bias: bool = False, stages: int = 4
    ) -> None:
        super().__init__()
        inputs = [num_in_ch, *[num_in_ch + num_hidden] * (stages - 1)]
        outputs = [*[num_hidden] * (stages - 1), num_in_ch]
        self.cnn_list = nn.ModuleList(
            _Stage(in_ch, out_ch, num_feat, num_hidden, bias, last=bias and i < stages - 1)
            for i, (in_ch, out_ch) in enumerate(zip(inputs, outputs, strict=True))
        )

    def forward(self, y: Tensor) -> Tensor:
        """Denoise y (N, num_in_ch, H, W)."""
        found = self.cnn_list[0](y)
        for stage in self.cnn_list[1:]:
            found = stage(torch.cat([y, found], dim=1))
        return found


@ARCH_REGISTRY.register()
class MohanUNet(nn.Module):
    """Two scales: three convolutions at half the resolution, two of them dilated, between those at the full one.

    Args:
        num_in_ch: as for ``RecurrentCNN``.
        bias: whether the convolutions have biases; the last one has none.
        residual: whether the output is subtracted from the input; has no key in checkpoints.

    Odd sizes are filled up with zeros.
    """

    size_multiple = 1  # it pads inside

    def __init__(self, num_in_ch: int = 1, bias: bool = False, residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        self.conv1 = nn.Conv2d(num_in_ch, 32, 5, padding=2, bias=bias)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1, bias=bias)
        self.conv3 = nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=bias)
        self.conv4 = nn.Conv2d(64, 64, 3, padding=1, bias=bias)
        self.conv5 = nn.Conv2d(64, 64, 3, dilation=2, padding=2, bias=bias)
        self.conv6 = nn.Conv2d(64, 64, 3, dilation=4, padding=4, bias=bias)
        self.conv7 = nn.ConvTranspose2d(64, 64, 4, stride=2, padding=1, bias=bias)
        self.conv8 = nn.Conv2d(96, 32, 3, padding=1, bias=bias)
        self.conv9 = nn.Conv2d(32, num_in_ch, 5, padding=2, bias=False)

    def forward(self, y: Tensor) -> Tensor:
        """Denoise y (N, num_in_ch, H, W)."""
        height, width = y.shape[-2:]
        fine = coarse = self.conv2(self.conv1(F.pad(y, (0, width % 2, 0, height % 2))).relu()).relu()
        for layer in (self.conv3, self.conv4, self.conv5, self.conv6, self.conv7):
            coarse = layer(coarse).relu()
        result = crop(self.conv9(self.conv8(torch.cat([coarse, fine], dim=1)).relu()), height, width)
        return y - result if self.residual else result
