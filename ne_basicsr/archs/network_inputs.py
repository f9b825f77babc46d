"""What a network takes: how many channels, and whether it has to be told the noise level."""

from collections.abc import Sequence

import torch
from torch import nn

from ne_basicsr.utils.errors import InputError, first_line

GRAY_OR_COLOUR = (1, 3)
SIZE = (64, 64)  # every backbone here takes that many pixels
# what may go wrong inside a network that was made for other types, sizes or devices
REFUSALS = (RuntimeError, ValueError, TypeError, AssertionError, IndexError, KeyError, ArithmeticError)


def is_non_blind(network: nn.Module) -> bool:
    """Whether the network, or one that it is wrapped around, says ``blind = False``: it has to be told the noise."""
    return any(getattr(module, 'blind', True) is False for module in network.modules())


@torch.no_grad()
def channels_of(
    network: nn.Module, needs_sigma: bool, name: str, only: Sequence[int] = (), size: tuple[int, int] = SIZE
) -> int:
    """How many channels the network takes: those of its first convolution, 1 or 3, the first with which it runs.

    Args:
        name: of the network, for the error.
        only: the numbers that can be used, such as ``GRAY_OR_COLOUR``; any where empty.
        size: height and width to try.

    Raises:
        InputError: where it runs with none of them.
    """
    first = [module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d)][:1]
    candidates = list(only or dict.fromkeys([*first, *GRAY_OR_COLOUR]))
    problem = ''
    for channels in candidates:
        image = torch.rand(1, channels, *size, generator=torch.Generator().manual_seed(0))
        image = image.to(next(network.parameters(), image))
        try:
            network(image, sigma=0.1) if needs_sigma else network(image)
        except REFUSALS as error:
            problem = problem or first_line(error)
        else:
            return channels
    raise InputError(
        f'{name}: does not run on images of {", ".join(map(str, candidates))} channels and {size[0]}x{size[1]} pixels:'
        f' {problem}'
    )
