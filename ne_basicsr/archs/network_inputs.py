"""What a network takes: how many channels, and whether it has to be told the noise level."""

from torch import nn

GRAY_OR_COLOUR = (1, 3)
# what may go wrong inside a network that was made for other types, sizes or devices
REFUSALS = (RuntimeError, ValueError, TypeError, AssertionError, IndexError, KeyError, ArithmeticError)


def is_non_blind(network: nn.Module) -> bool:
    """Whether the network, or one that it is wrapped around, says ``blind = False``: it has to be told the noise."""
    return any(getattr(module, 'blind', True) is False for module in network.modules())
