"""DnCNN: a plain convolutional stack that predicts the noise."""

import math

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn


@ARCH_REGISTRY.register()
class DnCNN(nn.Module):
    """Denoiser f(y) = y - R(y), R a stack of 3x3 convolutions with zero padding.

    Args:
        num_in_ch, num_out_ch: channels of the input and of the output; equal, since the output is a difference.
        num_feat: channels of the hidden layers.
        num_layers: number of convolutions, 17 to 20 in the literature.
        act_mode: what follows a hidden convolution: ``BR``, batch normalization and ReLU, or ``R``, ReLU alone.
        bias: whether convolutions have biases.
        bn_eps: what BatchNorm adds to the variance: 1e-4 in KAIR, 1e-5 in the WNE paper's code and in DnCNN-PyTorch.
        init: how training starts: ``near_identity``, a last convolution of a tenth of its size, or ``paper``, BatchNorm
            weights of N(0, 2 / (9 64)) clamped to +-0.025, as in the WNE paper's code and in DnCNN-PyTorch.

    Input and output: (N, C, H, W), nominally in [0, 1], not clipped, any height and width. Keys (``model.<i>``) and
    the defaults of BatchNorm as in KAIR's model zoo. Convolutions start as in He et al. (2015), biases at 0.

    Raises:
        ValueError: for an unknown ``act_mode`` or ``init``, different channel counts, fewer than 2 layers, or a
            ``bn_eps`` of 0 or less.

    Reference: Zhang et al., Beyond a Gaussian Denoiser, IEEE TIP 2017.
    """

    def __init__(
        self,
        num_in_ch: int = 1,
        num_out_ch: int = 1,
        num_feat: int = 64,
        num_layers: int = 20,
        act_mode: str = 'BR',
        bias: bool = True,
        bn_eps: float = 1e-4,
        init: str = 'near_identity',
    ) -> None:
        super().__init__()
        if act_mode not in ('BR', 'R'):
            raise ValueError(f"act_mode must be 'BR' (BatchNorm and ReLU) or 'R' (ReLU); got {act_mode!r}.")
        if num_in_ch != num_out_ch:
            raise ValueError(
                'DnCNN subtracts the predicted noise from its input, so num_in_ch and num_out_ch must be equal;'
                f' got {num_in_ch} and {num_out_ch}.'
            )
        if num_layers < 2:
            raise ValueError(f'DnCNN needs num_layers of at least 2, a first and a last; got {num_layers}.')
        if init not in ('near_identity', 'paper'):
            raise ValueError(f"init must be 'near_identity' or 'paper'; got {init!r}.")
        if not bn_eps > 0:
            raise ValueError(f'bn_eps must be positive, as BatchNorm divides by it; got {bn_eps!r}.')

        def conv(in_ch: int, out_ch: int) -> nn.Conv2d:
            return nn.Conv2d(in_ch, out_ch, 3, padding=1, bias=bias)

        layers: list[nn.Module] = [conv(num_in_ch, num_feat), nn.ReLU(inplace=True)]
        for _ in range(num_layers - 2):
            layers.append(conv(num_feat, num_feat))
            if act_mode == 'BR':
                layers.append(nn.BatchNorm2d(num_feat, eps=bn_eps, momentum=0.1))
            layers.append(nn.ReLU(inplace=True))
        layers.append(conv(num_feat, num_out_ch))
        self.model = nn.Sequential(*layers)

        self.bn_eps = bn_eps  # has no key in checkpoints, and is compared with their metadata
        _start(self.model, init)

    def forward(self, y: Tensor) -> Tensor:
        """Denoise y (N, C, H, W)."""
        return y - self.model(y)


@ARCH_REGISTRY.register()
class IRCNN(DnCNN):
    """DnCNN with convolutions that are dilated by 1, 2, 3, ... up to the middle layer and back to 1.

    Args:
        num_in_ch, num_out_ch, num_feat, num_layers, act_mode, bias, bn_eps, init: as for ``DnCNN``.

    The authors' networks, each for one noise level, have 7 layers, and no normalization once it is merged.

    Reference: Zhang et al., Learning deep CNN denoiser prior for image restoration, CVPR 2017.
    """

    def __init__(
        self,
        num_in_ch: int = 1,
        num_out_ch: int = 1,
        num_feat: int = 64,
        num_layers: int = 7,
        act_mode: str = 'R',
        bias: bool = True,
        bn_eps: float = 1e-4,
        init: str = 'near_identity',
    ) -> None:
        super().__init__(num_in_ch, num_out_ch, num_feat, num_layers, act_mode, bias, bn_eps, init)
        convolutions = [module for module in self.model if isinstance(module, nn.Conv2d)]
        for i, conv in enumerate(convolutions):
            conv.padding = conv.dilation = (min(i + 1, num_layers - i),) * 2


@torch.no_grad()
def _start(layers: nn.Sequential, init: str) -> None:
    for module in layers:
        if isinstance(module, nn.Conv2d):  # He et al. 2015: keeps the signal's size through the ReLUs
            nn.init.kaiming_normal_(module.weight, nonlinearity='relu')
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d) and init == 'paper':
            nn.init.normal_(module.weight, std=math.sqrt(2 / 9 / 64)).clamp_(-0.025, 0.025)
    if init == 'near_identity':  # a random network would add noise
        layers[-1].get_parameter('weight').mul_(0.1)
