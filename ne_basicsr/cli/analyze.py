"""``basicsr analyze``."""

import argparse
from pathlib import Path

from ne_basicsr.cli import command
from ne_basicsr.utils.errors import InputError

_EPILOG = f"""\
measurements:
  without networks   difficulty Delta of patches at each noise level, coverage (Table 3), their contrast sigma_x
  with networks      residual quality Q against Delta; adaptive filters (rows of the Jacobian) with their sum and rho;
                     dependence of the result on an interval [a, b] to which the image is normalized first

{command.NETWORKS}
examples:
  basicsr analyze --data datasets/BSD400
  basicsr analyze dncnn_25.pth@25 dncnn_25.pth@25+wne --data datasets/Set12 --pixel 20,30 32,32
"""


def add(commands: command.Commands) -> None:
    what = 'analyze why denoisers work at other noise levels: difficulty, residual quality, adaptive filters, intervals'
    option = command.add_command(commands, 'analyze', what, run, epilog=_EPILOG)
    option('networks', 'denoisers, see below', nargs='*', metavar='CKPT')
    option('--data', 'folder or LMDB of clean images', required=True, type=Path, metavar='DIR')
    option('--label', 'names for the networks, in order', [], nargs='+', dest='labels')
    option('-o --output', 'output folder', Path('results/analyze'))
    levels = [50.0, 40.0, 30.0, 20.0, 10.0]
    option('--sigma255', 'noise levels, 8-bit units', levels, nargs='+', type=float, metavar='S')
    option('--patches', 'patches for the difficulty', 4000)
    option('--patch-size', 'side of patches, as in the paper', 70, metavar='N')
    option('--denoised', 'patches per level for the quality', 128, metavar='N')
    text = 'show the filters of these pixels (default: centre)'
    option('--pixel', text, [], nargs='+', metavar='ROW,COLUMN')
    option('--crop', 'side of the centre crop of the first image, for filters', 64)
    option('--crop-sigma255', 'noise level of the crop', 25.0, metavar='S', dest='filter_sigma255')
    text = 'interval to use instead of the built-in ones; can be repeated; write --interval=-1,1 if A is negative'
    option('--interval', text, [], action='append', metavar='A,B')
    option('--seed', 'seed of patches and noise', 0)
    command.add_device(option)
    command.add_import(option)


def run(arguments: argparse.Namespace) -> int:
    command.check_least(arguments, patches=3, patch_size=2, denoised=3, crop=8)
    levels = list(dict.fromkeys(arguments.sigma255))
    for level in [*levels, arguments.filter_sigma255]:
        if not 0 < level < float('inf'):
            raise InputError(f'analyze: a noise level must be above 0 in 8-bit units; got {level:g}')
    pixels = [_pair(text, 'pixel', int) for text in arguments.pixel]
    intervals = [_pair(text, 'interval', float) for text in arguments.interval]

    from ne_basicsr.evaluation.analysis.intervals import INTERVALS, check_interval
    from ne_basicsr.evaluation.analysis.outputs import coverage_text, write_study
    from ne_basicsr.evaluation.analysis.study import Request, study
    from ne_basicsr.evaluation.report.tables import make_writable
    from ne_basicsr.utils.folder_lock import hold

    for pair in intervals:
        check_interval(*pair)
    device = command.chosen_device(arguments)
    if device == 'mps':
        raise InputError('--device mps: analyze computes in float64, which mps does not have; use cpu')
    make_writable(arguments.output)  # fail now, not after all the work
    with hold(arguments.output, 'choose another --output'):
        changed = {'sigmas255': levels, 'pixels': pixels, 'intervals': intervals or INTERVALS, 'device': device}
        findings = study(command.given(arguments, Request, **changed))
        page = write_study(findings, arguments.output, command.typed(arguments))
    print(coverage_text(findings.table))
    for row in findings.filter_rows:
        where = 'worst of the crop' if row['row'] is None else f'row {row["row"]}, column {row["column"]}'
        print(f'{row["network"]}, {where}: filter sum {row["sum"]:.7g}, rho {row["rho"]:.2e}')
    print(f'Report: {page.resolve()}')
    return command.report_failures(findings.failures)


def _pair(text: str, name: str, kind: type) -> tuple:
    try:
        first, second = map(kind, text.split(','))
    except ValueError:
        raise InputError(f'analyze: --{name} needs two numbers, as in 20,30; got {text!r}') from None
    return first, second
