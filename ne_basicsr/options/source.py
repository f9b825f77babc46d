"""Which options a BasicSR class reads, found in its source without running it.

BasicSR's models and data sets take the whole ``opt`` and read keys as they go: a misspelt key is silent, a missing one
a KeyError in the middle of a run. Their source says which keys they know and which they cannot do without.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

from ne_basicsr.utils.errors import Key, OptionError
from ne_basicsr.utils.words import hint, nearest

ALWAYS = ('__init__', '__getitem__', 'test')
TRAINING = ('init_training_settings', 'setup_optimizers', 'setup_schedulers', 'optimize_parameters')
# what a run adds to the file's options
SUPPLIED = frozenset({'is_train', 'dist', 'rank', 'world_size', 'root_path', 'auto_resume', 'val', 'phase', 'scale'})
# network_d, optim_e, pretrain_network_d ...: families that BasicSR's models extend by a letter or a word
FAMILY = re.compile(r'^(network|optim|pretrain_network|strict_load|param_key)_[a-z][a-z0-9_]*$')
NEAR = 0.8  # similarity from which an unknown key counts as a misspelt known one
_IN_TRAINING = ('is_train', "['is_train']", "['phase'] == 'train'")  # how conditions end that hold in training
# what may not run, and the part of it that does
_BRANCHES = {
    ast.If: 'test', ast.IfExp: 'test', ast.BoolOp: 'values', ast.For: 'iter', ast.While: '', ast.Try: '',
    ast.Lambda: '', ast.FunctionDef: '', ast.ListComp: '', ast.DictComp: '', ast.GeneratorExp: '',
}  # fmt: skip


class Reads(NamedTuple):
    """Keys that are read at all, keys without which a KeyError follows, and every text in the source."""

    known: set[Key]
    required: set[Key]
    texts: set[str]


@cache
def option_reads(cls: type, training: bool) -> Reads:
    """What ``cls`` reads from its options, its bases included. Empty where there is no source to read."""
    reads = Reads(set(), set(), set())
    replaced: set[str] = set()  # methods that a subclass overrides without calling super()
    for base in cls.__mro__:
        tree = ast.Module([], [])
        if base.__module__.partition('.')[0] not in ('builtins', 'torch', 'typing', 'abc'):
            with suppress(OSError, TypeError, SyntaxError):
                tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                reads.texts.add(node.value)
            if isinstance(node, ast.FunctionDef):
                runs = node.name in (*ALWAYS, *(TRAINING if training else ())) and node.name not in replaced
                for key, is_sure in _reads(node, training):
                    reads.known.add(key)
                    reads.required.update([key] if is_sure and runs else [])
                if 'super(' not in ast.unparse(node):
                    replaced.add(node.name)
    return reads


def check_slips(
    section: Mapping[str, Any], schema: Mapping[str, Any], reads: Reads, key: Key, closed: bool = False
) -> None:
    """Refuse unknown keys that look like a known one, and in ``closed`` sections all that the class does not read.

    A null sets nothing and passes.

    Args:
        key: place of the section in ``opt``.
    """
    known = {each[len(key)] for each in reads.known if len(each) > len(key) and each[: len(key)] == key}
    known |= {*schema['properties']}
    for name, value in section.items():
        if value is None or name in known or name in reads.texts or FAMILY.match(name):
            continue
        if closed or nearest(name, known, NEAR):
            raise OptionError((*key, name), f'unknown option; {hint(name, known)}')


def check_reads(opt: Mapping[str, Any], model: type, training: bool) -> None:
    """Refuse options without a key that ``model`` is sure to read."""
    reads = option_reads(model, training)
    for key in sorted(reads.required):
        section: Any = opt
        for name in key[:-1]:
            section = section.get(name) if isinstance(section, Mapping) else None
        if isinstance(section, Mapping) and key[-1] not in section and key[-1] not in SUPPLIED:
            near = nearest(key[-1], [name for name in section if (*key[:-1], name) not in reads.known], NEAR)
            misspelt = f'; did you misspell it as {near!r}?' if near else ''
            raise OptionError(key, f'missing, and {model.__name__} needs it{misspelt}')


def _reads(method: ast.FunctionDef, training: bool) -> Iterator[tuple[Key, bool]]:
    """What one method reads of ``opt``, and whether it is sure to: a read under a condition is not."""
    names: dict[str, Key] = {'opt': (), 'self.opt': ()}  # variables that hold a section

    def visit(node: ast.AST, sure: bool) -> Iterator[tuple[Key, bool]]:
        if key := place(node):
            yield key, sure and isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load)
        always = _BRANCHES.get(type(node))
        for name, value in ast.iter_fields(node):
            runs = sure and always in (None, name)
            if isinstance(node, ast.If) and name == 'body':
                runs = sure and training and ast.unparse(node.test).endswith(_IN_TRAINING)
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from visit(child, runs)
                returns = isinstance(child, ast.If) and any(isinstance(each, ast.Return) for each in ast.walk(child))
                runs = runs and not returns and always != 'values'  # of `a and b`, b may not run
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            held = place(node.value)
            if held is not None:
                names[node.targets[0].id] = held
            elif node.targets[0].id != 'opt':
                names.pop(node.targets[0].id, None)

    def place(node: ast.AST) -> Key | None:
        """The place in ``opt`` that an expression reads: x['key'], x.get('key'), 'key' in x, or a variable for one."""
        match node:
            case ast.Name() | ast.Attribute():
                return names.get(ast.unparse(node))
            case (
                ast.Subscript(value=inner, slice=ast.Constant(value=str(name)))
                | ast.Call(
                    func=ast.Attribute(value=inner, attr='get' | 'pop'), args=[ast.Constant(value=str(name)), *_]
                )
                | ast.Compare(left=ast.Constant(value=str(name)), ops=[ast.In() | ast.NotIn()], comparators=[inner])
            ):
                section = place(inner)
                return None if section is None else (*section, name)
        return None

    return visit(ast.Module(method.body, []), True)
