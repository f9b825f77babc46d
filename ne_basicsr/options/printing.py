"""Options as the text of an option file: YAML that reads back as it was, each key with its description."""

import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ne_basicsr.archs.own_networks import IMPORTS, located
from ne_basicsr.options import complete_options, shipped
from ne_basicsr.options.reader import TAG, OptionLoader, read_source
from ne_basicsr.options.schema import Section
from ne_basicsr.options.validation import schema_of

WIDTH = 120
COLUMN = 40  # where comments start


def resolved_text(
    path: str | Path,
    force_yml: Iterable[str] = (),
    imports: Iterable[str] = (),
    *,
    folder: Path = Path(),
    tried: bool = False,
) -> str:
    """The text of one option file that says all that ``path``, its bases, the overrides and the defaults say.

    Args:
        imports: what is imported besides, with files relative to the current folder.
        folder: where the text will be, which files to import are relative to.
        tried: as for ``complete_options``.
    """
    entries = list(force_yml)
    opt = complete_options(path, entries, tried=tried)
    own = opt.get(IMPORTS) or []
    if every := [*([own] if isinstance(own, str) else own), *imports]:
        opt[IMPORTS] = located(list(dict.fromkeys(every)), Path(), folder)
    _, *bases = read_source(path).files
    sources = [str(path), *(f'base: {file}' for file in bases), *(f'--force_yml {entry}' for entry in entries)]
    head = '# Complete options; a commented key is not set, its default holds. From'
    return '\n'.join([head, *(f'# {" ".join(line.splitlines())}' for line in sources), '', annotated(opt)])


def kept_text(
    path: str | Path, force_yml: Iterable[str] = (), imports: Iterable[str] = (), folder: Path = Path()
) -> str:
    """The option file that a run folder keeps, already tried: a copy or, with bases or overrides, ``resolved_text``."""
    entries, own = list(force_yml), list(imports)
    source = read_source(path)
    if entries or own or len(source.files) > 1 or IMPORTS in source.options:
        return resolved_text(path, entries, own, folder=folder, tried=True)
    text = shipped.find(path).read_text(encoding='utf-8-sig')
    if text.startswith('# yaml-language-server:'):  # its schema is beside the original
        text = text.partition('\n')[2]
    return f'# {path}\n\n{text}'


def annotated(opt: Mapping[str, Any]) -> str:
    """``opt``, complete options, as YAML with the description of each key as a comment."""
    return '\n'.join(_lines(opt, schema_of(opt), ())).strip('\n') + '\n'


def flow(value: Any) -> str:
    """A value on one line, as it is read back."""
    return yaml.dump([value], Dumper=_Dumper, default_flow_style=True, width=float('inf'), allow_unicode=True)[1:-2]


def _lines(section: Mapping[str, Any], schema: Section, path: tuple[str, ...]) -> list[str]:
    """The lines of the section at ``path``: its keys, then as comments the keys that keep their defaults."""
    indent, known = '  ' * len(path), schema.get('properties', {})
    unset = [
        key for key, rule in known.items() if key not in section and 'default' in rule and 'properties' not in rule
    ]
    lines: list[str] = []
    for key in [*section, *unset]:
        rule = known.get(key, {})
        value = section[key] if key in section else rule['default']
        is_section = key in section and isinstance(value, Mapping) and bool(value)
        if is_section and path in ((), ('datasets',)) and lines and lines[-1]:
            lines.append('')
        line = f'{indent}{"" if key in section else "# "}{flow(key)}:' + ('' if is_section else f' {flow(value)}')
        comment = rule.get('description', '')
        beside = f'{line:<{COLUMN}}  # {comment}' if comment else line
        if len(beside) <= WIDTH or not comment:
            lines.append(beside)
        else:  # above
            lead = f'{indent}# '
            lines += [*textwrap.wrap(comment, WIDTH, initial_indent=lead, subsequent_indent=lead), line]
        if is_section:
            lines += [*_lines(value, rule, (*path, key)), *[''] * (path == ())]
    return lines


class _Dumper(yaml.SafeDumper):
    """Quotes the texts that ``OptionLoader`` would read as something else, and no others."""

    yaml_implicit_resolvers = OptionLoader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_plain(self, data: str | None) -> yaml.Node:
        style = None if data is None or data.isprintable() else '"'  # on one line
        return self.represent_scalar(TAG + ('null' if data is None else 'str'), '~' if data is None else data, style)


for _type in (str, type(None)):
    _Dumper.add_representer(_type, _Dumper.represent_plain)
