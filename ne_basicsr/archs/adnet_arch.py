"""ADNet: a stack of convolutions, some of them dilated, whose noise is weighted by what it finds in the image."""

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

LAYERS = 16
DILATED = (2, 5, 9, 12)  # layers with dilation 2


@ARCH_REGISTRY.register()
class ADNet(nn.Module):
    """Denoiser f(y) = y - A(tanh [y, R(y)]) R(y), R sixteen 3x3 convolutions with BatchNorm and ReLU, A a 1x1 one.

    Args:
        num_in_ch: channels of the images.
        num_feat: channels of the hidden layers.

    Input and output: (N, C, H, W), nominally in [0, 1], not clipped, any height and width. Keys as in the authors'
    files.

    Reference: Tian et al., Attention-guided CNN for image denoising, Neural Networks 2020.
    """

    def __init__(self, num_in_ch: int = 1, num_feat: int = 64) -> None:
        super().__init__()
        for i in range(1, LAYERS):
            step = 2 if i in DILATED else 1
            conv = nn.Conv2d(num_in_ch if i == 1 else num_feat, num_feat, 3, 1, step, step, bias=False)
            setattr(self, f'conv1_{i}', nn.Sequential(conv, nn.BatchNorm2d(num_feat), nn.ReLU(inplace=True)))
        self.conv1_16 = nn.Conv2d(num_feat, num_in_ch, 3, padding=1, bias=False)
        self.conv3 = nn.Conv2d(2 * num_in_ch, num_in_ch, 1)

    def forward(self, y: Tensor) -> Tensor:
        """Denoise y (N, C, H, W)."""
        noise = y
        for i in range(1, LAYERS + 1):
            noise = self.get_submodule(f'conv1_{i}')(noise)
        return y - self.conv3(torch.cat([y, noise], dim=1).tanh()) * noise
