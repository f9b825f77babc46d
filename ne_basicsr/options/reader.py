"""Option files as data: a YAML reader that can run nothing, and files that say how they differ from a ``base``.

Numbers follow YAML 1.2 (``1e-4`` is a float, ``010`` is ten); booleans keep the spellings of PyYAML, which BasicSR's
option files were written for. Duplicate keys, unknown tags and files that are not one mapping are refused, each with
one line that names the file and the line.

The base of a file is found relative to it, and may itself have a base. So are the files that ``import`` names; reading
does not import them. On top of the base

- sections are merged key by key,
- everything else, lists included, replaces what the base has,
- null removes what the base has, so that the default holds; where the base has nothing it is a value as ever.

This is JSON Merge Patch (RFC 7396), but for nulls that remove nothing: they stay, so that misspelt ones are found.
"""

import ast
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ne_basicsr.archs import own_networks
from ne_basicsr.options import shipped
from ne_basicsr.utils import atomic_files
from ne_basicsr.utils.errors import InputError, Key
from ne_basicsr.utils.words import shown, similar_path

TAG = 'tag:yaml.org,2002:'
MAX_VALUES = 100_000  # an option file holds hundreds; aliases of aliases can ask for billions
MAX_DEPTH = 50
MAX_BYTES = 1_000_000
MAX_DIGITS = 100  # Python takes no more than 4300, and is slow with many

_INT = re.compile(r'^(?:[-+]?[0-9]+(?:_[0-9]+)*|0o[0-7]+|0x[0-9a-fA-F]+)$')
_FLOAT = re.compile(
    r"""^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?
    |[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)
_SCALARS = {  # what a value with such a tag must be
    'null': 'nothing',
    'bool': 'true or false',
    'int': f'an integer of at most {MAX_DIGITS} digits',
    'float': 'a number',
    'str': 'a text',
}
_CODE = (ast.Call, ast.Lambda, ast.comprehension, ast.JoinedStr, ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)


class Source(NamedTuple):
    """An option file with its bases merged: no ``base`` is left."""

    options: dict[str, Any]
    files: tuple[Path, ...]  # the file itself, its base, the base's base
    places: dict[Key, tuple[Path, int]]  # file and line of each key, the last one


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in an option file, its bases merged, as plain dicts, lists and scalars."""
    return read_source(path).options


def read_source(path: str | Path, above: tuple[Path, ...] = ()) -> Source:
    """As ``read_yaml``, with the places of the keys; ``above`` are the files whose base this one is, in order."""
    path = shipped.find(path)
    options, lines = read_file(path)
    if own_networks.IMPORTS in options:  # relative to this file, as a base is
        options[own_networks.IMPORTS] = own_networks.located(options[own_networks.IMPORTS], path.parent)
    places = {key: (path, line) for key, line in lines.items() if key[0] != 'base'}
    base = options.pop('base', None)
    if base is None:
        return Source(options, (path,), places)
    where = f'{path}: line {lines["base",]}: base'
    if not isinstance(base, str) or not base.strip() or not base.isprintable():
        raise InputError(f'{where}: the name of an option file is needed; got {shown(base)}')
    target = shipped.find(path.parent / os.path.expanduser(base), base)
    chain = (*above, path)
    for index, file in enumerate(chain):
        if target.resolve() == file.resolve():
            between = [*map(str, chain[index + 1 :])]
            how = f'which starts from {" and that from ".join(between)}' if between else 'the file itself'
            raise InputError(f'{where}: {base!r} leads back to {file}, {how}; a base must end somewhere')
    try:
        below = read_source(target, chain)
    except InputError as error:
        if target.exists():
            raise
        raise InputError(f'{where}: {error}') from None
    return Source(merge(below.options, options), (path, *below.files), below.places | places)


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` on top, by the rules above. Neither is changed; values are shared."""
    merged = dict(base)
    for key, value in changes.items():
        if value is None and merged.get(key) is not None:
            del merged[key]
        elif isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def read_file(path: Path) -> tuple[dict[str, Any], dict[Key, int]]:
    """The mapping in one option file, as plain dicts, lists and scalars, and the line of each key."""
    try:
        content = atomic_files.read(path, MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f'{path}: more than {MAX_BYTES // 10**6} MB; is it an option file?')
        loader = OptionLoader(content.decode('utf-8-sig'))
        value = loader.value()
    except FileNotFoundError:
        raise InputError(f'{path}: no such option file{similar_path(path, shipped.names())}') from None
    except UnicodeDecodeError as error:
        raise InputError(f'{path}: not a text file in UTF-8 (byte {error.start}); is it an option file?') from None
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error.strerror}); an option file is needed') from None
    except yaml.YAMLError as error:
        raise InputError(f'{path}: {_described(error)}') from None
    if value is None:
        raise InputError(f'{path}: the file is empty; an option file holds name, datasets, network_g and so on')
    if not isinstance(value, dict):
        raise InputError(f'{path}: the top level must be `key: value` lines; got a {type(value).__name__}')
    return value, loader.lines


def parse_literal(text: str) -> Any:
    """One value as in an option file; ``none`` is null too, as in BasicSR. A ``ValueError`` for Python code."""
    if _is_code(text):
        raise ValueError(f'overrides take literals only, and {text!r} is Python code; quote it to make it a string')
    try:
        return _OverrideLoader(text).value()
    except yaml.YAMLError as error:
        problem = _described(error, with_line=False)
        raise ValueError(f'{text!r} cannot be read: {problem}; quote it to make it a string') from None


class OptionLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2, and of YAML 1.1 null, booleans and merge keys.

    The one in Python: ``CSafeLoader`` crashes the interpreter on ten thousand nested brackets.
    """

    takes_literals_only = False
    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [each for each in resolvers if each[0].removeprefix(TAG) in ('null', 'bool', 'merge')]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lines: dict[Key, int] = {}  # of each key; lists are not looked into
        self.seen = 0

    def value(self) -> Any:
        """The plain value of the text; a ``YAMLError`` where it is not YAML, or its data are not plain."""
        try:
            node = self.get_single_node()
            return None if node is None else self._value(node, (), ())
        except RecursionError:
            raise yaml.YAMLError('too many nested brackets for an option file') from None

    def _value(self, node: Any, key: Key, above: tuple[Any, ...]) -> Any:
        self.seen += 1
        if any(node is each for each in above):
            raise _problem(node, 'the alias refers to a section that contains it')
        if self.seen > MAX_VALUES or len(above) > MAX_DEPTH:
            limits = f'at most {MAX_VALUES} values and {MAX_DEPTH} levels'
            raise _problem(node, f'an option file has {limits}; this one has more')
        kind = node.tag.removeprefix(TAG)
        if kind == 'seq':
            return [self._value(item, (), (*above, node)) for item in node.value]
        if kind == 'map':
            return self._mapping(node, key, (*above, node))
        if kind not in _SCALARS:
            refused = f'the tag {node.tag.replace(TAG, "!!")} is refused: options are plain data and run no code'
            raise _problem(node, f'{refused}; known tags: !!float, !!int, !!str, !!bool')
        if self.takes_literals_only and node.style is None and _is_code(node.value):
            raise _problem(node, 'overrides take literals only, and this is Python code')
        try:
            return self.construct_object(node)
        except (ValueError, LookupError):
            raise _problem(node, f'!!{kind} needs {_SCALARS[kind]}; got {shown(node.value)}') from None

    def _mapping(self, node: Any, key: Key, above: tuple[Any, ...]) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for name, item in node.value:
            if name.tag == TAG + 'merge':
                for part in item.value if isinstance(item, yaml.SequenceNode) else [item]:
                    if not isinstance(part, yaml.MappingNode):
                        raise _problem(part, 'a merge key << needs a section, or a list of sections')
                    merged = self._value(part, key, above) | merged
                continue
            if name.tag != TAG + 'str':
                got = repr(name.value) if isinstance(name, yaml.ScalarNode) else 'a list or mapping'
                raise _problem(name, f'a key must be a name; got {got} (in quotes it would be one)')
            if name.value in own:
                raise _problem(name, f'the key {name.value!r} is already given above; keep one of the two')
            self.lines[(*key, name.value)] = name.start_mark.line + 1
            own[name.value] = self._value(item, (*key, name.value), above)
        return merged | own

    def _int(self, node: Any) -> int:
        text = node.value
        if not _INT.match(text) or len(text) > MAX_DIGITS:
            raise ValueError
        return int(text, 0) if text[:2] in ('0o', '0x') else int(text)


class _OverrideLoader(OptionLoader):
    """``none`` is null as well, which is how BasicSR's ``--force_yml`` spells it."""

    takes_literals_only = True


OptionLoader.add_implicit_resolver(TAG + 'int', _INT, list('-+0123456789'))
OptionLoader.add_implicit_resolver(TAG + 'float', _FLOAT, list('-+.0123456789'))
OptionLoader.add_constructor(TAG + 'int', OptionLoader._int)
_OverrideLoader.add_implicit_resolver(TAG + 'null', re.compile('^(?:none|None|NONE)$'), list('nN'))


def _problem(node: Any, problem: str) -> yaml.YAMLError:
    """Data that are YAML and not plain."""
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _described(error: yaml.YAMLError, with_line: bool = True) -> str:
    """What is wrong with a YAML text, in one line."""
    mark = getattr(error, 'problem_mark', None)
    where = f'line {mark.line + 1}: ' if mark is not None and with_line else ''
    if isinstance(error, yaml.MarkedYAMLError):
        is_ours = isinstance(error, yaml.constructor.ConstructorError)
        around = '' if error.context is None else f' ({error.context})'
        return f'{where}{"" if is_ours else "not valid YAML: "}{error.problem}{around}'
    text = str(error).splitlines()[0]
    return text if text.startswith('too many') else f'not valid YAML: {text}'


def _is_code(text: str) -> bool:
    """Whether a text is a Python expression that would do something if it were evaluated. It is only parsed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            tree = ast.parse(text.strip(), mode='eval')
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    names = [getattr(node, 'id', getattr(node, 'attr', '')) for node in ast.walk(tree)]
    return any(isinstance(node, _CODE) for node in ast.walk(tree)) or any(name.startswith('__') for name in names)
