"""What is to be measured when a GPU is at hand: one command a stage, each within --minutes.

    python scripts/gpu_evidence.py tests  --out out
    python scripts/gpu_evidence.py bench  --out out                 the paper's Tables 2, 5 and 6, and the affine route
    python scripts/gpu_evidence.py compile --out out                Tables 2 and 5 with torch.compile
    python scripts/gpu_evidence.py train  --out out --data DATA     DnCNN, FDnCNN and SwinIR, side by side
    python scripts/gpu_evidence.py models --out out --data DATA     the shipped models, gray and colour
    python scripts/gpu_evidence.py more   --out out --data DATA     Restormer, soft-NE, Noise2Noise

DATA holds the folders that options/evidence names: BSD400, BSDS432, Set12, BSD68, CBSD68. Runs that train are timed
side by side first; then their iterations, and with them their schedules, are set to what fits. Whatever fails, the
others go on, and the exit code is 1. --out gets the logs, tables and JSON of the stage, and each run as NAME.tar.gz:
weights, log, options, curves. With --dry everything runs on a CPU: small crops, few steps, generated images.
"""

import argparse
import csv
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

import ne_basicsr  # noqa: F401 - first, so that basicsr imports
from ne_basicsr.options import read_yaml
from ne_basicsr.weights import checkpoint

REPOSITORY = Path(__file__).resolve().parents[1]
RUNS = {
    'train': ['dncnn', 'dncnn_wne', 'fdncnn_norm_equiv', 'swinir', 'swinir_wne'],
    'models': ['gray', 'colour'],
    'more': ['restormer_progressive', 'swinir_soft_ne', 'swinir_noise2noise', 'swinir_wne_noise2noise'],
}
# Table 1 of the paper at the training level, in dB; trained on 8,694 images, for 500,000 iterations or more
PAPER = {
    'dncnn': {'Set12': 30.50, 'BSD68': 29.19}, 'dncnn_wne': {'Set12': 30.43, 'BSD68': 29.15},
    'fdncnn_norm_equiv': {'Set12': 30.37, 'BSD68': 29.11}, 'swinir': {'Set12': 30.79, 'BSD68': 29.38},
    'swinir_wne': {'Set12': 30.65, 'BSD68': 29.30},
}  # fmt: skip
TIMING = 'timing'  # prefix of the runs that are only timed
NEVER = 10**9
MOST = 15 * 2**20  # bytes of a file of weights; larger ones lose the weights that were not averaged, then all


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('stage', choices=['tests', 'bench', 'compile', *RUNS])
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--data', type=Path, help='folder of the data sets; needed to train, unless --dry')
    parser.add_argument('--minutes', type=float, default=9.0, help='of the whole stage (default: 9)')
    parser.add_argument('--runs', nargs='+', help='of those of the stage, by name (default: all)')
    parser.add_argument('--dry', action='store_true', help='on a CPU, as small as possible')
    arguments = parser.parse_args(given)
    if arguments.stage in RUNS and not (arguments.dry or arguments.data):
        parser.error(f'{arguments.stage} trains: --data is needed')
    if unknown := set(arguments.runs or ()) - set(RUNS.get(arguments.stage, ())):
        parser.error(f'--runs: {arguments.stage} has {", ".join(RUNS.get(arguments.stage, ()))}; got {unknown.pop()}')
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * arguments.minutes
    if arguments.stage in RUNS:
        names = arguments.runs or RUNS[arguments.stage]
        done = train(names, out, arguments.data and arguments.data.resolve(), deadline, arguments.dry)
    else:
        commands = test_commands(out, arguments.dry)
        if arguments.stage != 'tests':
            commands = bench_commands(out, arguments.dry, compiled=arguments.stage == 'compile')
        done = {name: follow(command, out / f'{name}.log', deadline) for name, command in commands.items()}
    (out / f'{arguments.stage}.json').write_text(json.dumps(done, indent=1) + '\n', encoding='utf-8')
    print(json.dumps(done, indent=1))
    return int(any(result.get('exit') != 0 for result in done.values()))


# -- tests and tables --------------------------------------------------------------------------------------------------


def test_commands(out: Path, dry: bool) -> dict[str, list[str]]:
    pytest = [
        sys.executable,
        '-m',
        'pytest',
        str(REPOSITORY / 'tests'),
        '-p',
        'no:cacheprovider',
        '--rootdir',
        str(REPOSITORY),
    ]
    if dry:
        return {
            'tests_gpu': [
                *pytest[:3],
                str(REPOSITORY / 'tests' / 'gpu'),
                *pytest[4:],
                '-k',
                'noise or crops or overflows',
            ]
        }
    return {
        'doctor': basicsr('doctor'),
        'tests_gpu': [*pytest, '-m', 'gpu', '-n', '8'],
        'check_gray': basicsr('check', 'gray', '--device', 'cuda', '--json', str(out / 'check_gray.json')),
        'tests_rest': [*pytest, '-m', 'not gpu', '-n', '14', '--maxprocesses', '14'],
    }


def bench_commands(out: Path, dry: bool, compiled: bool = False) -> dict[str, list[str]]:
    """Eager in all precisions and memory formats, or compiled; Table 6 is Table 2 on the processor."""
    both, formats = ['--dtype', 'float32,bfloat16'], ['--memory-format', 'contiguous,channels_last']
    plans = {
        'bench_2': ['--table', '2', *both, *formats],
        'bench_5': ['--table', '5', *both],
        'bench_affine': ['--table', 'affine', *both, *formats],
        'bench_6': ['--table', '6', '--steps', '6', '--warmup', '1'],
    }
    if compiled:
        plans = {
            'compiled_2': ['--table', '2', *both, '--memory-format', 'channels_last', '--compile'],
            'compiled_5': ['--table', '5', '--dtype', 'bfloat16', '--compile'],
        }
    for name, plan in plans.items():
        if dry:
            side = 64 if plan[1] == '5' else 16
            small = ['--steps', '1', '--warmup', '0', '--device', 'cpu', '--input', f'1x1x{side}x{side}']
            plans[name] = [*plan[:2], *(['--compile'] if compiled else []), *small]
        else:
            plans[name] = [*plan, '--device', 'cpu' if name == 'bench_6' else 'cuda']
    return {name: basicsr('bench', *plan, '--json', str(out / f'{name}.json')) for name, plan in plans.items()}


def basicsr(*arguments: str) -> list[str]:
    return [sys.executable, '-m', 'ne_basicsr', *arguments]


def follow(command: Sequence[str], log: Path, deadline: float) -> dict[str, Any]:
    """Run a command until it ends or the deadline comes; its exit code (None: stopped), seconds and last lines."""
    start = time.monotonic()
    process = started(command, log, log.parent)
    finish([process], deadline)
    lines = log.read_text(encoding='utf-8', errors='replace').splitlines()
    print(f'{log.stem}: exit {process.returncode}\n' + '\n'.join(lines[-25:]), flush=True)
    return {'exit': process.returncode, 'seconds': round(time.monotonic() - start, 1), 'last': lines[-1:]}


def started(command: Sequence[str], log: Path, folder: Path) -> 'subprocess.Popen[bytes]':
    environment = os.environ | {'PYTHONPATH': os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)])}
    if '-k' in command:  # the dry run of the tests
        environment['NE_TEST_DEVICE'] = 'cpu'
    with log.open('wb') as file:
        return subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, cwd=folder, env=environment, start_new_session=True
        )


def finish(processes: 'Sequence[subprocess.Popen[bytes]]', deadline: float) -> None:
    """Wait for processes; at the deadline they are asked to stop, which saves a training, and then killed."""
    for sent, patience in ((None, 0.0), (signal.SIGTERM, 15.0), (signal.SIGKILL, 15.0)):
        for process in processes:
            if sent and process.poll() is None:
                os.killpg(process.pid, sent)
        for process in processes:
            left = max(0.1, deadline - time.monotonic()) if sent is None else patience
            try:
                process.wait(left)
            except subprocess.TimeoutExpired:
                continue


# -- training ----------------------------------------------------------------------------------------------------------


def train(names: Sequence[str], out: Path, data: Path | None, deadline: float, dry: bool) -> dict[str, dict[str, Any]]:
    """Train side by side: time them, fit their schedules, let them finish, collect; what each one reached."""
    work = out / 'work'
    work.mkdir(exist_ok=True)
    options = {name: read_yaml(REPOSITORY / 'options' / 'evidence' / f'{name}.yml') for name in names}
    data = generated_images(work / 'data') if dry or data is None else data
    for opt in options.values():
        for section in opt['datasets'].values():
            section['dataroot_gt'] = str(data / Path(section['dataroot_gt']).name)
        make_raw(opt['datasets']['train'], work)
        if dry:
            shrink(opt)
    seconds = timed(options, work, min(deadline, time.monotonic() + 90))
    reserve = 2 if dry else 75  # starting, validating
    running = {}
    for name, opt in options.items():
        left = deadline - time.monotonic() - reserve
        total = 4 if dry else max(50, int(0.92 * left / seconds[name])) if seconds[name] else opt['train']['total_iter']
        print(f'{name}: {seconds[name]} s an iteration, {total} iterations', flush=True)
        running[name] = launched(name, fitted(opt, total), work)
    finish(list(running.values()), deadline - 10)
    return {name: collected(name, process.returncode, seconds[name], work, out) for name, process in running.items()}


def timed(options: Mapping[str, Any], work: Path, until: float) -> dict[str, float | None]:
    """Seconds of an iteration of each run beside the others; None where none was logged."""
    quiet = {'print_freq': 5, 'save_checkpoint_freq': NEVER, 'use_tb_logger': False}
    changed = {
        name: fitted(opt, NEVER) | {'val': opt['val'] | {'val_freq': NEVER}, 'logger': opt['logger'] | quiet}
        for name, opt in options.items()
    }
    processes = {name: launched(f'{TIMING}_{name}', opt, work) for name, opt in changed.items()}

    def rates(name: str) -> list[str]:
        text = (work / f'{TIMING}_{name}.log').read_text(encoding='utf-8', errors='replace')
        return re.findall(r'time \(data\): ([\d.]+)', text)

    while time.monotonic() < until and any(p.poll() is None and len(rates(n)) < 12 for n, p in processes.items()):
        time.sleep(0.5)
    for process in processes.values():  # nothing is to be saved
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return {name: max(1e-4, float(found[-1])) if (found := rates(name)) else None for name in processes}


def launched(name: str, opt: Mapping[str, Any], work: Path) -> 'subprocess.Popen[bytes]':
    path = work / f'{name}.yml'
    path.write_text(yaml.safe_dump({**opt, 'name': name}, sort_keys=False), encoding='utf-8')
    return started(basicsr('train', '-opt', str(path)), work / f'{name}.log', work)


def fitted(opt: Mapping[str, Any], total: int) -> dict[str, Any]:
    """``opt`` with ``total`` iterations, its phases and its schedule in proportion, one validation at the end."""
    share = total / opt['train']['total_iter']

    def scaled(parts: Sequence[int]) -> list[int]:
        return [max(1, round(share * part)) for part in parts]

    schedule, data = dict(opt['train']['scheduler']), dict(opt['datasets']['train'])
    for key in ('T_max', 'periods', 'milestones'):
        if schedule.get(key):
            schedule[key] = total if key == 'T_max' else scaled(schedule[key])
    if data.get('iters'):
        data['iters'] = scaled(data['iters'])
    return {
        **opt,
        'datasets': {**opt['datasets'], 'train': data},
        'train': {**opt['train'], 'total_iter': total, 'scheduler': schedule},
        'val': {**opt['val'], 'val_freq': total},
        'logger': {**opt['logger'], 'print_freq': max(1, total // 100), 'save_checkpoint_freq': max(1, total // 3)},
    }


def make_raw(section: dict[str, Any], work: Path) -> None:
    """Let a training set be read from a store of pixels, which is made once: PNGs would hold a GPU up."""
    source = Path(section['dataroot_gt'])
    store = work / f'{source.name}_{section["in_ch"]}.raw'
    if not store.exists():
        command = basicsr('prepare', str(source), '-o', str(store), '--format', 'raw', '--in_ch', str(section['in_ch']))
        if subprocess.run(command, cwd=REPOSITORY).returncode:
            return
    section |= {'dataroot_gt': str(store), 'io_backend': {'type': 'raw'}}


def collected(name: str, code: int | None, seconds: float | None, work: Path, out: Path) -> dict[str, Any]:
    """Pack a run into ``out``; its exit code, seconds per iteration and PSNR at each level, with the paper's."""
    run = work / 'experiments' / name
    # of a run that was stopped, too
    weights = sorted(run.glob('models/net_g_*.pth'), key=lambda path: path.stat().st_mtime)[
        -1:
    ]  # also of a stopped run
    if weights and weights[0].stat().st_size > MOST:
        content = checkpoint.read(weights[0])
        if 'params_ema' in content:
            checkpoint.write(weights[0], {key: value for key, value in content.items() if key != 'params'})
        weights = [path for path in weights if path.stat().st_size <= MOST]
    curves = sorted(run.glob('mismatch/*_[0-9]*.*'))
    with tarfile.open(out / f'{name}.tar.gz', 'w:gz') as archive:
        for file in [*weights, run / 'options.yml', work / f'{name}.log', *curves]:
            if file.is_file():
                archive.add(file, f'{name}/{file.name}')
    psnr: dict[str, dict[str, float]] = {}
    for curve in (path for path in curves if path.suffix == '.csv'):
        with curve.open(encoding='utf-8') as file:
            rows = list(csv.DictReader(file))
        levels = sorted({float(row['level']) for row in rows})
        psnr[curve.stem.rpartition('_')[0]] = {
            f'{level:g}': round(
                float(np.mean([float(r['psnr_clamped']) for r in rows if float(r['level']) == level])), 3
            )
            for level in levels
        }
    return {'exit': code, 'seconds_per_iteration': seconds, 'psnr': psnr, 'paper': PAPER.get(name, {})}


# -- the dry run -------------------------------------------------------------------------------------------------------


def shrink(opt: dict[str, Any]) -> None:
    """Crops, batches and validation as small as they can be; the networks stay."""
    opt['num_gpu'] = 0
    data, total = opt['datasets']['train'], opt['train']['total_iter']
    data |= {'gt_size': 16, 'batch_size_per_gpu': 2, 'num_worker_per_gpu': 0}
    if data.get('iters'):
        data |= {'iters': [total - 1, 1], 'gt_sizes': [8, 16], 'mini_batch_sizes': [2, 1]}
        opt['train']['scheduler']['periods'] = [total - 1, 1]
    opt['train']['amp'] = None  # slow where the processor has no such numbers
    if opt['network_g'].get('img_size'):
        opt['network_g']['img_size'] = 16
    for key, section in opt['datasets'].items():
        if key != 'train':
            section['sigma_test'] = section['sigma_test'][:1]


def generated_images(folder: Path) -> Path:
    """Two small colour images for each data set; returns ``folder``."""
    rng = np.random.default_rng(0)
    for name in ('BSD400', 'BSDS432', 'Set12', 'BSD68', 'CBSD68'):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(2):
            image = cv2.resize(rng.random((5, 6, 3)), (32, 24), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(folder / name / f'{number}.png'), (255 * image.clip(0, 1)).astype(np.uint8))
    return folder


if __name__ == '__main__':
    sys.exit(main())
