"""The option reference: every section as a JSON Schema object, from ``schema.py``, ``data_schema.py`` and registries.

A section is ``{'type': 'object', 'description', 'properties': {key: {..., 'description', 'default'}}, 'required',
'additionalProperties'}``. The schema for editors, the printed reference and the comments in a printed option file all
come from here.
"""

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from functools import cache
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY
from pydantic import BaseModel

from ne_basicsr.archs.wne_arch import Wrapper
from ne_basicsr.options import data_schema, schema
from ne_basicsr.options import sections as checks
from ne_basicsr.options.docstrings import argument_docs, summary
from ne_basicsr.options.source import option_reads
from ne_basicsr.options.validation import DERIVED, OF_DENOISING, OWN_MODELS, OWN_SETS

Section = dict[str, Any]  # a JSON Schema object
Path = tuple[str, ...]

TYPES = {bool: 'boolean', int: 'integer', float: 'number', str: 'string', list: 'array', tuple: 'array', dict: 'object'}


def own_section(model: type[BaseModel]) -> Section:
    """The section that a class of ``schema.py`` or ``data_schema.py`` describes, the sections inside it included."""
    return deepcopy(_own_section(model))


@cache
def _own_section(model: type[BaseModel]) -> Section:
    full = model.model_json_schema()
    return _plain(full, full.get('$defs', {}))


def models() -> dict[str, str]:
    """Model types and what they are."""
    return {name: summary(cls) for name, cls in sorted(checks.registered(MODEL_REGISTRY).items())}


def networks() -> dict[str, Section]:
    """``network_g`` by type."""
    return {name: network(name) for name in sorted(checks.registered(ARCH_REGISTRY))}


def network(name: str) -> Section:
    cls = checks.registered(ARCH_REGISTRY)[name]
    section = _by_signature(name, cls)
    if inspect.isclass(cls) and issubclass(cls, Wrapper):
        section['properties']['statistics'] |= {'enum': [*cls.STATISTICS, None]}
    return section


def is_wrapped(name: str) -> bool:
    """Whether a network is an ``XWNE``: the arguments of X and of ``WNE``."""
    return name.endswith('WNE') and name.removesuffix('WNE') in checks.registered(ARCH_REGISTRY)


def losses() -> dict[str, Section]:
    """``pixel_opt`` and others by type."""
    return {name: _by_signature(name, cls) for name, cls in sorted(checks.registered(LOSS_REGISTRY).items())}


def metrics(strict: bool) -> dict[str, Section]:
    """Entries of ``val:metrics`` by type; own models have a default for ``crop_border``, and metrics on float images.

    Args:
        strict: for this package's models.
    """
    better = own_section(schema.MetricOptions)['properties']['better']
    found = {}
    for name, function in sorted(checks.registered(METRIC_REGISTRY).items()):
        if strict or name not in OF_DENOISING:
            section = _by_signature(name, function, checks.METRIC_DATA, ('crop_border',) if strict else ())
            found[name] = section | {'properties': section['properties'] | {'better': better}}
    return found


def optimizers() -> dict[str, Section]:
    """``optim_g`` by type, as the installed torch has them."""
    found = {}
    for name, cls in sorted(checks.OPTIMIZERS.items()):
        section = _by_signature(name, cls, ('params',))
        section['required'] = ['type', 'lr']
        section['properties']['lr'] = {'type': 'number', 'minimum': 0, 'description': 'Learning rate.'}
        found[name] = section
    return found


def schedulers() -> dict[str, Section]:
    """``scheduler`` by type."""
    supplied = ('optimizer', 'last_epoch')
    return {name: _by_signature(name, cls, supplied) for name, cls in sorted(checks.SCHEDULERS.items())}


# keys of ``train`` whose sections registries decide, as patterns
TRAIN_SECTIONS: dict[str, Callable[[], dict[str, Section]]] = {
    '^optim_.+$': optimizers,
    '^scheduler$': schedulers,
    '^.+_opt$': losses,
}


def data_sets(training: bool) -> dict[str, Section]:
    """``datasets:train``, or the others, by type."""
    found = {}
    for name, cls in sorted(checks.registered(DATASET_REGISTRY).items()):
        if name in OWN_SETS:
            section = own_section(OWN_SETS[name][0 if training else 1])
        else:
            section = own_section(data_schema.ForeignTrainSet if training else data_schema.ForeignSet)
            section['properties'] = _read_keys(cls, training) | section['properties']
            reads = option_reads(cls, training).required
            sure = {key[0] for key in reads if len(key) == 1} - DERIVED - {'phase', 'scale'}
            section['required'] = sorted({*section['required'], *sure})
        section['properties']['type'] = {'const': name, 'description': summary(cls)}
        found[name] = section
    return found


def section_at(opt: Mapping[str, Any], path: Path) -> Section:
    """The section at ``path`` of complete options; one without keys where nothing is known about it.

    Args:
        opt: as ``complete_options`` returns it.
    """
    strict = opt['model_type'] in OWN_MODELS
    if path == ():
        return own_section(schema.Options if strict else schema.ForeignOptions)
    given: Any = opt
    for name in path:
        given = given[name]
    kind = given.get('type')
    if path[0].startswith('network_') and set(path[1:]) <= {'backbone'}:
        return network(kind) if kind in checks.registered(ARCH_REGISTRY) else {}
    if path[0] == 'datasets' and len(path) == 2:
        return data_sets(path[1] == 'train').get(kind, {})
    if path[:2] == ('val', 'metrics') and len(path) == 3:
        return metrics(strict).get(kind, {})
    if path[0] == 'train' and len(path) == 2:
        for pattern, sections in TRAIN_SECTIONS.items():
            if re.match(pattern, path[1]):
                return sections().get(kind, {})
    return section_at(opt, path[:-1]).get('properties', {}).get(path[-1], {})


def _by_signature(
    name: str, function: Callable[..., Any], supplied: Collection[str] = (), optional: Collection[str] = ()
) -> Section:
    """The section ``{type: name, <arguments>}``, as ``sections.check_arguments`` takes it.

    Args:
        supplied, optional: as for ``check_arguments``.
    """
    parameters = {k: p for k, p in checks.named_parameters(function).items() if k not in supplied}
    said = _said(function)
    properties: dict[str, Section] = {'type': {'const': name, 'description': summary(function)}}
    required = ['type']
    for key, parameter in parameters.items():
        properties[key] = _argument(parameter) | ({'description': said[key]} if key in said else {})
        if parameter.default is parameter.empty:
            required += [key] * (key not in optional)
        elif _is_plain(parameter.default):
            default = parameter.default
            properties[key]['default'] = list(default) if isinstance(default, tuple) else default
    return {
        'type': 'object',
        'description': summary(function),
        'properties': properties,
        'required': required,
        'additionalProperties': False,
    }


def _said(function: Callable[..., Any]) -> dict[str, str]:
    """Descriptions of arguments; those of an ``XWNE`` are with X and with ``WNE``, which is its base."""
    name = getattr(function, '__name__', '')
    archs = checks.registered(ARCH_REGISTRY)
    backbone = archs.get(name.removesuffix('WNE')) if is_wrapped(name) and archs.get(name) is function else None
    return argument_docs(function) | (argument_docs(backbone) if backbone else {})


def _argument(parameter: inspect.Parameter) -> Section:
    """What an argument takes, as ``sections.check_arguments`` sees it."""
    words, kinds = checks.words_of(parameter), checks.kinds_of(parameter)
    if words:
        return {'enum': list(words)}
    if not kinds:
        return {}
    choices = [choice for kind in kinds if isinstance(kind, tuple) for choice in kind]
    types = {'null' if kind is type(None) else TYPES[kind] for kind in kinds if not isinstance(kind, tuple)}
    if 'number' in types:
        types.discard('integer')
    if choices and types <= {'null'}:
        return {'enum': [*choices, *([None] if types else [])]}
    section: Section = {'type': sorted(types) if len(types) > 1 else next(iter(types))}
    if 'array' in types and checks.takes_numbers(parameter):
        section['items'] = {'not': {'type': 'string'}}
    return {'anyOf': [section, {'enum': choices}]} if choices else section


def _read_keys(cls: type, training: bool) -> dict[str, Section]:
    """The keys that a data set of BasicSR reads."""
    said = argument_docs(cls)
    keys = {key[0] for key in option_reads(cls, training).known if len(key) == 1} - DERIVED - {'phase', 'scale'}
    return {key: {'description': said[key]} if key in said else {} for key in sorted(keys)}


def _plain(part: Any, definitions: Mapping[str, Any]) -> Any:
    """Pydantic's JSON Schema with references put in and titles left out."""
    if isinstance(part, list):
        return [_plain(item, definitions) for item in part]
    if not isinstance(part, Mapping):
        return part
    if '$ref' in part:
        meant = definitions[part['$ref'].rpartition('/')[2]]
        return _plain(meant, definitions) | _plain({k: v for k, v in part.items() if k != '$ref'}, definitions)
    plain = {k: _plain(v, definitions) for k, v in part.items() if k not in ('title', '$defs', 'properties')}
    if 'properties' in part:
        plain['properties'] = {k: _plain(v, definitions) for k, v in part['properties'].items()}
    if 'anyOf' in part and {'type': 'null'} in plain['anyOf'] and len(plain['anyOf']) == 2:
        # X | None, in one
        (inner,) = (option for option in plain.pop('anyOf') if option != {'type': 'null'})
        enum = {'enum': [*inner['enum'], None]} if 'enum' in inner else {}
        return (
            inner | enum | {'type': [inner['type'], 'null']} | plain if 'type' in inner else {'anyOf': [inner]} | plain
        )
    return plain


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)
