"""The JSON Schema of option files, for editors: names, types, values and descriptions while a file is written.

An option file with a ``base`` holds any part of the options. So each section is described twice: its shape, in which
every key may be left out, or null, which removes it from the base; and what makes it complete, which a file without
``base`` must be. Most of what joins several keys, and what is on disk, only ``load_options`` knows.
"""

import json
from typing import Any

import torch
from basicsr.utils.registry import MODEL_REGISTRY

from ne_basicsr.options.schema import BASE, FOREIGN, OWN, RULES, Section
from ne_basicsr.options.sections import KINDS, registered, sections_of
from ne_basicsr.options.validation import OWN_MODELS, kinds_of

COMMAND = 'basicsr options --schema'
OF_TORCH = ('optimizers', 'schedulers')  # what depends on the version of torch
NULL = {'type': 'null'}
# errorMessage is what VS Code and yaml-language-server show
UNKNOWN = NULL | {'errorMessage': 'This type has no such option; null would remove one of the base.'}
LINE = 400  # characters, which hold an option with its description


def editor_schema() -> dict[str, Any]:
    """The whole schema, draft 7, which editors know."""
    foreign_model = {'required': ['model_type'], 'properties': {'model_type': {'not': {'enum': [*OWN_MODELS, None]}}}}
    has_base = {'required': ['base'], 'properties': {'base': {'type': 'string'}}}
    definitions: dict[str, Any] = {'unknown': UNKNOWN} | {kind: _choice(kind) for kind in KINDS}
    for kind, file in (('own', OWN), ('foreign', FOREIGN)):
        model = file['properties']['model_type'] | {'enum': sorted(registered(MODEL_REGISTRY))}
        whole = file | {'properties': {'base': BASE} | file['properties'] | {'model_type': model}}
        definitions[kind] = {part: _part(whole, part) for part in ('shape', 'complete')}
    return {
        '$schema': 'http://json-schema.org/draft-07/schema#',
        '$comment': f'Written by `{COMMAND}`; {" and ".join(OF_TORCH)} are those of torch {torch_version()}.',
        'title': 'Option file of ne_basicsr',
        'description': 'What `basicsr train -opt` and `basicsr test -opt` take. A file with base and without model_type'
        f' counts as one of {OWN_MODELS[0]}.',
        'type': 'object',
        'if': foreign_model,
        'then': {'allOf': [_ref('foreign', 'shape'), {'if': has_base, 'else': _ref('foreign', 'complete')}]},
        'else': {'allOf': [_ref('own', 'shape'), {'if': has_base, 'else': _ref('own', 'complete')}]},
        'allOf': RULES,
        'definitions': definitions,
    }


def editor_schema_text() -> str:
    """The schema as it is written to a file."""
    return _spread(editor_schema()) + '\n'


def torch_version() -> str:
    return '.'.join(torch.__version__.split('.')[:2])


def _spread(value: Any, indent: str = '', lead: str = '') -> str:
    """JSON with one line for what fits on it, so that a changed option is a changed line."""
    line = indent + lead + json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or len(line) < LINE:
        return line
    named = [(f'{json.dumps(key)}: ', each) for key, each in value.items()] if isinstance(value, dict) else []
    items = [_spread(each, indent + ' ', name) for name, each in named or [('', each) for each in value]]
    first, last = '{}' if named else '[]'
    return f'{indent}{lead}{first}\n' + ',\n'.join(items) + f'\n{indent}{last}'


def _choice(kind: str) -> dict[str, Any]:
    """A section by its type: ``shape`` and ``complete``, which pick among ``types``."""
    sections = sections_of(kind)
    is_type = {
        name: {'type': 'object', 'properties': {'type': {'const': name}}, 'required': ['type']} for name in sections
    }
    return {
        'shape': {
            'type': ['object', 'null'],
            'properties': {'type': {'enum': [*sections, None]}},
            'allOf': [{'if': is_type[name], 'then': _ref(kind, 'types', name)} for name in sections],
        },
        'complete': {
            'required': ['type'],
            'properties': {'type': {'not': NULL}},
            'allOf': [{'if': is_type[name], 'then': _part(each, 'complete')} for name, each in sections.items()],
        },
        'types': {  # a file that changes the type of its base removes, by null, what the new type does not know
            name: {key: rule for key, rule in _part(section, 'shape').items() if key != 'title'}
            | ({} if section['additionalProperties'] else {'additionalProperties': _ref('unknown')})
            for name, section in sections.items()
        },
    }


def _part(section: Section, part: str) -> Section:
    """A section as ``shape``, where every key may be left out or null, or the rules that make it ``complete``."""
    is_shape, takes_null = part == 'shape', _takes_null(section) or 'const' in section
    found = {key: rule for key, rule in section.items() if is_shape and key not in ('required', 'examples', 'choice')}
    if not (is_shape or takes_null):
        found['not'] = NULL
    for keys in ('properties', 'patternProperties'):
        rules = {key: _part(rule, part) for key, rule in section.get(keys, {}).items()}
        if any(rules.values()):
            found[keys] = {key: rule for key, rule in rules.items() if rule or is_shape}
    if isinstance(section.get('additionalProperties'), dict):
        found['additionalProperties'] = _part(section['additionalProperties'], part)
    if 'choice' in section:
        found['allOf'] = [_ref(section['choice'], part)]
    if is_shape and not takes_null:
        more = {'type': [*kinds_of(section), 'null'], 'enum': [*section.get('enum', ()), None]}
        more['anyOf'] = [*section.get('anyOf', ()), NULL]
        found |= {key: rule for key, rule in more.items() if key in section}
    elif not is_shape and section.get('required'):
        found['required'] = section['required']
    return found


def _ref(*path: str) -> Section:
    return {'$ref': '#/definitions/' + '/'.join(path)}


def _takes_null(section: Section) -> bool:
    if 'enum' in section:
        return None in section['enum']
    if 'anyOf' in section:
        return any(_takes_null(option) for option in section['anyOf'])
    return 'const' not in section and ('type' not in section or 'null' in kinds_of(section))
