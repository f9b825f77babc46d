"""What to certify: a denoiser named on a command line, with images, noise level and number types."""

from collections.abc import Sequence
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

SIZE = (24, 32)  # of synthetic images
MOST = 2**22  # maximum number of values per image for exported networks, which run some hundred times
SIGMA = 25 / 255  # default noise level for non-blind networks


class Subject(NamedTuple):
    """A denoiser and the settings of its certification.

    Attributes:
        sigma: noise level for a non-blind network, on the [0, 1] scale; None for blind ones.
        dtypes: number types to check.
    """

    denoiser: Denoiser
    sigma: float | None
    dtypes: tuple[str, ...]

    @property
    def network(self) -> Network:
        """The denoiser; for an exported graph, a plain function, since torch cannot perturb its operations."""
        if isinstance(self.denoiser.network, nn.Module):
            return self.denoiser

        def run(images: torch.Tensor, sigma: float | None = None) -> torch.Tensor:
            if self.denoiser.dtype not in (None, images.dtype):  # converting would hide what a graph computes in
                raise TypeError(f'the graph takes {self.denoiser.dtype}')
            return self.denoiser(images, sigma)

        return run

    @property
    def about(self) -> str:
        """Description of the denoiser."""
        if not isinstance(self.denoiser.network, nn.Module):
            return self.denoiser.description
        names = [type(each).__name__ for each in _chain(self.denoiser.network)]
        structure = f'{" around ".join(names)}, {self.denoiser.entry.parameters:,} parameters'
        return ': '.join(filter(None, (self.denoiser.description, structure)))

    def images(self, folder: Path | None) -> list[torch.Tensor]:
        """Images from a folder, or synthetic ones."""
        height, width = (side or default for side, default in zip(self.denoiser.shape[2:], SIZE, strict=True))
        if folder is None:
            return synthetic_images(self.denoiser.channels, (height, width))
        images = read_images(folder, self.denoiser.channels)
        # crop to one size, since they share batches
        height, width = (min(image.shape[axis] for image in images) for axis in (-2, -1))
        images = [image[..., :height, :width] for image in images]
        if constant := [number for number, image in enumerate(images, 1) if image.amax() == image.amin()]:
            raise InputError(f'{folder}: images must not be constant; image {constant[0]} is')
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
    """Open the network that ``text`` names.

    Args:
        text: as for ``opening.parse_spec``. Networks without weights get random ones.
        wne: wrap the network as ``ne_basicsr.load`` does.
        sigma: with ``wne``, the training noise level; otherwise the noise level for a non-blind network, by default
            25 / 255.
        dtypes: names of ``PRECISIONS``, separated by commas.
        trusted: whether ``.pt2`` files may be read, which can run code.

    Raises:
        InputError: if there is nothing that can be certified.
    """
    chosen = _chosen(dtypes.split(','))  # before a network is opened
    spec = parse_spec(text)
    spec = spec._replace(wrap=spec.wrap or wne)
    if spec.wrap and spec.sigma255 is None and sigma is not None:
        spec = spec._replace(sigma255=255 * sigma)
    denoiser = open_denoiser(spec, only=None, untrained=True, device=device, trusted=trusted)
    return subject_of(denoiser, chosen, sigma)


def subject_of(denoiser: Denoiser, dtypes: Sequence[str], sigma: float | None = None) -> Subject:
    """The denoiser with those of the number types that it takes and, if it is non-blind, ``sigma`` or 25 / 255."""
    chosen = _chosen(dtypes)
    if denoiser.dtype is not None:
        chosen = _dtypes_of_graph(denoiser, chosen)
    return Subject(denoiser, denoiser.needed(sigma or SIGMA), chosen)


def _chosen(dtypes: Sequence[str]) -> tuple[str, ...]:
    names = [name.strip() for name in dtypes]
    for name in names:
        if name not in PRECISIONS:
            raise InputError(f'dtype: {one_of(PRECISIONS, name)}')
    return tuple(name for name in PRECISIONS if name in names)  # the most precise first


def _dtypes_of_graph(graph: Denoiser, wanted: tuple[str, ...]) -> tuple[str, ...]:
    own = str(graph.like.dtype).removeprefix('torch.')
    batch, channels, height, width = graph.shape
    if own not in wanted:
        raise InputError(f'{graph.source}: only takes {own}; --dtype is {", ".join(wanted)}')
    if batch not in (None, 1):
        raise InputError(
            f'{graph.source}: takes {batch} images at a time; export it for any batch size, or for one image'
        )
    size = (channels or 1, height or SIZE[0], width or SIZE[1])
    if size[0] * size[1] * size[2] > MOST:
        raise InputError(
            f'{graph.source}: takes images of {"x".join(map(str, size))}; check supports at most {MOST:,} values per'
            ' image: export it for any size, or a smaller one'
        )
    return (own,)


def _chain(network: nn.Module) -> list[nn.Module]:
    """The network and the networks that it wraps."""
    inner: Any = getattr(network, 'backbone', None)
    return [network, *(_chain(inner) if isinstance(network, BackboneHolder) else [])]
