"""Networks of the user's own, and data sets, losses, metrics and models: modules that register them with BasicSR.

Their code runs only if the user asks for it: by ``--import`` on the command line, ``import:`` in an option file that is
passed, ``imports=`` in Python, or an installed package with an entry point of the group ``ne_basicsr.networks``.
Checkpoints record what to import, as text that messages show.
"""

import importlib
import importlib.util
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY

from ne_basicsr.utils.errors import InputError, first_line
from ne_basicsr.utils.words import similar_path

GROUP = 'ne_basicsr.networks'
IMPORTS = 'import'  # key of option files and of the metadata of checkpoints
_REGISTRIES = (ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY)
_ORIGINS: dict[str, str] = {}  # network -> the name of the file or module to import


def is_file(name: str) -> bool:
    """Whether a name to import is that of a file, ``nets.py`` or ``code/nets.py``; all others are modules."""
    return name.endswith('.py') or '/' in name or os.sep in name


def located(names: Any, folder: Path, seen_from: Path = Path()) -> Any:
    """``names`` to import whose files are relative to ``folder``, relative to another folder; what is no text stays."""
    if isinstance(names, str):
        path = folder / Path(names).expanduser()
        return os.path.relpath(path, seen_from) if is_file(names) else names
    return [located(name, folder, seen_from) for name in names] if isinstance(names, list) else names


def import_own(names: Any) -> None:
    """Import files (``my_networks.py``) and modules (``my_package.networks``) that register networks, each once.

    Args:
        names: one name or a list.

    Raises:
        InputError: for a missing file or module, one that raises, such as for a registered name that exists, and one
            that registers nothing. What it registered before the error is removed.
    """
    names = [names] if isinstance(names, str | Path) else names
    if not isinstance(names, Sequence) or not all(isinstance(name, str | Path) for name in names):
        raise InputError(f'import: a .py file, a module or a list of them is needed; got {names!r}')
    for name in map(str, names):
        _import(name, _module_of(Path(name).expanduser()) if is_file(name) else name)


def import_installed() -> None:
    """Import the modules that installed packages name in the group ``ne_basicsr.networks``; failures are warnings."""
    for entry in metadata.entry_points(group=GROUP):
        try:
            _import(entry.module, entry.module)
        except InputError as error:
            logging.getLogger('basicsr').warning(f'entry point {entry.name} of {GROUP}: {error}')


def to_import(options: Any) -> list[str]:
    """The files and modules that register the networks of a section ``network_g``, for the metadata of a checkpoint."""
    found = []
    for name in _types(options):
        arch = dict(iter(ARCH_REGISTRY)).get(name)
        module = getattr(arch, '__module__', __name__)
        is_own = module.partition('.')[0] not in ('basicsr', 'ne_basicsr', '__main__')
        found += [_ORIGINS.get(name, module)] if is_own else []
    return list(dict.fromkeys(found))


def check_imported(options: Any, recorded: Any) -> None:
    """Raise if networks of a checkpoint are not registered, and it records what to import.

    ``options`` is its ``network_g``, ``recorded`` its record, which is not trusted.
    """
    known = dict(iter(ARCH_REGISTRY))
    missing = [name for name in _types(options) if name not in known and f'{name}_basicsr' not in known]
    sources = [name for name in recorded if isinstance(name, str)] if isinstance(recorded, list) else []
    if missing and sources:
        flags = ' '.join(f'--import {source}' for source in sources)
        raise InputError(
            f'its network {missing[0]} is registered by {", ".join(sources)}: add {flags} (imports= in Python,'
            ' import: in an option file), which runs that code'
        )


def _types(options: Any) -> Iterator[str]:
    """Registered names in a section ``network_g``: those of its networks, and X for XWNE."""
    while isinstance(options, Mapping) and isinstance(name := options.get('type'), str):
        yield from dict.fromkeys([name, name.removesuffix('WNE') or name])
        options = options.get('backbone')


def _module_of(path: Path) -> str:
    """The module name of a file; its folder is added to Python's path, so that it finds modules beside it."""
    if not path.is_file():
        problem = 'is a folder; name a .py file in it' if path.is_dir() else f'no such file{similar_path(path)}'
        raise InputError(f'{path}: {problem}')
    if path.suffix != '.py' or '.' in path.stem:
        raise InputError(f'{path}: a name such as my_networks.py is needed; rename the file')
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # last: no file in it hides an installed module
    importlib.invalidate_caches()
    found = sys.modules.get(path.stem) or importlib.util.find_spec(path.stem)
    origin = getattr(found, '__file__', None) or getattr(found, 'origin', None)
    if origin is None or not os.path.exists(origin) or not path.samefile(origin):
        raise InputError(f'{path}: there is another module {path.stem} ({origin}); rename the file')
    return path.stem


def _import(name: str, module: str) -> None:
    if module in sys.modules:
        return
    before = [dict(iter(registry)) for registry in _REGISTRIES]
    try:
        importlib.import_module(module)
        if all(len(registry.keys()) == len(items) for registry, items in zip(_REGISTRIES, before, strict=True)):
            raise InputError('it registers nothing; decorate a class with @ARCH_REGISTRY.register()')
    except (Exception, SystemExit) as error:
        sys.modules.pop(module, None)
        for registry, items in zip(_REGISTRIES, before, strict=True):
            registry._obj_map = items
        raise InputError(f'{name}: {_reason(name, module, error)}') from error
    _ORIGINS.update({each: Path(name).name for each in ARCH_REGISTRY.keys() - before[0].keys()})


def _reason(name: str, module: str, error: BaseException) -> str:
    """Why an import failed, with the line of the file where it did."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and f'{module}.'.startswith(f'{error.name}.'):
        file = Path(f'{module}.py')
        return f'no such module{f"; did you mean {str(file)!r}?" if file.is_file() else "; a file ends in .py"}'
    stem, frames = module.rpartition('.')[2], traceback.extract_tb(error.__traceback__)
    line = next((frame.lineno for frame in reversed(frames) if Path(frame.filename).stem == stem), None)
    way_out = '; give it another name' if 'already registered' in str(error) else ''
    return f'{f"line {line}: " if line else ""}{type(error).__name__}: {first_line(error)}{way_out}'
