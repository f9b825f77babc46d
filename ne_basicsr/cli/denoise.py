"""``basicsr denoise``."""

import argparse
import glob
import os
from pathlib import Path
from typing import Any

from ne_basicsr.cli import command
from ne_basicsr.utils.errors import InputError, explained_writing

KEYS = ('overlap', 'precision', 'stride', 'stabilize', 'strength', 'data_range')  # options that change results


def run(arguments: argparse.Namespace) -> int:
    import torch

    from ne_basicsr import __version__
    from ne_basicsr.inference.batch_run import MEMORY, denoise_files, earlier_results
    from ne_basicsr.inference.image_files import is_colour
    from ne_basicsr.inference.image_jobs import find_jobs
    from ne_basicsr.inference.opening import open_denoiser
    from ne_basicsr.inference.real_noise import Settings, check
    from ne_basicsr.inference.tiles import TILE, Tiled
    from ne_basicsr.options.trial import memory
    from ne_basicsr.utils.machine import keep_freed_memory
    from ne_basicsr.utils.process_group import UNTIL_THE_LAST, gathered, holding, launcher_here, ranks
    from ne_basicsr.weights.shipped_models import COLOUR, GRAY

    device = command.chosen_device(arguments)
    command.check_level(arguments, 'training_sigma255', 'image_sigma255')
    if os.sep in arguments.suffix or '/' in arguments.suffix:
        raise InputError(f'denoise: --suffix must not contain path separators; got {arguments.suffix!r}')
    if arguments.output.exists() and not arguments.output.is_dir():
        raise InputError(f'{arguments.output}: -o must be a folder; a file with this name exists')
    network, inputs = _split(arguments.paths)
    results = earlier_results(arguments.output)
    jobs = find_jobs(inputs, arguments.output, arguments.suffix, arguments.format, arguments.strip, results)
    if network is None and (arguments.wne or arguments.training_sigma255 is not None):
        raise InputError('denoise: --wne and --training-sigma255 need a network, named before the images')
    noise = None if arguments.image_sigma255 is None else arguments.image_sigma255 / 255
    if arguments.memory is not None and not arguments.memory > 0:
        raise InputError(f'denoise: --memory must be above 0 GB; got {arguments.memory:g}')
    tile = TILE if arguments.tile is None else arguments.tile
    settings = {'noise': noise, 'version': __version__, 'tile': tile}
    settings |= {name: getattr(arguments, name) for name in KEYS}
    chosen: dict[str, list[Any]] = {}  # images by their network, the shipped ones where none is named
    for job in jobs:
        chosen.setdefault(network or (COLOUR if is_colour(job.source) else GRAY), []).append(job)
    work = []
    for name, own in chosen.items():
        spec = command.named_network(name, arguments)
        denoiser = open_denoiser(spec, device=device, trusted=arguments.trusted)
        denoiser.check_level(noise)
        work.append((spec, Tiled(denoiser, tile, arguments.overlap, precision=arguments.precision), own))
    stabilize = {'on': True, 'off': False}.get(arguments.stabilize)
    about = Settings(arguments.stride, stabilize, arguments.strength, arguments.data_range)
    check(about)
    with explained_writing(arguments.output, 'choose another -o'):
        (arguments.output / MEMORY).mkdir(parents=True, exist_ok=True)
    with (
        ranks(launcher_here(), int(device == 'cuda'), patience=UNTIL_THE_LAST) as (rank, world_size),
        holding(rank, arguments.output, 'choose another --output'),
    ):
        outcomes = []
        for spec, tiled, own in work:
            if rank == 0 and spec.wrap:
                print(f'{tiled.denoiser.label}: {tiled.denoiser.description}', flush=True)
            module: Any = tiled.to(torch.device(device))  # torch's stubs lack the keyword
            if device == 'cpu':
                keep_freed_memory()
                module.to(memory_format=torch.channels_last)  # 1.2 times as fast for most networks
            if arguments.tile is None:
                given = arguments.memory or min(4.0, memory(int(device == 'cuda'), free=True) / 2e9)
                tiled.memory = 1e9 * given / (world_size if device == 'cpu' else 1)
            every = settings | {'network': tiled.denoiser.digest}
            outcomes += gathered(
                denoise_files(own, tiled, arguments.output, every, noise, about, rank, world_size, shown=rank == 0)
            )
    failures = [line for outcome in outcomes for line in outcome.failures]
    if rank == 0:
        parts = [f'{sum(outcome.done for outcome in outcomes)} denoised']
        further = {'finished before': sum(outcome.skipped for outcome in outcomes), 'failed': len(failures)}
        parts += [f'{count} {what}' for what, count in further.items() if count]
        print(f'{", ".join(parts)}. Results: {arguments.output.resolve()}')
        command.report_failures(failures)
    return 1 if failures else 0


def _split(paths: list[str]) -> tuple[str | None, list[str]]:
    """The network, if the first path names one, and the images."""
    from ne_basicsr.inference.image_files import FORMATS

    first = Path(paths[0])
    if first.suffix.lower() in FORMATS or first.is_dir() or (glob.has_magic(paths[0]) and not first.is_file()):
        return None, paths
    if len(paths) == 1:
        raise InputError(f'denoise: give image files, folders or patterns after the network; got only {paths[0]}')
    return paths[0], paths[1:]
