"""How weights fit a network, and why they do not."""

import contextlib
import copy
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from ne_basicsr import layouts
from ne_basicsr.errors import InputError
from ne_basicsr.layouts import Layout, some
from ne_basicsr.layouts.stacks import OWN_EPS, change_eps

StateDict = dict[str, Tensor]
# buffers that a network computes from its options: its own are as good, and fit
COMPUTED = ('attn_mask', 'relative_position_index')
DNCNNS = ('DnCNN', 'DnCNNWNE')
WRAPPERS = ('WNE', 'WSE', 'InputNorm', 'ZeroShot')  # these have no keys of their own


def recognise(weights: StateDict, container: str | None = None) -> Layout | None:
    """As ``layouts.recognise``, and None for what looks like a known layout but is not quite one."""
    try:
        return layouts.recognise(weights, container)
    except InputError:  # a network of the user's own may look like a known one
        return None


def fit(network: nn.Module, weights: StateDict) -> StateDict:
    """``weights`` for ``network``: below ``backbone.`` if it is wrapped and they are not, with its computed buffers."""
    if is_bare_backbone(network, weights):
        weights = {f'backbone.{name}': value for name, value in weights.items()}
    computed = {key: value for key, value in network.state_dict().items() if key.endswith(COMPUTED)}
    kept = {key: value for key, value in weights.items() if key in computed or not key.endswith(COMPUTED)}
    return kept | computed


def match_eps(network: nn.Module, layout: Layout, weights: StateDict) -> StateDict:
    """DnCNN's ``weights`` that do with the network's ``bn_eps`` what they did with that of their ``layout``."""
    options = layout.options.get('backbone', layout.options)
    held = options.get('bn_eps', OWN_EPS)
    own: Any = getattr(getattr(network, 'backbone', network), 'bn_eps', held)
    return weights if own == held or options['type'] not in DNCNNS else change_eps(weights, held, own)


def with_default_eps(layout: Layout) -> Layout:
    """DnCNN as programs that read keys alone take it: with KAIR's BatchNorm eps, which no key tells."""
    options = copy.deepcopy(layout.options)
    inner = options.get('backbone', options)
    if inner['type'] not in DNCNNS or 'bn_eps' not in inner:
        return layout
    return layout._replace(options=options, weights=change_eps(layout.weights, inner.pop('bn_eps'), OWN_EPS))


def is_bare_backbone(network: nn.Module, weights: StateDict) -> bool:
    """Whether ``network`` is wrapped and ``weights`` are not."""
    own = network.state_dict()
    return bool(own) and all(key.startswith('backbone.') for key in own) and not any(key in own for key in weights)


def explain_misfit(network: nn.Module, weights: StateDict) -> str | None:
    """One line on how ``weights`` differ from the network's in keys and shapes, with the likely cause; None if not."""
    own = network.state_dict()
    missing, unexpected = ([k for k in a if k not in b] for a, b in ((own, weights), (weights, own)))
    resized = [k for k in own if k in weights and own[k].shape != weights[k].shape]
    if not (missing or unexpected or resized):
        return None
    parts = [f'the weights do not fit {type(network).__name__}']
    if difference := _explain_options(network, weights):
        parts.append(difference)
    for what, keys in (('missing', missing), ('unexpected', unexpected)):
        if keys:
            parts.append(f'{len(keys)} {what} ({some(keys)})')
    if resized:
        key = resized[0]
        shapes = f'{key} is {tuple(weights[key].shape)} in the file, {tuple(own[key].shape)} in the network'
        parts.append(f'{len(resized)} of another shape ({shapes})')
    if (
        unexpected
        and all(k.startswith('backbone.') for k in weights)
        and not any(k.startswith('backbone.') for k in own)
    ):
        parts.append('they belong to a wrapped network: use its type, such as DnCNNWNE')
    return '; '.join(parts)


def explain_values(weights: StateDict) -> str | None:
    """One line where weights are NaN or infinite; None if not. Masks may be infinite."""
    broken = [k for k, v in weights.items() if v.is_floating_point() and 'mask' not in k and not v.isfinite().all()]
    if not broken:
        return None
    return f'{len(broken)} of its {len(weights)} tensors hold NaN or infinity ({some(broken)}): the training diverged'


def explain_behaviour(network: nn.Module, layout: Layout) -> str | None:
    """One line on options without keys, such as ``prediction`` or FDnCNN's ``mode``, that differ; None if none do."""
    from basicsr.utils.registry import ARCH_REGISTRY

    options = dict(layout.options)
    parts = []
    if layout.is_complete and options['type'] in ARCH_REGISTRY:
        arch = ARCH_REGISTRY.get(options['type'])
        asked, held = _wrapper_of(type(network)), _wrapper_of(arch)
        if held is not None and held != asked:
            parts.append(f'{held} in the file, {asked or "no wrapper"} here')
        parameters = inspect.signature(arch).parameters.values()
        options = {p.name: p.default for p in parameters if p.default is not p.empty} | options
        if {'statistics', 'target'} <= options.keys() and held is not None:
            wrapper = ARCH_REGISTRY.get(held)
            with contextlib.suppress(ValueError):  # of another version
                values = wrapper(nn.Identity(), statistics=options['statistics'], target=options['target'])
                options |= {'statistics': values.statistics, 'target': values.target}
    for module, arguments in _with_options(network, options):
        for name, value in arguments.items():
            own: Any = getattr(module, name, None)
            if own != value and all(isinstance(each, (str, bool, int, float, tuple)) for each in (own, value)):
                parts.append(f'{name}={value} in the file, {own} here')
    return '; '.join(parts) or None


def _explain_options(network: nn.Module, weights: StateDict) -> str | None:
    """How the network that the weights belong to differs from ``network``, as far as keys and shapes tell."""
    layout, own = recognise(weights), recognise(network.state_dict())
    if layout is None:
        return None
    held, asked = (each.options.get('backbone', each.options) if each else {} for each in (layout, own))
    if held['type'] != asked.get('type'):
        return f'the file holds {layouts.describe(layout.options)}'
    bare = getattr(network, 'backbone', network)
    asked = asked | {
        key: getattr(bare, key) for key in ('mode', 'blind') if hasattr(bare, key)
    }  # not by random weights
    differing = {key: value for key, value in held.items() if key == 'type' or value != asked.get(key)}
    if len(differing) == 1:
        return None
    wanted = layouts.describe({key: asked.get(key) for key in differing})
    return f'the file holds {layouts.describe(differing)}, the network asked for is {wanted}'


def _with_options(network: nn.Module, options: Mapping[str, Any]) -> Iterator[tuple[nn.Module, Mapping[str, Any]]]:
    yield network, options
    if isinstance(backbone := getattr(network, 'backbone', None), nn.Module):
        yield backbone, options.get('backbone', options)


def _wrapper_of(arch: type) -> str | None:
    return next((base.__name__ for base in arch.__mro__ if base.__name__ in WRAPPERS), None)
