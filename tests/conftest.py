"""Fixtures: the reference material where it is at hand, small images, and a project to run in."""

import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from packaging.version import Version

import ne_basicsr  # noqa: F401 - first, so that basicsr imports

REPOSITORY = Path(__file__).parents[1]
GOLDENS = REPOSITORY / 'tests' / 'goldens'

# one process a core (pytest-xdist): more threads, here or in the processes that tests start, only wait for each other
THREADS = 1 if 'PYTEST_XDIST_WORKER' in os.environ else 2
torch.set_num_threads(THREADS)
os.environ['OMP_NUM_THREADS'] = str(THREADS)  # of the processes that tests start: as many, for equal bits
# shells start what runs in the background with Ctrl-C ignored, and the runs that tests interrupt would inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)

# graphs.TORCH
needs_export = pytest.mark.skipif(Version(torch.__version__) < Version('2.11'), reason='exporting needs torch 2.11')


class Golden(NamedTuple):
    """A stored reference: weights, input and expected output in float64, and where they came from."""

    weights: dict[str, torch.Tensor]
    input: torch.Tensor
    output: torch.Tensor
    meta: dict[str, Any]
    args: dict[str, float]


@pytest.fixture(scope='session')
def shared() -> Path:
    """The folder of reference material beside the repository; tests that need it skip without it."""
    path = REPOSITORY.parent / 'shared'
    if not path.is_dir():
        pytest.skip('needs the reference material in ../shared')
    return path


@pytest.fixture(autouse=True, scope='session')
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests, and processes that they start, leave the user's cache folder alone."""
    os.environ['XDG_CACHE_HOME'] = str(tmp_path_factory.mktemp('cache'))


@pytest.fixture(scope='session')
def golden() -> Callable[[str], Golden]:
    """Read ``tests/goldens/<name>.npz``."""

    def read(name: str) -> Golden:
        file = np.load(GOLDENS / f'{name}.npz')
        tensors = {key: torch.from_numpy(file[key]) for key in file.files if key != 'meta'}
        weights = {k.removeprefix('weight/'): _double(v) for k, v in tensors.items() if k.startswith('weight/')}
        args = {k.removeprefix('arg/'): v.item() for k, v in tensors.items() if k.startswith('arg/')}
        meta = json.loads(str(file['meta'])) if 'meta' in file.files else {}
        return Golden(weights, _double(tensors['input']), _double(tensors['output']), meta, args)

    return read


def _double(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


@pytest.fixture(autouse=True)
def _as_at_the_start() -> None:
    """Random numbers, threads and what ``caplog`` sees do not depend on the tests before."""
    torch.manual_seed(0)
    logging.getLogger('basicsr').propagate = True  # the first run in a process switches it off
    torch.set_num_threads(THREADS)


@pytest.fixture
def device() -> Iterator[str]:
    """``cuda``, or NE_TEST_DEVICE; skips where there is none. float32 is no TF32, so that the CPU's can be compared."""
    name = os.environ.get('NE_TEST_DEVICE', 'cuda')
    if name == 'cuda' and not torch.cuda.is_available():
        pytest.skip('needs a CUDA device; NE_TEST_DEVICE=cpu runs it on the CPU')
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield name


@pytest.fixture
def cuda(device: str) -> str:
    """As ``device``, for what no CPU has: streams, pinned memory, an allocator that counts."""
    if device != 'cuda':
        pytest.skip('only CUDA has it')
    return device


@pytest.fixture
def images() -> torch.Tensor:
    """Four images (4, 1, 19, 23) in float64 that differ in mean and contrast."""
    y = torch.rand(4, 1, 19, 23, dtype=torch.float64)
    contrast = torch.tensor([1.0, 0.1, 2.0, 0.01], dtype=torch.float64).view(4, 1, 1, 1)
    offset = torch.tensor([0.0, 0.5, -3.0, 0.9], dtype=torch.float64).view(4, 1, 1, 1)
    return contrast * y + offset


def smooth_photograph(height: int, width: int, seed: int) -> np.ndarray:
    """A uint8 image with edges and texture, enough for a denoiser to learn something."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.random((height // 8 + 2, width // 8 + 2)), (width, height), interpolation=cv2.INTER_CUBIC)
    image[height // 3 : height // 2, width // 4 : width // 2] = 0.9
    return (image.clip(0, 1) * 255).astype(np.uint8)


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """A folder with six gray PNG photographs, 48x56."""
    folder = tmp_path / 'images'
    folder.mkdir()
    for index in range(6):
        cv2.imwrite(str(folder / f'photo_{index}.png'), smooth_photograph(48, 56, index))
    return folder


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, where run folders go."""
    folder = tmp_path / 'workplace'
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def _figures_of_validations(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs keep one small picture instead of the mismatch curve, whose drawing took 40% of a run in these tests.

    ``train/test_validation_results.py`` draws it, and so does every run in a process of its own.
    """
    if request.path.name == 'test_validation_results.py':
        return
    picture = np.zeros((8, 8, 3), np.uint8)

    def draw(path: Path, *_: object, **__: object) -> Callable[[], NDArray[np.uint8]]:
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture)
        return lambda: picture

    monkeypatch.setattr('ne_basicsr.train.validation_results.draw', draw)
