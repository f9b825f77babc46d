"""``basicsr bench``."""

import argparse

from ne_basicsr.cli import command
from ne_basicsr.utils.errors import InputError


def run(arguments: argparse.Namespace) -> int:
    import torch

    from ne_basicsr.evaluation import bench
    from ne_basicsr.evaluation.report.tables import check_writable, write_json

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
        check_writable(arguments.json)
    command.check_least(arguments, threads=1)
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    reports: list[bench.Report] = []
    for setting in settings:
        report = bench.measure(networks, shape, setting, arguments.steps, arguments.warmup, shown=True)
        reports.append(report)
        print(bench.table(report, preset.ratios.get(report.setting.device) if preset else None) + '\n', flush=True)
        if arguments.json:
            write_json(arguments.json, bench.content_of(reports))
    return 0
