"""``basicsr train`` and ``basicsr test``: BasicSR's flags."""

import argparse
from functools import partial
from pathlib import Path

from ne_basicsr.cli import command


def add(commands: command.Commands) -> None:
    _add_run(commands, 'train', 'train a network as an option file says', partial(_run, is_train=True))
    _add_run(commands, 'test', 'validate a network on the data sets of an option file', partial(_run, is_train=False))


def _add_run(commands: command.Commands, name: str, what: str, run: object) -> None:
    parser = commands.add_parser(name, help=what)
    option = partial(command.add_option, parser)
    text = 'option file (YAML), or the name of a shipped one: basicsr options --list files'
    option('-opt', text, required=True, metavar='FILE')
    option('--launcher', 'who starts the ranks', 'none', choices=['none', 'pytorch', 'slurm'])
    option('--auto_resume', 'go on from the last complete checkpoint', False)
    option('--debug', 'validate, print and save every few iterations; tracebacks', False)
    # torch.distributed.launch passes either spelling; the rank is taken from the environment
    option('--local_rank --local-rank', argparse.SUPPRESS, type=int)
    text = 'set options, for example datasets:train:noise:sigma255=10 train:total_iter=1000'
    option('--force_yml', text, [], nargs='+', metavar='KEY=VALUE')
    command.add_import(option)
    parser.set_defaults(run=run)


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
