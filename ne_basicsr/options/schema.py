"""The sections of an option file that this package owns, as JSON Schema, from ``schema.yml`` beside this file.

What ``load_options`` refuses and fills in, the schema for editors, the printed reference and the comments in a printed
option file all come from here.
"""

from pathlib import Path
from typing import Any

import yaml

Section = dict[str, Any]  # the JSON Schema of a section or of one key


def choice(kind: str, optional: bool = False) -> Section:
    """A section ``{type: <registered name>, <its arguments>}``; ``kind`` is one of ``sections.KINDS``."""
    return {'type': ['object', 'null'] if optional else 'object', 'choice': kind}


def _rule(short: Any) -> Any:
    """The JSON Schema of an entry of ``schema.yml``."""
    if not isinstance(short, dict):
        return short
    rule = dict(short)
    for key in ('additionalProperties', 'items'):
        if key in short:
            rule[key] = _rule(short[key])
    if 'patternProperties' in short:
        rule['patternProperties'] = {key: _rule(each) for key, each in short['patternProperties'].items()}
    if 'choice' in short:
        rule['type'] = 'object'
    if keys := rule.pop('keys', None):
        required = [key for key, each in keys.items() if 'default' not in each]
        properties = {key: _rule(each) for key, each in keys.items()}
        rule |= {'type': 'object', 'properties': properties, 'required': required, 'additionalProperties': False}
    if short.get('default', ...) is None:
        if 'enum' in rule:
            rule['enum'] = [*rule['enum'], None]
        elif 'anyOf' in rule:
            rule['anyOf'] = [*rule['anyOf'], {'type': 'null'}]
        else:
            rule['type'] = [rule['type'], 'null']
    return rule


def _options(own: bool) -> Section:
    """A whole file, for this package's models or for BasicSR's other ones, which read further keys."""
    top = _rule({'keys': _SHORT['top']})
    keys = top['properties']
    keys['val']['properties']['metrics']['additionalProperties'] = choice('metrics' if own else 'foreign_metrics', True)
    if own:
        keys['train']['properties'] |= OWN_TRAIN
        keys['val']['properties'] |= {key: _rule(rule) for key, rule in _SHORT['own_val'].items()}
        return top | {'description': 'An option file of `model_type: DenoisingModel`.'}
    for section in (top, keys['path'], keys['train'], keys['val']):
        section['additionalProperties'] = True
    top['patternProperties'] = {'^network_.+$': choice('networks', True)}
    keys['train']['patternProperties'] = {'^optim_.+$': choice('optimizers', True), '^.+_opt$': choice('losses', True)}
    return top | {'description': "An option file of BasicSR's other models."}


# the C loader, where there is one, takes a tenth of the time
_LOADER = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
_SHORT = yaml.load((Path(__file__).parent / 'schema.yml').read_text(encoding='utf-8'), _LOADER)
ARGUMENTS: dict[str, dict[str, Section]] = _SHORT['arguments']
BASE, BETTER = _rule(_SHORT['base']), _rule(_SHORT['better'])
RULES: list[Section] = _SHORT['rules']  # of the whole file
OWN_TRAIN = {key: _rule(rule) for key, rule in _SHORT['own_train'].items()}  # what this package's models alone read
OWN, FOREIGN = _options(own=True), _options(own=False)
# for training, and for validation and tests
OWN_SETS = {name: (_rule(each['train']), _rule(each['test'])) for name, each in _SHORT['sets'].items()}
FOREIGN_SETS = OWN_SETS.pop('foreign')
