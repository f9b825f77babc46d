"""Sections that a registry decides: networks, losses, optimizers, schedulers, metrics, models, data sets.

A section is ``{type: <registered name>, <keyword arguments>}``. It is compared with the signature of what it names;
only optimizers and schedulers, which are cheap, are built to see whether they accept their arguments.
"""

import difflib
import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

import torch
from torch import nn

from ne_basicsr.archs.network_inputs import REFUSALS
from ne_basicsr.archs.wne_arch import Wrapper
from ne_basicsr.options.optimizers import ITERATION_KEYS, OPTIMIZERS, schedules
from ne_basicsr.options.values import reads_as_number, shown

Path = tuple[str, ...]

# what a metric is handed by the model, not by the option file
METRIC_DATA = frozenset({'img', 'img2', 'lq', 'net', 'rows'})
SCHEDULERS = schedules()
MAX_SIZE = 1_000_000  # channels, pixels and layers of a network
# arguments that BasicSR's losses, networks and metrics read as one of a few words
WORDS = {
    'reduction': ('none', 'mean', 'sum'),
    'gan_type': ('vanilla', 'lsgan', 'wgan', 'wgan_softplus', 'hinge'),
    'criterion': ('l1', 'l2', 'fro'),
    'input_order': ('HWC', 'CHW'),
    'summary': ('mean_psnr', 'worst_loss'),
    'upsampler': ('', 'pixelshuffle', 'pixelshuffledirect', 'nearest+conv'),
    'resi_connection': ('1conv', '3conv'),
}


class OptionError(Exception):
    """One wrong option: the path of its key and what is wrong with it."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(':'.join(path), problem)
        self.path = path
        self.problem = problem


def nearest(name: object, known: Collection[str], cutoff: float = 0.6) -> str | None:
    """The known name most like ``name``, whatever the case."""
    lower = {item.lower(): item for item in sorted(known)}
    near = difflib.get_close_matches(str(name).lower(), lower, n=1, cutoff=cutoff)
    return lower[near[0]] if near else None


def hint(name: object, known: Collection[str]) -> str:
    """The way out of an unknown name: the nearest known one, or what there is."""
    near = nearest(name, known)
    if near:
        return f'did you mean {near!r}?'
    listed = sorted(known)
    return f'known: {", ".join(listed[:12])}{", ..." if len(listed) > 12 else ""}'


def one_of(choices: Collection[str], value: Any) -> str:
    """What is wrong with a value that is none of ``choices``."""
    near = nearest(value, choices) if isinstance(value, str) else None
    return f'one of {", ".join(choices)} is needed; got {shown(value)}' + (f'; did you mean {near!r}?' if near else '')


def find(registry: Any, section: Any, path: Path, kind: str) -> tuple[str, Any]:
    """The class or function that ``section['type']`` names in a BasicSR registry."""
    if not isinstance(section, Mapping):
        raise OptionError(path, f'a section with a type is needed; got {shown(section)}')
    if 'type' not in section:
        near = nearest('type', list(section), cutoff=0.7)
        misspelt = f'; did you misspell it as {near!r}?' if near else ''
        raise OptionError((*path, 'type'), f'missing: the name of a registered {kind}{misspelt}')
    return section['type'], lookup(registered(registry), section['type'], (*path, 'type'), kind)


def registered(registry: Any) -> dict[str, Any]:
    """What a BasicSR registry holds by name, also without the suffix ``_basicsr`` that it looks past."""
    return {name.removesuffix('_basicsr'): item for name, item in registry} | dict(iter(registry))


def lookup(names: Mapping[str, Any], name: Any, path: Path, kind: str) -> Any:
    """``names[name]``, or an error with the nearest name."""
    if not isinstance(name, str) or name not in names:
        raise OptionError(path, f'no {kind} is called {shown(name)}; {hint(name, names)}')
    return names[name]


def check_network(section: Any, path: Path, registry: Any) -> None:
    """A network and, through ``backbone:``, the networks inside it."""
    name, cls = find(registry, section, path, 'network')
    given = {key: value for key, value in section.items() if key != 'type'}
    check_arguments(cls, given, path, name)
    _check_sizes(given, path)
    wraps = inspect.isclass(cls) and issubclass(cls, Wrapper)
    if wraps:
        _check_wrapper(given, path, name, next(base for base in cls.__mro__ if base in Wrapper.__subclasses__()))
    if 'backbone' in given and (wraps or isinstance(given['backbone'], Mapping)):
        check_network(given['backbone'], (*path, 'backbone'), registry)


def _check_sizes(given: Mapping[str, Any], path: Path) -> None:
    """Sizes that would take forever; depths and heads that do not go together, in whatever transformer."""
    for key, value in given.items():
        for number in value if isinstance(value, list) else [value]:
            if type(number) is int and abs(number) > MAX_SIZE:
                raise OptionError((*path, key), f'at most {MAX_SIZE} is a size or a number of layers; got {number}')
            if key.endswith('_rate') and isinstance(number, int | float) and not 0 <= number <= 1:
                raise OptionError((*path, key), f'a share from 0 to 1 is needed; got {number}')
    depths, heads, width = (given.get(key) for key in ('depths', 'num_heads', 'embed_dim'))
    if isinstance(depths, list) and (not depths or any(type(each) is not int or each < 1 for each in depths)):
        raise OptionError(
            (*path, 'depths'), f'numbers of blocks, 1 or more in each group, are needed; got {shown(depths)}'
        )
    if not isinstance(heads, list):
        return
    if isinstance(depths, list) and len(depths) != len(heads):
        problem = f'one number per group of blocks is needed, {len(depths)} as in depths: {depths}; got {shown(heads)}'
        raise OptionError((*path, 'num_heads'), problem)
    if isinstance(width, int) and (
        odd := [each for each in heads if type(each) is not int or each < 1 or width % each]
    ):
        problem = f'each must divide embed_dim: {width}, which heads share; got {shown(odd[0])} in it'
        raise OptionError((*path, 'num_heads'), problem)


def _check_wrapper(given: Mapping[str, Any], path: Path, name: str, wrapper: type[Wrapper]) -> None:
    """A wrapper's own arguments, by building it around nothing: backbones may be large."""
    own = {key: value for key, value in given.items() if key != 'backbone' and key in named_parameters(wrapper)}
    try:
        wrapper(nn.Identity(), **own)
    except (ValueError, TypeError) as error:
        problem = _first_line(error)
        key = next((key for key in own if key in problem), None)
        raise OptionError((*path, key) if key else path, f'{name} refuses it: {problem}') from None


def check_loss(section: Any, path: Path, registry: Any) -> None:
    name, cls = find(registry, section, path, 'loss')
    check_arguments(cls, {key: value for key, value in section.items() if key != 'type'}, path, name)


def check_metric(section: Any, path: Path, registry: Any, optional: Collection[str] = ()) -> None:
    """A metric, whose images the model hands over; ``optional`` arguments it has its own defaults for."""
    name, function = find(registry, section, path, 'metric')
    given = {key: value for key, value in section.items() if key not in ('type', 'better')}
    check_arguments(function, given, path, name, METRIC_DATA, optional)
    for key, least in (('crop_border', 0), ('samples', 1)):
        if isinstance(given.get(key), int) and given[key] < least:
            raise OptionError((*path, key), f'at least {least} is needed; got {shown(given[key])}')


def check_optimizer(section: Any, path: Path, model: type) -> torch.optim.Optimizer:
    """Any optimizer of ``torch.optim`` that steps without a closure, on dense gradients."""
    if not isinstance(section, Mapping) or 'type' not in section:
        raise OptionError(path, f'type is missing, e.g. type: Adam; got {shown(section)}')
    cls = lookup(OPTIMIZERS, section['type'], (*path, 'type'), f'optimizer of {model.__name__}')
    given = {key: value for key, value in section.items() if key != 'type'}
    check_arguments(cls, given, path, section['type'], supplied=frozenset({'params'}))
    if 'lr' not in given:
        raise OptionError((*path, 'lr'), 'missing: the learning rate, e.g. lr: 1e-4')
    if not given['lr'] >= 0:
        raise OptionError((*path, 'lr'), f'at least 0 is needed; got {shown(given["lr"])}')
    weights = torch.nn.Parameter(torch.zeros(1, 1))
    try:
        optimizer = cls([weights], **given)
        weights.grad = torch.ones(1, 1)
        optimizer.step()  # some look at their arguments here only
        return optimizer
    except REFUSALS as error:
        raise OptionError(path, f'{section["type"]} refuses its arguments: {_first_line(error)}') from None


def check_scheduler(section: Any, path: Path, optimizer: torch.optim.Optimizer, total_iter: int) -> dict[str, Any]:
    """A copy of the section, its iterations integers (``1e5`` reads as a float)."""
    if not isinstance(section, Mapping) or 'type' not in section:
        raise OptionError(path, f'type is missing: one of {", ".join(SCHEDULERS)}; got {shown(section)}')
    cls = lookup(SCHEDULERS, section['type'], (*path, 'type'), 'scheduler')
    given = {key: value for key, value in section.items() if key != 'type'}
    for key in ITERATION_KEYS:
        if isinstance(given.get(key), float):
            given[key] = _iteration(given[key], 1, (*path, key))
    check_arguments(cls, given, path, section['type'], supplied=frozenset({'optimizer', 'last_epoch'}))
    for key in ITERATION_KEYS:
        if key in given:
            given[key] = _iteration(given[key], 1, (*path, key))
    for key, least in (('milestones', 0), ('restarts', 0), ('periods', 1)):
        if key in given:
            given[key] = [_iteration(value, least, (*path, key)) for value in _listed(given[key], (*path, key))]
    for key, value in given.items():
        if isinstance(value, list) and key not in ('milestones', 'restarts', 'periods', 'restart_weights', 'eta_mins'):
            raise OptionError((*path, key), f'a number is needed; got {shown(value)}')
    for key in ('restart_weights', 'eta_mins'):
        for value in _listed(given.get(key, []), (*path, key)):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise OptionError((*path, key), f'a list of numbers is needed; got {shown(value)} in it')
    if given.get('gamma', 1) < 0:
        raise OptionError((*path, 'gamma'), f'at least 0 is needed, or rates become negative; got {given["gamma"]}')
    lead = 'periods' if 'periods' in given else 'restarts'
    weights = given.get('restart_weights', [1])
    if len(given.get(lead, [0])) != len(weights):
        problem = f'as many weights as {lead} are needed; got {len(weights)} for {len(given.get(lead, [0]))}'
        raise OptionError((*path, 'restart_weights'), problem)
    if 'periods' in given and sum(given['periods']) < total_iter:
        problem = f'the periods must cover total_iter: {total_iter}; their sum is {sum(given["periods"])}'
        raise OptionError((*path, 'periods'), problem)
    try:
        schedule = cls(optimizer, **given)
        for _ in range(2):
            optimizer.step()
            schedule.step()
    except REFUSALS as error:
        raise OptionError(path, f'{section["type"]} refuses its arguments: {_first_line(error)}') from None
    return {'type': section['type'], **given}


def _listed(value: Any, path: Path) -> list[Any]:
    if not isinstance(value, list):
        raise OptionError(path, f'a list is needed; got {shown(value)} (write [{value}])')
    return value


def _iteration(value: Any, least: int, path: Path) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise OptionError(path, f'iterations are integers of at least {least}; got {shown(value)}')
    return value


def check_arguments(
    function: Callable[..., Any],
    given: Mapping[str, Any],
    path: Path,
    name: str,
    supplied: Collection[str] = (),
    optional: Collection[str] = (),
) -> None:
    """Keyword arguments against a signature: unknown names, missing ones, and types where the signature tells.

    Args:
        supplied: parameters that the caller fills in, and an option file cannot.
        optional: parameters that the caller fills in where the option file does not.
    """
    parameters = {key: value for key, value in named_parameters(function).items() if key not in supplied}
    for key in given:
        if key not in parameters:
            raise OptionError((*path, key), f'{name} has no option {key!r}; {hint(key, parameters)}')
    for key, parameter in parameters.items():
        if key not in given:
            if parameter.default is parameter.empty and key not in optional:
                raise OptionError((*path, key), f'missing, and {name} needs it')
            continue
        problem = _type_problem(given[key], parameter)
        if problem:
            raise OptionError((*path, key), problem)


def named_parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Named parameters. A class with **kwargs may pass them on, so those of its bases' constructors count as well."""
    parameters = dict(inspect.signature(function).parameters)
    if inspect.isclass(function) and any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for base in function.__mro__[1:]:
            if base.__module__.partition('.')[0] in ('torch', 'builtins') or '__init__' not in vars(base):
                continue
            inherited = list(inspect.signature(base).parameters.values())
            for parameter in inherited:
                parameters.setdefault(parameter.name, parameter)
            if not any(p.kind is p.VAR_KEYWORD for p in inherited):
                break
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    hints = _hints(function)
    return {
        name: parameter.replace(annotation=hints.get(name, parameter.annotation))
        for name, parameter in parameters.items()
        if parameter.kind in named
    }


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except (NameError, TypeError, AttributeError):
        return {}


def _type_problem(value: Any, parameter: inspect.Parameter) -> str | None:
    """Why ``value`` cannot be this argument, as far as the annotation, or else the default, tells."""
    words = words_of(parameter)
    if words and value not in words:
        return one_of(words, value)
    kinds = kinds_of(parameter)
    if not kinds:
        return None
    choices = {choice for kind in kinds if isinstance(kind, tuple) for choice in kind}
    if isinstance(value, str | int) and not isinstance(value, bool) and value in choices:
        return None
    kind = type(value)
    if kind in kinds or (kind is int and float in kinds) or (kind is list and tuple in kinds):
        return _element_problem(value, parameter)
    if kind is float and value.is_integer() and int in kinds:
        return f'an integer is needed; got {shown(value)} (write {int(value)})'
    named = kinds - {int} if float in kinds else kinds
    wanted = ' or '.join(dict.fromkeys(name for kind, name in _NAMES.items() if kind in named))
    if choices and not wanted:
        return one_of(sorted(str(choice) for choice in choices), value)
    problem = f'{wanted or "null"} is needed; got {shown(value)}'
    if isinstance(value, str) and kinds & {int, float} and reads_as_number(value):
        problem += ' (remove the quotes)'
    return problem


_NAMES = {
    int: 'an integer',
    float: 'a number',
    bool: 'true or false',
    str: 'a text',
    list: 'a list',
    tuple: 'a list',
    dict: 'a section',
}


def words_of(parameter: inspect.Parameter) -> tuple[str, ...]:
    """The words that an argument is one of, or nothing."""
    words = WORDS.get(parameter.name, ())
    return words if parameter.default in (*words, parameter.empty) else ()


def kinds_of(parameter: inspect.Parameter) -> set[Any] | None:
    """YAML types that an argument takes, literals as a tuple; None where neither annotation nor default tells."""
    kinds = _kinds(parameter.annotation)
    if kinds is None and not isinstance(parameter.annotation, str):
        kinds = _kinds_of_default(parameter)
    return kinds


def takes_numbers(parameter: inspect.Parameter) -> bool:
    """Whether the items of a list for this argument are numbers, as far as the default tells."""
    default = parameter.default
    if isinstance(default, list | tuple):
        return bool(default) and all(isinstance(item, int | float) for item in default)
    return isinstance(default, int | float)


def _kinds(annotation: Any) -> set[Any] | None:
    """YAML types that an annotation admits, literals as a tuple; None where it does not tell."""
    if annotation in (int, float, bool, str, list, tuple, dict):
        return {annotation}
    if annotation is None or annotation is type(None):
        return {type(None)}
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return {typing.get_args(annotation)}
    if origin in (typing.Union, types.UnionType):
        parts = [_kinds(part) for part in typing.get_args(annotation)]
        known = [part for part in parts if part is not None]
        return set().union(*known) if known and set().union(*known) != {type(None)} else None
    if origin in (list, tuple, dict):
        return {origin}
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return {dict}
    if inspect.isclass(origin) and issubclass(origin, Collection):
        return {list}
    return None


def _kinds_of_default(parameter: inspect.Parameter) -> set[Any] | None:
    """Without an annotation the default tells: a number takes numbers and lists of them, null is always possible."""
    default = parameter.default
    if default is None or default is parameter.empty or (isinstance(default, str) and default == ''):
        return None
    if isinstance(default, bool):
        return {bool, type(None)}
    if isinstance(default, int | float):
        return {int, float, list, type(None)}
    return {type(default), type(None)} if isinstance(default, str | list | tuple | dict) else None


def _element_problem(value: Any, parameter: inspect.Parameter) -> str | None:
    """A text in a list whose default holds numbers, or a list that is longer or shorter than it can be."""
    if isinstance(value, list) and typing.get_origin(parameter.annotation) is tuple:
        parts = typing.get_args(parameter.annotation)
        if Ellipsis not in parts and len(parts) != len(value):
            return f'a list of {len(parts)} is needed; got {shown(value)}'
    if isinstance(value, list) and takes_numbers(parameter):
        wrong = [item for item in value if isinstance(item, str)]
        if wrong:
            return f'a list of numbers is needed; got {shown(wrong[0])} in it'
    return None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].removesuffix('.')
