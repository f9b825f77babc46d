"""Option files as data: a YAML reader that can run nothing.

Numbers follow YAML 1.2 (``1e-4`` is a float, ``010`` is ten); booleans keep the spellings of PyYAML, which BasicSR's
option files were written for. Duplicate keys, unknown tags and files that are not one mapping are refused, each with
one line that names the file and the line.
"""

import ast
import difflib
import re
import warnings
from pathlib import Path
from typing import Any

import yaml

from ne_basicsr.options.words import Key, shown
from ne_basicsr.utils import regular_files
from ne_basicsr.utils.errors import InputError

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
_NONE = re.compile('^(?:none|None|NONE)$')

_CODE = (
    ast.Call,
    ast.Lambda,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
    ast.JoinedStr,
    ast.Await,
    ast.Yield,
    ast.YieldFrom,
    ast.NamedExpr,
)


def read_file(path: Path) -> tuple[dict[str, Any], dict[Key, int]]:
    """The mapping in one option file, as plain dicts, lists and scalars, and the line of each key.

    Raises:
        InputError: no such file, not UTF-8, not YAML, not one mapping, a duplicate key, a tag that is not plain data.
    """
    try:
        content = regular_files.read(path, MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f'{path}: more than {MAX_BYTES // 10**6} MB; is it an option file?')
        text = content.decode('utf-8-sig')
    except FileNotFoundError:
        raise InputError(f'{path}: no such option file{_similar_file(path)}') from None
    except UnicodeDecodeError as error:
        raise InputError(f'{path}: not a text file in UTF-8 (byte {error.start}); is it an option file?') from None
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error.strerror}); an option file is needed') from None
    try:
        value, lines = _load(text, OptionLoader)
    except _YamlProblem as problem:
        raise InputError(f'{path}: {problem}') from None
    if value is None:
        raise InputError(f'{path}: the file is empty; an option file holds name, datasets, network_g and so on')
    if not isinstance(value, dict):
        raise InputError(f'{path}: the top level must be `key: value` lines; got a {type(value).__name__}')
    return value, lines


def parse_literal(text: str) -> Any:
    """One value as it would read in an option file; ``none`` is null too, as in BasicSR. Nothing is evaluated.

    Raises:
        ValueError: not YAML, or Python code.
    """
    if _is_code(text):
        raise ValueError(f'overrides take literals only, and {text!r} is Python code; quote it to make it a string')
    try:
        return _load(text, _OverrideLoader)[0]
    except _YamlProblem as problem:
        raise ValueError(f'{text!r} cannot be read: {problem.problem}; quote it to make it a string') from None


class OptionLoader(yaml.SafeLoader):
    """PyYAML's safe loader, cut down to null, bool, int, float, str, list and mapping.

    The one in Python: ``CSafeLoader`` crashes the interpreter on ten thousand nested brackets.
    """

    def construct_yaml_bool(self, node: Any) -> bool:
        value = self.bool_values.get(self.construct_scalar(node).lower())
        if value is None:
            raise _bad_scalar(node, 'true or false')
        return value

    def construct_yaml_int(self, node: Any) -> int:
        text = self.construct_scalar(node)
        if not _INT.match(text):
            raise _bad_scalar(node, 'an integer')
        if len(text) > MAX_DIGITS:
            raise _bad_scalar(node, f'at most {MAX_DIGITS} digits')
        return int(text, 0) if text[:2] in ('0o', '0x') else int(text)

    def construct_yaml_float(self, node: Any) -> float:
        text = self.construct_scalar(node).strip()
        if not _FLOAT.match(text):
            raise _bad_scalar(node, 'a number')
        return float(re.sub(r'\.(?=[ina])', '', text.lower()))


class _OverrideLoader(OptionLoader):
    """``none`` is null as well, which is how BasicSR's ``--force_yml`` spells it."""

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        if node.style is None and _is_code(value):
            raise yaml.constructor.ConstructorError(
                None, None, 'overrides take literals only, and this is Python code', node.start_mark
            )
        return value


OptionLoader.yaml_constructors = {
    TAG + 'null': OptionLoader.construct_yaml_null,
    TAG + 'bool': OptionLoader.construct_yaml_bool,
    TAG + 'int': OptionLoader.construct_yaml_int,
    TAG + 'float': OptionLoader.construct_yaml_float,
    TAG + 'str': OptionLoader.construct_yaml_str,
    TAG + 'seq': OptionLoader.construct_yaml_seq,
    TAG + 'map': OptionLoader.construct_yaml_map,
    None: OptionLoader.construct_undefined,
}
# null, bool and merge as PyYAML has them; its YAML 1.1 numbers, dates and `=` go
OptionLoader.yaml_implicit_resolvers = {
    first: kept
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    if (kept := [(tag, regexp) for tag, regexp in resolvers if tag[len(TAG) :] in ('null', 'bool', 'merge')])
}
OptionLoader.add_implicit_resolver(TAG + 'int', _INT, list('-+0123456789'))
OptionLoader.add_implicit_resolver(TAG + 'float', _FLOAT, list('-+.0123456789'))
_OverrideLoader.add_implicit_resolver(TAG + 'null', _NONE, list('nN'))


class _YamlProblem(Exception):
    """What is wrong with a YAML text, in one line."""

    def __init__(self, problem: str, mark: Any = None) -> None:
        self.problem = problem
        super().__init__(f'line {mark.line + 1}: {problem}' if mark is not None else problem)


def _load(text: str, loader_class: Any) -> tuple[Any, dict[Key, int]]:
    try:
        loader = loader_class(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None, {}
            _check_nodes(node, (), [0])
            value = _unshared(loader.construct_document(node))
            lines: dict[Key, int] = {}
            _note_lines(node, (), lines)  # constructed, a section holds what was merged into it
            return value, lines
        finally:
            loader.dispose()
    except yaml.constructor.ConstructorError as error:
        raise _YamlProblem(_tag_problem(error), error.problem_mark) from None
    except yaml.MarkedYAMLError as error:
        problem = error.problem if error.context is None else f'{error.problem} ({error.context})'
        raise _YamlProblem(f'not valid YAML: {problem}', error.problem_mark) from None
    except yaml.YAMLError as error:
        raise _YamlProblem(f'not valid YAML: {str(error).splitlines()[0]}') from None
    except RecursionError:
        raise _YamlProblem('too many nested brackets for an option file') from None


def _tag_problem(error: Any) -> str:
    found = re.search(r"constructor for the tag '(.+)'", error.problem)
    if found is None:
        return error.problem
    tag = found[1].replace(TAG, '!!')
    return (
        f'the tag {tag} is refused: options are plain data and run no code; known tags: !!float, !!int, !!str, !!bool'
    )


def _bad_scalar(node: Any, wanted: str) -> yaml.constructor.ConstructorError:
    tag = node.tag.replace(TAG, '!!')
    return yaml.constructor.ConstructorError(
        None, None, f'{tag} needs {wanted}; got {shown(node.value)}', node.start_mark
    )


def _check_nodes(node: Any, parents: tuple[Any, ...], seen: list[int]) -> None:
    """Names as keys, each once; no alias that contains itself; a size that fits an option file."""
    seen[0] += 1
    if any(node is parent for parent in parents):
        raise _YamlProblem('the alias refers to a section that contains it', node.start_mark)
    if seen[0] > MAX_VALUES or len(parents) > MAX_DEPTH:
        problem = f'an option file has at most {MAX_VALUES} values and {MAX_DEPTH} levels; this one has more'
        raise _YamlProblem(problem, node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_nodes(item, (*parents, node), seen)
    elif isinstance(node, yaml.MappingNode):
        names: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in (TAG + 'str', TAG + 'merge'):
                shown = repr(key.value) if isinstance(key, yaml.ScalarNode) else 'a list or mapping'
                raise _YamlProblem(f'a key must be a name; got {shown} (in quotes it would be one)', key.start_mark)
            if key.value in names and key.tag != TAG + 'merge':
                raise _YamlProblem(f'the key {key.value!r} is already given above; keep one of the two', key.start_mark)
            names.add(key.value)
            _check_nodes(value, (*parents, node), seen)


def _note_lines(node: Any, place: Key, lines: dict[Key, int]) -> None:
    """The line of each key, by its path; lists are not looked into."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            lines[(*place, key.value)] = key.start_mark.line + 1
            _note_lines(value, (*place, key.value), lines)


def _unshared(value: Any) -> Any:
    """A copy in which sections that came from one alias are apart."""
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unshared(item) for item in value]
    return value


def _is_code(text: str) -> bool:
    """Whether a text is a Python expression that would do something if it were evaluated. It is only parsed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            tree = ast.parse(text.strip(), mode='eval')
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(
        isinstance(node, _CODE)
        or (isinstance(node, ast.Name) and node.id.startswith('__'))
        or (isinstance(node, ast.Attribute) and node.attr.startswith('__'))
        for node in ast.walk(tree)
    )


def _similar_file(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f'; the folder {str(folder)!r} does not exist either'
    names = sorted(entry.name for entry in folder.iterdir() if entry.suffix in ('.yml', '.yaml'))
    if not names:
        return f'; there is no .yml file in {str(folder)!r}'
    nearest = difflib.get_close_matches(path.name, names, n=1, cutoff=0.0) or names[:1]
    return f'; did you mean {str(folder / nearest[0])!r}?'
