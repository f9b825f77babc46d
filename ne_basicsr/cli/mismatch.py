"""``basicsr mismatch``."""

import argparse
import os
from pathlib import Path

from ne_basicsr.cli import command

_EPILOG = f"""\
{command.NETWORKS}  The identity, which returns the noisy image, is always included.

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


def add(commands: command.Commands) -> None:
    what = 'compare denoisers at noise levels they were not trained for'
    option = command.add_command(commands, 'mismatch', what, run, epilog=_EPILOG)
    option('networks', 'networks to compare, see below', nargs='+', metavar='NET')
    option('--data', 'folders or LMDBs of clean images', nargs='+', required=True, type=Path, metavar='DIR')
    option('-o --output', 'output folder', Path('results/mismatch'))
    option('--label', 'names for the networks, in order', [], nargs='+', dest='labels')
    option('--degradation', 'see below', ['gaussian'], nargs='+', metavar='KIND', dest='degradations')
    option('--draws', 'noise draws per image and level, 20 in the paper', 1)
    option('--seed', 'seed of the noise', 0)
    text = "NE defect: for a few images and levels, for all by the paper's protocol, or not"
    option('--defect', text, 'few', choices=['few', 'all', 'none'])
    option('--perceptual', "further measures; extra 'perceptual'", [], nargs='+', choices=['lpips', 'dists'])
    text = 'show images at these levels (default: four)'
    option('--strips', text, [], nargs='+', type=float, metavar='LEVEL', dest='strip_levels')
    command.add_device(option)
    command.add_trust(option)
    option('--dtype', 'autocast type', 'float32', choices=['float32', 'bfloat16', 'float16'])
    option('--channels-last', 'use the channels_last memory format', False)
    option('--batch', 'images per batch (default: from the number of pixels)', type=int)
    command.add_import(option)


def run(arguments: argparse.Namespace) -> int:
    import torch

    from ne_basicsr.evaluation.mismatch.comparison import compare
    from ne_basicsr.evaluation.mismatch.outputs import write_outputs
    from ne_basicsr.evaluation.mismatch.units import Precision, Request
    from ne_basicsr.utils.process_group import UNTIL_THE_LAST, holding, launcher_here, ranks

    command.check_least(arguments, draws=1, batch=1)
    device = command.chosen_device(arguments)
    if device == 'cpu':
        # torchrun gives each process one thread, which would change sums over whole images
        torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1)
    precision = Precision(arguments.dtype, arguments.channels_last)
    request = command.given(arguments, Request, device=device, precision=precision)
    with (
        ranks(launcher_here(), int(device == 'cuda'), patience=UNTIL_THE_LAST) as (rank, world_size),
        holding(rank, arguments.output, 'choose another --output'),
    ):
        result, timing = compare(request, arguments.output, rank, world_size)
        if rank == 0:
            page = write_outputs(result, arguments.output, command.typed(arguments))
            print(f'{timing}\nReport: {page.resolve()}')
            command.report_failures(result.failures)
    return 1 if result.failures else 0
