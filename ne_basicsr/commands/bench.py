"""``basicsr bench``."""

import argparse
from pathlib import Path

from ne_basicsr.commands import Commands, add_command
from ne_basicsr.errors import InputError


def add(commands: Commands) -> None:
    parser = add_command(commands, 'bench', 'time, memory and arithmetic of networks side by side', run)
    parser.add_argument(
        'networks', nargs='*', metavar='NET', help="option file, '{type: DnCNNWNE, num_layers: 20}', or X"
    )
    parser.add_argument('--table', choices=['2', '5', '6', 'affine'], help="networks and input of the paper's table")
    parser.add_argument('--data', action='store_true', help="the training loader instead, against BasicSR's")
    parser.add_argument('--train', action='store_true', help="the whole trainer instead, against BasicSR's")
    parser.add_argument('--input', metavar='NxCxHxW', help='default: that of the table, else 16x1x128x128')
    parser.add_argument('--device', help='cpu, cuda, auto (cuda if there is one) or all; lists take commas')
    parser.add_argument('--dtype', default='float32', help='float32, bfloat16, float16, float64; lists take commas')
    parser.add_argument('--memory-format', default='contiguous', help='contiguous, channels_last; lists take commas')
    parser.add_argument('--compile', action='store_true', help='measure with torch.compile, too')
    parser.add_argument('--steps', type=int, default=10, help='timed rounds (default: 10)')
    parser.add_argument('--warmup', type=int, default=3, help='rounds before them (default: 3)')
    parser.add_argument('--threads', type=int, help='of the CPU (default: all cores)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all times, too')


def run(arguments: argparse.Namespace) -> int:
    import torch

    from ne_basicsr import bench

    if arguments.data:
        return _run_data(arguments)
    if arguments.train:
        return _run_train(arguments)
    preset = bench.PRESETS.get(arguments.table)
    # the table's first network stays the one that all are compared with
    networks = (preset.networks if preset else {}) | bench.parse_networks(arguments.networks)
    if not networks:
        raise InputError('bench: nothing to measure; give option files, or --table 2, 5, 6 or affine')
    shape = bench.parse_shape(arguments.input) if arguments.input else preset.shape if preset else (16, 1, 128, 128)
    settings = bench.parse_settings(
        arguments.device or ('all' if preset else 'auto'),
        arguments.dtype,
        arguments.memory_format,
        'inductor' if arguments.compile else '',
    )
    if arguments.json:
        bench.check_writable(arguments.json)
    if arguments.threads is not None:
        if arguments.threads < 1:
            raise InputError(f'bench: --threads is 1 or more; got {arguments.threads}')
        torch.set_num_threads(arguments.threads)
    reports: list[bench.Report] = []
    for report in bench.measure_all(networks, shape, settings, arguments.steps, arguments.warmup):
        reports.append(report)
        print(bench.table(report, preset.ratios.get(report.setting.device) if preset else None) + '\n', flush=True)
        if arguments.json:
            bench.write_json(arguments.json, reports)
    return 0


def _run_data(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ne_basicsr import bench
    from ne_basicsr.bench import loader

    if arguments.networks or arguments.table:
        raise InputError('bench: --data measures the loader alone; leave out networks and --table')
    if arguments.json:
        bench.check_writable(arguments.json)
    with tqdm(unit='turn', disable=None, leave=False) as bar:
        report = loader.measure_loaders(rounds=arguments.steps, on_turn=bar.update)
    print(loader.loader_table(report))
    if arguments.json:
        arguments.json.write_text(loader.loader_json(report), encoding='utf-8')
    return 0


def _run_train(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ne_basicsr import bench
    from ne_basicsr.bench import trainer

    if arguments.networks or arguments.table or arguments.data:
        raise InputError('bench: --train runs DnCNN and SwinIR alone; leave out networks, --table and --data')
    n, channels, height, width = bench.parse_shape(arguments.input or '8x3x48x48')
    if channels != 3 or height != width or height % 8 or height > trainer.Work().size:
        problem = f'colour patches, as wide as high, a multiple of 8 up to {trainer.Work().size}, are needed'
        raise InputError(f'bench: --train --input: {problem}, e.g. 8x3x48x48; got {arguments.input}')
    if arguments.steps < 2 or arguments.warmup < 1:
        raise InputError(
            'bench: --train needs --steps of 2 or more and --warmup of 1 or more; got'
            f' {arguments.steps} and {arguments.warmup}'
        )
    settings = bench.parse_settings(arguments.device or 'auto')
    if arguments.json:
        bench.check_writable(arguments.json)
    work = trainer.Work(batch=n, patch=height, warmup=arguments.warmup, steps=arguments.steps)
    with tqdm(unit='run', disable=None, leave=False) as bar:
        reports = [
            trainer.measure_trainers(work, setting.device, threads=arguments.threads, on_turn=bar.update)
            for setting in settings
        ]
    print('\n\n'.join(map(trainer.trainer_table, reports)))
    if arguments.json:
        arguments.json.write_text(trainer.trainer_json({'reports': reports}), encoding='utf-8')
    return 0
