"""SwinIR against BasicSR's own, Restormer and DnCNN in both orders in memory: seconds, and how far above the floor.

    python scripts/bench_attention.py docs/benchmarks/attention.json

On a CPU with one thread, and alternately in one process; each ratio is the median over rounds, of one round each. The
floor is the FLOPs (torch.utils.flop_counter, of BasicSR's code) over the rate of a product of two matrices of
2048x2048 in the same run. Prints a Markdown table. About 3 minutes.
"""

import json
import platform
import statistics
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from ne_basicsr.archs import swinir_blocks
from ne_basicsr.archs.backbone import build_arch
from ne_basicsr.evaluation.bench.request import PRESETS

SWINIR = PRESETS['5'].networks['SwinIR'].args[0]  # of the paper
RESTORMER = {'type': 'Restormer', 'inp_channels': 1, 'out_channels': 1, 'num_blocks': [1, 1, 1, 1]}
RESTORMER |= {'num_refinement_blocks': 1, 'LayerNorm_type': 'BiasFree'}
DNCNN = {'type': 'DnCNN'}
CASES = [  # network, what is compared, shape, training
    (SWINIR, "BasicSR's", (1, 1, 256, 256), False),
    (SWINIR, "BasicSR's", (8, 1, 64, 64), True),
    (SWINIR, "BasicSR's", (1, 1, 128, 128), True),
    (RESTORMER, 'contiguous', (1, 1, 128, 128), False),
    (RESTORMER, 'contiguous', (1, 1, 128, 128), True),
    (DNCNN, 'contiguous', (8, 1, 50, 50), True),
]
ROUNDS = 3


def step(network: torch.nn.Module, y: torch.Tensor, training: bool) -> None:
    """One forward pass, and one backward pass in training."""
    network.zero_grad()
    with torch.set_grad_enabled(training):
        loss = network(y).square().mean()
    if training:
        loss.backward()


def rate() -> float:
    """FLOPs a second of a large product of matrices."""
    a, seconds = torch.rand(2048, 2048), []
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(seconds)


def measure(options: dict, before: str, shape: tuple[int, ...], training: bool) -> dict:
    """Seconds before and after, and of the floor."""
    torch.manual_seed(0)
    network, y = build_arch(options).train(training), torch.rand(shape)
    with FlopCounterMode(display=False) as counter, swinir_blocks.as_in_basicsr():
        step(network, y, training)
    seconds: dict[str, list[float]] = {before: [], 'after': []}
    for _ in range(1 + ROUNDS):
        for name, found in seconds.items():
            if before == 'contiguous':
                order = torch.contiguous_format if name == before else torch.channels_last
                network, y = network.to(memory_format=order), y.contiguous(memory_format=order)
            with swinir_blocks.as_in_basicsr() if name == "BasicSR's" else nullcontext():
                start = time.perf_counter()
                step(network, y, training)
                found.append(time.perf_counter() - start)
    first, second = (found[1:] for found in seconds.values())
    return {
        'network': options['type'],
        'shape': shape,
        'training': training,
        'before': before,
        'after': "this package's" if before == "BasicSR's" else 'channels_last',
        'seconds': [first, second],
        'ratio': statistics.median(a / b for a, b in zip(first, second, strict=True)),
        'floor': counter.get_total_flops() / rate(),
    }


def main() -> None:
    """Measure, print the table, and write the JSON if a path is given."""
    torch.set_num_threads(1)
    machine = {'machine': platform.machine(), 'capability': torch.backends.cpu.get_cpu_capability()}
    machine |= {'torch': torch.__version__, 'GFLOP/s': round(rate() / 1e9), 'threads': 1}
    print(json.dumps(machine))
    print('| network | input | step | before | after | ratio | before / floor | after / floor |')
    print('| --- | --- | --- | --- | --- | --- | --- | --- |')
    rows = []
    for case in CASES:
        rows.append(row := measure(*case))
        a, b = map(statistics.median, row['seconds'])
        kind, size = ('forward', 'forward and backward')[row['training']], 'x'.join(map(str, row['shape']))
        print(
            f'| {row["network"]} | {size} | {kind} | {row["before"]}: {a:.2f} s | {row["after"]}: {b:.2f} s |'
            f' {row["ratio"]:.2f} | {a / row["floor"]:.1f} | {b / row["floor"]:.1f} |',
            flush=True,
        )
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps({'machine': machine, 'rows': rows}, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
