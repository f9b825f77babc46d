"""Noise as cameras make it, and as this package models it: denoisers compared, and estimates of the level.

    python scripts/real_noise.py CC15 CBSD68 -o docs/results [--networks gray C25=kair_cdncnn_25.pth@25+wne]

Writes real_noise.csv, with --estimates also noise_estimates.csv, and prints both as Markdown. A row that the CSV has is
kept, not computed again (--again does), so that networks can be added one at a time, and a run can be stopped. The
first folder has pairs ``*_real.png`` and ``*_mean.png``, 8 bits; to the first images of the second, noise is added as
by ``basicsr mismatch``, not clipped and not rounded (JPEG does both). Nothing is told to any method. Quality is the
mean over images of the PSNR in dB, both images clipped and rounded to 8 bits; time is the median over images of user
CPU seconds per megapixel. Methods:

    NAME            ``ne_basicsr.denoise(network, image)``: measured, treated
    NAME as white   the same with ``stride=1, stabilize=False``: the network alone
    BM3D            package bm3d (Maekinen, Azzari and Foi, IEEE TIP 2020; for non-commercial use only, so it is
                    compared where it is installed, and nothing here depends on it), level from scikit-image
    BM3D measured   the same, level from ``ne_basicsr.ops.noise_model.measure``
    NLM, wavelets   scikit-image (needs PyWavelets), level from scikit-image
"""

import argparse
import csv
import resource
from pathlib import Path

import cv2
import numpy as np
import torch

import ne_basicsr
from ne_basicsr.metrics.quality import psnr_8bit
from ne_basicsr.ops.degradations import parse_degradation
from ne_basicsr.ops.noise_level import noise_level
from ne_basicsr.ops.noise_model import measure

REAL = 'CC15'
SYNTHETIC = {
    'photons 20': 'poisson_gaussian@2=20',
    'photons 100': 'poisson_gaussian@2=100',
    'demosaicked 25': 'demosaicked=25',
    'correlated 25': 'correlated=25',
    'JPEG 75 after 25': 'jpeg@25=75',
    'white 25': 'gaussian=25',
}
WHITE = (5, 15, 25, 50)
KEY = ('data', 'method', 'image')


def read(path):
    return np.ascontiguousarray(cv2.imread(str(path), cv2.IMREAD_COLOR)[:, :, ::-1])


def as_tensor(image):
    """(H, W, 3), 8 bits or on [0, 1], to (3, H, W) on [0, 1]."""
    image = image.astype(np.float32) / (255 if image.dtype == np.uint8 else 1)
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def pairs(arguments, data):
    """(name, noisy, clean) of a column of the table, pixels (H, W, 3)."""
    if data == REAL:
        for path in sorted(arguments.real.glob('*_real.png')):
            yield path.stem, read(path), read(path.with_name(path.name.replace('_real', '_mean')))
        return
    axis = parse_degradation(SYNTHETIC.get(data) or f'gaussian={data.split()[1]}')
    for path in sorted(arguments.clean.glob('*.png'))[: arguments.images]:
        clean = read(path)
        noisy = axis.apply(as_tensor(clean)[None], path.stem, axis.levels[0])[0]
        yield path.stem, np.ascontiguousarray(noisy.numpy().transpose(1, 2, 0)), clean


def scikit_level(image):
    from skimage.restoration import estimate_sigma

    return estimate_sigma(image, channel_axis=-1, average_sigmas=True)


def non_local_means(image):
    """As in scikit-image's own example."""
    from skimage.restoration import denoise_nl_means

    level = scikit_level(image)
    return denoise_nl_means(
        image, patch_size=5, patch_distance=6, h=0.6 * level, sigma=level, fast_mode=True, channel_axis=-1
    )


def wavelets(image):
    from skimage.restoration import denoise_wavelet

    return denoise_wavelet(image, method='BayesShrink', mode='soft', convert2ycbcr=True, channel_axis=-1)


def bm3d(level_of):
    from bm3d import bm3d_rgb

    return lambda image: bm3d_rgb(image, max(level_of(image), 1e-4))


def methods(specs):
    """By name, functions of pixels (H, W, 3), 8 bits or float32 on [0, 1]."""
    on_unit_range = lambda call: lambda image: call(as_tensor(image).numpy().transpose(1, 2, 0))  # noqa: E731
    found = {
        'noisy': lambda image: image,
        'wavelets': on_unit_range(wavelets),
        'NLM': on_unit_range(non_local_means),
    }
    try:
        found['BM3D'] = on_unit_range(bm3d(scikit_level))
        found['BM3D measured'] = on_unit_range(bm3d(lambda image: measure(as_tensor(image)).level))
    except ImportError:
        print('package bm3d is not installed: no rows for BM3D')
    for spec in specs:
        name, _, source = spec.rpartition('=') if '=' in spec.partition('@')[0] else (spec, '', spec)
        network = ne_basicsr.load(source)
        found[f'{name} as white'] = lambda image, net=network: ne_basicsr.denoise(net, image, stride=1, stabilize=False)
        found[name] = lambda image, net=network: ne_basicsr.denoise(net, image)
    return found


def estimators():
    """By name, functions of an image (3, H, W) on [0, 1]: its noise level."""
    found = {
        'measure': lambda image: measure(image).level,
        'noise_level': lambda image: float(noise_level(image[None])),
        'scikit-image': lambda image: scikit_level(image.numpy().transpose(1, 2, 0)),
    }
    try:
        import ptwt  # noqa: F401 - which deepinv needs as soon as it estimates
        from deepinv.models import PatchCovarianceNoiseEstimator, WaveletNoiseEstimator
    except ImportError:
        print('deepinv and ptwt are not installed: no rows for its estimators')
    else:
        wavelets, patches = WaveletNoiseEstimator(), PatchCovarianceNoiseEstimator()
        found['deepinv wavelets'] = lambda image: float(wavelets(image[None]))
        found['deepinv patches'] = lambda image: float(patches(image[None]))
    return found


def denoised(call, noisy, clean):
    """Quality and time of one method on one image."""
    start = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    output = call(noisy)
    seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime - start
    megapixels = noisy.shape[0] * noisy.shape[1] / 1e6
    psnr = psnr_8bit(as_tensor(output), as_tensor(clean))
    return {'psnr_db': f'{psnr:.4f}', 'user_s_per_megapixel': f'{seconds / megapixels:.2f}'}


def estimated(call, noisy, clean):
    """True and estimated level of one image, in 8-bit units."""
    noisy, clean = as_tensor(noisy), as_tensor(clean)
    true = float((noisy - clean).square().mean().sqrt())
    return {'true255': f'{255 * true:.3f}', 'found255': f'{255 * call(noisy):.3f}'}


class Table:
    """Rows (data, method, image, ...) in a CSV file, written after each."""

    def __init__(self, path):
        self.path, self.rows = path, {}
        if path.exists():
            with path.open(newline='') as file:
                self.rows = {tuple(row[name] for name in KEY): row for row in csv.DictReader(file)}

    def add(self, key, row):
        self.rows[key] = dict(zip(KEY, key, strict=True)) | row
        with self.path.open('w', newline='') as file:
            writer = csv.DictWriter(file, self.rows[key])
            writer.writeheader()
            writer.writerows(self.rows.values())

    def print(self, title, cell):
        """In Markdown, a row for each method, a column for each kind of data: ``cell`` of columns of numbers by name.

        A method that lacks some of the images of a column has no cell there.
        """
        cells, images = {}, {}
        for (data, method, image), row in self.rows.items():
            cells.setdefault((data, method), []).append(row)
            images.setdefault(data, set()).add(image)
        print('', f'| {title} | {" | ".join(images)} |', f'|{"---|" * (1 + len(images))}', sep='\n')
        for method in dict.fromkeys(method for _, method in cells):
            shown = [
                cell(lambda name, found=found: np.array([float(row[name]) for row in found]))
                if len(found := cells.get((data, method), [])) == len(images[data])
                else ''
                for data in images
            ]
            print(f'| {method} | {" | ".join(shown)} |')


def estimate_cell(column):
    """Mean of the estimates, and the root of the mean square of estimate / true - 1."""
    true, found = column('true255'), column('found255')
    return f'{found.mean():.2f} ({100 * np.sqrt(np.mean((found / true - 1) ** 2)):.1f}%)'


def panels(arguments):
    """By name: a photograph as it is, after the first network alone, treated, and the reference."""
    _, noisy, clean = list(pairs(arguments, REAL))[arguments.photo]
    white, treated = list(methods(arguments.networks[:1]).values())[-2:]
    return {'camera': noisy, 'network alone': white(noisy), 'measured and treated': treated(noisy), 'reference': clean}


def draw(images, path, corner, side, factor=2, title=20, gap=4):
    """A crop of each image beside the others, each pixel ``factor`` times as large, and the PSNR of the whole image."""
    from PIL import Image, ImageDraw, ImageFont

    *_, clean = images.values()
    step, (left, top) = side * factor + gap, corner
    canvas = Image.new('RGB', (len(images) * step - gap, side * factor + title), 'white')
    for number, (name, image) in enumerate(images.items()):
        quality = '' if image is clean else f', {psnr_8bit(as_tensor(image), as_tensor(clean)):.1f} dB'
        crop = Image.fromarray(image[top : top + side, left : left + side])
        canvas.paste(crop.resize((side * factor,) * 2, Image.Resampling.NEAREST), (number * step, title))
        ImageDraw.Draw(canvas).text((number * step + 2, 2), name + quality, 'black', ImageFont.load_default(14))
    canvas.save(path, optimize=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('real', type=Path, metavar='CC15')
    parser.add_argument('clean', type=Path, metavar='CBSD68')
    parser.add_argument('-o', '--output', type=Path, required=True, metavar='FOLDER')
    parser.add_argument('--networks', nargs='*', default=list(ne_basicsr.list_models()), metavar='[NAME=]SPEC')
    parser.add_argument('--images', type=int, default=12, help='of the second folder (default: 12)')
    parser.add_argument('--data', nargs='*', default=[REAL, *SYNTHETIC], help='(default: all)', metavar='COLUMN')
    parser.add_argument('--methods', nargs='*', help='(default: all)', metavar='METHOD')
    parser.add_argument('--estimates', action='store_true', help='compare estimates of the level, too')
    parser.add_argument('--again', action='store_true', help='compute rows that the CSV has, too')
    parser.add_argument('--figure', type=Path, help='only draw a crop of a photograph, by the first network')
    parser.add_argument('--photo', type=int, default=12, help='its number, from 0')
    parser.add_argument('--left', type=int, default=130)
    parser.add_argument('--top', type=int, default=40)
    parser.add_argument('--side', type=int, default=120)
    arguments = parser.parse_args()
    if arguments.figure:
        draw(panels(arguments), arguments.figure, (arguments.left, arguments.top), arguments.side)
        return
    calls = methods(arguments.networks)
    calls = {name: call for name, call in calls.items() if arguments.methods is None or name in arguments.methods}
    table = Table(arguments.output / 'real_noise.csv')
    fill(table, arguments, arguments.data, calls, denoised)
    if arguments.estimates:
        levels = Table(arguments.output / 'noise_estimates.csv')
        fill(levels, arguments, [*(f'white {level}' for level in WHITE), REAL], estimators(), estimated)
    table.print('PSNR in dB', lambda column: f'{column("psnr_db").mean():.2f}')
    table.print('seconds per megapixel', lambda column: f'{np.median(column("user_s_per_megapixel")):.1f}')
    if arguments.estimates:
        levels.print('estimate (error)', estimate_cell)


def fill(table, arguments, columns, calls, row_of):
    for data in columns:
        for method, call in calls.items():
            for image, noisy, clean in pairs(arguments, data):
                key = data, method, image
                if arguments.again or key not in table.rows:
                    table.add(key, row_of(call, noisy, clean))
                    print(*table.rows[key].values(), sep='  ', flush=True)


if __name__ == '__main__':
    main()
