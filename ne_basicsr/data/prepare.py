"""Folders of images to stores that train faster: whole or in sub-images, in BasicSR's LMDB layout or raw."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from itertools import count, product
from pathlib import Path
from typing import NamedTuple

import lmdb
import numpy as np
from numpy.typing import NDArray

from ne_basicsr.data.image_store import FolderStore, Image, decode_pixels, image_files, read_file, with_channels
from ne_basicsr.data.stacks import Stack, page_count
from ne_basicsr.data.store_index import StoredImage, checksum_of, write_index
from ne_basicsr.data.store_writer import JOURNAL, LONGEST_KEY, WRITERS, Finished, Journal, LmdbWriter, Writer
from ne_basicsr.utils import folder_lock
from ne_basicsr.utils.ahead import ahead
from ne_basicsr.utils.errors import InputError, first_line
from ne_basicsr.utils.words import similar_path

CLEAN, NOISY = 'GT_SRGB', 'NOISY_SRGB'  # in the file names of SIDD
SYNC_SECONDS = 1.0  # at most this much work is repeated after a kill


class Recipe(NamedTuple):
    """How images are stored."""

    format: str = 'png'  # ``png``, BasicSR's LMDB layout, which keeps 16 bits; or ``raw``, which rounds them to 8
    # side of square sub-images; None keeps images whole. A smaller image is kept whole in that direction.
    crop: int | None = None
    step: int | None = None  # from one sub-image to the next; the last one of a row ends at the border, as in BasicSR
    # 1 (gray), 3 (RGB), or None for the channels of each image; an alpha channel is dropped
    channels: int | None = None


class Original(NamedTuple):
    """An image, or a clean and a noisy image of the same scene, to be stored under the same key."""

    key: str
    files: tuple[Path, ...]
    page: int | None = None  # of a stack; None: all of the file

    @property
    def id(self) -> str:
        """Its name in the journal: two files may differ in nothing but their suffix."""
        return f'{self.key} {self.files[0].name}'

    def states(self) -> list[list[int]]:
        """Size and time of change of the files."""
        try:
            return [[status.st_size, status.st_mtime_ns] for status in map(os.stat, self.files)]
        except OSError:
            return []  # reading them says why


Values = tuple[list[list[int]], list[list[tuple[StoredImage, bytes]]], bool]


class Summary(NamedTuple):
    """What a run did."""

    finished: int  # sources in the store
    now: int  # of these, written by this run
    values: int  # images in the store
    failures: list[str]  # which images could not be used and why
    rounded: int  # sources rounded to 8 bits by this run
    changed: int = 0  # sources that had changed since they were written, and were written again
    gone: int = 0  # sources that were in the store and are no longer in the inputs; they were removed


def prepare(
    inputs: Sequence[Path],
    output: Path,
    recipe: Recipe = Recipe(),  # noqa: B008 - immutable
    *,
    sidd: bool = False,
    resume: bool = False,
    workers: int | None = None,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> Summary:
    """Write the images below ``inputs`` to a store, or with ``sidd`` pairs to the stores gt and lq in ``output``.

    A name is the path below its input without the suffix, after the input's name if there are several. Plain BasicSR
    cuts names at the first dot and reads only ASCII: other characters become ``_``.

    Args:
        resume: continue what an interrupted or incomplete run wrote, until the store holds what a new one would;
            finished sources are not read again while size and time of change of their files are the same.
        workers: threads that read and encode; None: one per core.
        on_progress: called with the number of sources done, and of all.

    An image that cannot be read is no error: it is listed among the failures.
    """
    if recipe.format == 'png' and not sidd:
        _check_suffix(output)
    if recipe.crop is not None and recipe.crop < 1:
        raise InputError(f'--crop is 1 or more; got {recipe.crop}')
    if recipe.step is not None and (recipe.crop is None or not 1 <= recipe.step <= recipe.crop):
        raise InputError(f'--step is between 1 and --crop (now {recipe.crop}); got {recipe.step}')
    names = [path.resolve().name for path in inputs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f'two inputs are called {twice!r}, and images go by the names of their inputs; rename one')
    if missing := [path for path in inputs if not path.is_dir()]:
        problem = 'is a file; give its folder' if missing[0].exists() else f'no such folder{similar_path(missing[0])}'
        raise InputError(f'{missing[0]}: {problem}')
    sources, failures = find_pairs(inputs) if sidd else (find_images(inputs), [])
    if output.exists() and not resume:
        raise InputError(f'{output}: exists already; continue it with --resume, or choose another name')
    if output.exists() and not (output / JOURNAL).is_file() and any(output.iterdir()):
        raise InputError(f'{output}: was not made by basicsr prepare and cannot be resumed; choose another name')
    suffix = 'lmdb' if recipe.format == 'png' else 'raw'
    folders = [output / f'{name}.{suffix}' for name in ('gt', 'lq')] if sidd else [output]
    settings = {**recipe._asdict(), 'pairs': sidd, 'inputs': names}
    kind = WRITERS[recipe.format]
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(folder_lock.hold(output, 'choose another --output'))
            journal = stack.enter_context(closing(Journal(output / JOURNAL, settings)))
            gone = journal.sources.keys() - {source.id for source in sources}
            for source_id in gone:
                journal.add(source_id, Finished([], []))
            journal.sync()
            writers: list[Writer] = [
                stack.enter_context(closing(kind(folder, journal.entries(i)))) for i, folder in enumerate(folders)
            ]
            summary = _write(sources, recipe, journal, writers, workers or os.cpu_count() or 1, on_progress)
            listed = [journal.sources[source.id].stores for source in sources if source.id in journal.sources]
            for i, (folder, writer) in enumerate(zip(folders, writers, strict=True)):
                entries = [entry for stores in listed for entry in stores[i]]
                write_index(folder, recipe.format, entries)
                writer.keep(entries)
        return summary._replace(failures=failures + summary.failures, gone=len(gone))
    except (OSError, lmdb.Error) as error:
        reason = getattr(error, 'strerror', None) or error
        raise InputError(f'{output}: {reason}; what was finished is kept: continue with --resume') from error


def find_images(inputs: Sequence[Path]) -> list[Original]:
    """All images below the inputs, in the order in which they are written; each page of a stack is one."""
    found, several = [], len(inputs) > 1
    for folder in [FolderStore(root) for root in inputs]:
        for name in folder.names:
            key, path, count = (f'{folder.root.resolve().name}/' if several else '') + name, folder.path(name), 1
            with suppress(InputError, OSError):  # reading it says why
                count = page_count(path)
            pages = [Original(f'{key}_p{page + 1:04d}', (path,), page) for page in range(count)]
            found += pages if count > 1 else [Original(key, (path,))]
    return _with_keys(found)


def find_pairs(inputs: Sequence[Path]) -> tuple[list[Original], list[str]]:
    """SIDD's pairs ``*_GT_SRGB*`` and ``*_NOISY_SRGB*``, and a line for each file without a partner."""
    found, alone = [], []
    for root in inputs:
        files = set(image_files(root))
        for own, other in ((CLEAN, NOISY), (NOISY, CLEAN)):
            for path in sorted(path for path in files if own in path.name):
                partner = path.with_name(path.name.replace(own, other))
                if partner not in files:
                    alone.append(f'{root / path}: there is no {partner.name} beside it')
                elif own == CLEAN:
                    key = path.with_suffix('').as_posix().replace(CLEAN, 'SRGB')
                    key = f'{root.resolve().name}/{key}' if len(inputs) > 1 else key
                    found.append(Original(key, (root / path, root / partner)))
    if not found:
        raise InputError(f'{inputs[0]}: no pairs *_{CLEAN}*.PNG and *_{NOISY}*.PNG found')
    return _with_keys(found), alone


def sub_images(height: int, width: int, crop: int, step: int) -> list[tuple[slice, slice]]:
    """The places of the sub-images of an image, row by row: every ``step`` pixels, and flush with the far borders."""
    sides = []
    for length in (height, width):
        last = max(0, length - crop)
        starts = dict.fromkeys([*range(0, last + 1, step), last])
        sides.append([slice(start, min(start + crop, length)) for start in starts])
    rows, columns = sides
    return list(product(rows, columns))


def write_lmdb(path: Path, images: Iterable[tuple[str, NDArray[np.uint8]]]) -> None:
    """Write (name, (H, W) gray or (H, W, 3) RGB uint8 array) as a new LMDB in BasicSR's layout."""
    _check_suffix(path)
    if path.exists():
        raise InputError(f'{path}: exists already; remove it or choose another name')
    path.mkdir(parents=True)
    with closing(LmdbWriter(path)) as writer:
        entries = [writer.put(*_value(name, np.atleast_3d(array), writer.encode)) for name, array in images]
        writer.sync()
    write_index(path, 'png', entries)


def _write(
    sources: list[Original],
    recipe: Recipe,
    journal: Journal,
    writers: Sequence[Writer],
    workers: int,
    on_progress: Callable[[int, int], object],
) -> Summary:
    """Write the sources that are new or have changed; what was finished when an error ends it is in the journal."""
    known = journal.sources
    todo = [source for source in sources if source.id not in known or known[source.id].files != source.states()]
    now = changed = rounded = 0
    failures: list[str] = []

    def sync() -> float:
        for each in (*writers, journal):
            each.sync()
        return time.monotonic()

    synced = time.monotonic()
    on_progress(len(sources) - len(todo), len(sources))
    with ThreadPoolExecutor(workers) as pool:  # OpenCV releases Python's lock
        try:
            results = ahead(pool, lambda source: _values(source, recipe, writers[0].encode), todo, 2 * workers)
            for done, (source, result) in enumerate(results, len(sources) - len(todo) + 1):
                before = known.get(source.id)
                try:
                    files, values, is_rounded = result.result()
                except InputError as error:
                    failures += [str(error)] * (str(error) not in failures)
                    if before:
                        journal.add(source.id, Finished([], []))
                else:
                    placeless = [[entry._replace(offset=0) for entry in own] for own in before.stores] if before else []
                    if before and placeless == [[entry for entry, _ in own] for own in values]:
                        stores = before.stores  # its files were only touched, or moved
                    else:
                        both = zip(writers, values, strict=True)
                        stores = [[writer.put(*value) for value in own] for writer, own in both]
                        now, changed, rounded = now + 1, changed + bool(before), rounded + is_rounded
                    journal.add(source.id, Finished(files, stores))
                on_progress(done, len(sources))
                if time.monotonic() - synced > SYNC_SECONDS:
                    synced = sync()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            sync()
    return Summary(len(journal.sources), now, len(journal.entries(0)), failures, rounded, changed)


def _values(source: Original, recipe: Recipe, encode: Callable[[Image], bytes]) -> Values:
    """The state of a source's files before it is read, the encoded parts for each store, and whether bits were lost."""
    files, images = source.states(), [_read(file, source.page, recipe.channels) for file in source.files]
    for file, image in zip(source.files, images, strict=True):
        if not np.issubdtype(image.dtype, np.integer):
            raise InputError(f'{file}: {image.dtype} pixels; a store holds 8 or 16 bits, so convert it first')
    height, width = images[0].shape[:2]
    if any(image.shape[:2] != (height, width) for image in images):
        sizes = ' and '.join(f'{image.shape[0]}x{image.shape[1]}' for image in images)
        raise InputError(f'{source.files[-1]}: the sizes of the pair differ: {sizes}')
    if len(source.key.encode()) > LONGEST_KEY - len('_s00000'):
        raise InputError(f'{source.files[0]}: its name is longer than LMDB allows ({LONGEST_KEY} bytes)')
    if recipe.crop is None:
        parts = {source.key: (slice(None), slice(None))}
    else:
        places = sub_images(height, width, recipe.crop, recipe.step or recipe.crop)
        parts = {f'{source.key}_s{number:03d}': place for number, place in enumerate(places, 1)}
    stores = [[_value(key, image[place], encode) for key, place in parts.items()] for image in images]
    return files, stores, recipe.format == 'raw' and any(image.dtype != np.uint8 for image in images)


def _read(file: Path, page: int | None, channels: int | None) -> Image:
    if page is None:
        return decode_pixels(read_file(file), channels, str(file))
    try:
        with Stack(file) as stack:
            image = stack.read(page)
    except (ValueError, OSError) as error:  # without the page, so that what is wrong with all of them is said once
        raise InputError(f'{file}: {first_line(error)}') from error
    return with_channels(image[..., : 3 if image.shape[2] > 2 else 1], channels)


def _value(name: str, image: Image, encode: Callable[[Image], bytes]) -> tuple[StoredImage, bytes]:
    height, width, channels = image.shape
    data = encode(image)
    return StoredImage(name, (height, width, channels), 0, checksum_of(name, image.shape, data)), data


def _with_keys(found: Iterable[Original]) -> list[Original]:
    """Sources with keys that plain BasicSR can read, no two alike."""
    sources: dict[str, Original] = {}
    for source in found:
        plain = ''.join(c if c.isascii() and c.isprintable() and c not in '.\\' else '_' for c in source.key)
        keys = (plain if number == 1 else f'{plain}_{number}' for number in count(1))
        key = next(key for key in keys if key not in sources)
        sources[key] = source._replace(key=key)
    return list(sources.values())


def _check_suffix(path: Path) -> None:
    if path.suffix != '.lmdb':
        raise InputError(f'{path}: the folder of an LMDB must end in .lmdb, that of a raw store in .raw')
