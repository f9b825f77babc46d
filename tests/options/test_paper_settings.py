"""The option files train what the authors trained: each run of ``goldens/trainings.csv`` against a line of the script.

The table is the authors' own list of their gray runs. What it does not have, Figure 21 and the networks of Tables 7
to 10, is taken from the paper's text.
"""

import copy
import csv
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import GOLDENS, REPOSITORY

from ne_basicsr.ops.noise import TrainingNoise
from ne_basicsr.options import apply_overrides, read_yaml
from ne_basicsr.train.targets import TARGETS

SCRIPT = REPOSITORY / 'scripts' / 'reproduce_paper.sh'
RUNS = {row['run']: row for row in csv.DictReader((GOLDENS / 'trainings.csv').read_text().splitlines())}
NOISES = ('uniform', 'laplace', 'rayleigh')
NAMES = {  # the authors' names, and ours
    'b_dncnn': 'dncnn', 'wne_dncnn': 'dncnn_wne', 'wnei_dncnn': 'dncnn_input_only', 'se_fdncnn': 'fdncnn_scale_equiv',
    'ne_fdncnn': 'fdncnn_norm_equiv', 'b_swinir': 'swinir', 'wne_swinir': 'swinir_wne',
    'softne_swinir': 'swinir_soft_ne',
}  # fmt: skip
SWINIR = {
    'upscale': 1, 'img_size': 64, 'window_size': 8, 'img_range': 1.0, 'depths': [6, 6, 6, 6], 'embed_dim': 60,
    'num_heads': [6, 6, 6, 6], 'mlp_ratio': 2, 'upsampler': '', 'resi_connection': '1conv',
}  # fmt: skip
ARCHITECTURES: dict[str, dict[str, Any]] = {
    'dncnn': {
        'type': 'DnCNN', 'num_in_ch': 1, 'num_out_ch': 1, 'num_feat': 64, 'num_layers': 20, 'act_mode': 'BR',
        'bn_eps': 1e-5, 'init': 'paper',
    },
    'fdncnn': {'type': 'FDnCNN', 'num_in_ch': 1, 'num_out_ch': 1, 'num_feat': 64, 'num_layers': 20, 'blind': True},
    'swinir': {'type': 'SwinIR', 'in_chans': 1, **SWINIR},
    'swinir_sidd': {'type': 'SwinIRNoMean', 'in_chans': 3, **SWINIR},
    'restormer': {
        'type': 'Restormer', 'inp_channels': 1, 'out_channels': 1, 'dim': 48, 'num_blocks': [4, 6, 6, 8],
        'num_refinement_blocks': 4, 'heads': [1, 2, 4, 8], 'ffn_expansion_factor': 2.66, 'bias': False,
        'LayerNorm_type': 'WithBias', 'dual_pixel_task': False,
    },
}  # fmt: skip
TARGET_OF = {'True': 'soft_ne', 'False': 'clean', '': 'clean'}
ADAM = {'type': 'Adam', 'lr': 1e-4, 'weight_decay': 0, 'betas': [0.9, 0.999]}


def settings(
    model: str, wrapper: str, mode: str, batch: int, patch: int, loss: str, halving: int | None, noise: str | None,
    levels: tuple[float, float] | None, iterations: int, target: str = 'clean', optimizer: dict[str, Any] = ADAM,
    seed: int = 0, **further: Any,
) -> dict[str, Any]:  # fmt: skip
    """What makes a run, in one form for tables and option files; ``halving``: every so many iterations."""
    steps = {} if halving is None else dict.fromkeys(range(halving, iterations, halving), 0.5)
    network = ARCHITECTURES[model] | ({'mode': mode} if model == 'fdncnn' else {})
    return {
        'network': network, 'wrapper': wrapper, 'batch': batch, 'patch': patch, 'loss': loss, 'steps': steps,
        'noise': noise, 'levels': levels, 'iterations': iterations, 'target': target, 'optimizer': optimizer,
        'seed': seed, 'ema': 0, 'amp': None, **further,
    }  # fmt: skip


def published(row: dict[str, str]) -> dict[str, Any]:
    """``settings`` of a row of the authors' table."""
    assert row['model_pred_mode'] == 'direct'
    wrappers = {'idem': '', 'norm-equiv': 'WNE', 'norm-equiv-input': 'InputNorm'}
    return settings(
        model=row['model'],
        wrapper=wrappers[row['model_wrapper_mode']],
        mode=row['model_model_mode'],
        batch=int(row['batch_size']),
        patch=int(row['s_patch_size']),
        loss=row['loss_type'],
        halving=int(row['lr_halving_steps']) if row['lr_halving_steps'] else None,
        noise=row['noise_type'] or 'gaussian',
        levels=(float(row['min_noise']), float(row['max_noise'])),
        iterations=int(row['num_steps']),
        target='noise2noise' if row['train_objective'] == 'n2n' else TARGET_OF[row['soft_ne_loss']],
        optimizer=ADAM | {'lr': float(row['lr'])},
        seed=int(row['seed']),
    )


def from_text() -> dict[str, dict[str, Any]]:
    """By our names, what the paper's text and figures have beyond the authors' table."""
    runs = {}
    for noise, level in zip(NOISES, (14, 20, 17), strict=True):  # Figure 21
        for wrapper, halving in (('', None), ('WNE', 100_000)):
            name = f'swinir{wrapper and "_wne"}_{noise}'
            runs[name] = settings('swinir', wrapper, 'ordinary', 32, 64, 'l2', halving, noise, (level, level), 500_000)
    for level in (10, 25, 50):  # Tables 7 and 8
        at = 'gaussian', (level, level)
        runs[f'fdncnn_sigma{level}'] = settings('fdncnn', '', 'ordinary', 128, 70, 'l1', None, *at, 500_000)
        runs[f'fdncnn_wne_sigma{level}'] = settings('fdncnn', 'WNE', 'ordinary', 128, 70, 'l2', 100_000, *at, 900_000)
        for wrapper, halving in (('', None), ('WNE', 100_000)):
            plain = settings('restormer', wrapper, '', 8, 64, 'l2', halving, *at, 500_000)
            runs[f'restormer{wrapper and "_wne"}_sigma{level}'] = plain
            channels = {'inp_channels': 3, 'out_channels': 3}
            colour = plain | {'network': plain['network'] | channels}
            runs[f'restormer{wrapper and "_wne"}_colour_sigma{level}'] = colour
    for wrapper in ('', 'WNE'):  # Table 10
        further = {
            'optimizer': ADAM | {'type': 'AdamW', 'lr': 3e-4}, 'amp': 'fp16',
            'steps': {'type': 'CosineAnnealingLR', 'T_max': 400_000, 'eta_min': 1e-6},
        }  # fmt: skip
        name = f'sidd_swinir{wrapper and "_wne"}'
        runs[name] = settings('swinir_sidd', wrapper, '', 32, 64, 'l1', None, None, None, 400_000, **further)
    return runs


def asked(options: dict[str, Any]) -> dict[str, Any]:
    """``settings`` of an option file."""
    train, data = copy.deepcopy(options['train']), options['datasets']['train']
    network = dict(options['network_g'])
    wrapper = network['type'] if 'backbone' in network else 'WNE' * network['type'].endswith('WNE')
    if wrapper:
        assert network.pop('prediction', 'direct') == 'direct'
        assert network.pop('statistics', 'mean_std') == 'mean_std'
    network = network.get('backbone', network)
    network['type'] = network['type'].removesuffix('WNE')
    scheduler = train['scheduler']
    if scheduler['type'] == 'MultiStepLR':
        scheduler = {step: scheduler['gamma'] for step in scheduler['milestones'] if step < train['total_iter']}
    noise = data.get('noise') or {'type': None}
    levels = noise.get('sigma255')
    if levels is not None and noise.get('sigma_type', 'constant') == 'constant':
        levels = (levels, levels)
    loss = train.pop('pixel_opt')
    assert loss | {'loss_weight': 1.0, 'reduction': 'mean'} == loss
    assert not [key for key in train if key.endswith('_opt')]  # the only loss
    return {
        'network': network,
        'wrapper': wrapper,
        'batch': data['batch_size_per_gpu'] * train.get('accumulate', 1),
        'patch': data['gt_size'],
        'loss': {'L1Loss': 'l1', 'MSELoss': 'l2'}[loss['type']],
        'steps': scheduler,
        'noise': noise['type'],
        'levels': levels and tuple(levels),
        'iterations': train['total_iter'],
        'target': data.get('target', 'clean'),
        'optimizer': train['optim_g'],
        'seed': options['manual_seed'],
        'ema': train['ema_decay'],
        'amp': train.get('amp'),
    }


@cache
def listed() -> dict[str, tuple[str, Path, list[str]]]:
    """By name, the groups, the option file and the overrides of each run that the script lists."""
    result = subprocess.run(['bash', str(SCRIPT), 'list'], capture_output=True, text=True, check=True)
    runs = {}
    for groups, file, overrides in (line.split('|') for line in result.stdout.splitlines()):
        words = overrides.split()
        (name,) = (word.removeprefix('name=') for word in words if word.startswith('name='))
        runs[name] = groups, REPOSITORY / 'options' / 'experiments' / f'{file.strip()}.yml', words
    return runs


def options_of(name: str, *further: str) -> dict[str, Any]:
    _, path, overrides = listed()[name]
    return apply_overrides(read_yaml(path), [*overrides, *further])


def our_name(run: str) -> str:
    """What the script calls a run of the authors."""
    words = run.split('_')
    if words[0] in NOISES:
        return f'{NAMES["_".join(words[1:3])]}_{words[0]}'
    name = NAMES['_'.join(words[:2])]
    if words[2:] == ['0-55']:
        return f'{name}_multi_noise'
    if words[-1] == 'n2n':
        return f'{name}_noise2noise'
    return name if name in listed() else f'{name}_sigma{words[2]}'


@pytest.mark.parametrize('run', RUNS)
def test_each_run_of_the_authors_is_a_line_of_the_script(run: str) -> None:
    assert asked(options_of(our_name(run))) == published(RUNS[run])


@pytest.mark.parametrize('name', from_text())
def test_what_the_text_adds_is_a_line_of_the_script(name: str) -> None:
    assert asked(options_of(name)) == from_text()[name]


ALTERED = [
    'network_g:type=SwinIR', 'network_g:embed_dim=64', 'network_g:depths=[6, 6, 6]', 'datasets:train:gt_size=48',
    'datasets:train:batch_size_per_gpu=16', 'datasets:train:noise:type=laplace',
    'datasets:train:noise:sigma255=[0, 50]',
    'datasets:train:noise={type: gaussian, sigma255: 25}', 'datasets:train:target=noise2noise',
    'datasets:train:target=soft_ne', 'train:pixel_opt:type=L1Loss', 'train:optim_g:lr=2e-4', 'train:optim_g:type=AdamW',
    'train:optim_g:weight_decay=1e-4', 'train:optim_g:betas=[0.9, 0.99]', 'train:scheduler:milestones=[]',
    'train:scheduler:milestones=[100000, 200000, 300000]', 'train:scheduler:gamma=0.1', 'train:total_iter=900000',
    'train:accumulate=2', 'train:ema_decay=0.999', 'manual_seed=1', 'train:amp=bf16',
]  # fmt: skip


@pytest.mark.parametrize('change', ALTERED)
def test_one_altered_setting_is_noticed(change: str) -> None:
    run = 'wne_swinir_0-55'
    assert asked(options_of(our_name(run), change)) != published(RUNS[run])


@pytest.mark.parametrize(
    ('run', 'change'),
    [
        ('b_dncnn_10', 'network_g:init=near_identity'),
        ('b_dncnn_10', 'network_g:bn_eps=1e-4'),
        ('wnei_dncnn_10', 'network_g:type=WNE'),
        ('wnei_dncnn_10', 'network_g:backbone:num_layers=17'),
        ('ne_fdncnn_25', 'network_g:mode=ordinary'),
    ],
)
def test_an_altered_network_is_noticed(run: str, change: str) -> None:
    assert asked(options_of(our_name(run), change)) != published(RUNS[run])


def test_soft_ne_draws_what_the_authors_drew() -> None:
    (row,) = (row for row in RUNS.values() if row['soft_ne_loss'] == 'True')
    images = torch.tensor([0.0, 1.0]).expand(2000, 1, 1, 2)
    noise = TrainingNoise('gaussian', 'constant', (10 / 255,))
    _, gt = TARGETS['soft_ne'](noise, images, range(2000))
    mu, alpha = gt[..., 0].flatten(), (gt[..., 1] - gt[..., 0]).flatten()
    for draws, name in ((alpha, 'alpha'), (mu, 'mu')):
        low, high = (float(row[f'soft_ne_{name}_{end}']) for end in ('min', 'max'))
        # the extremes of 2000 uniform draws: within 0.01 of the ends but with probability 4e-9
        assert low - 1e-6 <= draws.min() < low + 0.01
        assert high - 0.01 < draws.max() <= high + 1e-6
        assert draws.mean().item() == pytest.approx((low + high) / 2, abs=0.03)  # 4 standard deviations


def test_what_is_beyond_the_paper_says_so() -> None:
    paper = {our_name(run) for run in RUNS} | set(from_text())
    for name, (groups, path, _) in listed().items():
        comments = [line for line in path.read_text(encoding='utf-8').splitlines() if line.startswith('#')]
        marks = 'beyond' in groups.split(), 'Not in the paper' in '\n'.join(comments)
        assert marks == ((name not in paper,) * 2), name
    assert len(paper) == len(RUNS) + len(from_text()) == 36 + 26
