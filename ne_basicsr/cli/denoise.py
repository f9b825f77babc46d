"""``basicsr denoise``."""

import argparse
import glob
import os
from pathlib import Path
from typing import Any

from ne_basicsr.cli import command
from ne_basicsr.utils.errors import InputError

_ABOUT = f"""\
{command.NETWORKS}  Without a network, the shipped model gray is used. --wne --training-sigma255 25 is @25+wne.

INPUT is an image (PNG, JPEG, TIFF, WebP, BMP), a folder, searched recursively, or a pattern ('a/**/*.png').

Results keep the format, bit depth, channels, transparency, EXIF and colour profile of their inputs, and their path
relative to the named folder. JPEG is written with quality 95 and without colour subsampling. BMP cannot store EXIF or
a profile, so it is written upright. Only integer images are clipped, when they are written. Inputs are never
overwritten. Finished files are skipped, unless their input, the network or the settings have changed.

exit code: 0 on success; 1 if a file could not be denoised (all others are); 2 for a wrong command line

examples:
  basicsr denoise photo.jpg
  basicsr denoise net.pth photo.jpg -o denoised
  basicsr denoise dncnn_25.pth photos --wne --training-sigma255 25 -o denoised --strip
  torchrun --nproc_per_node 4 -m ne_basicsr denoise net.pth photos -o denoised
"""


def add(commands: command.Commands) -> None:
    what = 'denoise image files and folders, images of any size'
    option = command.add_command(commands, 'denoise', what, run, epilog=_ABOUT)
    option('paths', 'see below', nargs='+', metavar='[CKPT] INPUT')
    option('-o --output', 'folder of the results', Path('denoised'), metavar='OUT')
    command.add_training_level(option)
    text = 'for non-blind networks: noise level of the images, 8-bit units (estimated by default; once --noise255)'
    option('--image-sigma255 --noise255', text, type=float, metavar='S')
    formats = ['png', 'jpeg', 'tiff', 'webp', 'bmp']
    option('--format', "(default: the input's)", type=_format, choices=formats)
    option('--suffix', 'suffix for names of results, as in photo_denoised.png', '')
    option('--strip', 'also write before and after, as photo.jpg_strip.png', False)
    option('--tile', 'side of the tiles for larger images, in pixels', 512)
    option('--overlap', 'overlap of tiles on each side, in pixels (default: from the receptive field)', type=int)
    command.add_device(option)
    command.add_trust(option)
    command.add_import(option)


def _format(text: str) -> str:
    return {'jpg': 'jpeg', 'tif': 'tiff'}.get(text.lower(), text.lower())


def run(arguments: argparse.Namespace) -> int:
    import torch

    from ne_basicsr import __version__
    from ne_basicsr.inference.batch_run import MEMORY, denoise_files, earlier_results, share
    from ne_basicsr.inference.image_jobs import find_jobs
    from ne_basicsr.inference.opening import open_denoiser
    from ne_basicsr.inference.tiles import Tiled
    from ne_basicsr.utils.process_group import UNTIL_THE_LAST, gathered, holding, launcher_here, ranks

    device = command.chosen_device(arguments)
    command.check_level(arguments, 'training_sigma255', 'image_sigma255')
    if os.sep in arguments.suffix or '/' in arguments.suffix:
        raise InputError(f'denoise: --suffix must not contain path separators; got {arguments.suffix!r}')
    if arguments.output.exists() and not arguments.output.is_dir():
        raise InputError(f'{arguments.output}: -o must be a folder; a file with this name exists')
    network, inputs = _split(arguments.paths)
    results = earlier_results(arguments.output)
    jobs = find_jobs(inputs, arguments.output, arguments.suffix, arguments.format, arguments.strip, results)
    spec = _spec(network, arguments)
    denoiser = open_denoiser(spec, device=device, trusted=arguments.trusted)
    noise = None if arguments.image_sigma255 is None else arguments.image_sigma255 / 255
    denoiser.check_level(noise)
    tiled = Tiled(denoiser, arguments.tile, arguments.overlap)
    settings = {'network': denoiser.digest, 'noise': noise, 'version': __version__}
    settings |= {name: getattr(arguments, name) for name in ('tile', 'overlap')}
    try:
        (arguments.output / MEMORY).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'{arguments.output}: cannot be created ({error.strerror}); choose another -o') from None
    with (
        ranks(launcher_here(), int(device == 'cuda'), patience=UNTIL_THE_LAST) as (rank, world_size),
        holding(rank, arguments.output, 'choose another --output'),
    ):
        tiled.to(torch.device(device))
        mine = share(jobs, rank, world_size)
        outcomes = gathered(denoise_files(mine, tiled, arguments.output, settings, noise, rank, shown=rank == 0))
    failures = [line for outcome in outcomes for line in outcome.failures]
    counts = {
        'denoised': sum(outcome.done for outcome in outcomes),
        'finished before': sum(outcome.skipped for outcome in outcomes),
        'failed': len(failures),
    }
    if rank == 0:
        parts = [f'{count} {what}' for what, count in counts.items() if count or what == 'denoised']
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


def _spec(network: str | None, arguments: argparse.Namespace) -> Any:
    """The ``Spec`` of the network, or of the shipped model."""
    from ne_basicsr.inference.opening import parse_spec
    from ne_basicsr.weights.shipped_models import DEFAULT

    if network is None:
        if arguments.wne or arguments.training_sigma255 is not None:
            raise InputError('denoise: --wne and --training-sigma255 need a network, named before the images')
        return parse_spec(DEFAULT)
    spec = parse_spec(network)
    level = arguments.training_sigma255
    if level is not None and spec.sigma255 not in (None, level):
        raise InputError(f'denoise: {network} and --training-sigma255 {level:g} give different training levels')
    spec = spec._replace(wrap=spec.wrap or arguments.wne, sigma255=level or spec.sigma255)
    if level is not None and not spec.wrap:
        raise InputError(
            'denoise: --training-sigma255 is what --wne needs; add --wne, or give the level of the images as'
            ' --image-sigma255'
        )
    return spec
