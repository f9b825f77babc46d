"""Time ``basicsr denoise``: ``python scripts/bench_denoise.py [--before CHECKOUT]``, about twelve minutes.

Images of 3 and 12 megapixels through the command line, beside the least that their arithmetic can take; the first
estimate of zero-shot networks; the start; the share of networks in ``basicsr mismatch``; what more processes cost.
Writes ``docs/benchmarks/denoise.json`` and its table into ``docs/benchmarks.md``. ``--before`` is a checkout of an
earlier version, which does the same in the same run, except for the largest images.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from bench_loader import photograph

from ne_basicsr import load
from ne_basicsr.evaluation.bench.measure import product_rate
from ne_basicsr.utils.atomic_files import write

HERE = Path(__file__).parents[1]
THREADS = len(os.sched_getaffinity(0))
SHARE = """
import sys, time, torch, ne_basicsr
from ne_basicsr.ops.dct import dct_shrink
try:
    from ne_basicsr.ops.noise_level import noise_level
except ImportError:
    from ne_basicsr.ops.noise import noise_level
try:
    from ne_basicsr.utils.machine import keep_freed_memory
    keep_freed_memory()
    layout = torch.channels_last
except ImportError:
    layout = torch.contiguous_format
torch.set_grad_enabled(False)
y, level = torch.rand(1, 1, 1024, 1024), torch.full((1, 1, 1, 1), 0.1)
gray = ne_basicsr.load('gray').network.to(memory_format=layout)
dncnn = ne_basicsr.WNE({'type': 'DnCNN', 'num_layers': 17}).eval().to(memory_format=layout)
steps = {'gray': lambda: gray(y), 'DnCNN': lambda: dncnn(y[..., :256]), 'DCT': lambda: dct_shrink(y, level, y.mean()),
         'noise': lambda: noise_level(y)}
best = {}
for _ in range(4):
    for name, step in steps.items():
        start = time.perf_counter()
        step()
        best[name] = min(best.get(name, 1e9), time.perf_counter() - start)
best['DnCNN'] *= 4
print(*best.values())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--before', type=Path, help='a checkout of an earlier version')
    versions = {'after': HERE} | ({'before': before} if (before := parser.parse_args().before) else {})
    with tempfile.TemporaryDirectory() as folder:
        report = measure(Path(folder), versions)
    write(HERE / 'docs/benchmarks/denoise.json', lambda file: file.write(json.dumps(report, indent=2).encode() + b'\n'))
    page = HERE / 'docs/benchmarks.md'
    block = f'<!-- denoise -->\n{table(report)}\n<!-- end -->'
    text = re.sub(r'<!-- denoise -->.*<!-- end -->', lambda _: block, page.read_text(), flags=re.DOTALL)
    write(page, lambda file: file.write(text.encode()))
    print(table(report))


def measure(folder: Path, versions: dict[str, Path]) -> dict[str, Any]:
    """Seconds of everything, by version."""
    rng = np.random.default_rng(0)
    for name, side, planes in (('3 gray', 1, 1), ('3 colour', 1, 3), ('12 gray', 2, 1), ('12 colour', 2, 3)):
        clean = cv2.resize(photograph(512, 0).squeeze(), (2048 * side, 1536 * side))
        noisy = clean[..., None] + rng.normal(0, 25, (*clean.shape[:2], planes))
        cv2.imwrite(str(folder / f'{name}.png'), noisy.round().clip(0, 255).astype(np.uint8))
    many, small, tiny = (folder / name for name in ('many', 'small', 'tiny'))
    for number in range(8):
        for path, size in ((many, 1024), (small, 384), (tiny, 32)):
            path.mkdir(exist_ok=True)
            image = cv2.resize(photograph(512, number).squeeze(), (size, size)) + rng.normal(0, 15, (size, size))
            cv2.imwrite(str(path / f'{number}.png'), image.round().clip(0, 255).astype(np.uint8))
    from torch.utils.flop_counter import FlopCounterMode

    flops = {}
    for name, planes in (('gray', 1), ('colour', 3)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            load(name)(torch.rand(1, planes, 256, 256), sigma=0.1)
        flops[name] = counter.get_total_flops() / 256**2
    report: dict[str, Any] = {
        'flop_per_pixel': flops,
        'product_gflop_per_s': {
            'float32': product_rate('cpu', torch.float32, 0.2) / 1e9,
            'bfloat16': product_rate('cpu', torch.bfloat16, 0.2) / 1e9,
        },
        'threads': THREADS,
        'load': os.getloadavg(),
        'torch': torch.__version__,
    }
    for version, checkout in versions.items():
        own: dict[str, Any] = {'help': min(seconds(checkout, 'denoise', '--help')[0] for _ in range(3))}
        start = min(denoise(checkout, folder, tiny / '0.png') for _ in range(3))
        own['start'] = start
        precisions = ('float32', 'bf16') if version == 'after' else ('',)
        for name in ('3 gray', '3 colour', '12 gray', '12 colour')[: 4 if version == 'after' else 2]:
            for precision in precisions:
                options = ['--precision', precision] if precision else []
                key = f'{name} {precision or "float32"}'
                own[key] = min(denoise(checkout, folder, folder / f'{name}.png', *options) for _ in range(2)) - start
        own['shares'] = [float(word) for word in run(checkout, [sys.executable, '-c', SHARE])[1].split()]
        said = seconds(checkout, 'mismatch', 'gray', 'gray+x8', '--data', str(small), '-o', str(folder / version),
                       '--degradation', 'gaussian=15,25,50')[1]  # fmt: skip
        own['mismatch'] = re.findall(r'(\d+)% of it', said)
        for count in (1, 2, 4):
            processes = ['-m', 'torch.distributed.run', f'--nproc_per_node={count}', '-m', 'ne_basicsr']
            options = ['--precision', 'float32'] if version == 'after' else []
            walls = [denoise(checkout, folder, path, *options, command=processes, threads=max(1, THREADS // count))
                     for path in (many, tiny)]  # fmt: skip
            own[f'{count} processes'] = walls[0] - walls[1]
        report[version] = own
    return report


def run(checkout: Path, command: list[str], threads: int = THREADS) -> tuple[float, str]:
    """Seconds and the output of a command of that checkout."""
    environment = os.environ | {'PYTHONPATH': str(checkout), 'OMP_NUM_THREADS': str(threads)}
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=checkout, capture_output=True, text=True)
    elapsed = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f'{command} failed: {done.stderr[-2000:]}')
    return elapsed, done.stdout


def seconds(checkout: Path, *arguments: str) -> tuple[float, str]:
    return run(checkout, [sys.executable, '-m', 'ne_basicsr', *arguments])


def denoise(
    checkout: Path, folder: Path, path: Path, *options: str, command: list[str] | None = None, threads: int = THREADS
) -> float:
    """Seconds of ``basicsr denoise`` of a file or folder, into a new folder."""
    output = tempfile.mkdtemp(dir=folder)
    prefix = [sys.executable, *(command or ['-m', 'ne_basicsr'])]
    return run(checkout, [*prefix, 'denoise', str(path), '-o', output, *options], threads)[0]


def table(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    rate = report['product_gflop_per_s']
    versions = [version for version in ('before', 'after') if version in report]
    rows: dict[str, list[str]] = {}
    for name in ('3 gray', '3 colour', '12 gray', '12 colour'):
        pixels = 2048 * 1536 * (4 if '12' in name else 1)
        floor = report['flop_per_pixel'][name.split()[1]] * pixels / rate['float32'] / 1e9
        for precision in ('float32', 'bf16'):
            found = [report[version].get(f'{name} {precision}') for version in versions]
            row = [f'{value:.1f} s, {value / floor:.2f} of the floor' if value else '' for value in found]
            rows[f'{name.replace(" ", " megapixels, ")}, {precision}; floor {floor:.1f} s'] = row
    names = {'start': 'start, an image of 32x32', 'help': '`--help`'}
    rows |= {text: [f'{report[version][key]:.2f} s' for version in versions] for key, text in names.items()}
    shares = [report[version]['shares'] for version in versions]
    rows['zero-shot: DCT estimate to the pass of `gray`'] = [f'{dct / gray:.0%}' for gray, _, dct, _ in shares]
    rows['zero-shot: DCT estimate to the pass of DnCNN'] = [f'{dct / dncnn:.0%}' for _, dncnn, dct, _ in shares]
    rows['noise estimate to the pass of DnCNN'] = [f'{noise / dncnn:.0%}' for _, dncnn, _, noise in shares]
    rows['`mismatch`: share inside the networks'] = [f'{report[version]["mismatch"][0]}%' for version in versions]
    for count in (1, 2, 4):
        found = [report[version] for version in versions]
        rows[f'8 images of 1 megapixel, {count} process(es), beyond the start'] = [
            f'{own[f"{count} processes"]:.1f} s, {own[f"{count} processes"] / own["1 processes"] - 1:+.0%}'
            for own in found
        ]
    head = f'Matrix products: {rate["float32"]:.0f} GFLOP/s in float32, {rate["bfloat16"]:.0f} in bfloat16;'
    head += f' {report["threads"]} threads, load {report["load"][0]:.1f} at the start.'
    lines = [f'| {text} | {" | ".join(row)} |' for text, row in rows.items()]
    return '\n'.join([head, '', f'| | {" | ".join(versions)} |', '|---' * (len(versions) + 1) + '|', *lines])


if __name__ == '__main__':
    main()
