"""Certify that a network is normalization-equivariant: what is certified, in one call.

The formulas are in ``law``, the rows of a certificate in ``checks``, what it says in ``verdict``.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ne_basicsr.archs.backbone import BackboneHolder
from ne_basicsr.evaluation.check.checks import Certificate, Form, Row, certify, read_images, synthetic_images
from ne_basicsr.evaluation.check.law import PRECISIONS, Point
from ne_basicsr.evaluation.check.verdict import HEADER, Verdict, content_of, footnote, judge, line
from ne_basicsr.inference.denoiser import Denoiser, as_denoiser
from ne_basicsr.inference.opening import Spec, open_denoiser
from ne_basicsr.ops.equivariance import Network
from ne_basicsr.utils.errors import InputError
from ne_basicsr.utils.words import one_of

__all__ = [
    'HEADER', 'PRECISIONS', 'Certificate', 'Form', 'Point', 'Row', 'Subject', 'Verdict', 'assert_equivariant',
    'certify', 'check', 'content_of', 'find_subject', 'footnote', 'judge', 'line', 'read_images', 'synthetic_images',
]  # fmt: skip

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
    network: Denoiser | Network | Spec | str,
    *,
    sigma: float | None = None,
    device: str = 'cpu',
    dtypes: Sequence[str] = tuple(PRECISIONS),
    trusted: bool = False,
) -> Subject:
    """What ``check`` certifies, with its arguments; networks that are opened without weights get random ones.

    Raises:
        InputError: if there is nothing that can be certified.
    """
    names = [name.strip() for name in dtypes]
    if unknown := [name for name in names if name not in PRECISIONS]:
        raise InputError(f'dtype: {one_of(PRECISIONS, unknown[0])}')
    chosen = tuple(name for name in PRECISIONS if name in names)  # the most precise first
    if isinstance(network, str | Spec):
        denoiser = open_denoiser(network, only=None, untrained=True, device=device, trusted=trusted)
    else:
        denoiser = as_denoiser(network)
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
    subject = find_subject(network, sigma=sigma, device=device, dtypes=dtypes, trusted=trusted)
    given = subject.images(None) if images is None else images
    types, level = subject.dtypes, subject.sigma
    return judge(certify(subject.network, given, device=device, dtypes=types, sigma=level, on_row=on_row))


def assert_equivariant(network: Denoiser | Network | str, **settings: Any) -> None:
    """Raise AssertionError with the verdict and the failed rows, unless ``check`` passes; same arguments."""
    rows: list[Row] = []
    verdict = check(network, **settings, on_row=rows.append)
    failed = [line(row) for row in rows if row.status == 'fail']
    assert verdict.passed, '\n'.join([verdict.sentence, HEADER, *failed])
