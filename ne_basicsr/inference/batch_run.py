"""Denoise many files: skip finished ones, batch images of equal size, report failures and continue.

A file is finished if its result exists as written, and its input (path, size, modification time), the network and all
settings that can change pixels are the same as then. The folder ``.denoised`` in the output folder records this.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from glob import escape
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from ne_basicsr.data.stacks import Stack
from ne_basicsr.inference import image_files as files
from ne_basicsr.inference.image_files import Picture
from ne_basicsr.inference.image_jobs import Job
from ne_basicsr.inference.pixels import AS_WHITE, fits_float32, restore, to_type
from ne_basicsr.inference.real_noise import Settings, check
from ne_basicsr.inference.tiles import Tiled
from ne_basicsr.utils import atomic_files
from ne_basicsr.utils.ahead import ahead
from ne_basicsr.utils.errors import InputError, first_line, last_line
from ne_basicsr.utils.process_group import dealt
from ne_basicsr.utils.progress import progress
from ne_basicsr.utils.result_store import CellStore, key_of

MEMORY = '.denoised'
LINES = 12  # of what is said about images, at most
WAITING = 2**24  # maximum number of pixels that wait for images of the same size


class Outcome(NamedTuple):
    """Number of files denoised, number skipped, and one line for each failure."""

    done: int
    skipped: int
    failures: list[str]


def earlier_results(output: Path) -> set[Path]:
    """Resolved paths of everything that earlier runs wrote to a folder."""
    return {output.resolve() / name for value in CellStore(output / MEMORY).values.values() for name in value}


def denoise_files(
    jobs: Sequence[Job],
    tiled: Tiled,
    output: Path,
    settings: dict[str, Any],
    noise: float | None = None,
    about: Settings = AS_WHITE,
    rank: int = 0,
    world_size: int = 1,
    shown: bool = True,
) -> Outcome:
    """Denoise files; several ranks with the same jobs share them.

    Args:
        output: the folder of the results.
        settings: everything that changes results, including the network's digest; JSON.
        noise, about: see ``pixels.restore``.
        rank, world_size: number of this process, and of those that share the jobs.
        shown: whether to show progress.
    """
    Image.MAX_IMAGE_PIXELS = files.MOST_PIXELS  # Pillow's lower limit protects web servers
    store = CellStore(output / MEMORY, rank)
    keys = {job: key for job in jobs if (key := _key(job, output, settings)) is not None}
    finished = {job for job in jobs if job in keys and _is_finished(store, keys[job], output)}
    todo = [job for job in jobs if job not in finished]
    run = _Run(tiled, noise, about, output, store, keys)
    total = sum(files.pixels_in(job.source) for job in todo) // 1000 // world_size
    mine = (job for job in dealt(jobs, lambda job: _size(job.source)) if job not in finished)
    with progress(total, 'Denoising', 'kilopixel', shown and bool(todo)) as bar, ThreadPoolExecutor(1) as pool:
        run.on_pixels = _counted(bar.update)
        # two: one file is read while the one before is denoised
        for job, picture in ahead(pool, lambda job: files.read(job.source), mine, 2):
            run.take(job, picture.result)
        run.flush()
    return Outcome(run.done, len(finished) if rank == 0 else 0, run.failures)


class _Run:
    """Reads files, batches those of equal size, denoises and writes them."""

    def __init__(
        self, tiled: Tiled, noise: float | None, about: Settings, output: Path, store: CellStore, keys: dict[Job, str]
    ) -> None:
        self.tiled, self.noise, self.about = tiled, noise, about
        self.output, self.store, self.keys = output, store, keys
        self.on_pixels: Callable[[float], None] = lambda pixels: None
        self.failures: list[str] = []
        self.done = 0
        self._waiting: dict[tuple[Any, ...], list[tuple[Job, Picture]]] = {}
        self._said: set[str] = set()

    def take(self, job: Job, read: Callable[[], Picture]) -> None:
        """Take the file that ``read`` returns; denoise when there are enough of its size."""
        try:
            picture = read()
            files.check_format(picture, job.file_format)
        except files.SeveralPages:
            return self._take_stack(job)
        except (InputError, MemoryError) as error:
            self._fail(job, error)
            return
        self._say_channels(job, picture)
        pixels = picture.pixels
        target = files.target_dtype(pixels.dtype, job.file_format).str
        kind = (pixels.shape, pixels.dtype.str, target, fits_float32(pixels[None]))
        group = self._waiting.setdefault(kind, [])
        group.append((job, picture))
        if (len(group) + 1) * pixels.shape[0] * pixels.shape[1] > self.tiled.tile**2:
            self._denoise(self._waiting.pop(kind))
        elif sum(p.pixels.size for group in self._waiting.values() for _, p in group) > WAITING:
            self.flush()

    def flush(self) -> None:
        """Denoise all waiting files."""
        while self._waiting:
            self._denoise(self._waiting.pop(next(iter(self._waiting))))

    def _take_stack(self, job: Job) -> None:
        """Denoise the pages of a stack in a copy of its file; the first page that fails fails the stack."""
        self.flush()

        def save(copy: IO[bytes]) -> None:
            with job.source.open('rb') as source:
                shutil.copyfileobj(source, copy)
            with Stack(job.source) as stack, Stack(copy) as self._stack:
                pages = range(stack.count())
                self._say(f'{job.source}: {len(pages)} pages (channels, slices, times), each denoised by itself')
                for page in pages:
                    self.take(job._replace(page=page), lambda: files.split(stack.read(page)))  # noqa: B023
                self.flush()

        try:
            if job.file_format != 'tiff':
                raise InputError(f'has several pages, which {job.file_format.upper()} cannot have; leave out --format')
            for rest in job.output.parent.glob(f'.{escape(job.output.name)}.????????.part'):  # of a run that was killed
                rest.unlink()
            atomic_files.write(job.output, save, durable=False)
            self._finish(job)
        except Exception as error:  # encoders raise many kinds of errors; the other files continue
            self._waiting.clear()
            self._fail(job, error)

    def _denoise(self, group: list[tuple[Job, Picture]]) -> None:
        job, first = group[0]
        dtype = files.target_dtype(first.pixels.dtype, job.file_format)
        try:
            batch = first.pixels[None] if len(group) == 1 else np.stack([picture.pixels for _, picture in group])
            counted = len(group)
            check(self.about, first.pixels.shape)
            restored = restore(
                self.tiled,
                batch,
                dtype,
                self.noise,
                self.about,
                on_tile=lambda pixels: self.on_pixels(pixels * counted),
                on_found=lambda words, number: self._say(f'{group[number][0].name}: {words}'),
            )
            self._say_how(job, first)
        except (RuntimeError, ValueError, IndexError, MemoryError, InputError) as error:
            if len(group) == 1:
                self._fail(job, error)
            else:
                for one in group:
                    self._denoise([one])
            return
        for (job, before), pixels in zip(group, restored, strict=True):
            alpha = None if before.alpha is None else to_type(before.alpha, dtype)
            self._write(job, before, before._replace(pixels=pixels, alpha=alpha))

    def _write(self, job: Job, before: Picture, after: Picture) -> None:
        if job.page is not None:
            self._stack.write(job.page, files.with_alpha(after))
            if job.strip and job.page == 0:
                atomic_files.write(job.strip, lambda file: file.write(files.encode_strip(before, after)), durable=False)
            return
        try:
            written = {job.output: files.encode(after, job.file_format)}
            if job.strip:
                written[job.strip] = files.encode_strip(before, after)
            for path, data in written.items():
                atomic_files.write(path, lambda file, data=data: file.write(data), durable=False)  # type: ignore[misc]
            self._finish(job)
        except Exception as error:  # encoders raise many kinds of errors; the other files continue
            self._fail(job, error)

    def _finish(self, job: Job) -> None:
        if job in self.keys:
            paths = [path for path in (job.output, job.strip) if path]
            self.store.add({self.keys[job]: {_below(path, self.output): _size(path) for path in paths}})
        self.done += 1

    def _fail(self, job: Job, error: BaseException) -> None:
        line = last_line(error) if isinstance(error, OSError) else first_line(error)
        if job.page is not None:
            raise InputError(f'page {job.page + 1}: {line}') from error
        self.failures.append(line if line.startswith(str(job.source)) else f'{job.source}: {line}')

    def _say_channels(self, job: Job, picture: Picture) -> None:
        channels = picture.pixels.shape[2]
        denoiser = self.tiled.denoiser
        if channels > denoiser.channels:
            how = 'brightness and colour differences' if denoiser.is_equivariant else 'separate channels'
            self._say(f'{job.source}: the gray network denoises a colour image as {how}')
        elif channels < denoiser.channels:
            self._say(
                f'{job.source}: the colour network denoises a gray image as three equal channels and returns their mean'
            )

    def _say_how(self, job: Job, picture: Picture) -> None:
        height, width, channels = picture.pixels.shape
        own = self.tiled.denoiser.channels
        if how := self.tiled.how((max(1, channels // own), own, height, width)):
            self._say(f'{job.source}: cut into {how}')
        if self.tiled.is_reduced:
            why = ', which changes the result by less than 0.01 dB' if self.tiled.precision == 'auto' else ''
            self._say(f'{job.source}: computed in bfloat16{why}')

    def _say(self, line: str) -> None:
        what = line.split(': ', 1)[1]
        if what not in self._said and len(self._said) < LINES:
            self._said.add(what)
            tqdm.write(line, file=sys.stderr)


def _key(job: Job, output: Path, settings: dict[str, Any]) -> str | None:
    """Key of everything that the result depends on; None if the input cannot be read."""
    try:
        status = job.source.stat()
    except OSError:
        return None
    names = [_below(path, output) for path in (job.output, job.strip) if path]
    source = {'path': str(job.source.resolve()), 'size': status.st_size, 'changed': status.st_mtime_ns}
    return key_of(names=names, source=source, format=job.file_format, **settings)


def _size(path: Path) -> int:
    """Bytes of a file, 0 if there is none."""
    return path.stat().st_size if path.is_file() else 0


def _is_finished(store: CellStore, key: str, output: Path) -> bool:
    sizes = store.values.get(key)
    return sizes is not None and all(_size(output / name) == size for name, size in sizes.items())


def _below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _counted(update: Callable[[int], Any]) -> Callable[[float], None]:
    """Count pixels and pass whole thousands to ``update``."""
    rest = 0.0

    def add(pixels: float) -> None:
        nonlocal rest
        rest += pixels
        update(int(rest // 1000))
        rest %= 1000

    return add
