"""How weights fit a network, and why they do not."""

import contextlib
import copy
import inspect
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from ne_basicsr.utils.errors import InputError
from ne_basicsr.weights import formats
from ne_basicsr.weights.formats import Layout, first_few
from ne_basicsr.weights.formats.stacks import OWN_EPS, change_eps

StateDict = dict[str, Tensor]
# buffers that a network computes from its options: it keeps its own
COMPUTED = ('attn_mask', 'relative_position_index')
DNCNNS = ('DnCNN', 'DnCNNWNE')
WRAPPERS = ('WNE', 'WSE', 'InputNorm', 'ZeroShot')  # they add no keys
# what a file's own description may ask for: sizes without weights, as img_size, further values, networks inside others
LARGEST_SIZE, SPARE_VALUES, DEEPEST = 512, 2**14, 4


def recognise(weights: StateDict, container: str | None = None) -> Layout | None:
    """As ``formats.recognise``, and None for a network of the user's own that looks like a known layout."""
    with contextlib.suppress(InputError):
        return formats.recognise(weights, container)
    return None


def fit(network: nn.Module, weights: StateDict) -> StateDict:
    """``weights`` for ``network``: below ``backbone.`` if it is wrapped and they are not, with its computed buffers."""
    if is_bare_backbone(network, weights):
        weights = {f'backbone.{name}': value for name, value in weights.items()}
    computed = {key: value for key, value in network.state_dict().items() if key.endswith(COMPUTED)}
    kept = {key: value for key, value in weights.items() if key in computed or not key.endswith(COMPUTED)}
    return kept | computed


def match_eps(network: nn.Module, layout: Layout, weights: StateDict) -> StateDict:
    """DnCNN's ``weights``, converted from the ``bn_eps`` of their ``layout`` to the network's; same outputs."""
    options = layout.options.get('backbone', layout.options)
    held = options.get('bn_eps', OWN_EPS)
    own: Any = getattr(getattr(network, 'backbone', network), 'bn_eps', held)
    return weights if own == held or options['type'] not in DNCNNS else change_eps(weights, held, own)


def with_default_eps(layout: Layout) -> Layout:
    """``layout`` with DnCNN's default ``bn_eps``, KAIR's, which programs that read keys alone assume."""
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
    """One line on how ``weights`` differ in keys and shapes, or are not finite, with the likely cause; None if not."""
    own = network.state_dict()
    missing, unexpected = ([k for k in a if k not in b] for a, b in ((own, weights), (weights, own)))
    both = [k for k in own if k in weights]
    resized = [k for k in both if own[k].shape != weights[k].shape]
    if not (missing or unexpected or resized):
        integers = [k for k in both if own[k].is_floating_point() and not weights[k].is_floating_point()]
        about = ', '.join(f'{k} is {str(weights[k].dtype).removeprefix("torch.")}' for k in integers[:1])
        if integers:
            return f'{len(integers)} of the weights are no real numbers ({about}): quantized without a scale?'
        # masks may be infinite
        broken = [k for k, v in weights.items() if v.is_floating_point() and 'mask' not in k and not v.isfinite().all()]
        problem = f'{len(broken)} of its {len(weights)} tensors hold NaN or infinity ({first_few(broken)})'
        return f'{problem}: the training diverged' if broken else None
    parts = [f'the weights do not fit {type(network).__name__}', _explain_options(network, weights)]
    for what, keys in (('missing', missing), ('unexpected', unexpected)):
        parts.append(f'{len(keys)} {what} ({first_few(keys)})' if keys else None)
    if resized:
        key = resized[0]
        shapes = f'{key} is {tuple(weights[key].shape)} in the file, {tuple(own[key].shape)} in the network'
        parts.append(f'{len(resized)} of another shape ({shapes})')
    wrapped, asked = ([k.startswith('backbone.') for k in each] for each in (weights, own))
    if unexpected and all(wrapped) and not any(asked):
        parts.append('they belong to a wrapped network: use its type, such as DnCNNWNE')
    return '; '.join(part for part in parts if part)


def explain_behaviour(network: nn.Module, layout: Layout) -> str | None:
    """One line on options without keys, such as ``prediction`` or FDnCNN's ``mode``, that differ; None if none do."""
    from basicsr.utils.registry import ARCH_REGISTRY

    options = dict(layout.options)
    parts = []
    if layout.is_complete and options['type'] in ARCH_REGISTRY:
        arch = ARCH_REGISTRY.get(options['type'])
        asked, held = wrapper_of(type(network)), wrapper_of(arch)
        if held is not None and held != asked:
            parts.append(f'{held} in the file, {asked or "no wrapper"} here')
        parameters = inspect.signature(arch).parameters.values()
        options = {p.name: p.default for p in parameters if p.default is not p.empty} | options
        if {'statistics', 'target'} <= options.keys() and held is not None:
            wrapper = ARCH_REGISTRY.get(held)
            with contextlib.suppress(ValueError, TypeError):  # of another version
                values = wrapper(nn.Identity(), statistics=options['statistics'], target=options['target'])
                options |= {'statistics': values.statistics, 'target': values.target}
    modules = [(network, options)]
    if isinstance(backbone := getattr(network, 'backbone', None), nn.Module):
        inner = options.get('backbone', options)
        modules.append((backbone, inner if isinstance(inner, dict) else {}))
    for module, arguments in modules:
        for name, value in arguments.items():
            own: Any = getattr(module, name, None)
            if all(isinstance(each, (str, bool, int, float, tuple)) for each in (own, value)) and own != value:
                parts.append(f'{name}={value} in the file, {own} here')
    return '; '.join(parts) or None


def check_type(name: str) -> None:
    """An ``InputError`` unless a network from images to images has this name: others may fetch files when built."""
    from ne_basicsr.archs.wne_arch import is_image_to_image  # it registers itself while BasicSR is imported

    try:
        is_allowed = is_image_to_image(name)
    except KeyError as error:
        raise InputError(f'no network {name}: {error.args[0]}') from error
    if not is_allowed:
        raise InputError(f'{name} is no network from images to images; DnCNN and SwinIR, for instance, are')


def check_description(options: Mapping[str, Any], weights: StateDict) -> None:
    """Raise for a network that a file's own description may not ask for.

    Whole numbers are at most ``LARGEST_SIZE``, or a third of the square root of the number of values in the weights.
    """
    values = sum(value.numel() for value in weights.values())
    limit = max(LARGEST_SIZE, math.isqrt(values) // 3)
    for _ in range(DEEPEST):
        check_type(str(options.get('type'))[:100])
        for key, value in options.items():
            listed = value if isinstance(value, (list, tuple)) else (value,)
            numbers = [number for number in listed if isinstance(number, int)]
            if key != 'img_range' and (max(numbers, default=0) > limit or sum(numbers) > 2 * limit):
                raise InputError(f'the file says {key}: {value}, too much for its {values:,} values')
        if 'backbone' not in options:
            return
        options = options['backbone']
        if not isinstance(options, Mapping):
            raise InputError(f'the file gives a backbone by {options!r}; it takes options with a type')
    raise InputError(f'the file says that it holds more than {DEEPEST} networks, each inside another')


@contextlib.contextmanager
def no_larger_than(weights: StateDict) -> Iterator[None]:
    """Where a network is built from a file's description: stop before it has more parameters than the file.

    A parameter is compared when it is registered, before anything writes to its memory.
    """
    # three of each: a module may be built, taken apart and built again, as weight normalization does
    left = Counter({shape: 3 * count for shape, count in Counter(value.shape for value in weights.values()).items()})
    spare = SPARE_VALUES

    def compare(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal spare
        if parameter is None:
            return
        left[parameter.shape] -= 1
        spare -= parameter.numel() if left[parameter.shape] < 0 else 0
        if spare < 0:
            excess = f'a {name} of shape {tuple(parameter.shape)} in {type(module).__name__} that they do not have'
            raise InputError(f'the network described is larger than the weights of the file: it has {excess}')

    handle = register_module_parameter_registration_hook(compare)
    try:
        yield
    finally:
        handle.remove()


def _explain_options(network: nn.Module, weights: StateDict) -> str | None:
    """How the network that the weights belong to differs from ``network``, as far as keys and shapes tell."""
    layout, own = recognise(weights), recognise(network.state_dict())
    if layout is None:
        return None
    held, asked = (each.options.get('backbone', each.options) if each else {} for each in (layout, own))
    if held['type'] != asked.get('type'):
        return f'the file holds {formats.describe(layout.options)}'
    bare = getattr(network, 'backbone', network)
    asked = asked | {key: getattr(bare, key) for key in ('mode', 'blind') if hasattr(bare, key)}  # not by its weights
    differing = {key: value for key, value in held.items() if key == 'type' or value != asked.get(key)}
    if len(differing) == 1:
        return None
    wanted = formats.describe({key: asked.get(key) for key in differing})
    return f'the file holds {formats.describe(differing)}, the network asked for is {wanted}'


def wrapper_of(arch: type) -> str | None:
    """The wrapper that a network's class is, by name; None for plain networks."""
    return next((base.__name__ for base in arch.__mro__ if base.__name__ in WRAPPERS), None)
