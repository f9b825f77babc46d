"""``basicsr prepare``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ne_basicsr.cli import command
from ne_basicsr.utils.errors import InputError

SIDD_CROP, SIDD_STEP = 512, 384  # an overlap of 128, so that crops fit into a sub-image


def run(arguments: argparse.Namespace) -> int:
    from ne_basicsr.data.prepare import Recipe, prepare
    from ne_basicsr.utils.progress import progress

    if arguments.verify:
        return _verify(arguments.inputs)
    if arguments.output is None:
        raise InputError('prepare: the folder to write is needed: -o X.lmdb or -o X.raw')
    command.check_least(arguments, workers=1)
    crop, step = arguments.crop, arguments.step
    if arguments.sidd and crop is None:
        crop, step = SIDD_CROP, step or SIDD_STEP
    file_format = arguments.format or ('raw' if arguments.output.suffix == '.raw' else 'png')
    recipe = Recipe(file_format, crop, step, arguments.in_ch)
    with progress(0, 'Preparing', 'image') as bar:

        def on_progress(done: int, total: int) -> None:
            if not bar.total:  # the first call, with the sources that were finished before
                bar.reset(total - done)
            else:
                bar.update()

        settings = {name: getattr(arguments, name) for name in ('sidd', 'resume', 'workers')}
        summary = prepare(arguments.inputs, arguments.output, recipe, **settings, on_progress=on_progress)
    what = 'pairs' if arguments.sidd else 'images'
    before = f', {summary.finished - summary.now} of them before' if summary.now < summary.finished else ''
    parts = f' in {summary.values} sub-images' if crop else ''
    print(f'{arguments.output}: {summary.finished} {what}{before}{parts}')
    if summary.rounded:
        print(f'{summary.rounded} {what} had 16 bits a channel: rounded to 8 (--format png keeps 16)')
    if summary.changed:
        print(f'{summary.changed} {what} changed since, and written again')
    if summary.gone:
        print(f'{summary.gone} {what} no longer in the inputs, and removed')
    if summary.failures:
        lines = [f'{len(summary.failures)} could not be used; everything else was written:', *summary.failures]
        print('\n  '.join(lines), 'fix them and add them with --resume, or leave them out', sep='\n', file=sys.stderr)
    return int(bool(summary.failures))


def _verify(paths: Sequence[Path]) -> int:
    from ne_basicsr.data.image_store import verify
    from ne_basicsr.data.store_index import INDEX

    code, stores = 0, []
    for path in paths:  # as --sidd writes them, stores are in folders below it
        found = [path] if (path / INDEX).is_file() else sorted(index.parent for index in path.glob(f'*/{INDEX}'))
        if not found:
            raise InputError(f'{path}: no store, as it holds no {INDEX}; basicsr prepare makes one')
        stores += found
    for store in stores:
        images, damaged, has_checksums = verify(store)
        if damaged:
            code = 1
            print(f'{store}: {len(damaged)} of {images} images are damaged')
            print(*dict.fromkeys(damaged), sep='\n', file=sys.stderr)
        else:
            how = 'as they were written' if has_checksums else 'which can be read; it was written without checksums'
            print(f'{store}: {images} images, {how}')
    return code
