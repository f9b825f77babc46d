"""``basicsr bench``."""

import argparse
from pathlib import Path

from ne_basicsr.cli import command
from ne_basicsr.utils.errors import InputError


def add(commands: command.Commands) -> None:
    what = 'compare time, memory and arithmetic of networks'
    option = command.add_command(commands, 'bench', what, run, epilog=command.NETWORKS)
    option('networks', "see below; also '{type: DnCNNWNE, num_layers: 20}' or DnCNNWNE", nargs='*', metavar='NET')
    text = 'use the networks and the input of this table of the paper'
    option('--table', text, choices=['2', '5', '6', 'affine'])
    option('--input', 'default: that of the table, or 16x1x128x128', metavar='NxCxHxW')
    option('--device', 'cpu, cuda, auto (cuda if available) or all, or a list with commas')
    option('--dtype', 'float32, bfloat16, float16 or float64, or a list with commas', 'float32')
    option('--memory-format', 'contiguous or channels_last, or both', 'contiguous')
    option('--compile', 'also measure with torch.compile', False)
    option('--steps', 'timed rounds', 10)
    option('--warmup', 'warm-up rounds', 3)
    option('--threads', 'CPU threads (default: all cores)', type=int)
    option('--json', 'also write all times to this file', type=Path, metavar='FILE')
    command.add_import(option)


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
    command.check_least(arguments, threads=1)
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    reports: list[bench.Report] = []
    for report in bench.measure_all(networks, shape, settings, arguments.steps, arguments.warmup):
        reports.append(report)
        print(bench.table(report, preset.ratios.get(report.setting.device) if preset else None) + '\n', flush=True)
        if arguments.json:
            bench.write_json(arguments.json, reports)
    return 0
