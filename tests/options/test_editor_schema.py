"""The schema for editors: up to date, true to what ``load_options`` takes, and useful against mistakes."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY
from jsonschema import Draft7Validator

from ne_basicsr.options import read_yaml
from ne_basicsr.options.editor_schema import COMMAND, OF_TORCH, editor_schema, editor_schema_text, torch_version
from ne_basicsr.options.reader import read_file, read_source
from ne_basicsr.options.sections import section_of
from ne_basicsr.utils.errors import InputError

OPTIONS = REPOSITORY / 'options'
SHIPPED = sorted(OPTIONS.rglob('*.yml'))
CORPUS = REPOSITORY / 'tests' / 'broken_options'
BROKEN = yaml.safe_load((CORPUS / 'table.yml').read_text(encoding='utf-8'))
RENEW = f'run: {COMMAND} options/schema.json'


@pytest.fixture(scope='module')
def validator() -> Draft7Validator:
    schema = editor_schema()
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


def problems(validator: Draft7Validator, options: Any) -> list[str]:
    return [
        f'{":".join(map(str, error.absolute_path))}: {error.message[:200]}' for error in validator.iter_errors(options)
    ]


# -- the committed file ------------------------------------------------------------------------------------------------


def test_the_committed_schema_is_up_to_date() -> None:
    committed = json.loads((OPTIONS / 'schema.json').read_text(encoding='utf-8'))
    current = editor_schema()
    if f'torch {torch_version()}.' not in committed['$comment']:
        for schema in (committed, current):  # another torch has other arguments
            schema.pop('$comment')
            for name in OF_TORCH:
                schema['definitions'].pop(name)
    assert committed == current, f'options/schema.json is out of date; {RENEW}'


def test_the_text_holds_the_schema_with_an_option_on_a_line() -> None:
    text = editor_schema_text()
    assert json.loads(text) == editor_schema()
    assert (
        '\n       "total_iter": {"type": ["integer", "null"], "minimum": 1, "maximum": 1000000000,'
        ' "description": "Training iterations."},\n' in text
    )


def test_shipped_files_name_the_schema_in_their_first_line() -> None:
    missing = []
    for path in SHIPPED:
        up = '../' * (len(path.relative_to(OPTIONS).parts) - 1)
        line = f'# yaml-language-server: $schema={up}schema.json'
        if path.read_text(encoding='utf-8').splitlines()[0] != line:
            missing.append(f"sed -i '1i {line}' {path.relative_to(REPOSITORY)}")
    assert not missing, 'run:\n' + '\n'.join(missing)


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: str(path.relative_to(OPTIONS)))
def test_shipped_files_fit(path: Path, validator: Draft7Validator) -> None:
    assert problems(validator, read_file(path)[0]) == [], f'if the options are right, {RENEW}'
    assert problems(validator, read_yaml(path)) == []


# -- against what is validated -----------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', ['denoising', 'esrgan', 'swinir', 'edvr'])
def test_files_that_load_fit(name: str, validator: Draft7Validator) -> None:
    assert problems(validator, read_yaml(CORPUS / f'{name}.yml')) == []


# what only the whole of the options, the disk, the machine or a constructor tells
UNKNOWABLE = ('asked for', 'exist', 'is the name of', 'is a file', 'is needed; \'', 'lmdb', 'must agree', 'sigma_type',
              'beside noise', 'sigma255: 25}', 'refuses', 'periods', 'pixel_opt: missing',
              'no metric is called', 'no data to test', 'a file is needed', 'ESRGANModel',
              'SwinIRModel', 'milestones: iterations',
              # what networks, optimizers and images make of values
              'must divide', 'in depths', 'numbers of blocks', 'the same size', 'a share', 'told the noise',
              'image-to-image', 'map images to images', 'rates become negative',
              'is not a multiple', 'does not run', 'number of layers', 'GiB', 'finite', 'a list of 2',
              'gamma: a number',
              'milestones: a list', 'iterations are integers', 'belongs into', 'as a pixel loss does',
              'crop_border: at',
              "a name without '/'", 'samples: at', 'plain folder name', 'checkpoint file',
              'photons', 'of one length', 'demosaicked needs', 'noise:of: missing', 'has no sigma255',
              'a level lies', 'halves the crops', 'white Gaussian',
              'noise of mean 0', 'noise:quality: missing')  # fmt: skip


def test_broken_files_do_not_fit(validator: Draft7Validator, tmp_path: Path) -> None:
    found = 0
    for case in BROKEN:
        text = (CORPUS / case['file']).read_text(encoding='utf-8').replace(case['replace'], case['by'], 1)
        (tmp_path / 'x.yml').write_text(text, encoding='utf-8')
        try:
            options = read_yaml(tmp_path / 'x.yml')
        except InputError:
            continue  # no YAML, no schema
        fits = validator.is_valid(options)
        found += not fits
        foreign = 'DenoisingModel' not in str(options.get('model_type'))
        known = any(part in case['error'] for part in UNKNOWABLE) or (foreign and 'unknown option' in case['error'])
        assert not fits or known, case['error']
    assert found >= 60


@pytest.mark.parametrize(
    ('changes', 'fits'),
    [
        ({}, True),
        ({'network_g': {'num_feat': 32}}, True),
        ({'network_g': {'type': 'DnCNN', 'num_feat': 32, 'bias': None}}, True),
        ({'network_g': {'type': 'DnCNN', 'num_feet': 32}}, False),
        ({'network_g': {'type': 'DnCNN', 'num_feat': 'many'}}, False),
        ({'network_g': {'type': 'WNE', 'backbone': {'type': 'DnCNN', 'num_feat': 1.5}}}, False),
        ({'network_g': {'type': 'DnCNM'}}, False),
        ({'train': {'total_iter': None, 'optim_g': None}}, True),  # the base has them
        ({'train': {'total_iter': 0}}, False),
        ({'train': {'optim_g': {'type': 'Adam', 'beta': 1}}}, False),
        ({'trian': {}}, False),
        ({'datasets': {'vall': {}}}, False),
        ({'model_type': 'SRModel', 'colour': 1}, True),  # BasicSR's models read what they like
        ({'model_type': 'SRModel', 'datasets': {'val': {'type': 'DenoisingDataset'}}}, False),
        ({'model_type': 'DenoisingModel', 'datasets': {'val': {'type': 'PairedImageDataset'}}}, False),
        ({'val': {'metrics': {'psnr': None, 'x': {'type': 'calculate_psnr', 'better': 'more'}}}}, False),
    ],
)
def test_a_file_with_a_base_may_hold_any_part(changes: dict[str, Any], fits: bool, validator: Draft7Validator) -> None:
    assert validator.is_valid({'base': 'other.yml', **changes}) == fits
    assert not validator.is_valid(changes)  # the control: without a base it is not complete


def test_whatever_removes_a_key_of_a_shipped_file_fits(validator: Draft7Validator) -> None:
    whole = read_source(OPTIONS / 'swinir_wne.yml').options

    def nulls(section: dict[str, Any]) -> dict[str, Any]:
        return {k: nulls(v) if isinstance(v, dict) else v if k == 'type' else None for k, v in section.items()}

    assert (
        problems(validator, {'base': 'x.yml', **nulls({k: v for k, v in whole.items() if isinstance(v, dict)})}) == []
    )


# -- the reference behind it -------------------------------------------------------------------------------------------


def test_constructor_arguments_have_types_defaults_and_descriptions() -> None:
    keys = section_of('networks', 'DnCNNWNE')['properties']
    assert keys['num_feat'] == {'type': 'integer', 'description': 'channels of the hidden layers.', 'default': 64}
    assert keys['statistics']['enum'] == ['mean_std', 'min_max', 'mean_noise', None]
    assert 'noise' in keys['prediction']['description']
    assert section_of('networks', 'WNE')['required'] == ['type', 'backbone']
    assert section_of('optimizers', 'AdamW')['properties']['weight_decay']['default'] == 0.01
    assert section_of('train_sets', 'PairedImageDataset')['properties']['dataroot_lq']['description']
    assert 'img' not in section_of('metrics', 'calculate_psnr')['properties']
