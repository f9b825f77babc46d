"""The experiments: every option file of options/experiments runs, and the script's list has them all."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
import torch
from conftest import REPOSITORY, smooth_photograph

from ne_basicsr.cli.main import _parser, main
from ne_basicsr.ops.degradations import parse_degradation
from ne_basicsr.options import load_options, read_yaml
from ne_basicsr.utils.errors import InputError

SCRIPT = REPOSITORY / 'scripts' / 'reproduce_paper.sh'
EXPERIMENTS = sorted((REPOSITORY / 'options' / 'experiments').glob('*.yml'))
TINY = {
    'DnCNN': {'num_layers': 2, 'num_feat': 4},
    'FDnCNN': {'num_layers': 2, 'num_feat': 4},
    'SwinIR': {'depths': [1], 'num_heads': [2], 'embed_dim': 8, 'img_size': 16},
    'SwinIRNoMean': {'depths': [1], 'num_heads': [2], 'embed_dim': 8, 'img_size': 16},
    'Restormer': {'dim': 4, 'num_blocks': [1, 1, 1, 1], 'heads': [1, 1, 1, 1], 'num_refinement_blocks': 1},
}


def script(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(['bash', str(SCRIPT), *arguments], capture_output=True, text=True, **options)  # type: ignore[call-overload,no-any-return]


def commands(*groups: str) -> list[str]:
    result = script('--dry-run', *groups)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are slower on more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def datasets(workplace: Path) -> Path:
    """The folders and files that the experiments name, with two small images each."""
    folder = workplace / 'datasets'
    for name in ('train', 'train_colour', 'Set12', 'BSD68', 'CBSD68', 'SIDD/lq', 'SIDD/gt'):
        (folder / name).mkdir(parents=True)
        for index in range(2):
            channels = [smooth_photograph(24, 32, 10 * index + channel) for channel in range(3)]
            cv2.imwrite(str(folder / name / f'{index}.png'), np.stack(channels, axis=-1))
    blocks = np.random.default_rng(0).integers(0, 256, (1, 2, 16, 16, 3), np.uint8)
    for name in ('Gt', 'Noisy'):
        scipy.io.savemat(str(folder / 'SIDD' / f'Validation{name}BlocksSrgb.mat'), {name: blocks})
    return folder


def shrunk(path: Path) -> list[str]:
    """Overrides that make an experiment two iterations of a tiny network."""
    options = read_yaml(path)
    network, place = options['network_g'], 'network_g'
    if 'backbone' in network:
        network, place = network['backbone'], 'network_g:backbone'
    changes = {f'{place}:{key}': value for key, value in TINY[network['type'].removesuffix('WNE')].items()}
    changes |= {'name': 'tiny', 'num_gpu': 0, 'train:total_iter': 2, 'val:val_freq': 2, 'logger:use_tb_logger': 'false'}
    train: dict[str, object] = {'gt_size': 16, 'batch_size_per_gpu': 2, 'num_worker_per_gpu': 0}
    if options['train']['scheduler'].get('T_max'):
        changes['train:scheduler:T_max'] = 2
    if options['datasets']['train'].get('iters'):
        train |= {'iters': [1, 1], 'gt_sizes': [8, 16], 'mini_batch_sizes': [2, 1]}
    if options['model_type'] == 'PairedDenoisingModel':
        train |= {'io_backend:type': 'disk', 'dataroot_gt': 'datasets/SIDD/gt', 'dataroot_lq': 'datasets/SIDD/lq'}
    else:
        changes |= {f'datasets:{key}:sigma_test': 25 for key in options['datasets'] if key != 'train'}
    changes |= {f'datasets:train:{key}': value for key, value in train.items()}
    return [f'{key}={value}' for key, value in changes.items()]


@pytest.mark.parametrize('path', EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_trains_and_validates(path: Path, datasets: Path) -> None:
    assert main(['train', '-opt', str(path), '--force_yml', *shrunk(path)]) == 0
    run = datasets.parent / 'experiments' / 'tiny'
    assert (run / 'models' / 'net_g_2.pth').is_file()
    names = {section['name'] for key, section in read_yaml(path)['datasets'].items() if key != 'train'}
    assert {file.stem for file in run.glob('*/*_2.csv')} == {f'{name}_2' for name in names}
    if 'sidd' in path.stem:
        rows = (run / 'pairs' / 'SIDD_validation_2.csv').read_text().splitlines()
        assert rows[0] == 'image,psnr_in,psnr_out,psnr_clamped,psnr,ssim'
        assert [row.partition(',')[0] for row in rows[1:]] == ['0001_01', '0001_02']
        resumed = [*shrunk(path), 'train:total_iter=3']
        assert main(['train', '-opt', str(path), '--auto_resume', '--force_yml', *resumed]) == 0
        assert (run / 'models' / 'net_g_3.pth').is_file()


WRONG = [
    ('dncnn_wne_jpeg', 'train:noise:quality', '0', 'quality factors are integers from 1 to 100; got 0'),
    ('dncnn_wne_jpeg', 'train:noise:quality', '[]', 'missing: '),
    ('dncnn_wne_jpeg', 'train:noise:sigma255', '5', 'type jpeg has no sigma255; got 5'),
    ('dncnn_wne_jpeg', 'train:target', 'noise2noise', 'two noisy copies need noise, and JPEG is none'),
    ('dncnn', 'train:noise:photons', '5', 'type gaussian has no photons; got 5'),
    ('dncnn', 'train:noise:sigma255', 'none', 'missing: Noise level in 8-bit units'),
    ('dncnn', 'train:target', 'soft-ne', "did you mean 'soft_ne'?"),
    ('restormer_progressive', 'train:gt_sizes', '[8]', 'one number per phase, as many as iters, is needed; got [8]'),
    ('restormer_progressive', 'train:gt_sizes', '[8, 24]', 'at most gt_size: 16 is possible; got [8, 24]'),
    ('restormer_progressive', 'train:iters', 'none', 'missing: Progressive patch sizes: iterations of each phase'),
    ('sidd_swinir', 'train:dataroot_lq', 'datasets/SIDD/lp', "did you mean 'datasets/SIDD/lq'?"),
    ('sidd_swinir', 'train:gt_size', '12', '12 is not a multiple of 8, which SwinIRNoMean needs; use 8'),
    ('sidd_swinir', 'train:in_ch', '1', '1, but network_g takes 3'),
    ('sidd_swinir', 'val:sigma_test', '5', 'unknown option'),
    ('sidd_swinir', 'val:dataroot_gt', 'datasets/SIDD', 'a file is needed'),
]


@pytest.mark.parametrize(('name', 'key', 'value', 'problem'), WRONG, ids=[f'{w[0]} {w[1]}={w[2]}' for w in WRONG])
def test_a_wrong_experiment_gives_one_line(name: str, key: str, value: str, problem: str, datasets: Path) -> None:
    path = REPOSITORY / 'options' / 'experiments' / f'{name}.yml'
    with pytest.raises(InputError) as error:
        load_options(path, [*shrunk(path), f'datasets:{key}={value}'], is_train=True)
    assert problem in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        ('model_type=SRModel', "other models those of BasicSR, e.g. PairedImageDataset; got 'SIDDDataset'"),
        ('model_type=DenoisingModel', "DenoisingModel takes DenoisingDataset and NoisyDataset, .* got 'SIDDDataset'"),
        ('val:metrics:psnr:type=calculate_mismatch', 'the noise of pairs has no levels'),
    ],
)
def test_pairs_need_their_model_and_its_metrics(change: str, problem: str, datasets: Path) -> None:
    path = REPOSITORY / 'options' / 'experiments' / 'sidd_swinir_wne.yml'
    # all that BasicSR's own model makes
    train = ['train:optim_g:type=Adam', 'train:amp=none'] if 'SRModel' in change else []
    with pytest.raises(InputError, match=problem):
        load_options(path, [*shrunk(path), *train, change], is_train=True)


def test_gray_experiments_test_both_sets_at_the_paper_s_levels() -> None:
    spaced = np.geomspace(5, 100, 20)
    for path in EXPERIMENTS:
        sets = {key: value for key, value in read_yaml(path)['datasets'].items() if key != 'train'}
        if 'sidd' in path.stem:
            continue
        names = {section['name'] for section in sets.values()}
        assert names == ({'CBSD68'} if 'colour' in path.stem else {'Set12', 'BSD68'}), path.name
        noise = read_yaml(path)['datasets']['train']['noise']
        for section in sets.values():
            levels = np.array(section['sigma_test'])
            assert all(abs(levels / level - 1).min() < 1e-5 for level in spaced), path.name
            if not isinstance(noise.get('sigma255', []), list):
                assert noise['sigma255'] in section['sigma_test'], path.name
            if noise['type'] != 'jpeg':
                assert (section.get('noise') or {'type': 'gaussian'})['type'] == noise['type'], path.name


def test_the_script_runs_every_experiment_and_names_each_run_once() -> None:
    lines = [line.split() for line in commands('all')]
    assert {Path(line[line.index('-opt') + 1]) for line in lines} == set(EXPERIMENTS)
    names = [word for line in lines for word in line if word.startswith('name=')]
    assert len(names) == len(lines) == len(set(names))
    assert all(line[:2] == ['+', 'basicsr'] and '--auto_resume' in line for line in lines)


def test_every_line_of_the_script_loads(datasets: Path) -> None:
    for line in {line.partition('--force_yml')[0]: line for line in commands('all')}.values():
        words = line.split()
        path, overrides = Path(words[words.index('-opt') + 1]), words[words.index('--force_yml') + 1 :]
        options = load_options(path, [*shrunk(path), *overrides], is_train=True)
        assert f'name={options["name"]}' in overrides
        level = next((word for word in overrides if 'sigma255' in word), None)
        assert level is None or options['name'].endswith(f'_sigma{level.partition("=")[2]}')


def test_groups_choose_and_further_overrides_reach_every_run() -> None:
    assert len(commands('table1')) == 18
    assert len(commands('table7')) == 12
    assert len(commands('table1', 'table7')) == 24  # six in both
    assert [line.split('/')[-1].split('.')[0] for line in commands('sidd')] == ['sidd_swinir', 'sidd_swinir_wne']
    further = commands('sidd', '--', 'train:total_iter=3', 'num_gpu=0')
    assert all(line.endswith(' train:total_iter=3 num_gpu=0') for line in further)


def test_figures_give_options_to_the_mismatch_commands_alone_and_every_line_parses() -> None:
    for options in ([], ['--degradation', 'jpeg', '--draws', '3']):
        lines = commands('figures', 'a.pth', 'b.pth', *options)
        parsed = [_parser().parse_args(line.split()[2:]) for line in lines]
        curves, defects, analysis, *walks = parsed
        assert (curves.networks, defects.networks, analysis.networks) == (['a.pth', 'b.pth'],) * 3
        (sweep,) = [parse_degradation(text) for text in defects.degradations]
        assert (sweep.kind, sweep.levels, defects.defect) == ('gaussian', tuple(range(0, 100, 5)), 'all')  # Figure 9
        assert (curves.degradations, curves.draws) == ((['jpeg'], 3) if options else (['gaussian'], 20))
        assert curves.data == [Path('datasets/Set12'), Path('datasets/BSD68')]
        assert analysis.data == Path('datasets/BSD400')
        assert [(walk.network, walk.against, walk.task) for walk in walks] == [
            ('a.pth', ['b.pth'], task) for task in ('denoise', 'random')
        ]
        assert len({each.output for each in parsed}) == 5  # no command writes over another
    assert len(commands('figures', 'a.pth', '--device', 'cpu')) == 3  # nothing to compare with


@pytest.mark.parametrize(
    'arguments', [[], ['tabel1'], ['--dry-run'], ['sigma10'], ['figures'], ['figures', '--draws', '2'], ['--', 'a=b']]
)
def test_wrong_words_give_one_line_and_run_nothing(arguments: list[str]) -> None:
    result = script(*arguments)
    assert result.returncode == 2
    assert result.stdout == ''
    (line,) = result.stderr.splitlines()
    assert 'GROUP is all, or one of: ' in line


def test_the_script_stops_at_the_first_failure_and_hands_words_on_as_they_are(tmp_path: Path) -> None:
    program = tmp_path / 'basicsr'
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >> seen\nexit 3\n')
    program.chmod(0o755)
    path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
    result = script('sidd', '--', 'a=[1, 2]', cwd=tmp_path, env=os.environ | {'PATH': path})
    assert result.returncode == 3
    assert len(result.stdout.splitlines()) == 1
    seen = (tmp_path / 'seen').read_text().splitlines()
    assert seen[-3:] == ['--force_yml', 'name=sidd_swinir', 'a=[1, 2]']


@pytest.mark.skipif(shutil.which('shellcheck') is None, reason='shellcheck is not installed')
def test_the_script_is_clean() -> None:
    assert subprocess.run(['shellcheck', str(SCRIPT)], check=False).returncode == 0
