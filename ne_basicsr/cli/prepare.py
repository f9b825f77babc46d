"""``basicsr prepare``."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ne_basicsr.cli import command
from ne_basicsr.utils.errors import InputError

SIDD_CROP, SIDD_STEP = 512, 384  # an overlap of 128, so that crops fit into a sub-image


def add(commands: command.Commands) -> None:
    what = 'convert folders of images to an LMDB or a raw store, whole or in sub-images'
    option = command.add_command(commands, 'prepare', what, run)
    option('inputs', 'folder, read recursively', nargs='+', type=Path, metavar='INPUT')
    option('-o --output', 'folder to write', type=Path, metavar='X.lmdb')
    text = "png: BasicSR's LMDB, keeps 16 bits; raw: uncompressed 8-bit pixels, much faster to read, for"
    text += ' io_backend: {type: raw} (default: raw if the output ends in .raw, else png)'
    option('--format', text, choices=['png', 'raw'])
    option('--crop', "sub-images of this side, as BasicSR's (DIV2K: 480)", type=int, metavar='SIZE')
    option('--step', 'from one sub-image to the next (default: SIZE; DIV2K: 240)', type=int)
    option('--in_ch', 'gray or RGB (default: as in each file, without alpha)', type=int, choices=[1, 3])
    option('--workers', 'threads (default: one per core)', type=int, metavar='N')
    option(
        '--resume', 'continue an earlier run: add new sources, rewrite changed ones, remove those that are gone', False
    )
    option('--verify', 'compare stores (INPUT) with their checksums; write nothing', False)
    text = 'write pairs *_GT_SRGB* and *_NOISY_SRGB* to gt.lmdb and lq.lmdb in the output, under equal names, in'
    option('--sidd', f'{text} sub-images of {SIDD_CROP} every {SIDD_STEP} by default', False)


def run(arguments: argparse.Namespace) -> int:
    from ne_basicsr.data.prepare import Recipe, prepare
    from ne_basicsr.utils.progress import progress

    if arguments.verify:
        return _verify(arguments.inputs)
    if arguments.output is None:
        raise InputError('prepare: the folder to write is needed: -o X.lmdb or -o X.raw')
    if arguments.workers is not None and arguments.workers < 1:
        raise InputError(f'--workers is 1 or more; got {arguments.workers}')
    crop, step = arguments.crop, arguments.step
    if arguments.sidd and crop is None:
        crop, step = SIDD_CROP, step or SIDD_STEP
    file_format = arguments.format or ('raw' if arguments.output.suffix == '.raw' else 'png')
    with ExitStack() as stack:
        bars: list[Any] = []

        def on_progress(done: int, total: int) -> None:
            if bars:
                bars[0].update()
            else:  # the first call, with the sources that were finished before
                bars.append(stack.enter_context(progress(total - done, 'Preparing', 'image')))

        summary = prepare(
            arguments.inputs,
            arguments.output,
            Recipe(file_format, crop, step, arguments.in_ch),
            sidd=arguments.sidd,
            resume=arguments.resume,
            workers=arguments.workers,
            on_progress=on_progress,
        )
    what = 'pairs' if arguments.sidd else 'images'
    before = f', {summary.finished - summary.now} of them before' if summary.now < summary.finished else ''
    parts = f' in {summary.values} sub-images' if crop else ''
    print(f'{arguments.output}: {summary.finished} {what}{before}{parts}')
    if summary.rounded:
        print(f'{summary.rounded} {what} had 16 bits a channel: rounded to 8 (--format png keeps 16)')
    for count, what_happened in (
        (summary.changed, 'changed since, and written again'),
        (summary.gone, 'no longer in the inputs, and removed'),
    ):
        if count:
            print(f'{count} {what} {what_happened}')
    if not summary.failures:
        return 0
    print(f'{len(summary.failures)} could not be used; everything else was written:', file=sys.stderr)
    for failure in summary.failures:
        print(f'  {failure}', file=sys.stderr)
    print('fix them and add them with --resume, or leave them out', file=sys.stderr)
    return 1


def _verify(paths: Sequence[Path]) -> int:
    from ne_basicsr.data.image_store import verify
    from ne_basicsr.data.store_index import stores_in

    code = 0
    for store in [store for path in paths for store in stores_in(path)]:
        images, damaged, has_checksums = verify(store)
        if damaged:
            code = 1
            print(f'{store}: {len(damaged)} of {images} images are damaged')
            print(*dict.fromkeys(damaged), sep='\n', file=sys.stderr)
        else:
            how = 'as they were written' if has_checksums else 'which can be read; it was written without checksums'
            print(f'{store}: {images} images, {how}')
    return code
