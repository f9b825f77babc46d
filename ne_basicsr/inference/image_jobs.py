"""Find the images that files, folders and patterns name, and the path of each result."""

import glob
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ne_basicsr.data.image_store import image_files
from ne_basicsr.inference.image_files import FORMATS, SUFFIX
from ne_basicsr.utils.errors import InputError
from ne_basicsr.utils.words import similar_path


class Job(NamedTuple):
    """One image: its path, the path of its result and, if wanted, of the strip with before and after."""

    source: Path
    output: Path
    strip: Path | None
    file_format: str
    page: int | None = None  # of a stack; None: all of the file

    @property
    def name(self) -> str:
        """Of the image, for people."""
        return str(self.source) if self.page is None else f'{self.source}, page {self.page + 1}'


def find_jobs(
    inputs: Sequence[str],
    output: Path,
    suffix: str = '',
    file_format: str | None = None,
    strips: bool = False,
    results: Collection[Path] = (),
) -> list[Job]:
    """The images that ``inputs`` name, in order, each once.

    The path of a result relative to ``output`` is that of its image relative to the named folder, or to the fixed part
    of a pattern. Results of images that are named directly lie in ``output`` itself. If a searched folder contains
    ``output``, the files in ``output`` are not inputs.

    Args:
        suffix: text between the name and the extension of results.
        file_format: format of the results, one of ``SUFFIX``; None: the input's.
        strips: whether to write before and after, too.
        results: resolved paths of earlier results, which folders and patterns skip.

    An ``InputError`` for a missing path, one without images, two results with the same path, or one with an input's.
    """
    jobs: dict[Path, Job] = {}
    for text in inputs:
        for base, relative in _named(text, output, results):
            source = base / relative
            kind = file_format or FORMATS.get(source.suffix.lower())
            if kind is None:
                raise InputError(f'{source}: results can be {", ".join(SUFFIX)} files; choose a format with --format')
            extension = SUFFIX[kind] if file_format and FORMATS.get(source.suffix.lower()) != kind else source.suffix
            stem = output / relative.parent / f'{source.stem}{suffix}'
            result = stem.with_name(stem.name + extension)
            strip = result.with_name(f'{result.name}_strip.png') if strips else None  # a.jpg may lie beside a.png
            jobs.setdefault(source.resolve(), Job(source, result, strip, kind))
    _check_places(list(jobs.values()))
    return list(jobs.values())


def _named(text: str, output: Path, results: Collection[Path]) -> list[tuple[Path, Path]]:
    """(folder, path of the image relative to it) for all images that one argument names."""
    path = Path(text).expanduser()
    if path.is_file():
        return [(path.parent, Path(path.name))]
    if path.is_dir():
        base, found = path, image_files(path)
    elif glob.has_magic(text):
        matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
        fixed = path.parts[: next(i for i, part in enumerate(path.parts) if glob.has_magic(part))]
        base = Path(*fixed)
        found = [match.relative_to(base) for match in matches if match.is_file()]
        for folder in (match for match in matches if match.is_dir() and '**' not in text):
            found += [(folder / name).relative_to(base) for name in image_files(folder)]
    else:
        raise InputError(f'{text}: no such file or folder{similar_path(path)}')
    found = [name for name in dict.fromkeys(found) if name.suffix.lower() in FORMATS]
    found = [name for name in found if (base / name).resolve() not in results]
    folder = output.resolve()
    if folder != base.resolve() and folder.is_relative_to(base.resolve()):
        found = [name for name in found if not (base / name).resolve().is_relative_to(folder)]
    if not found:
        raise InputError(f'{text}: no images found (looked for {", ".join(FORMATS)})')
    return [(base, name) for name in found]


def _check_places(jobs: Sequence[Job]) -> None:
    """Raise if two results, or a result and an input, have the same path."""
    inputs = {identity for job in jobs for identity in _identities(job.source)}
    taken: dict[Path, Path] = {}
    for job in jobs:
        for path in (job.output, *([job.strip] if job.strip else [])):
            if inputs & _identities(path):
                raise InputError(f'{path}: is an input and would be overwritten; choose another -o, or a --suffix')
            place = _place(path)
            if place in taken:
                way = 'name a common parent folder instead, or write to different folders'
                if taken[place].parent.resolve() == job.source.parent.resolve():  # their names differ in the format
                    way = f"leave out --format, or write '*{job.source.suffix}' to another folder"
                raise InputError(f'{path}: would be the result of both {taken[place]} and {job.source}; {way}')
            taken[place] = job.source


def _identities(path: Path) -> set[Path | tuple[int, int]]:
    """Whatever identifies the file of a path: the resolved path and, if the file exists, device and inode."""
    found: set[Path | tuple[int, int]] = {path.resolve(), _place(path)}
    with suppress(OSError):  # missing, or a name that is too long, which fails when the file is written
        status = path.stat()
        found.add((status.st_dev, status.st_ino))
    return found


def _place(path: Path) -> Path:
    return path.parent.resolve() / path.name
