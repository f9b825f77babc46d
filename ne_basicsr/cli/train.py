"""``basicsr train`` and ``basicsr test``: BasicSR's flags."""

import argparse
from pathlib import Path

from ne_basicsr.cli.command import Commands, add_import


def add(commands: Commands) -> None:
    _add_run(commands, 'train', 'train a network as an option file says', _train)
    _add_run(commands, 'test', 'validate a network on the data sets of an option file', _test)


def _add_run(commands: Commands, name: str, what: str, run: object) -> None:
    parser = commands.add_parser(name, help=what)
    parser.add_argument(
        '-opt',
        required=True,
        metavar='FILE',
        help='option file (YAML), or the name of a shipped one: basicsr options --list files',
    )
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
    add_import(parser)
    parser.set_defaults(run=run)


def _train(arguments: argparse.Namespace) -> int:
    return _run(arguments, is_train=True)


def _test(arguments: argparse.Namespace) -> int:
    return _run(arguments, is_train=False)


def _run(arguments: argparse.Namespace, is_train: bool) -> int:
    from ne_basicsr.options import load_options
    from ne_basicsr.options.printing import kept_text
    from ne_basicsr.train import pipeline
    from ne_basicsr.utils.process_group import agreed, ranks

    options = load_options(
        arguments.opt,
        arguments.force_yml,
        is_train=is_train,
        auto_resume=arguments.auto_resume,
        debug=arguments.debug,
    )
    joined = ranks(arguments.launcher, options['num_gpu'], options.get('dist_params'), arguments.debug)
    with joined as (rank, world_size):
        options |= {'dist': arguments.launcher != 'none', 'rank': rank, 'world_size': world_size}
        options['manual_seed'] = agreed(options['manual_seed'])  # each rank draws its own where none is given
        if is_train:
            folder = Path(options['path']['experiments_root'])
            pipeline.train(options, kept_text(arguments.opt, arguments.force_yml, arguments.imports, folder))
        else:
            pipeline.test(options)
    return 0
