"""The main job from the command line: train, save, be killed, resume, test, on one process and on two."""

import csv
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from conftest import REPOSITORY
from forked import Forked, run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ne_basicsr.cli.main import main
from ne_basicsr.weights import checkpoint


def option_file(folder: Path, images: Path, **changes) -> Path:
    """A small but complete option file; ``changes`` are set by their colon path."""
    data = {'type': 'DenoisingDataset', 'dataroot_gt': str(images), 'io_backend': {'type': 'disk'}}
    noise = {'type': 'gaussian', 'sigma255': 25}
    options = {
        'name': 'run', 'model_type': 'DenoisingModel', 'num_gpu': 0, 'manual_seed': 0,
        'datasets': {
            'train': data | {'name': 'small', 'gt_size': 16, 'noise': noise, 'batch_size_per_gpu': 4,
                             'num_worker_per_gpu': 0, 'dataset_enlarge_ratio': 2},
            'val': data | {'name': 'held_out', 'sigma_test': [10, 25, 60]},
        },
        'network_g': {'type': 'DnCNNWNE', 'num_feat': 6, 'num_layers': 4},
        'path': {},
        'train': {'total_iter': 12, 'optim_g': {'type': 'Adam', 'lr': 1e-3},
                  'scheduler': {'type': 'MultiStepLR', 'milestones': [6, 9], 'gamma': 0.5},
                  'pixel_opt': {'type': 'MSELoss'}},
        'val': {'val_freq': 4, 'save_img': False, 'save_best': 'psnr', 'metrics': {
            'psnr': {'type': 'calculate_psnr_float'},
            'as_it_is': {'type': 'calculate_psnr_float', 'clamp': False}, 'ssim': {'type': 'calculate_ssim_float'},
            'psnr_8bit': {'type': 'calculate_psnr', 'crop_border': 0},
            'ne_defect': {'type': 'calculate_ne_defect', 'better': 'lower', 'samples': 2},
            'mean_psnr': {'type': 'calculate_mismatch'},
            'worst_loss': {'type': 'calculate_mismatch', 'summary': 'worst_loss', 'better': 'lower'}}},
        'logger': {'print_freq': 2, 'save_checkpoint_freq': 4, 'use_tb_logger': True},
    }  # fmt: skip
    for path, value in changes.items():
        *sections, key = path.split(':')
        section = options
        for name in sections:
            section = section[name]
        section[key] = value
    path = folder / 'run.yml'
    path.write_text(yaml.safe_dump(options, sort_keys=False))
    return path


def weights(run: Path, iteration: int | str = 12) -> dict[str, torch.Tensor]:
    return checkpoint.read(run / 'models' / f'net_g_{iteration}.pth')['params']


def assert_equal_weights(first, second):
    assert first.keys() == second.keys()
    for key in first:
        assert torch.equal(first[key], second[key]), key


def test_a_run_leaves_everything_it_promises(workplace, image_folder):
    assert main(['train', '-opt', str(option_file(workplace, image_folder))]) == 0
    run = workplace / 'experiments' / 'run'
    assert {p.name for p in (run / 'models').iterdir()} == {*(f'net_g_{i}.pth' for i in (4, 8, 12, 'latest', 'best'))}
    assert {p.name for p in (run / 'training_states').iterdir()} == {'4.state', '8.state', '12.state'}
    assert_equal_weights(weights(run), weights(run, 'latest'))

    (log,) = run.glob('train_run_*.log')
    text = log.read_text()
    for part in ('iter:      12', 'l_pix:', '# psnr:', '# worst_loss:', 'Best:', 'Mismatch held_out', 'sigma  60.00'):
        assert part in text
    with open(run / 'mismatch' / 'held_out_12.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 * 3
    defects = [float(row['ne_defect']) for row in rows if row['ne_defect']]
    assert len(defects) == 4 and max(defects) < 1e-5  # of four images, at the middle level
    assert [row['level'] for row in rows if row['ne_defect']] == ['25'] * 4
    assert re.search(r'# ne_defect: \d\.?\d?e-\d\d\tBest: \d\.?\d?e-\d\d @', text)
    assert all((row['psnr'], row['as_it_is']) == (row['psnr_clamped'], row['psnr_out']) for row in rows)
    assert any(row['psnr'] != row['as_it_is'] for row in rows)
    assert abs(float(rows[0]['psnr_8bit']) - float(rows[0]['psnr_out'])) < 1
    assert cv2.imread(str(run / 'mismatch' / 'held_out_12.png')) is not None

    events = EventAccumulator(str(workplace / 'tb_logger' / 'run'), size_guidance={'images': 0}).Reload()
    assert 'mismatch/held_out' in events.Tags()['images']
    scalars = events.Tags()['scalars']
    for tag in ('losses/l_pix', 'metrics/held_out/psnr', 'mismatch/held_out/worst_loss', 'mismatch/held_out/mean_psnr'):
        assert tag in scalars
    best = max(events.Scalars('metrics/held_out/psnr'), key=lambda event: event.value)
    assert_equal_weights(weights(run, best.step), weights(run, 'best'))


@pytest.mark.parametrize(
    ('changes', 'problem'),
    [
        ({'datasets:train:small_images': 'refuse', 'datasets:train:gt_size': 64}, 'is 48x56; lower gt_size'),
        ({'val:metrics': {'psnr': {'type': 'calculate_psnr_float', 'crop_border': 24}}}, 'lower crop_border'),
    ],
)
def test_a_run_that_cannot_start_ends_in_one_line_and_leaves_no_folder(
    workplace, image_folder, capfd, changes, problem
):
    assert main(['train', '-opt', str(option_file(workplace, image_folder, **changes))]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert problem in line
    assert not (workplace / 'experiments').exists()


def test_a_run_says_on_the_terminal_what_its_log_says(workplace, image_folder):
    changes = {'datasets:train:gt_size': 64, 'datasets:val:sigma_test': [25, 25]}
    command = [
        sys.executable,
        '-m',
        'ne_basicsr',
        'train',
        '-opt',
        str(option_file(workplace, image_folder, **changes)),
    ]
    shown = run(command, check=True).stderr.splitlines()
    (log,) = (workplace / 'experiments' / 'run').glob('train_run_*.log')
    written = log.read_text().splitlines()
    assert sorted(line for line in shown if ' INFO: ' in line) == sorted(line for line in written if ' INFO: ' in line)
    for warning in ('its borders are reflected', 'has a level twice'):
        assert [sum(warning in line for line in lines) for lines in (shown, written)] == [1, 1]


def test_training_learns(workplace, image_folder):
    path = option_file(
        workplace, image_folder, **{'train:total_iter': 150, 'val:val_freq': 150, 'train:scheduler:milestones': [100]}
    )
    main(['train', '-opt', str(path)])
    with open(workplace / 'experiments' / 'run' / 'mismatch' / 'held_out_150.csv', newline='') as file:
        rows = [row for row in csv.DictReader(file) if row['level'] == '25']
    gains = [float(row['psnr_out']) - float(row['psnr_in']) for row in rows]
    assert np.mean(gains) > 2


@pytest.mark.parametrize('ema_decay', [0, 0.9])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(workplace, image_folder, ema_decay):
    changes = {'train:ema_decay': ema_decay}
    path = str(option_file(workplace, image_folder, **changes))
    main(['train', '-opt', path])
    main(['train', '-opt', path, '--force_yml', 'name=parts', 'train:total_iter=8'])
    main(['train', '-opt', path, '--auto_resume', '--force_yml', 'name=parts'])
    straight, parts = (workplace / 'experiments' / name for name in ('run', 'parts'))
    assert 'Resuming training from epoch' in max(parts.glob('*.log')).read_text()
    for key in ('params', 'params_ema') if ema_decay else ('params',):
        assert_equal_weights(*(checkpoint.read(run / 'models' / 'net_g_12.pth')[key] for run in (straight, parts)))
    first, second = (checkpoint.read(run / 'training_states' / '12.state') for run in (straight, parts))
    assert first['best_metric_results'] == second['best_metric_results']
    assert not list((workplace / 'experiments').glob('parts_archived*'))


@pytest.mark.parametrize(
    ('target', 'network', 'amp'),
    [('neighbor2neighbor', 'DnCNNWNE', None), ('r2r', 'DnCNN', 'bf16'), ('sure', 'DnCNNWNE', 'bf16')],
)
def test_noisy_images_alone_train_and_resume_exactly(workplace, image_folder, target, network, amp):
    noisy = {'type': 'NoisyDataset', 'dataroot_lq': str(image_folder), 'name': 'noisy', 'gt_size': 16, 'target': target}
    data = {'train': noisy | {'batch_size_per_gpu': 4, 'num_worker_per_gpu': 0}}
    changes = {'datasets': data, 'train:amp': amp, 'network_g:type': network, 'val': None, 'train:total_iter': 4}
    path = str(option_file(workplace, image_folder, **changes, **{'logger:save_checkpoint_freq': 2}))
    for name, more in (('run', []), ('parts', ['train:total_iter=2'])):
        assert main(['train', '-opt', path, '--force_yml', f'name={name}', *more]) == 0
    assert main(['train', '-opt', path, '--auto_resume', '--force_yml', 'name=parts']) == 0
    assert_equal_weights(*(weights(workplace / 'experiments' / name, 4) for name in ('run', 'parts')))
    (log,) = (workplace / 'experiments' / 'run').glob('*.log')
    assert ('l_target: ' in log.read_text()) == (target != 'r2r')


def test_ema_weights_have_the_running_statistics(workplace, image_folder):
    main(['train', '-opt', str(option_file(workplace, image_folder, **{'train:ema_decay': 0.5}))])
    content = checkpoint.read(workplace / 'experiments' / 'run' / 'models' / 'net_g_12.pth')
    statistics = [key for key in content['params'] if 'running' in key]
    assert statistics
    for key in statistics:
        assert torch.equal(content['params'][key], content['params_ema'][key])
        assert content['params'][key].ne(float('var' in key)).any()


def test_a_run_killed_at_any_moment_goes_on_from_its_last_complete_checkpoint(workplace, image_folder):
    changes = {'train:total_iter': 60, 'val:val_freq': 20, 'logger:save_checkpoint_freq': 2, 'network_g:num_feat': 32}
    path = option_file(workplace, image_folder, **changes)
    main(['train', '-opt', str(path)])
    killed = workplace / 'experiments' / 'killed'
    command = [
        sys.executable,
        '-m',
        'ne_basicsr',
        'train',
        '-opt',
        str(path),
        '--auto_resume',
        '--force_yml',
        'name=killed',
    ]
    for count in (3, 11):
        process = Forked(command)
        while len(list(killed.glob('training_states/*.state'))) < count and process.poll() is None:
            time.sleep(0.003)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    newest = max(int(p.stem) for p in killed.glob('training_states/*.state'))
    (killed / 'training_states' / f'{newest}.state').write_bytes(b'torn')  # what BasicSR's own writer could leave
    assert main(['train', '-opt', str(path), '--auto_resume', '--force_yml', 'name=killed']) == 0
    assert_equal_weights(weights(workplace / 'experiments' / 'run', 60), weights(killed, 60))


def test_a_run_killed_while_validating_validates_again_when_resumed(workplace, image_folder, monkeypatch):
    from ne_basicsr.models.denoising_model import DenoisingModel

    path = str(option_file(workplace, image_folder))
    main(['train', '-opt', path])
    validation = DenoisingModel.validation

    def killed_at_12(self, loader, iteration, *rest):
        if iteration == 12:
            raise KeyboardInterrupt
        validation(self, loader, iteration, *rest)

    monkeypatch.setattr(DenoisingModel, 'validation', killed_at_12)
    assert main(['train', '-opt', path, '--force_yml', 'name=killed']) == 130
    monkeypatch.undo()
    monkeypatch.chdir(workplace)
    assert main(['train', '-opt', path, '--auto_resume', '--force_yml', 'name=killed']) == 0
    straight, killed = (workplace / 'experiments' / name for name in ('run', 'killed'))
    for part in ('mismatch/held_out_12.csv', 'models/net_g_best.pth'):
        assert (killed / part).is_file()
    assert (straight / 'mismatch/held_out_12.csv').read_text() == (killed / 'mismatch/held_out_12.csv').read_text()
    states = [checkpoint.read(run / 'training_states' / '12.state') for run in (straight, killed)]
    assert states[0]['best_metric_results'] == states[1]['best_metric_results']


def test_validation_needs_no_metrics(workplace, image_folder):
    path = option_file(workplace, image_folder, **{'val': {'val_freq': 6}, 'train:total_iter': 6})
    assert main(['train', '-opt', str(path)]) == 0
    assert (workplace / 'experiments' / 'run' / 'mismatch' / 'held_out_6.csv').is_file()


def test_the_test_command_measures_a_checkpoint(workplace, image_folder):
    path = str(option_file(workplace, image_folder))
    main(['train', '-opt', path])
    checkpoint_file = workplace / 'experiments' / 'run' / 'models' / 'net_g_12.pth'
    overrides = [f'path:pretrain_network_g={checkpoint_file}', 'name=tested', 'val:save_img=true']
    assert main(['test', '-opt', path, '--force_yml', *overrides]) == 0
    trained, tested = (
        (workplace / folder / 'mismatch').joinpath(f'held_out_{label}.csv').read_text()
        for folder, label in (('experiments/run', '12'), ('results/tested', 'tested'))
    )
    assert trained == tested
    images = {p.name for p in (workplace / 'results' / 'tested' / 'visualization' / 'held_out').iterdir()}
    assert 'photo_0_sigma25_tested.png' in images
    assert len(images) == 6 * 3
    (log,) = (workplace / 'results' / 'tested').glob('test_*.log')
    assert '# psnr: ' in log.read_text() and 'Best' not in log.read_text() and 'random' not in log.read_text()
    assert main(['test', '-opt', path, '--force_yml', 'name=untrained']) == 0
    (log,) = (workplace / 'results' / 'untrained').glob('test_*.log')
    assert 'path:pretrain_network_g is not set: the weights are random' in log.read_text()


SHIPPED = sorted(
    p.name for p in (REPOSITORY / 'options').glob('*.yml') if not p.name.startswith(('quickstart', 'zero_shot'))
)


@pytest.mark.parametrize('file', SHIPPED)
def test_shipped_options_run(file, workplace, image_folder):
    small = {
        'datasets:train:dataroot_gt': image_folder, 'datasets:val:dataroot_gt': image_folder,
        'datasets:val:sigma_test': 25, 'datasets:train:gt_size': 16, 'datasets:train:batch_size_per_gpu': 2,
        'datasets:train:num_worker_per_gpu': 0, 'num_gpu': 0, 'train:total_iter': 1, 'val:val_freq': 1, 'name': 'one',
        'datasets:train:io_backend:type': 'disk',
    }  # fmt: skip
    if file == 'microscope.yml':  # noisy images and no validation
        small = {key: value for key, value in small.items() if 'dataroot' not in key and ':val' not in key}
        small = {k: v for k, v in small.items() if k != 'val:val_freq'} | {'datasets:train:dataroot_lq': image_folder}
    if 'swinir' in file:
        small |= {'network_g:depths': '[1]', 'network_g:num_heads': '[2]', 'network_g:embed_dim': 8}
        small |= {'network_g:img_size': 16}
    elif 'restormer' in file:
        small |= {'network_g:dim': 4, 'network_g:num_blocks': '[1, 1, 1, 1]', 'network_g:heads': '[1, 1, 1, 1]'}
        small |= {'network_g:num_refinement_blocks': 1}
    elif 'drunet' in file or 'shipped' in file:
        small |= {'network_g:num_feats': '[4, 4, 4, 4]', 'network_g:num_blocks': 1}
        if 'shipped' in file:
            small |= {f'datasets:train:{key}': '~' for key in ('iters', 'gt_sizes', 'mini_batch_sizes')}
    else:
        small |= {'network_g:num_layers': 3, 'network_g:num_feat': 4}
    overrides = [f'{key}={value}' for key, value in small.items()]
    assert main(['train', '-opt', str(REPOSITORY / 'options' / file), '--force_yml', *overrides]) == 0
    assert (workplace / 'experiments' / 'one' / 'models' / 'net_g_1.pth').is_file()


@pytest.mark.parametrize(
    ('file', 'parameters'),
    [('swinir', 903_121), ('dncnn', 668_225), ('fdncnn', 665_920), ('restormer', None), ('drunet', None)],
)
def test_shipped_options_have_the_paper_s_networks_and_differ_in_one_word(file, parameters):
    from basicsr.archs import build_network

    from ne_basicsr.options import read_yaml

    plain, wrapped = (read_yaml(REPOSITORY / 'options' / f'{name}.yml')['network_g'] for name in (file, f'{file}_wne'))
    assert wrapped['type'] == plain['type'] + 'WNE'
    assert {k: v for k, v in wrapped.items() if k not in ('prediction', 'statistics')} == plain | {
        'type': wrapped['type']
    }
    for options in (plain, wrapped):
        if parameters:
            assert sum(p.numel() for p in build_network(options).parameters()) == parameters


def test_basicsr_s_own_models_train_and_resume_here(workplace, image_folder):
    options = {
        'name': 'paired', 'model_type': 'SwinIRModel', 'scale': 1, 'num_gpu': 0, 'manual_seed': 0,
        'datasets': {phase: {
            'name': phase, 'type': 'PairedImageDataset', 'dataroot_gt': str(image_folder),
            'dataroot_lq': str(image_folder), 'filename_tmpl': '{}', 'io_backend': {'type': 'disk'}, 'gt_size': 16,
            'use_hflip': True, 'use_rot': True, 'use_shuffle': True, 'num_worker_per_gpu': 0, 'batch_size_per_gpu': 2,
        } for phase in ('train', 'val')},
        'network_g': {'type': 'SwinIRWNE', 'upscale': 1, 'in_chans': 3, 'img_size': 16, 'window_size': 8, 'depths': [1],
                      'embed_dim': 8, 'num_heads': [2], 'mlp_ratio': 2, 'upsampler': ''},
        'path': {'pretrain_network_g': None, 'strict_load_g': True, 'resume_state': None},
        'train': {'ema_decay': 0.9, 'total_iter': 4, 'warmup_iter': -1, 'optim_g': {'type': 'Adam', 'lr': 1e-4},
                  'scheduler': {'type': 'MultiStepLR', 'milestones': [2], 'gamma': 0.5},
                  'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'}},
        'val': {'val_freq': 2, 'save_img': False, 'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 0}}},
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 2, 'use_tb_logger': False},
    }  # fmt: skip
    path = workplace / 'paired.yml'
    path.write_text(yaml.safe_dump(options))
    assert main(['train', '-opt', str(path), '--force_yml', 'train:total_iter=2']) == 0
    assert main(['train', '-opt', str(path), '--auto_resume']) == 0
    run = workplace / 'experiments' / 'paired'
    assert (run / 'models' / 'net_g_4.pth').is_file()
    assert any('Resuming training from epoch: 0, iter: 2' in log.read_text() for log in run.glob('*.log'))
    assert [p.name for p in run.parent.iterdir()] == ['paired']


def test_public_weights_reach_their_published_psnr_through_the_test_command(workplace, shared):
    """DnCNN-S at 25 on three images of Set12, IEEE TIP 2017, Table III: C.man 30.18, House 33.06, Peppers 30.87 dB."""
    folder = workplace / 'three'
    folder.mkdir()
    for name in ('01', '02', '03'):
        shutil.copy(shared / 'data' / 'Set12' / f'{name}.png', folder)
    options = option_file(workplace, folder, **{
        'network_g': {'type': 'DnCNN', 'num_layers': 17, 'act_mode': 'R'},
        'datasets:val:sigma_test': 25, 'val:metrics': {'psnr': {'type': 'calculate_psnr_float'}},
        'path:pretrain_network_g': str(shared / 'weights' / 'kair_dncnn_25.pth'),
    })  # fmt: skip
    assert main(['test', '-opt', str(options)]) == 0
    with open(workplace / 'results' / 'run' / 'mismatch' / 'held_out_run.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert np.mean([float(row['psnr_clamped']) for row in rows]) == pytest.approx((30.18 + 33.06 + 30.87) / 3, abs=0.05)
