"""Checkpoints: written whole or not at all, read without running code, and loaded with a reason where they do not fit.

A file holds BasicSR's ``params`` (and ``params_ema``), and under ``ne_basicsr`` what is needed to use it alone: the
network's options, the training noise and the version.
"""

import logging
import os
import pickle
import re
import shlex
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import ne_basicsr
from ne_basicsr import layouts
from ne_basicsr.errors import InputError
from ne_basicsr.layouts import Layout, some

StateDict = dict[str, Tensor]
METADATA = 'ne_basicsr'
# where toolboxes keep weights, the first that is there
CONTAINERS = ('params', 'params_ema', 'state_dict', 'model_state', 'model_state_dict', 'model', 'net')
# classes that hold values and do nothing: what the message about a refused file offers to allow
HARMLESS = ('argparse.Namespace', 'types.SimpleNamespace')
# buffers that a network computes from its options: its own are as good, and fit
COMPUTED = ('attn_mask', 'relative_position_index')


def write(path: Path, content: Any) -> None:
    """Save ``content`` to ``path`` so that the file is complete or absent whenever the process, or the machine, dies.

    Raises:
        OSError: where the disk is full or not writable; an older file of that name stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.', suffix='.part')
    try:
        with os.fdopen(handle, 'wb') as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files private
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read(path: Path | str, allow: Sequence[type] = ()) -> Any:
    """The content of a checkpoint on the CPU, tensors and plain containers only (``weights_only``).

    Args:
        allow: further classes that the file may hold, such as ``argparse.Namespace``.

    Raises:
        InputError: for a file that is missing, not a checkpoint, cut short, or that needs code to be read.
    """
    if functions := [each for each in allow if not isinstance(each, type)]:
        raise ValueError(f'allow takes classes, such as argparse.Namespace; got {functions[0]!r}.')
    if not Path(path).is_file():
        raise InputError(f'{path}: no such checkpoint file')
    try:
        with torch.serialization.safe_globals(
            [Counter, *allow]
        ):  # Counter: the milestones of BasicSR's MultiStepRestartLR
            return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f'{path}: not readable as weights alone: {_explain_refusal(path, error)}') from error
    except (
        Exception
    ) as error:  # a damaged file can fail anywhere in the reader: IndexError, EOFError, RuntimeError, ...
        raise InputError(f'{path}: not a complete checkpoint file ({_first_line(error)})') from error


def extract(source: Path | str, target: Path | str, allow: Sequence[type] = ()) -> None:
    """Write the weights of ``source``, without anything else, to ``target``, which can be read without ``allow``."""
    weights, _ = select_weights(read(source, allow))
    write(Path(target), {'params': weights})


def save_network(path: Path, networks: Mapping[str, nn.Module], options: Mapping[str, Any]) -> None:
    """Write networks under their keys (``params``, ``params_ema``), with what is needed to use the file alone."""
    content: dict[str, Any] = {key: _state_on_cpu(network) for key, network in networks.items()}
    train_set = options.get('datasets', {}).get('train', {})
    content[METADATA] = {
        'version': ne_basicsr.__version__,
        'network_g': _plain(options.get('network_g')),
        'noise': _plain({key: train_set[key] for key in ('noise', 'sigma_type', 'sigma_range') if key in train_set}),
        'scale': options.get('scale', 1),
    }
    write(path, content)


def load_network(
    network: nn.Module,
    path: Path | str,
    *,
    strict: bool = True,
    param_key: str | None = 'params',
    allow: Sequence[type] = (),
) -> None:
    """Load a checkpoint into ``network``, converted where its layout is another one.

    Args:
        path: a checkpoint of BasicSR, a bare state dict, or any file whose layout is known (``ne_basicsr.layouts``).
        strict: whether keys and shapes must agree; where not, what agrees is loaded and the rest is logged.
        param_key: which weights of a BasicSR checkpoint; ``params`` where the key is not in the file.
        allow: as for ``read``.

    Raises:
        InputError: for an unreadable file, or with ``strict``, weights that do not fit or are not finite, with the
            likely cause.
    """
    logger = logging.getLogger('basicsr')
    content = read(path, allow)
    weights, key = select_weights(content, param_key)
    logger.info(f'Loading {type(network).__name__} from {path}, {f"key {key}" if key else "a bare state dict"}.')
    fitted = fit(network, weights)
    layout = _recognise(weights, key)
    if layout and explain_misfit(network, fitted):
        fitted = fit(network, layout.weights)
        logger.info(f'Recognised {layout}.')
    if misfit := explain_misfit(network, fitted, layout) or explain_values(fitted):
        if strict:
            raise InputError(f'{path}: {misfit}')
        logger.warning(f'{path}: {misfit}; loading what agrees')
        own = network.state_dict()
        fitted = {k: v for k, v in fitted.items() if k in own and own[k].shape == v.shape}
    network.load_state_dict(fitted, strict=strict)


def select_weights(content: Any, param_key: str | None = 'params') -> tuple[StateDict, str | None]:
    """The state dict in a checkpoint's content, without ``module.`` prefixes, and the key that it was under.

    Raises:
        InputError: where there is none.
    """
    if not isinstance(content, Mapping):
        raise InputError(f'a checkpoint must hold a mapping of weights; this one holds a {type(content).__name__}')
    for key in (param_key, *CONTAINERS):
        held = content.get(key)
        if isinstance(held, list) and len(held) == 1:  # Mohan et al. keep a list of networks
            held = held[0]
        if isinstance(held, Mapping):
            return _strip_module(held), key
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return _strip_module(content), None
    raise InputError(f'no weights found among the keys {", ".join(map(str, list(content)[:8]))}')


def fit(network: nn.Module, weights: StateDict) -> StateDict:
    """``weights`` for ``network``: below ``backbone.`` if it is wrapped and they are not, with its computed buffers."""
    own = network.state_dict()
    if own and all(key.startswith('backbone.') for key in own) and not any(key in own for key in weights):
        logging.getLogger('basicsr').info(
            'These are weights of the bare backbone; they go to backbone.* and were trained without the wrapper, which'
            ' moves images into a range that they do not know: train on, or use target: {mean: 0.45, scale: 0.25}'
        )
        weights = {f'backbone.{name}': value for name, value in weights.items()}
    computed = {key: value for key, value in own.items() if key.endswith(COMPUTED)}
    kept = {key: value for key, value in weights.items() if key in computed or not key.endswith(COMPUTED)}
    return kept | computed


def explain_misfit(network: nn.Module, weights: StateDict, layout: Layout | None = None) -> str | None:
    """One line on how ``weights`` differ from the network's in keys and shapes, with the likely cause; None if not.

    Args:
        layout: what the weights were recognised as, where they were.
    """
    own = network.state_dict()
    missing, unexpected = ([k for k in a if k not in b] for a, b in ((own, weights), (weights, own)))
    resized = [k for k in own if k in weights and own[k].shape != weights[k].shape]
    if not (missing or unexpected or resized):
        return None
    parts = [f'the weights do not fit {type(network).__name__}']
    if layout and (difference := _explain_options(network, layout)):
        parts.append(difference)
    for what, keys in (('missing', missing), ('unexpected', unexpected)):
        if keys:
            parts.append(f'{len(keys)} {what} ({some(keys)})')
    if resized:
        key = resized[0]
        shapes = f'{key} is {tuple(weights[key].shape)} in the file, {tuple(own[key].shape)} in the network'
        parts.append(f'{len(resized)} of another shape ({shapes})')
    if (
        unexpected
        and all(k.startswith('backbone.') for k in weights)
        and not any(k.startswith('backbone.') for k in own)
    ):
        parts.append('they belong to a wrapped network: use its type, such as DnCNNWNE')
    return '; '.join(parts)


def explain_values(weights: StateDict) -> str | None:
    """One line where weights are NaN or infinite; None if not. Masks may be infinite."""
    broken = [k for k, v in weights.items() if v.is_floating_point() and 'mask' not in k and not v.isfinite().all()]
    if not broken:
        return None
    return f'{len(broken)} of its {len(weights)} tensors hold NaN or infinity ({some(broken)}): the training diverged'


def last_complete_state(states: Path, models: Path, labels: list[str]) -> Path | None:
    """The newest training state that can be read and whose networks ``<label>_<iter>.pth`` can be, too."""
    candidates = sorted(((int(p.stem), p) for p in states.glob('*.state') if p.stem.isdigit()), reverse=True)
    for iteration, path in candidates:
        try:
            for file in (path, *(models / f'{label}_{iteration}.pth' for label in labels)):
                read(file)
        except InputError as error:
            logging.getLogger('basicsr').warning(f'Skipping an unusable checkpoint: {error}')
            continue
        return path
    return None


def _recognise(weights: StateDict, key: str | None) -> Layout | None:
    try:
        return layouts.recognise(weights, key)
    except InputError:  # a network of the user's own may look like a known one
        return None


def _explain_options(network: nn.Module, layout: Layout) -> str | None:
    """How the network that the file holds differs from ``network``, as far as keys and shapes tell."""
    asked = _recognise(network.state_dict(), None)
    held, own = (each and each.options.get('backbone', each.options) for each in (layout, asked))
    if not held or not own or held['type'] != own['type']:
        return f'the file holds {layouts.describe(layout.options)}'
    differing = {key: held[key] for key in held if key == 'type' or held[key] != own.get(key)}
    if len(differing) == 1:
        return None
    wanted = layouts.describe({key: own.get(key) for key in differing})
    return f'the file holds {layouts.describe(differing)}, the network asked for is {wanted}'


def _explain_refusal(path: Path | str, error: Exception) -> str:
    if not (found := re.search(r'GLOBAL ([\w.]+)', str(error))):
        return _first_line(error)
    name, target = found[1], Path(path).with_suffix('.weights.pth')
    if name not in HARMLESS:
        return f'it asks for {name}, and reading that may run code: ask its author for the weights alone'
    code = (
        f'import {name.split(".")[0]}; from ne_basicsr import checkpoint;'
        f' checkpoint.extract({str(path)!r}, {str(target)!r}, allow=[{name}])'
    )
    return (
        f'it holds {name}, which is harmless but not a weight; ne_basicsr.load(path, allow=[{name}]) allows just that'
        f' class, and for option files and the command line this writes {target}, once: python -c {shlex.quote(code)}'
    )


def _state_on_cpu(network: nn.Module) -> StateDict:
    return {key: value.detach().cpu() for key, value in network.state_dict().items()}


def _strip_module(weights: Mapping[str, Tensor]) -> StateDict:
    return {key.removeprefix('_orig_mod.').removeprefix('module.'): value for key, value in weights.items()}


def _plain(value: Any) -> Any:
    """Mappings and sequences as dict and list, so that a weights-only load can read them."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _first_line(text: object) -> str:
    return next(iter(str(text).strip().splitlines()), type(text).__name__)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _sync_folder(folder: Path) -> None:
    if os.name == 'posix':
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
