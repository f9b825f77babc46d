"""The two networks differ by the wrapper alone, and the report says what was measured."""

import re
from pathlib import Path

import pytest

from ne_basicsr.data.image_store import LmdbStore
from ne_basicsr.options import read_yaml, shipped
from ne_basicsr.train.quickstart import OPTION_FILES, quickstart, write_photographs


@pytest.fixture(scope='module')
def outcome(tmp_path_factory):
    """A quickstart of a few iterations, and what it printed."""
    import contextlib
    import io

    folder = tmp_path_factory.mktemp('quickstart')
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr('ne_basicsr.train.quickstart.HELD_OUT_PHOTOGRAPHS', ('coins.png',))  # smaller
        path = quickstart(folder, total_iter=40)
    return path, printed.getvalue()


def test_the_two_option_files_differ_in_one_word():
    plain, wrapped = (read_yaml(shipped.FOLDER / file) for file in OPTION_FILES.values())
    assert plain['network_g'] | {'type': 'DnCNNWNE'} == wrapped['network_g']
    assert {k: v for k, v in plain.items() if k not in ('name', 'network_g')} == {
        k: v for k, v in wrapped.items() if k not in ('name', 'network_g')
    }
    assert plain['datasets']['train']['noise']['sigma255'] == 25


def test_held_out_photographs_are_not_trained_on(tmp_path):
    write_photographs(tmp_path)
    train, held_out = (LmdbStore(tmp_path / f'{name}.lmdb').names for name in ('train', 'held_out'))
    assert len(train) > 100
    assert held_out == ['camera', 'chelsea', 'coffee']
    assert not any(name.startswith(tuple(held_out)) for name in train)


def test_report_and_table_show_the_same_numbers(outcome):
    path, printed = outcome
    page = path.read_text(encoding='utf-8')
    rows = re.findall(r'^ +(\d+) +([\d.]+) +([\d.]+) +([\d.]+) +([+-][\d.]+)$', printed, re.MULTILINE)
    assert [int(row[0]) for row in rows] == [5, 10, 15, 20, 25, 35, 50, 70, 85, 100]
    for row in rows:
        for number in row[1:4]:
            assert number in page
    assert str(path) in printed
    for heading in ('11 to train on', '40 iterations; DnCNN', 'DnCNN-WNE', 'the training level'):
        assert heading in page
    assert page.count('<img') == 4 * 4  # strips: noisy, both networks, clean at four levels
    assert (path.parent / 'figures' / 'held_out_gaussian_psnr.png').is_file()


def test_runs_are_those_of_the_ordinary_path(outcome):
    path, _ = outcome
    for name in ('quickstart_dncnn', 'quickstart_dncnn_wne'):
        run = path.parent / 'experiments' / name
        assert (run / 'models' / 'net_g_latest.pth').is_file()
        assert (run / 'mismatch' / 'held_out_40.csv').is_file()
        assert Path(path.parent / 'tb_logger' / name).is_dir()
