"""``basicsr mismatch``."""

import argparse
import os
from pathlib import Path

from ne_basicsr.cli.command import NETWORKS, Commands, add_command, add_import, report_failures, typed
from ne_basicsr.cli.device import add_device, add_trust, chosen_device
from ne_basicsr.utils.errors import InputError

_EPILOG = f"""\
{NETWORKS}  The identity, which returns the noisy image, is always included.

degradations: KIND[@sigma255][=levels], with levels 5,10,25 or first:last:count
  gaussian uniform laplace rayleigh    standard deviation, 8-bit units; 20 levels from 5 to 100, and the training's
  jpeg                                 quality factor
  poisson                              photons at white, plus Gaussian noise of sigma255 (default: 2)
  gain offset                          factor or offset of the noisy image (sigma255: 25); flat for equivariant networks

examples:
  basicsr mismatch plain.pth wne.pth --data datasets/Set12
  basicsr mismatch dncnn_25.pth@25 dncnn_25.pth@25+wne --data datasets/Set12 --degradation gaussian gain offset
  torchrun --nproc_per_node 4 -m ne_basicsr mismatch net.pth --data datasets/BSD68 --draws 20
"""


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        'mismatch',
        'compare denoisers at noise levels they were not trained for',
        run,
        epilog=_EPILOG,
    )
    parser.add_argument('networks', nargs='+', metavar='NET', help='networks to compare, see below')
    parser.add_argument(
        '--data', nargs='+', required=True, type=Path, metavar='DIR', help='folders or LMDBs of clean images'
    )
    parser.add_argument(
        '-o', '--output', type=Path, default=Path('results/mismatch'), help='output folder (default: results/mismatch)'
    )
    parser.add_argument('--label', nargs='+', default=[], help='names for the networks, in order')
    parser.add_argument('--degradation', nargs='+', default=['gaussian'], metavar='KIND', help='see below')
    parser.add_argument('--draws', type=int, default=1, help='noise draws per image and level (default: 1; paper: 20)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the noise (default: 0)')
    parser.add_argument(
        '--defect',
        choices=['few', 'all', 'none'],
        default='few',
        help="NE defect: for a few images and levels, for all by the paper's protocol, or not (default: few)",
    )
    parser.add_argument(
        '--perceptual', nargs='+', default=[], choices=['lpips', 'dists'], help="further measures; extra 'perceptual'"
    )
    parser.add_argument(
        '--strips',
        nargs='+',
        type=float,
        default=[],
        metavar='LEVEL',
        help='show images at these levels (default: four)',
    )
    add_device(parser)
    add_trust(parser)
    parser.add_argument('--dtype', choices=['float32', 'bfloat16', 'float16'], default='float32', help='autocast type')
    parser.add_argument('--channels-last', action='store_true', help='use the channels_last memory format')
    parser.add_argument('--batch', type=int, help='images per batch (default: from the number of pixels)')
    add_import(parser)


def run(arguments: argparse.Namespace) -> int:
    import torch

    from ne_basicsr.evaluation.mismatch.comparison import compare
    from ne_basicsr.evaluation.mismatch.outputs import write_outputs
    from ne_basicsr.evaluation.mismatch.units import Precision, Request
    from ne_basicsr.utils.memory import keep_freed_memory
    from ne_basicsr.utils.process_group import UNTIL_THE_LAST, holding, launcher_here, ranks

    for name, low in (('draws', 1), ('batch', 1)):
        value = getattr(arguments, name)
        if value is not None and value < low:
            raise InputError(f'mismatch: --{name} must be at least {low}; got {value}')
    device = chosen_device(arguments)
    if device == 'cpu':
        keep_freed_memory()
        # torchrun gives each process one thread, which would change sums over whole images
        torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1)
    request = Request(
        networks=arguments.networks,
        data=arguments.data,
        degradations=arguments.degradation,
        labels=arguments.label,
        draws=arguments.draws,
        seed=arguments.seed,
        defect=arguments.defect,
        strip_levels=arguments.strips,
        perceptual=arguments.perceptual,
        device=device,
        precision=Precision(arguments.dtype, arguments.channels_last),
        batch=arguments.batch,
        trusted=arguments.trust,
    )
    with (
        ranks(launcher_here(), int(device == 'cuda'), patience=UNTIL_THE_LAST) as (rank, world_size),
        holding(rank, arguments.output, 'choose another --output'),
    ):
        result, timing = compare(request, arguments.output, rank, world_size)
        if rank == 0:
            page = write_outputs(result, arguments.output, typed(arguments))
            print(f'{timing}\nReport: {page.resolve()}')
            report_failures(result.failures)
    return 1 if result.failures else 0
