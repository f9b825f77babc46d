"""Time the trainer: ``python scripts/bench_trainer.py [--input 8x3x48x48] [--device cpu] [--json FILE]``.

The whole trainer, option file to weights: BasicSR's ``train_pipeline`` with its ``SRModel`` against this package's.

Every run is a separate process with the same network, batch, patches and optimizer, from the same PNG files. BasicSR
reads clean and noisy copies from the disk; ``DenoisingModel`` reads the clean ones and draws its noise. Runs take
turns, and the result is the ratio to BasicSR's in the same round. BasicSR runs as mended by ``_compat.py``; without it,
it would not start.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import yaml
from bench_loader import as_json, photograph
from tqdm import tqdm

from ne_basicsr.evaluation.bench import parse_settings, parse_shape
from ne_basicsr.evaluation.bench.measure import Setting, describe_machine
from ne_basicsr.evaluation.bench.table import median_interval
from ne_basicsr.utils.errors import InputError, last_line

FIRST = 'BasicSR'
VARIANTS: dict[str, Mapping[str, Any]] = {
    FIRST: {},
    'DenoisingModel': {},
    'channels_last': {'channels_last': True},
    'bf16': {'amp': 'bf16'},
    'bf16, channels_last': {'amp': 'bf16', 'channels_last': True},
}
NETWORKS: dict[str, Mapping[str, Any]] = {
    'DnCNN': {'type': 'DnCNN', 'num_in_ch': 3, 'num_out_ch': 3},
    'SwinIR': {
        'type': 'SwinIR', 'upscale': 1, 'in_chans': 3, 'window_size': 8, 'img_range': 1.0, 'depths': [6, 6, 6, 6],
        'embed_dim': 60, 'num_heads': [6, 6, 6, 6], 'mlp_ratio': 2, 'upsampler': '', 'resi_connection': '1conv',
    },
}  # fmt: skip
SIGMA255 = 25


class Work(NamedTuple):
    """The work of a run: batches of ``batch`` colour patches of ``patch`` x ``patch``, the first ``warmup`` untimed."""

    batch: int = 8
    patch: int = 48
    warmup: int = 5
    steps: int = 30
    images: int = 32
    size: int = 128


def measure_trainers(
    work: Work = Work(),  # noqa: B008 - immutable
    device: str = 'cpu',
    rounds: int = 3,
    networks: Mapping[str, Mapping[str, Any]] = NETWORKS,
    threads: int | None = None,
    on_turn: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Iterations per second and losses of each variant, network by network.

    Returns:
        ``work``, ``machine``, ``device``, and by network and variant lists over rounds: ``rates``, ``losses`` (the mean
        over the second half of the timed iterations, and its standard error).

    Raises:
        InputError: a run that fails, with its last line.
    """
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_images(folder, work)
        for network, options in networks.items():
            found[network] = {variant: {'rates': [], 'losses': []} for variant in VARIANTS}
            for number in range(rounds):
                for variant in list(VARIANTS)[:: -1 if number % 2 else 1]:
                    rate, loss = _run(folder, work, device, variant, options, threads)
                    found[network][variant]['rates'].append(rate)
                    found[network][variant]['losses'].append(loss)
                    on_turn()
    machine = describe_machine(Setting(device))
    return {'work': work._asdict(), 'machine': machine, 'device': device, 'networks': found}


def trainer_table(report: Mapping[str, Any]) -> str:
    """The report for a terminal."""
    work, machine = Work(**report['work']), report['machine']
    rounds = len(next(iter(next(iter(report['networks'].values())).values()))['rates'])
    lines = [
        f'{report["device"]}, batches of {work.batch} colour patches {work.patch}x{work.patch}, noise level {SIGMA255};'
        f' {work.steps} iterations after {work.warmup}, {rounds} rounds',
        ', '.join(
            f'{key} {machine[key]}' for key in ('processor', 'gpu', 'threads', 'load', 'torch') if key in machine
        ),
        'medians over rounds; ratio: to BasicSR in the round; loss: of the second half, with its standard error',
    ]
    for network, variants in report['networks'].items():
        lines += ['', f'{network:<24} {"it/s":>9} {"ratio":>7} {"range":>15} {"loss":>11} {"+-":>9}']
        for variant, own in variants.items():
            ratio = median_interval([b / a for a, b in zip(variants[FIRST]['rates'], own['rates'], strict=True)])
            loss, error = np.median(np.array(own['losses']), axis=0)
            lines.append(
                f'{variant:<24} {np.median(own["rates"]):>9.4g} {ratio.median:>7.3f}'
                f' {f"{ratio.low:.3f}-{ratio.high:.3f}":>15} {loss:>11.4e} {error:>9.1e}'
            )
    return '\n'.join(lines)


# -- one run -----------------------------------------------------------------------------------------------------------


def _run(
    folder: Path, work: Work, device: str, variant: str, network: Mapping[str, Any], threads: int | None
) -> tuple[float, tuple[float, float]]:
    """Iterations per second, and the loss with its standard error."""
    (folder / 'run.yml').write_text(yaml.safe_dump(_options(folder, work, device, variant, network), sort_keys=False))
    request = {'basicsr': variant == FIRST, 'threads': threads, 'warmup': work.warmup}
    (folder / 'request.json').write_text(json.dumps(request))
    (folder / 'result.json').unlink(missing_ok=True)
    environment = os.environ | {'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, __file__, '--run-here', str(folder)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode or not (folder / 'result.json').is_file():
        raise InputError(f'{network["type"]}, {variant}: {last_line(RuntimeError(done.stderr))}')
    result = json.loads((folder / 'result.json').read_text())
    losses = np.array(result['losses'][work.warmup + work.steps // 2 :])
    error = losses.std(ddof=1) / np.sqrt(len(losses)) if len(losses) > 1 else 0.0
    return work.steps / result['seconds'], (float(losses.mean()), float(error))


def run_here(folder: str) -> None:
    """Train in this process as ``folder``/request.json says; its seconds and losses to ``folder``/result.json."""
    from basicsr.models.sr_model import SRModel

    from ne_basicsr.models.denoising_model import DenoisingModel

    request = json.loads((Path(folder) / 'request.json').read_text())
    if request['threads']:
        torch.set_num_threads(request['threads'])
    losses: list[Any] = []
    times: dict[str, float] = {}
    for cls in (SRModel, DenoisingModel):
        _watch(cls, losses, times, request['warmup'])
    if request['basicsr']:
        from basicsr.train import train_pipeline

        sys.argv = ['train.py', '-opt', 'run.yml']
        train_pipeline(folder)
    else:
        from ne_basicsr.options import load_options
        from ne_basicsr.train import pipeline

        pipeline.train(load_options('run.yml', is_train=True))
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    result = {'seconds': times['last'] - times['first'], 'losses': [float(loss) for loss in losses]}
    (Path(folder) / 'result.json').write_text(json.dumps(result))


def _watch(cls: Any, losses: list[Any], times: dict[str, float], warmup: int) -> None:
    """Let ``cls`` note the loss of each iteration, and when the first timed one began and the last one ended."""
    original = cls.optimize_parameters

    def optimize_parameters(self: Any, current_iter: int) -> None:
        original(self, current_iter)
        # still on the device if the model leaves it there: reading it would slow the run down
        losses.append(self._losses['l_pix'] if hasattr(self, '_losses') else self.log_dict['l_pix'])
        if current_iter in (warmup, self.opt['train']['total_iter']):
            if self.device.type == 'cuda':
                torch.cuda.synchronize()
            times['first' if current_iter == warmup else 'last'] = time.perf_counter()

    cls.optimize_parameters = optimize_parameters


def _options(folder: Path, work: Work, device: str, variant: str, network: Mapping[str, Any]) -> dict[str, Any]:
    """The option file of one run."""
    common = {
        'name': 'train', 'io_backend': {'type': 'disk'}, 'gt_size': work.patch, 'num_worker_per_gpu': 0,
        'batch_size_per_gpu': work.batch, 'dataset_enlarge_ratio': 100, 'dataroot_gt': str(folder / 'clean'),
    }  # fmt: skip
    paired = {
        'type': 'PairedImageDataset', 'dataroot_lq': str(folder / 'noisy'), 'filename_tmpl': '{}', 'use_hflip': True,
        'use_rot': True,
    }  # fmt: skip
    noise = {'type': 'gaussian', 'sigma255': SIGMA255}
    drawn = {'type': 'DenoisingDataset', 'in_ch': 3, 'noise': noise}
    return {
        'name': 'bench', 'model_type': 'SRModel' if variant == FIRST else 'DenoisingModel', 'scale': 1,
        'num_gpu': 1 if device == 'cuda' else 0, 'manual_seed': 0,
        'datasets': {'train': common | (paired if variant == FIRST else drawn)},
        'network_g': dict(network) | ({'img_size': work.patch} if network['type'].startswith('SwinIR') else {}),
        'path': {'pretrain_network_g': None, 'strict_load_g': True, 'resume_state': None},
        'train': {
            'total_iter': work.warmup + work.steps, 'warmup_iter': -1, 'ema_decay': 0,
            'optim_g': {'type': 'Adam', 'lr': 1e-3, 'betas': [0.9, 0.99]},
            'scheduler': {'type': 'MultiStepLR', 'milestones': [], 'gamma': 0.5},
            'pixel_opt': {'type': 'MSELoss', 'loss_weight': 1.0, 'reduction': 'mean'},
            **VARIANTS[variant],
        },
        'logger': {'print_freq': 100, 'save_checkpoint_freq': 10**6, 'use_tb_logger': False},
    }  # fmt: skip


def _write_images(folder: Path, work: Work) -> None:
    """Colour images with the spectrum of photographs, of a contrast that noise does not clip, and noisy copies."""
    rng = np.random.default_rng(0)
    for kind in ('clean', 'noisy'):
        (folder / kind).mkdir()
    for number in range(work.images):
        planes = [photograph(work.size, 3 * number + channel) for channel in range(3)]
        clean = (128 + 0.5 * (np.stack(planes, axis=-1).astype(np.float64) - 128)).round()
        noisy = (clean + SIGMA255 * rng.standard_normal(clean.shape)).clip(0, 255).round()
        for kind, image in (('clean', clean), ('noisy', noisy)):
            cv2.imwrite(str(folder / kind / f'{number:04d}.png'), image.astype(np.uint8))


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--input', default='8x3x48x48', metavar='NxCxHxW', help='colour patches (default: 8x3x48x48)')
    parser.add_argument('--device', default='auto', help='cpu, cuda, auto or all')
    parser.add_argument('--steps', type=int, default=10, help='timed iterations (default: 10)')
    parser.add_argument('--warmup', type=int, default=3, help='iterations before them (default: 3)')
    parser.add_argument('--threads', type=int, help='of the CPU (default: all cores)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all rates and losses, too')
    parser.add_argument('--run-here', metavar='FOLDER', help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    if arguments.run_here:
        return run_here(arguments.run_here)
    n, channels, height, width = parse_shape(arguments.input)
    if channels != 3 or height != width or height % 8 or height > Work().size:
        parser.error(
            f'--input: colour patches, as wide as high, a multiple of 8 up to {Work().size}, are needed,'
            f' e.g. 8x3x48x48; got {arguments.input}'
        )
    if arguments.steps < 2 or arguments.warmup < 1:
        parser.error(
            f'--steps of 2 or more and --warmup of 1 or more are needed; got {arguments.steps} and {arguments.warmup}'
        )
    work = Work(batch=n, patch=height, warmup=arguments.warmup, steps=arguments.steps)
    with tqdm(unit='run', disable=None, leave=False) as bar:
        reports = [
            measure_trainers(work, setting.device, threads=arguments.threads, on_turn=bar.update)
            for setting in parse_settings(arguments.device)
        ]
    print('\n\n'.join(map(trainer_table, reports)))
    if arguments.json:
        arguments.json.write_text(as_json({'reports': reports}), encoding='utf-8')
    return None


if __name__ == '__main__':
    main()
