"""A session: networks over images, batches of one size; what is finished is handed on at once."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ne_basicsr.data.image_store import ImageStore, decode, on_unit_range, open_any, read_file
from ne_basicsr.evaluation.sampling.sampler import DIVERGED, Schedule
from ne_basicsr.evaluation.sampling.tasks import Task
from ne_basicsr.evaluation.sampling.trajectories import Trajectory, sample
from ne_basicsr.inference.denoiser import Denoiser, Entry
from ne_basicsr.inference.opening import common_channels, open_denoisers
from ne_basicsr.utils.errors import InputError, first_line
from ne_basicsr.utils.progress import progress

PIXELS = {'cpu': 2**18, 'cuda': 2**22}  # that pass a network together, unless the batch is given


class Request(NamedTuple):
    """What to sample, and how.

    Args:
        networks: as ``opening.parse_spec`` takes them.
        images: files, folders and LMDBs of clean images.
        labels: of the networks, in order; the rest are named after their files.
        draws: walks for each image.
        batch: images that pass a network together; where not given, as many as have ``PIXELS``.
        trusted: see ``exported_graphs.open_exported``.
    """

    networks: Sequence[str]
    images: Sequence[Path]
    task: Task
    schedule: Schedule
    labels: Sequence[str] = ()
    draws: int = 1
    seed: int = 0
    device: str = 'cpu'
    batch: int | None = None
    with_frames: bool = False
    trusted: bool = False


class Picture(NamedTuple):
    """A clean image (C, H, W) on [0, 1] by its name, which decides what is random about it."""

    name: str
    pixels: Tensor


class Session(NamedTuple):
    """Networks and images that can be used, with a line for each that cannot."""

    request: Request
    denoisers: list[Denoiser]
    pictures: list[Picture]
    failures: list[str]

    @property
    def entries(self) -> list[Entry]:
        return [denoiser.entry for denoiser in self.denoisers]

    def run(self, on_trajectory: Callable[[str, Trajectory], object]) -> None:
        """Sample everything; ``on_trajectory`` gets the network's label and what came of an image, as they end.

        A network that fails, and a walk that diverges, become lines in ``failures``; the others go on.
        """
        total = len(self.denoisers) * self.request.draws * len(self.pictures) * self.request.schedule.max_steps
        with progress(total, 'Sampling', 'step') as bar:
            for denoiser in self.denoisers:
                denoiser.to(self.request.device)
                try:
                    for trajectory in self._of(denoiser, bar.update):
                        if trajectory.outcome == DIVERGED:
                            self.failures.append(_explain(denoiser.label, trajectory))
                        on_trajectory(denoiser.label, trajectory)
                except _Failed as failure:
                    self.failures.append(f'{denoiser.source}: {failure}')
                denoiser.cpu()

    def _of(self, denoiser: Denoiser, on_step: Callable[[int], object]) -> Iterator[Trajectory]:
        request = self.request
        for draw in range(request.draws):
            for batch in batches(self.pictures, request.batch, PIXELS.get(request.device, 2**18)):
                names = [picture.name for picture in batch]
                x = torch.stack([picture.pixels for picture in batch]).to(request.device)
                projector = request.task.projector(
                    [f'{name} draw {draw}' for name in names], (x.shape[-2], x.shape[-1]), request.seed
                )
                try:
                    trajectories = sample(
                        denoiser,
                        x,
                        projector,
                        request.schedule,
                        names,
                        seed=request.seed,
                        draw=draw,
                        from_noisy=request.task.starts_noisy,
                        has_reference=request.task.has_reference,
                        with_frames=request.with_frames and draw == 0,
                        on_step=on_step,
                    )
                except (RuntimeError, ValueError, IndexError) as error:
                    raise _Failed(first_line(error)) from error
                yield from trajectories


class _Failed(Exception):
    """A network that cannot be used; the session goes on without it."""


def open_session(request: Request) -> Session:
    """Open networks and images.

    Raises:
        InputError: where there is nothing to do, or the request contradicts itself.
    """
    request.schedule.check()
    denoisers, failures = open_denoisers(
        request.networks, request.labels, device=request.device, trusted=request.trusted
    )
    pictures = open_pictures(request.images, common_channels(denoisers), failures)
    for size in dict.fromkeys(picture.pixels.shape[-2:] for picture in pictures):
        request.task.projector(['size'], (size[0], size[1]), 0)  # says now where a value does not fit the images
    return Session(request, denoisers, pictures, failures)


def open_pictures(paths: Sequence[Path], channels: int, failures: list[str]) -> list[Picture]:
    """All images of files, folders and LMDBs; a line in ``failures`` for each that cannot be read.

    Raises:
        InputError: where none can be read, or two have one name: what is random depends on the name.
    """
    readers: dict[str, Callable[[], Tensor]] = {}
    for path in map(Path.expanduser, paths):
        if path.is_dir():
            store = open_any(path)
            own = {name: partial(_from_store, store, name, channels) for name in store.names}
        else:
            own = {path.stem: partial(_from_file, path, channels)}
        if twice := readers.keys() & own.keys():
            raise InputError(f'two images are called {min(twice)!r}, and their noise depends on it: sample them apart')
        readers |= own
    pictures = []
    for name, read in readers.items():
        try:
            pictures.append(Picture(name, read()))
        except InputError as error:
            failures.append(str(error))
    if not pictures:
        raise InputError(failures[-1])
    return pictures


def batches(pictures: Sequence[Picture], batch: int | None, pixels: int) -> Iterator[list[Picture]]:
    """Images of one size together, in the order in which sizes first appear."""
    by_size: dict[torch.Size, list[Picture]] = {}
    for picture in pictures:
        by_size.setdefault(picture.pixels.shape, []).append(picture)
    for shape, own in by_size.items():
        count = batch or max(1, pixels // (shape[-1] * shape[-2]))
        for first in range(0, len(own), count):
            yield own[first : first + count]


def _from_store(store: ImageStore, name: str, channels: int) -> Tensor:
    return _tensor(on_unit_range(store.pixels(name, channels)))


def _from_file(path: Path, channels: int) -> Tensor:
    return _tensor(decode(read_file(path), channels, str(path)))


def _tensor(image: object) -> Tensor:
    return torch.as_tensor(image).permute(2, 0, 1).contiguous()


def _explain(label: str, trajectory: Trajectory) -> str:
    last = trajectory.records[-1]
    return (
        f'{label} on {trajectory.image}, draw {trajectory.draw}: diverged at step {last.step} (sigma {last.sigma:.3g});'
        ' smaller steps, --h0, or more noise, a smaller --beta, may hold it'
    )
