"""SwinIR for images of any size in one graph.

BasicSR's blocks compare the image size with the one they were built for, and count windows in floating point; tracing
would fix both. During the export, the functions of this file replace them, with the same values.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import MethodType
from unittest.mock import patch

import torch
from basicsr.archs import swinir_arch
from torch import Tensor, nn

from ne_basicsr.archs.swinir_blocks import masks, places_of


@contextmanager
def any_size(network: nn.Module) -> Iterator[None]:
    """A context in which the SwinIR blocks of ``network`` can be exported with dynamic height and width."""
    with ExitStack() as stack:
        for block in network.modules():
            if isinstance(block, swinir_arch.SwinTransformerBlock):
                # differs from every size, so each image gets its own mask and the graph has no comparison
                stack.enter_context(patch.object(block, 'input_resolution', None))
                stack.enter_context(patch.object(block, 'calculate_mask', MethodType(attention_mask, block)))
            if isinstance(block, swinir_arch.SwinIR):
                stack.enter_context(patch.object(block, 'mean', Mean(block.mean)))
        stack.enter_context(patch.object(swinir_arch, 'window_reverse', window_reverse))
        yield


class Mean:
    """SwinIR's mean of the training images. SwinIR assigns it in each call, which a graph cannot do."""

    def __init__(self, value: Tensor) -> None:
        self.value = value

    def type_as(self, x: Tensor) -> 'Mean':
        return self

    def __rsub__(self, x: Tensor) -> Tensor:
        return x - self.value

    def __radd__(self, x: Tensor) -> Tensor:
        return x + self.value


def attention_mask(block: nn.Module, size: tuple[int, int]) -> Tensor:
    """``SwinTransformerBlock.calculate_mask``, (windows, window^2, window^2); of one window if nothing is rolled."""
    window: int = block.window_size  # type: ignore[assignment]
    shift: int = block.shift_size  # type: ignore[assignment]
    if shift == 0:
        return torch.zeros(1, window**2, window**2)
    return masks(window, shift)[places_of(size, window, shift)]


def window_reverse(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """(N windows, window, window, C) to (N, H, W, C); ``view`` infers the number of images."""
    x = windows.view(-1, height // window, width // window, window, window, windows.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, windows.shape[-1])
