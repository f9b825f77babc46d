"""Time the training loader: ``python scripts/bench_loader.py [--rounds 10] [--json FILE]``.

The training loader, from the store to float batches: BasicSR's parts against this package's, in one process.

All deliver the same: batches of gray crops on [0, 1], each crop from a random place, flipped and turned. They take
turns, and the result is the ratio to the first one within a round. The images are generated, with the falling spectrum
and the grain of photographs, so that their PNGs are as hard to decode.
"""

import argparse
import json
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

import ne_basicsr  # noqa: F401 - first, so that basicsr imports

# isort: split
from basicsr.data import build_dataloader, build_dataset
from basicsr.data.transforms import augment, paired_random_crop
from basicsr.utils import FileClient, imfrombytes, img2tensor
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from ne_basicsr.data.batch import SampleStream, as_float
from ne_basicsr.data.image_store import RAW_FILE, LmdbStore
from ne_basicsr.data.prepare import Recipe, prepare
from ne_basicsr.evaluation.bench.table import median_interval
from ne_basicsr.ops.noise import TrainingNoise, seed_of

FIRST = 'BasicSR, PNG in LMDB'
Batches = Iterator[Tensor]


class Shape(NamedTuple):
    """Images of ``size`` x ``size``, and batches of ``batch`` crops of ``crop`` x ``crop``."""

    images: int = 64
    size: int = 480
    batch: int = 128
    crop: int = 70


class Loader(NamedTuple):
    """A loader to time: endless batches (N, 1, S, S), and the number of them in a round."""

    name: str
    batches: Batches
    per_round: int


class BasicSRCrops(Dataset[dict[str, Tensor]]):
    """One gray image as in BasicSR's data sets: its file client, decoder, crop, augmentation and conversion.

    Its ``PairedImageDataset`` does this for two images, in colour.
    """

    def __init__(self, path: Path, crop: int) -> None:
        self.names, self.crop = LmdbStore(path).names, crop
        self.client = FileClient('lmdb', db_paths=[str(path)], client_keys=['gt'])

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image = imfrombytes(self.client.get(self.names[index], 'gt'), flag='grayscale', float32=True)[..., None]
        crop, _ = paired_random_crop(image, image, self.crop, 1, self.names[index])
        return {'gt': img2tensor(augment(crop, hflip=True, rotation=True), bgr2rgb=False, float32=True)}


def measure_loaders(
    shape: Shape = Shape(),  # noqa: B008 - immutable
    rounds: int = 10,
    slow_batches: int = 2,
    fast_batches: int = 100,
    on_turn: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Patches per second of each loader in each round, one thread.

    Args:
        slow_batches, fast_batches: in a round, with and without decoding PNGs.

    Returns:
        ``shape``, ``machine``, ``patches_per_s`` by loader (a list over rounds), ``png_bytes`` of an image.
    """
    with tempfile.TemporaryDirectory() as folder, _one_thread():
        stores = _make_stores(Path(folder), shape)
        loaders = list(_loaders(stores, shape, slow_batches, fast_batches))
        rates: dict[str, list[float]] = {loader.name: [] for loader in loaders}
        for loader in loaders:
            next(loader.batches)  # opens files, fills the system's cache
        for number in range(rounds):
            for loader in loaders if number % 2 == 0 else loaders[::-1]:
                start = time.perf_counter()
                for _ in range(loader.per_round):
                    next(loader.batches)
                rates[loader.name].append(loader.per_round * shape.batch / (time.perf_counter() - start))
                on_turn()
        png = LmdbStore(stores['lmdb'])
        png_bytes = sum(len(png.read(name)) for name in png.names) / len(png.names)
    machine = {'processor': platform.processor() or platform.machine(), 'torch': torch.__version__}
    machine |= {'numpy': np.__version__, 'opencv': cv2.__version__}
    return {'shape': shape._asdict(), 'machine': machine, 'patches_per_s': rates, 'png_bytes': round(png_bytes)}


def loader_table(report: Mapping[str, Any]) -> str:
    """The report for a terminal."""
    shape, rates = Shape(**report['shape']), report['patches_per_s']
    bits, patch = 8 * report['png_bytes'] / shape.size**2, shape.crop**2
    lines = [
        f'{shape.images} gray images {shape.size}x{shape.size}, PNG {bits:.2f} bits a pixel;'
        f' batches of {shape.batch} crops {shape.crop}x{shape.crop}; one process, one thread',
        f'medians of {len(rates[FIRST])} rounds; ratio: to the first in the round; MB/s: of 8-bit pixels in the crops',
        '',
        f'{"":<44} {"patches/s":>11} {"us/patch":>9} {"ratio":>8} {"95% interval":>15} {"MB/s":>8}',
    ]
    for name, own in rates.items():
        rate = float(np.median(own))
        ratio = median_interval([b / a for a, b in zip(rates[FIRST], own, strict=True)])
        interval = f'{ratio.low:.4g}-{ratio.high:.4g}'
        numbers = f'{rate:>11,.0f} {1e6 / rate:>9.2f} {ratio.median:>8.4g} {interval:>15} {rate * patch / 1e6:>8.4g}'
        lines.append(f'{name:<44} {numbers}')
    return '\n'.join(lines)


def as_json(report: Mapping[str, Any]) -> str:
    """The report of this script, or of ``bench_trainer``, with every round."""
    return json.dumps(report, indent=2, allow_nan=False) + '\n'


def photograph(size: int, seed: int) -> NDArray[np.uint8]:
    """Noise whose spectrum falls with the frequency, as that of photographs, with a little grain."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) / np.maximum(frequency, 1 / size) ** 1.5
    image = np.fft.irfft2(spectrum, (size, size))
    image = 128 + 45 * (image - image.mean()) / image.std() + 2 * rng.standard_normal((size, size))
    return image.clip(0, 255).round().astype(np.uint8)


def _make_stores(folder: Path, shape: Shape) -> dict[str, Path]:
    images = folder / 'images'
    images.mkdir()
    for number in range(shape.images):
        cv2.imwrite(str(images / f'{number:04d}.png'), photograph(shape.size, number))
    stores = {'lmdb': folder / 'png.lmdb', 'raw': folder / 'pixels.raw', 'basicsr': folder / 'basicsr.lmdb'}
    prepare([images], stores['lmdb'], Recipe('png'))
    shutil.copytree(stores['lmdb'], stores['basicsr'])  # a process opens an LMDB once only
    prepare([images], stores['raw'], Recipe('raw'))
    return stores


def _loaders(stores: Mapping[str, Path], shape: Shape, slow: int, fast: int) -> Iterator[Loader]:
    options = {'phase': 'train', 'batch_size_per_gpu': shape.batch, 'num_worker_per_gpu': 0, 'gt_size': shape.crop}

    def basicsr() -> Batches:
        dataset = BasicSRCrops(stores['basicsr'], shape.crop)
        loader = build_dataloader(dataset, options, num_gpu=0, sampler=SampleStream(dataset, ratio=100), seed=0)
        return (batch['gt'] for batch in loader)

    def ours(backend: str, noise: TrainingNoise | None = None) -> Batches:
        where = {'dataroot_gt': str(stores[backend]), 'io_backend': {'type': backend}}
        dataset = build_dataset(options | where | {'name': backend, 'type': 'DenoisingDataset'})
        for batch in build_dataloader(dataset, options, num_gpu=0, sampler=SampleStream(dataset, ratio=100), seed=0):
            clean = as_float(batch, 'cpu')['gt']
            yield clean if noise is None else noise.add(clean, [seed_of(0, n) for n in batch['number'].tolist()])

    def copies() -> Batches:
        source = np.fromfile(stores['raw'] / RAW_FILE, np.uint8)
        length = shape.batch * shape.crop**2
        while True:
            for start in range(0, source.size - length + 1, length):
                crops = source[start : start + length].copy()
                yield torch.from_numpy(crops).view(shape.batch, 1, shape.crop, shape.crop)

    yield Loader(FIRST, basicsr(), slow)
    yield Loader('DenoisingDataset, PNG in LMDB', ours('lmdb'), slow)
    yield Loader('DenoisingDataset, raw', ours('raw'), fast)
    noise = TrainingNoise('gaussian', 'constant', (0.1,))
    yield Loader('the same, and Gaussian noise on this device', ours('raw', noise), slow)
    yield Loader('floor: copying as many bytes in one piece', copies(), 10 * fast)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads, cv_threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv_threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=10, help='(default: 10)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all rates, too')
    arguments = parser.parse_args()
    with tqdm(unit='turn', disable=None, leave=False) as bar:
        report = measure_loaders(rounds=arguments.rounds, on_turn=bar.update)
    print(loader_table(report))
    if arguments.json:
        arguments.json.write_text(as_json(report), encoding='utf-8')


if __name__ == '__main__':
    main()
