"""Stopping, resuming and full disks. Fifty kills at random moments: tests/kill_and_resume.py."""

import os
import resource
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from forked import Forked, run
from kill_and_resume import curves, same
from test_pipeline import option_file, weights

from ne_basicsr.cli.main import main
from ne_basicsr.models.denoising_model import DenoisingModel
from ne_basicsr.train.progression import batch_of, samples_per_iteration
from ne_basicsr.weights import checkpoint

EVERYTHING = {
    'train:accumulate': 2,
    'train:ema_decay': 0.9,
    'train:clip_grad_norm': 0.5,
    'train:warmup_iter': 8,
    'train:optim_g': {'type': 'AdamW', 'lr': 1e-3, 'weight_decay': 0.01},
    'train:scheduler': {'type': 'CosineAnnealingLR', 'T_max': 12, 'eta_min': 1e-6},
    'datasets:train:batch_size_per_gpu': 2,
    'datasets:val:sigma_test': 25,
    'val': {'val_freq': 4, 'save_best': 'psnr', 'metrics': {'psnr': {'type': 'calculate_psnr_float'}}},
}


@pytest.fixture
def options(workplace, image_folder):
    return str(option_file(workplace, image_folder, **EVERYTHING))


def train(options, *overrides):
    return main(['train', '-opt', options, '--auto_resume', '--force_yml', 'num_gpu=0', *overrides])


def signalled(monkeypatch, number, at, method='optimize_parameters'):
    """Let a signal arrive in an iteration, or in its validation."""
    original = getattr(DenoisingModel, method)

    def and_signal(self, *arguments):
        if at in arguments:
            os.kill(os.getpid(), number)
        return original(self, *arguments)

    monkeypatch.setattr(DenoisingModel, method, and_signal)


def final(workplace, name):
    """What a finished run leaves: weights and averages, state, best network, curves."""
    run = workplace / 'experiments' / name
    files = ('models/net_g_12.pth', 'models/net_g_best.pth', 'training_states/12.state')
    return [*(checkpoint.read(run / file) for file in files), curves(workplace / 'tb_logger' / name)]


@pytest.mark.parametrize('method', ['optimize_parameters', 'validation'])
@pytest.mark.parametrize(('number', 'code'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_resumed_run_ends_as_if_nothing_had_been(
    options, workplace, monkeypatch, capsys, number, code, method
):
    assert train(options) == 0
    at = 5 if method == 'optimize_parameters' else 4
    with monkeypatch.context() as patch:
        signalled(patch, number, at, method)
        assert train(options, 'name=stopped') == code
    assert f'{number.name}: stopped after iteration {at}, which is saved' in capsys.readouterr().err
    assert (workplace / 'experiments' / 'stopped' / 'training_states' / f'{at}.state').is_file()
    assert train(options, 'name=stopped') == 0
    for straight, resumed in zip(final(workplace, 'run'), final(workplace, 'stopped'), strict=True):
        assert same(straight, resumed)


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_all_processes_saves_too(options, workplace, number, code):
    # a scheduler's, and the terminal's Ctrl-C: the workers of the loader get it at the same time
    more = [
        'datasets:train:num_worker_per_gpu=1',
        'train:total_iter=100000',
        'logger:print_freq=1',
        'val:val_freq=100000',
    ]
    process = Forked(
        [sys.executable, '-m', 'ne_basicsr', 'train', '-opt', options, '--force_yml', 'num_gpu=0', *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        next(line for line in process.stdout if 'iter:       3' in line)
        os.killpg(process.pid, number)
        rest = process.stdout.read()
        assert process.wait(60) == code, rest
    finally:
        process.kill()
    assert 'which is saved' in rest
    assert 'Traceback' not in rest
    assert rest.count('saving after this iteration') == 1


@pytest.mark.parametrize('lost', ['average', 'optimizer', 'schedule'])
def test_a_resume_that_forgets_something_would_be_noticed(options, workplace, monkeypatch, lost):
    train(options)
    with monkeypatch.context() as patch:
        signalled(patch, signal.SIGTERM, 5)
        train(options, 'name=stopped')
    run = workplace / 'experiments' / 'stopped'
    networks, state = run / 'models' / 'net_g_5.pth', run / 'training_states' / '5.state'
    if lost == 'average':
        content = checkpoint.read(networks)
        checkpoint.write(networks, content | {'params_ema': content['params']})
    else:
        content = checkpoint.read(state)
        if lost == 'optimizer':
            content['optimizers'][0]['state'] = {}
        else:
            content['schedulers'][0]['last_epoch'] = 0
        checkpoint.write(state, content)
    train(options, 'name=stopped')
    assert not same(final(workplace, 'run')[0], final(workplace, 'stopped')[0])


def test_what_was_logged_after_the_checkpoint_is_taken_back(options, workplace, monkeypatch):
    class Killed(BaseException):
        pass

    def at_11(self, iteration, *rest, original=DenoisingModel.optimize_parameters):
        if iteration == 11:
            raise Killed
        original(self, iteration, *rest)

    train(options)
    with monkeypatch.context() as patch:
        patch.setattr(DenoisingModel, 'optimize_parameters', at_11)
        with pytest.raises(Killed):
            train(options, 'name=killed')
    before = curves(workplace / 'tb_logger' / 'killed')['losses/l_pix']
    assert before[-1][0] == 10  # beyond the last checkpoint, 8
    train(options, 'name=killed')
    assert curves(workplace / 'tb_logger' / 'killed') == curves(workplace / 'tb_logger' / 'run')


def test_a_validation_that_comes_again_is_logged_once(options, workplace, monkeypatch):
    """Killed after TensorBoard has the validation, and before the state says so."""

    class Killed(BaseException):
        pass

    saved: list[int] = []

    def killed_at_the_second(self, epoch, iteration, original=DenoisingModel.save_training_state):
        saved.append(iteration)
        if saved.count(8) == 2:
            raise Killed
        original(self, epoch, iteration)

    train(options)
    with monkeypatch.context() as patch:
        patch.setattr(DenoisingModel, 'save_training_state', killed_at_the_second)
        with pytest.raises(Killed):
            train(options, 'name=killed')
    straight, killed_curves = (curves(workplace / 'tb_logger' / name) for name in ('run', 'killed'))
    assert [step for step, _ in killed_curves['metrics/held_out/psnr']] == [4, 8]
    train(options, 'name=killed')
    assert curves(workplace / 'tb_logger' / 'killed') == straight
    assert 8 in dict(straight['losses/l_pix'])


def test_the_scale_of_the_loss_is_resumed(workplace, image_folder, monkeypatch):
    options = str(option_file(workplace, image_folder, **EVERYTHING, **{'train:amp': 'fp16'}))
    assert train(options) == 0
    with monkeypatch.context() as patch:
        signalled(patch, signal.SIGTERM, 5)
        train(options, 'name=stopped')
    state = checkpoint.read(workplace / 'experiments' / 'stopped' / 'training_states' / '5.state')
    assert state['scaler']['_growth_tracker'] == 5
    train(options, 'name=stopped')
    for straight, resumed in zip(final(workplace, 'run'), final(workplace, 'stopped'), strict=True):
        assert same(straight, resumed)


def test_a_full_disk_ends_the_run_with_one_line_and_keeps_the_last_checkpoint(options, workplace, monkeypatch, capsys):
    save = torch.save

    def full(content, file):
        if content.get('iter') == 8:
            raise OSError(28, 'No space left on device')
        save(content, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, 'save', full)
        assert train(options) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith('free some space and continue with --auto_resume')
    assert '8.state: cannot be written (No space left on device); the last complete checkpoint is kept' in line
    run = workplace / 'experiments' / 'run'
    assert [path.name for path in (run / 'training_states').iterdir()] == ['4.state']
    assert not list(run.glob('*/.*.part'))
    assert train(options) == 0
    assert train(options, 'name=straight') == 0
    for straight, resumed in zip(final(workplace, 'straight'), final(workplace, 'run'), strict=True):
        assert same(straight, resumed)


def test_a_limit_of_the_system_is_reported_as_such(tmp_path):
    script = (
        'import resource, sys, torch\nfrom pathlib import Path\nfrom ne_basicsr.weights import checkpoint\n'
        'path = Path(sys.argv[1]) / "net.pth"\n'
        'checkpoint.write(path, {"params": torch.zeros(10)})\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n'
        'try:\n'
        '    checkpoint.write(path, {"params": torch.zeros(1_000_000)})\n'
        'except OSError as error:\n'
        '    print(error.strerror, error.filename)\n'
    )
    result = run([sys.executable, '-c', script, str(tmp_path)], check=True)
    assert result.stdout.strip() == f'File too large {tmp_path / "net.pth"}'
    assert checkpoint.read(tmp_path / 'net.pth')['params'].shape == (10,)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000


def test_a_log_file_that_cannot_be_written_ends_the_run(options, capsys, monkeypatch):
    from ne_basicsr.train import pipeline

    def full(self, record, original=pipeline._LogFile.emit):
        if 'iter:       6' in record.getMessage():
            self.stream = open('/dev/full', 'w')  # noqa: SIM115 - the handler closes it
        original(self, record)

    monkeypatch.setattr(pipeline._LogFile, 'emit', full)
    assert train(options) == 2
    assert 'No space left on device' in capsys.readouterr().err.splitlines()[-1]


def test_a_run_folder_that_vanishes_ends_the_run_with_one_line(options, workplace, monkeypatch, capsys):
    run = workplace / 'experiments' / 'run'

    def vanish(self, iteration, *rest, original=DenoisingModel.optimize_parameters):
        original(self, iteration, *rest)
        if iteration == 3:
            shutil.rmtree(run)

    monkeypatch.setattr(DenoisingModel, 'optimize_parameters', vanish)
    assert train(options, 'val=~', 'train:total_iter=4') == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f'{run}: was removed or renamed while a run wrote to it')
    assert not run.exists()


def test_a_resume_with_another_batch_says_so_once(options, workplace):
    def warnings(*overrides):
        for log in workplace.glob('experiments/run/*.log'):
            log.unlink()
        assert train(options, 'val=~', *overrides) == 0
        (log,) = workplace.glob('experiments/run/train_*.log')
        return [line for line in log.read_text().splitlines() if 'WARNING' in line and 'another batch' in line]

    assert not warnings('train:total_iter=4')
    assert not warnings('train:total_iter=5')
    (line,) = warnings('train:total_iter=6', 'datasets:train:batch_size_per_gpu=4', 'train:accumulate=1')
    assert 'batch_size_per_gpu 4 instead of 2, accumulate 1 instead of 2. ' in line


@pytest.mark.parametrize(
    ('changes', 'expected'),
    [({'dist': True, 'world_size': 3}, 3), ({'dist': False, 'num_gpu': 2}, 2), ({'dist': False, 'num_gpu': 0}, 1)],
)
def test_ranks_and_gpus_are_part_of_the_batch(changes, expected):
    opt = {'num_gpu': 1, 'world_size': 1, 'datasets': {'train': {'batch_size_per_gpu': 2}}, 'train': {'accumulate': 5}}
    assert batch_of(opt | changes)['processes'] == expected
    assert samples_per_iteration(opt | changes) == 10 * expected


def test_two_runs_differ_where_nothing_was_resumed(options, workplace):
    """The control for what is compared above."""
    train(options)
    train(options, 'name=other', 'manual_seed=1')
    assert not same(weights(workplace / 'experiments' / 'run'), weights(workplace / 'experiments' / 'other'))
