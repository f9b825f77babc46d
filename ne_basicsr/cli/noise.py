"""``basicsr noise``."""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ne_basicsr.cli import command
from ne_basicsr.utils import atomic_files
from ne_basicsr.utils.errors import InputError

NOTHING = 'white noise, equal everywhere: the network alone'


def run(arguments: argparse.Namespace) -> int:
    from ne_basicsr.inference.image_jobs import find_jobs
    from ne_basicsr.inference.real_noise import Settings, check

    check(Settings(data_range=arguments.data_range))
    if arguments.json and arguments.json.is_dir():
        raise InputError(f'--json {arguments.json}: is a folder; name a file in it')
    measured: dict[str, Any] = {}
    failures: list[str] = []
    for job in find_jobs(arguments.images, Path('denoised')):
        source = str(job.source)
        try:
            for name, read in _images(job.source):
                try:
                    measured[name] = _measured(read(), arguments.data_range)
                    print(f'{name}\n{_words(measured[name])}', flush=True)
                except (InputError, MemoryError) as error:
                    failures.append(f'{name}: {error}')
        except (InputError, MemoryError) as error:
            failures.append(str(error) if str(error).startswith(source) else f'{source}: {error}')
    if arguments.json:
        text = json.dumps(measured, indent=1)
        atomic_files.write(arguments.json, lambda file: file.write(text.encode()))
    return command.report_failures(failures)


def _images(path: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Name of the image in a file, or of each page of a stack, and what reads its pixels."""
    from ne_basicsr.data.stacks import Stack
    from ne_basicsr.inference import image_files

    try:
        picture = image_files.read(path)
    except image_files.SeveralPages:
        with Stack(path) as stack:
            for page in range(stack.count()):
                yield f'{path}, page {page + 1}', lambda: image_files.split(stack.read(page)).pixels  # noqa: B023
    else:
        yield str(path), lambda: picture.pixels


def _measured(pixels: Any, data_range: float | None) -> dict[str, Any]:
    """Everything in 8-bit units, but the correlation in pixels."""
    from ne_basicsr.inference.pixels import as_image, on_data_range
    from ne_basicsr.inference.real_noise import CLEAN, SMALLEST, Settings, find, is_clean
    from ne_basicsr.ops.noise_model import level_map, measure

    if min(pixels.shape[:2]) < SMALLEST:
        width, height = pixels.shape[1::-1]
        raise InputError(f'noise is measured on images of {SMALLEST} pixels a side or more; got {width}x{height}')
    image = as_image(pixels if data_range is None else on_data_range(pixels, data_range))
    model = measure(image)
    slope, floor = model.gain_and_floor
    untreated = f'below {CLEAN:.1%} of the contrast: left as it is' if is_clean(image, Settings()) else NOTHING
    return {
        'level': 255 * model.level,
        'channels': (255 * model.levels).tolist(),
        'variance': [255 * slope, 255**2 * floor],
        'brightness': (255 * model.brightness).tolist(),
        'by_brightness': (255 * model.by_brightness).tolist(),
        'map': (255 * level_map(image, model.width).levels).tolist(),
        'correlation': model.width,
        'denoise': str(find(image, Settings()) or untreated),
    }


def _words(about: dict[str, Any]) -> str:
    channels = ', '.join(f'{level:.3g}' for level in about['channels'])
    by_channel = f' (by channel {channels})' if len(about['channels']) > 1 else ''
    slope, floor = about['variance']
    by_brightness = [min(about['by_brightness']), max(about['by_brightness'])]
    cells = [level for row in about['map'] for level in row]
    width = about['correlation']
    return '\n'.join(
        [
            f'  level         {about["level"]:.3g}{by_channel}',
            f'  brightness    {by_brightness[0]:.3g} to {by_brightness[1]:.3g}; variance {slope:.3g} x {floor:+.3g}',
            f'  place         {min(cells):.3g} to {max(cells):.3g}',
            f'  correlation   {f"{width:.2g} pixels" if width else "none found"}',
            f'  denoise       {about["denoise"].removeprefix("noise ")}',
        ]
    )
