"""Several processes on CPUs: they agree when to stop, end together, and train as one."""

import csv
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from forked import ends, start
from test_pipeline import option_file, weights

from ne_basicsr.cli.main import main
from ne_basicsr.utils import process_group
from ne_basicsr.utils.errors import InputError
from ne_basicsr.utils.process_group import Vote, ranks
from ne_basicsr.weights import checkpoint

# what every rank does: exchange numbers until something happens
WORK = (
    'import os, sys, time, torch\nfrom torch import distributed\n'
    'from ne_basicsr.utils.process_group import ranks\nfrom ne_basicsr.utils.errors import InputError\n'
    'with ranks("pytorch") as (rank, size):\n'
    '    for step in range(100_000):\n'
    '        distributed.all_reduce(torch.ones(1))\n'
    '        if step == 10:\n'
    '            print("working", flush=True)\n'
    '        if step == 20 and rank == 1:\n'
    '            {event}\n'
    '        time.sleep(0.005)\n'
)


@pytest.mark.parametrize('victim', [0, 1])
def test_killing_one_rank_ends_the_other(victim):
    processes = start(['-c', WORK.format(event='pass')])
    for process in processes:
        assert process.stdout.readline() == 'working\n'
    processes[victim].kill()
    found = ends(processes)
    killed, other = found[victim], found[1 - victim]
    assert killed[0] == -signal.SIGKILL
    assert other[0] == 1
    assert other[1].startswith(f'basicsr: process {1 - victim} ')


def test_the_error_of_one_rank_is_that_of_all():
    processes = start(['-c', WORK.format(event='raise InputError("broken.png: not a readable image")')])
    (code, line), failed = ends(processes)
    assert failed == (2, 'basicsr: process 1 failed: broken.png: not a readable image')
    assert code == 2
    assert line == 'basicsr: process 0 stops, since process 1 failed: broken.png: not a readable image'


def test_a_bug_in_one_rank_ends_all_and_shows_its_traceback():
    processes = start(['-c', WORK.format(event='1 / 0')])
    _, errors = processes[1].communicate(timeout=60)
    assert ends([processes[0]])[0][0] == processes[1].returncode == 1
    assert 'ZeroDivisionError' in errors
    assert errors.strip().splitlines()[-1] == 'basicsr: process 1 failed: division by zero'


def test_ranks_wait_for_a_busy_one_as_long_as_they_are_told():
    work = (
        'import time\nfrom datetime import timedelta\nfrom ne_basicsr.utils import process_group\n'
        'process_group.PATIENCE = timedelta(seconds=1)\n'
        'with process_group.ranks("pytorch", patience=timedelta(days=7)) as (rank, size):\n'
        '    time.sleep(3 * rank)\n'
        '    assert process_group.gathered(rank) == [0, 1]\n'
    )
    assert [code for code, _ in ends(start(['-c', work]))] == [0, 0]


TRAIN = {
    'network_g': {'type': 'DnCNN', 'num_feat': 6, 'num_layers': 4, 'act_mode': 'R'},  # BatchNorm sees one rank's part
    'train:optim_g': {'type': 'SGD', 'lr': 0.1},
    'train:clip_grad_norm': 0.5,
    'datasets:val:sigma_test': 25,
    'val': {'val_freq': 6, 'metrics': {}},
}


def test_two_ranks_and_parts_train_as_one_and_stop_together(workplace, image_folder):
    path = str(option_file(workplace, image_folder, **TRAIN))
    assert main(['train', '-opt', path]) == 0
    command = ['-m', 'ne_basicsr', 'train', '-opt', path, '--launcher', 'pytorch', '--auto_resume', '--force_yml']
    overrides = ['name=two', 'datasets:train:batch_size_per_gpu=1', 'train:accumulate=2']
    run = workplace / 'experiments' / 'two'

    processes = start([*command, *overrides, 'train:total_iter=100000', 'val:val_freq=100000'])
    while not list(run.glob('training_states/4.state')):
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)
    processes[1].send_signal(signal.SIGTERM)  # rank 0 hears of it from rank 1
    codes, lines = zip(*ends(processes), strict=True)
    assert codes == (143, 143)
    assert lines[0] == lines[1]
    assert 'SIGTERM: stopped after iteration' in lines[0]

    for state in run.glob('training_states/*.state'):  # go on from the first
        if state.stem != '4':
            state.unlink()
    launcher = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    result = subprocess.run(
        [sys.executable, *launcher, *command, *overrides],
        env=os.environ | {'OMP_NUM_THREADS': '1'}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    files = [workplace / 'experiments' / name / 'mismatch' / 'held_out_12.csv' for name in ('run', 'two')]
    for first, second in zip(*(csv.DictReader(file.read_text().splitlines()) for file in files), strict=True):
        assert (first['image'], first['level']) == (second['image'], second['level'])
        assert float(first['psnr_out']) == pytest.approx(float(second['psnr_out']), abs=1e-3)
    one, two = weights(workplace / 'experiments' / 'run'), weights(run)
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-6)
    first = checkpoint.read(workplace / 'experiments' / 'run' / 'models' / 'net_g_4.pth')['params']
    assert any((first[key] - one[key]).abs().max() > 1e-3 for key in one)  # it is no comparison of initial weights


def test_alone_a_vote_is_one_s_own():
    vote = Vote()
    assert (vote.ask(0), vote.ask(15), vote.ask(0)) == (0, 15, 0)
    vote.close()


def test_alone_everybody_is_gathered():
    assert process_group.gathered('x') == ['x']
    with ranks('none') as found:
        assert found == (0, 1)


SLURM = {'SLURM_PROCID': '3', 'SLURM_NTASKS': '4', 'SLURM_LOCALID': '1', 'SLURM_NODELIST': 'node[1-2]'}


@pytest.fixture
def slurm(monkeypatch):
    for name in ('MASTER_ADDR', 'MASTER_PORT', 'RANK', 'WORLD_SIZE', 'LOCAL_RANK'):
        monkeypatch.setenv(name, 'x')  # so that what is set below is taken back
        monkeypatch.delenv(name)
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_slurm_s_variables_become_torch_s(slurm):
    hosts = subprocess.CompletedProcess([], 0, stdout='node1\nnode2\n')
    slurm.setattr(subprocess, 'run', lambda command, **options: hosts)
    process_group._slurm_environment(29501)
    names = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')
    assert [os.environ[name] for name in names] == ['3', '4', '1', 'node1', '29501']


def test_slurm_without_its_tools_or_variables_is_one_line(slurm):
    def missing(*arguments, **options):
        raise FileNotFoundError(2, 'No such file or directory', 'scontrol')

    slurm.setattr(subprocess, 'run', missing)
    with pytest.raises(InputError, match=r'scontrol does not tell the hosts of node\[1-2\] .*; set MASTER_ADDR'):
        process_group._slurm_environment(29501)
    slurm.delenv('SLURM_PROCID')
    with pytest.raises(InputError, match='SLURM_PROCID not set; start with srun'), ranks('slurm'):
        pass
