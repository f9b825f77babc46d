"""What to certify: a denoiser with images, noise level and number types; the certificate in one call."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ne_basicsr.archs.backbone import BackboneHolder
from ne_basicsr.evaluation.check.checks import Row, certify
from ne_basicsr.evaluation.check.images import read_images, synthetic_images
from ne_basicsr.evaluation.check.law import PRECISIONS
from ne_basicsr.evaluation.check.verdict import HEADER, Verdict, judge, line
from ne_basicsr.inference.denoiser import Denoiser, as_denoiser
from ne_basicsr.inference.opening import open_denoiser, parse_spec
from ne_basicsr.ops.equivariance import Network
from ne_basicsr.utils.errors import InputError
from ne_basicsr.utils.words import one_of

SIZE = (24, 32)  # of synthetic images
MOST = 2**22  # maximum number of values per image for exported networks, which run some hundred times
SIGMA = 25 / 255  # default noise level for non-blind networks


class Subject(NamedTuple):
    """A denoiser and the settings of its certification."""

    denoiser: Denoiser
    sigma: float | None  #: noise level for a non-blind network, on the [0, 1] scale; None for blind ones
    dtypes: tuple[str, ...]  #: number types to check

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
        chain: list[Any] = [self.denoiser.network]
        while isinstance(chain[-1], BackboneHolder):
            chain.append(chain[-1].backbone)
        names = [type(each).__name__ for each in chain]
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
    if denoiser.dtype is not None:  # an exported graph
        own = str(denoiser.like.dtype).removeprefix('torch.')
        batch, channels, height, width = denoiser.shape
        size = (channels or 1, height or SIZE[0], width or SIZE[1])
        problem = ''
        if own not in chosen:
            problem = f'only takes {own}; --dtype is {", ".join(chosen)}'
        elif batch not in (None, 1):
            problem = f'takes {batch} images at a time; export it for any batch size, or for one image'
        elif math.prod(size) > MOST:
            problem = f'takes images of {"x".join(map(str, size))}; check supports at most {MOST:,} values per image:'
            problem += ' export it for any size, or a smaller one'
        if problem:
            raise InputError(f'{denoiser.source}: {problem}')
        chosen = (own,)
    return Subject(denoiser, denoiser.needed(sigma or SIGMA), chosen)


def check(
    network: Denoiser | Network | str,
    *,
    sigma: float = SIGMA,
    dtypes: Sequence[str] = tuple(PRECISIONS),
    device: str = 'cpu',
    images: Sequence[torch.Tensor] | None = None,
    trusted: bool = False,
    on_row: Callable[[Row], object] = lambda row: None,
) -> Verdict:
    """Check whether f(a y + b) = a f(y) + b holds up to rounding, with the checks of ``basicsr check``.

    Args:
        network: f, (N, C, H, W) to (N, C', rH, rW): a ``Denoiser``, a module, a function, or text as on the command
            line, such as ``net.pth@25+wne``.
        sigma: noise level for a non-blind network, on the [0, 1] scale.
        dtypes: number types to check: float64, float32, bfloat16, float16. Types in which it does not run are skipped.
        device: where it runs.
        images: each (1, C, H, W) in float64, all of one shape, nominally on [0, 1], not constant; default: synthetic
            images.
        trusted: whether a ``.pt2`` file may be read, which can run code.
        on_row: called with each check as soon as it is measured.

    Returns:
        ``passed``, and a ``sentence`` with the result and the reason.

    Raises:
        InputError: for a network that cannot be opened or runs in none of the types.
    """
    if isinstance(network, str):
        denoiser = open_denoiser(network, only=None, untrained=True, device=device, trusted=trusted)
    else:
        denoiser = as_denoiser(network)
    subject = subject_of(denoiser, dtypes, sigma)
    given = subject.images(None) if images is None else images
    types, level = subject.dtypes, subject.sigma
    return judge(certify(subject.network, given, device=device, dtypes=types, sigma=level, on_row=on_row))


def assert_equivariant(network: Denoiser | Network | str, **settings: Any) -> None:
    """Raise AssertionError with the verdict and the failed rows, unless ``check`` passes; same arguments."""
    rows: list[Row] = []
    verdict = check(network, **settings, on_row=rows.append)
    failed = [line(row) for row in rows if row.status == 'fail']
    assert verdict.passed, '\n'.join([verdict.sentence, HEADER, *failed])


def _chosen(dtypes: Sequence[str]) -> tuple[str, ...]:
    names = [name.strip() for name in dtypes]
    for name in names:
        if name not in PRECISIONS:
            raise InputError(f'dtype: {one_of(PRECISIONS, name)}')
    return tuple(name for name in PRECISIONS if name in names)  # the most precise first
