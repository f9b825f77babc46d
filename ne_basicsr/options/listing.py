"""The option reference as text for a terminal, and as Markdown for the documentation."""

import re
import textwrap
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from ne_basicsr.options import reference, schema
from ne_basicsr.options.printing import flow
from ne_basicsr.options.reference import Section
from ne_basicsr.options.sections import hint
from ne_basicsr.utils.errors import InputError

WIDTH = 120
MISSING = object()


class Entry(NamedTuple):
    """A section of the reference.

    Attributes:
        group: heading that it belongs under.
        name: its place in an option file, or the type that it is the section of.
        keys: what it may hold, as JSON Schemas.
    """

    group: str
    name: str
    description: str
    keys: dict[str, Section]
    required: Collection[str]


def entries() -> list[Entry]:
    """Everything that an option file may hold, in the order of the file."""
    training, testing = (reference.data_sets(t)['DenoisingDataset'] for t in (True, False))
    own = [
        *_own('Sections', 'top level', reference.own_section(schema.Options)),
        *_own('Sections', 'datasets:train', training),
        *_own('Sections', 'datasets:val', testing | {'description': 'The same for val_1, test_1 ...'}),
    ]
    base = {
        'type': ['string', 'null'],
        'default': None,
        'description': 'Option file that this one differs from, relative to it.',
    }
    own[0].keys['base'] = base
    groups = {
        'Networks (network_g)': {n: s for n, s in reference.networks().items() if not reference.is_wrapped(n)},
        'Losses (train:pixel_opt, train:perceptual_opt)': reference.losses(),
        'Optimizers (train:optim_g)': reference.optimizers(),
        'Schedulers (train:scheduler)': reference.schedulers(),
        'Metrics (val:metrics)': reference.metrics(strict=True),
        "Data sets of BasicSR's models (datasets:train)": _foreign(training=True),
        "Data sets of BasicSR's models (datasets:val)": _foreign(training=False),
    }
    listed = [_entry(group, name, s) for group, sections in groups.items() for name, s in sections.items()]
    return [*own, *(entry for entry in listed if not entry.name.endswith('_basicsr'))]


def chosen(found: list[Entry], names: Collection[str]) -> list[Entry]:
    """The entries called ``names``, and those inside them; all where no name is given. ``XWNE`` is X and ``WNE``.

    Raises:
        InputError: a name that there is none of.
    """
    if not names:
        return found
    kept: list[Entry] = []
    for name in names:
        wanted = [name.removesuffix('WNE'), 'WNE'] if reference.is_wrapped(name) else [name]
        some = [e for e in found if e.name in wanted or e.name.startswith(f'{name}:')]
        some = some or [e for e in found if name in _group_names(e.group)]
        if not some:
            known = {e.name for e in found}.union(*(_group_names(e.group) for e in found))
            raise InputError(f'options: no section, network, loss ... is called {name!r}; {hint(name, known)}')
        kept += [entry for entry in some if entry not in kept]
    return kept


def _group_names(group: str) -> list[str]:
    """What a group is called: the place in its heading's brackets, and its first word."""
    word, _, places = group.partition(' (')
    return [word.lower(), *filter(None, places.rstrip(')').split(', '))]


def as_text(found: list[Entry]) -> str:
    """For a terminal."""
    lines: list[str] = []
    group = None
    for entry in found:
        if entry.group != group:
            group = entry.group
            lines += ['', f'== {group} ==']
        lines += ['', entry.name, *textwrap.wrap(entry.description, WIDTH, initial_indent='  ', subsequent_indent='  ')]
        for key, kind, default, description in _rows(entry):
            what = kind if default is MISSING else f'{kind}, default {default}' if default else f'{kind}, required'
            lines += [f'    {key}: {what}']
            lines += textwrap.wrap(description, WIDTH, initial_indent=' ' * 8, subsequent_indent=' ' * 8)
    return '\n'.join(lines).lstrip('\n')


def as_markdown(found: list[Entry]) -> str:
    """For the documentation: a table for each section."""
    lines = ['# Options', '', 'Written by `basicsr options --list --markdown`.', '', _models(), '']
    group = None
    for entry in found:
        if entry.group != group:
            group = entry.group
            lines += [f'## {_cell(group)}', '']
            if group.startswith('Networks'):
                lines += [
                    "Every image-to-image network X is also there as `XWNE`, with the options of `WNE` beside X's.",
                    '',
                ]
        lines += [f'### `{entry.name}`', '', *([_cell(entry.description), ''] if entry.description else [])]
        lines += ['| key | type | default | description |', '|---|---|---|---|']
        for key, kind, default, description in _rows(entry):
            shown = '' if default is MISSING else f'`{default}`' if default else '*required*'
            lines.append(f'| `{key}` | {_cell(kind)} | {_cell(shown)} | {_cell(description)} |')
        lines.append('')
    return '\n'.join(lines)


def kind_of(section: Section) -> str:
    """A JSON Schema in words: `an integer of at least 1`, without the article."""
    if 'const' in section:
        return flow(section['const'])
    if 'enum' in section:
        return ' | '.join(flow(value) for value in section['enum'])
    if 'anyOf' in section:
        return ' or '.join(dict.fromkeys(kind_of(option) for option in section['anyOf']))
    types = section.get('type', [])
    names = [_type_name(kind, section) for kind in ([types] if isinstance(types, str) else types)]
    return ' or '.join(sorted(names, key=lambda name: name == 'null')) or 'any'


def _type_name(kind: str, section: Section) -> str:
    if kind == 'array':
        inside = kind_of(section['items']) if 'type' in section.get('items', {}) else ''
        return f'list of {inside}s' if inside and ' ' not in inside else 'list'
    name = {'string': 'text', 'boolean': 'true or false', 'object': 'section'}.get(kind, kind)
    if kind in ('integer', 'number'):
        bounds = {'minimum': '>=', 'exclusiveMinimum': '>', 'maximum': '<=', 'exclusiveMaximum': '<'}
        name += ''.join(f' {sign} {section[key]:g}' for key, sign in bounds.items() if key in section)
    return name


def _own(group: str, name: str, section: Section) -> Iterator[Entry]:
    """A section of ``schema.py`` and the sections inside it."""
    yield _entry(group, name, section)
    prefix = '' if name == 'top level' else f'{name}:'
    for key, inner in section['properties'].items():
        if 'properties' in inner:
            yield from _own(group, prefix + key, inner)


def _entry(group: str, name: str, section: Section) -> Entry:
    keys = {key: value for key, value in section['properties'].items() if 'const' not in value}
    return Entry(group, name, section.get('description', '').replace('``', '`'), keys, section.get('required', ()))


def _foreign(training: bool) -> dict[str, Section]:
    found = reference.data_sets(training)
    return {
        name: section | {'description': section['properties']['type']['description']}
        for name, section in found.items()
        if name != 'DenoisingDataset'
    }


def _rows(entry: Entry) -> Iterator[tuple[str, str, Any, str]]:
    """Key, type, default (``MISSING`` where there is none to tell, '' where the key is required), description."""
    for key, section in entry.keys.items():
        default = flow(section['default']) if 'default' in section else '' if key in entry.required else MISSING
        yield key, kind_of(section), default, section.get('description', '')


def _models() -> str:
    named = ', '.join(f'`{name}`' for name in reference.models() if not name.endswith('_basicsr'))
    return f'`model_type` is one of {named}. What follows is for `DenoisingModel`, unless it says otherwise.'


def _cell(text: str) -> str:
    return re.sub(r'([|<])', r'\\\1', text)
