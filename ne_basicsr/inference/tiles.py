"""Large images in tiles, with the whole image's statistics.

The statistics are computed before the image is cut. So a tiled network differs from the untiled one only if the
receptive field of its backbone is larger than the overlap of the tiles. If it is not, the results agree up to rounding.
If it is (``receptive_radius``), the outer half of the overlap is discarded and the inner half is blended, so that there
are no seams.

Tiles begin at multiples of the windows and strides of the network (``grid``), so that these have the same positions as
in the whole image. Tiles at the image's border end there, and the network pads them as it pads the whole image. DRUNet
pads with the mean of its input; for it, the last tiles are padded here, with the mean of the whole image.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ne_basicsr.inference.denoiser import as_denoiser
from ne_basicsr.inference.ensemble import COUNT, Ensemble, averaged
from ne_basicsr.inference.receptive_field import MeasuresWhole, grid, receptive_radius
from ne_basicsr.ops.equivariance import Network, mean_std
from ne_basicsr.ops.noise_level import noise_level
from ne_basicsr.ops.padding import in_float64
from ne_basicsr.utils.errors import InputError
from ne_basicsr.utils.machine import has_bf16, peak_memory

TILE = 512
SAMPLE = 256  # pixels per side of what is computed to learn how much memory a network needs, or what bfloat16 changes
SLACK = 1.5  # memory that the process takes, to that in tensors: freed blocks do not fit the next ones exactly
ROUNDING, STEP = 0.0015, 0.1  # see ``Tiled._is_reduced``


class Plan(NamedTuple):
    """How images are cut, in pixels of the input."""

    core: int  # maximum side of the square that each tile computes
    overlap: int  # what a tile sees in addition, on each side
    blend: int  # inner part of the overlap over which neighbours are blended; 0 if not needed
    step: int  # all of these are multiples of it, except ``blend``
    exact: bool  # whether the result equals that without tiles, up to rounding


class Tile(NamedTuple):
    """A tile along one axis: the pixels it sees, those it computes (core), and those it contributes to (mixed)."""

    seen: slice
    core: slice
    mixed: slice


Cut = tuple[list[Tile], int, int]
"""An axis in tiles: the most pixels that one of them sees, and the sum of what all see."""


class Tiled(nn.Module):
    """A network that processes large images in tiles: (N, C, H, W) to (N, C', rH, rW), any height and width.

    Memory holds the input, the output and one tile, and with an ``Ensemble`` two more outputs. Networks that
    ``MeasuresWhole``, such as WNE and ZeroShot, stay exactly equivariant. For inference only: no
    gradients, and the network in eval mode.

    Args:
        network: maps (N, C, H, W) to (N, C', rH, rW); a module or a ``Denoiser``.
        tile: side of the tiles in pixels, rounded down to a multiple of the network's grid (32 or more). Smaller images
            are not cut. If ``overlap`` is None, tiles have at least three times the grid, to leave room for an overlap.
        overlap: pixels that a tile sees on each side beyond its core, rounded up to a multiple of the grid. None: the
            radius of the receptive field if that is at most a quarter of the tile, otherwise an eighth.
        memory: bytes that may be taken for a tile. Where the result equals that without tiles, tiles then are larger
            than ``tile`` and compute less twice, as far as the memory allows.
        precision: ``float32``, that is, the network's own; ``bf16``; ``auto``: see ``is_reduced``.

    Raises:
        InputError: for a negative overlap, or tiles with no room beside the overlap.
    """

    def __init__(
        self,
        network: nn.Module,
        tile: int = TILE,
        overlap: int | None = None,
        memory: float | None = None,
        precision: str = 'float32',
    ) -> None:
        super().__init__()
        self.denoiser = as_denoiser(network)
        self.tile, self.overlap, self.memory, self.precision = tile, overlap, memory, precision
        inner: Any = self.denoiser.network
        is_ensemble = isinstance(inner, Ensemble)
        self._once = Tiled(inner.denoiser, tile, overlap, memory, precision) if is_ensemble else None
        self._plans: dict[int, Plan] = {}
        self._needs: dict[int, float] = {}  # bytes of each pixel of an image, by channels
        self.is_reduced = False  # whether the last image was computed in bfloat16
        step = grid(network)
        if overlap is not None and overlap < 0:
            raise InputError(f'overlap (--overlap) must be at least 0 pixels; got {overlap}')
        least = step + 2 * _up(overlap or 0, step)
        if tile < least:
            beside = f' with an overlap of {overlap}' if overlap else ''
            raise InputError(f'tile (--tile) must be at least {least} pixels for this network{beside}; got {tile}')

    @property
    def network(self) -> Any:
        """The network that processes tiles: the inner one if it ``MeasuresWhole``, else the denoiser, which pads."""
        return self.denoiser.network if isinstance(self.denoiser.network, MeasuresWhole) else self.denoiser

    def plan(self, channels: int) -> Plan:
        """How images with this number of channels are cut."""
        if self._once:
            return self._once.plan(channels)
        if channels not in self._plans:
            sigma = self.denoiser.needed(0.1)
            self._plans[channels] = make_plan(self.network, self.tile, self.overlap, channels, sigma)
        return self._plans[channels]

    def parts(self, shape: Sequence[int]) -> tuple[list[Tile], list[Tile]]:
        """The tiles of images (N, C, H, W) along H and along W."""
        count, channels, height, width = shape
        if max(height, width) <= self.tile:
            return [Tile(*[slice(0, height)] * 3)], [Tile(*[slice(0, width)] * 3)]
        plan = self.plan(channels)
        if self._once:
            return self._once.parts(shape)
        if self.memory is None or not plan.exact:
            return _cut(height, plan), _cut(width, plan)
        if channels not in self._needs:
            self._needs[channels] = self._bytes_per_pixel(channels)
        limit = max(self.memory / (SLACK * self._needs[channels] * count), self.tile**2)
        cuts: list[list[Cut]] = []
        for length in (height, width):
            options = [_cut(length, plan, n) for n in range(1, -(-length // plan.core) + 1)]
            sides = [[_length(tile.seen) for tile in tiles] for tiles in options]
            cuts.append([(tiles, max(seen), sum(seen)) for tiles, seen in zip(options, sides, strict=True)])
        fitting = [(down, across) for down, across in product(*cuts) if down[1] * across[1] <= limit]
        down, across = min(fitting, key=lambda pair: pair[0][2] * pair[1][2])
        return down[0], across[0]

    def how(self, shape: Sequence[int]) -> str:
        """How images (N, C, H, W) are cut, for people; empty if they are not."""
        down, across = self.parts(shape)
        if len(down) == len(across) == 1:
            return ''
        plan = self.plan(shape[1])
        sides = (max(_length(tile.seen) for tile in tiles) for tiles in (across, down))
        how = 'as without tiles' if plan.exact else f'blended over {2 * plan.blend}: the receptive field is larger'
        return f'tiles of {"x".join(map(str, sides))} that overlap by {2 * plan.overlap} pixels, {how}'

    def _bytes_per_pixel(self, channels: int) -> float:
        side = _up(SAMPLE, grid(self.network))
        y = torch.rand(1, channels, side, side, generator=torch.Generator().manual_seed(0)).to(self.denoiser.like)
        needed = peak_memory(lambda: self.denoiser(y, self.denoiser.needed(0.1)), y.device.type)
        return max(needed, y.nbytes) / side**2

    def forward(
        self, y: Tensor, sigma: float | Tensor | None = None, on_tile: Callable[[float], None] = lambda pixels: None
    ) -> Tensor:
        result: list[Tensor] = []

        def write(rows: slice, height: int, part: Tensor) -> None:
            if not result:
                result.append(part.new_empty(*part.shape[:2], height, part.shape[3]))
            result[0][:, :, rows] = part

        self.run(y, write, sigma, on_tile)
        return result[0]

    @torch.no_grad()
    def run(
        self,
        y: Tensor,
        write: Callable[[slice, int, Tensor], None],
        sigma: float | Tensor | None = None,
        on_tile: Callable[[float], None] = lambda pixels: None,
    ) -> None:
        """Like ``forward``, but returns the result in parts.

        Args:
            write: called from top to bottom with a range of rows, the height of the output, and the values of the rows.
            on_tile: called after each tile with the number of pixels of each image in it.
        """
        if (once := self._once) is not None:  # each turned image as a whole, so that tiles and their seams turn, too
            output = averaged(lambda turned: once(turned, sigma, lambda pixels: on_tile(pixels / COUNT)), y)
            self.is_reduced = once.is_reduced
            write(slice(0, output.shape[2]), output.shape[2], output)
            return
        given = {} if sigma is None else {'sigma': sigma}
        network, measured = self.network, None
        down, across = self.parts(y.shape)
        is_whole = len(down) == len(across) == 1
        if isinstance(network, MeasuresWhole):
            of_tiles = None if is_whole else lambda function: _mean(function, y, down, across)
            measured = network.measure(y, sigma, of_tiles)
        multiple = 1 if is_whole else _mean_padding(network)
        mean = mean_std(y).shift.to(y.dtype) if multiple > 1 else None

        def restore(part: Tensor, is_reduced: bool) -> Tensor:
            size = part.shape[-2:]
            if mean is not None:
                part = _padded(part, multiple, mean)
            with torch.autocast(y.device.type, torch.bfloat16, enabled=is_reduced):
                if isinstance(network, MeasuresWhole):
                    output = network.restore(part.contiguous(), measured, **given)
                else:
                    output = network(part.contiguous(), **given)
            ratio = output.shape[-1] // part.shape[-1]
            return output[..., : size[0] * ratio, : size[1] * ratio].to(y.dtype)

        self.is_reduced = self._is_reduced(y, restore)
        if is_whole:
            output = restore(y, self.is_reduced)
            write(slice(0, output.shape[2]), output.shape[2], output)
            on_tile(y.shape[2] * y.shape[3])
            return
        plan = self.plan(y.shape[1])
        carried: Tensor | None = None  # rows to be blended with the next tiles
        for row in down:
            band, carried_rows = None, 0 if carried is None else carried.shape[2]
            for column in across:
                output = restore(y[:, :, row.seen, column.seen], self.is_reduced)
                ratio = output.shape[-1] // _length(column.seen)
                if band is None:
                    height, width = _length(row.mixed) * ratio, y.shape[3] * ratio
                    band = output.new_zeros(*output.shape[:2], height, width)
                    if carried is not None:
                        band[:, :, :carried_rows] = carried
                rows, columns = (_within(tile.mixed, tile.seen, ratio) for tile in (row, column))
                inner = output[:, :, rows, columns]
                weight = [_weight(tile, plan.blend, y.shape[axis], ratio) for tile, axis in ((row, 2), (column, 3))]
                if plan.blend:
                    inner = inner * (weight[0][:, None] * weight[1]).to(inner)
                band[..., column.mixed.start * ratio : column.mixed.stop * ratio] += inner
                on_tile(_length(row.core) * _length(column.core))
            assert band is not None, 'an image has columns'
            last = row.core.stop == y.shape[2]
            start = row.mixed.start * ratio
            end = (row.core.stop if last else row.core.stop - plan.blend) * ratio
            write(slice(start, end), y.shape[2] * ratio, band[:, :, : end - start])
            carried = band[:, :, end - start :].clone()

    def _is_reduced(self, y: Tensor, restore: Callable[[Tensor, bool], Tensor]) -> bool:
        """Whether y is computed in bfloat16. ``auto``: if it is large, and a sample of it loses less than 0.01 dB.

        That is a squared difference of at most ``ROUNDING`` of the squared error, which Stein's unbiased risk estimate
        tells (Ramani, Blu and Unser, IEEE TIP 2008), for white noise of the level that is in the sample.
        """
        if self.precision != 'auto':
            return self.precision == 'bf16'
        if max(y.shape[-2:]) <= self.tile or y.dtype != torch.float32 or not has_bf16(y.device.type):
            return False
        step = grid(self.network)
        top, left = (max(0, side - SAMPLE) // 2 // step * step for side in y.shape[-2:])
        sample = y[:, :, top : top + _up(SAMPLE, step), left : left + _up(SAMPLE, step)]
        expected, output = restore(sample, False), restore(sample, True)
        if expected.shape != sample.shape:
            return False
        level = noise_level(sample)
        direction = torch.randn(sample.shape, generator=torch.Generator().manual_seed(0)).to(sample)
        change = restore(sample + STEP * level * direction, False) - expected
        risk = (expected - sample).square() - level.square() + 2 / STEP * level * direction * change
        return bool((output - expected).square().mean() <= ROUNDING * risk.mean())


def make_plan(network: nn.Module, tile: int, overlap: int | None, channels: int, sigma: float | None) -> Plan:
    """How images with this number of channels are cut for ``network``; other arguments as for ``Tiled``."""
    step = grid(network)
    tile = max(tile // step, 1 if overlap is not None else 3) * step
    limit = tile // 4 if overlap is None else _up(overlap, step)
    distance = receptive_radius(network, channels, limit, sigma)
    if overlap is None:
        overlap = tile // 8 if distance is None else distance
    overlap = min(_up(overlap, step), (tile - step) // 2 // step * step)
    core = tile - 2 * overlap
    exact = distance is not None and distance <= overlap
    return Plan(core, overlap, 0 if exact else min(overlap, core // 2) // 2, step, exact)


def _cut(length: int, plan: Plan, count: int | None = None) -> list[Tile]:
    """Cut an axis of ``length`` pixels into ``count`` tiles of about equal size; None: as few as the plan allows."""
    count = count or -(-length // plan.core)
    core = _up(-(-length // count), plan.step)
    tiles = []
    for start in range(0, length, core):
        stop = min(start + core, length)
        seen = slice(max(0, start - plan.overlap), min(length, stop + plan.overlap))
        mixed = slice(max(0, start - plan.blend), min(length, stop + plan.blend))
        tiles.append(Tile(seen, slice(start, stop), mixed))
    return tiles


def _weight(tile: Tile, blend: int, length: int, ratio: int) -> Tensor:
    """The weights of a tile in blending, with ramps where it overlaps others; those of all add up to 1 everywhere."""
    position = (torch.arange(tile.mixed.start * ratio, tile.mixed.stop * ratio, dtype=torch.float64) + 0.5) / ratio
    weight = torch.ones_like(position)
    if blend and tile.core.start > 0:
        weight = weight * ((position - tile.core.start) / (2 * blend) + 0.5).clamp(0, 1)
    if blend and tile.core.stop < length:
        weight = weight * ((tile.core.stop - position) / (2 * blend) + 0.5).clamp(0, 1)
    return weight


def _mean(function: Network, y: Tensor, down: list[Tile], across: list[Tile]) -> Tensor:
    """The mean of ``function(y)`` over C, H and W, computed tile by tile, (N, 1, 1, 1)."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for row, column in product(down, across):
        output = function(y[:, :, row.seen, column.seen].contiguous())
        part = output[:, :, _within(row.core, row.seen), _within(column.core, column.seen)]
        total = total + in_float64(part).sum(dim=(1, 2, 3), keepdim=True)
        count += part[0].numel()
    return (total / count).to(output)


def _mean_padding(network: nn.Module) -> int:
    """The multiple to which a network pads sizes with the mean of its input; 1 if it does not."""
    multiples: list[Any] = [module.pad_to for module in network.modules() if getattr(module, 'pads_with_mean', False)]
    return max(map(int, multiples), default=1)


def _padded(part: Tensor, multiple: int, mean: Tensor) -> Tensor:
    """``part`` (N, C, H, W), padded on the right and bottom with ``mean``; only the last tiles need this."""
    n, channels, height, width = part.shape
    if height % multiple == width % multiple == 0:
        return part
    filled = mean.expand(n, channels, _up(height, multiple), _up(width, multiple)).clone()
    filled[:, :, :height, :width] = part
    return filled


def _within(part: slice, seen: slice, ratio: int = 1) -> slice:
    return slice((part.start - seen.start) * ratio, (part.stop - seen.start) * ratio)


def _length(part: slice) -> int:
    return part.stop - part.start


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
