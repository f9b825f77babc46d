"""``basicsr sample``."""

import argparse
from pathlib import Path

from ne_basicsr.cli import command
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

{command.NETWORKS}
The sampler (Kadkhodaie and Simoncelli) starts from noise of --sigma-start. In each step it follows the denoiser's
residual by a step size h, which grows from --h0 towards 1, and adds some noise. It stops when the residual is below
--sigma-stop. Sigmas are on the [0, 1] scale.

examples:
  basicsr sample wne.pth datasets/Set12
  basicsr sample dncnn_25.pth@25 photo.png --against dncnn_25.pth@25+wne --task hole --film gif
"""


def add(commands: command.Commands) -> None:
    what = 'inpaint and solve other linear inverse problems with a denoiser as the prior'
    option = command.add_command(commands, 'sample', what, run, epilog=_EPILOG)
    option('network', 'the denoiser, see below', metavar='CKPT')
    option('images', 'files, folders or LMDBs of clean images', nargs='+', type=Path, metavar='IMAGE')
    option('--against', 'more denoisers to compare, with the same noise', [], nargs='+', metavar='CKPT')
    option('--label', 'names for the networks, in order', [], nargs='+', dest='labels')
    option('--task', 'the measurements, see below', 'random=0.1')
    option('-o --output', 'output folder', Path('results/sample'))
    option('--sigma-start', 'noise level at the start (default: 1)', type=float, metavar='S')
    text = 'residual at which to stop (default: 0.01; denoise: 1/255)'
    option('--sigma-stop', text, type=float, metavar='S')
    option('--h0', 'size of the first step (default: 0.01)', type=float)
    text = '1 adds no noise; near 0 the noise level stays the same (default: 0.01; denoise: 1)'
    option('--beta', text, type=float)
    option('--max-steps', 'maximum number of steps (default: 1000)', type=int, metavar='N')
    option('--draws', 'samples per image', 1)
    option('--seed', 'seed of all random numbers', 0)
    option('--film', 'film the first sample of each image', '', choices=['gif', 'mp4'])
    command.add_device(option)
    command.add_trust(option)
    option('--batch', 'images per batch (default: from the number of pixels)', type=int)
    command.add_import(option)


def run(arguments: argparse.Namespace) -> int:
    from ne_basicsr.evaluation.sampling.sampler import Schedule
    from ne_basicsr.evaluation.sampling.tasks import parse_task

    command.check_least(arguments, draws=1, batch=1)
    task = parse_task(arguments.task)
    if task.starts_noisy and arguments.sigma_start is not None:
        raise InputError(f'sample: the task {task} sets the noise level at the start; leave out --sigma-start')
    constants = {name: getattr(arguments, name) for name in Schedule._fields}
    schedule = task.schedule()._replace(**{k: v for k, v in constants.items() if v is not None}).check()
    device = command.chosen_device(arguments)

    from ne_basicsr.evaluation.report.tables import writing
    from ne_basicsr.evaluation.sampling.outputs import Collector
    from ne_basicsr.evaluation.sampling.page import table_text
    from ne_basicsr.evaluation.sampling.session import Request, open_session
    from ne_basicsr.evaluation.sampling.trajectories import aggregate
    from ne_basicsr.utils.folder_lock import hold

    networks, film = [arguments.network, *arguments.against], arguments.film
    changed = {'networks': networks, 'task': task, 'schedule': schedule, 'device': device, 'with_frames': bool(film)}
    session = open_session(command.given(arguments, Request, **changed))
    with writing(arguments.output), hold(arguments.output, 'choose another --output'):
        collector = Collector(session, arguments.output, arguments.film)
        session.run(collector.add)
        page = collector.finish(command.typed(arguments))
    labels = [entry.label for entry in session.entries]
    table = {label: aggregate([row for row in collector.summaries if row['network'] == label]) for label in labels}
    print(f'{table_text(table, collector.summaries)}\nReport: {page.resolve()}')
    return command.report_failures(session.failures)
