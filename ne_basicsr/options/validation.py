"""A whole option file against the schema, the registries, the sources of the classes it names, and the disk."""

import math
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import torch
from basicsr.utils.registry import DATASET_REGISTRY, MODEL_REGISTRY
from jsonschema import Draft7Validator, FormatChecker, ValidationError
from jsonschema.validators import extend

from ne_basicsr.options import paths, rules, source, trial
from ne_basicsr.options.schema import FOREIGN, OWN, OWN_SETS, RULES, Section, choice
from ne_basicsr.options.sections import find, lookup, registered, section_of
from ne_basicsr.utils.errors import Key, OptionError, leaves
from ne_basicsr.utils.words import hint, nearest, one_of, shown

OWN_MODELS = ('DenoisingModel', 'PairedDenoisingModel')  # all that these read is known
TYPES = {
    'integer': 'an integer', 'number': 'a number', 'boolean': 'true or false', 'string': 'a text', 'array': 'a list',
    'object': 'a section', 'null': 'null',
}  # fmt: skip
BOUNDS = {
    'minimum': 'at least', 'exclusiveMinimum': 'more than', 'maximum': 'at most', 'exclusiveMaximum': 'less than',
}  # fmt: skip
_NUMBER = re.compile(r'[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(inf|nan)', re.IGNORECASE)
_FORMATS = FormatChecker(formats=())
# Python's integers: JSON's include 2.0, which the constructor of a network need not take
_TYPES = Draft7Validator.TYPE_CHECKER.redefine('integer', lambda _, value: type(value) is int)
_Validator = extend(Draft7Validator, type_checker=_TYPES)


def validate(given: Mapping[str, Any], is_train: bool, here: bool, tried: bool = False) -> dict[str, Any]:
    """A checked copy of an option file's content, defaults filled in; an ``OptionError`` for the first wrong option.

    To run ``here``, its files and GPUs must be there; ``tried`` is a network that has been built and run before.
    """
    for key, value in leaves(given):
        if isinstance(value, float) and not math.isfinite(value):
            raise OptionError(key, f'a finite number is needed (1e308 is the largest); got {value}')
        if isinstance(value, int) and abs(value) >= 2**63:
            raise OptionError(key, f'a number of at most 18 digits is needed; got {shown(value)}')
    own, models = given.get('model_type') in OWN_MODELS, registered(MODEL_REGISTRY)
    schema = schema_of(given)
    opt = filled(given, schema)
    if opt.get('model_type') in [*models]:
        check(opt, {'allOf': RULES})  # first: which data sets go with which model explains what else is wrong
    check(opt, schema)
    model = lookup(models, opt['model_type'], ('model_type',), 'model')
    if not own:  # one of BasicSR's models, or of another package
        reads = source.option_reads(model, is_train)
        source.check_slips(opt, schema, reads, ())
        for name in ('path', 'train', 'val'):
            source.check_slips(opt[name] or {}, schema['properties'][name], reads, (name,), closed=name != 'train')
    if here:
        there = torch.cuda.device_count()
        asked = opt['num_gpu'] = there if opt['num_gpu'] == 'auto' else int(opt['num_gpu'])
        if asked > there:
            raise OptionError(('num_gpu',), f'{asked} asked for, {there} available; set num_gpu: 0 (CPU) or auto')
    _complete(opt, is_train)
    for name, section in opt['datasets'].items():
        opt['datasets'][name] = _completed_set(section, given['datasets'][name], ('datasets', name), opt['scale'])
        if here and (is_train or name != 'train'):
            paths.check_data(section, ('datasets', name))
    rules.check(opt)
    for name, section in opt.items():
        if name.startswith('network_') and section is not None:
            trial.check_arguments(section, (name,))
            if here:
                paths.check_network_files(section, (name,))
    if opt['train'] is not None:
        trial.check_training(opt['train'])
        needs_loss = own or 'Both pixel and perceptual losses are None.' in source.option_reads(model, True).texts
        if needs_loss and not (opt['train']['pixel_opt'] or opt['train']['perceptual_opt']):
            problem = 'missing: a loss, e.g. pixel_opt: {type: L1Loss} (or perceptual_opt)'
            raise OptionError(('train', 'pixel_opt'), problem)
    source.check_reads(opt, model, is_train)
    if here:
        paths.check_network_files(opt['path'], ('path',), 'pretrain_network.*' + ('|resume_state' if is_train else ''))
    if own and not tried:
        trial.check(opt, is_train, here)
    return {key: section for key, section in opt.items() if section is not None or key == 'manual_seed'}


def schema_of(opt: Mapping[str, Any]) -> Section:
    """The JSON Schema of these options, by their types; an ``OptionError`` for a type that is missing or unknown."""
    return resolved(OWN if opt.get('model_type') in OWN_MODELS else FOREIGN, opt)


def check_network(section: Any, key: Key) -> None:
    """One network's section, with the networks inside it; an ``OptionError`` for the first wrong option."""
    check(section, resolved(choice('networks'), section, key), key)
    trial.check_arguments(section, key)


def places_of(name: str, given: Mapping[str, Any]) -> list[Key]:
    """Where in an option file an option may be that is called ``name``."""

    def found(schema: Section, above: Key) -> Iterator[Key]:
        for key, rule in schema.get('properties', {}).items():
            yield from [(*above, key)] if key == name else found(rule, (*above, key))

    return list(found(schema_of(given), ()))


def inside(schema: Section, key: str) -> Section | None:
    """What a section's schema says about one of its keys; None for a key that it does not name."""
    patterns = schema.get('patternProperties', {})
    rules = (schema.get('properties', {}).get(key), *(patterns[each] for each in patterns if re.search(each, key)))
    further = schema.get('additionalProperties')
    return next((rule for rule in rules if rule is not None), further if isinstance(further, dict) else None)


def resolved(schema: Section, value: Any, key: Key = ()) -> Section:
    """The schema for ``value``, with the arguments of the registered types that ``value`` names."""
    plain = {name: rule for name, rule in schema.items() if name not in ('choice', 'patternProperties')}
    if not isinstance(value, Mapping):
        return plain
    if kind := schema.get('choice'):
        schema = plain = section_of(kind, find(kind, value, key)) | {'description': schema.get('description', '')}
    rules = {name: inside(schema, name) for name in [*schema.get('properties', {}), *value]}
    known = {name: resolved(rule, value.get(name), (*key, name)) for name, rule in rules.items() if rule is not None}
    return plain | {'properties': known, 'additionalProperties': schema.get('additionalProperties', True) is True}


def filled(value: Any, schema: Section) -> Any:
    """A copy with the defaults of this package's sections; those of networks and others are left to their classes.

    Floats such as ``5e3``, in YAML often meant as integers, become integers where the schema has bounds.
    """
    if isinstance(value, Mapping):
        known = schema.get('properties', {}) if schema.get('additionalProperties') or 'title' not in schema else {}
        merged = {key: rule['default'] for key, rule in known.items() if 'default' in rule} | {**value}
        order = dict.fromkeys([*(value if 'title' in schema else known), *merged])
        return {key: filled(merged[key], inside(schema, key) or {}) for key in order if key in merged}
    if isinstance(value, list):
        return [filled(item, schema.get('items', {})) for item in value]
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**63
    if is_whole and (value in schema.get('enum', ()) or ('minimum' in schema and 'integer' in kinds_of(schema))):
        return int(value)
    return deepcopy(value)


def check(value: Any, schema: Section, key: Key = ()) -> None:
    """Raises OptionError for the first problem; misspelt keys come before missing ones, which they explain."""
    errors = list(_Validator(schema, format_checker=_FORMATS).iter_errors(value))
    if errors:
        raise _in_words(min(errors, key=lambda error: error.validator != 'additionalProperties'), key)


def kinds_of(schema: Section) -> list[str]:
    """The JSON types that a key takes."""
    kinds = schema.get('type', [])
    return [kinds] if isinstance(kinds, str) else kinds


@_FORMATS.checks('folder-name')
def _is_folder_name(value: object) -> bool:
    if not isinstance(value, str):
        return True  # the type is wrong
    plain = value.strip() == value and value.isprintable() and not set('/\\') & set(value)
    return plain and value not in ('', '.', '..') and len(value.encode(errors='replace')) <= 200


def _in_words(error: ValidationError, above: Key) -> OptionError:
    """The library's report in this package's words."""
    schema, value, rule, limit = error.schema, error.instance, error.validator, error.validator_value
    path = list(error.absolute_path)
    key = (*above, *(str(part) for part in path if not isinstance(part, int)))
    name, known = schema.get('title'), schema.get('properties', {})
    if rule == 'additionalProperties':
        unknown = next(each for each in value if each not in known)
        if 'errorMessage' in schema:  # of names that follow a pattern
            near = nearest(unknown.partition('_')[0], schema['examples'])
            return OptionError((*key, unknown), schema['errorMessage'] + (f'; did you mean {near!r}?' if near else ''))
        said = f'{name} has no option {unknown!r}' if name else 'unknown option'
        return OptionError((*key, unknown), f'{said}; {hint(unknown, {*known} - ({"type"} if name else set()))}')
    if rule == 'required':
        absent = next(each for each in limit if each not in value)
        near = nearest(absent, [each for each in value if each not in known])
        if near:
            return OptionError((*key, near), f'unknown option; did you mean {absent!r}?')
        example = ''.join(f', e.g. {absent}: {each}' for each in known[absent].get('examples', ()))
        said = f'missing, and {name} needs it{example}' if name else f'missing: {known[absent]["description"]}'
        return OptionError((*key, absent), said)
    kinds = kinds_of(schema)
    if 'errorMessage' in schema:
        said = schema['errorMessage']
    elif rule == 'enum':
        return OptionError(key, one_of([str(each) for each in limit if each is not None], value))
    elif rule in BOUNDS:
        said = f'{BOUNDS[rule]} {limit:.10g} is needed'
    elif rule in ('minItems', 'maxItems'):
        bound = {schema.get('minItems'): 'at least ', schema.get('maxItems'): 'at most '}[limit]
        exact = schema.get('minItems') == schema.get('maxItems')
        said = f'a list of {"" if exact else bound}{limit} is needed'
    else:
        types = [kind for kind in kinds if kind != 'null'] or kinds
        said = ' or '.join(name for kind, name in TYPES.items() if kind in types) + ' is needed'
    way_out = ''
    if path and isinstance(path[-1], int):
        way_out = ' in it'
    elif isinstance(value, str) and ('integer' in said or 'number' in said) and _NUMBER.fullmatch(value.strip()):
        way_out = ' (remove the quotes)'
    elif said.startswith(('a text', 'a name', 'a plain folder name')) and isinstance(value, int | float):
        way_out = ' (put it in quotes)'
    elif said.startswith('a list') and not isinstance(value, list | dict | None):
        way_out = f' (write [{value}])'
    if type(value) is float and value.is_integer() and 'integer' in kinds and 'number' not in kinds:
        way_out += f' (write {int(value)})' if abs(value) < 2**63 else ' (at most 18 digits)'
    return OptionError(key, f'{said}; got {shown(value)}{way_out}')


def _completed_set(section: dict[str, Any], given: Mapping[str, Any], key: Key, scale: int) -> dict[str, Any]:
    """A data set with what BasicSR adds; nulls set nothing."""
    if section['type'] in OWN_SETS:
        kept = _without_nulls(section)
    else:
        training = key[1] == 'train'
        reads = source.option_reads(registered(DATASET_REGISTRY)[section['type']], training)
        source.check_slips(section, section_of('train_sets' if training else 'test_sets', section['type']), reads, key)
        kept = {name: item for name, item in section.items() if item is not None or name in given}
    return kept | {'phase': key[1].partition('_')[0], 'scale': scale}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _complete(opt: dict[str, Any], is_train: bool) -> None:
    """Check that the needed sections are there, and fill in the optional ones."""
    for key in ('logger', 'val'):
        if opt[key] is None and (key == 'logger' or not is_train):
            opt[key] = filled({}, OWN['properties'][key])
    if opt['val'] is not None:  # a null takes a metric away
        metrics = opt['val']['metrics'] or {}
        opt['val']['metrics'] = {label: metric for label, metric in metrics.items() if metric is not None} or None
    if is_train and opt['train'] is None:
        raise OptionError(('train',), 'missing: total_iter, optim_g, a loss such as pixel_opt')
    if is_train and 'train' not in opt['datasets']:
        raise OptionError(('datasets', 'train'), 'missing: the data to train on')
    if not is_train and not set(opt['datasets']) - {'train'}:
        raise OptionError(('datasets',), 'no data to test on; add a set called val, test or test_1')
    if opt['train'] is not None and opt['train']['scheduler'] is None:
        opt['train']['scheduler'] = {'type': 'MultiStepLR', 'milestones': []}  # a constant rate
