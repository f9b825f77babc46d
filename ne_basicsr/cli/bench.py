"""``basicsr bench``."""

import argparse
from pathlib import Path

from ne_basicsr.cli.command import NETWORKS, Commands, add_command, add_import
from ne_basicsr.utils.errors import InputError


def add(commands: Commands) -> None:
    parser = add_command(commands, 'bench', 'compare time, memory and arithmetic of networks', run, epilog=NETWORKS)
    parser.add_argument(
        'networks', nargs='*', metavar='NET', help="see below; also '{type: DnCNNWNE, num_layers: 20}' or DnCNNWNE"
    )
    parser.add_argument(
        '--table', choices=['2', '5', '6', 'affine'], help='use the networks and the input of this table of the paper'
    )
    parser.add_argument('--input', metavar='NxCxHxW', help='default: that of the table, or 16x1x128x128')
    parser.add_argument('--device', help='cpu, cuda, auto (cuda if available) or all, or a list with commas')
    parser.add_argument(
        '--dtype', default='float32', help='float32, bfloat16, float16 or float64, or a list with commas'
    )
    parser.add_argument('--memory-format', default='contiguous', help='contiguous or channels_last, or both')
    parser.add_argument('--compile', action='store_true', help='also measure with torch.compile')
    parser.add_argument('--steps', type=int, default=10, help='timed rounds (default: 10)')
    parser.add_argument('--warmup', type=int, default=3, help='warm-up rounds (default: 3)')
    parser.add_argument('--threads', type=int, help='CPU threads (default: all cores)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write all times to this file')
    add_import(parser)


def run(arguments: argparse.Namespace) -> int:
    import torch

    from ne_basicsr.evaluation import bench

    preset = bench.PRESETS.get(arguments.table)
    # all networks are compared with the table's first one
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
            raise InputError(f'bench: --threads must be at least 1; got {arguments.threads}')
        torch.set_num_threads(arguments.threads)
    reports: list[bench.Report] = []
    for report in bench.measure_all(networks, shape, settings, arguments.steps, arguments.warmup):
        reports.append(report)
        print(bench.table(report, preset.ratios.get(report.setting.device) if preset else None) + '\n', flush=True)
        if arguments.json:
            bench.write_json(arguments.json, reports)
    return 0
