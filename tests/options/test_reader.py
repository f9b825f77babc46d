"""``base:``: a file says how it differs from another one, and errors say which of them is meant."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY

from ne_basicsr.options import complete_options, read_yaml
from ne_basicsr.options.reader import merge, read_source
from ne_basicsr.utils.errors import InputError

COMPLETE = REPOSITORY / 'tests' / 'broken_options' / 'denoising.yml'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(file: str, text: str) -> str:
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text(text, encoding='utf-8')
    return file


def refusal(file: str) -> str:
    with pytest.raises(InputError) as error:
        complete_options(file)
    (line,) = str(error.value).splitlines()
    return line


# -- merging -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('base', 'changes', 'merged'),
    [
        ({'a': 1}, {}, {'a': 1}),
        ({'a': 1}, {'b': 2}, {'a': 1, 'b': 2}),
        ({'a': {'x': 1, 'y': 2}}, {'a': {'y': 3}}, {'a': {'x': 1, 'y': 3}}),
        ({'a': {'x': {'u': 1}}}, {'a': {'x': {'v': 2}}}, {'a': {'x': {'u': 1, 'v': 2}}}),
        ({'a': [1, 2, 3]}, {'a': [4]}, {'a': [4]}),
        ({'a': [{'x': 1}]}, {'a': [{'y': 1}]}, {'a': [{'y': 1}]}),
        ({'a': 1, 'b': 2}, {'a': None}, {'b': 2}),
        ({'a': {'x': 1, 'y': 2}}, {'a': {'x': None}}, {'a': {'y': 2}}),
        ({'a': {'x': 1}}, {'a': None}, {}),
        ({'a': {'x': 1}}, {'a': 5}, {'a': 5}),
        ({'a': 5}, {'a': {'x': 1}}, {'a': {'x': 1}}),
        ({'a': 0, 'b': False, 'c': ''}, {'a': None, 'b': None, 'c': None}, {}),
        ({}, {'a': None, 'b': {'x': None}}, {'a': None, 'b': {'x': None}}),  # it removes nothing: a value
        ({'a': None}, {'a': None}, {'a': None}),
    ],
)
def test_sections_merge_lists_are_replaced_and_null_removes(base: Any, changes: Any, merged: Any) -> None:
    before = repr(base), repr(changes)
    assert merge(base, changes) == merged
    assert (repr(base), repr(changes)) == before


def test_the_nearest_file_of_a_chain_decides() -> None:
    write('a.yml', 'one: a\ntwo: a\nthree: a\nsection: {x: a, y: a}\n')
    write('b.yml', 'base: a.yml\ntwo: b\nthree: b\nsection: {y: b}\n')
    write('c.yml', 'base: b.yml\nthree: c\n')
    assert read_yaml('c.yml') == {'one': 'a', 'two': 'b', 'three': 'c', 'section': {'x': 'a', 'y': 'b'}}
    assert [str(file) for file in read_source('c.yml').files] == ['c.yml', 'b.yml', 'a.yml']


def test_a_base_is_found_beside_its_file_and_not_in_the_current_folder() -> None:
    write('far/base.yml', 'who: far\n')
    write('base.yml', 'who: near\n')
    assert read_yaml(write('far/own/x.yml', 'base: ../base.yml\n')) == {'who': 'far'}


def test_a_base_of_null_is_none_and_a_base_inside_a_section_is_a_key() -> None:
    assert read_yaml(write('x.yml', 'base: ~\na: {base: gone.yml}\n')) == {'a': {'base': 'gone.yml'}}


# -- what is wrong -----------------------------------------------------------------------------------------------------


def test_a_cycle_names_the_files_in_it() -> None:
    write('a.yml', 'name: a\nbase: b.yml\n')
    write('b.yml', 'base: sub/c.yml\n')
    write('sub/c.yml', 'base: ../a.yml\n')
    line = refusal('a.yml')
    assert line.startswith("sub/c.yml: line 1: base: '../a.yml' leads back to a.yml, which starts from b.yml and that")
    write('own.yml', 'name: x\nbase: ./own.yml\n')
    assert refusal('own.yml').startswith("own.yml: line 2: base: './own.yml' leads back to own.yml, the file itself")


def test_one_base_of_two_files_is_no_cycle() -> None:
    write('a.yml', 'x: 1\n')
    write('b.yml', 'base: a.yml\n')
    assert read_yaml('b.yml') == read_yaml('b.yml') == {'x': 1}


def test_a_missing_base_names_both_files_and_the_nearest() -> None:
    write('options/plain.yml', 'x: 1\n')
    line = refusal(write('options/own.yml', 'name: x\nbase: plan.yml\n'))
    assert line == (
        "options/own.yml: line 2: base: options/plan.yml: no such option file; did you mean 'options/plain.yml'?"
    )
    write('top.yml', 'base: options/own.yml\n')
    assert refusal('top.yml') == line


@pytest.mark.parametrize('base', ['[a.yml, b.yml]', '5', "''", '{file: a.yml}'])
def test_a_base_is_one_file(base: str) -> None:
    assert 'x.yml: line 1: base: the name of an option file is needed' in refusal(write('x.yml', f'base: {base}\n'))


def test_yaml_that_is_wrong_is_said_of_the_file_that_it_is_in() -> None:
    write('base.yml', 'a: 1\na: 2\n')
    assert refusal(write('x.yml', 'base: base.yml\n')).startswith("base.yml: line 2: the key 'a' is already given")


def test_a_wrong_key_is_said_of_the_file_and_line_that_gave_it() -> None:
    text = COMPLETE.read_text(encoding='utf-8')
    write('good.yml', text)
    write('bad.yml', text.replace('  total_iter: 1000', '  total_iters: 1000'))
    number = text.splitlines().index('  total_iter: 1000') + 1
    assert refusal(write('x.yml', 'base: bad.yml\ntrain: {ema_decay: 0.5}\n')) == (
        f"bad.yml: train:total_iters: unknown option; did you mean 'total_iter'? (line {number}, base of x.yml)"
    )
    assert refusal(write('y.yml', 'base: good.yml\n\ntrain:\n  total_iters: 5\n')) == (
        "y.yml: train:total_iters: unknown option; did you mean 'total_iter'? (line 4)"
    )
    # what is missing is said of the null that removes it, or of the section that it is missing from
    assert refusal(write('z.yml', 'base: good.yml\ntrain:\n  optim_g:\n    lr: ~\n')).endswith('(line 4)')
    write('lacking.yml', text.replace('    lr: 1e-4\n', ''))
    assert refusal(write('z.yml', 'base: lacking.yml\ntrain:\n  optim_g:\n    eps: 1\n')).endswith('(line 3)')
    complete_options(write('x.yml', 'base: good.yml\ntrain: {ema_decay: 0.5}\n'))


def test_a_misspelt_null_is_found() -> None:
    write('good.yml', COMPLETE.read_text(encoding='utf-8'))
    assert "did you mean 'warmup_iter'" in refusal(write('x.yml', 'base: good.yml\ntrain: {warmup_itre: ~}\n'))


def test_an_override_sets_no_base() -> None:
    with pytest.raises(InputError, match=r'--force_yml base=x\.yml: base belongs into an option file'):
        complete_options(COMPLETE, ['base=x.yml'])


# -- the shipped files -------------------------------------------------------------------------------------------------


def test_variants_of_shipped_files_say_what_differs_alone() -> None:
    """Whatever such a file says, its base does not say, too; else a change of the base would not reach it."""
    files = [path for path in (REPOSITORY / 'options').glob('*.yml') if 'base' in raw(path)]
    assert len(files) > 5
    for path in files:
        changes = raw(path)
        base = read_yaml(path.parent / changes.pop('base'))
        for key, value in leaves(changes):
            assert value != look_up(base, key), f'{path.name}: {":".join(key)} is as in its base'


def raw(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding='utf-8'))


def leaves(section: dict[str, Any], place: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found = []
    for key, value in section.items():
        found += leaves(value, (*place, key)) if isinstance(value, dict) else [((*place, key), value)]
    return found


def look_up(section: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        section = section.get(key, ...) if isinstance(section, dict) else ...
    return section
