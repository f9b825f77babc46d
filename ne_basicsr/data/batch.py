"""Training batches: the order of samples, and random crops cut at once, 8 bits a pixel until they are on the device."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler
from torch.utils.data._utils.collate import default_collate_fn_map

from ne_basicsr.data.image_store import Image, ImageStore, on_unit_range
from ne_basicsr.ops.noise import seed_of
from ne_basicsr.ops.random_numbers import below, draws, fractions, permutation
from ne_basicsr.utils.errors import InputError

IMAGES = ('gt', 'lq')
BRIGHTEST = 10  # of floats: what is brighter has another range than [0, 1]

Key = int | tuple[int, int]  # an index, or an index with the number of the training sample


class Batch(dict[str, Any]):
    """A batch that ``__getitems__`` made at once, and returns in a list; torch's loader passes it on unchanged."""


# how torch is told what a loader does with a type: https://docs.pytorch.org/docs/stable/data.html, default_collate
default_collate_fn_map[Batch] = lambda batches, *, collate_fn_map=None: batches[0]


def as_float(batch: Mapping[str, Any], device: torch.device | str) -> dict[str, Any]:
    """``batch`` with its 8-bit images ``gt`` and ``lq`` (N, C, H, W) as float32 on [0, 1], on ``device``."""
    ready = dict(batch)
    for key in IMAGES:
        images = ready.get(key)
        if isinstance(images, torch.Tensor) and images.dtype == torch.uint8:  # a quarter of the bytes to transfer
            ready[key] = images.to(device, non_blocking=True).float().div_(255)
    return ready


def prefetched(batches: Iterable[Mapping[str, Any]], device: torch.device) -> Iterator[dict[str, Any]]:
    """``as_float`` of each batch, on a GPU, prepared on a stream of its own during the step before.

    BasicSR's ``CUDAPrefetcher`` moves the sample numbers as well, and frees memory that the GPU may still have to read.
    """
    stream, ready = torch.cuda.Stream(device), None
    for batch in batches:
        with torch.cuda.stream(stream):
            following = as_float(batch, device)
            for key in following.keys() - {'number'}:
                if isinstance(following[key], torch.Tensor):
                    following[key] = following[key].to(device, non_blocking=True)
        if ready is not None:
            yield ready
        current = torch.cuda.current_stream(device)
        current.wait_stream(stream)
        for value in following.values():
            if isinstance(value, torch.Tensor) and value.is_cuda:
                value.record_stream(current)
        ready = following
    if ready is not None:
        yield ready


class SampleStream(Sampler[Any]):
    """Indices of training samples, epoch after epoch without end, each epoch a new permutation.

    Sample n of the stream does not depend on the number of workers or ranks, nor on where a run resumes: rank r of W
    takes the samples n = r mod W. BasicSR's sampler restarts the workers every epoch and cannot start in the middle.

    Args:
        dataset: one with ``takes_sample_numbers`` gets (index, n) instead of the index, so that crops depend on n.
        ratio: an epoch is this many passes over the data (BasicSR's ``dataset_enlarge_ratio``).
        start: number of samples, over all ranks, that were consumed before.
    """

    def __init__(
        self, dataset: Sized, *, ratio: int = 1, rank: int = 0, world_size: int = 1, start: int = 0, seed: int = 0
    ) -> None:
        self.dataset = dataset
        self.epoch_size = len(dataset) * ratio
        self.rank, self.world_size, self.start, self.seed = rank, world_size, start, seed
        self.numbered = bool(getattr(dataset, 'takes_sample_numbers', False))

    def __iter__(self) -> Iterator[Any]:
        number = self.start + self.rank
        while True:
            epoch, position = divmod(number, self.epoch_size)
            order = permutation(seed_of(self.seed, 'order', epoch), self.epoch_size)
            indices = order[position :: self.world_size] % len(self.dataset)
            numbers = range(number, number + len(indices) * self.world_size, self.world_size)
            plain = map(int, indices)  # one by one: a list would hold the whole epoch
            yield from zip(plain, numbers, strict=True) if self.numbered else plain
            number = numbers.stop


class CropDataset(Dataset[dict[str, Any]]):
    """Images from one store, or from two stores in pairs: random crops to train on, whole images to test on.

    A crop depends on (seed, number of the sample) alone, whatever batch it is in, and has the same place and symmetry
    in both images of a pair.

    Args:
        stores: by the key of their images in an item, ``gt`` and, for pairs, ``lq``.
        items: the name of each item's image in each of the stores.
        reflect: mirror the borders of images smaller than ``gt_size`` instead of refusing them.
    """

    takes_sample_numbers = True

    def __init__(
        self,
        opt: Mapping[str, Any],
        stores: Mapping[str, ImageStore],
        items: Sequence[tuple[str, ...]],
        channels: int,
        reflect: bool,
    ) -> None:
        self.opt, self.stores, self.items, self.channels, self.reflect = opt, stores, items, channels, reflect
        self.data_range: float | None = opt.get('data_range')

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        if self.opt['phase'] == 'train':
            return {name: values[0] for name, values in as_float(self._batch([key]), 'cpu').items()}
        assert isinstance(key, int), 'only training samples have numbers'
        item: dict[str, Any] = {}
        for kind, name, image in zip(self.stores, self.items[key], self._images(key), strict=True):
            pixels = np.ascontiguousarray(self._scaled(image, kind, name).transpose(2, 0, 1))
            item |= {f'{kind}_path': name, kind: torch.from_numpy(pixels)}
        return item

    def __getitems__(self, keys: Sequence[Key]) -> list[dict[str, Any]]:
        """What torch's loader asks for: one training batch, made at once, or whole images."""
        return [self._batch(keys)] if self.opt['phase'] == 'train' else [self[key] for key in keys]

    def _batch(self, keys: Sequence[Key]) -> Batch:
        indices, numbers = zip(*(key if isinstance(key, tuple) else (key, key) for key in keys), strict=True)
        batch = Batch(number=torch.tensor(numbers))
        size = self.opt['gt_size']
        shape, dtype = (len(keys), self.channels, size, size), np.uint8 if self.data_range is None else np.float32
        crops = {kind: np.empty(shape, dtype) for kind in self.stores}
        random = fractions(draws(seed_of(self.opt.get('seed', 0), 'crop'), numbers, 3)).tolist()
        for i, (index, places) in enumerate(zip(indices, random, strict=True)):
            for kind, name, image in zip(self.stores, self.items[index], self._images(index), strict=True):
                crop = self._crop(image, *places)
                if self.data_range is not None or crop.dtype.kind == 'f':
                    crop = self._scaled(crop, kind, name)
                if crop.dtype != crops[kind].dtype:  # 16 bits or float: all of the batch becomes float32
                    crops[kind], crop = on_unit_range(crops[kind]), on_unit_range(crop)
                crops[kind][i] = crop
        for place, kind in enumerate(self.stores):
            batch[kind] = torch.from_numpy(crops[kind])
            batch[f'{kind}_path'] = [self.items[index][place] for index in indices]
        return batch

    def _images(self, index: int) -> Iterator[Image]:
        """The images (H, W, C) of an item, checked to have one size and, for training, enough pixels."""
        least = 0 if self.reflect or self.opt['phase'] != 'train' else self.opt['gt_size']
        first = None
        for store, name in zip(self.stores.values(), self.items[index], strict=True):
            image = store.pixels(name, self.channels)
            height, width = image.shape[:2]
            first = first or (height, width)
            problem = ''
            if height < least or width < least:
                way_out = 'remove it, lower gt_size, or set small_images: reflect'
                problem = f'{height}x{width} is smaller than gt_size {least}; {way_out}'
            elif first != (height, width):
                sizes = f'{first[0]}x{first[1]} and {height}x{width}'
                problem = f'the noisy and the clean image must have one size; got {sizes}'
            if problem:
                raise InputError(f'{store.root}/{name}: {problem}')
            yield image

    def _scaled(self, pixels: Image, kind: str, name: str) -> NDArray[np.float32]:
        """Pixels of an image as float32 on [0, 1], by ``data_range`` or by their type."""
        where = f'{self.stores[kind].root}/{name}'
        if self.data_range is None and pixels.dtype.kind == 'f' and pixels.max() > BRIGHTEST:
            problem = f'holds {pixels.max():g}, but white is 1 in floats'
            raise InputError(f'{where}: {problem}; say data_range, the value of white')
        return on_unit_range(pixels, self.data_range, where)

    def _crop(self, image: Image, vertical: int, horizontal: int, symmetry: int) -> Image:
        """A view (C, size, size) of ``image``, placed, flipped and turned as three of ``fractions`` say."""
        size = self.opt['gt_size']
        height, width = image.shape[:2]
        if height < size or width < size:
            image = np.pad(image, [(0, max(0, size - height)), (0, max(0, size - width)), (0, 0)], mode='reflect')
            height, width = image.shape[:2]
        top, left = below(vertical, height - size + 1), below(horizontal, width - size + 1)
        crop = image[top : top + size, left : left + size].transpose(2, 0, 1)
        if not self.opt.get('geometric_augs', True):
            return crop
        which = below(symmetry, 8)  # of the eight flips and rotations by right angles
        crop = crop.transpose(0, 2, 1) if which & 1 else crop
        return crop[:, :: -1 if which & 2 else 1, :: -1 if which & 4 else 1]
