"""The sections of an option file that this package owns, as JSON Schema, from ``schema.yml`` beside this file.

What ``load_options`` refuses and fills in, the schema for editors, the printed reference and the comments in a printed
option file all come from here.
"""

from pathlib import Path
from typing import Any

import yaml

Section = dict[str, Any]  # the JSON Schema of a section or of one key


def choice(kind: str) -> Section:
    """A section ``{type: <registered name>, <its arguments>}``; ``kind`` is one of ``sections.KINDS``."""
    return {'type': 'object', 'allOf': [{'$ref': f'#/definitions/{kind}'}]}


def _section(keys: dict[str, Section]) -> Section:
    """A section of ``keys`` and no others."""
    required = [key for key, rule in keys.items() if 'default' not in rule]
    rules = {key: _rule(rule) for key, rule in keys.items()}
    return {'type': 'object', 'properties': rules, 'required': required, 'additionalProperties': False}


def _rule(short: Any) -> Any:
    """The JSON Schema of an entry of ``schema.yml``."""
    rule = dict(short)
    if 'keys' in short:
        rule |= _section(rule.pop('keys'))
    if 'choice' in short:
        rule |= choice(rule.pop('choice'))
    if 'patternProperties' in short:
        rule['patternProperties'] = {key: _rule(each) for key, each in short['patternProperties'].items()}
    for key in ('additionalProperties', 'items'):
        if isinstance(short.get(key), dict):
            rule[key] = _rule(short[key])
    if short.get('default', ...) is None:
        if 'enum' in rule:
            rule['enum'] = [*rule['enum'], None]
        elif 'anyOf' in rule:
            rule['anyOf'] = [*rule['anyOf'], {'type': 'null'}]
        else:
            rule['type'] = [rule['type'], 'null']
    return rule


def _open(section: Section, **kinds: str) -> Section:
    """The section that takes other keys, too; those with a prefix (``network_``) or ending are of a kind."""
    patterns = {
        f'^{key}.+$' if key.endswith('_') else f'^.+{key}$': choice(kind) | {'type': ['object', 'null']}
        for key, kind in kinds.items()
    }
    return section | {'additionalProperties': True, 'patternProperties': patterns}


def _options(own: bool) -> Section:
    """A whole file, for this package's models or for BasicSR's other ones, which read further keys."""
    top = _section(_SHORT['top'])
    keys = top['properties']
    metric = keys['val']['properties']['metrics']
    metric['additionalProperties'] = choice('metrics' if own else 'foreign_metrics') | {'type': ['object', 'null']}
    if own:
        keys['train']['properties'] |= OWN_TRAIN
        keys['val']['properties'] |= {key: _rule(rule) for key, rule in _SHORT['own_val'].items()}
        return top | {'description': 'An option file of `model_type: DenoisingModel`.'}
    keys['path'], keys['val'] = _open(keys['path']), _open(keys['val'])
    keys['train'] = _open(keys['train'], optim_='optimizers', _opt='losses')
    return _open(top, network_='networks') | {'description': "An option file of BasicSR's other models."}


# the C loader, where there is one, takes a tenth of the time
_LOADER = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
_SHORT = yaml.load((Path(__file__).parent / 'schema.yml').read_text(encoding='utf-8'), _LOADER)
ARGUMENTS: dict[str, dict[str, Section]] = _SHORT['arguments']
BASE, BETTER = _rule(_SHORT['base']), _rule(_SHORT['better'])
OWN_TRAIN = {key: _rule(rule) for key, rule in _SHORT['own_train'].items()}  # what this package's models alone read
OWN, FOREIGN = _options(own=True), _options(own=False)
# for training, and for validation and tests
OWN_SETS = {name: (_rule(each['train']), _rule(each['test'])) for name, each in _SHORT['sets'].items()}
FOREIGN_SETS = OWN_SETS.pop('foreign')
