"""Facts about a network: channels, scale, size multiple, whether it needs sigma. From its options, or from itself.

They follow from the options of a network without building it. Arguments with usual names are facts: ``num_in_ch``,
``in_chans``, ``upscale``, ``blind``, ... Others are attributes of the class: ``size_multiple``, an integer, and
``blind = False``, for a network that always needs sigma. Where a fact follows from several arguments, the class has a
static or class method ``facts_from(arguments)``, which returns a mapping of fields of ``Facts``; a built network may
have them as its attribute ``facts``.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

# what networks call these arguments: this package and BasicSR, SwinIR, Restormer, RIDNet
INPUT_CHANNELS = ('num_in_ch', 'in_chans', 'inp_channels', 'in_channels')
OUTPUT_CHANNELS = ('num_out_ch', 'out_channels')
SCALE = ('upscale', 'scale')
GRAY_OR_COLOUR = (1, 3)
# what a network may raise when it is called with other types, sizes or devices than it was made for
REFUSALS = (RuntimeError, ValueError, TypeError, AssertionError, IndexError, KeyError, ArithmeticError)


@dataclass(frozen=True)
class Facts:
    """What a network takes and returns: (N, in_channels, H, W) to (N, out_channels, scale H, scale W).

    Args:
        in_channels, out_channels: without a noise map; None if unknown.
        scale: 1 for a denoiser.
        size_multiple: what height and width have to be multiples of.
        needs_sigma: whether ``forward`` needs ``sigma``, the noise level on the scale of the images.
        sigma255: the one noise level that ``ZeroShot``'s backbone was trained at, in 8-bit units. What other networks
            were trained on is in the checkpoint.
    """

    in_channels: int | None = None
    out_channels: int | None = None
    scale: int = 1
    size_multiple: int = 1
    needs_sigma: bool = False
    sigma255: float | None = None


def facts_of(subject: nn.Module | Mapping[str, Any]) -> Facts:
    """The facts about a network, from its options (a registered ``type`` and arguments) or from a built network.

    Wrappers have ``facts``, and networks that ``build_arch`` made. Of other modules the channels are not known.

    Raises:
        KeyError: for options whose type is not registered.
    """
    if isinstance(subject, Mapping):
        return _facts_from_options(subject)
    if isinstance(held := getattr(subject, 'facts', None), Facts):
        return held
    multiple: Any = getattr(subject, 'size_multiple', 1)
    return Facts(size_multiple=int(multiple), needs_sigma=is_non_blind(subject))


def _facts_from_options(options: Mapping[str, Any]) -> Facts:
    from basicsr.utils.registry import ARCH_REGISTRY  # this module may be imported while BasicSR is

    arch = ARCH_REGISTRY.get(options['type'])
    parameters = inspect.signature(arch).parameters.values()
    arguments = {p.name: p.default for p in parameters if p.default is not p.empty} | dict(options)

    def named(names: Sequence[str], default: Any) -> Any:
        return next((arguments[name] for name in names if name in arguments), default)

    channels = named(INPUT_CHANNELS, None)
    facts = {
        'in_channels': channels,
        'out_channels': named(OUTPUT_CHANNELS, channels),
        'scale': named(SCALE, 1),
        'size_multiple': getattr(arch, 'size_multiple', 1),
        'needs_sigma': not arguments.get('blind', getattr(arch, 'blind', True)),
    }
    if hasattr(arch, 'facts_from'):
        facts |= arch.facts_from(arguments)
    return Facts(**facts)


def is_non_blind(network: nn.Module) -> bool:
    """Whether the network needs ``sigma``: it, or a module inside it, has the attribute ``blind = False``.

    A wrapper that estimates the level needs none.
    """
    if any(getattr(module, 'estimates_noise', False) for module in network.modules()):
        return False
    return any(getattr(module, 'blind', True) is False for module in network.modules())
