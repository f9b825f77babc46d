"""A session: networks over images, batches of one size; what is finished is handed on at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
    film: str = ''  #: ``gif``, ``mp4`` or empty
    trusted: bool = False  #: see ``exported_graphs.open_exported``


class Session(NamedTuple):
    """Networks and clean images (C, H, W) on [0, 1] that can be used, with a line for each that cannot."""

    request: Request
    denoisers: list[Denoiser]
    pictures: dict[str, Tensor]  #: by the name, which decides what is random about an image
    failures: list[str]

    @property
    def entries(self) -> list[Entry]:
        return [denoiser.entry for denoiser in self.denoisers]

    def run(self) -> Iterator[tuple[str, Trajectory]]:
        """Sample everything: the network's label and what came of an image, as they end.

        A network that fails, and a walk that diverged, become lines in ``failures``; the others go on.
        """
        request, task = self.request, self.request.task
        total = len(self.denoisers) * request.draws * len(self.pictures) * request.schedule.max_steps
        batched = list(batches(self.pictures, request.batch, PIXELS.get(request.device, PIXELS['cpu'])))
        with progress(total, 'Sampling', 'step') as bar:
            for denoiser in self.denoisers:
                denoiser.to(request.device)
                for draw, names in product(range(request.draws), batched):
                    x = torch.stack([self.pictures[name] for name in names]).to(request.device)
                    projector = task.projector(
                        [f'{k} draw {draw}' for k in names], (x.shape[-2], x.shape[-1]), request.seed
                    )
                    try:
                        trajectories = sample(
                            denoiser, x, projector, request.schedule, names, seed=request.seed, draw=draw,
                            from_noisy=task.kind == 'denoise', has_reference=task.kind != 'unconstrained',
                            with_frames=bool(request.film) and draw == 0, on_step=bar.update,
                        )  # fmt: skip
                    except (RuntimeError, ValueError, IndexError) as error:
                        self.failures.append(f'{denoiser.source}: {first_line(error)}')
                        break
                    for each in trajectories:
                        if each.outcome == DIVERGED:
                            last = each.records[-1]
                            self.failures.append(
                                f'{denoiser.label} on {each.image}, draw {draw}: diverged at step {last.step} (sigma'
                                f' {last.sigma:.3g}); smaller steps, --h0, or more noise, a smaller --beta, may hold it'
                            )
                        yield denoiser.label, each
                denoiser.cpu()


def open_session(request: Request) -> Session:
    """Open networks and images; an ``InputError`` where there is nothing to do, or the request contradicts itself."""
    request.schedule.check()
    denoisers, failures = open_denoisers(
        request.networks, request.labels, device=request.device, trusted=request.trusted
    )
    pictures = open_pictures(request.images, common_channels(denoisers), failures)
    for size in dict.fromkeys(picture.shape[-2:] for picture in pictures.values()):
        request.task.projector(['size'], (size[0], size[1]), 0)  # says now where a value does not fit the images
    return Session(request, denoisers, pictures, failures)


def open_pictures(paths: Sequence[Path], channels: int, failures: list[str]) -> dict[str, Tensor]:
    """All images of files, folders and LMDBs, by name; a line in ``failures`` for each that cannot be read.

    An ``InputError`` where none can be read, or two have one name: what is random depends on the name.
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
    pictures = {}
    for name, read in readers.items():
        try:
            pictures[name] = torch.from_numpy(on_unit_range(read())).permute(2, 0, 1).contiguous()
        except InputError as error:
            failures.append(str(error))
    if not pictures:
        raise InputError(failures[-1])
    return pictures


def batches(pictures: Mapping[str, Tensor], batch: int | None, pixels: int) -> Iterator[list[str]]:
    """The names of images of one size together, in the order in which sizes first appear."""
    by_size: dict[torch.Size, list[str]] = {}
    for name, image in pictures.items():
        by_size.setdefault(image.shape, []).append(name)
    for shape, own in by_size.items():
        count = batch or max(1, pixels // (shape[-1] * shape[-2]))
        yield from (own[first : first + count] for first in range(0, len(own), count))
