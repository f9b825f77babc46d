"""Networks around networks: what the wrappers share."""

import inspect
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, replace
from typing import Any

from torch import nn

from ne_basicsr.archs.network_inputs import Facts, facts_of, is_non_blind


class BackboneHolder(nn.Module):
    """A network around another one, the backbone, whose weights have the prefix ``backbone.``; bare weights load, too.

    Args:
        backbone: a module, or the options of a registered network with its ``type``.
        size_multiple: height and width that the backbone needs are multiples of it; the default is that of its class.
    """

    def __init__(self, backbone: nn.Module | Mapping[str, Any], size_multiple: int | None = None) -> None:
        super().__init__()
        if not isinstance(backbone, nn.Module | Mapping):
            got = backbone.__name__ if hasattr(backbone, '__name__') else repr(backbone)
            raise ValueError(f'{type(self).__name__} goes around a torch module, or options with a type; got {got}.')
        self.backbone = backbone if isinstance(backbone, nn.Module) else build_arch(backbone)
        own_multiple: Any = getattr(self.backbone, 'size_multiple', 1)
        self.pad_to = size_multiple or int(own_multiple)
        self.register_load_state_dict_pre_hook(_accept_plain_backbone)

    @property
    def facts(self) -> Facts:
        """Those of the backbone, for images of any size."""
        sigma = getattr(self, 'sigma', None)  # ZeroShot's
        level = None if sigma is None else round(255 * sigma, 6)
        return replace(facts_of(self.backbone), size_multiple=1, needs_sigma=is_non_blind(self), sigma255=level)

    @classmethod
    def facts_from(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """See ``network_inputs``."""
        held, level = facts_of(backbone_of(arguments)), arguments.get('sigma255')
        needs_sigma = held.needs_sigma and not arguments.get('estimate')
        own = {'size_multiple': 1, 'needs_sigma': needs_sigma, 'sigma255': None if level == 'auto' else level}
        return asdict(held) | own


def build_arch(options: Mapping[str, Any]) -> nn.Module:
    """Build a network from ``options``, a registered ``type`` and its arguments, which are not changed.

    A ``ValueError`` without a type, a ``KeyError`` for one that is not registered.
    """
    # not above: networks import this module while BasicSR is being imported
    from basicsr.utils.registry import ARCH_REGISTRY

    if 'type' not in options:
        raise ValueError(f'a backbone needs a type, the name of a registered network; got {dict(options)}.')
    arguments = {key: deepcopy(value) for key, value in options.items() if key != 'type'}
    network: Any = ARCH_REGISTRY.get(options['type'])(**arguments)
    inner = network.backbone if isinstance(network, BackboneHolder) else network
    if facts_of(inner).in_channels is None:
        inner.facts = facts_of(backbone_of(options) or options)
    return network


def backbone_of(options: Mapping[str, Any]) -> Any:
    """The backbone of a wrapped network, ``WNE`` or ``DnCNNWNE``, mostly its options; None for other networks."""
    from basicsr.utils.registry import ARCH_REGISTRY

    arch = ARCH_REGISTRY.get(options['type'])
    if not (isinstance(arch, type) and issubclass(arch, BackboneHolder)):
        return None
    if 'backbone' in options:
        return options['backbone']
    own = inspect.signature(arch.__mro__[1]).parameters  # those of WNE, whose subclass DnCNNWNE is
    kept = {key: value for key, value in options.items() if key not in own}
    return kept | {'type': options['type'].removesuffix('WNE')}


def _accept_plain_backbone(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let weights of the bare backbone load too: they lack the prefix ``backbone.``."""
    given = [key for key in state_dict if key.startswith(prefix)]
    expected = {prefix + key for key in module.state_dict()}
    if given and not any(key in expected for key in given):
        for key in given:
            state_dict[f'{prefix}backbone.{key[len(prefix) :]}'] = state_dict.pop(key)
