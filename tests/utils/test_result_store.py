import os
from pathlib import Path

import pytest

from ne_basicsr.utils import result_store
from ne_basicsr.utils.errors import InputError
from ne_basicsr.utils.result_store import CellStore, key_of


def test_what_was_added_is_there_for_the_next_process(tmp_path):
    CellStore(tmp_path / 'cells', rank=0).add({'a': 1.5, 'b': {'psnr': float('inf')}})
    CellStore(tmp_path / 'cells', rank=1).add({'c': [1, 2]})
    store = CellStore(tmp_path / 'cells')
    assert store.values == {'a': 1.5, 'b': {'psnr': float('inf')}, 'c': [1, 2]}


def test_floats_come_back_to_the_last_bit(tmp_path):
    value = 0.1 + 0.2
    CellStore(tmp_path).add({'a': value})
    assert CellStore(tmp_path).values['a'] == value


def test_a_line_cut_by_a_kill_is_left_out_and_the_next_one_is_whole(tmp_path):
    store = CellStore(tmp_path)
    store.add({'a': 1})
    store.add({'b': 2})
    file = tmp_path / 'cells_0.jsonl'
    file.write_bytes(file.read_bytes()[:-4])
    again = CellStore(tmp_path)
    assert again.values == {'a': 1}
    again.add({'c': 3})
    assert CellStore(tmp_path).values == {'a': 1, 'c': 3}


def test_keys_differ_where_any_part_does():
    keys = {key_of(level=25.0, draw=0), key_of(level=25.0, draw=1), key_of(level=26.0, draw=0), key_of(level=25.0)}
    assert len(keys) == 4
    assert key_of(draw=0, level=25.0) == key_of(level=25.0, draw=0)


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='a device of Linux')
def test_a_full_disk_is_one_line_and_what_was_kept_stays(tmp_path, monkeypatch):
    store = CellStore(tmp_path / 'cells')
    store.add({'a': 1})

    def full(*_):
        return open('/dev/full', 'ab')

    monkeypatch.setattr(result_store, 'open', full, raising=False)
    with pytest.raises(InputError, match=r'cells/cells_0\.jsonl: cannot be written \(No space left on device\)'):
        store.add({'b': 2})
    monkeypatch.undo()
    store.add({'c': 3})
    assert CellStore(tmp_path / 'cells').values == {'a': 1, 'c': 3}


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='a system without pipes')
def test_a_pipe_among_the_cells_is_one_line_and_not_waited_for(tmp_path):
    CellStore(tmp_path).add({'a': 1})
    os.mkfifo(tmp_path / 'cells_1.jsonl')
    with pytest.raises(InputError, match=r'cells_1\.jsonl: not a regular file'):
        CellStore(tmp_path)
