"""The command line: a subcommand parses, calls, prints. What is heavy is imported by the subcommand that needs it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ne_basicsr import __version__
from ne_basicsr.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; 0 where it went well, 2 after one line on what the user can mend, 130 after Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print('basicsr: interrupted', file=sys.stderr)
        return 130
    except (InputError, ImportError) as error:
        if getattr(options, 'debug', False):
            raise
        print(f'basicsr: {_last_line(error)}', file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='basicsr',
        description='BasicSR with normalization-equivariant networks: f(a y + b) = a f(y) + b.',
    )
    parser.add_argument('--version', action='version', version=f'ne_basicsr {__version__}')
    commands = parser.add_subparsers(title='commands', required=True, metavar='COMMAND')
    _add_run(commands, 'train', 'train a network as an option file says', _train)
    _add_run(commands, 'test', 'validate a network on the data sets of an option file', _test)

    quickstart = commands.add_parser('quickstart', help='train with and without the wrapper, and show what it buys')
    quickstart.add_argument(
        '-o', '--output', type=Path, default=Path('quickstart'), help='folder (default: quickstart)'
    )
    quickstart.add_argument('--total_iter', type=int, help='training iterations, instead of the option files')
    quickstart.set_defaults(run=_quickstart)

    bench = commands.add_parser('bench', help='time, memory and arithmetic of networks side by side')
    bench.add_argument(
        'networks', nargs='*', metavar='NET', help="option file, '{type: DnCNNWNE, num_layers: 20}', or X"
    )
    bench.add_argument('--table', choices=['2', '5', '6', 'affine'], help="networks and input of the paper's table")
    bench.add_argument('--input', metavar='NxCxHxW', help='default: that of the table, else 16x1x128x128')
    bench.add_argument('--device', help='cpu, cuda, auto (cuda if there is one) or all; lists take commas')
    bench.add_argument('--dtype', default='float32', help='float32, bfloat16, float16, float64; lists take commas')
    bench.add_argument('--memory-format', default='contiguous', help='contiguous, channels_last; lists take commas')
    bench.add_argument('--compile', action='store_true', help='measure with torch.compile, too')
    bench.add_argument('--steps', type=int, default=10, help='timed rounds (default: 10)')
    bench.add_argument('--warmup', type=int, default=3, help='rounds before them (default: 3)')
    bench.add_argument('--threads', type=int, help='of the CPU (default: all cores)')
    bench.add_argument('--json', type=Path, metavar='FILE', help='write all times, too')
    bench.add_argument('--debug', action='store_true', help='tracebacks')
    bench.set_defaults(run=_bench)

    doctor = commands.add_parser('doctor', help='print versions and devices, and explain what is wrong with them')
    doctor.set_defaults(run=_doctor)
    return parser


def _add_run(
    commands: 'argparse._SubParsersAction[argparse.ArgumentParser]', name: str, what: str, run: object
) -> None:
    parser = commands.add_parser(name, help=what)
    parser.add_argument('-opt', required=True, metavar='FILE', help='option file (YAML)')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none', help='who starts the ranks')
    parser.add_argument('--auto_resume', action='store_true', help='go on from the last complete checkpoint')
    parser.add_argument(
        '--debug', action='store_true', help='validate, print and save every few iterations; tracebacks'
    )
    # torch.distributed.launch passes either spelling; the rank is taken from the environment
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument(
        '--force_yml',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='set options, for example datasets:train:noise:sigma255=10 train:total_iter=1000',
    )
    parser.set_defaults(run=run)


def _train(arguments: argparse.Namespace) -> int:
    return _run(arguments, is_train=True)


def _test(arguments: argparse.Namespace) -> int:
    return _run(arguments, is_train=False)


def _run(arguments: argparse.Namespace, is_train: bool) -> int:
    from ne_basicsr import pipeline
    from ne_basicsr.distribution import agreed, ranks
    from ne_basicsr.options import load_options

    options = load_options(
        arguments.opt,
        arguments.force_yml,
        is_train=is_train,
        auto_resume=arguments.auto_resume,
        debug=arguments.debug,
    )
    with ranks(arguments.launcher, options['num_gpu'], options.get('dist_params')) as (rank, world_size):
        options |= {'dist': arguments.launcher != 'none', 'rank': rank, 'world_size': world_size}
        options['manual_seed'] = agreed(options['manual_seed'])  # each rank draws its own where none is given
        if is_train:
            pipeline.train(options, _annotated_copy(arguments))
        else:
            pipeline.test(options)
    return 0


def _annotated_copy(arguments: argparse.Namespace) -> str:
    """The option file's text, with the overrides that the run had."""
    overrides = ''.join(f'# --force_yml {entry}\n' for entry in arguments.force_yml)
    return f'# {arguments.opt}\n{overrides}\n' + Path(arguments.opt).read_text(encoding='utf-8')


def _quickstart(arguments: argparse.Namespace) -> int:
    from ne_basicsr.quickstart import quickstart

    quickstart(arguments.output, arguments.total_iter)
    return 0


def _bench(arguments: argparse.Namespace) -> int:
    import torch

    from ne_basicsr import bench

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


def _doctor(_: argparse.Namespace) -> int:
    from ne_basicsr.doctor import examine

    findings = examine()
    print('\n'.join(findings.lines))
    return 0 if findings.healthy else 1


def _last_line(error: BaseException) -> str:
    # an error from a loader's worker carries the worker's traceback in its text
    line = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    for name in (f'{InputError.__module__}.{InputError.__name__}: ', 'ImportError: '):
        line = line.removeprefix(name)
    return line
