"""Restormer: a U-shaped transformer whose attention is between channels, so its cost is linear in the pixels.

Reference: Zamir et al., Restormer: Efficient Transformer for High-Resolution Image Restoration, CVPR 2022. Written from
the paper and from the published checkpoints' names and shapes.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from ne_basicsr.ops.padding import crop, pad_to_multiple, widen

LAYER_NORM_TYPES = ('BiasFree', 'WithBias')


@ARCH_REGISTRY.register()
class Restormer(nn.Module):
    """f(y) = y + R(y), R four encoder levels of transformer blocks, their decoder, and refinement blocks.

    Args:
        inp_channels, out_channels: channels of the input and of the output; equal, but in the dual-pixel task.
        dim: channels of the first level, doubled in each further one; even.
        num_blocks: transformer blocks per level, 4 values.
        num_refinement_blocks: transformer blocks after the decoder.
        heads: attention heads per level, 4 values, each a divisor of its level's channels.
        ffn_expansion_factor: hidden channels of the feed-forward part, relative to the block's.
        bias: whether convolutions inside blocks, channel reductions and the output layer have biases.
        LayerNorm_type: ``WithBias``, (x - mean) / std * w + b over the channels, or ``BiasFree``, x / std * w.
        dual_pixel_task: for defocus deblurring from two views; the input's features, instead of the input, are added.

    Input and output: (N, C, H, W), nominally in [0, 1], not clipped, any height and width: images are reflect-padded
    right and bottom to a multiple of 8, and cropped again. Options and keys as the official ones.

    Raises:
        ValueError: for an unknown ``LayerNorm_type``, a number of levels other than 4, or channels that do not fit.
    """

    size_multiple = 1  # it pads inside
    PAD_TO = 8  # three levels of 2x2 below the first

    def __init__(
        self,
        inp_channels: int = 3,
        out_channels: int = 3,
        dim: int = 48,
        num_blocks: Sequence[int] = (4, 6, 6, 8),
        num_refinement_blocks: int = 4,
        heads: Sequence[int] = (1, 2, 4, 8),
        ffn_expansion_factor: float = 2.66,
        bias: bool = False,
        LayerNorm_type: str = 'WithBias',  # noqa: N803 (the official name)
        dual_pixel_task: bool = False,
    ) -> None:
        super().__init__()
        _check_levels(dim, num_blocks, heads)
        if LayerNorm_type not in LAYER_NORM_TYPES:
            raise ValueError(f"Restormer needs LayerNorm_type 'BiasFree' or 'WithBias'; got {LayerNorm_type!r}.")
        if inp_channels != out_channels and not dual_pixel_task:
            raise ValueError(
                'Restormer adds its input to its output, so inp_channels and out_channels must be equal unless'
                f' dual_pixel_task is on; got {inp_channels} and {out_channels}.'
            )
        self.dual_pixel_task = dual_pixel_task

        def blocks(channels: int, level: int, number: int) -> nn.Sequential:
            block = partial(TransformerBlock, channels, heads[level], ffn_expansion_factor, bias, LayerNorm_type)
            return nn.Sequential(*(block() for _ in range(number)))

        features = nn.Conv2d(inp_channels, dim, 3, padding=1, bias=False)
        self.patch_embed = nn.Sequential(OrderedDict(proj=features))
        self.encoder_level1 = blocks(dim, 0, num_blocks[0])
        self.down1_2 = Downsample(dim)
        self.encoder_level2 = blocks(2 * dim, 1, num_blocks[1])
        self.down2_3 = Downsample(2 * dim)
        self.encoder_level3 = blocks(4 * dim, 2, num_blocks[2])
        self.down3_4 = Downsample(4 * dim)
        self.latent = blocks(8 * dim, 3, num_blocks[3])
        self.up4_3 = Upsample(8 * dim)
        self.reduce_chan_level3 = nn.Conv2d(8 * dim, 4 * dim, 1, bias=bias)
        self.decoder_level3 = blocks(4 * dim, 2, num_blocks[2])
        self.up3_2 = Upsample(4 * dim)
        self.reduce_chan_level2 = nn.Conv2d(4 * dim, 2 * dim, 1, bias=bias)
        self.decoder_level2 = blocks(2 * dim, 1, num_blocks[1])
        self.up2_1 = Upsample(2 * dim)
        # the first level keeps its concatenated 2 dim channels
        self.decoder_level1 = blocks(2 * dim, 0, num_blocks[0])
        self.refinement = blocks(2 * dim, 0, num_refinement_blocks)
        if dual_pixel_task:
            self.skip_conv = nn.Conv2d(dim, 2 * dim, 1, bias=bias)
        self.output = nn.Conv2d(2 * dim, out_channels, 3, padding=1, bias=bias)

    def forward(self, inp_img: Tensor) -> Tensor:
        """Restore inp_img (N, C, H, W)."""
        y, (height, width) = pad_to_multiple(inp_img, self.PAD_TO, 'reflect')
        features = self.patch_embed(y)
        level1 = self.encoder_level1(features)
        level2 = self.encoder_level2(self.down1_2(level1))
        level3 = self.encoder_level3(self.down2_3(level2))
        latent = self.latent(self.down3_4(level3))
        x = self.reduce_chan_level3(torch.cat([self.up4_3(latent), level3], dim=1))
        x = self.decoder_level3(x)
        x = self.reduce_chan_level2(torch.cat([self.up3_2(x), level2], dim=1))
        x = self.decoder_level2(x)
        x = self.decoder_level1(torch.cat([self.up2_1(x), level1], dim=1))
        x = self.refinement(x)
        x = self.output(x + self.skip_conv(features)) if self.dual_pixel_task else self.output(x) + y
        return crop(x, height, width)


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, dim: int, heads: int, expansion: float, bias: bool, norm_type: str) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim, norm_type)
        self.attn = ChannelAttention(dim, heads, bias)
        self.norm2 = LayerNorm(dim, norm_type)
        self.ffn = GatedFeedForward(dim, expansion, bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class ChannelAttention(nn.Module):
    """Multi-Dconv head transposed attention: softmax(temperature q k^T) v between channels, q and k of unit length."""

    def __init__(self, dim: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=bias)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        height, width = x.shape[-2:]
        qkv = self.qkv_dwconv(self.qkv(x)).flatten(2)  # (N, 3 C, H W)
        q, k, v = (t.unflatten(1, (self.heads, -1)) for t in qkv.chunk(3, dim=1))  # (N, heads, C / heads, H W)
        similarity = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        out = (similarity * self.temperature).softmax(dim=-1) @ v  # (N, heads, C / heads, H W)
        return self.project_out(out.flatten(1, 2).unflatten(2, (height, width)))


class GatedFeedForward(nn.Module):
    """Gated-Dconv feed-forward: gelu(p) * q, with p and q the halves of a 1x1 and a depthwise 3x3 convolution."""

    def __init__(self, dim: int, expansion: float, bias: bool) -> None:
        super().__init__()
        hidden = int(dim * expansion)
        self.project_in = nn.Conv2d(dim, 2 * hidden, 1, bias=bias)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=bias)
        self.project_out = nn.Conv2d(hidden, dim, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        p, q = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(F.gelu(p) * q)


class LayerNorm(nn.Sequential):
    """Layer normalization over the channels of (N, C, H, W), in float32 or better."""

    def __init__(self, dim: int, norm_type: str) -> None:
        super().__init__(OrderedDict(body=ChannelScale(dim, with_bias=norm_type == 'WithBias')))


class ChannelScale(nn.Module):
    """(x - mean) / sqrt(var + 1e-5) * weight + bias over the channels; without bias, x / sqrt(var + 1e-5) * weight."""

    def __init__(self, dim: int, with_bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if with_bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        variance, mean = torch.var_mean(widen(x), dim=1, keepdim=True, correction=0)  # (N, 1, H, W)
        scale = self.weight.view(-1, 1, 1) / (variance + 1e-5).sqrt()  # (N, C, H, W)
        if self.bias is None:
            return (x * scale).to(x.dtype)
        return ((x - mean) * scale + self.bias.view(-1, 1, 1)).to(x.dtype)


class Downsample(nn.Sequential):
    """(N, C, H, W) to (N, 2 C, H / 2, W / 2): a 3x3 convolution to C / 2 channels, then pixel unshuffle."""

    def __init__(self, channels: int) -> None:
        convolution = nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False)
        super().__init__(OrderedDict(body=nn.Sequential(convolution, nn.PixelUnshuffle(2))))


class Upsample(nn.Sequential):
    """(N, C, H, W) to (N, C / 2, 2 H, 2 W): a 3x3 convolution to 2 C channels, then pixel shuffle."""

    def __init__(self, channels: int) -> None:
        convolution = nn.Conv2d(channels, channels * 2, 3, padding=1, bias=False)
        super().__init__(OrderedDict(body=nn.Sequential(convolution, nn.PixelShuffle(2))))


def _check_levels(dim: int, num_blocks: Sequence[int], heads: Sequence[int]) -> None:
    for name, values in (('num_blocks', num_blocks), ('heads', heads)):
        if len(values) != 4:
            raise ValueError(f'Restormer has 4 levels and needs 4 values of {name}; got {list(values)}.')
    channels = [dim * 2**level for level in range(4)]
    if dim % 2 or any(c % h for c, h in zip(channels, heads, strict=True)):
        raise ValueError(
            f'Restormer needs an even dim, and channels {channels} that are multiples of heads {list(heads)} level by'
            f' level; got dim {dim}.'
        )
