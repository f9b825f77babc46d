"""One step of an optimizer: the gradients of the parts of a batch are summed, unscaled, clipped and applied."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

PRECISIONS = {'bf16': torch.bfloat16, 'fp16': torch.float16}


class GradientStep:
    """Backward passes and the step that follows.

    Args:
        optimizer: its gradients are None before the first backward pass, and after each ``apply``.
        parameters: whose gradients are clipped.
        device: where the network runs.
        amp: ``bf16`` or ``fp16``, for matrix products and convolutions within ``autocast``; None: float32. Weights,
            gradients and losses stay float32. With ``fp16`` the loss is scaled, and a step whose gradients overflow is
            skipped (``torch.amp.GradScaler``).
        clip_norm: the largest norm of all gradients together; None: no limit.
        parts: backward passes per step. Each part is weighted by 1 / parts, so with losses that are means the step
            equals that of the whole batch, unless the network has statistics over the batch.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        parameters: Iterable[nn.Parameter],
        device: torch.device,
        *,
        amp: str | None = None,
        clip_norm: float | None = None,
        parts: int = 1,
    ) -> None:
        self.optimizer = optimizer
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.device = device
        self.amp = amp
        self.clip_norm = clip_norm
        self.parts = parts
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp == 'fp16')

    def autocast(self) -> AbstractContextManager[Any]:
        """The context for forward passes, but not for losses."""
        return torch.autocast(self.device.type, dtype=PRECISIONS.get(self.amp or ''), enabled=self.amp is not None)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of one part."""
        self.scaler.scale(loss / self.parts if self.parts > 1 else loss).backward()

    def apply(self) -> Tensor | None:
        """Step and drop the gradients; returns their norm before clipping, if they are clipped."""
        norm = None
        if self.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            norm = nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return norm
