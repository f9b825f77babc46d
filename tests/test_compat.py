"""BasicSR on current libraries. What must hold in a fresh interpreter is asked of one."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from conftest import REPOSITORY

from ne_basicsr import _compat


def python(code: str, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, '-c', code, *arguments], capture_output=True, text=True, **options)


REGISTERED = (
    'from basicsr.utils.registry import *\n'
    "assert {'WNE', 'WSE', 'InputNorm', 'DnCNN', 'DnCNNWNE', 'SwinIRWNE', 'RRDBNetWNE'} <= set(ARCH_REGISTRY.keys())\n"
    "assert 'DenoisingDataset' in DATASET_REGISTRY and 'DenoisingModel' in MODEL_REGISTRY\n"
    "assert {'calculate_psnr_float', 'calculate_ssim_float', 'calculate_ne_defect', 'calculate_mismatch'} <= set("
    'METRIC_REGISTRY.keys())\n'
)


FIRSTS = [
    'import ne_basicsr.evaluation.mismatch, basicsr',
    'import ne_basicsr.archs.wne_arch',
    'import ne_basicsr.models.denoising_model',
    'import ne_basicsr.train.pipeline',
    'import ne_basicsr.inference.denoiser',
]


def test_whatever_is_imported_first_everything_is_registered():
    each = (
        'import os, sys, torch\nwrong = []\n'  # once; what follows is asked of forks
        'for first in sys.argv[2:]:\n'
        '    assert not {"basicsr", "ne_basicsr"} & set(sys.modules)\n'
        '    if not (process := os.fork()):\n'
        '        try:\n'
        '            exec(first + "\\n" + sys.argv[1])\n'
        '        except BaseException as error:\n'
        '            print(first, repr(error), file=sys.stderr, flush=True)\n'
        '            os._exit(1)\n'
        '        os._exit(0)\n'
        '    wrong += [first] if os.waitpid(process, 0)[1] else []\n'
        'sys.exit(bool(wrong))'
    )
    result = python(each, REGISTERED, *FIRSTS)
    assert result.returncode == 0, result.stderr
    result = python(each, REGISTERED, FIRSTS[0], 'import ne_basicsr.no_such_room')
    assert result.returncode == 1
    assert 'no_such_room' in result.stderr


def test_basicsr_alone_does_not_import_here_which_is_why_the_stand_ins_exist():
    assert python('import basicsr').returncode != 0


def test_importing_the_package_imports_nothing_heavy():
    result = python('import sys, ne_basicsr\nassert not {"torch", "basicsr", "numpy"} & set(sys.modules)')
    assert result.returncode == 0, result.stderr


def test_another_package_called_basicsr_is_recognized(tmp_path):
    (tmp_path / 'basicsr').mkdir()
    (tmp_path / 'basicsr' / '__init__.py').write_text('')
    result = python('import sys; sys.path.insert(0, "."); import ne_basicsr, basicsr', cwd=tmp_path)
    assert result.returncode != 0
    assert 'not BasicSR 1.4.2 (Restormer, NAFNet and others ship a different one' in result.stderr.splitlines()[-1]


def test_a_torchvision_that_does_not_match_is_explained(tmp_path):
    (tmp_path / 'torchvision').mkdir()
    error = 'operator torchvision::nms does not exist'
    (tmp_path / 'torchvision' / '__init__.py').write_text(f'raise RuntimeError({error!r})')
    code = 'import sys; sys.path.insert(0, "."); import ne_basicsr, basicsr; basicsr.archs.vgg_arch.vgg.vgg19'
    line = python(code, cwd=tmp_path).stderr.splitlines()[-1]
    assert error in line
    assert 'install both from the same package index, in one command' in line


def test_stand_ins_serve_what_basicsr_asks_for():
    import torch
    from basicsr.archs.arch_util import LooseVersion
    from basicsr.data.degradations import rgb_to_grayscale

    assert rgb_to_grayscale(torch.ones(3, 2, 2)).shape == (1, 2, 2)
    assert LooseVersion('0.27.1') >= LooseVersion('0.9.0')


def test_slow_modules_are_imported_when_they_are_used():
    code = (
        'import sys\nimport ne_basicsr.inference.opening\n'
        "slow = 'torch._dynamo torchvision scipy.special scipy.stats scipy.ndimage scipy.io matplotlib skimage'\n"
        "slow = {*slow.split(), 'setuptools', 'tifffile', 'jsonschema'}\n"
        'assert not slow & set(sys.modules), slow & set(sys.modules)\n'
        'from basicsr.data.degradations import multivariate_normal\n'
        'from basicsr.metrics.niqe import convolve\n'
        'assert multivariate_normal([0], [[1]]).pdf(0) == multivariate_normal.pdf(0, 0, 1) < 0.4\n'
        'assert convolve([1.0, 2.0], [1.0]).tolist() == [1, 2]\n'
        'import scipy.stats, scipy.ndimage\n'
        'assert convolve([1.0], [2.0]) == scipy.ndimage.convolve([1.0], [2.0])'
    )
    result = python(code)
    assert result.returncode == 0, result.stderr


def test_who_else_imports_a_slow_module_meanwhile_gets_all_of_it():
    from ne_basicsr._compat import deferred

    kept = sys.modules.pop('scipy.stats', None)
    try:
        with deferred():
            from scipy.stats import multivariate_normal, norm
        assert norm.cdf(0) == 0.5
        assert multivariate_normal.pdf(0, 0, 1) < 0.4
        assert 'scipy.stats' in sys.modules
    finally:
        sys.modules.pop('scipy.stats', None)
        if kept:
            sys.modules['scipy.stats'] = kept


def test_distutils_is_replaced_where_python_has_none():
    code = (
        'import sys\nimport ne_basicsr\n'
        "sys.modules['distutils'] = None\n"
        'import basicsr\nfrom basicsr.archs.arch_util import LooseVersion\n'
        "assert LooseVersion('0.27.1') >= LooseVersion('0.9.0') and 'distutils.version' not in sys.modules"
    )
    result = python(code)
    assert result.returncode == 0, result.stderr


def test_unknown_names_are_answered_with_the_nearest_and_nothing_is_printed(capsys):
    from basicsr.utils.registry import ARCH_REGISTRY

    with pytest.raises(KeyError, match="did you mean 'SwinIRWNE'"):
        ARCH_REGISTRY.get('SwinIRWN')
    assert ARCH_REGISTRY.get('SRVGGNetCompact').__name__ == 'SRVGGNetCompact'
    assert capsys.readouterr().out == ''


def test_basicsr_s_own_reader_of_option_files_runs_no_code(tmp_path):
    import yaml
    from basicsr.utils.options import ordered_yaml

    text = f'a: !!python/object/apply:os.system ["touch {tmp_path}/it_ran"]'
    with pytest.raises(yaml.constructor.ConstructorError):
        yaml.load(text, Loader=ordered_yaml()[0])
    assert not (tmp_path / 'it_ran').exists()


def test_building_swinir_warns_of_nothing_and_other_warnings_stay():
    import torch
    from basicsr.archs.swinir_arch import SwinIR

    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # torch shows this warning once in a process
    try:
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter('always')
            _compat.mend()
            SwinIR(img_size=8, window_size=4, depths=[1], num_heads=[1], embed_dim=4)
            warnings.warn('torch.meshgrid: something else', stacklevel=1)
    finally:
        torch.set_warn_always(before)
    assert [str(warning.message) for warning in shown] == ['torch.meshgrid: something else']


def test_runs_of_one_name_within_a_second_are_all_kept(tmp_path):
    from basicsr.utils import mkdir_and_rename

    for number in range(4):
        mkdir_and_rename(str(tmp_path / 'run'))
        (tmp_path / 'run' / f'{number}').touch()
    assert sorted(file.name for file in tmp_path.glob('run*/*')) == ['0', '1', '2', '3']


ABANDONED_LOADER = """
import builtins, os, signal, sys
from functools import partial
import ne_basicsr, basicsr.data
from torch.utils.data import DataLoader
seeds = partial(basicsr.data.worker_init_fn, num_workers=1, rank=0, seed=0)
builtins.kept = iter(DataLoader(list(range(100)), num_workers=1, worker_init_fn=seeds))
next(builtins.kept)
(worker,) = builtins.kept._workers
os.system(f'kill -TERM {worker.pid}; kill -INT {worker.pid}')  # another process sends them
assert [int(next(builtins.kept)) for _ in range(50)] == list(range(1, 51))
print('it went on', flush=True)
"""


AS_ON_PYTHON_3_14 = """
import multiprocessing.context as context
context._default_context._default_context = context._concrete_contexts['forkserver']
import multiprocessing
multiprocessing.get_all_start_methods = lambda: ['forkserver', 'spawn', 'fork']
"""


@pytest.mark.parametrize('before', ['', AS_ON_PYTHON_3_14], ids=['here', 'as on Python 3.14'])
def test_workers_outlive_signals_from_elsewhere_and_end_with_the_trainer(before):
    # the loader is never shut down, as after an error: the interpreter ends its worker by SIGTERM, and waits for it
    process = python(before + ABANDONED_LOADER, timeout=180)
    assert process.returncode == 0, process.stderr
    assert process.stdout == 'it went on\n'


def test_a_start_method_that_a_program_chose_stays():
    code = 'import multiprocessing\nmultiprocessing.set_start_method("spawn")\nimport ne_basicsr, basicsr\n'
    code += 'assert multiprocessing.get_start_method() == "spawn"'
    result = python(AS_ON_PYTHON_3_14 + code)
    assert result.returncode == 0, result.stderr


def test_worker_seeds_change_with_the_epoch():
    import numpy as np
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Draws(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return float(np.random.rand())  # noqa: NPY002 - as BasicSR's data sets draw

    from functools import partial

    import basicsr.data

    seeds = partial(basicsr.data.worker_init_fn, num_workers=2, rank=0, seed=0)
    loader = DataLoader(Draws(), num_workers=2, worker_init_fn=seeds)
    first, second = (torch.cat(list(loader)).tolist() for _ in range(2))
    assert len({*first, *second}) == 8


def test_doctor_finds_this_installation_healthy(capsys):
    from ne_basicsr.cli.main import main

    assert main(['doctor']) == 0
    text = capsys.readouterr().out
    for part in ('ne_basicsr', 'python', 'torch ', 'torchvision', 'basicsr     1.4.2', 'No problems found.'):
        assert part in text


def test_doctor_explains_a_broken_installation_without_a_traceback(tmp_path):
    (tmp_path / 'torchvision').mkdir()
    (tmp_path / 'torchvision' / '__init__.py').write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    command = 'import sys; sys.path.insert(0, "."); from ne_basicsr.cli.main import main; sys.exit(main(["doctor"]))'
    result = python(command, cwd=tmp_path)
    assert result.returncode == 1
    assert 'PROBLEM: torchvision' in result.stdout
    assert 'Traceback' not in result.stdout + result.stderr


def test_doctor_reports_a_wrong_basicsr_and_takes_the_wheel_of_this_repository(monkeypatch):
    from ne_basicsr.cli import doctor

    versions = {'torch': '2.12.1', 'torchvision': '0.27.1', 'basicsr': '1.2.0'}
    monkeypatch.setattr(doctor, 'installed_version', versions.get)
    (wrong,) = doctor._package_problems()
    assert 'basicsr is 1.2.0; this plugin is made for 1.4.2' in wrong
    for version in ('1.4.2', '1.4.2+ne'):
        versions['basicsr'] = version
        assert doctor._package_problems() == []


@pytest.mark.parametrize('command', ['doctor', 'check WNE'])
def test_a_missing_basicsr_is_told_in_one_line_with_the_command_that_brings_it(command):
    hide = (
        'import sys\nfrom importlib.machinery import PathFinder\n'
        'find = PathFinder.find_spec\n'
        "PathFinder.find_spec = lambda name, *a: None if name == 'basicsr' else find(name, *a)\n"
        'from ne_basicsr.cli.main import main\n'
        f'sys.exit(main({command.split()!r}))'
    )
    result = python(hide)
    (line,) = [line for line in (result.stdout + result.stderr).splitlines() if 'BasicSR is not installed' in line]
    assert 'pip install -f wheels basicsr==1.4.2' in line
    assert result.returncode != 0
    assert 'Traceback' not in result.stderr


def test_every_workaround_lives_in_one_file():
    others = [p for p in (REPOSITORY / 'ne_basicsr').rglob('*.py') if p.name != '_compat.py']
    assert not [p for p in others if 'functional_tensor' in p.read_text() or 'distutils' in p.read_text()]
    assert Path(_compat.__file__).name == '_compat.py'
