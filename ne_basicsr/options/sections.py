"""Sections whose type a registry decides: networks, losses, metrics, optimizers, schedules, data sets.

A section is ``{type: <registered name>, <keyword arguments>}``. The signature of what it names becomes a JSON Schema:
names, types as far as annotations or defaults tell, defaults, and descriptions from docstrings in Google's style.
"""

import inspect
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping
from functools import cache, partial
from typing import Any, Literal, NamedTuple

from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY

from ne_basicsr.archs.wne_arch import Wrapper
from ne_basicsr.options.optimizers import OPTIMIZERS, schedules
from ne_basicsr.options.schema import ARGUMENTS, BETTER, FOREIGN_SETS, OWN_SETS, Section, choice
from ne_basicsr.options.source import SUPPLIED, option_reads
from ne_basicsr.utils.errors import Key, OptionError
from ne_basicsr.utils.words import hint, nearest, shown

NOT_WRAPPED = '{} does not map images to images, and only such networks can be wrapped: none for videos or scores'
SIZES = ('num_', 'dim', 'chan', 'size')  # words in the names of integers that BasicSR's networks do not annotate
_METRIC_DATA = ('img', 'img2', 'lq', 'net', 'rows')  # what the model hands to a metric
_TYPES = {
    bool: 'boolean', int: 'integer', float: 'number', str: 'string', list: 'array', tuple: 'array', dict: 'object',
    None: 'null', type(None): 'null',
}  # fmt: skip
_BLOCK = re.compile(r'^( *)(?:Args|Arguments|Parameters): *\n((?:(?:\1 +.*)?\n)*)', re.MULTILINE)
# `num_feat, num_out_ch (int, optional): channels of ...`, with the deeper lines below it
_ENTRY = re.compile(r'^( +)(\w+(?:, *\w+)*) *(?:\(.*?\))?: +(\S.*\n(?:(?:\1 +.*)?\n)*)', re.MULTILINE)
_DEFAULT = re.compile(r' *\(?[Dd]efault:? \S+\)?$')  # shown apart from the description
_LONG = 160  # characters of a description, from which on its first sentence is enough


class Kind(NamedTuple):
    """One family of sections."""

    noun: str  # for messages
    known: Callable[[], Mapping[str, Any]]  # what ``type`` may name
    describe: Callable[[str, Any], Section]  # the JSON Schema of the section that names something
    heading: str = ''  # in the reference, with the places in brackets


def find(kind: str, given: Any, key: Key) -> str:
    """The registered name ``given['type']``; an ``OptionError`` for no section, no type, or an unknown one."""
    noun, known, *_ = KINDS[kind]
    if not isinstance(given, Mapping):
        raise OptionError(key, f'a section is needed; got {shown(given)}')
    if 'type' not in given:
        near = nearest('type', list(given), cutoff=0.7)
        misspelt = f'; did you misspell it as {near!r}?' if near else ''
        raise OptionError((*key, 'type'), f'missing: the name of a registered {noun}{misspelt}')
    lookup(known(), given['type'], (*key, 'type'), noun)
    return given['type']


def lookup(known: Mapping[str, Any], name: Any, key: Key, noun: str) -> Any:
    """``known[name]``, or an error with the nearest name."""
    if not isinstance(name, str) or name not in known:
        raise OptionError(key, f'no {noun} is called {shown(name)}; {suggestion(name, known)}')
    return known[name]


def suggestion(name: Any, known: Collection[str]) -> str:
    """What to write instead of a name that is not ``known``; an XWNE may have no images to wrap."""
    inner = str(name).removesuffix('WNE')
    return NOT_WRAPPED.format(inner) if inner != name and inner in known else hint(name, known)


def registered(registry: Any) -> dict[str, Any]:
    """What a BasicSR registry holds by name, also without the suffix ``_basicsr`` that it looks past."""
    return {name.removesuffix('_basicsr'): item for name, item in registry} | dict(iter(registry))


@cache
def section_of(kind: str, name: str) -> Section:
    """The section of one type. It is shared: change a copy."""
    return KINDS[kind].describe(name, KINDS[kind].known()[name])


def sections_of(kind: str) -> dict[str, Section]:
    """The sections of all types, by name."""
    return {name: section_of(kind, name) for name in sorted(KINDS[kind].known())}


def is_wrapped(name: str) -> bool:
    """Whether a network is an ``XWNE``: the arguments of X and of ``WNE``."""
    return name.endswith('WNE') and name.removesuffix('WNE') in registered(ARCH_REGISTRY)


def by_signature(
    name: str,
    function: Callable[..., Any],
    supplied: Collection[str] = (),
    optional: Collection[str] = (),
    kind: str = '',
) -> Section:
    """The section ``{type: name, <arguments>}``.

    Args:
        supplied: parameters that the caller fills in, and an option file cannot.
        optional: parameters that the caller fills in where the option file does not.
        kind: whose rules in ``schema.yml`` are added.
    """
    said, about, rules = argument_docs(function), summary(function), ARGUMENTS.get(kind, {})
    parameters = {key: each for key, each in named_parameters(function).items() if key not in supplied}
    properties: dict[str, Section] = {'type': {'const': name, 'description': about}}
    for key, parameter in parameters.items():
        default = parameter.default
        told: Section = {'description': said[key]} if key in said else {}
        if _is_plain(default):
            told |= {'default': list(default) if isinstance(default, tuple) else default}
        properties[key] = _argument(parameter) | rules.get(key, {}) | told
    required = [key for key, each in parameters.items() if each.default is each.empty and key not in optional]
    return {
        'title': name,
        'type': 'object',
        'description': about,
        'properties': properties,
        'required': ['type', *required],
        'additionalProperties': False,
    }


def named_parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Named parameters. A class with **kwargs may pass them on, so those of its bases' constructors count as well."""
    found: dict[str, inspect.Parameter] = {}
    for each in getattr(function, '__mro__', (function,)):
        is_other = each.__module__.partition('.')[0] in ('torch', 'builtins') or '__init__' not in vars(each)
        if each is not function and is_other:
            continue
        try:
            own = inspect.signature(each, eval_str=True).parameters
        except (NameError, TypeError, AttributeError):
            own = inspect.signature(each).parameters
        found = {**own, **found}
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values()):
            break
    return {name: each for name, each in found.items() if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}


def summary(item: Any) -> str:
    """The first paragraph of a docstring on one line, or its first sentence."""
    return _shortened(re.split(r'\n\s*\n', inspect.cleandoc(item.__doc__ or ''))[0])


@cache
def argument_docs(item: Callable[..., Any]) -> dict[str, str]:
    """What docstrings say about each argument, on one line; a class says what its bases say, too."""
    said: dict[str, str] = {}
    for part in getattr(item, '__mro__', (item,)):
        for each in filter(None, (part, vars(part).get('__init__'))):
            block = _BLOCK.search(inspect.cleandoc(each.__doc__ or '') + '\n')
            said = (_entries(block[2]) if block else {}) | said
    return said


def _entries(block: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for _, names, text in _ENTRY.findall(block):
        found |= dict.fromkeys(re.split(', *', names), _shortened(text))
        if names == 'opt':  # BasicSR's data sets describe their keys below it
            found |= _entries(text)
    return found


def _shortened(text: str) -> str:
    plain = _DEFAULT.sub('', ' '.join(text.replace('``', '').split()))
    if len(plain) <= _LONG:
        return plain
    first = re.split(r'(?<=[a-z)\d]\.) ', plain, maxsplit=1)[0]
    return first if len(first) <= 2 * _LONG else f'{first[: 2 * _LONG - 3]}...'


def _argument(parameter: inspect.Parameter) -> Section:
    """What an argument takes: one of a few words, or what its annotation or else its default tells."""
    default, annotation, words = parameter.default, parameter.annotation, ARGUMENTS['all'].get(parameter.name)
    if words and default in (*words['enum'], parameter.empty):
        return words
    kinds: set[str] = set()
    choices: list[Any] = []
    bounds: Section = {}
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    for each in typing.get_args(annotation) if is_union else [annotation]:
        origin, inside = typing.get_origin(each), typing.get_args(each)
        if origin is None:
            kinds |= {_TYPES[each]} if each in _TYPES else set()
        elif origin is Literal:
            choices += inside
        elif origin is tuple and Ellipsis not in inside:
            kinds.add('array')
            bounds = {'minItems': len(inside), 'maxItems': len(inside)}
        elif issubclass(origin, Collection):
            kinds.add('object' if issubclass(origin, Mapping) else 'array')
    if is_union and kinds == {'null'} and not choices:
        kinds.clear()
    untold = default is None or default == '' or type(default) not in _TYPES
    if not (kinds or choices or isinstance(annotation, str) or untold):  # a number takes lists of numbers, too
        kinds = {'null', *(['number', 'array'] if type(default) in (int, float) else [_TYPES[type(default)]])}
    kinds -= {'integer'} if 'number' in kinds else set()
    if choices and kinds <= {'null'}:
        return {'enum': [*choices, *([None] if kinds else [])]}
    section: Section = bounds if not kinds else {'type': sorted(kinds) if len(kinds) > 1 else min(kinds)} | bounds
    items = default if isinstance(default, list | tuple) else [default]
    if 'array' in kinds and items and all(isinstance(item, int | float) for item in items):
        section['items'] = {'not': {'type': 'string'}, 'errorMessage': 'a list of numbers is needed'}
    return {'anyOf': [section, {'enum': choices}]} if choices else section


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)


def _network(name: str, cls: Any) -> Section:
    section = by_signature(name, cls)
    said = argument_docs(registered(ARCH_REGISTRY)[name.removesuffix('WNE')]) if is_wrapped(name) else {}
    properties = {}
    for key, rule in section['properties'].items():
        more: Section = {'description': said[key]} if key in said else {}  # the bases of an XWNE are those of WNE
        if type(rule.get('default')) is int and any(word in key for word in SIZES) and 'number' in rule.get('type', ()):
            more['type'] = ['integer', *(kind for kind in rule['type'] if kind != 'number')]
        if key.endswith('_rate'):
            more |= {'minimum': 0, 'maximum': 1, 'errorMessage': 'a share from 0 to 1 is needed'}
        elif key == 'backbone':
            more |= choice('networks')
        elif key == 'statistics' and issubclass(cls, Wrapper):
            more['enum'] = [*cls.STATISTICS, None]
        properties[key] = rule | more
    return section | {'properties': properties}


def _metric(name: str, function: Any, own: bool) -> Section:
    """Models of this package crop nothing unless told; BasicSR's leave it to the option file."""
    section = by_signature(name, function, _METRIC_DATA, ('crop_border',) if own else (), 'metrics')
    return section | {'properties': section['properties'] | {'better': BETTER}}


def _optimizer(name: str, cls: Any) -> Section:
    section = by_signature(name, cls, ('params',))
    return section | {'required': ['type', 'lr'], 'properties': section['properties'] | ARGUMENTS['optimizers']}


def _data_set(name: str, cls: Any, training: bool) -> Section:
    about = {'type': {'const': name, 'description': summary(cls)}}
    section = OWN_SETS.get(name, FOREIGN_SETS)[0 if training else 1]
    if name in OWN_SETS:
        return section | {'properties': section['properties'] | about}
    said, reads = argument_docs(cls), option_reads(cls, training)
    folder = {'type': ['string', 'null'], 'errorMessage': 'a folder is needed'}
    read: dict[str, Section] = {
        key: (folder if key.startswith('dataroot_') else {}) | ({'description': said[key]} if key in said else {})
        for key in sorted({key[0] for key in reads.known if len(key) == 1} - SUPPLIED)
    }
    needed = {key[0] for key in reads.required if len(key) == 1}
    keys = {
        key: {name: rule for name, rule in each.items() if name != 'default' or key not in needed}
        for key, each in section['properties'].items()
    }
    return section | {
        'title': name,
        'properties': read | keys | about,
        'required': sorted({*section['required'], *needed} - SUPPLIED),
        'additionalProperties': True,
    }


_schedule = partial(by_signature, supplied=('optimizer', 'last_epoch'), kind='schedulers')
_OF_BASICSR = "Data sets of BasicSR's models"
_metrics, _sets = partial(registered, METRIC_REGISTRY), partial(registered, DATASET_REGISTRY)
KINDS = {
    'networks': Kind('network', partial(registered, ARCH_REGISTRY), _network, 'Networks (network_g)'),
    'losses': Kind(
        'loss', partial(registered, LOSS_REGISTRY), by_signature, 'Losses (train:pixel_opt, train:perceptual_opt)'
    ),
    'optimizers': Kind('optimizer', lambda: OPTIMIZERS, _optimizer, 'Optimizers (train:optim_g)'),
    'schedulers': Kind('scheduler', schedules, _schedule, 'Schedulers (train:scheduler)'),
    'metrics': Kind('metric', _metrics, partial(_metric, own=True), 'Metrics (val:metrics)'),
    'foreign_metrics': Kind('metric', _metrics, partial(_metric, own=False)),
    'train_sets': Kind('data set', _sets, partial(_data_set, training=True), f'{_OF_BASICSR} (datasets:train)'),
    'test_sets': Kind('data set', _sets, partial(_data_set, training=False), f'{_OF_BASICSR} (datasets:val)'),
}
