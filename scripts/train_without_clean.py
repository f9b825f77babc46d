"""Training without clean images against training with them: the same small network, the same photographs, one table.

    python scripts/train_without_clean.py datasets/BSD400 datasets/Set12 -o out

Every photograph gets white Gaussian noise once (two shots of it, for noise2noise), and the networks see it in float32
files, not clipped. `clean, new noise` is the usual training, whose noise is new in every step; `clean` has the noisy
files as inputs. Writes results.csv and prints it as a table of Markdown; a finished row is not computed again.
"""

import argparse
import csv
import os
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
import torch

import ne_basicsr
from ne_basicsr.data.image_store import FolderStore
from ne_basicsr.ops.noise import add_noise, seed_of
from ne_basicsr.train.pipeline import train_from

SIGMA = 25
NETWORK = {'num_in_ch': 1, 'num_out_ch': 1, 'num_feat': 32, 'num_layers': 7, 'act_mode': 'R'}
NOISY, PAIRS, SIDD = ({'type': f'{name}Dataset', 'dataroot_lq': 'noisy'} for name in ('Noisy', 'NoisyPair', 'SIDD'))
FRESH = {'type': 'DenoisingDataset', 'dataroot_gt': 'clean', 'noise': {'sigma255': SIGMA}}
ROWS: dict[str, dict[str, Any]] = {
    'clean, new noise': FRESH,
    'clean': SIDD | {'dataroot_gt': 'clean'},
    'noise2noise': PAIRS | {'dataroot_gt': 'second'},
    'neighbor2neighbor': NOISY,
    'neighbor2neighbor, weight 0': NOISY | {'regularization': 0},
    'r2r': NOISY | {'target': 'r2r', 'sigma255': SIGMA},
    'r2r, level measured': NOISY | {'target': 'r2r'},
    'sure': NOISY | {'target': 'sure', 'sigma255': SIGMA},
    'sure, level measured': NOISY | {'target': 'sure'},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('train', type=Path, help='folder of gray photographs to train on')
    parser.add_argument('test', type=Path, help='folder of others to test on')
    parser.add_argument('-o', '--output', type=Path, default=Path('train_without_clean'))
    parser.add_argument('--iterations', type=int, default=1500)
    parser.add_argument('--networks', nargs='+', default=['DnCNNWNE', 'DnCNN'])
    parser.add_argument('--rows', nargs='+', default=list(ROWS), choices=list(ROWS))
    parser.add_argument('--batch', type=int, default=8, help='crops a step, a multiple of 4 (default: 8)')
    parser.add_argument('--amp', choices=['bf16', 'fp16'], help='mixed precision; default: float32')
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', 1)))
    tests = {name: FolderStore(arguments.test).pixels(name, 1) for name in FolderStore(arguments.test).names}
    arguments.output.mkdir(parents=True, exist_ok=True)
    if not (arguments.output / 'second').is_dir():
        write_data(arguments.train, arguments.output)
    os.chdir(arguments.output)
    file = Path('results.csv')
    found = list(csv.DictReader(file.open())) if file.is_file() else []
    for name in arguments.networks:
        for row in arguments.rows:
            key = {'network': name, 'target': row, 'iterations': str(arguments.iterations)}
            key |= {'batch': str(arguments.batch), 'amp': arguments.amp or ''}
            if any(key.items() <= done.items() for done in found):
                continue
            start = time.process_time()
            run = '_'.join(key.values()).replace(', ', '_').replace(' ', '_')
            train_from(options(run, name, ROWS[row], arguments.iterations, arguments.batch, arguments.amp))
            seconds = time.process_time() - start
            psnr = tested(f'experiments/{run}/models/net_g_latest.pth', tests)
            found.append(key | {'psnr': f'{psnr:.3f}', 'cpu_seconds': f'{seconds:.0f}'})
            with file.open('w', newline='') as stream:
                writer = csv.DictWriter(stream, list(found[0]))
                writer.writeheader()
                writer.writerows(found)
    print('\n' + table(found))


def write_data(source: Path, folder: Path) -> None:
    """The clean photographs in ``clean``, and two noisy shots of each in ``noisy`` and ``second``."""
    store = FolderStore(source)
    for name in store.names:
        clean = store.pixels(name, 1)[..., 0]
        for kind in ('clean', 'noisy', 'second'):
            (folder / kind).mkdir(exist_ok=True)
            if kind == 'clean':
                cv2.imwrite(str(folder / kind / f'{name}.png'), clean)
                continue
            shot = add_noise(torch.from_numpy(clean).float() / 255, SIGMA / 255, seed=seed_of(kind, name))
            tifffile.imwrite(folder / kind / f'{name}.tif', shot.numpy())


def options(
    run: str, network: str, data: dict[str, Any], iterations: int, batch: int, amp: str | None
) -> dict[str, Any]:
    # its parts, four of a crop, are as large and as many as the crops of the others
    halved = data.get('target', 'neighbor2neighbor') == 'neighbor2neighbor' and data['type'] == 'NoisyDataset'
    crops = {
        'in_ch': 1,
        'gt_size': 80 if halved else 40,
        'batch_size_per_gpu': batch // 4 if halved else batch,
        'num_worker_per_gpu': 0,
    }
    model = 'DenoisingModel' if data['type'] == 'DenoisingDataset' else 'PairedDenoisingModel'
    return {
        'name': run, 'model_type': model, 'num_gpu': 0, 'manual_seed': 0,
        'datasets': {'train': {'name': 'photographs', **data, **crops}},
        'network_g': {'type': network, **NETWORK},
        'train': {
            'total_iter': iterations, 'optim_g': {'type': 'Adam', 'lr': 2e-3}, 'pixel_opt': {'type': 'MSELoss'},
            'scheduler': {'type': 'CosineAnnealingLR', 'T_max': iterations, 'eta_min': 1e-6},
            'channels_last': False, 'amp': amp,
        },
        'logger': {'use_tb_logger': False, 'print_freq': 250, 'save_checkpoint_freq': iterations},
    }  # fmt: skip


def tested(file: str, images: dict[str, Any]) -> float:
    """Mean PSNR, clamped to [0, 1], at ``SIGMA``."""
    network, values = ne_basicsr.load(file), []
    for name, image in images.items():
        clean = torch.from_numpy(np.ascontiguousarray(image[..., 0])).float()[None, None] / 255
        with torch.no_grad():
            output = network(add_noise(clean, SIGMA / 255, seed=seed_of('test', name))).clamp(0, 1)
        values.append(-10 * (output - clean).square().mean().log10().item())
    return sum(values) / len(values)


def table(found: list[dict[str, str]]) -> str:
    lines = ['| network | target | crops | PSNR in dB | against clean | CPU seconds |', '|---|---|---|---|---|---|']
    same = ('network', 'iterations', 'batch', 'amp')
    for row in found:
        of = [each for each in found if each['target'] == 'clean' and all(each[k] == row[k] for k in same)]
        gap = f'{float(row["psnr"]) - float(of[0]["psnr"]):+.2f}' if of else ''
        network = f'{row["network"]}{", " + row["amp"] if row["amp"] else ""}'
        cells = (network, row['target'], row['batch'], f'{float(row["psnr"]):.2f}', gap, row['cpu_seconds'])
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


if __name__ == '__main__':
    main()
