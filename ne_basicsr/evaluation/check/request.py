"""What to certify: a denoiser from a command line, with the images, the noise level and the number types for it."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ne_basicsr.archs.backbone import BackboneHolder
from ne_basicsr.evaluation.check.images import read_images, synthetic_images
from ne_basicsr.evaluation.check.law import PRECISIONS
from ne_basicsr.inference.denoiser import Denoiser
from ne_basicsr.inference.opening import open_denoiser, parse_spec
from ne_basicsr.ops.equivariance import Network
from ne_basicsr.options.words import one_of
from ne_basicsr.utils.errors import InputError

SIZE = (24, 32)  # of the images that are made here
MOST = 2**22  # values of an image that an exported network takes: some hundred are computed
SIGMA = 25 / 255  # what non-blind networks are told by default


class Subject(NamedTuple):
    """A denoiser and how it is asked.

    Attributes:
        sigma: the noise level that a non-blind network is told, on the [0, 1] scale; None for blind ones.
        dtypes: number types to ask in.
    """

    denoiser: Denoiser
    sigma: float | None
    dtypes: tuple[str, ...]

    @property
    def network(self) -> Network:
        """The network, or a function, into which torch does not see, if that is what the denoiser is."""
        if isinstance(self.denoiser.network, nn.Module):
            return self.denoiser

        def run(images: torch.Tensor, sigma: float | None = None) -> torch.Tensor:
            return self.denoiser(images, sigma)

        return run

    @property
    def about(self) -> str:
        """What it is, in words."""
        if not isinstance(self.denoiser.network, nn.Module):
            return self.denoiser.description
        names = [type(each).__name__ for each in _chain(self.denoiser.network)]
        structure = f'{" around ".join(names)}, {self.denoiser.entry.parameters:,} parameters'
        return ': '.join(filter(None, (self.denoiser.description, structure)))

    def images(self, folder: Path | None) -> list[torch.Tensor]:
        """Those of a folder, or synthetic ones."""
        height, width = (side or default for side, default in zip(self.denoiser.shape[2:], SIZE, strict=True))
        if folder is None:
            return synthetic_images(self.denoiser.channels, (height, width))
        images = read_images(folder, self.denoiser.channels)
        # one size for all, since they share batches
        height, width = (min(image.shape[axis] for image in images) for axis in (-2, -1))
        images = [image[..., :height, :width] for image in images]
        if constant := [number for number, image in enumerate(images, 1) if image.amax() == image.amin()]:
            raise InputError(f'{folder}: images with some contrast are needed; image {constant[0]} is constant')
        return images


def find_subject(
    text: str,
    *,
    wne: bool = False,
    sigma: float | None = None,
    device: str = 'cpu',
    dtypes: str = ','.join(PRECISIONS),
    trusted: bool = False,
) -> Subject:
    """The network that ``text`` names.

    Args:
        text: as ``opening.parse_spec`` takes it. Networks without weights get random ones.
        wne: wrap the network as ``ne_basicsr.load`` does.
        sigma: the noise level of its training, with ``wne``; else the one that a non-blind network is told, 25 / 255
            by default.
        dtypes: names of ``PRECISIONS``, with commas.
        trusted: see ``exported_graphs.open_exported``.

    Raises:
        InputError: nothing that can be certified.
    """
    chosen = _dtypes(dtypes)
    spec = parse_spec(text)
    spec = spec._replace(wrap=spec.wrap or wne)
    if spec.wrap and spec.sigma255 is None and sigma is not None:
        spec = spec._replace(sigma255=255 * sigma)
    denoiser = open_denoiser(spec, only=None, untrained=True, device=device, trusted=trusted)
    if not isinstance(denoiser.network, nn.Module):
        chosen = _dtypes_of_graph(denoiser, chosen)
    return Subject(denoiser, denoiser.needed(sigma or SIGMA), chosen)


def _dtypes(text: str) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(',')]
    for name in names:
        if name not in PRECISIONS:
            raise InputError(f'dtype: {one_of(PRECISIONS, name)}')
    return tuple(name for name in PRECISIONS if name in names)  # the finest first


def _dtypes_of_graph(graph: Denoiser, wanted: tuple[str, ...]) -> tuple[str, ...]:
    own = str(graph.like.dtype).removeprefix('torch.')
    batch, channels, height, width = graph.shape
    if own not in wanted:
        raise InputError(f'{graph.source}: it takes {own} alone; --dtype asks for {", ".join(wanted)}')
    if batch not in (None, 1):
        raise InputError(f'{graph.source}: it takes {batch} images at a time; export it for any number, or for one')
    size = (channels or 1, height or SIZE[0], width or SIZE[1])
    if size[0] * size[1] * size[2] > MOST:
        raise InputError(
            f'{graph.source}: at most {MOST:,} values per image are checked; it takes {"x".join(map(str, size))}:'
            ' export it for any size, or for a smaller one'
        )
    return (own,)


def _chain(network: nn.Module) -> list[nn.Module]:
    """The network, and those that it is wrapped around."""
    inner: Any = getattr(network, 'backbone', None)
    return [network, *(_chain(inner) if isinstance(network, BackboneHolder) else [])]
