"""No store is read for what it is not: cut and changed indexes, damaged pixels, stores of BasicSR and earlier ones."""

import os
import pickle
import re
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from ne_basicsr.cli.main import main
from ne_basicsr.data import store_index
from ne_basicsr.data.image_store import LmdbStore, RawStore, open_any
from ne_basicsr.data.prepare import Recipe, prepare, write_lmdb
from ne_basicsr.utils.errors import InputError

FORMATS = ('png', 'raw')
COUNT = 12


def picture(seed: int, shape=(9, 14)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Images of several sizes and channels."""
    (tmp_path / 'images').mkdir()
    for number in range(COUNT):
        shape = (9 + number % 3, 14) if number % 2 else (9, 14 + number, 3)
        cv2.imwrite(str(tmp_path / 'images' / f'photo_{number}.png'), picture(number, shape))
    return tmp_path / 'images'


def made(folder: Path, kind: str, earlier: bool = False) -> Path:
    """A store; ``earlier``: with the index that BasicSR and earlier versions write."""
    store = folder.parent / ('x.lmdb' if kind == 'png' else 'x.raw')
    prepare([folder], store, Recipe(kind))
    if earlier:
        index = store / 'meta_info.txt'
        index.write_text(re.sub(r' crc32 .*', '', index.read_text()))
    return store


def contents(path: Path) -> dict[str, bytes]:
    """All that can be read of a store."""
    store = open_any(path)
    try:
        return {name: store.pixels(name, 3).tobytes() for name in store.names}
    finally:
        if isinstance(store, LmdbStore):
            store.close()


def cuts(index: bytes) -> list[int]:
    """Lengths to cut an index to: all through its first and last line, before and after each end of a line."""
    ends = [place for place, byte in enumerate(index) if byte == ord('\n')]
    return sorted({*range(ends[0]), *range(ends[-2], ends[-1] + 1), *(end + by for end in ends[:-1] for by in (0, 1))})


@pytest.mark.parametrize('kind', FORMATS)
def test_an_index_that_was_cut_anywhere_is_refused(folder, kind):
    store = made(folder, kind)
    index, whole = (store / 'meta_info.txt').read_bytes(), contents(store)
    assert len(whole) == COUNT
    for length in cuts(index):
        (store / 'meta_info.txt').write_bytes(index[:length])
        with pytest.raises(InputError, match=r'meta_info.txt: (cut|lists \d+ of 12)|lists no images'):
            contents(store)
    (store / 'meta_info.txt').write_bytes(b''.join(index.splitlines(keepends=True)[::-1]))
    with pytest.raises(InputError, match=r'meta_info.txt: cut or changed at line 1,'):
        contents(store)


@pytest.mark.parametrize('kind', FORMATS)
def test_an_earlier_index_reads_the_right_pixels_wherever_it_was_cut(folder, kind, caplog):
    store = made(folder, kind, earlier=True)
    index, whole = (store / 'meta_info.txt').read_bytes(), contents(store)
    assert len(whole) == COUNT
    assert not caplog.records
    refused, ends = 0, index.count(b'\n')
    for length in cuts(index):
        (store / 'meta_info.txt').write_bytes(index[:length])
        caplog.clear()
        try:
            found = contents(store)
        except InputError:
            refused += 1
            continue
        assert kind == 'png', 'bytes that no line names tell that a raw store has a line too few'
        assert found.items() < whole.items()
        assert f'holds {COUNT} images, of which its meta_info.txt lists {len(found)}' in caplog.text
    assert refused == len(cuts(index)) - (ends - 1 if kind == 'png' else 0)  # an LMDB's ends of lines


@pytest.mark.parametrize('kind', FORMATS)
def test_an_index_that_was_changed_never_gives_other_pixels(folder, kind):
    store = made(folder, kind)
    index, whole = (store / 'meta_info.txt').read_bytes(), contents(store)
    rng = np.random.default_rng(0)
    noticed = 0
    for _ in range(150):
        changed = bytearray(index)
        changed[rng.integers(len(index))] = rng.integers(256)
        (store / 'meta_info.txt').write_bytes(changed)
        try:
            assert contents(store) == whole
        except InputError:
            noticed += 1
    assert noticed > 135  # what is left are the same byte, a level of compression, blanks at the ends of lines


def test_raw_places_of_an_earlier_index_that_cannot_be_are_refused(folder):
    index = made(folder, 'raw', earlier=True) / 'meta_info.txt'
    lines = index.read_text().splitlines(keepends=True)
    offsets = [int(line.split()[-1]) for line in lines]
    for change in (
        lambda i, line: line.replace(f'uint8 {offsets[i]}', f'uint8 {offsets[i] + 1}'),
        lambda i, line: line.replace(f'uint8 {offsets[i]}', 'uint8 -5'),
        lambda i, line: line.replace(f'uint8 {offsets[i]}', 'uint8 ' + '9' * 5000),
        lambda i, line: re.sub(r'\(\d+,', '(0,', line),
        lambda i, line: re.sub(r',\d\)', ',7)', line),
    ):
        index.write_text(''.join(change(i, line) if i == 5 else line for i, line in enumerate(lines)))
        with pytest.raises(InputError, match=r'x.raw/meta_info.txt: (the place or shape of|cut or changed)'):
            RawStore(index.parent)


@pytest.mark.parametrize('shape', ['5,6,2', '0,6,1'])
def test_raw_images_are_gray_or_rgb_and_have_pixels(tmp_path, shape):
    (tmp_path / 'images.raw').write_bytes(bytes(90 if shape == '5,6,2' else 30))
    (tmp_path / 'meta_info.txt').write_text(f'a.raw (5,6,1) uint8 0\nb.raw ({shape}) uint8 30\n')
    with pytest.raises(InputError, match="the place or shape of 'b' cannot be"):
        RawStore(tmp_path)


@pytest.mark.parametrize('kind', FORMATS)
def test_each_damaged_image_is_noticed_and_no_other(folder, kind, capsys):
    store = made(folder, kind)
    whole = contents(store)
    name = 'images.raw' if kind == 'raw' else 'data.mdb'
    data = (store / name).read_bytes()
    for damaged in range(COUNT):
        opened = open_any(store)
        if isinstance(opened, LmdbStore):
            encoded = opened.read(f'photo_{damaged}')
            opened.close()
        else:
            encoded = opened.pixels(f'photo_{damaged}', 1 if damaged % 2 else 3).tobytes()
        broken = bytearray(encoded)
        broken[len(broken) // 2] ^= 1
        (store / name).write_bytes(data.replace(encoded, broken))  # an LMDB keeps pages that it no longer uses
        opened = open_any(store)
        for each in opened.names:
            for _ in range(2):
                if each == f'photo_{damaged}':
                    with pytest.raises(InputError, match=rf'x.*/photo_{damaged}: damaged since it was written'):
                        opened.pixels(each, 3)
                else:
                    assert opened.pixels(each, 3).tobytes() == whole[each]
        if isinstance(opened, LmdbStore):
            opened.close()
    capsys.readouterr()
    assert main(['prepare', '--verify', str(store)]) == 1
    out, err = capsys.readouterr()
    assert f'{store}: 1 of {COUNT} images are damaged' in out
    assert err == f'{store}/photo_{COUNT - 1}: damaged since it was written (checksum); make the store anew\n'
    (store / name).write_bytes(data)
    if kind == 'png':
        LmdbStore(store).close()
    assert main(['prepare', '--verify', str(store)]) == 0
    assert capsys.readouterr().out == f'{store}: {COUNT} images, as they were written\n'


@pytest.mark.parametrize('kind', FORMATS)
def test_an_image_is_compared_on_first_use_alone_also_by_workers(folder, kind, monkeypatch):
    store = open_any(made(folder, kind))
    checked = []
    sum_of = store_index.checksum_of
    monkeypatch.setattr(store_index, 'checksum_of', lambda name, *rest: checked.append(name) or sum_of(name, *rest))
    if (child := os.fork()) == 0:  # as a loader's worker
        store.pixels('photo_1', 1)
        os._exit(len(checked))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    for name in ('photo_1', 'photo_2', 'photo_2', 'photo_3', 'photo_1'):
        store.pixels(name, 1)
    assert checked == ['photo_2', 'photo_3']
    again = pickle.loads(pickle.dumps(store))  # as where workers do not fork
    assert np.array_equal(again.pixels('photo_2', 1), store.pixels('photo_2', 1))
    assert checked == ['photo_2', 'photo_3', 'photo_2']


@pytest.mark.parametrize('kind', FORMATS)
def test_verify_reads_stores_of_earlier_versions(folder, kind, capsys):
    store = made(folder, kind, earlier=True)
    assert main(['prepare', '--verify', str(store)]) == 0
    assert f'{store}: {COUNT} images, which can be read; it was written without checksums' in capsys.readouterr().out
    assert main(['prepare', '--verify', str(folder)]) == 2
    assert 'no store, as it holds no meta_info.txt' in capsys.readouterr().err


def test_an_lmdb_of_basicsr_opens_without_a_word(tmp_path, caplog):
    from basicsr.utils.lmdb_util import LmdbMaker

    maker = LmdbMaker(str(tmp_path / 'x.lmdb'), map_size=2**20)
    for name in ('a', 'b c'):
        maker.put(cv2.imencode('.png', picture(1))[1].tobytes(), name, (9, 14, 1))
    maker.close()
    store = LmdbStore(tmp_path / 'x.lmdb')
    assert store.root.resolve() not in LmdbStore._environments  # an LMDB may not stay open where a process forks
    assert store.names == ['a', 'b c']
    assert np.array_equal(store.pixels('b c', 1)[..., 0], picture(1))
    assert not caplog.records
    assert main(['prepare', '--verify', str(tmp_path / 'x.lmdb')]) == 0


def test_a_list_of_choice_says_nothing_of_the_others(folder, tmp_path, caplog):
    (tmp_path / 'list.txt').write_text('photo_3.png (10,14,1) 1\n')
    for kind in FORMATS:
        store = made(folder, kind, earlier=True)
        kind = LmdbStore if kind == 'png' else RawStore
        assert kind(store, str(tmp_path / 'list.txt')).names == ['photo_3']
    assert not caplog.records


def test_names_that_begin_with_a_blank_are_read(tmp_path):
    names = [' a', '  b c', 'd ', 'a']
    write_lmdb(tmp_path / 'x.lmdb', [(name, picture(seed)) for seed, name in enumerate(names)])
    store = LmdbStore(tmp_path / 'x.lmdb')
    assert store.names == names
    for seed, name in enumerate(names):
        assert np.array_equal(store.pixels(name, 1)[..., 0], picture(seed))


# -- going on ----------------------------------------------------------------------------------------------------------


def change(folder: Path) -> None:
    """Other pixels, of a smaller and of the same size; a source less, one more, one unreadable, one only touched."""
    (folder / 'photo_0.png').unlink()
    cv2.imwrite(str(folder / 'photo_1.png'), picture(101, (5, 6)))
    cv2.imwrite(str(folder / 'photo_3.png'), picture(103, (9, 14)))
    cv2.imwrite(str(folder / 'photo_20.png'), picture(120))
    (folder / 'photo_5.png').write_bytes(b'no image')
    os.utime(folder / 'photo_7.png', ns=(time.time_ns(), time.time_ns() + 10**9))


@pytest.mark.parametrize('kind', FORMATS)
@pytest.mark.parametrize('crop', [None, 8])
def test_resume_makes_what_a_new_run_would(folder, tmp_path, kind, crop):
    store = tmp_path / ('x.lmdb' if kind == 'png' else 'x.raw')
    fresh = store.with_name(f'fresh{store.suffix}')
    recipe = Recipe(kind, crop)
    prepare([folder], store, recipe)
    change(folder)
    summary = prepare([folder], store, recipe, resume=True)
    assert (summary.now, summary.changed, summary.gone, len(summary.failures)) == (3, 2, 1, 1)
    assert prepare([folder], fresh, recipe).finished == summary.finished == COUNT - 1
    assert contents(store) == contents(fresh)
    if kind == 'png':  # BasicSR reads what the index lists; nothing else stays
        opened = LmdbStore(store)
        assert opened._environment().stat()['entries'] == len(opened.names)
        opened.close()
    again = prepare([folder], store, recipe, resume=True)
    assert (again.now, again.changed, again.gone, len(again.failures)) == (0, 0, 0, 1)
    cv2.imwrite(str(folder / 'photo_0.png'), picture(0, (9, 14, 3)))  # it is back
    assert prepare([folder], store, recipe, resume=True).now == 1
    assert contents(store)['photo_0' + ('_s001' if crop else '')]


@pytest.mark.parametrize('kind', FORMATS)
def test_sources_that_were_only_touched_take_no_further_space(folder, kind):
    store = made(folder, kind)
    before, size = (store / 'meta_info.txt').read_bytes(), sum(path.stat().st_size for path in store.glob('*.raw'))
    for path in folder.iterdir():
        os.utime(path, ns=(0, 0))
    assert prepare([folder], store, Recipe(kind), resume=True).now == 0
    assert (store / 'meta_info.txt').read_bytes() == before
    assert sum(path.stat().st_size for path in store.glob('*.raw')) == size


def test_the_command_says_what_changed_and_what_is_gone(folder, capsys):
    store = made(folder, 'raw')
    change(folder)
    assert main(['prepare', str(folder), '-o', str(store), '--resume']) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f'{store}: 11 images, 8 of them before',
        '2 images changed since, and written again',
        '1 images no longer in the inputs, and removed',
    ]
    assert 'photo_5.png: not a readable image' in err


def test_a_store_that_an_earlier_version_began_is_not_gone_on_with(folder, capsys):
    store = made(folder, 'raw')
    journal = store / 'prepare.jsonl'
    header = journal.read_text().splitlines()[0]
    journal.write_text(f'{header}\n{{"source": "photo_0 photo_0.png", "stores": [[["photo_0", 9, 14, 3, 0]]]}}\n')
    assert main(['prepare', str(folder), '-o', str(store), '--resume']) == 2
    assert 'prepare.jsonl: damaged, or written by an earlier version' in capsys.readouterr().err


# -- names that are no text --------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != 'posix', reason='names of files are text there')
@pytest.mark.parametrize('kind', FORMATS)
def test_names_that_are_no_utf_8_are_read_written_and_gone_on_with(tmp_path, kind, capsys):
    folder = tmp_path / os.fsdecode(b'caf\xe9')
    try:
        folder.mkdir()
    except OSError:
        pytest.skip('this file system takes UTF-8 alone')
    (folder / os.fsdecode(b'\xff.png')).write_bytes(cv2.imencode('.png', picture(1))[1].tobytes())
    (folder / 'b.png').write_bytes(cv2.imencode('.png', picture(2))[1].tobytes())
    assert open_any(folder).names == ['b', r'\xff']
    assert np.array_equal(open_any(folder).pixels(r'\xff', 1)[..., 0], picture(1))
    store = tmp_path / os.fsdecode(b'\xe9.lmdb' if kind == 'png' else b'\xe9.raw')
    for expected in ('2 images\n', '2 images, 2 of them before\n'):
        assert main(['prepare', str(folder), '-o', str(store), '--resume']) == 0
        assert capsys.readouterr().out.endswith(expected)
    assert sorted(contents(store)) == ['_xff', 'b']
    (store / 'prepare.jsonl').read_text(encoding='utf-8')
    (folder / os.fsdecode(b'\xfe.png')).write_bytes(b'')
    assert main(['prepare', str(folder), '-o', str(store), '--resume']) == 1
    assert 'not a readable image (0 bytes)' in capsys.readouterr().err
