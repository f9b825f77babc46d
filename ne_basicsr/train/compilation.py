"""Compiling a network in place."""

import torch
from torch import nn

from ne_basicsr.utils.errors import InputError


def compile_in_place(network: nn.Module, device: torch.device) -> None:
    """Let ``network`` run compiled from its first call on; its class and the keys of its state dict stay as they are.

    Raises:
        InputError: where torch.compile does not work on this machine, which a trial of one addition tells.
    """
    try:
        torch.compile(_increment)(torch.zeros(8, device=device))
    except Exception as error:  # of the C++ compiler, of Triton, of torch: each has its own
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = next((line for line in lines if 'Error' in line), lines[0])
        raise InputError(
            f'train:compile: torch.compile does not work here ({reason}); set compile: false, or install what it needs'
            ' (a C++ compiler on CPUs, Triton on GPUs)'
        ) from error
    network.compile()


def _increment(x: torch.Tensor) -> torch.Tensor:
    return x + 1
