"""BasicSR 1.4.2 on current libraries: every workaround, with its reason and when to drop it.

``install`` puts a finder in front of ``sys.meta_path``; when ``basicsr`` is imported for the first time it

1. supplies the modules that BasicSR imports and that its dependencies have dropped, and defers slow ones,
2. lets BasicSR's own import run, with the known failures explained in one line,
3. mends BasicSR's classes (``mend``; ``models.base_model`` mends ``BaseModel``), and
4. imports this package's ``*_arch``, ``*_dataset``, ``*_model`` and ``*_loss`` files, which register themselves, and
   those of installed packages that ask for it (``archs.own_networks``).

When a room of this package that needs BasicSR is imported, the same finder imports BasicSR first. So step 4 never finds
a module half imported, whichever module comes first.
"""

import functools
import importlib
import pkgutil
import sys
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from itertools import count
from pathlib import Path
from typing import Any

BASICSR_VERSION = '1.4.2'
NOT_INSTALLED = (
    f'BasicSR is not installed: pip install -f wheels basicsr=={BASICSR_VERSION}, in a clone of ne_basicsr (only with'
    ' its folder wheels can Python 3.13 and newer install BasicSR)'
)


def install() -> None:
    """Arrange for steps 1 to 4 above; at once if BasicSR is imported already."""
    if 'basicsr' in sys.modules:
        _complete()
    elif not any(isinstance(finder, _BasicSRFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _BasicSRFinder())


_ROOMS = {
    f'ne_basicsr.{room}'
    for room in ('archs', 'data', 'evaluation', 'inference', 'metrics', 'models', 'options', 'train', 'weights')
}


class _BasicSRFinder(MetaPathFinder):
    """Finds the package ``basicsr``, and the rooms, as Python would, and wraps their loaders."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname in _ROOMS:
            importlib.import_module('basicsr')  # which imports the rooms, in an order that works
        elif fullname != 'basicsr':
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(fullname, path, target) for finder in others if hasattr(finder, 'find_spec'))
        spec = next((spec for spec in found if spec is not None), None)
        if spec is None and fullname == 'basicsr':
            raise ModuleNotFoundError(NOT_INSTALLED, name='basicsr')
        if spec is None or spec.loader is None:
            return None
        spec.loader = _OnceLoader(spec.loader)
        return spec


class _OnceLoader(Loader):
    """Loads BasicSR, and a room once: BasicSR's import, which the finder starts, may have loaded it already."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.loaded: types.ModuleType | None = None

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        return self.loaded or self.loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        if self.loaded is not None:
            return
        self.loaded = module
        if module.__name__ != 'basicsr':
            return self.loader.exec_module(module)
        if foreign := explain_foreign(Path(str(module.__file__)).parent):
            raise ImportError(foreign)
        try:
            with deferred():
                self.loader.exec_module(module)
        except (ImportError, RuntimeError, AttributeError, ValueError) as error:  # ValueError: numpy's ABI
            raise ImportError(explain_failure(error)) from error
        _complete()

    def __getattr__(self, name: str) -> Any:  # resource readers and inspectors ask the loader for more
        return getattr(self.loader, name)


def _complete() -> None:
    mend()
    for package in ('archs', 'weights', 'data', 'losses', 'models'):
        folder = Path(__file__).parent / package
        for info in pkgutil.iter_modules([str(folder)]):
            if info.name.endswith(('_arch', '_dataset', '_model', '_loss')):
                importlib.import_module(f'ne_basicsr.{package}.{info.name}')
    importlib.import_module('ne_basicsr.metrics.registered_metrics')
    importlib.import_module('ne_basicsr.archs.own_networks').import_installed()


# -- missing and slow modules ------------------------------------------------------------------------------------------

_DEFERRED = {
    # torchvision 0.17 removed it (BasicSR issues 533, 663, 681). Drop when BasicSR imports from functional.
    'torchvision.transforms.functional_tensor': {'rgb_to_grayscale': 'torchvision.transforms.functional'},
    # Python 3.12 removed it; basicsr/archs/arch_util.py compares versions with it. Drop when BasicSR uses packaging.
    'distutils.version': {'LooseVersion': 'packaging.version:Version'},
    # SciPy 2.0 drops it; it serves basicsr/metrics/niqe.py
    'scipy.ndimage.filters': {'convolve': 'scipy.ndimage'},
    # the others only take long: torchvision 0.3 s, and 1.1 s more where torch has torch._dynamo imported with it
    'torchvision': {'ops': 'torchvision'},
    'torchvision.models': {'vgg': 'torchvision.models'},
    'torchvision.transforms.functional': {'normalize': 'torchvision.transforms.functional'},
    'torchvision.utils': {'make_grid': 'torchvision.utils'},
    'scipy.special': {'j1': 'scipy.special', 'gamma': 'scipy.special'},
    'scipy.stats': {'multivariate_normal': 'scipy.stats'},
}
"""Modules that BasicSR imports and few need: what it takes from each, and where that is, under which name."""


@contextmanager
def deferred() -> Iterator[None]:
    """While BasicSR is imported, names of ``_DEFERRED`` are imported when they are used. Drop when it needs none."""
    installed = {module: _DeferredModule(module) for module in _DEFERRED if module not in sys.modules}
    sys.modules.update(installed)
    try:
        yield
    finally:
        for module, stand_in in installed.items():
            if sys.modules.get(module) is stand_in:
                del sys.modules[module]


class _DeferredModule(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name in _DEFERRED[self.__name__]:
            module, _, other = _DEFERRED[self.__name__][name].partition(':')
            return _DeferredName(module, other or name)
        if name == '__version__':
            return installed_version(self.__name__)
        if name.startswith('__'):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:  # somebody else needs the module
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


class _DeferredName:
    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._found()(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        return getattr(self._found(), name)

    def _found(self) -> Any:
        try:
            return getattr(importlib.import_module(self.module), self.name)
        except (ImportError, RuntimeError) as error:
            raise ImportError(explain_failure(error)) from error


def mend() -> None:
    """Replace the parts of BasicSR that fail on current libraries, on CPUs, or when a run is killed."""
    import multiprocessing

    import basicsr.data
    import yaml
    from basicsr.utils import options

    # Python 3.14 starts processes on Linux by forkserver, which has to pickle data sets, and in whose processes threads
    # of libraries receive the signals that workers hold back below. A method that the program has set stays.
    # Drop when torch's loaders choose a method for themselves.
    is_unset = multiprocessing.get_start_method(allow_none=True) is None
    if is_unset and sys.platform == 'linux' and multiprocessing.get_all_start_methods()[0] != 'fork':
        multiprocessing.set_start_method('fork')
    _mend_registry()
    # parse_options reads option files with yaml's unsafe loader: a file can run code (BasicSR issue 768). The command
    # line of this package does not use it; scripts that call BasicSR's own train_pipeline do. Drop when it is safe.
    options.ordered_yaml = lambda: (yaml.SafeLoader, yaml.SafeDumper)
    # Workers get the same numpy and random seeds every epoch, so crops repeat. torch's own worker seed changes with the
    # epoch. Drop when BasicSR derives its seeds from torch.initial_seed().
    basicsr.data.worker_init_fn = _worker_init_fn
    _mend_prefetch()
    _mend_archive()
    _mend_sizes()
    # SwinIR calls torch.meshgrid without indexing, and torch warns of it whenever a network is built; torch names its
    # own file, so the message alone tells. Drop when basicsr/archs/swinir_arch.py passes indexing.
    warnings.filterwarnings('ignore', 'torch.meshgrid: in an upcoming release', UserWarning)


def _mend_registry() -> None:
    # Registry.get prints "Name X is not found, use name: X_basicsr!" before it fails. Drop when it lists names.
    from basicsr.utils.registry import Registry

    from ne_basicsr.utils.words import hint

    def get(self: Any, name: str, suffix: str = 'basicsr') -> Any:
        for key in (name, f'{name}_{suffix}'):
            if key in self._obj_map:
                return self._obj_map[key]
        raise KeyError(f"No object named '{name}' found in '{self._name}' registry; {hint(name, self._obj_map)}")

    Registry.get = get


def _worker_init_fn(worker_id: int, num_workers: int, rank: int, seed: int) -> None:
    import random

    import numpy as np
    import torch

    state = np.random.SeedSequence([torch.initial_seed(), num_workers, rank, seed]).generate_state(2)
    np.random.seed(state[0])  # noqa: NPY002 - BasicSR's data sets draw from numpy's global generator
    random.seed(int(state[1]))
    _outlive_signals()


def _outlive_signals() -> None:
    # Terminals and schedulers send SIGINT and SIGTERM to all processes. The trainer saves and stops then, and its
    # current iteration needs its data, so workers ignore them. SIGTERM from the trainer itself, which ends its workers
    # so when it exits, does end them; only sigwaitinfo (Linux) tells the sender. Drop when torch's workers do so.
    # Workers must be forked, as torch's are: in a new process, threads of libraries would receive SIGTERM.
    import multiprocessing
    import os
    import signal
    import threading

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, 'sigwaitinfo'):
        return
    parent = multiprocessing.parent_process()  # under forkserver it is not who forked
    trainer = parent.pid if parent else os.getppid()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def end_with_trainer() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != trainer:
            pass
        os._exit(0)

    threading.Thread(target=end_with_trainer, daemon=True).start()


def _mend_prefetch() -> None:
    # An error in the loader ends PrefetchGenerator's thread, and its consumer waits for ever.
    # Drop when BasicSR passes the error on.
    from basicsr.data.prefetch_dataloader import PrefetchGenerator

    def run(self: Any) -> None:
        try:
            for item in self.generator:
                self.queue.put(item)
            self.queue.put(StopIteration())
        except BaseException as error:
            self.queue.put(error)

    def next_item(self: Any) -> Any:
        item = self.queue.get()
        if isinstance(item, BaseException):
            raise item
        return item

    PrefetchGenerator.run, PrefetchGenerator.__next__ = run, next_item


def _mend_archive() -> None:
    # An older run of the same name is renamed to <name>_archived_<second>, which fails if that name exists
    # already. Drop when BasicSR's names are unique.
    import basicsr.utils
    from basicsr.utils import misc

    def mkdir_and_rename(path: str) -> None:
        folder = Path(path)
        if folder.exists():
            stamp = f'{folder}_archived_{misc.get_time_str()}'
            names = (stamp if number == 1 else f'{stamp}_{number}' for number in count(1))
            target = next(name for name in names if not Path(name).exists())
            print(f'Path already exists. Rename it to {target}', flush=True)
            folder.rename(target)
        folder.mkdir(parents=True)

    misc.mkdir_and_rename = basicsr.utils.mkdir_and_rename = mkdir_and_rename


def _mend_sizes() -> None:
    # SwinIR fails on sizes that are no multiple of its window, and leaves padding to SwinIRModel, which reads the
    # window from the option file. Drop when the class says what it needs.
    # RRDBNet folds pixels into channels below scale 4.
    from basicsr.archs.rrdbnet_arch import RRDBNet
    from basicsr.archs.swinir_arch import SwinIR

    def facts_of_swinir(options: Mapping[str, Any]) -> dict[str, int]:
        sides = options['img_size'] if isinstance(options['img_size'], Sequence) else [options['img_size']]
        # a window is no larger than the image of the training; without an upsampler, upscale is not read
        multiple = min(options['window_size'], *sides)
        return {'size_multiple': multiple, 'scale': options['upscale'] if options['upsampler'] else 1}

    RRDBNet.size_multiple = property(lambda self: {1: 4, 2: 2}.get(self.scale, 1))
    RRDBNet.facts_from = staticmethod(lambda options: {'size_multiple': {1: 4, 2: 2}.get(options['scale'], 1)})
    SwinIR.size_multiple = property(lambda self: self.layers[0].residual_group.blocks[0].window_size)
    SwinIR.facts_from = staticmethod(facts_of_swinir)


# -- explanations of failures ------------------------------------------------------------------------------------------


def explain_foreign(folder: Path) -> str | None:
    """Why the package in ``folder`` is not the BasicSR that this plugin extends; None if it is."""
    if (folder / 'archs' / 'swinir_arch.py').is_file() and (folder / 'utils' / 'registry.py').is_file():
        return None
    others = 'Restormer, NAFNet and others ship a different one under the same name'
    way_out = f'run from another folder, or uninstall it and install basicsr=={BASICSR_VERSION}'
    return f'the package imported as basicsr is {folder}, not BasicSR {BASICSR_VERSION} ({others}): {way_out}'


def explain_failure(error: BaseException) -> str:
    """One line for the known ways in which importing BasicSR fails, with the way out."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if 'torchvision::' in text or ('torchvision' in text and 'C.so' in text):
        torch, torchvision = (installed_version(name) for name in ('torch', 'torchvision'))
        reason = (
            'its compiled part was built for another torch; install both from the same package index, in one command'
        )
        return f'torchvision {torchvision} does not match torch {torch} ({text}): {reason}'
    if 'libGL' in text:
        return f'OpenCV needs a system library ({text}): install libgl1, or opencv-python-headless'
    return f'importing BasicSR failed: {text}'


@functools.cache
def installed_version(name: str) -> str | None:
    """The version of an installed distribution, None if it is not installed; imports nothing."""
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
