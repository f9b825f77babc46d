"""``basicsr sample``."""

import argparse
from pathlib import Path

from ne_basicsr.cli.command import NETWORKS, Commands, add_command, add_import, report_failures, typed
from ne_basicsr.cli.device import add_device, add_trust, chosen_device
from ne_basicsr.utils.errors import InputError

_EPILOG = f"""\
tasks, by the known measurements of each image:
  random[=0.1]       a fraction of the pixels, chosen at random (the paper's Table 12)
  hole[=0.25]        all pixels except a centred hole; its sides as a fraction of the image's
  blocks[=4]         the means of square blocks with this many pixels per side
  lowpass[=0.05]     a fraction of the frequencies, the lowest ones
  mask=FILE          the pixels that are white in an image of the same size
  denoise[@10]       the image with noise of this level (8-bit units); small steps without new noise (Table 11)
  unconstrained      nothing; images are generated from noise, at the size of the given ones

{NETWORKS}
The sampler (Kadkhodaie and Simoncelli) starts from noise of --sigma-start. In each step it follows the denoiser's
residual by a step size h, which grows from --h0 towards 1, and adds some noise. It stops when the residual is below
--sigma-stop. Sigmas are on the [0, 1] scale.

examples:
  basicsr sample wne.pth datasets/Set12
  basicsr sample dncnn_25.pth@25 photo.png --against dncnn_25.pth@25+wne --task hole --film gif
"""


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        'sample',
        'inpaint and solve other linear inverse problems with a denoiser as the prior',
        run,
        epilog=_EPILOG,
    )
    parser.add_argument('network', metavar='CKPT', help='the denoiser, see below')
    parser.add_argument('images', nargs='+', type=Path, metavar='IMAGE', help='files, folders or LMDBs of clean images')
    parser.add_argument(
        '--against', nargs='+', default=[], metavar='CKPT', help='more denoisers to compare, with the same noise'
    )
    parser.add_argument('--label', nargs='+', default=[], help='names for the networks, in order')
    parser.add_argument('--task', default='random', help='the measurements, see below (default: random=0.1)')
    parser.add_argument(
        '-o', '--output', type=Path, default=Path('results/sample'), help='output folder (default: results/sample)'
    )
    parser.add_argument('--sigma-start', type=float, metavar='S', help='noise level at the start (default: 1)')
    parser.add_argument(
        '--sigma-stop', type=float, metavar='S', help='residual at which to stop (default: 0.01; denoise: 1/255)'
    )
    parser.add_argument('--h0', type=float, help='size of the first step (default: 0.01)')
    parser.add_argument(
        '--beta', type=float, help='1 adds no noise; near 0 the noise level stays the same (default: 0.01; denoise: 1)'
    )
    parser.add_argument('--max-steps', type=int, metavar='N', help='maximum number of steps (default: 1000)')
    parser.add_argument('--draws', type=int, default=1, help='samples per image (default: 1)')
    parser.add_argument('--seed', type=int, default=0, help='seed of all random numbers (default: 0)')
    parser.add_argument('--film', choices=['gif', 'mp4'], default='', help='film the first sample of each image')
    add_device(parser)
    add_trust(parser)
    parser.add_argument('--batch', type=int, help='images per batch (default: from the number of pixels)')
    add_import(parser)


def run(arguments: argparse.Namespace) -> int:
    from ne_basicsr.evaluation.sampling.tasks import parse_task

    for name in ('draws', 'batch'):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise InputError(f'sample: --{name} must be at least 1; got {value}')
    task = parse_task(arguments.task)
    if task.starts_noisy and arguments.sigma_start is not None:
        raise InputError(f'sample: the task {task} sets the noise level at the start; leave out --sigma-start')
    given = {
        name: getattr(arguments, name)
        for name in ('sigma_start', 'sigma_stop', 'h0', 'beta', 'max_steps')
        if getattr(arguments, name) is not None
    }
    schedule = task.schedule()._replace(**given).check()
    device = chosen_device(arguments)

    from ne_basicsr.evaluation.report.tables import writing
    from ne_basicsr.evaluation.sampling.outputs import Collector
    from ne_basicsr.evaluation.sampling.page import table_text
    from ne_basicsr.evaluation.sampling.session import Request, open_session
    from ne_basicsr.evaluation.sampling.trajectories import aggregate
    from ne_basicsr.utils.folder_lock import hold

    session = open_session(
        Request(
            networks=[arguments.network, *arguments.against],
            images=arguments.images,
            task=task,
            schedule=schedule,
            labels=arguments.label,
            draws=arguments.draws,
            seed=arguments.seed,
            device=device,
            batch=arguments.batch,
            trusted=arguments.trust,
            with_frames=bool(arguments.film),
        )
    )
    with writing(arguments.output), hold(arguments.output, 'choose another --output'):
        collector = Collector(session, arguments.output, arguments.film)
        session.run(collector.add)
        page = collector.finish(typed(arguments))
    labels = [entry.label for entry in session.entries]
    table = {label: aggregate([row for row in collector.summaries if row['network'] == label]) for label in labels}
    print(f'{table_text(table, collector.summaries)}\nReport: {page.resolve()}')
    return report_failures(session.failures)
