"""A study: the analysis of networks on patches of a data set, all parts of it, as arrays and rows."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ne_basicsr.data.image_store import on_unit_range, open_any
from ne_basicsr.evaluation import analysis
from ne_basicsr.evaluation.analysis.difficulty import Row, Values
from ne_basicsr.evaluation.analysis.intervals import INTERVALS
from ne_basicsr.inference.denoiser import Denoiser, Entry
from ne_basicsr.inference.exported_graphs import SUFFIXES
from ne_basicsr.inference.opening import common_channels, open_denoisers, parse_spec
from ne_basicsr.ops.center import center
from ne_basicsr.ops.noise import add_noise, seed_of
from ne_basicsr.utils.errors import InputError, first_line
from ne_basicsr.utils.progress import progress


class Request(NamedTuple):
    """What to study: the arguments of ``basicsr analyze``, see ``cli/commands.toml``."""

    networks: Sequence[str]  # without any, only the images are studied
    data: Path
    labels: Sequence[str] = ()
    sigmas255: Sequence[float] = (50, 40, 30, 20, 10)  # noise levels, of training and of test, in 8-bit units
    patches: int = 4000
    denoised: int = 128  # patches, the first ones, on which the residual quality is measured at each level
    patch_size: int = 70
    pixels: Sequence[tuple[int, int]] = ()  # (row, column) of filters, in the crop; the centre where none is given
    crop: int = 64
    filter_sigma255: float = 25.0  # noise on the crop, the centre of the first image that can be read
    intervals: Sequence[tuple[float, float]] = INTERVALS
    seed: int = 0
    device: str = 'cpu'


class Findings(NamedTuple):
    """What was found."""

    request: Request
    entries: list[Entry]
    image: str  # the name of the image that the crop is from
    failures: list[str]  # a line for each network that could not be studied, and for each image that could not be read
    deltas: dict[float, Values]  # Delta by 8-bit noise level
    contrasts: Values  # sigma_x of the patches
    table: list[Row]  # rows of the coverage, ``sigma_train`` in 8-bit units
    quality: dict[str, dict[float, tuple[Values, Values]]]  # (Delta, Q) by network and level
    # by network, for each pixel (row, column) the Jacobian's row (C, H, W)
    filters: dict[str, dict[tuple[int, int], Tensor]]
    # ``network, row, column, sum`` (Sigma) and ``rho`` (of the crop); without a place the sum of the filter that is
    # farthest from 1
    filter_rows: list[Row]
    interval_rows: list[Row]  # ``network, a, b, psnr, change``
    shown: dict[str, Tensor]  # the crop, ``clean`` and ``noisy``, (C, H, W); none without networks

    @property
    def curves(self) -> dict[str, dict[float, list[Row]]]:
        """Q over Delta by network and level, see ``quality_curve``."""
        return {
            label: {level: analysis.quality_curve(*values) for level, values in own.items()}
            for label, own in self.quality.items()
        }


def study(request: Request) -> Findings:
    """Measure everything; an ``InputError`` where there is nothing to measure, or the request contradicts itself."""
    if graphs := [text for text in request.networks if parse_spec(text).suffix in SUFFIXES]:
        raise InputError(f'{graphs[0]}: filters are derivatives, which a graph does not have; give its checkpoint')
    denoisers, failures = open_denoisers(request.networks, request.labels)
    channels = common_channels(denoisers)
    store = open_any(request.data)
    sizes, unread = analysis.sizes_of(store, channels)
    failures += unread
    image = next(iter(sizes))
    height, width = (min(side, request.crop) for side in sizes[image])
    for row, column in request.pixels:
        if not (0 <= row < height and 0 <= column < width):
            raise InputError(f'--pixel lies in the crop, {height} rows and {width} columns; got {row},{column}')
    patches = analysis.draw_patches(store, request.patches, request.patch_size, channels, request.seed, sizes)
    by_level = dict(zip((level / 255 for level in request.sigmas255), request.sigmas255, strict=True))
    deltas = {by_level[s]: values for s, values in analysis.difficulties(patches, list(by_level), request.seed).items()}
    table, contrasts = analysis.coverage_table(deltas), analysis.contrast(patches).numpy()
    entries = [denoiser.entry for denoiser in denoisers]
    findings = Findings(request, entries, image, failures, deltas, contrasts, table, {}, {}, [], [], {})
    if not denoisers:
        return findings
    pixels = torch.from_numpy(on_unit_range(store.pixels(image, channels)))
    clean = center(pixels.permute(2, 0, 1).contiguous(), request.crop)[None]
    sigma = request.filter_sigma255 / 255
    noisy = add_noise(clean, sigma, seed=seed_of('analysis crop', request.seed))
    findings.shown.update(clean=clean[0], noisy=noisy[0])
    with progress(len(denoisers) * (len(deltas) + 1), 'Analysing', 'part') as bar:
        for denoiser in denoisers:
            try:
                _study_network(denoiser, findings, patches, bar.update)
            except (RuntimeError, ValueError, IndexError) as error:
                failures.append(f'{denoiser.source}: {first_line(error)}')
    return findings


def _study_network(denoiser: Denoiser, findings: Findings, patches: Tensor, on_part: Callable[[], object]) -> None:
    request, label = findings.request, denoiser.label
    denoiser.to(request.device)

    def told(level: float) -> Any:
        return partial(denoiser.denoise, sigma=denoiser.needed(level / 255))

    chosen = patches[: request.denoised].to(request.device)
    quality: dict[float, tuple[Values, Values]] = {}
    for level in findings.deltas:
        quality[level] = analysis.qualities(told(level), chosen, level / 255, seed=request.seed)
        on_part()
    clean, noisy = (findings.shown[name][None].to(request.device) for name in ('clean', 'noisy'))
    network = told(request.filter_sigma255)
    intervals = analysis.interval_rows(network, noisy, clean, request.intervals)
    denoiser.double()  # derivatives: what is 0 shall look like it
    rho, sums, _ = analysis.homogeneity(network, noisy.double())
    places = list(request.pixels) or [(clean.shape[-2] // 2, clean.shape[-1] // 2)]
    filters = {place: analysis.adaptive_filter(network, noisy.double(), *place).cpu() for place in places}
    denoiser.float().cpu()
    on_part()
    findings.quality[label], findings.filters[label] = quality, filters
    findings.interval_rows.extend({'network': label, **row} for row in intervals)
    found: dict[Any, float] = {place: weights.sum().item() for place, weights in filters.items()}
    sums = sums.flatten()
    found[None, None] = sums[(sums - 1).abs().argmax()].item()
    for (row, column), total in found.items():
        findings.filter_rows.append({'network': label, 'row': row, 'column': column, 'sum': total, 'rho': rho.item()})
