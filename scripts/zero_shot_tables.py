"""Zero-shot from denoisers of one noise level, against the denoiser of each test level: a table and a CSV.

    python scripts/zero_shot_tables.py WEIGHTS 15,25,50 DATA -o FILE.csv [--images 12] [--crop 128]

WEIGHTS is a pattern with {} for the level, such as kair_dncnn_{}.pth. The noise of a cell depends on image, level and
draw alone, as in ``basicsr mismatch``. PSNR in dB is the mean over images, outputs are clamped to [0, 1]. Methods:

    specialist         the plain network of the test level
    plain              the network of the level of the training, s
    rescaled           that network on y s / sigma, times sigma / s, with sigma given
    1 pass, 2 passes   ZeroShot, which estimates sigma

Levels that FILE.csv has are not measured again. At the end it prints two tables in Markdown: PSNR, and its distance to
that of the specialist.
"""

import argparse
import csv
import json
from pathlib import Path

import cv2
import numpy as np
import torch

import ne_basicsr
from ne_basicsr.archs.zero_shot_arch import ZeroShot
from ne_basicsr.metrics.quality import psnr_clamped
from ne_basicsr.ops.center import center
from ne_basicsr.ops.degradations import Degradation

ORDER = ('plain', 'rescaled', '1 pass', '2 passes')


def images(folder, channels, count, side):
    """(name, (1, C, H, W) on [0, 1]) of the first images by name, their centres where ``side`` is given."""
    flag = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR
    for path in sorted(folder.glob('*.png'))[:count]:
        pixels = np.atleast_3d(cv2.imread(str(path), flag))[:, :, ::-1].transpose(2, 0, 1)
        image = torch.from_numpy(np.ascontiguousarray(pixels)).float()[None] / 255
        yield path.stem, center(image, side) if side else image


def methods(net, trained):
    """By name, functions of noisy images and their level on the [0, 1] scale."""
    one, two = (ZeroShot(net, 255 * trained, passes=passes).eval() for passes in (1, 2))
    return {
        'plain': lambda y, sigma: net(y),
        'rescaled': lambda y, sigma: net(y * trained / sigma) * sigma / trained,
        '1 pass': lambda y, sigma: one(y),
        '2 passes': lambda y, sigma: two(y),
    }


def tables(rows):
    """Markdown of PSNR in dB, and of its difference to the specialist's, by network and level."""
    psnr = {(row['method'], int(row['trained255']), float(row['sigma255'])): float(row['psnr_db']) for row in rows}
    levels = sorted({level for *_, level in psnr})
    specialist = {level: value for (method, _, level), value in psnr.items() if method == 'specialist'}
    names = {(trained, method) for method, trained, _ in psnr if method != 'specialist'}
    head = f'| network | {" | ".join(f"{level:g}" for level in levels)} |\n{"|---" * (len(levels) + 1)}|'
    lines = [head, row_of('the network of that level', [specialist.get(level) for level in levels])]
    distances = [head]
    for trained, method in sorted(names, key=lambda name: (name[0], ORDER.index(name[1]))):
        values = [psnr.get((method, trained, level)) for level in levels]
        lines.append(row_of(f'trained at {trained}, {method}', values))
        gaps = [
            None if None in (value, specialist.get(level)) else value - specialist[level]
            for value, level in zip(values, levels, strict=True)
        ]
        if method != 'plain':
            distances.append(row_of(f'trained at {trained}, {method}', gaps))
    return '\n'.join(lines) + '\n\n' + '\n'.join(distances)


def row_of(name, values):
    return f'| {name} | {" | ".join("" if value is None else f"{value:.2f}" for value in values)} |'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('weights')
    parser.add_argument('trained', type=lambda text: [int(level) for level in text.split(',')])
    parser.add_argument('data', type=Path)
    parser.add_argument('-o', '--output', type=Path, required=True)
    parser.add_argument('--levels', type=lambda text: [float(level) for level in text.split(',')])
    parser.add_argument('--images', type=int, default=12)
    parser.add_argument('--crop', type=int, default=0, help='side of the centre that is taken; 0: whole images')
    arguments = parser.parse_args()
    nets = {level: ne_basicsr.load(arguments.weights.format(level)) for level in arguments.trained}
    for net in nets.values():
        net.to(memory_format=torch.channels_last)  # the same numbers, a quarter faster on a CPU
    rows = []
    if arguments.output.exists():
        with arguments.output.open(newline='') as file:
            rows = list(csv.DictReader(file))
        if any(int(row['crop']) != arguments.crop for row in rows):
            parser.error(f'{arguments.output} has rows of another --crop: name another file')
    measured = {float(row['sigma255']) for row in rows}
    for level in arguments.levels or [5, 10, 15, 25, 35, 50]:
        if level in measured:
            continue
        sums = {}
        loaded = list(images(arguments.data, nets[arguments.trained[0]].channels, arguments.images, arguments.crop))
        for name, clean in loaded:
            noisy = Degradation('gaussian', ()).apply(clean, name, level)
            with torch.inference_mode():
                outputs = {}
                for trained, net in nets.items():
                    found = methods(net.network, trained / 255)
                    outputs |= {(method, trained): call(noisy, level / 255) for method, call in found.items()}
                if level in nets:
                    outputs |= {('specialist', int(level)): outputs['plain', level]}
            for key, output in outputs.items():
                sums.setdefault(key, []).append(psnr_clamped(output, clean))
        for (method, trained), values in sums.items():
            row = {'sigma255': level, 'method': method, 'trained255': trained, 'psnr_db': f'{np.mean(values):.4f}'}
            rows.append(row | {'images': len(values), 'crop': arguments.crop})
            print(json.dumps(rows[-1]), flush=True)
        with arguments.output.open('w', newline='') as file:  # after each level: a run that is stopped leaves its rows
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    print(tables(rows))


if __name__ == '__main__':
    main()
