"""``basicsr train`` and ``basicsr test``: BasicSR's flags."""

import argparse
from pathlib import Path


def run(arguments: argparse.Namespace) -> int:
    from ne_basicsr.options import load_options
    from ne_basicsr.options.printing import kept_text
    from ne_basicsr.train import pipeline
    from ne_basicsr.utils.process_group import agreed, ranks

    is_train = arguments.command == 'train'
    flags = {'auto_resume': arguments.auto_resume, 'debug': arguments.debug}
    options = load_options(arguments.opt, arguments.force_yml, is_train=is_train, **flags)
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
