"""Wrong input ends in one line and exit code 2, and leaves nothing behind."""

import os
import subprocess
import sys

import pytest
import yaml
from conftest import REPOSITORY
from test_pipeline import option_file

from ne_basicsr.cli import doctor
from ne_basicsr.cli.main import main


def fails(arguments, capsys) -> str:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith('basicsr: ')
    return line


@pytest.mark.parametrize(
    ('changes', 'parts'),
    [
        ({'network_g:type': 'DnCNNWNNE'}, ('run.yml: network_g:type', "'DnCNNWNNE'", "'DnCNNWNE'")),
        ({'network_g:num_feet': 8}, ('run.yml: network_g:num_feet', 'num_feat')),
        ({'datasets:train:type': 'DenoisingDatset'}, ('datasets:train:type', 'DenoisingDataset')),
        ({'datasets:train:dataroot_gt': 'no/such/folder'}, ('datasets:train:dataroot_gt', 'no/such/folder')),
        ({'datasets:train:io_backend': {'type': 'lmdb'}}, ('datasets:train', '.lmdb')),
        ({'model_type': 'DenoisngModel'}, ('model_type', 'DenoisingModel')),
        ({'val:metrics:psnr:type': 'calculate_psnr_flot'}, ('val:metrics:psnr:type', 'calculate_psnr_float')),
        ({'train:total_iters': 5}, ('train:total_iters', 'total_iter')),
        ({'train:total_iter': 'many'}, ('train:total_iter', 'many')),
        ({'path:pretrain_network_g': 'none.pth'}, ('path:pretrain_network_g', 'none.pth')),
        ({'network_g:num_layers': 1}, ('run.yml: network_g: DnCNNWNE refuses', 'at least 2')),
        (
            {'model_type': 'SRModel'},
            ('datasets:train:type', "other models those of BasicSR, e.g. PairedImageDataset; got 'DenoisingDataset'"),
        ),
        ({'name': '../elsewhere'}, ('name', '../elsewhere')),
        (
            {'network_g': {'type': 'SwinIR', 'upscale': 1, 'in_chans': 1, 'window_size': 5}},
            ('datasets:train:gt_size', '16 is not a multiple', 'use 15, or its WNE'),
        ),
    ],
)
def test_a_wrong_option_is_one_line_before_anything_is_made(changes, parts, workplace, image_folder, capsys):
    path = option_file(workplace, image_folder, **changes)
    line = fails(['train', '-opt', str(path)], capsys)
    for part in parts:
        assert part in line
    assert [p.name for p in workplace.iterdir()] == ['run.yml']


@pytest.mark.parametrize(
    'value', ["__import__('os').system('touch it_ran')", "[__import__('os').system('touch it_ran')]"]
)
def test_an_override_runs_nothing(value, workplace, image_folder, capsys):
    path = option_file(workplace, image_folder)
    line = fails(['train', '-opt', str(path), '--force_yml', f'name={value}'], capsys)
    assert 'literal' in line
    assert not (workplace / 'it_ran').exists()


def test_an_option_file_runs_nothing(workplace, capsys):
    path = workplace / 'evil.yml'
    path.write_text('name: !!python/object/apply:os.system ["touch it_ran"]\n')
    line = fails(['train', '-opt', str(path)], capsys)
    assert 'evil.yml' in line
    assert not (workplace / 'it_ran').exists()
    yaml.load(path.read_text(), Loader=yaml.UnsafeLoader)  # the control: it would have run
    assert (workplace / 'it_ran').exists()


def test_a_missing_option_file_names_its_neighbour(capsys):
    line = fails(['train', '-opt', str(REPOSITORY / 'options' / 'dncn_wne.yml')], capsys)
    assert 'dncnn_wne.yml' in line


def test_a_broken_image_ends_a_run_with_its_name_even_from_a_worker(workplace, image_folder, capsys):
    (image_folder / 'photo_2.png').write_bytes(b'\x89PNG cut short')
    for workers, mode in ((0, None), (1, None), (0, 'cpu')):
        loader = {'datasets:train:num_worker_per_gpu': workers, 'datasets:train:prefetch_mode': mode}
        path = option_file(workplace, image_folder, **loader)
        assert main(['train', '-opt', str(path)]) == 2
        assert 'photo_2: not a readable image (14 bytes)' in capsys.readouterr().err.strip().splitlines()[-1]


def test_weights_that_do_not_fit_end_in_one_line(workplace, image_folder, capsys):
    main(['train', '-opt', str(option_file(workplace, image_folder, **{'train:total_iter': 1}))])
    capsys.readouterr()
    checkpoint = 'experiments/run/models/net_g_1.pth'
    path = option_file(workplace, image_folder, **{'network_g:type': 'DnCNN', 'path:pretrain_network_g': checkpoint})
    assert main(['test', '-opt', str(path)]) == 2
    assert not (workplace / 'results').exists()
    assert 'they belong to a wrapped network: use its type' in capsys.readouterr().err.strip().splitlines()[-1]


def test_an_empty_data_folder_and_a_foreign_state_leave_the_runs_as_they_are(workplace, image_folder, tmp_path, capsys):
    main(['train', '-opt', str(option_file(workplace, image_folder, **{'train:total_iter': 4}))])
    before = sorted(p.name for p in (workplace / 'experiments').iterdir())
    (tmp_path / 'empty').mkdir()
    for changes, part in (
        ({'datasets:train:dataroot_gt': str(tmp_path / 'empty')}, 'no images found'),
        ({'name': 'other', 'path:resume_state': 'experiments/run/training_states/4.state'}, 'under its own name'),
    ):
        capsys.readouterr()
        assert main(['train', '-opt', str(option_file(workplace, image_folder, **changes))]) == 2
        assert part in capsys.readouterr().err.strip().splitlines()[-1]
        assert sorted(p.name for p in (workplace / 'experiments').iterdir()) == before


def test_overrides_set_numbers_lists_and_new_keys(workplace, image_folder):
    overrides = ['train:optim_g:lr=1e-4', 'train:optim_g:betas=[0.9, 0.99]', 'train:total_iter=1', 'manual_seed=3']
    assert main(['train', '-opt', str(option_file(workplace, image_folder)), '--force_yml', *overrides]) == 0
    (log,) = (workplace / 'experiments' / 'run').glob('*.log')
    assert 'lr: 0.0001' in log.read_text()
    assert '# --force_yml train:optim_g:lr=1e-4' in (workplace / 'experiments' / 'run' / 'options.yml').read_text()


def test_debug_runs_are_named_so_and_short(workplace, image_folder):
    path = option_file(workplace, image_folder, **{'train:total_iter': 8, 'val:val_freq': 1000})
    assert main(['train', '-opt', str(path), '--debug']) == 0
    assert (workplace / 'experiments' / 'debug_run' / 'mismatch' / 'held_out_8.csv').is_file()


def test_both_spellings_of_the_old_launcher_s_flag_are_taken(capsys):
    for flag in ('--local_rank=0', '--local-rank=0'):
        assert 'no such option file' in fails(['train', '-opt', 'none.yml', flag], capsys)


def test_a_launcher_that_was_not_used_is_explained(workplace, image_folder, capsys, monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    line = fails(['train', '-opt', str(option_file(workplace, image_folder)), '--launcher', 'pytorch'], capsys)
    assert 'start with torchrun' in line


def test_the_program_has_three_names(tmp_path):
    for command in (['basicsr'], ['ne-basicsr'], [sys.executable, '-m', 'ne_basicsr']):
        if command[0] != sys.executable:
            command = [str(REPOSITORY.__class__(sys.executable).parent / command[0])]
        result = subprocess.run([*command, '--version'], capture_output=True, text=True, cwd=tmp_path)
        assert result.stdout.startswith('ne_basicsr 0.'), (command, result.stderr)


@pytest.mark.parametrize(
    'command',
    ['train -opt x.yml', 'test -opt x.yml', 'quickstart', 'options', 'prepare x -o y', 'mismatch x --data y',
     'denoise x.png', 'sample x y', 'analyze --data x', 'check x', 'export x -o y', 'bench x', 'doctor'],
)  # fmt: skip
def test_without_a_current_folder_every_command_ends_in_one_line(command, workplace, capsys):
    workplace.rmdir()
    assert main(command.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('basicsr: the current folder is gone')


@pytest.mark.parametrize('size', [10, 1_000_000], ids=['at the end', 'in between'])
def test_output_that_nobody_reads_ends_a_command_quietly(size, monkeypatch, capsys):
    monkeypatch.setattr(doctor, 'run', lambda _: print('x' * size) or 0)
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, 'w') as pipe:
        monkeypatch.setattr(sys, 'stdout', pipe)
        assert main(['doctor']) == 141
        print('more', flush=True)  # as Python does when it exits
    assert capsys.readouterr().err == ''


def test_another_broken_pipe_is_not_taken_for_it(monkeypatch):
    def run(_):
        raise BrokenPipeError

    monkeypatch.setattr(doctor, 'run', run)
    with pytest.raises(BrokenPipeError):
        main(['doctor'])
