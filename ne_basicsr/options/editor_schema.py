"""The JSON Schema of option files, for editors: names, types, values and descriptions while a file is written.

An option file with a ``base`` holds any part of the options. So each section is described twice: its shape, in which
every key may be left out, or null, which removes it from the base; and what makes it complete, which a file without
``base`` must be. What joins several keys, and what is on disk, only ``load_options`` knows.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import torch

from ne_basicsr.options import reference, schema
from ne_basicsr.options.reference import Section
from ne_basicsr.options.validation import OWN_MODELS, OWN_SETS

COMMAND = 'basicsr options --schema'
OF_TORCH = ('optimizers', 'schedulers')  # what depends on the version of torch
BASE = {
    'type': ['string', 'null'],
    'description': 'Option file that this one differs from, relative to it: sections are merged, lists are replaced,'
    ' null removes a key.',
}
NULL = {'type': 'null'}
# errorMessage is what VS Code and yaml-language-server show
UNKNOWN = NULL | {'errorMessage': 'This type has no such option; null would remove one of the base.'}
LINE = 400  # characters, which hold an option with its description


def editor_schema() -> dict[str, Any]:
    """The whole schema, draft 7, which editors know."""
    strict, foreign = schema.Options, schema.ForeignOptions
    is_foreign = _model_is({'not': {'enum': list(OWN_MODELS)}})
    denoising, clean = {'const': 'DenoisingModel'}, {'const': 'DenoisingDataset'}
    has_base = {'required': ['base'], 'properties': {'base': {'type': 'string'}}}
    return {
        '$schema': 'http://json-schema.org/draft-07/schema#',
        '$comment': f'Written by `{COMMAND}`; {" and ".join(OF_TORCH)} are those of torch {torch_version()}.',
        'title': 'Option file of ne_basicsr',
        'description': 'What `basicsr train -opt` and `basicsr test -opt` take. A file with base and without model_type'
        f' counts as one of {OWN_MODELS[0]}.',
        'type': 'object',
        'if': is_foreign,
        'then': {'allOf': [_ref('foreign', 'shape'), {'if': has_base, 'else': _ref('foreign', 'complete')}]},
        'else': {'allOf': [_ref('own', 'shape'), {'if': has_base, 'else': _ref('own', 'complete')}]},
        'allOf': [  # which data sets go with which model
            {'if': _model_is(denoising), 'then': _sets_are({'anyOf': [clean, NULL]})},
            {'if': _model_is({'not': denoising}), 'then': _sets_are({'not': clean})},
            {'if': is_foreign, 'then': _sets_are({'not': {'enum': list(OWN_SETS)}})},
        ],
        'definitions': {
            'unknown': UNKNOWN,
            'own': {'shape': _shape_of_file(strict), 'complete': _complete_file(strict)},
            'foreign': {'shape': _shape_of_file(foreign), 'complete': _complete_file(foreign)},
            'networks': _choice('networks', reference.networks()),
            'losses': _choice('losses', reference.losses()),
            'metrics': _choice('metrics', reference.metrics(strict=True)),
            'foreign_metrics': _choice('foreign_metrics', reference.metrics(strict=False)),
            'optimizers': _choice('optimizers', reference.optimizers()),
            'schedulers': _choice('schedulers', reference.schedulers()),
            'train_sets': _choice('train_sets', reference.data_sets(training=True)),
            'test_sets': _choice('test_sets', reference.data_sets(training=False)),
        },
    }


def editor_schema_text() -> str:
    """The schema as it is written to a file."""
    return _spread(editor_schema()) + '\n'


def torch_version() -> str:
    return '.'.join(torch.__version__.split('.')[:2])


def _spread(value: Any, indent: str = '', lead: str = '') -> str:
    """JSON with one line for what fits on it, so that a changed option is a changed line."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or len(indent) + len(lead) + len(line) < LINE:
        return indent + lead + line
    if isinstance(value, dict):
        items = [_spread(item, indent + ' ', f'{json.dumps(key)}: ') for key, item in value.items()]
        return f'{indent}{lead}{{\n' + ',\n'.join(items) + f'\n{indent}}}'
    return f'{indent}{lead}[\n' + ',\n'.join(_spread(item, indent + ' ') for item in value) + f'\n{indent}]'


def _choice(kind: str, sections: Mapping[str, Section]) -> dict[str, Any]:
    """A section by its type: ``shape`` and ``complete``, which pick among ``types``."""
    shape = [{'if': _is_type(name), 'then': _ref(kind, 'types', name)} for name in sections]
    complete = [
        {'if': _is_type(name), 'then': _linked(_complete(section), 'complete')} for name, section in sections.items()
    ]
    return {
        'shape': {
            'type': ['object', 'null'],
            'properties': {'type': {'enum': [*sections, None]}},
            'allOf': shape,
        },
        'complete': {'required': ['type'], 'properties': {'type': {'not': NULL}}, 'allOf': complete},
        'types': {name: _linked(_shape_of_type(section), 'shape') for name, section in sections.items()},
    }


def _shape_of_type(section: Section) -> Section:
    """A file that changes the type of its base removes, by null, what the new type does not know."""
    shape = _shape(section)
    return shape | ({} if shape['additionalProperties'] else {'additionalProperties': _ref('unknown')})


def _shape_of_file(model: type[schema.Options]) -> Section:
    section = reference.own_section(model)
    section['properties'] = {'base': BASE} | section['properties']
    section['properties']['model_type'] |= {'enum': list(reference.models())}
    return _with_choices(_shape(section), model, 'shape')


def _complete_file(model: type[schema.Options]) -> Section:
    return _with_choices(_complete(reference.own_section(model)), model, 'complete')


def _with_choices(section: Section, model: type[schema.Options], part: str) -> Section:
    """A whole file's schema, with what registries decide put in.

    Args:
        model: ``Options``, or ``ForeignOptions``, which may have further networks, optimizers and losses.
        part: ``shape`` or ``complete``.
    """
    strict = model is schema.Options
    top = section['properties']
    _link(top, 'network_g', 'networks', part)
    patterns = {pattern: sections.__name__ for pattern, sections in reference.TRAIN_SECTIONS.items()}
    train = top['train']['properties']
    for key in train:
        for pattern, kind in patterns.items():
            if re.search(pattern, key):
                _link(train, key, kind, part)
    if not strict:
        section['patternProperties'] = {'^network_.+$': _ref('networks', part)}
        top['train']['patternProperties'] = {pattern: _ref(kind, part) for pattern, kind in patterns.items()}
    metrics = 'metrics' if strict else 'foreign_metrics'
    top['val']['properties']['metrics'] = _without_inside(top['val']['properties'].get('metrics', {}))
    top['val']['properties']['metrics']['additionalProperties'] = _ref(metrics, part)
    top['datasets'] = _without_inside(top['datasets']) | {
        'patternProperties': {'^train$': _ref('train_sets', part), '^(val|test)(_.*)?$': _ref('test_sets', part)}
    }
    if part == 'shape':
        top['datasets']['additionalProperties'] = False
    return section


def _model_is(rule: Section) -> Section:
    return {'required': ['model_type'], 'properties': {'model_type': {'type': 'string'} | rule}}


def _sets_are(rule: Section) -> Section:
    return {'properties': {'datasets': {'additionalProperties': {'properties': {'type': rule}}}}}


def _shape(section: Section) -> Section:
    """The section where every key may be left out or null."""
    shape = {key: value for key, value in section.items() if key != 'required'}
    if 'properties' in section:
        shape['properties'] = {key: _shape(value) for key, value in section['properties'].items()}
    if _takes_null(section) or 'const' in section:
        return shape
    if 'enum' in section:
        shape['enum'] = [*section['enum'], None]
    if 'type' in section:
        shape['type'] = [*_listed(section['type']), 'null']
    elif 'anyOf' in section:
        shape['anyOf'] = [*section['anyOf'], NULL]
    return shape


def _complete(section: Section) -> Section:
    """What ``_shape`` leaves out: the keys that must be there, and those that cannot be null."""
    rules: Section = {} if _takes_null(section) or 'const' in section else {'not': NULL}
    if 'properties' in section:
        inner = {key: _complete(value) for key, value in section['properties'].items()}
        rules['required'] = section.get('required', [])
        rules['properties'] = {key: value for key, value in inner.items() if value}
    return rules


def _linked(section: Section, part: str) -> Section:
    """A network's section with the network inside it by reference."""
    if 'backbone' in section['properties']:
        _link(section['properties'], 'backbone', 'networks', part)
    return section


def _link(properties: dict[str, Any], key: str, kind: str, part: str) -> None:
    inside = _without_inside(properties.get(key, {}))
    properties[key] = inside | {'allOf': [_ref(kind, part)]}  # in draft 7 nothing beside a $ref counts


def _without_inside(section: Section) -> Section:
    return {key: value for key, value in section.items() if key not in ('additionalProperties', 'properties')}


def _ref(*path: str) -> Section:
    return {'$ref': '#/definitions/' + '/'.join(path)}


def _is_type(name: str) -> Section:
    return {'properties': {'type': {'const': name}}, 'required': ['type']}


def _takes_null(section: Section) -> bool:
    if 'enum' in section:
        return None in section['enum']
    if 'anyOf' in section:
        return any(_takes_null(option) for option in section['anyOf'])
    return 'type' not in section or 'null' in _listed(section['type'])


def _listed(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]
