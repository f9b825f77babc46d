"""Large images in tiles, with the whole image's statistics.

The statistics are taken before anything is cut, so a tiled network differs from the untiled one only where its backbone
looks further than a tile overlaps its neighbours. Where it does not, the two agree up to rounding; where it does, or
looks at everything (``reach``), the outer half of the overlap is dropped and the inner half blended, so that there are
no seams.

Tiles begin at multiples of the windows and strides of the network (``grid``), so that these fall where they fall in the
whole image. At the image's border a tile has the image's border, and the network pads it as it pads the whole; for
DRUNet, which pads with the mean of what it is given, the last tiles are padded here, with the mean of the whole image.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ne_basicsr.inference.denoiser import as_denoiser
from ne_basicsr.inference.receptive_field import MeasuresWhole, grid, reach
from ne_basicsr.ops.equivariance import Network, mean_std
from ne_basicsr.utils.errors import InputError

TILE = 512


class Plan(NamedTuple):
    """How images are cut, in pixels of the input.

    Args:
        core: each tile is responsible for squares of this side, at most.
        overlap: what it sees beyond, on each side.
        blend: the inner part of the overlap over which neighbours are mixed; 0 where there is no need.
        step: all of these are multiples of it, but for ``blend``.
        exact: whether the results are those without tiles, up to rounding.
    """

    core: int
    overlap: int
    blend: int
    step: int
    exact: bool

    def __str__(self) -> str:
        size = self.core + 2 * self.overlap
        how = 'as without tiles' if self.exact else f'blended over {2 * self.blend}: the network looks further'
        return f'tiles of {size}x{size} that overlap by {2 * self.overlap} pixels, {how}'


class Tile(NamedTuple):
    """One stretch of tiles along an axis: seen, responsible for, and contributing to."""

    seen: slice
    core: slice
    mixed: slice


class Tiled(nn.Module):
    """A network that sees large images in tiles: (N, C, H, W) to (N, C', rH, rW), any size, memory bounded by the tile.

    Beyond the tile it takes the input and the output. Networks that ``MeasuresWhole``, such as WNE and ZeroShot, stay
    exactly equivariant. For inference: no gradients, and the network in eval mode.

    Args:
        network: maps (N, C, H, W) to (N, C', rH, rW); a module, or a ``Denoiser``.
        tile: side of the tiles, rounded down to a multiple of the network's grid (32, or more); smaller images are not
            cut. With an overlap of None it is three such multiples or more, since less leaves no room for one.
        overlap: what a tile sees on each side beyond the pixels that it is responsible for, rounded up to a multiple
            of the grid. None: as far as the network looks where that is a quarter of the tile or less, else an eighth.

    Raises:
        InputError: for a negative overlap, or tiles that consist of overlap.
    """

    def __init__(self, network: nn.Module, tile: int = TILE, overlap: int | None = None) -> None:
        super().__init__()
        self.denoiser = as_denoiser(network)
        self.tile, self.overlap = tile, overlap
        self._plans: dict[int, Plan] = {}
        step = grid(network)
        if overlap is not None and overlap < 0:
            raise InputError(f'the overlap of tiles is 0 pixels or more; got {overlap}')
        least = step + 2 * _up(overlap or 0, step)
        if tile < least:
            beside = f' beside an overlap of {overlap}' if overlap else ''
            raise InputError(f'tiles of this network are {least} pixels wide or more{beside}; got {tile}')

    @property
    def network(self) -> Any:
        """What tiles go through: the network if it ``MeasuresWhole``, else the denoiser, which pads them."""
        return self.denoiser.network if isinstance(self.denoiser.network, MeasuresWhole) else self.denoiser

    def plan(self, channels: int) -> Plan:
        """How images with so many channels are cut."""
        if channels not in self._plans:
            sigma = self.denoiser.needed(0.1)
            self._plans[channels] = make_plan(self.network, self.tile, self.overlap, channels, sigma)
        return self._plans[channels]

    def forward(self, y: Tensor, sigma: float | Tensor | None = None) -> Tensor:
        result: list[Tensor] = []

        def write(rows: slice, height: int, part: Tensor) -> None:
            if not result:
                result.append(part.new_empty(*part.shape[:2], height, part.shape[3]))
            result[0][:, :, rows] = part

        self.run(y, write, sigma)
        return result[0]

    @torch.no_grad()
    def run(
        self,
        y: Tensor,
        write: Callable[[slice, int, Tensor], None],
        sigma: float | Tensor | None = None,
        on_tile: Callable[[int], None] = lambda pixels: None,
    ) -> None:
        """As ``forward``, with the result in parts.

        Args:
            write: gets rows of the output, from the top, how many rows there are in all, and their values.
            on_tile: is told, after each tile, how many pixels of each image are done with it.
        """
        given = {} if sigma is None else {'sigma': sigma}
        if max(y.shape[-2:]) <= self.tile:
            output = self.network(y.contiguous(), **given)
            write(slice(0, output.shape[2]), output.shape[2], output)
            on_tile(y.shape[2] * y.shape[3])
            return
        plan = self.plan(y.shape[1])
        down, across = _cut(y.shape[2], plan), _cut(y.shape[3], plan)
        measured = None
        network = self.network
        if isinstance(network, MeasuresWhole):
            measured = network.measure(y, sigma, lambda function: _mean(function, y, down, across))

        multiple = _mean_padding(network)
        mean = mean_std(y).shift.to(y.dtype) if multiple > 1 else None

        def restore(part: Tensor) -> Tensor:
            size = part.shape[-2:]
            if mean is not None:
                part = _padded(part, multiple, mean)
            if isinstance(network, MeasuresWhole):
                output = network.restore(part, measured, **given)
            else:
                output = network(part, **given)
            ratio = output.shape[-1] // part.shape[-1]
            return output[..., : size[0] * ratio, : size[1] * ratio]

        carried: Tensor | None = None  # rows that wait for the next tiles' share
        for row in down:
            band, carried_rows = None, 0 if carried is None else carried.shape[2]
            for column in across:
                output = restore(y[:, :, row.seen, column.seen].contiguous())
                ratio = output.shape[-1] // (column.seen.stop - column.seen.start)
                if band is None:
                    height, width = _length(row.mixed) * ratio, y.shape[3] * ratio
                    band = output.new_zeros(*output.shape[:2], height, width)
                    if carried is not None:
                        band[:, :, :carried_rows] = carried
                inner = output[:, :, _within(row, ratio), _within(column, ratio)]
                weight = [_weight(tile, plan.blend, y.shape[axis], ratio) for tile, axis in ((row, 2), (column, 3))]
                target = band[..., column.mixed.start * ratio : column.mixed.stop * ratio]
                if plan.blend:
                    inner = inner * (weight[0][:, None] * weight[1]).to(inner)
                target += inner
                on_tile(_length(row.core) * _length(column.core))
            assert band is not None, 'an image has columns'
            last = row.core.stop == y.shape[2]
            start = row.mixed.start * ratio
            end = (row.core.stop if last else row.core.stop - plan.blend) * ratio
            write(slice(start, end), y.shape[2] * ratio, band[:, :, : end - start])
            carried = band[:, :, end - start :].clone()


def make_plan(network: nn.Module, tile: int, overlap: int | None, channels: int, sigma: float | None) -> Plan:
    """How ``network`` is given images of so many channels in tiles of side ``tile``; arguments as for ``Tiled``."""
    step = grid(network)
    tile = max(tile // step, 1 if overlap is not None else 3) * step
    limit = tile // 4 if overlap is None else _up(overlap, step)
    distance = reach(network, channels, limit, sigma)
    exact = distance is not None
    if overlap is None:
        overlap = tile // 8 if distance is None else distance
    overlap = min(_up(overlap, step), (tile - step) // 2 // step * step)
    core = tile - 2 * overlap
    exact = distance is not None and distance <= overlap
    return Plan(core, overlap, 0 if exact else min(overlap, core // 2) // 2, step, exact)


def _cut(length: int, plan: Plan) -> list[Tile]:
    """An axis of so many pixels in tiles of about equal size."""
    count = -(-length // plan.core)
    core = _up(-(-length // count), plan.step)
    tiles = []
    for start in range(0, length, core):
        stop = min(start + core, length)
        seen = slice(max(0, start - plan.overlap), min(length, stop + plan.overlap))
        mixed = slice(max(0, start - plan.blend), min(length, stop + plan.blend))
        tiles.append(Tile(seen, slice(start, stop), mixed))
    return tiles


def _weight(tile: Tile, blend: int, length: int, ratio: int) -> Tensor:
    """The share of a tile in the pixels that it contributes to, which ramps up and down where it meets others.

    The shares of all tiles add up to 1 in every pixel.
    """
    position = (torch.arange(tile.mixed.start * ratio, tile.mixed.stop * ratio, dtype=torch.float64) + 0.5) / ratio
    weight = torch.ones_like(position)
    if blend and tile.core.start > 0:
        weight = weight * ((position - tile.core.start) / (2 * blend) + 0.5).clamp(0, 1)
    if blend and tile.core.stop < length:
        weight = weight * ((tile.core.stop - position) / (2 * blend) + 0.5).clamp(0, 1)
    return weight


def _mean(function: Network, y: Tensor, down: list[Tile], across: list[Tile]) -> Tensor:
    """The mean over C, H, W of what ``function`` makes of y, tile by tile, (N, 1, 1, 1)."""
    total = y.new_zeros(len(y), 1, 1, 1, dtype=torch.float64)
    count, dtype = 0, y.dtype
    for row in down:
        for column in across:
            output = function(y[:, :, row.seen, column.seen].contiguous())
            dtype = output.dtype
            rows = slice(row.core.start - row.seen.start, row.core.stop - row.seen.start)
            columns = slice(column.core.start - column.seen.start, column.core.stop - column.seen.start)
            part = output[:, :, rows, columns]
            total += part.double().sum(dim=(1, 2, 3), keepdim=True)
            count += part[0].numel()
    return (total / count).to(dtype)


def _mean_padding(network: nn.Module) -> int:
    """What a network fills up sizes to a multiple of, with the mean of what it is given; 1 where it does not."""
    multiples: list[Any] = [module.pad_to for module in network.modules() if getattr(module, 'pads_with_mean', False)]
    return max(map(int, multiples), default=1)


def _padded(part: Tensor, multiple: int, mean: Tensor) -> Tensor:
    """``part`` (N, C, H, W), filled up right and bottom; only a last tile's size is no multiple."""
    n, channels, height, width = part.shape
    if height % multiple == width % multiple == 0:
        return part
    filled = mean.expand(n, channels, _up(height, multiple), _up(width, multiple)).clone()
    filled[:, :, :height, :width] = part
    return filled


def _within(tile: Tile, ratio: int) -> slice:
    return slice((tile.mixed.start - tile.seen.start) * ratio, (tile.mixed.stop - tile.seen.start) * ratio)


def _length(part: slice) -> int:
    return part.stop - part.start


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
