"""The transformer blocks of BasicSR's SwinIR, faster: the same weights, outputs and gradients, in less memory.

BasicSR rolls the image, cuts it into windows and puts it together again in every block. Here pixels stay sorted by
window from block to block; one gather brings them from the windows of one block to the shifted windows of the next.
Everything inside a block is then a function of one window, so a few windows at a time pass through it, whose products
stay in the cache of the processor; in training, where the backward pass needs the products of most layers, only the
attention does, and its weights, by far the most numbers of all, are computed again instead of being kept.

``install`` gives BasicSR's class ``BasicLayer`` this forward pass, and so all networks of such layers have it;
``as_in_basicsr`` is a context in which they have BasicSR's. They have it also where operations are followed one by one,
with dropout, which draws its random numbers in the order of the pixels, and for blocks that are not BasicSR's own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from basicsr.archs.swinir_arch import BasicLayer, SwinTransformerBlock, WindowAttention, window_partition
from torch import Tensor, nn

from ne_basicsr.archs.ne_layers import is_traced

MASKED = -100.0  # SwinIR's value for pairs of pixels that are not neighbours
WINDOWS = 32  # at a time and thread: their attention, 3 MiB with 6 heads, stays in the cache
_basicsr_forward = BasicLayer.forward


def install() -> None:
    """Give BasicSR's layers of transformer blocks the forward pass of this file."""
    BasicLayer.forward = _forward


@contextmanager
def as_in_basicsr() -> Iterator[None]:
    """A context in which SwinIR computes as BasicSR does."""
    before, BasicLayer.forward = BasicLayer.forward, _basicsr_forward
    try:
        yield
    finally:
        BasicLayer.forward = before


def _forward(self: Any, x: Tensor, x_size: tuple[int, int]) -> Tensor:
    """``BasicLayer.forward``: pixels (N, H W, C) of images of ``x_size``, to the same shape."""
    if is_traced() or self.use_checkpoint or self.downsample is not None or not all(map(_is_usual, self.blocks)):
        return _basicsr_forward(self, x, x_size)
    size, before = tuple(x_size), None
    for block in self.blocks:
        window, shift = block.window_size, block.shift_size
        x = _Sorted.apply(x, *_route(size, before, (window, shift), x.device))
        places = _places(size, window, shift, x.device).repeat(len(x))
        x, before = _block(block, x, places), (window, shift)
    return _Sorted.apply(x, *_route(size, before, None, x.device))


def _is_usual(block: nn.Module) -> bool:
    attention: Any = getattr(block, 'attn', None)
    if type(block) is not SwinTransformerBlock or type(attention) is not WindowAttention:
        return False
    hooked = any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in (block, attention))
    drops = block.training and any(m.p > 0 for m in block.modules() if isinstance(m, nn.Dropout))
    return not (hooked or drops)


def _block(block: Any, x: Tensor, places: Tensor) -> Tensor:
    """A transformer block of pixels (N, H W, C) sorted by window; x may be changed if nothing is differentiated."""
    attn = block.attn
    area = block.window_size**2
    index = attn.relative_position_index.view(-1)
    bias = attn.relative_position_bias_table[index].view(area, area, -1).permute(2, 0, 1)  # (heads, n, n)
    mask = _mask(block.window_size, block.shift_size, x.device)

    def pass_through(x: Tensor, places: Tensor) -> Tensor:
        mixed = _Attention.apply(attn.qkv(block.norm1(x)), bias, mask, places, attn.scale)
        x = x + block.drop_path(attn.proj(mixed))
        return x + block.drop_path(block.mlp(block.norm2(x)))

    if torch.is_grad_enabled() or block.training:  # drop paths are drawn for whole images
        return pass_through(x, places)
    windows = x.view(-1, area, x.shape[-1])
    for part in _parts(places):
        windows[part] = pass_through(windows[part], places[part])
    return x


def _parts(places: Tensor) -> Iterator[slice]:
    step = WINDOWS * torch.get_num_threads() if places.device.type == 'cpu' else len(places)
    return (slice(i, i + step) for i in range(0, len(places), step))


# -- windows -----------------------------------------------------------------------------------------------------------


def _kept(function: Any) -> Any:
    # tensors made in inference mode could not be used in training afterwards
    return lru_cache(maxsize=64)(torch.inference_mode(False)(function))


@_kept
def _order(size: tuple[int, int], windows: tuple[int, int] | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """The pixels of an image, (H W), as ``windows`` of a size and a shift sort them, and the way back."""
    order = torch.arange(size[0] * size[1], device=device)
    if windows is not None:
        rolled = order.view(1, *size, 1).roll((-windows[1], -windows[1]), (1, 2))
        order = window_partition(rolled, windows[0]).flatten()
    return order, order.argsort()


@_kept
def _route(size: Any, start: Any, end: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """From pixels as the windows ``start`` sort them to the windows ``end``, and the way back; None: the image."""
    (from_order, from_back), (to_order, to_back) = (_order(size, each, device) for each in (start, end))
    return from_back[to_order], to_back[from_order]


def places_of(size: tuple[int, int], window: int, shift: int, device: torch.device | None = None) -> Tensor:
    """For each window: 0, plus 1 if it holds pixels of the left and the right border, 2 if of the top and bottom."""
    rows, columns = ((torch.arange(side // window, device=device) == side // window - 1).long() for side in size)
    return ((2 * rows[:, None] + columns) * (shift > 0)).flatten()


def masks(window: int, shift: int, device: torch.device | None = None) -> Tensor:
    """What is added to the attention in a window of each place, (4, n, n): ``MASKED`` across a border."""
    rolled = (torch.arange(window, device=device) >= window - shift).expand(window, window)
    left, top = (side.flatten()[:, None] != side.flatten() for side in (rolled, rolled.T))
    return torch.stack([left & False, left, top, left | top]) * MASKED


_places, _mask = _kept(places_of), _kept(masks)


class _Sorted(torch.autograd.Function):
    """Pixels (N, H W, C) in another order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, back: Tensor) -> Tensor:
        ctx.order, ctx.back = order, back
        return x.index_select(1, order)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _Sorted.apply(grads[0], ctx.back, ctx.order), None, None


# -- attention ---------------------------------------------------------------------------------------------------------


class _Attention(torch.autograd.Function):
    """softmax(scale q^T k + bias + mask) v in each window, from qkv (..., 3 C) to (..., C).

    Matrices are (channels, pixels): a product of few rows and many columns is several times as fast as one of few
    columns, as of heads of 10 channels.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, bias: Tensor, mask: Tensor, places: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(qkv, bias, mask, places)
        ctx.scale = scale
        heads, area = bias.shape[:2]
        out = qkv.new_empty(*qkv.shape[:-1], qkv.shape[-1] // 3)
        windows, rows = (t.view(len(places), area, -1) for t in (out, qkv))
        device = 'cpu' if qkv.is_meta else qkv.device.type  # options are tried on meta, which has no autocast
        with torch.autocast(device, enabled=False):
            for part, weights in _logits(bias, mask, places):
                q, k, v = _split(rows[part], 3, heads)
                weights = _weights(q, k, weights, scale).to(v.dtype)
                _join(windows[part], v @ weights.mT)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        qkv, bias, mask, places = ctx.saved_tensors
        heads, area = bias.shape[:2]
        if torch.is_grad_enabled():  # to be differentiated again
            out = _step_by_step(qkv, bias, mask, places, ctx.scale)
            return *torch.autograd.grad(out, (qkv, bias), grads[0], create_graph=True), None, None, None
        to_qkv, to_bias = torch.empty_like(qkv), torch.zeros_like(bias)
        rows, results, given = (t.reshape(len(places), area, -1) for t in (qkv, to_qkv, grads[0]))
        for part, weights in _logits(bias, mask, places):
            q, k, v = _split(rows[part], 3, heads)
            (grad,) = _split(given[part], 1, heads)
            weights = _weights(q, k, weights, ctx.scale)
            to_weights = (grad.mT @ v).to(weights.dtype)
            to_logits = torch._softmax_backward_data(to_weights, weights, -1, weights.dtype)
            to_bias += to_logits.view(-1, *bias.shape).sum(0)
            to_logits = to_logits.to(q.dtype)
            to_q, to_k = (k @ to_logits.mT).mul_(ctx.scale), (q @ to_logits).mul_(ctx.scale)
            _join(results[part], to_q, to_k, grad @ weights.to(grad.dtype))
        return to_qkv, to_bias, None, None, None


def _split(rows: Tensor, number: int, heads: int) -> Tensor:
    """(windows, n, number C) to ``number`` times (windows heads, C / heads, n)."""
    windows, area = rows.shape[:2]
    return rows.view(windows, area, number, -1).permute(2, 0, 3, 1).reshape(number, windows * heads, -1, area)


def _join(rows: Tensor, *parts: Tensor) -> None:
    """Write what ``_split`` would make ``parts`` of."""
    windows, area = rows.shape[:2]
    for to, part in zip(rows.view(windows, area, len(parts), -1).unbind(2), parts, strict=True):
        to.copy_(part.view(windows, -1, area).mT)


def _logits(bias: Tensor, mask: Tensor, places: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Some windows at a time: which, and bias + mask in them, (windows heads, n, n), in memory that is used again."""
    biases = (bias + mask[:, None].to(bias.dtype)).flatten(1)
    memory = None
    for part in _parts(places):
        here = places[part]
        memory = biases.new_empty(len(here), biases.shape[1]) if memory is None else memory[: len(here)]
        yield part, torch.index_select(biases, 0, here, out=memory).view(-1, *bias.shape[1:])


def _weights(q: Tensor, k: Tensor, logits: Tensor, scale: float) -> Tensor:
    """softmax(scale q^T k + logits), (windows heads, n, n), in the place of ``logits``."""
    if q.dtype == logits.dtype:
        torch.baddbmm(logits, q.mT, k, alpha=scale, out=logits)  # counted as FLOPs, as baddbmm_ is not
    else:  # under autocast, logits are of the type of the weights
        logits.add_(q.mT @ k, alpha=scale)
    return torch.softmax(logits, -1, out=logits)


def _step_by_step(qkv: Tensor, bias: Tensor, mask: Tensor, places: Tensor, scale: float) -> Tensor:
    """``_Attention`` in operations that can be differentiated twice."""
    heads, area = bias.shape[:2]
    q, k, v = qkv.view(len(places), area, 3, heads, -1).permute(2, 0, 3, 1, 4)
    logits = scale * q @ k.mT + bias + mask[places][:, None].to(bias.dtype)
    return (logits.softmax(-1).to(v.dtype) @ v).transpose(1, 2).reshape(*qkv.shape[:-1], -1)
