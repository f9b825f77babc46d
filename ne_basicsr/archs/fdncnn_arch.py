"""FDnCNN: a plain convolutional stack that predicts the image, in three degrees of equivariance."""

from collections.abc import Sequence

from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from ne_basicsr.archs.ne_layers import (
    AffineConv2d,
    SortPool,
    affine_chain,
    append_noise_map,
    check_network_mode,
    check_pairs,
)


@ARCH_REGISTRY.register()
class FDnCNN(nn.Module):
    """Denoiser f(y) = K_L act(... act(K_1 y)), 3x3 convolutions K without normalization layers.

    Args:
        num_in_ch, num_out_ch: channels of the input image (without the noise map) and of the output.
        num_feat: channels of the hidden layers, even where mode is ``norm-equiv``.
        num_layers: number of convolutions.
        mode: ``ordinary``, with biases (but in the last layer), zero padding, ReLU; ``scale-equiv``, the same without
            biases, f(a y) = a f(y); ``norm-equiv``, affine convolutions, reflect padding, channel sorting,
            f(a y + b) = a f(y) + b.
        blind: whether the noise level is unknown. If not, ``forward`` needs it, and f(a y + b, a sigma) takes the
            place of f(a y + b) in these laws.

    Input and output: (N, C, H, W), nominally in [0, 1], not clipped, any height and width. Keys ``fdncnn.<i>``.

    Raises:
        ValueError: for an unknown mode, an odd ``num_feat`` that has to be sorted, or fewer than 2 layers.

    Reference: Herbreteau, Moebel and Kervrann, NeurIPS 2023; Zhang et al., IEEE TIP 2017.
    """

    size_multiple = 1

    def __init__(
        self,
        num_in_ch: int = 1,
        num_out_ch: int = 1,
        num_feat: int = 64,
        num_layers: int = 20,
        mode: str = 'ordinary',
        blind: bool = True,
    ) -> None:
        super().__init__()
        check_network_mode(mode, 'FDnCNN')
        if mode == 'norm-equiv':
            check_pairs(num_feat, "FDnCNN with mode 'norm-equiv'", 'num_feat')
        if num_layers < 2:
            raise ValueError(f'FDnCNN needs num_layers of at least 2, a first and a last; got {num_layers}.')
        self.mode = mode
        self.blind = blind

        channels = [num_in_ch if blind else num_in_ch + 1, *[num_feat] * (num_layers - 1), num_out_ch]
        layers: list[nn.Module] = []
        for i in range(num_layers):
            in_ch, out_ch, last = channels[i], channels[i + 1], i == num_layers - 1
            if mode == 'norm-equiv':
                layers.append(AffineConv2d(in_ch, out_ch, 3, padding=1, noise_map=i == 0 and not blind))
            else:
                layers.append(nn.Conv2d(in_ch, out_ch, 3, padding=1, bias=mode == 'ordinary' and not last))
            if not last:
                layers.append(SortPool() if mode == 'norm-equiv' else nn.ReLU(inplace=True))
        self.fdncnn = nn.Sequential(*layers)

    def forward(self, x: Tensor, sigma: float | Sequence[float] | Tensor | None = None) -> Tensor:
        """Denoise x (N, C, H, W).

        ``sigma``, where ``blind`` is off: the noise level on the scale of x, one value or N; errors as
        ``append_noise_map``.
        """
        x = append_noise_map(x, sigma, self.blind, 'FDnCNN')
        if self.mode == 'norm-equiv':
            return affine_chain(x, [layer for layer in self.fdncnn if isinstance(layer, AffineConv2d)])
        return self.fdncnn(x)
