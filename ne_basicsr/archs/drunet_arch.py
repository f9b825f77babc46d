"""DRUNet: a U-Net with residual blocks, in three degrees of equivariance."""

import itertools
from collections.abc import Sequence

from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from ne_basicsr.archs.ne_layers import (
    AffineConv2d,
    AffineResidual,
    AffineUpsample2x,
    SortPool,
    affine_chain,
    append_noise_map,
    check_network_mode,
    check_pairs,
)
from ne_basicsr.ops.padding import MODES, crop, pad_to_multiple


@ARCH_REGISTRY.register()
class DRUNet(nn.Module):
    """Denoising U-Net with 2x2 strided convolutions down, residual blocks, and additive skips.

    Args:
        num_in_ch, num_out_ch: channels of the input image (without the noise map) and of the output.
        num_feats: channels per level, from the full resolution down; even where mode is ``norm-equiv``.
        num_blocks: residual blocks per level and direction.
        mode: ``ordinary``, with biases, zero padding, ReLU; ``scale-equiv``, the same without biases,
            f(a y) = a f(y); ``norm-equiv``, affine convolutions, reflect padding, channel sorting, affine skips,
            f(a y + b) = a f(y) + b.
        blind: whether the noise level is unknown. If not, ``forward`` needs it, and f(a y + b, a sigma) takes the
            place of f(a y + b) in these laws.
        pad_with: what sizes that are no multiple of 8 (2 to the number of levels below the first) are padded with,
            right and bottom, before the output is cropped again: ``mean``, each image's own, as the authors do, or
            ``reflect``, ``replicate`` or ``circular``. Reflection keeps the last rows and columns sharp.

    Input and output: (N, C, H, W), nominally in [0, 1], not clipped, any height and width.

    Raises:
        ValueError: for an unknown mode or padding, fewer than 2 levels, or odd channels that have to be sorted.

    Reference: Zhang et al., IEEE TPAMI 2021; Herbreteau, Moebel and Kervrann, NeurIPS 2023.
    """

    size_multiple = 1  # it pads inside, to multiples of pad_to

    def __init__(
        self,
        num_in_ch: int = 1,
        num_out_ch: int = 1,
        num_feats: Sequence[int] = (64, 128, 256, 512),
        num_blocks: int = 4,
        mode: str = 'ordinary',
        blind: bool = True,
        pad_with: str = 'mean',
    ) -> None:
        super().__init__()
        check_network_mode(mode, 'DRUNet')
        if pad_with not in ('mean', *MODES):
            raise ValueError(f"DRUNet needs pad_with 'mean' or one of {list(MODES)}; got {pad_with!r}.")
        self.pad_with = pad_with
        self.pads_with_mean = pad_with == 'mean'  # tiles are padded from outside, with the mean of the whole image
        if len(num_feats) < 2:
            raise ValueError(f'DRUNet needs num_feats of at least 2 levels; got {list(num_feats)}.')
        if mode == 'norm-equiv':
            for num_feat in num_feats:
                check_pairs(num_feat, "DRUNet with mode 'norm-equiv'", 'channels in each of num_feats')
        self.blind = blind
        self.pad_to = 2 ** (len(num_feats) - 1)

        def blocks(num_feat: int) -> list[nn.Module]:
            return [ResidualBlock(num_feat, mode) for _ in range(num_blocks)]

        in_ch = num_in_ch if blind else num_in_ch + 1
        pairs = list(itertools.pairwise(num_feats))  # (finer, coarser)
        self.m_head = _conv(in_ch, num_feats[0], mode, noise_map=not blind)
        self.m_down = nn.ModuleList(
            nn.Sequential(*blocks(fine), _conv(fine, coarse, mode, 2, 2)) for fine, coarse in pairs
        )
        self.m_body = nn.Sequential(*blocks(num_feats[-1]))
        self.m_up = nn.ModuleList(nn.Sequential(_up(coarse, fine, mode), *blocks(fine)) for fine, coarse in pairs[::-1])
        self.m_tail = _conv(num_feats[0], num_out_ch, mode)
        self.res = nn.ModuleList(_residual(mode) for _ in num_feats)  # the skips, from the coarsest level up

    def forward(self, x: Tensor, sigma: float | Sequence[float] | Tensor | None = None) -> Tensor:
        """Denoise x (N, C, H, W).

        ``sigma``, where ``blind`` is off: the noise level on the scale of x, one value or N; errors as
        ``append_noise_map``.
        """
        x, (height, width) = pad_to_multiple(x, self.pad_to, self.pad_with)
        x = self.m_head(append_noise_map(x, sigma, self.blind, 'DRUNet'))
        skips = [x]
        for down in self.m_down:
            x = down(x)
            skips.append(x)
        x = self.m_body(x)
        for up, add in zip(self.m_up, self.res, strict=False):
            x = up(add(x, skips.pop()))
        x = self.m_tail(self.res[-1](x, skips.pop()))
        return crop(x, height, width)


class ResidualBlock(nn.Module):
    """x + K_2 act(K_1 x), or the affine mean of x and K_2 sort(K_1 x)."""

    def __init__(self, num_feat: int, mode: str) -> None:
        super().__init__()
        act = SortPool() if mode == 'norm-equiv' else nn.ReLU(inplace=True)
        self.m_res = nn.Sequential(_conv(num_feat, num_feat, mode), act, _conv(num_feat, num_feat, mode))
        self.sum = _residual(mode)

    def forward(self, x: Tensor) -> Tensor:
        """(N, num_feat, H, W) to the same shape."""
        first, _, second = self.m_res
        if isinstance(first, AffineConv2d) and isinstance(second, AffineConv2d):
            return self.sum(x, affine_chain(x, [first, second]))
        return self.sum(x, self.m_res(x))


class PlainResidual(nn.Module):
    """x + y, where ``AffineResidual`` takes a mean."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x and y (N, C, H, W) to the same shape."""
        return x + y


def _conv(in_ch: int, out_ch: int, mode: str, size: int = 3, stride: int = 1, noise_map: bool = False) -> nn.Module:
    padding = (size - stride) // 2  # 3x3 keeps the size, 2x2 with stride 2 halves it
    if mode == 'norm-equiv':
        return AffineConv2d(in_ch, out_ch, size, stride, padding, noise_map=noise_map)
    return nn.Conv2d(in_ch, out_ch, size, stride, padding, bias=mode == 'ordinary')


def _up(in_ch: int, out_ch: int, mode: str) -> nn.Module:
    if mode == 'norm-equiv':
        return AffineUpsample2x(in_ch, out_ch)
    return nn.ConvTranspose2d(in_ch, out_ch, 2, stride=2, bias=mode == 'ordinary')


def _residual(mode: str) -> nn.Module:
    return AffineResidual() if mode == 'norm-equiv' else PlainResidual()
