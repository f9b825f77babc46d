"""``basicsr denoise``."""

import argparse
import glob
import os
from pathlib import Path
from typing import Any

from ne_basicsr.cli.command import (
    NETWORKS,
    Commands,
    add_command,
    add_import,
    add_training_level,
    check_level,
    report_failures,
)
from ne_basicsr.cli.device import add_device, add_trust, chosen_device
from ne_basicsr.utils.errors import InputError

_ABOUT = f"""\
{NETWORKS}  Without a network, the shipped model gray is used. --wne --training-sigma255 25 is the same as @25+wne.

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


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        'denoise',
        'denoise image files and folders, images of any size',
        run,
        epilog=_ABOUT,
    )
    parser.add_argument('paths', nargs='+', metavar='[CKPT] INPUT', help='see below')
    parser.add_argument(
        '-o',
        '--output',
        type=Path,
        default=Path('denoised'),
        metavar='OUT',
        help='folder of the results (default: denoised)',
    )
    add_training_level(parser)
    parser.add_argument(
        '--image-sigma255',
        '--noise255',
        type=float,
        metavar='S',
        help='for non-blind networks: noise level of the images, 8-bit units (estimated by default; once --noise255)',
    )
    parser.add_argument(
        '--format',
        type=lambda text: {'jpg': 'jpeg', 'tif': 'tiff'}.get(text.lower(), text.lower()),
        choices=['png', 'jpeg', 'tiff', 'webp', 'bmp'],
        help="(default: the input's)",
    )
    parser.add_argument('--suffix', default='', help='suffix for names of results, as in photo_denoised.png')
    parser.add_argument('--strip', action='store_true', help='also write before and after, as photo.jpg_strip.png')
    parser.add_argument(
        '--tile',
        type=int,
        help='side of the tiles for larger images, in pixels (default: 512, more where this only saves time)',
    )
    parser.add_argument(
        '--memory',
        type=float,
        metavar='GB',
        help='memory that decides the size of the tiles (default: half of what is free, at most 4)',
    )
    parser.add_argument(
        '--overlap', type=int, help='overlap of tiles on each side, in pixels (default: from the receptive field)'
    )
    parser.add_argument(
        '--precision',
        choices=['auto', 'float32', 'bf16'],
        default='auto',
        help='auto: bf16 for large images, if the processor has it and the result changes by less than 0.01 dB',
    )
    add_device(parser)
    add_trust(parser)
    add_import(parser)


def run(arguments: argparse.Namespace) -> int:
    import torch

    from ne_basicsr import __version__
    from ne_basicsr.inference.batch_run import MEMORY, Outcome, denoise_files, earlier_results
    from ne_basicsr.inference.image_jobs import find_jobs
    from ne_basicsr.inference.opening import open_denoiser
    from ne_basicsr.inference.tiles import TILE, Tiled
    from ne_basicsr.options.trial import memory
    from ne_basicsr.utils.memory import keep_freed_memory
    from ne_basicsr.utils.process_group import UNTIL_THE_LAST, gathered, holding, launcher_here, ranks

    device = chosen_device(arguments)
    _check(arguments)
    network, inputs = _split(arguments.paths)
    results = earlier_results(arguments.output)
    jobs = find_jobs(inputs, arguments.output, arguments.suffix, arguments.format, arguments.strip, results)
    spec = _spec(network, arguments)
    denoiser = open_denoiser(spec, device=device, trusted=arguments.trust)
    noise = None if arguments.image_sigma255 is None else arguments.image_sigma255 / 255
    denoiser.check_level(noise)
    tile = TILE if arguments.tile is None else arguments.tile
    tiled = Tiled(denoiser, tile, arguments.overlap, precision=arguments.precision)
    settings = {
        'network': denoiser.digest,
        'noise': noise,
        'tile': tile,
        'overlap': arguments.overlap,
        'precision': arguments.precision,
        'version': __version__,
    }
    try:
        (arguments.output / MEMORY).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'{arguments.output}: cannot be created ({error.strerror}); choose another -o') from None
    with (
        ranks(launcher_here(), int(device == 'cuda'), patience=UNTIL_THE_LAST) as (rank, world_size),
        holding(rank, arguments.output, 'choose another --output'),
    ):
        if rank == 0 and spec.wrap:
            print(f'{denoiser.label}: {denoiser.description}', flush=True)
        module: Any = tiled.to(torch.device(device))  # torch's stubs lack the keyword
        if device == 'cpu':
            keep_freed_memory()
            module.to(memory_format=torch.channels_last)  # 1.2 times as fast for most networks
        if arguments.tile is None:
            given = arguments.memory or min(4.0, memory(int(device == 'cuda'), free=True) / 2e9)
            tiled.memory = 1e9 * given / (world_size if device == 'cpu' else 1)
        done = denoise_files(jobs, tiled, arguments.output, settings, noise, rank, world_size, shown=rank == 0)
        outcomes = gathered(done)
    total = Outcome(
        sum(outcome.done for outcome in outcomes),
        sum(outcome.skipped for outcome in outcomes),
        [line for outcome in outcomes for line in outcome.failures],
    )
    if rank == 0:
        print(_summary(total.done, total.skipped, len(total.failures), arguments.output))
        report_failures(total.failures)
    return 1 if total.failures else 0


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


def _check(arguments: argparse.Namespace) -> None:
    check_level('denoise', '--training-sigma255', arguments.training_sigma255)
    check_level('denoise', '--image-sigma255', arguments.image_sigma255)
    if arguments.memory is not None and not arguments.memory > 0:
        raise InputError(f'denoise: --memory must be above 0 GB; got {arguments.memory:g}')
    if os.sep in arguments.suffix or '/' in arguments.suffix:
        raise InputError(f'denoise: --suffix must not contain path separators; got {arguments.suffix!r}')
    if arguments.output.exists() and not arguments.output.is_dir():
        raise InputError(f'{arguments.output}: -o must be a folder; a file with this name exists')


def _summary(done: int, skipped: int, failed: int, output: Path) -> str:
    parts = [f'{done} denoised']
    parts += [f'{skipped} finished before'] if skipped else []
    parts += [f'{failed} failed'] if failed else []
    return f'{", ".join(parts)}. Results: {output.resolve()}'
