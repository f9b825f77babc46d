"""Kill a short run again and again, and see that nothing is lost: python tests/kill_and_resume.py [KILLS] [SEED].

Each kill is SIGKILL or SIGTERM at a random moment after the run has got on, every third one SIGKILL while a checkpoint
is being written. After each kill every checkpoint must be readable. In the end weights, averaged weights, optimizer,
schedule, best metrics and TensorBoard's curves must be those of a run that nobody killed, bit for bit.
"""

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import yaml
from conftest import smooth_photograph
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from ne_basicsr.weights import checkpoint

ITERATIONS_PER_KILL = 12


def main(kills: int = 50, seed: int = 0) -> int:
    draw = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix='kill_and_resume_'))
    options = write_project(folder, total=ITERATIONS_PER_KILL * (kills + 4))
    start = time.monotonic()
    assert train(folder, options, 'straight').wait() == 0
    run, counts, newest = folder / 'experiments' / 'killed', Counter[str](), 0
    while sum(counts.values()) < kills:
        process = train(folder, options, 'killed')
        how = kill(process, run, newest, draw)
        if how is None:
            print(f'the run was finished after {sum(counts.values())} kills; it is too short')
            return 1
        counts[how] += 1
        readable(run)
        states = [int(p.stem) for p in run.glob('training_states/*.state')]
        reached = max(states, default=0)
        print(f'{sum(counts.values()):3d} {how:<24} checkpoint {newest:4d} -> {reached:4d}', flush=True)
        assert reached >= newest
        newest = reached
    assert train(folder, options, 'killed').wait() == 0
    differences = compare(folder, 'straight', 'killed')
    listed = ', '.join(f'{number} {how}' for how, number in sorted(counts.items()))
    print(f'{sum(counts.values())} kills ({listed}) in {time.monotonic() - start:.0f} s; every checkpoint was readable')
    print(
        'weights, EMA, optimizer, schedule, best metrics, TensorBoard: ' + (', '.join(differences) or 'bit-identical')
    )
    if not differences:
        shutil.rmtree(folder)
    return 1 if differences else 0


def write_project(folder: Path, total: int) -> Path:
    """Images, and the options of a small run with everything on that a state must hold."""
    (folder / 'images').mkdir()
    for index in range(6):
        cv2.imwrite(str(folder / 'images' / f'photo_{index}.png'), smooth_photograph(48, 56, index))
    data = {'type': 'DenoisingDataset', 'dataroot_gt': str(folder / 'images'), 'io_backend': {'type': 'disk'}}
    noise = {'type': 'gaussian', 'sigma255': 25}
    options = {
        'name': 'straight', 'model_type': 'DenoisingModel', 'num_gpu': 0, 'manual_seed': 0,
        'datasets': {
            'train': data | {'name': 'small', 'gt_size': 16, 'noise': noise, 'batch_size_per_gpu': 2,
                             'num_worker_per_gpu': 1, 'dataset_enlarge_ratio': 2},
            'val': data | {'name': 'held_out', 'sigma_test': [10, 25]},
        },
        # large enough that a good part of the time goes into saving
        'network_g': {'type': 'DnCNNWNE', 'num_feat': 96, 'num_layers': 6},
        'train': {'total_iter': total, 'ema_decay': 0.9, 'warmup_iter': 20, 'accumulate': 2, 'clip_grad_norm': 1.0,
                  'optim_g': {'type': 'AdamW', 'lr': 1e-3, 'weight_decay': 1e-3},
                  'scheduler': {'type': 'CosineAnnealingLR', 'T_max': total, 'eta_min': 1e-6},
                  'pixel_opt': {'type': 'MSELoss'}},
        'val': {'val_freq': 50, 'save_best': 'psnr', 'metrics': {'psnr': {'type': 'calculate_psnr_float'}}},
        'logger': {'print_freq': 5, 'save_checkpoint_freq': 4, 'use_tb_logger': True},
    }  # fmt: skip
    path = folder / 'run.yml'
    path.write_text(yaml.safe_dump(options, sort_keys=False))
    return path


def train(folder: Path, options: Path, name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, '-m', 'ne_basicsr', 'train', '-opt', str(options), '--auto_resume', '--force_yml']
    with open(folder / f'{name}.log', 'ab') as log:
        return subprocess.Popen([*command, f'name={name}'], cwd=folder, stdout=log, stderr=log)


def kill(process: subprocess.Popen[bytes], run: Path, newest: int, draw: random.Random) -> str | None:
    """Kill it once it has got on; what was done, None where it was finished before."""

    def wait_for(what: Any) -> bool:
        while process.poll() is None:
            if what():
                return True
            time.sleep(0.0005)
        return False

    way = draw.choice(['SIGKILL', 'SIGTERM', 'SIGKILL while saving'])
    if not wait_for(lambda: any(int(p.stem) > newest for p in run.glob('training_states/*.state'))):
        return None
    if way == 'SIGKILL while saving':
        found = wait_for(lambda: any(run.glob('*/.*.part')))
        if not found:
            return None
    else:
        time.sleep(draw.uniform(0, 0.3))
    number = signal.SIGTERM if way == 'SIGTERM' else signal.SIGKILL
    process.send_signal(number)
    code = process.wait()
    assert code == (128 + number if way == 'SIGTERM' else -number), f'{way}: exit code {code}'
    return way


def readable(run: Path) -> None:
    for path in (*run.glob('models/*.pth'), *run.glob('training_states/*.state')):
        checkpoint.read(path)


def compare(folder: Path, first: str, second: str) -> list[str]:
    """What differs between two finished runs."""
    runs = [folder / 'experiments' / name for name in (first, second)]
    found = []
    for part in ('models/net_g_latest.pth', 'models/net_g_best.pth', *_states(runs[0])):
        if not same(*(checkpoint.read(run / part) for run in runs)):
            found.append(part)
    if len({str(curves(folder / 'tb_logger' / name)) for name in (first, second)}) > 1:
        found.append('TensorBoard')
    return found


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """TensorBoard's scalars, without those of time."""
    events = EventAccumulator(str(folder), size_guidance={'scalars': 0}).Reload()
    tags = [tag for tag in events.Tags()['scalars'] if not tag.startswith('speed/')]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in sorted(tags)}


def same(first: Any, second: Any) -> bool:
    """Whether two contents of checkpoints are equal, bit for bit."""
    if isinstance(first, Tensor):
        return isinstance(second, Tensor) and first.dtype == second.dtype and bool((first == second).all())
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    return bool(first == second)


def _states(run: Path) -> list[str]:
    last = max(run.glob('training_states/*.state'), key=lambda path: int(path.stem))
    return [f'training_states/{last.name}']


if __name__ == '__main__':
    sys.exit(main(*map(int, sys.argv[1:])))
