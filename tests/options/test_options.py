"""Option files: read safely, refused with one line when wrong, completed as BasicSR's builders expect."""

import copy
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import yaml
from conftest import REPOSITORY

from ne_basicsr.archs.backbone import build_arch
from ne_basicsr.options import apply_overrides, load_options, read_yaml, schema, trial
from ne_basicsr.options import paths as option_paths
from ne_basicsr.options.reader import parse_literal
from ne_basicsr.options.rules import cautions
from ne_basicsr.options.sections import by_signature
from ne_basicsr.options.source import option_reads
from ne_basicsr.options.validation import check
from ne_basicsr.utils.errors import InputError, OptionError
from ne_basicsr.weights import shipped_models

CORPUS = REPOSITORY / 'tests' / 'broken_options'
BROKEN = yaml.safe_load((CORPUS / 'table.yml').read_text(encoding='utf-8'))
RUNS_CODE = 'name: !!python/object/apply:os.mkdir [ran]\n'


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with what the good option files name, on a machine without GPUs."""
    for folder in ('data/train', 'data/val', 'data/train_lq', 'data/val_lq', 'data/broken.lmdb', 'weights'):
        (tmp_path / folder).mkdir(parents=True)
    for file in ('weights/net_g.pth', 'data/notes.txt'):
        (tmp_path / file).touch()
    torch.save(
        {'params': build_arch({'type': 'DnCNNWNE', 'num_feat': 4, 'num_layers': 4}).state_dict()},
        tmp_path / 'weights/other.pth',
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    monkeypatch.setattr(trial, 'memory', lambda _: 2**37)
    return tmp_path


def write(text: str) -> Path:
    path = Path('options.yml')
    path.write_text(text, encoding='utf-8')
    return path


def good(name: str = 'denoising') -> str:
    return (CORPUS / f'{name}.yml').read_text(encoding='utf-8')


def refusal(text: str, force_yml: tuple[str, ...] = (), is_train: bool = True) -> str:
    """The one line that an option file ends in."""
    with pytest.raises(InputError) as error:
        load_options(write(text), force_yml, is_train=is_train)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    return message


# -- the corpus --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('case', BROKEN, ids=[f'{index}: {case["by"][:40]!r}' for index, case in enumerate(BROKEN)])
def test_a_broken_file_gives_exactly_its_line(case: dict[str, Any], project: Path) -> None:
    text = (CORPUS / case['file']).read_text(encoding='utf-8')
    assert case['replace'] in text
    before = sorted(project.rglob('*'))
    broken = text.replace(case['replace'], case['by'], 1)
    line = refusal(broken, is_train=case.get('is_train', True))
    message, number = re.fullmatch(r'(.*?)(?: \(line (\d+)\))?', line, re.DOTALL).groups()  # type: ignore[union-attr]
    assert message == f'options.yml: {case["error"]}'
    if number is None:  # nothing to point at, unless YAML itself is wrong
        assert 'missing' in message or message.startswith('options.yml: line ')
    else:
        names = case['error'].partition(': ')[0].split(':')
        assert any(name in broken.splitlines()[int(number) - 1] for name in names)
    assert sorted(project.rglob('*')) == sorted([*before, project / 'options.yml'])


def test_the_corpus_is_large_enough() -> None:
    assert len(BROKEN) >= 190


@pytest.mark.parametrize('is_train', [True, False])
@pytest.mark.parametrize('name', ['denoising', 'esrgan', 'swinir', 'edvr'])
def test_good_files_pass_with_every_value_as_given(name: str, is_train: bool) -> None:
    given = read_yaml(CORPUS / f'{name}.yml')
    opt = load_options(CORPUS / f'{name}.yml', is_train=is_train)
    assert_contains(opt, given)


def assert_contains(complete: Any, given: Any, key: str = '') -> None:
    if isinstance(given, dict):
        for name, value in given.items():
            if value is not None and f'{key}:{name}' != ':num_gpu':
                assert_contains(complete[name], value, f'{key}:{name}')
    else:
        assert complete == given, key


def test_shipped_option_files_validate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(option_paths, '_check_exists', lambda *_, **__: None)
    monkeypatch.setattr(trial, 'memory', lambda _: float('inf'))
    # most files share their network, and building one takes a while
    tried: set[str] = set()
    check = trial.check
    monkeypatch.setattr(
        trial,
        'check',
        lambda opt, *rest: repr(opt['network_g']) in tried or tried.add(repr(opt['network_g'])) or check(opt, *rest),
    )
    files = sorted((REPOSITORY / 'options').rglob('*.yml'))
    for path in files:
        opt = load_options(path, ['num_gpu=auto'], is_train='train' in read_yaml(path))
        said = [each for each in cautions(opt) if not each.startswith('path:pretrain_network_g')]  # the user's to set
        assert said == [], path


SCHEDULE = good()[good().index('    type: CosineAnnealingRestartLR') : good().index('  pixel_opt:')]
CLEAN = good()[good().index('    type: DenoisingDataset') : good().index('    num_worker_per_gpu')]
NOISY = '    type: NoisyDataset\n    dataroot_lq: data/train\n    gt_size: 40\n    sigma255: 0.1\n'
UNSAVED = good().replace('  save_best: held_out/psnr\n', '')
NOISE = '      type: gaussian\n      sigma_type: constant\n      sigma255: 25\n'
PHOTONS = '    noise: {type: poisson_gaussian}'  # of which 1000 are not too many
VALIDATION = good()[good().index('  val:\n    name: held_out') : good().index('network_g:')]


@pytest.mark.parametrize(
    ('replace', 'by', 'said'),
    [
        (
            SCHEDULE,
            '    type: MultiStepLR\n    milestones: [500, 2000]\n',
            'milestones: [500, 2000]: 2000 has no effect',
        ),
        (SCHEDULE, '    type: MultiStepLR\n    milestones: [500, 100]\n', 'milestones: [500, 100] does not rise'),
        (SCHEDULE, '    type: MultiStepLR\n    milestones: [500]\n    gamma: 2\n', 'gamma: 2 is not between 0 and 1'),
        (SCHEDULE, '    type: CosineAnnealingLR\n    T_max: 10\n', 'T_max: 10 is before total_iter: 1000'),
        ('warmup_iter: -1', 'warmup_iter: 1000', 'warmup_iter: 1000 is not before total_iter: 1000'),
        ('lr: 1e-4', 'lr: 1e4', 'lr: 10000.0 is large'),
        ('lr: 1e-4', 'lr: 0', 'lr: 0 trains nothing'),
        ('warmup_iter: -1', 'amp: bf16', 'amp: bf16: this processor has no instructions for it'),
        ('sigma255: 25', 'sigma255: 0.1', 'sigma255: 0.1 is in 8-bit units, where white is 255; is 25.5 meant?'),
        ('sigma255: 25', 'sigma255: 300', 'sigma255: 300 is in 8-bit units; 300 is more than white'),
        ('sigma255: 25', 'sigma255: 0', 'sigma255: 0 adds no noise'),
        (CLEAN, NOISY, 'datasets:train:sigma255: 0.1 is in 8-bit units'),
        (CLEAN, NOISY.replace('0.1', '0'), 'datasets:train:sigma255: 0 says that there is no noise to learn from'),
        ('sigma_test: [5, 25, 50]', 'sigma_test: [25, 25]', 'sigma_test: [25, 25] has a level twice'),
        ('sigma_test: [5, 25, 50]', 'sigma_test: [0]', 'sigma_test: [0] adds no noise'),
        (
            NOISE,
            '      type: mixture\n      of: [{sigma255: 25}, {sigma255: 0.5}]\n',
            'sigma255: 0.5 is in 8-bit units',
        ),
        (
            'sigma_test: [5, 25, 50]',
            f'sigma_test: [1000, 1000]\n{PHOTONS}',
            'sigma_test: [1000, 1000] has a level twice',
        ),
        ('num_worker_per_gpu: 0', 'num_worker_per_gpu: 1000', 'num_worker_per_gpu: 1000 processes'),
        (VALIDATION, '', 'no data set such as datasets:val, so nothing is validated'),
        (UNSAVED[UNSAVED.index('val:\n  val_freq') : UNSAVED.index('logger:')], '', 'no val section'),
    ],
)
def test_a_legal_choice_that_is_hardly_meant_is_named_once(
    replace: str, by: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('os.cpu_count', lambda: 8)
    monkeypatch.setattr('ne_basicsr.options.rules.has_bf16', lambda device: False)
    assert replace in UNSAVED
    assert cautions(load_options(write(UNSAVED), is_train=True)) == []
    (line,) = cautions(load_options(write(UNSAVED.replace(replace, by, 1)), is_train=True))
    assert said in line


def test_a_step_that_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    load_options(write(good()), is_train=True)
    monkeypatch.setattr(trial, 'memory', lambda _: 2**20)
    assert re.search(r'batch_size_per_gpu: 4 crops of 40x40 .* use \d+ or fewer', refusal(good()))
    # four parts of half the side are as many pixels, and sure has twice the images
    needed = {}
    for target in ('clean', 'neighbor2neighbor', 'sure'):
        found: list[int] = []
        monkeypatch.setattr(trial, '_check_memory', lambda value, *_, found=found: found.append(value))
        load_options(write(good()), [f'datasets:train:target={target}'], is_train=True)
        needed[target] = found[-1]
    assert needed['neighbor2neighbor'] == needed['clean']
    assert needed['sure'] == pytest.approx(2 * needed['clean'], rel=0.01)


@pytest.mark.parametrize(
    ('line', 'folder', 'names'),
    [
        ('0::/a/b', 'a', ('memory.max', 'memory.current')),
        ('4:memory:/a/b', 'memory/a', ('memory.limit_in_bytes', 'memory.usage_in_bytes')),
    ],
)
def test_the_memory_of_a_container_is_that_of_its_group(
    tmp_path: Path, line: str, folder: str, names: tuple[str, str]
) -> None:
    (tmp_path / folder / 'b').mkdir(parents=True)
    for name, value in zip((*names, 'memory.stat'), ('1000', '700', 'anon 1\ninactive_file 200'), strict=True):
        (tmp_path / folder / name).write_text(f'{value}\n')
        (tmp_path / folder / 'b' / name).write_text('max\n')
    groups = f'3:cpu:/a/b\n{line}\n'
    assert list(trial._limits(groups, tmp_path, free=False)) == [1000]
    assert list(trial._limits(groups, tmp_path, free=True)) == [500]


def test_of_several_phases_the_one_with_most_pixels_is_tried():
    train = {'in_ch': 3, 'gt_sizes': [128, 300], 'mini_batch_sizes': [8, 1]}
    assert trial.largest_batch({'datasets': {'train': train}}, is_train=True) == (8, 3, 128)


def test_trying_a_network_draws_no_weights_and_uses_no_random_numbers() -> None:
    before = torch.get_rng_state()
    network = trial.build({'type': 'DnCNN', 'num_feat': 512, 'num_layers': 100})
    assert sum(parameter.numel() for parameter in network.parameters()) > 2e8
    assert torch.equal(torch.get_rng_state(), before)


# -- reading -----------------------------------------------------------------------------------------------------------


def test_a_file_that_runs_code_under_the_unsafe_loader_runs_nothing_here(project: Path) -> None:
    path = write(RUNS_CODE)
    with pytest.raises(InputError, match='run no code'):
        read_yaml(path)
    assert not (project / 'ran').exists()
    yaml.load(RUNS_CODE, Loader=yaml.UnsafeLoader)  # the negative control: the same text does run
    assert (project / 'ran').exists()


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('1e-4', 1e-4),
        ('2E-4', 2e-4),
        ('-1e3', -1000.0),
        ('.5', 0.5),
        ('1.', 1.0),
        ('+3', 3),
        ('1_000', 1000),
        ('010', 10),
        ('0o10', 8),
        ('0x1F', 31),
        ('-.inf', float('-inf')),
        ('!!float 1', 1.0),
        ('!!int "7"', 7),
        ('!!str 7', '7'),
        ('1:30', '1:30'),
        ('2024-01-01', '2024-01-01'),
        ('001_DnCNN', '001_DnCNN'),
        ('1e', '1e'),
        ('true', True),
        ('False', False),
        ('~', None),
        ('', None),
        ('none', 'none'),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    read = read_yaml(write(f'key: {text}\n'))['key']
    assert read == value
    assert type(read) is type(value)


def test_a_missing_file_names_the_nearest_one() -> None:
    write('name: x\n')
    with pytest.raises(InputError, match=r"^option\.yml: no such option file; did you mean 'options\.yml'\?$"):
        read_yaml('option.yml')


@pytest.mark.parametrize(
    ('content', 'problem'),
    [
        (b'', 'the file is empty'),
        (b'# nothing\n', 'the file is empty'),
        (b'- name\n', 'the top level must be `key: value` lines; got a list'),
        (b'name: \xff\n', 'not a text file in UTF-8'),
        (b'a: &a [*a]\n', 'line 1: the alias refers to a section that contains it'),
        (b'[' * 5000, 'too many nested brackets'),
        (b'a: 1\n---\nb: 2\n', 'line 2: not valid YAML'),
        (b'a: [1, {b: 2, b: 3}]\n', "line 1: the key 'b' is already given"),
        (b'a: !!set {b}\n', 'line 1: the tag !!set is refused'),
    ],
)
def test_files_that_are_no_option_files_are_refused_in_one_line(content: bytes, problem: str) -> None:
    Path('x.yml').write_bytes(content)
    with pytest.raises(InputError) as error:
        read_yaml('x.yml')
    assert str(error.value).startswith(f'x.yml: {problem}')
    assert len(str(error.value).splitlines()) == 1


def test_an_option_file_is_a_regular_file_of_at_most_one_megabyte() -> None:
    text = good()
    filled = f'{text}#{"x" * (1_000_000 - len(text.encode()) - 2)}\n'
    load_options(write(filled), is_train=True)
    assert refusal(filled + '\n') == 'options.yml: more than 1 MB; is it an option file?'
    os.mkfifo('pipe.yml')
    with pytest.raises(InputError, match=r'^pipe\.yml: not a regular file; remove it, or name another$'):
        read_yaml('pipe.yml')


def test_aliases_of_aliases_cannot_fill_the_memory() -> None:
    lines = ['a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]']
    lines += [f'a{n}: &a{n} [{", ".join([f"*a{n - 1}"] * 9)}]' for n in range(1, 12)]
    with pytest.raises(InputError, match='at most 100000 values'):
        read_yaml(write('\n'.join(lines)))


def test_sections_from_one_alias_are_apart_and_merges_may_overrule() -> None:
    opt = read_yaml(write('a: &a {x: 1, y: 2}\nb: *a\nc:\n  <<: *a\n  x: 3\n'))
    opt['a']['x'] = 9
    assert opt['b'] == {'x': 1, 'y': 2}
    assert opt['c'] == {'x': 3, 'y': 2}


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    Path('x.yml').write_bytes(b'\xef\xbb\xbfname: x\n')
    assert read_yaml('x.yml') == {'name': 'x'}


# -- overrides ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('1e-4', 1e-4),
        ('-1', -1),
        ('[1,2]', [1, 2]),
        ('[\'a\', "b"]', ['a', 'b']),
        ('{a: 1}', {'a': 1}),
        ('true', True),
        ('~', None),
        ('none', None),
        ('None', None),
        ('[None]', [None]),
        ("'none'", 'none'),
        ('!!float 3', 3.0),
        ('weights/net_g.pth', 'weights/net_g.pth'),
        ("'f(x)'", 'f(x)'),
        ('DnCNN', 'DnCNN'),
    ],
)
def test_overrides_read_as_an_option_file_does(text: str, value: Any) -> None:
    assert parse_literal(text) == value
    assert apply_overrides({}, [f'a:b={text}']) == {'a': {'b': value}}


@pytest.mark.parametrize(
    'code',
    [
        "__import__('os').mkdir('ran')",
        "[__import__('os').mkdir('ran')]",
        "{a: __import__('os').mkdir('ran')}",
        "[x for x in (__import__('os').mkdir('ran'),)]",
        'lambda: 0',
        'f"{1}"',
        '().__class__',
        '(x := 1)',
        'open("ran", "w")',
        '!!python/object/apply:os.mkdir [ran]',
    ],
)
def test_overrides_never_run_code(code: str, project: Path) -> None:
    with pytest.raises(InputError, match=r'literals only|run no code'):
        apply_overrides({}, [f'name={code}'])
    assert not (project / 'ran').exists()


def test_overrides_set_nested_and_new_keys_and_leave_what_they_were_given() -> None:
    opt = {'train': {'optim_g': {'lr': 1}}, 'logger': {'wandb': None}}
    before = copy.deepcopy(opt)
    changed = apply_overrides(
        opt, ['train:optim_g:lr=1e-4', 'logger:wandb:project=x', 'val:metrics:psnr={type: y}', 'a=b=c']
    )
    assert changed == {
        'train': {'optim_g': {'lr': 1e-4}},
        'logger': {'wandb': {'project': 'x'}},
        'val': {'metrics': {'psnr': {'type': 'y'}}},
        'a': 'b=c',
    }
    assert opt == before


@pytest.mark.parametrize(
    ('entry', 'problem'),
    [
        ('train', 'key:sub=value is needed'),
        ('train::lr=1', 'key:sub=value is needed'),
        ('=1', 'key:sub=value is needed'),
        ('total:iter=1', "total is 5, not a section, so it has no 'iter'"),
        ('a=[1', "'[1' cannot be read"),
        ('a={}x2', 'quote it to make it a string'),
    ],
)
def test_wrong_overrides_give_one_line(entry: str, problem: str) -> None:
    with pytest.raises(InputError) as error:
        apply_overrides({'total': 5}, [entry])
    assert problem in str(error.value)
    assert str(error.value).startswith(f'--force_yml {entry}: ')


def test_a_wrong_value_from_an_override_names_the_override() -> None:
    line = refusal(good(), ('train:total_iter=10', 'train:optim_g:lr=fast'))
    assert line == (
        "options.yml with --force_yml train:optim_g:lr=fast: train:optim_g:lr: a number is needed; got 'fast'"
    )


def test_keys_and_values_over_several_lines_still_give_one_line() -> None:
    assert 'unknown option' in refusal(good() + '"a\\nb": 1\n')
    assert 'no network is called' in refusal(good(), ('network_g:type="a\nb"',))


# -- what comes out ----------------------------------------------------------------------------------------------------


def test_training_options_have_what_basicsr_derives(project: Path) -> None:
    opt = load_options(CORPUS / 'denoising.yml', is_train=True, auto_resume=True)
    run = project / 'experiments' / 'dncnn_wne'
    assert {key: opt[key] for key in ('is_train', 'auto_resume', 'dist', 'rank', 'world_size', 'root_path')} == {
        'is_train': True,
        'auto_resume': True,
        'dist': False,
        'rank': 0,
        'world_size': 1,
        'root_path': str(project),
    }
    folders = {'experiments_root': '', 'models': 'models', 'training_states': 'training_states', 'log': ''}
    for key, folder in {**folders, 'visualization': 'visualization'}.items():
        assert Path(opt['path'][key]) == run / folder
    assert opt['datasets']['train']['phase'] == 'train'
    assert opt['datasets']['val']['scale'] == 1
    assert not run.exists()


def test_test_options_need_no_train_section_and_no_training_data(project: Path) -> None:
    text = good()
    text = text[: text.index('train:\n  total_iter')] + text[text.index('val:\n  val_freq') :]
    opt = load_options(write(text.replace('data/train', 'data/gone')), is_train=False, root=project / 'elsewhere')
    assert Path(opt['path']['results_root']) == project / 'elsewhere' / 'results' / 'dncnn_wne'
    assert Path(opt['path']['visualization']) == project / 'elsewhere' / 'results' / 'dncnn_wne' / 'visualization'
    assert 'train' not in opt
    assert 'train: missing' in refusal(text)


def test_defaults_are_filled_in() -> None:
    opt = load_options(CORPUS / 'denoising.yml', is_train=True)
    assert opt['datasets']['train']['small_images'] == 'reflect'
    assert opt['datasets']['val'] | {'draws': 1, 'io_backend': {'type': 'disk'}} == opt['datasets']['val']
    assert opt['val']['suffix'] is None
    assert opt['val']['metrics']['psnr']['better'] == 'higher'
    assert opt['find_unused_parameters'] is False
    without = good().replace(good()[good().index('  scheduler:') : good().index('  pixel_opt:')], '')
    assert load_options(write(without), is_train=True)['train']['scheduler'] == {
        'type': 'MultiStepLR',
        'milestones': [],
    }


def test_floats_that_are_integers_become_integers() -> None:
    opt = load_options(
        CORPUS / 'denoising.yml', ['train:total_iter=1e3', 'train:scheduler:periods=[5e2, 500]'], is_train=True
    )
    assert [type(value) for value in (opt['train']['total_iter'], opt['val']['val_freq'])] == [int, int]
    assert [type(value) for value in opt['train']['scheduler']['periods']] == [int, int]


@pytest.mark.parametrize(
    ('name', 'debug', 'expected', 'is_debug'),
    [
        ('x', True, 'debug_x', True),
        ('debug_x', True, 'debug_x', True),
        ('debug_x', False, 'debug_x', True),
        ('no_debugging', False, 'no_debugging', False),
    ],
)
def test_a_debug_run_is_asked_for_or_named_so_from_the_start(
    name: str, debug: bool, expected: str, is_debug: bool
) -> None:
    opt = load_options(CORPUS / 'denoising.yml', [f'name={name}'], is_train=True, debug=debug)
    frequencies = opt['val']['val_freq'], opt['logger']['print_freq'], opt['logger']['save_checkpoint_freq']
    assert opt['name'] == expected
    assert frequencies == ((8, 1, 8) if is_debug else (500, 100, 500))
    assert opt['path']['models'].endswith(f'experiments/{expected}/models')


def test_gpus_are_counted_where_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 3)
    monkeypatch.setattr(trial, 'memory', lambda _: float('inf'))
    for asked, there in (('auto', 3), ('2', 2), ('0', 0)):
        assert load_options(CORPUS / 'denoising.yml', [f'num_gpu={asked}'], is_train=True)['num_gpu'] == there
    assert refusal(good(), ('num_gpu=8',)).endswith('8 asked for, 3 available; set num_gpu: 0 (CPU) or auto')


def test_a_seed_is_drawn_without_touching_the_global_generators() -> None:
    text = good().replace('manual_seed: 0\n', '')
    random.seed(0)
    before = random.getstate(), torch.get_rng_state()
    seed = load_options(write(text), is_train=True)['manual_seed']
    assert isinstance(seed, int)
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_the_same_file_gives_the_same_options() -> None:
    first, second = (load_options(CORPUS / 'denoising.yml', is_train=True) for _ in range(2))
    assert first == second
    first['train']['optim_g'].pop('type')  # BasicSR's builders do this
    assert load_options(CORPUS / 'denoising.yml', is_train=True) == second


def test_home_folders_are_expanded(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('HOME', str(project))
    opt = load_options(
        CORPUS / 'esrgan.yml',
        ['datasets:train:dataroot_lq=~/data/train_lq', 'path:pretrain_network_g=~/weights/net_g.pth'],
        is_train=True,
    )
    assert opt['datasets']['train']['dataroot_lq'] == str(project / 'data/train_lq')
    assert opt['path']['pretrain_network_g'] == str(project / 'weights/net_g.pth')


def test_a_training_starts_from_a_shipped_model_by_its_name() -> None:
    opt = load_options(CORPUS / 'esrgan.yml', ['path:pretrain_network_g=gray'], is_train=True)
    assert opt['path']['pretrain_network_g'] == str(shipped_models.MODELS['gray'])
    with pytest.raises(InputError, match=r"path:pretrain_network_g: the file 'grey' does not exist"):
        load_options(CORPUS / 'esrgan.yml', ['path:pretrain_network_g=grey'], is_train=True)


def test_an_lmdb_needs_its_two_files(project: Path) -> None:
    lmdb = ('datasets:train:dataroot_gt=data/broken.lmdb', 'datasets:train:io_backend={type: lmdb}')
    assert 'holds no data.mdb' in refusal(good(), lmdb)
    (project / 'data/broken.lmdb/data.mdb').touch()
    assert 'holds no meta_info.txt' in refusal(good(), lmdb)
    (project / 'data/broken.lmdb/meta_info.txt').touch()
    load_options(write(good()), lmdb, is_train=True)


def test_restormers_noise_keys_keep_their_meaning() -> None:
    noise = good()[good().index('    noise:\n') : good().index('    num_worker')]
    text = good().replace(noise, '    sigma_type: random\n    sigma_range: [0, 50]\n')
    train_set = load_options(write(text), is_train=True)['datasets']['train']
    assert train_set['sigma_range'] == [0, 50]
    assert 'noise' not in train_set
    assert refusal(text.replace('sigma_type: random', 'sigma_type: constant')).startswith(
        'options.yml: datasets:train:sigma_range: sigma_type constant takes one number'
    )


def test_wrapped_networks_take_the_options_of_both() -> None:
    network = good()[good().index('network_g:') : good().index('path:')]
    flat = 'network_g: {type: DnCNNWNE, num_in_ch: 1, num_out_ch: 1, num_layers: 4, prediction: residual}\n'
    load_options(write(good().replace(network, flat)), is_train=True)
    wrong = refusal(good().replace(network, flat.replace('residual', 'noise')))
    assert wrong.startswith('options.yml: network_g:prediction: DnCNNWNE refuses it: ')


def test_foreign_sections_take_unknown_keys_but_no_slips() -> None:
    load_options(CORPUS / 'esrgan.yml', ['train:anything_else=1', 'datasets:val:note=x', 'colour=y'], is_train=True)
    for null in ('datasets:train:dataroot_gtt=~', 'network_e=~', 'train:gan_opt=~'):  # which sets nothing
        load_options(CORPUS / 'esrgan.yml', [null], is_train=True)
    assert "did you mean 'dataroot_gt'?" in refusal(good('esrgan'), ('datasets:val:dataroot_gtt=x',))
    assert 'val:colour: unknown option' in refusal(good('esrgan'), ('val:colour=1',))


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        ('datasets:train:target=noise2noise', 'sure is needed (noise2noise needs pairs, NoisyPairDataset); got'),
        ('train:pixel_opt:type=L1Loss', 'target: neighbor2neighbor needs the mean square, {type: MSELoss} with'),
        ('train:pixel_opt:reduction=sum', 'target: neighbor2neighbor needs the mean square, {type: MSELoss} with'),
        ('datasets:train:gt_size=2', 'even sizes from 4 are needed; got 2'),
        ('datasets:train:sigma255=-1', 'at least 0 is needed; got -1'),
        ('model_type=SRModel', "other models those of BasicSR, e.g. PairedImageDataset; got 'NoisyDataset'"),
        ('network_g={type: SwinIR, upscale: 1, in_chans: 1, window_size: 8}', 'twice 8, which SwinIR needs; use 32'),
    ],
)
def test_noisy_images_alone_need_what_their_target_says(change: str, problem: str) -> None:
    text = yaml.safe_load(good('denoising'))
    train = text['datasets']['train'] | {'type': 'NoisyDataset', 'dataroot_lq': 'data/train'}
    text['datasets']['train'] = {key: train[key] for key in train if key not in ('dataroot_gt', 'noise')}
    text = yaml.safe_dump(text)
    assert load_options(write(text), is_train=True)['datasets']['train']['target'] == 'neighbor2neighbor'
    assert problem in refusal(text, (change,))


def test_the_shots_of_a_pair_are_in_two_folders() -> None:
    text = yaml.safe_load(good('denoising'))
    train = text['datasets']['train'] | {
        'type': 'NoisyPairDataset',
        'dataroot_lq': 'data/train',
        'dataroot_gt': 'data/val',
    }
    text['datasets']['train'] = {key: train[key] for key in train if key != 'noise'}
    text['datasets'] = {'train': text['datasets']['train']}
    text |= {'model_type': 'PairedDenoisingModel', 'val': None}
    text = yaml.safe_dump(text)
    load_options(write(text), is_train=True)
    same = refusal(text, ('datasets:train:dataroot_gt=data/train',))
    assert "datasets:train:dataroot_gt: 'data/train' is also dataroot_lq" in same


# -- the parts ---------------------------------------------------------------------------------------------------------


def test_every_option_has_a_one_line_description() -> None:
    def keys(section: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, rule in section['properties'].items():
            yield name, rule
            yield from keys(rule) if 'properties' in rule else ()

    sets = [each for pair in (*schema.OWN_SETS.values(), schema.FOREIGN_SETS) for each in pair]
    found = [each for section in (schema.OWN, schema.FOREIGN, *sets) for each in keys(section)]
    assert len(found) > 100
    for name, rule in found:
        assert rule['description'] and '\n' not in rule['description'], name


class Base:
    def __init__(self, width: int = 1, **kwargs: Any) -> None:
        pass


class PassesOn(Base):
    def __init__(self, depth: int, mode: Literal['a', 'b'] = 'a', sizes=(1, 2), name='x', rate=1, **kwargs) -> None:  # type: ignore[no-untyped-def]
        super().__init__(**kwargs)


@pytest.mark.parametrize(
    ('given', 'key', 'problem'),
    [
        ({'depth': 1, 'width': 2, 'mode': 'b', 'sizes': [3], 'name': 'y', 'rate': 0.5}, None, None),
        ({'depth': 1, 'rate': [1, 2]}, None, None),
        ({}, 'depth', 'missing, and P needs it'),
        ({'depth': 1, 'widht': 2}, 'widht', "P has no option 'widht'; did you mean 'width'?"),
        ({'depth': 1.5}, 'depth', 'an integer is needed; got 1.5'),
        ({'depth': 2.0}, 'depth', 'an integer is needed; got 2.0 (write 2)'),
        ({'depth': True}, 'depth', 'an integer is needed; got true'),
        ({'depth': None}, 'depth', 'an integer is needed; got null'),
        ({'depth': '3'}, 'depth', "an integer is needed; got '3' (remove the quotes)"),
        ({'depth': 1, 'mode': 'c'}, 'mode', "one of a, b is needed; got 'c'"),
        ({'depth': 1, 'sizes': 3}, 'sizes', 'a list is needed; got 3'),
        ({'depth': 1, 'sizes': [1, 'x']}, 'sizes', "a list of numbers is needed; got 'x' in it"),
        ({'depth': 1, 'name': 3}, 'name', 'a text is needed; got 3'),
        ({'depth': 1, 'rate': 'x'}, 'rate', "a number or a list is needed; got 'x'"),
    ],
)
def test_arguments_are_compared_with_signatures(given: dict[str, Any], key: str | None, problem: str | None) -> None:
    section = by_signature('P', PassesOn)
    if key is None:
        check({'type': 'P', **given}, section)
        return
    with pytest.raises(OptionError) as error:
        check({'type': 'P', **given}, section)
    assert error.value.key == (key,)
    assert error.value.problem.startswith(str(problem))


def test_optimizers_that_need_a_closure_are_unknown() -> None:
    optimizer = ('train:optim_g={type: AdamW, lr: 1e-3, weight_decay: 0.1}',)
    load_options(write(good()), optimizer, is_train=True)
    assert "no optimizer is called 'LBFGS'" in refusal(good(), ('train:optim_g={type: LBFGS, lr: 1}',))


class Reader:
    def __init__(self, opt: dict[str, Any]) -> None:
        self.opt = opt
        train = self.opt['train']
        self.rate = train['rate']
        self.decay = train.get('decay', 0)
        if 'extra' in opt:
            self.extra = opt['extra']
        if opt['phase'] == 'train':
            self.size = opt['size']
        if self.rate:
            return
        self.late = opt['late']

    def other(self) -> Any:
        return self.opt['elsewhere']


def test_the_source_of_a_class_tells_what_it_reads() -> None:
    training, testing = option_reads(Reader, True), option_reads(Reader, False)
    assert training.required == {('train',), ('train', 'rate'), ('phase',), ('size',)}
    assert testing.required == training.required - {('size',)}
    assert training.known - training.required == {('train', 'decay'), ('extra',), ('late',), ('elsewhere',)}


@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        ('datasets:tran:x=1', "datasets:tran: data sets are called train, .*did you mean 'train'"),
        ('tain:total_iter=3', "tain: unknown option; did you mean 'train'"),
        ('num_feat=8.5', r'num_feat: unknown option; did you mean network_g:backbone:num_feat\?'),
        ('network_g:backbone:num_feat=8.5', 'num_feat: an integer is needed; got 8.5'),
        ('network_g:correction=3', 'network_g:correction: .*correction must be 0, or 1 .*; got 3'),
        ('train:scheduler:type=CosineAnnealingLR', 'CosineAnnealingLR has no option'),
        ('train:scheduler:type=StepLR', 'has no option'),
        ('network_g:backbone:num_in_ch=3', 'datasets:train:in_ch: 1, but network_g takes 3'),
    ],
)
def test_an_override_that_is_the_cause_is_named_wherever_the_error_is(entry: str, message: str) -> None:
    line = refusal(good(), ('name=other', entry, 'train:total_iter=3'))
    assert re.search(rf'^options.yml with --force_yml {re.escape(entry)}: .*{message}', line), line
    assert '--force_yml' not in refusal(good().replace('type: WNE', 'type: WEN'), ('name=other',))  # the control


def test_a_null_takes_a_metric_away_and_sizes_are_integers() -> None:
    text = good()
    for entries, labels in (((), {'psnr', 'ssim_8bit'}), (('val:metrics:psnr=~', 'val:save_best=~'), {'ssim_8bit'})):
        assert labels <= {*load_options(write(text), entries, is_train=True)['val']['metrics']} <= labels | {'mismatch'}
    assert 'an integer or a list is needed; got 8.5' in refusal(good('swinir'), ('network_g:window_size=8.5',))
