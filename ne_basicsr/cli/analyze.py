"""``basicsr analyze``."""

import argparse
from pathlib import Path

from ne_basicsr.cli.command import NETWORKS, Commands, add_command, add_import, report_failures, typed
from ne_basicsr.cli.device import add_device, chosen_device
from ne_basicsr.utils.errors import InputError

_EPILOG = f"""\
measurements:
  without networks   difficulty Delta of patches at each noise level, coverage (Table 3), their contrast sigma_x
  with networks      residual quality Q against Delta; adaptive filters (rows of the Jacobian) with their sum and rho;
                     dependence of the result on an interval [a, b] to which the image is normalized first

{NETWORKS}
examples:
  basicsr analyze --data datasets/BSD400
  basicsr analyze dncnn_25.pth@25 dncnn_25.pth@25+wne --data datasets/Set12 --pixel 20,30 32,32
"""


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        'analyze',
        'analyze why denoisers work at other noise levels: difficulty, residual quality, adaptive filters, intervals',
        run,
        epilog=_EPILOG,
    )
    parser.add_argument('networks', nargs='*', metavar='CKPT', help='denoisers, see below')
    parser.add_argument('--data', required=True, type=Path, metavar='DIR', help='folder or LMDB of clean images')
    parser.add_argument('--label', nargs='+', default=[], help='names for the networks, in order')
    parser.add_argument(
        '-o', '--output', type=Path, default=Path('results/analyze'), help='output folder (default: results/analyze)'
    )
    parser.add_argument(
        '--sigma255',
        nargs='+',
        type=float,
        default=[50.0, 40.0, 30.0, 20.0, 10.0],
        metavar='S',
        help='noise levels, 8-bit units',
    )
    parser.add_argument('--patches', type=int, default=4000, help='patches for the difficulty (default: 4000)')
    parser.add_argument(
        '--patch-size', type=int, default=70, metavar='N', help='side of patches (default: 70, the paper)'
    )
    parser.add_argument(
        '--denoised', type=int, default=128, metavar='N', help='patches per level for the quality (default: 128)'
    )
    parser.add_argument(
        '--pixel',
        nargs='+',
        default=[],
        metavar='ROW,COLUMN',
        help='show the filters of these pixels (default: centre)',
    )
    parser.add_argument(
        '--crop', type=int, default=64, help='side of the centre crop of the first image, for filters (default: 64)'
    )
    parser.add_argument(
        '--crop-sigma255', type=float, default=25.0, metavar='S', help='noise level of the crop (default: 25)'
    )
    parser.add_argument(
        '--interval',
        action='append',
        default=[],
        metavar='A,B',
        help='interval to use instead of the built-in ones; can be repeated; write --interval=-1,1 if A is negative',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of patches and noise (default: 0)')
    add_device(parser)
    add_import(parser)


def run(arguments: argparse.Namespace) -> int:
    for name, low in (('patches', 3), ('patch_size', 2), ('denoised', 3), ('crop', 8)):
        if (value := getattr(arguments, name)) < low:
            raise InputError(f'analyze: --{name.replace("_", "-")} must be at least {low}; got {value}')
    levels = list(dict.fromkeys(arguments.sigma255))
    for level in [*levels, arguments.crop_sigma255]:
        if not 0 < level < float('inf'):
            raise InputError(f'analyze: a noise level must be above 0 in 8-bit units; got {level:g}')
    pixels = [_pair(text, 'pixel', int) for text in arguments.pixel]
    intervals = [_pair(text, 'interval', float) for text in arguments.interval]

    from ne_basicsr.evaluation.analysis.intervals import INTERVALS, check_interval
    from ne_basicsr.evaluation.analysis.outputs import coverage_text, make_writable, write_study
    from ne_basicsr.evaluation.analysis.study import Request, study
    from ne_basicsr.utils.folder_lock import hold

    for pair in intervals:
        check_interval(*pair)
    device = chosen_device(arguments)
    if device == 'mps':
        raise InputError('--device mps: analyze computes in float64, which mps does not have; use cpu')
    make_writable(arguments.output)  # fail now, not after all the work
    with hold(arguments.output, 'choose another --output'):
        findings = study(
            Request(
                networks=arguments.networks,
                data=arguments.data,
                labels=arguments.label,
                sigmas255=levels,
                patches=arguments.patches,
                denoised=arguments.denoised,
                patch_size=arguments.patch_size,
                pixels=pixels,
                crop=arguments.crop,
                filter_sigma255=arguments.crop_sigma255,
                intervals=intervals or INTERVALS,
                seed=arguments.seed,
                device=device,
            )
        )
        page = write_study(findings, arguments.output, typed(arguments))
    print(coverage_text(findings.table))
    for row in findings.filter_rows:
        where = 'worst of the crop' if row['row'] is None else f'row {row["row"]}, column {row["column"]}'
        print(f'{row["network"]}, {where}: filter sum {row["sum"]:.7g}, rho {row["rho"]:.2e}')
    print(f'Report: {page.resolve()}')
    return report_failures(findings.failures)


def _pair(text: str, name: str, kind: type) -> tuple:
    try:
        first, second = map(kind, text.split(','))
    except ValueError:
        raise InputError(f'analyze: --{name} needs two numbers, as in 20,30; got {text!r}') from None
    return first, second
