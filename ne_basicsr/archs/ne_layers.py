"""Layers that commute with y -> a y + b: affine convolution, affine 2x upsampling, channel-wise sorting, affine skip.

An affine convolution is one whose kernels sum to 1 over all n weights of an output channel. Its stable parametrisation
takes any tensor w, which is what a checkpoint holds, to the kernel

    w' = roll(w, 1) - w + 1/n,      the roll over the flattened weights of one output channel,

and its padding copies pixels. ReLU does not commute with y -> y + b; sorting pairs of channels does.

Reference: Herbreteau, Moebel and Kervrann, Normalization-Equivariant Neural Networks with Application to Image
Denoising, NeurIPS 2023. Written from the paper.

Speed. Sorting interleaved channels (0,1), (2,3), ... touches memory in small steps. ``affine_chain`` computes what
``nn.Sequential(AffineConv2d, SortPool, AffineConv2d, ...)`` does with each pair split between the two halves of the
channels: channel 2i is held at i, channel 2i+1 at C/2 + i. The permutation is folded into the kernels, so the weights
on disk keep their order. Kernels are computed from the weights in every forward pass and never stored. That costs 0.2%
of the convolution (64 channels, 4 images of 128x128, one core), as much as comparing the weights with those of a stored
kernel would, and a change of the weights cannot be missed, however it was made: writes through ``.data``, as BasicSR's
moving average does them, leave no trace to look for.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from ne_basicsr.ops.padding import border_sources, check_mode, pad, widen

# -- the formulas ------------------------------------------------------------------------------------------------------


def affine_kernel(weight: Tensor) -> Tensor:
    """w' = roll(w, 1) - w + 1/n. Free weights (C_out, ...) to kernels of the same shape that sum to 1 per C_out."""
    w = widen(weight).flatten(1)  # (C_out, n)
    kernel = w.roll(1, 1) - w + 1 / w.shape[1]
    return kernel.view(weight.shape).to(weight.dtype)


def sort_pairs(x: Tensor) -> Tensor:
    """Sort the channel pairs (0,1), (2,3), ... of x (N, C, H, W), C even: channel 2i is the smaller one."""
    a, b = x[:, 0::2], x[:, 1::2]
    return torch.stack([torch.minimum(a, b), torch.maximum(a, b)], dim=2).flatten(1, 2)


def to_halves(t: Tensor, dim: int) -> Tensor:
    """Move index 2i of ``dim``, of any even length, to i and 2i+1 to half + i. The shape of t stays."""
    return t.unflatten(dim, (-1, 2)).transpose(dim, dim + 1).flatten(dim, dim + 1)


def sort_halves(
    x: Tensor, pads: Sequence[int] = (0, 0, 0, 0), mode: str = 'reflect', scratch: Tensor | None = None
) -> Tensor:
    """Sort the pairs (i, C/2 + i) of x (N, C, H, W) and pad by (left, right, top, bottom).

    Equals ``pad(to_halves(sort_pairs(z)), pads, mode)`` where x = to_halves(z). Where no gradient is wanted the result
    may be ``scratch``, overwritten: fresh memory costs more than the sorting.
    """
    if is_traced():
        a, b = x.chunk(2, dim=1)
        return pad(torch.cat([torch.minimum(a, b), torch.maximum(a, b)], dim=1), pads, mode)
    if torch.is_grad_enabled() and x.requires_grad:
        return _SortHalves.apply(x, pads, mode)
    return _sort_into_padded(x, pads, mode, None if torch.is_grad_enabled() else scratch)


# -- the layers --------------------------------------------------------------------------------------------------------


class AffineConv2d(nn.Conv2d):
    """Convolution with f(a y + b) = a f(y) + b, whatever its weights; no bias.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups: as ``torch.nn.Conv2d``.
        padding_mode: ``reflect``, ``replicate`` or ``circular``.
        noise_map: whether the last input channel is a noise level map s. Its weights are used as they are and not
            counted in n: f(a y + b, a s) = a f(y, s) + b.

    ``weight`` (out_channels, in_channels / groups, kh, kw) holds the free weights w; ``kernel()`` is what convolves.

    Input: (N, in_channels, H, W), any height and width; images may be smaller than the padding.

    Raises:
        ValueError: for zero padding and unknown modes; for a noise map together with groups or without an image.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        padding_mode: Literal['reflect', 'replicate', 'circular'] = 'reflect',
        noise_map: bool = False,
    ) -> None:
        check_mode(padding_mode, type(self).__name__)
        if noise_map and (groups != 1 or in_channels < 2):
            raise ValueError(
                f'{type(self).__name__} with noise_map needs groups 1 and in_channels of at least 2, an image and its'
                f' noise map; got groups {groups} and in_channels {in_channels}.'
            )
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, False, padding_mode)
        self.noise_map = noise_map
        self.pads = tuple(self._reversed_padding_repeated_twice)  # (left, right, top, bottom)

    def kernel(self, halves_in: bool = False, halves_out: bool = False) -> Tensor:
        """The kernels (out_channels, in_channels / groups, kh, kw), in the order of ``weight``.

        ``halves_in`` and ``halves_out`` reorder the input and the output channels by ``to_halves`` (groups 1 only).
        """
        if self.noise_map:
            image, noise = self.weight[:, :-1], self.weight[:, -1:]
            kernel = torch.cat([affine_kernel(image), noise], dim=1)
        else:
            kernel = affine_kernel(self.weight)
        if halves_out:
            kernel = to_halves(kernel, 0)
        if halves_in:
            kernel = to_halves(kernel, 1)
        # a convolution runs in the layout of its kernel where the image has one channel, which is no layout
        return kernel.contiguous(memory_format=_layout(self.weight))

    def convolve(self, padded: Tensor, kernel: Tensor) -> Tensor:
        """Convolve images (N, in_channels, H, W) that are padded already, to (N, out_channels, H', W')."""
        return F.conv2d(padded, kernel, None, self.stride, 0, self.dilation, self.groups)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H', W')."""
        return self.convolve(pad(x, self.pads, self.padding_mode), self.kernel())

    def extra_repr(self) -> str:
        return super().extra_repr() + (', noise_map=True' if self.noise_map else '')


class AffineUpsample2x(nn.Module):
    """(N, in_channels, H, W) to (N, out_channels, 2H, 2W): an affine 1x1 convolution, then pixel shuffle."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1x1 = AffineConv2d(in_channels, 4 * out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, 2H, 2W)."""
        return F.pixel_shuffle(self.conv1x1(x), 2)


class SortPool(nn.Module):
    """Sort the channel pairs (0,1), (2,3), ... of (N, C, H, W); takes the place of ReLU.

    Raises:
        ValueError: for an odd number of channels, when called.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        check_pairs(x.shape[1], 'SortPool', 'channels')
        return sort_pairs(x)


class AffineResidual(nn.Module):
    """alpha x + (1 - alpha) y, alpha a learned scalar of any value that starts at 0.5."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((1,), 0.5))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x and y (N, C, H, W) to the same shape."""
        alpha = self.alpha.to(x.dtype)
        return alpha * x + (1 - alpha) * y


def affine_chain(x: Tensor, convs: Sequence[AffineConv2d]) -> Tensor:
    """``nn.Sequential(convs[0], SortPool(), convs[1], ..., convs[-1])(x)`` up to rounding, in less time.

    Calls no submodule, so hooks on them do not run. ``convs`` have groups 1 and no noise map but in the first.
    """
    last = len(convs) - 1
    x = pad(x, convs[0].pads, convs[0].padding_mode)
    scratch = None
    for i, conv in enumerate(convs):
        x = conv.convolve(x, conv.kernel(halves_in=i > 0, halves_out=i < last))
        if i < last:
            x = scratch = sort_halves(x, convs[i + 1].pads, convs[i + 1].padding_mode, scratch)
    return x


# -- shared by the networks that use these layers ----------------------------------------------------------------------

NETWORK_MODES = ('ordinary', 'scale-equiv', 'norm-equiv')


def check_network_mode(mode: str, who: str) -> None:
    """Raise unless ``mode`` is one of ``NETWORK_MODES``."""
    if mode not in NETWORK_MODES:
        raise ValueError(f"{who} needs mode 'ordinary', 'scale-equiv' or 'norm-equiv'; got {mode!r}.")


def check_pairs(channels: int, who: str, what: str) -> None:
    """Raise unless ``channels`` is even."""
    if channels % 2:
        raise ValueError(f'{who} sorts pairs of channels and needs an even number of {what}; got {channels}.')


def append_noise_map(x: Tensor, sigma: float | Sequence[float] | Tensor | None, blind: bool, who: str) -> Tensor:
    """Give a non-blind network its input: (N, C, H, W) to (N, C + 1, H, W). Blind ones get x.

    ``sigma`` is the noise level on the scale of x, nominally [0, 1], one value or N; a ``ValueError`` if it is neither,
    missing, or not wanted.
    """
    if blind:
        if sigma is not None:
            raise ValueError(f'{who} with blind=True estimates the noise itself: call it without sigma; got {sigma}.')
        return x
    if sigma is None:
        raise ValueError(f'{who} with blind=False needs sigma, one noise level or one per image, on the [0, 1] scale.')
    levels = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).flatten()
    n, _, height, width = x.shape
    if levels.numel() not in (1, n):
        raise ValueError(f'{who} needs one sigma or one per image, here {n}; got {levels.numel()} values.')
    return torch.cat([x, levels.view(-1, 1, 1, 1).expand(n, 1, height, width)], dim=1)


# -- the fast route of sort_halves -------------------------------------------------------------------------------------


class _SortHalves(torch.autograd.Function):
    """``sort_halves`` with a backward pass that needs only which pairs changed places, one byte per pair."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, pads: Sequence[int], mode: str) -> Tensor:
        a, b = x.chunk(2, dim=1)
        ctx.save_for_backward(b < a)
        ctx.pads, ctx.mode = pads, mode
        return _sort_into_padded(x, pads, mode)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (left, right, top, bottom), padded = ctx.pads, grads[0]
        swapped = ctx.saved_tensors[0].to(padded.dtype)  # (N, C/2, H, W)
        height, width = swapped.shape[-2:]
        rows, columns = slice(top, top + height), slice(left, left + width)
        grad = _unsort(padded[:, :, rows, columns], swapped)
        # Lines that padding copied: their gradients return to where the copies came from.
        column_pairs = border_sources(width, left, right, ctx.mode)
        for new, old in column_pairs:
            grad[..., old - left] += _unsort(padded[:, :, rows, new], swapped[..., old - left])
        for new, old in border_sources(height, top, bottom, ctx.mode):
            line = padded[:, :, new, columns].clone()
            for new_column, old_column in column_pairs:
                line[..., old_column - left] += padded[:, :, new, new_column]
            grad[:, :, old - top] += _unsort(line, swapped[:, :, old - top])
        return grad, None, None


def _unsort(grad: Tensor, swapped: Tensor) -> Tensor:
    """Gradients (N, C, ...) at the sorted pairs to those at the pairs as they came; swapped is 0 or 1."""
    low, high = grad.chunk(2, dim=1)
    # lerp with a weight of 0 or 1 selects, exactly, and 5 times as fast as torch.where; cat, unlike writing into one
    # result, can be differentiated and batched
    return torch.cat([torch.lerp(low, high, swapped), torch.lerp(high, low, swapped)], dim=1)


def _sort_into_padded(x: Tensor, pads: Sequence[int], mode: str, scratch: Tensor | None = None) -> Tensor:
    """``sort_halves`` without autograd: every value is written once, where the next convolution reads it."""
    left, right, top, bottom = pads
    n, c, height, width = x.shape
    shape = (n, c, height + top + bottom, width + left + right)
    if scratch is not None and (scratch.shape, scratch.dtype, _layout(scratch)) == (shape, x.dtype, _layout(x)):
        padded = scratch
    else:
        padded = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_layout(x))
    low, high = padded[:, :, top : top + height, left : left + width].chunk(2, dim=1)
    a, b = x.chunk(2, dim=1)
    torch.minimum(a, b, out=low)
    torch.maximum(a, b, out=high)
    for new, old in border_sources(height, top, bottom, mode):
        padded[:, :, new] = padded[:, :, old]
    for new, old in border_sources(width, left, right, mode):
        padded[:, :, :, new] = padded[:, :, :, old]
    return padded


def _layout(x: Tensor) -> torch.memory_format:
    channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if channels_last else torch.contiguous_format


def is_traced() -> bool:
    """Whether something follows the operations one by one: torch.compile, export, jit, torch.func, forward-mode AD."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )
