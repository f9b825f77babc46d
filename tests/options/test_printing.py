"""A printed option file says the same as the one it was made from, and so does the copy in a run folder."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import REPOSITORY
from test_pipeline import option_file

from ne_basicsr.cli.main import main
from ne_basicsr.options import complete_options, load_options, read_yaml, trial
from ne_basicsr.options.printing import annotated, flow, kept_text, resolved_text
from ne_basicsr.options.reader import parse_literal, read_file

CORPUS = REPOSITORY / 'tests' / 'broken_options'
FILES = [
    *sorted((REPOSITORY / 'options').glob('*.yml')),
    *(CORPUS / f'{n}.yml' for n in ('denoising', 'esrgan', 'edvr')),
]


@pytest.fixture
def any_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, 'check', lambda *_: None)  # which takes a while


@pytest.mark.usefixtures('any_network')
@pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)
def test_a_printed_file_reads_back_as_it_was(path: Path, tmp_path: Path) -> None:
    printed = tmp_path / 'printed.yml'
    printed.write_text(resolved_text(path), encoding='utf-8')
    assert complete_options(printed) == complete_options(path)
    assert 'base' not in read_file(printed)[0]
    assert all(len(line) <= 120 or '#' not in line for line in printed.read_text(encoding='utf-8').splitlines())


def test_a_printed_file_loads_to_the_same_run(workplace: Path, image_folder: Path) -> None:
    path = option_file(workplace, image_folder)
    overrides = ['train:optim_g:lr=3e-5', 'network_g:num_feat=6', 'manual_seed=5']
    Path('printed.yml').write_text(resolved_text(path, overrides), encoding='utf-8')
    for is_train in (True, False):
        assert load_options('printed.yml', is_train=is_train) == load_options(path, overrides, is_train=is_train)
    assert load_options('printed.yml', is_train=True) != load_options(path, is_train=True)


@pytest.mark.usefixtures('any_network')
def test_every_key_of_this_package_has_its_description_beside_it() -> None:
    text = resolved_text(REPOSITORY / 'options' / 'swinir_wne.yml')
    lines = text.splitlines()
    for key, words in {
        'total_iter: 500000': 'Training iterations.',
        'sigma255: 25': 'Noise level in 8-bit units',
        'window_size: 8': 'Window size.',
        '# correction: 0': '',  # left to its default
    }.items():
        assert any(line.strip().startswith(key) and words in line for line in lines), key
    assert '# base: ' in text
    assert text.count('\n# base: ') == 1


@pytest.mark.parametrize(
    'value',
    ['1e-4', '010', '~', 'null', 'true', 'No', '', ' x ', 'a: b', '# x', "it's", '"', 'two\nlines', '\t', 'ü', '[1',
     '<<', '=', '!x', '*a', '2024-01-01', '0x1F', '.inf', '-', '...', '---', 'x' * 300, '{}', 'a\n\n  b', '\x07', 1e-4,
     1e-10, 1e300, -0.0, 3, float('inf'), True, None, [], [1, [2.5, 'a']], [{'a': None}], {}],
)  # fmt: skip
def test_values_read_back_as_they_are(value: Any, tmp_path: Path) -> None:
    text = flow(value)
    assert '\n' not in text
    (tmp_path / 'x.yml').write_text(f'key: {text}\n', encoding='utf-8')
    read = read_yaml(tmp_path / 'x.yml')['key']
    assert read == value
    assert type(read) is type(value)
    if value != '' and not isinstance(value, str):
        assert parse_literal(text) == value


def test_labels_that_look_like_something_else_are_quoted(tmp_path: Path) -> None:
    opt = complete_options(
        CORPUS / 'denoising.yml', ["val:metrics={'1e3': {type: calculate_psnr_float}}", 'val:save_best=~']
    )
    (tmp_path / 'x.yml').write_text(annotated(opt), encoding='utf-8')
    assert list(read_yaml(tmp_path / 'x.yml')['val']['metrics']) == ['1e3']


# -- the copy in the run folder ----------------------------------------------------------------------------------------


def test_a_file_that_stands_alone_is_kept_as_it_is(workplace: Path, image_folder: Path) -> None:
    path = option_file(workplace, image_folder)
    text = path.read_text(encoding='utf-8') + '# a note\n'
    path.write_text('# yaml-language-server: $schema=x.json\n' + text, encoding='utf-8')
    assert kept_text(path) == f'# {path}\n\n{text}'


def test_a_run_keeps_options_that_give_the_same_run(workplace: Path, image_folder: Path) -> None:
    torch.set_num_threads(2)
    option_file(workplace, image_folder, **{'train:total_iter': 1})
    own = workplace / 'own.yml'
    own.write_text('base: run.yml\nname: own\nnetwork_g: {num_feat: 4}\n', encoding='utf-8')
    overrides = ['train:optim_g:lr=2e-5']
    assert main(['train', '-opt', str(own), '--force_yml', *overrides]) == 0
    copy = workplace / 'experiments' / 'own' / 'options.yml'
    text = copy.read_text(encoding='utf-8')
    assert f'# {own}\n# base: {workplace / "run.yml"}\n# --force_yml train:optim_g:lr=2e-5\n' in text
    assert 'base' not in read_file(copy)[0]
    assert load_options(copy, is_train=True) == load_options(own, overrides, is_train=True)


def test_the_network_is_tried_once_for_a_run(
    workplace: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = option_file(workplace, image_folder)
    tried: list[Any] = []
    monkeypatch.setattr(trial, 'check', lambda *arguments: tried.append(arguments))
    load_options(path, ['manual_seed=7'], is_train=True)
    assert 'manual_seed: 7' in kept_text(path, ['manual_seed=7'])
    assert len(tried) == 1
    resolved_text(path)
    assert len(tried) == 2


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_prints_a_file_without_its_data(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(REPOSITORY / 'options' / 'dncnn.yml')
    assert main(['options', file, '--force_yml', 'train:total_iter=7', 'num_gpu=64']) == 0
    (workplace / 'x.yml').write_text(capsys.readouterr().out, encoding='utf-8')
    assert read_yaml('x.yml')['train']['total_iter'] == 7
    assert complete_options('x.yml') == complete_options(file, ['train:total_iter=7', 'num_gpu=64'])


@pytest.mark.parametrize(
    ('arguments', 'part'),
    [
        ([], 'one of FILE, --list and --schema is needed'),
        (['x.yml', '--schema'], 'one of FILE, --list and --schema is needed'),
        (['--list', '--force_yml', 'a=1'], '--force_yml changes a FILE'),
        (['--list', 'trian'], "is called 'trian'; did you mean 'train'?"),
        (['--schema', 'no/such/folder.json'], 'cannot be written (No such file or directory)'),
        (['gone.yml'], 'gone.yml: no such option file'),
        (['wrong.yml'], "wrong.yml: nmae: unknown option; did you mean 'name'? (line 1)"),
    ],
)
def test_wrong_arguments_end_in_one_line(
    arguments: list[str], part: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / 'wrong.yml').write_text('nmae: x\nmodel_type: DenoisingModel\n')
    assert main(['options', *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert part in line


def test_the_schema_goes_to_a_file_or_to_the_terminal(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['options', '--schema', 'schema.json']) == 0
    assert capsys.readouterr().out == ''
    assert main(['options', '--schema']) == 0
    assert capsys.readouterr().out == (workplace / 'schema.json').read_text(encoding='utf-8')
