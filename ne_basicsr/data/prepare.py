"""Folders of images to stores that train faster: whole or in sub-images, in BasicSR's LMDB layout or raw."""

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import islice, product
from pathlib import Path
from typing import NamedTuple, TypeAlias

import lmdb
import numpy as np
from numpy.typing import NDArray

from ne_basicsr.data.image_store import FolderStore, Image, decode_pixels, image_files, read_file
from ne_basicsr.data.store_index import Entry, write_index
from ne_basicsr.data.store_writer import JOURNAL, LONGEST_KEY, WRITERS, Finished, Journal, LmdbWriter, Value, value_of
from ne_basicsr.utils import folder_lock
from ne_basicsr.utils.errors import InputError

PAIR = ('gt', 'lq')
CLEAN, NOISY = 'GT_SRGB', 'NOISY_SRGB'  # in the file names of SIDD
SYNC_SECONDS = 1.0  # so much work at most is done twice after a kill


class Recipe(NamedTuple):
    """What becomes of an image.

    Args:
        format: ``png``, BasicSR's LMDB layout, which keeps 16 bits; or ``raw``, which rounds them to 8.
        crop: side of square sub-images; None keeps images whole. A smaller image is kept as far as it goes.
        step: from one sub-image to the next; the last one of a row ends at the border, as in BasicSR.
        channels: 1 (gray), 3 (RGB), or None for what each image has; an alpha channel is dropped.
    """

    format: str = 'png'
    crop: int | None = None
    step: int | None = None
    channels: int | None = None


Named: TypeAlias = tuple[str, tuple[Path, ...]]
"""A name and its files."""


class Source(NamedTuple):
    """An image, or a clean and a noisy one of the same scene, to go under the same key."""

    key: str
    files: tuple[Path, ...]


Result: TypeAlias = tuple[list[list[Value]], bool, list[list[int]]] | InputError
"""The values of a source for each store, whether they lost bits, its files' states; or what is wrong with it."""


class Summary(NamedTuple):
    """What a run did.

    Args:
        finished: sources in the store.
        now: of these, written by this run.
        values: images in the store.
        failures: what could not be used and why.
        rounded: sources rounded to 8 bits by this run.
        changed: sources that had changed since they were written, and were written again.
        gone: sources that were in the store and are no longer in the inputs; they were taken out.
    """

    finished: int
    now: int
    values: int
    failures: list[str]
    rounded: int
    changed: int = 0
    gone: int = 0


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

    A name is the path below its input without the suffix, after the input's name where there are several. Plain BasicSR
    cuts names at the first dot and reads ASCII alone: other characters become ``_``.

    Args:
        resume: go on with what an interrupted or incomplete run wrote, until the store holds what a new one would;
            sources that it finished are not read again while size and time of change of their files are the same.
        workers: threads that read and encode; None: one per core.
        on_progress: called with the number of sources done, and of all.

    Raises:
        InputError: for settings that do not fit, missing inputs, an output that exists (without ``resume``) or was
            begun otherwise, and a disk that is full; what was finished until then is kept. An image that cannot be
            read is no error: it is among the failures.
    """
    _check(inputs, output, recipe, sidd)
    sources, failures = find_pairs(inputs) if sidd else (find_images(inputs), [])
    if output.exists() and not resume:
        raise InputError(f'{output}: exists already; go on with it by --resume, or choose another name')
    if output.exists() and not (output / JOURNAL).is_file() and any(output.iterdir()):
        raise InputError(f'{output}: was not made by basicsr prepare, hence cannot be gone on with')
    folders = [output / f'{name}.{"lmdb" if recipe.format == "png" else "raw"}' for name in PAIR] if sidd else [output]
    settings = {**recipe._asdict(), 'pairs': sidd, 'inputs': [path.resolve().name for path in inputs]}
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        return _run(sources, failures, output / JOURNAL, folders, recipe, settings, workers, on_progress)
    except (OSError, lmdb.Error) as error:
        reason = getattr(error, 'strerror', None) or error
        raise InputError(f'{output}: {reason}; what was finished is kept: go on with --resume') from error


def find_images(inputs: Sequence[Path]) -> list[Source]:
    """All images below the inputs, in the order in which they are written."""
    found: list[Named] = []
    for root in inputs:
        folder = FolderStore(root)
        found += [(_prefix(root, inputs) + name, (folder.path(name),)) for name in folder.names]
    return _with_keys(found)


def find_pairs(inputs: Sequence[Path]) -> tuple[list[Source], list[str]]:
    """SIDD's pairs ``*_GT_SRGB*`` and ``*_NOISY_SRGB*``, and what is wrong with files without a partner.

    Raises:
        InputError: where there are none.
    """
    found: list[Named] = []
    alone = []
    for root in inputs:
        files = set(image_files(root))
        for clean in sorted(path for path in files if CLEAN in path.name):
            noisy = clean.with_name(clean.name.replace(CLEAN, NOISY))
            if noisy in files:
                name = clean.with_suffix('').as_posix().replace(CLEAN, 'SRGB')
                found.append((_prefix(root, inputs) + name, (root / clean, root / noisy)))
            else:
                alone.append(f'{root / clean}: there is no {noisy.name} beside it')
        for noisy in sorted(path for path in files if NOISY in path.name):
            clean = noisy.with_name(noisy.name.replace(NOISY, CLEAN))
            if clean not in files:
                alone.append(f'{root / noisy}: there is no {clean.name} beside it')
    if not found:
        raise InputError(f'{inputs[0]}: no pairs *_{CLEAN}*.PNG and *_{NOISY}*.PNG found')
    return _with_keys(found), alone


def sub_images(height: int, width: int, crop: int, step: int) -> list[tuple[slice, slice]]:
    """Where the sub-images of an image lie, row by row: every ``step`` pixels, and flush with the far borders."""
    rows, columns = (
        [slice(start, min(start + crop, length)) for start in _starts(length, crop, step)] for length in (height, width)
    )
    return list(product(rows, columns))


def write_lmdb(path: Path, images: Iterable[tuple[str, NDArray[np.uint8]]]) -> None:
    """Write arrays as an LMDB in BasicSR's layout: PNG values under their names, and ``meta_info.txt``.

    Args:
        path: a folder that ends in ``.lmdb`` and does not exist.
        images: (name, (H, W) gray or (H, W, 3) RGB uint8 array).

    Raises:
        InputError: where ``path`` exists or does not end in ``.lmdb``.
    """
    _check_suffix(path)
    if path.exists():
        raise InputError(f'{path}: exists already; remove it or choose another name')
    path.mkdir(parents=True)
    with closing(LmdbWriter(path)) as writer:
        entries = [
            writer.put(value_of(name, array if array.ndim == 3 else array[..., None], writer.encode))
            for name, array in images
        ]
        writer.sync()
    write_index(path, 'png', entries)


# -- the work ----------------------------------------------------------------------------------------------------------


def _run(
    sources: list[Source],
    failures: list[str],
    journal_path: Path,
    folders: list[Path],
    recipe: Recipe,
    settings: dict[str, object],
    workers: int | None,
    on_progress: Callable[[int, int], object],
) -> Summary:
    kind = WRITERS[recipe.format]
    rounded = now = changed = 0
    with ExitStack() as stack:
        stack.enter_context(folder_lock.hold(journal_path.parent, 'choose another --output'))
        journal = stack.enter_context(closing(Journal(journal_path, settings)))
        present = {_id(source) for source in sources}
        gone = [source for source in journal.sources if source not in present]
        for name in gone:
            journal.drop(name)
        journal.sync()
        writers = [stack.enter_context(closing(kind(folder, journal.entries(i)))) for i, folder in enumerate(folders)]

        def sync() -> None:
            for writer in writers:
                writer.sync()
            journal.sync()

        def work(source: Source) -> Result:
            try:
                return _values(source, recipe, kind.encode)
            except InputError as error:
                return error

        earlier = {_id(source): journal.sources.get(_id(source)) for source in sources}
        todo = [source for source in sources if not _is_as_it_was(source, earlier[_id(source)])]
        finished = len(sources) - len(todo)
        synced = time.monotonic()
        on_progress(finished, len(sources))
        results = stack.enter_context(closing(_in_order(work, todo, workers or os.cpu_count() or 1)))
        try:
            for done, (source, result) in enumerate(zip(todo, results, strict=True), finished + 1):
                before = earlier[_id(source)]
                if isinstance(result, InputError):
                    failures.append(str(result))
                    if before:
                        journal.drop(_id(source))
                else:
                    values, is_rounded, files = result
                    if before and _held(before.stores) == _held(values):  # only touched, or moved
                        entries = before.stores
                    else:
                        entries = [
                            [writer.put(value) for value in own] for writer, own in zip(writers, values, strict=True)
                        ]
                        now += 1
                        changed += before is not None
                        rounded += is_rounded
                    journal.add(_id(source), Finished(files, entries))
                on_progress(done, len(sources))
                if time.monotonic() - synced > SYNC_SECONDS:
                    sync()
                    synced = time.monotonic()
        finally:
            sync()
        listed = [journal.sources[_id(source)] for source in sources if _id(source) in journal.sources]
        for i, (folder, writer) in enumerate(zip(folders, writers, strict=True)):
            entries_of_store = [entry for each in listed for entry in each.stores[i]]
            write_index(folder, recipe.format, entries_of_store)
            writer.keep(entries_of_store)
        return Summary(len(listed), now, len(journal.entries(0)), failures, rounded, changed, len(gone))


def _held(stores: Sequence[Sequence[Entry | Value]]) -> list[list[tuple[str, int | None]]]:
    """What tells whether values are the same; the checksum goes over the shape, too."""
    return [[(each.name, each.checksum) for each in own] for own in stores]


def _states(source: Source) -> list[list[int]]:
    """Size and time of change of the files of a source."""
    try:
        return [[status.st_size, status.st_mtime_ns] for status in map(os.stat, source.files)]
    except OSError:
        return []  # reading them says why


def _is_as_it_was(source: Source, finished: Finished | None) -> bool:
    return finished is not None and finished.files == _states(source)


def _values(
    source: Source, recipe: Recipe, encode: Callable[[Image], bytes]
) -> tuple[list[list[Value]], bool, list[list[int]]]:
    """The values of a source for each store, whether they lost bits, and the state of its files before."""
    files = _states(source)
    images = [_read(file, recipe.channels) for file in source.files]
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
    values = [[value_of(key, image[at], encode) for key, at in parts.items()] for image in images]
    return values, recipe.format == 'raw' and any(image.dtype != np.uint8 for image in images), files


def _read(path: Path, channels: int | None) -> Image:
    image = decode_pixels(read_file(path), channels, str(path))
    if not np.issubdtype(image.dtype, np.integer):
        raise InputError(f'{path}: {image.dtype} pixels; a store holds 8 or 16 bits, so convert it first')
    return image


def _in_order(work: Callable[[Source], Result], sources: list[Source], workers: int) -> Generator[Result, None, None]:
    """Results in the order of the sources, computed by threads (OpenCV lets go of Python's lock) a little ahead."""
    waiting: deque[Future[Result]] = deque()
    ahead = iter(sources)
    with ThreadPoolExecutor(workers) as pool:
        try:
            waiting.extend(pool.submit(work, source) for source in islice(ahead, 2 * workers))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(work, source) for source in islice(ahead, 1))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


# -- names and places --------------------------------------------------------------------------------------------------


def _prefix(root: Path, inputs: Sequence[Path]) -> str:
    return f'{root.resolve().name}/' if len(inputs) > 1 else ''


def _with_keys(found: list[Named]) -> list[Source]:
    """Sources whose keys plain BasicSR can read, and which differ."""
    used: set[str] = set()
    sources = []
    for name, files in found:
        plain = key = ''.join(c if c.isascii() and c.isprintable() and c not in '.\\' else '_' for c in name)
        number = 2
        while key in used:
            key, number = f'{plain}_{number}', number + 1
        used.add(key)
        sources.append(Source(key, files))
    return sources


def _id(source: Source) -> str:
    """What a source is called in the journal: two files may differ in nothing but their suffix."""
    return f'{source.key} {source.files[0].name}'


def _starts(length: int, crop: int, step: int) -> list[int]:
    if length <= crop:
        return [0]
    starts = list(range(0, length - crop + 1, step))
    return starts if starts[-1] + crop == length else [*starts, length - crop]


def _check(inputs: Sequence[Path], output: Path, recipe: Recipe, sidd: bool) -> None:
    if recipe.format == 'png' and not sidd:
        _check_suffix(output)
    if recipe.crop is not None and recipe.crop < 1:
        raise InputError(f'--crop is 1 or more; got {recipe.crop}')
    if recipe.step is not None and (recipe.crop is None or not 1 <= recipe.step <= recipe.crop):
        raise InputError(f'--step is between 1 and --crop (now {recipe.crop}); got {recipe.step}')
    names = [path.resolve().name for path in inputs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f'two inputs are called {twice!r}, and images go by the names of their inputs; rename one')
    for path in inputs:
        if not path.is_dir():
            raise InputError(f'{path}: {"is a file; give its folder" if path.exists() else "no such folder"}')


def _check_suffix(path: Path) -> None:
    if path.suffix != '.lmdb':
        raise InputError(f'{path}: the folder of an LMDB must end in .lmdb')
