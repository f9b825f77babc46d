"""One run at a time writes to a folder; whoever was killed keeps nobody waiting."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from forked import Forked
from test_pipeline import option_file

from ne_basicsr.cli.main import main
from ne_basicsr.utils import folder_lock
from ne_basicsr.utils.errors import InputError
from ne_basicsr.utils.folder_lock import hold
from ne_basicsr.utils.process_group import holding


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(folder_lock, 'PERIOD', 0.05)
    monkeypatch.setattr(folder_lock, 'PATIENCE', 1.0)


@pytest.fixture
def without_locks(impatient, monkeypatch):
    """A file system that lends no locks."""
    monkeypatch.setattr(folder_lock, '_lock', lambda descriptor: None)


def refused(folder, **options):
    with pytest.raises(InputError) as caught, hold(folder, 'do something else', **options):
        pass
    return str(caught.value)


def everything(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob('*')}


@pytest.mark.parametrize('beside', [False, True])
def test_a_folder_is_held_by_one_and_nothing_is_left(tmp_path, beside):
    folder = tmp_path / 'new' / 'run'
    with hold(folder, '', beside):
        before = everything(tmp_path)
        line = refused(folder, beside=beside)
        assert everything(tmp_path) == before
        with hold(tmp_path / 'new' / 'other', '', beside):
            pass
    assert line.startswith(f'{folder}: process {os.getpid()} on ')
    assert line.endswith('; wait for its end, or do something else')
    assert not list(tmp_path.iterdir())
    with hold(folder, '', beside):
        pass


def test_what_came_of_it_stays(tmp_path):
    with hold(tmp_path / 'run', ''):
        (tmp_path / 'run' / 'result').touch()
    assert [path.name for path in (tmp_path / 'run').iterdir()] == ['result']


def test_a_folder_that_is_renamed_meanwhile_stays_held(tmp_path):
    folder = tmp_path / 'run'
    folder.mkdir()
    with hold(folder, '', beside=True):
        folder.rename(tmp_path / 'archived')
        assert refused(folder, beside=True)


def test_a_killed_run_is_free_at_once_also_where_its_workers_live_on(tmp_path):
    script = (
        'import os, sys, time\nfrom pathlib import Path\nfrom ne_basicsr.utils.folder_lock import hold\n'
        'with hold(Path(sys.argv[1]), ""):\n'
        '    if not os.fork():\n'  # as a loader of torch makes its workers
        '        print(os.getpid(), flush=True)\n'
        '    time.sleep(100)\n'
    )
    process = Forked([sys.executable, '-c', script, str(tmp_path)], stdout=subprocess.PIPE)
    worker = int(process.stdout.readline())
    try:
        assert f'process {process.pid} on ' in refused(tmp_path)
        process.kill()
        process.wait()
        os.kill(worker, 0)  # it is there
        with hold(tmp_path, ''):
            assert f'process {os.getpid()} on ' in refused(tmp_path)
    finally:
        process.kill()
        os.kill(worker, signal.SIGKILL)
        process.stdout.close()
    assert not list(tmp_path.iterdir())


def left_by_another_machine(folder):
    (folder / '.lock').write_text('{"host": "node7", "pid": 11, "since": "2026-01-01 00:00:00"}')


@pytest.mark.usefixtures('impatient')
def test_another_machine_s_file_counts_while_it_is_touched(tmp_path):
    """As where the system's locks end at the machine."""
    left_by_another_machine(tmp_path)
    over = threading.Event()

    def touch():
        while not over.wait(0.05):
            os.utime(tmp_path / '.lock')

    holder = threading.Thread(target=touch)
    holder.start()
    try:
        assert 'process 11 on node7 writes to it since 2026-01-01 00:00:00' in refused(tmp_path)
    finally:
        over.set()
        holder.join()
    with hold(tmp_path, ''):
        pass


def test_an_old_file_of_another_machine_keeps_nobody_waiting(tmp_path):
    left_by_another_machine(tmp_path)
    long_ago = time.time() - 2 * folder_lock.PATIENCE
    os.utime(tmp_path / '.lock', (long_ago, long_ago))
    start = time.monotonic()
    with hold(tmp_path, ''):
        assert time.monotonic() - start < folder_lock.PATIENCE / 2


@pytest.mark.usefixtures('without_locks')
def test_without_locks_of_the_system_the_holder_touches_its_file(tmp_path):
    with hold(tmp_path, ''):
        assert f'process {os.getpid()} on ' in refused(tmp_path)
    left_by_another_machine(tmp_path)
    with hold(tmp_path, ''):
        pass


@pytest.mark.parametrize('content', ['', 'torn {', '[]', '{"pid": 3}'])
def test_a_file_that_says_nothing_is_nobody_s(tmp_path, content):
    (tmp_path / '.lock').write_text(content)
    with hold(tmp_path, ''):
        pass


def test_one_of_several_ranks_holds_the_folder(tmp_path):
    with hold(tmp_path, ''), holding(1, tmp_path, ''), pytest.raises(InputError), holding(0, tmp_path, ''):
        pass


COMMANDS = {
    'train': ['train', '-opt', 'run.yml'],
    'train --auto_resume': ['train', '-opt', 'run.yml', '--auto_resume', '--force_yml', 'network_g:num_feat=8'],
    'test': ['test', '-opt', 'run.yml'],
    'prepare': ['prepare', 'photos', '-o', 'out.lmdb', '--resume'],
    'mismatch': ['mismatch', 'gray', '--data', 'photos', '-o', 'out', '--device', 'cpu'],
    'denoise': ['denoise', 'photos', '-o', 'out', '--device', 'cpu'],
    'sample': ['sample', 'gray', 'photos', '-o', 'out', '--device', 'cpu'],
    'analyze': ['analyze', '--data', 'photos', '-o', 'out', '--device', 'cpu'],
    'quickstart': ['quickstart', '-o', 'out'],
}


@pytest.mark.parametrize('command', COMMANDS)
def test_a_second_run_into_a_folder_ends_with_one_line_and_changes_nothing(command, workplace, image_folder, capsys):
    image_folder.rename(workplace / 'photos')
    option_file(workplace, workplace / 'photos')
    name = {'train': 'experiments/run', 'test': 'results/run', 'prepare': 'out.lmdb'}.get(command.split()[0], 'out')
    folder = workplace / name
    folder.mkdir(parents=True)
    if command == 'prepare':
        (folder / 'prepare.jsonl').touch()
    if command == 'train --auto_resume':
        (folder / 'models').mkdir()
        (folder / 'models' / '.net_g_4.pth.x.part').touch()  # the first run is saving
    if command == 'denoise':
        (folder / '.denoised').mkdir()
    with hold(folder, '', beside='/' in name):
        before = everything(workplace)
        assert main(COMMANDS[command]) == 2
        assert everything(workplace) == before
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert f'{name}: process {os.getpid()} on ' in line
    assert '; wait for its end, or ' in line


def test_a_file_that_its_holder_removes_meanwhile_is_made_anew(tmp_path, monkeypatch):
    path, lock, calls = tmp_path / 'run' / '.lock', folder_lock._lock, []

    def late(descriptor):
        calls.append(descriptor)
        if len(calls) == 1:  # who held it ends between the opening of its file and the lock
            path.unlink()
        return lock(descriptor)

    monkeypatch.setattr(folder_lock, '_lock', late)
    with hold(tmp_path / 'run', 'choose another name'):
        assert path.is_file() and len(calls) == 2


@pytest.mark.parametrize('first', [True, False])
def test_a_lock_beside_a_folder_and_one_in_it_know_each_other(tmp_path, first):
    folder = tmp_path / 'run'
    refused = pytest.raises(InputError, match=r'writes to it since .*; wait for its end, or choose another')
    with hold(folder, 'choose another', beside=first), refused, hold(folder, 'choose another', beside=not first):
        pass
    with hold(folder, 'choose another', beside=not first):  # the control
        pass
