"""Which options a BasicSR class reads, found in its source without running it.

BasicSR's models and datasets take the whole ``opt`` and read keys as they go: a misspelt key is silent, a missing one a
KeyError in the middle of a run. Their source says which keys they know and which they cannot do without.
"""

import ast
import inspect
import textwrap
from functools import lru_cache
from typing import NamedTuple

Key = tuple[str, ...]  # ('train', 'optim_g') for self.opt['train']['optim_g']

ALWAYS = ('__init__', '__getitem__', 'test')
TRAINING = ('init_training_settings', 'setup_optimizers', 'setup_schedulers', 'optimize_parameters')


class Reads(NamedTuple):
    """Keys that are read at all, keys without which a KeyError follows, and every text in the source."""

    known: frozenset[Key]
    required: frozenset[Key]
    texts: frozenset[str]


@lru_cache(maxsize=256)
def option_reads(cls: type, training: bool) -> Reads:
    """What ``cls`` reads from its options, its bases included. Empty where there is no source to read."""
    known: set[Key] = set()
    required: set[Key] = set()
    texts: set[str] = set()
    sources = [(base, tree) for base in cls.__mro__ if (tree := _class_tree(base)) is not None]
    for base, tree in sources:
        texts.update(
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        )
        for method in _methods(tree):
            visitor = _Visitor(training)
            visitor.visit_body(method.body)
            known |= visitor.known
            called = method.name in ALWAYS or (training and method.name in TRAINING)
            if called and _is_reached(method.name, base, sources):
                required |= visitor.required
    return Reads(frozenset(known), frozenset(required), frozenset(texts))


class _Visitor(ast.NodeVisitor):
    """Collects reads of ``opt`` in one method; a read under a condition is known, not required."""

    def __init__(self, training: bool) -> None:
        self.training = training
        self.known: set[Key] = set()
        self.required: set[Key] = set()
        self.aliases: dict[str, Key] = {'opt': ()}
        self.depth = 0  # of conditions around the current node

    def visit_body(self, body: list[ast.stmt]) -> None:
        returned = 0
        for statement in body:
            self.visit(statement)
            if isinstance(statement, ast.If) and any(isinstance(node, ast.Return) for node in ast.walk(statement)):
                returned += 1  # what follows may not be reached
                self.depth += 1
        self.depth -= returned

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target in node.targets:
            if isinstance(target, ast.Name):
                section = self._section(node.value)
                if section is not None:
                    self.aliases[target.id] = section
                elif target.id != 'opt':
                    self.aliases.pop(target.id, None)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        key = self._section(node)
        if key and isinstance(node.ctx, ast.Load):
            self._read(key, required=True)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        key = self._section(node)
        if key:
            self._read(key, required=False)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        section = self._section(node.comparators[0])
        if section is not None and isinstance(node.ops[0], ast.In | ast.NotIn) and _is_text(node.left):
            self._read((*section, node.left.value), required=False)  # type: ignore[attr-defined]
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        if ast.unparse(node.test).endswith(('is_train', "['is_train']", "['phase'] == 'train'")):
            if self.training:
                self.visit_body(node.body)
            else:
                self._visit_conditional(node.body)
        else:
            self._visit_conditional(node.body)
        self._visit_conditional(node.orelse)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.visit(node.test)
        self._visit_conditional([node.body, node.orelse])

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self.visit(node.values[0])
        self._visit_conditional(node.values[1:])

    def visit_For(self, node: ast.For) -> None:
        self.visit(node.iter)
        self._visit_conditional([*node.body, *node.orelse])

    def _maybe(self, node: ast.AST) -> None:
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    visit_Try = visit_While = visit_Lambda = visit_FunctionDef = _maybe  # noqa: N815
    visit_ListComp = visit_DictComp = visit_GeneratorExp = _maybe  # noqa: N815

    def _visit_conditional(self, nodes: list[ast.stmt] | list[ast.expr]) -> None:
        self.depth += 1
        for node in nodes:
            self.visit(node)
        self.depth -= 1

    def _read(self, key: Key, required: bool) -> None:
        self.known.add(key)
        if required and self.depth == 0:
            self.required.add(key)

    def _section(self, node: ast.expr) -> Key | None:
        """The place in ``opt`` that an expression stands for: opt, self.opt, x['key'], x.get('key'), or an alias."""
        if isinstance(node, ast.Name):
            return self.aliases.get(node.id)
        if isinstance(node, ast.Attribute) and ast.unparse(node) == 'self.opt':
            return ()
        inner: ast.expr | None = None
        text: ast.expr | None = None
        if isinstance(node, ast.Subscript):
            inner, text = node.value, node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ('get', 'pop'):
            inner, text = node.func.value, node.args[0] if node.args else None
        if inner is None or text is None or not _is_text(text):
            return None
        section = self._section(inner)
        return None if section is None else (*section, text.value)  # type: ignore[attr-defined]


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _class_tree(cls: type) -> ast.ClassDef | None:
    if cls.__module__.partition('.')[0] in ('builtins', 'torch', 'typing', 'abc'):
        return None
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):
        return None
    return next((node for node in tree.body if isinstance(node, ast.ClassDef)), None)


def _methods(tree: ast.ClassDef) -> list[ast.FunctionDef]:
    return [node for node in tree.body if isinstance(node, ast.FunctionDef)]


def _is_reached(name: str, base: type, sources: list[tuple[type, ast.ClassDef]]) -> bool:
    """Whether calling ``name`` runs the definition in ``base``: nothing overrides it without calling super()."""
    for other, tree in sources:
        if other is base:
            return True
        for method in _methods(tree):
            if method.name == name and 'super(' not in ast.unparse(method):
                return False
    return True
