"""The option reference as text for a terminal, and as Markdown for the documentation."""

import re
import textwrap
from collections.abc import Collection, Iterator
from itertools import groupby
from typing import NamedTuple

from basicsr.utils.registry import MODEL_REGISTRY

from ne_basicsr.options.printing import flow
from ne_basicsr.options.schema import BASE, OWN, Section
from ne_basicsr.options.sections import KINDS, is_wrapped, registered, section_of, sections_of
from ne_basicsr.options.validation import TYPES, kinds_of
from ne_basicsr.utils.errors import InputError
from ne_basicsr.utils.words import hint

WIDTH = 120
BOUNDS = {'minimum': '>=', 'exclusiveMinimum': '>', 'maximum': '<=', 'exclusiveMaximum': '<'}


class Listed(NamedTuple):
    """A section of the reference: the heading that it belongs under, and its place in an option file or its type."""

    group: str
    name: str
    section: Section


def entries() -> list[Listed]:
    """Everything that an option file may hold, in the order of the file."""
    in_tests = section_of('test_sets', 'DenoisingDataset') | {'description': 'The same for val_1, test_1 ...'}
    found = [
        *_own('top level', OWN | {'properties': OWN['properties'] | {'base': BASE}}),
        *_own('datasets:train', section_of('train_sets', 'DenoisingDataset')),
        *_own('datasets:val', in_tests),
    ]
    for kind, about in KINDS.items():
        for name, section in sections_of(kind).items() if about.heading else ():
            repeated = is_wrapped(name) if kind == 'networks' else name == 'DenoisingDataset'
            if not repeated and not name.endswith('_basicsr'):
                described = {'description': section['properties']['type']['description'].replace('``', '`')}
                found.append(Listed(about.heading, name, section | described))
    return found


def chosen(found: list[Listed], names: Collection[str]) -> list[Listed]:
    """The entries called ``names``, and those inside them; without names all. ``XWNE`` is X and ``WNE``."""
    kept: list[Listed] = []
    for name in names:
        wanted = [name.removesuffix('WNE'), 'WNE'] if is_wrapped(name) else [name]
        some = [e for e in found if e.name in wanted or e.name.startswith(f'{name}:')]
        some = some or [e for e in found if name in _group_names(e.group)]
        if not some:
            known = {'files', *(e.name for e in found)}.union(*(_group_names(e.group) for e in found))
            raise InputError(f'options: no section, network, loss ... is called {name!r}; {hint(name, known)}')
        kept += [entry for entry in some if entry not in kept]
    return kept if names else found


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)


def as_text(found: list[Listed]) -> str:
    """For a terminal."""
    lines: list[str] = []
    for group, members in groupby(found, lambda entry: entry.group):
        lines += ['', f'== {group} ==']
        for entry in members:
            lines += ['', entry.name, *_wrapped(entry.section.get('description', ''), indent='  ')]
            for key, kind, default, description in _rows(entry):
                told = {None: '', '': ', required'}.get(default, f', default {default}')
                lines += [f'    {key}: {kind}{told}', *_wrapped(description, indent=8 * ' ')]
    return '\n'.join(lines).lstrip('\n')


def as_markdown(found: list[Listed]) -> str:
    """For the documentation: a table for each section."""
    models = ', '.join(f'`{name}`' for name in sorted(registered(MODEL_REGISTRY)) if not name.endswith('_basicsr'))
    which = f'`model_type` is one of {models}. What follows is for `DenoisingModel`, unless it says otherwise.'
    lines = ['# Options', '', 'Written by `basicsr options --list --markdown`.', '', which, '']
    for group, members in groupby(found, lambda entry: entry.group):
        lines += [f'## {_cell(group)}', '']
        if group.startswith('Networks'):
            twins = "Every image-to-image network X is also there as `XWNE`, with the options of `WNE` beside X's."
            lines += [twins, '']
        for entry in members:
            about = _cell(entry.section.get('description', ''))
            lines += [f'### `{entry.name}`', '', *([about, ''] if about else [])]
            lines += ['| key | type | default | description |', '|---|---|---|---|']
            for key, kind, default, description in _rows(entry):
                told = {None: '', '': '*required*'}.get(default, f'`{default}`')
                lines.append(f'| `{key}` | {_cell(kind)} | {_cell(told)} | {_cell(description)} |')
            lines.append('')
    return '\n'.join(lines)


def _own(name: str, section: Section) -> Iterator[Listed]:
    """A section of ``schema.py`` and the sections inside it."""
    yield Listed('Sections', name, section)
    prefix = '' if name == 'top level' else f'{name}:'
    for key, inner in section['properties'].items():
        if 'properties' in inner:
            yield from _own(prefix + key, inner)


def _group_names(group: str) -> list[str]:
    """What a group is called: the place in its heading's brackets, and its first word."""
    word, _, places = group.partition(' (')
    return [word.lower(), *filter(None, places.rstrip(')').split(', '))]


def _rows(entry: Listed) -> Iterator[tuple[str, str, str | None, str]]:
    """Key, type, default (None where there is none to tell, '' where the key is required), description."""
    for key, rule in entry.section['properties'].items():
        default = '' if key in entry.section['required'] else None
        if rule.get('default', {}) != {}:
            default = flow(rule['default'])
        if 'const' not in rule:
            yield key, _kind(rule), default, rule.get('description', '')


def _kind(rule: Section) -> str:
    """A JSON Schema in words: `integer >= 1 or null`."""
    if 'const' in rule:
        return flow(rule['const'])
    if 'enum' in rule:
        return ' | '.join(flow(value) for value in rule['enum'])
    if 'anyOf' in rule:
        return ' or '.join(dict.fromkeys(_kind(option) for option in rule['anyOf']))
    names = []
    for kind in sorted(kinds_of(rule), key=lambda kind: kind == 'null'):
        name = re.sub('^an? ', '', TYPES[kind])
        if kind == 'array':
            word, space, bounds = _kind(rule.get('items', {})).partition(' ')
            name = f'list of {word}s{space}{bounds}' if word in ('text', 'integer', 'number') else 'list'
        elif kind in ('integer', 'number'):
            name += ''.join(f' {sign} {rule[key]:g}' for key, sign in BOUNDS.items() if key in rule)
        names.append(name)
    return ' or '.join(names) or 'any'


def _cell(text: str) -> str:
    return re.sub(r'([|<])', r'\\\1', text)
