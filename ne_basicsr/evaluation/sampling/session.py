"""A session: networks over images, batches of one size; what is finished is handed on at once."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ne_basicsr.data.image_store import Image, decode_pixels, on_unit_range, open_any, read_file
from ne_basicsr.evaluation.sampling.sampler import DIVERGED, Schedule
from ne_basicsr.evaluation.sampling.tasks import Task
from ne_basicsr.evaluation.sampling.trajectories import Trajectory, sample
from ne_basicsr.inference.denoiser import Denoiser, Entry
from ne_basicsr.inference.opening import common_channels, open_denoisers
from ne_basicsr.utils.errors import InputError, first_line
from ne_basicsr.utils.progress import progress

PIXELS = {'cpu': 2**18, 'cuda': 2**22}  # that pass a network together, unless the batch is given


class Request(NamedTuple):
    """What to sample, and how: the arguments of ``basicsr sample``, see ``cli/commands.toml``."""

    networks: Sequence[str]
    images: Sequence[Path]
    task: Task
    schedule: Schedule
    labels: Sequence[str] = ()
    draws: int = 1  #: walks for each image
    seed: int = 0
    device: str = 'cpu'
    batch: int | None = None  #: images that pass a network together; where not given, as many as have ``PIXELS``
    with_frames: bool = False
    trusted: bool = False  #: see ``exported_graphs.open_exported``


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
        batched = list(batches(self.pictures, self.request.batch, PIXELS.get(self.request.device, 2**18)))
        with progress(total, 'Sampling', 'step') as bar:
            for denoiser in self.denoisers:
                denoiser.to(self.request.device)
                for draw, batch in product(range(self.request.draws), batched):
                    try:
                        trajectories = self._sample(denoiser, batch, draw, bar.update)
                    except (RuntimeError, ValueError, IndexError) as error:
                        self.failures.append(f'{denoiser.source}: {first_line(error)}')
                        break
                    for trajectory in trajectories:
                        if trajectory.outcome == DIVERGED:
                            last, which = trajectory.records[-1], f'{denoiser.label} on {trajectory.image}, draw {draw}'
                            self.failures.append(
                                f'{which}: diverged at step {last.step} (sigma {last.sigma:.3g}); smaller steps, --h0,'
                                ' or more noise, a smaller --beta, may hold it'
                            )
                        on_trajectory(denoiser.label, trajectory)
                denoiser.cpu()

    def _sample(
        self, denoiser: Denoiser, batch: list[Picture], draw: int, on_step: Callable[[int], object]
    ) -> list[Trajectory]:
        request, task, names = self.request, self.request.task, [picture.name for picture in batch]
        x = torch.stack([picture.pixels for picture in batch]).to(request.device)
        size = x.shape[-2], x.shape[-1]
        projector = task.projector([f'{name} draw {draw}' for name in names], size, request.seed)
        return sample(
            denoiser, x, projector, request.schedule, names, seed=request.seed, draw=draw, on_step=on_step,
            from_noisy=task.starts_noisy, has_reference=task.has_reference,
            with_frames=request.with_frames and draw == 0,
        )  # fmt: skip


def open_session(request: Request) -> Session:
    """Open networks and images; an ``InputError`` where there is nothing to do, or the request contradicts itself."""
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
    readers: dict[str, Callable[[], Image]] = {}
    for path in map(Path.expanduser, paths):
        if path.is_dir():
            store = open_any(path)
            own = {name: partial(store.pixels, name, channels) for name in store.names}
        else:
            own = {path.stem: partial(lambda file: decode_pixels(read_file(file), channels, str(file)), path)}
        if twice := readers.keys() & own.keys():
            raise InputError(f'two images are called {min(twice)!r}, and their noise depends on it: sample them apart')
        readers |= own
    pictures = []
    for name, read in readers.items():
        try:
            pictures.append(Picture(name, torch.from_numpy(on_unit_range(read())).permute(2, 0, 1).contiguous()))
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
