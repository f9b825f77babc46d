"""Shipped option files outside a clone, by path or name."""

from pathlib import Path

import pytest

from ne_basicsr.cli.main import main
from ne_basicsr.options import complete_options, shipped, trial


@pytest.fixture(autouse=True)
def any_network(monkeypatch):
    monkeypatch.setattr(trial, 'check', lambda *_: None)  # which takes a while


@pytest.mark.parametrize('text', ['options/dncnn_wne.yml', 'dncnn_wne.yml', 'dncnn_wne'])
def test_a_shipped_file_is_found_by_path_and_name_unless_there_is_another(text, workplace):
    assert shipped.find(text) == shipped.FOLDER / 'dncnn_wne.yml'
    Path(text).parent.mkdir(exist_ok=True)
    Path(text).touch()
    assert shipped.find(text) == Path(text)
    assert shipped.find('none.yml') == Path('none.yml')


def test_every_shipped_file_is_listed_with_what_it_is(workplace, capsys):
    assert main(['options', '--list', 'files']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(list(shipped.FOLDER.rglob('*.yml'))) > 50
    assert all(len(line.split(maxsplit=1)[1]) > 10 and '$schema' not in line for line in lines)
    assert any(line.startswith('experiments/swinir_wne ') for line in lines)


def test_a_shipped_file_is_written_in_full_once(workplace, capsys):
    assert main(['options', 'swinir_wne', '-o', 'my.yml']) == 0
    assert complete_options('my.yml') == complete_options('swinir_wne')
    before = Path('my.yml').read_text()
    assert main(['options', 'dncnn', '-o', 'my.yml']) == 2
    assert 'my.yml: cannot be written (File exists)' in capsys.readouterr().err
    assert Path('my.yml').read_text() == before
    assert main(['options', '--list', '-o', 'my.yml']) == 2


def test_a_base_may_be_a_shipped_file(workplace):
    Path('sub').mkdir()
    Path('sub/my.yml').write_text('base: dncnn_wne\nname: mine\n')
    assert complete_options('sub/my.yml') == complete_options('dncnn_wne') | {'name': 'mine'}
    Path('sub/dncnn_wne').write_text('name: another\n')  # beside it, it comes first
    with pytest.raises(ValueError, match='model_type'):
        complete_options('sub/my.yml')


def test_missing_public_data_say_where_they_are_described(workplace, capsys):
    assert main(['train', '-opt', 'dncnn_wne']) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"'datasets/BSD400' does not exist; there is no 'datasets' in '{workplace}'" in line
    assert f'{shipped.DATA_INSTRUCTIONS} says where to get it' in line
    assert 'BSD400' in shipped.DATA_INSTRUCTIONS.read_text()
    own = ['--force_yml', 'datasets:train:dataroot_gt=mine']
    assert main(['train', '-opt', 'dncnn_wne', *own]) == 2
    assert 'where to get' not in capsys.readouterr().err
