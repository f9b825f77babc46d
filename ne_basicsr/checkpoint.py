"""Checkpoints: written whole or not at all, read without running code, and loaded with a reason where they do not fit.

A file holds BasicSR's ``params`` (and ``params_ema``), and under ``ne_basicsr`` what is needed to use it alone: the
network's options, the training noise and the version.
"""

import logging
import os
import pickle
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import ne_basicsr
from ne_basicsr.errors import InputError

StateDict = dict[str, Tensor]
METADATA = 'ne_basicsr'


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


def read(path: Path | str) -> Any:
    """The content of a checkpoint on the CPU, tensors and plain containers only (``weights_only``).

    Raises:
        InputError: for a file that is missing, not a checkpoint, cut short, or that needs code to be read.
    """
    if not Path(path).is_file():
        raise InputError(f'{path}: no such checkpoint file')
    try:
        with torch.serialization.safe_globals([Counter]):  # the milestones of BasicSR's MultiStepRestartLR
            return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        reason = next((line for line in str(error).splitlines() if 'GLOBAL' in line or 'global' in line), str(error))
        raise InputError(f'{path}: not readable as weights alone: {_first_line(reason)}') from error
    except (
        Exception
    ) as error:  # a damaged file can fail anywhere in the reader: IndexError, EOFError, RuntimeError, ...
        raise InputError(f'{path}: not a complete checkpoint file ({_first_line(error)})') from error


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
    network: nn.Module, path: Path | str, *, strict: bool = True, param_key: str | None = 'params'
) -> None:
    """Load a checkpoint into ``network``.

    Args:
        path: a BasicSR checkpoint, or a bare state dict.
        strict: whether keys and shapes must agree; where not, what agrees is loaded and the rest is logged.
        param_key: which weights of a BasicSR checkpoint; ``params`` where the key is not in the file.

    Raises:
        InputError: for an unreadable file, or with ``strict``, weights that do not fit, with the likely cause.
    """
    logger = logging.getLogger('basicsr')
    weights, key = select_weights(read(path), param_key)
    logger.info(f'Loading {type(network).__name__} from {path}, {f"key {key}" if key else "a bare state dict"}.')
    if _is_plain_backbone(network, weights):
        logger.info('These are weights of the bare backbone; they go to backbone.*')
        weights = {f'backbone.{name}': value for name, value in weights.items()}
    if misfit := explain_misfit(network, weights):
        if strict:
            raise InputError(f'{path}: {misfit}')
        logger.warning(f'{path}: {misfit}; loading what agrees')
        own = network.state_dict()
        weights = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
    network.load_state_dict(weights, strict=strict)


def select_weights(content: Any, param_key: str | None = 'params') -> tuple[StateDict, str | None]:
    """The state dict in a checkpoint's content, without ``module.`` prefixes, and the key that it was under.

    Raises:
        InputError: where there is none.
    """
    if not isinstance(content, Mapping):
        raise InputError(f'a checkpoint must hold a mapping of weights; this one holds a {type(content).__name__}')
    for key in (param_key, 'params', 'params_ema', 'state_dict'):
        if key in content and isinstance(content[key], Mapping):
            return _strip_module(content[key]), key
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return _strip_module(content), None
    raise InputError(f'no weights found among the keys {", ".join(map(str, list(content)[:8]))}')


def explain_misfit(network: nn.Module, weights: StateDict) -> str | None:
    """One line on how ``weights`` differ from the network's in keys and shapes, with the likely cause; None if not."""
    own = network.state_dict()
    missing, unexpected = ([k for k in a if k not in b] for a, b in ((own, weights), (weights, own)))
    resized = [k for k in own if k in weights and own[k].shape != weights[k].shape]
    if not (missing or unexpected or resized):
        return None
    parts = [f'the weights do not fit {type(network).__name__}']
    for what, keys in (('missing', missing), ('unexpected', unexpected)):
        if keys:
            parts.append(f'{len(keys)} {what} ({_some(keys)})')
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


def _is_plain_backbone(network: nn.Module, weights: StateDict) -> bool:
    own = network.state_dict()
    return bool(own) and all(key.startswith('backbone.') for key in own) and not any(key in own for key in weights)


def _state_on_cpu(network: nn.Module) -> StateDict:
    return {key: value.detach().cpu() for key, value in network.state_dict().items()}


def _strip_module(weights: Mapping[str, Tensor]) -> StateDict:
    return {key.removeprefix('module.'): value for key, value in weights.items()}


def _plain(value: Any) -> Any:
    """Mappings and sequences as dict and list, so that a weights-only load can read them."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _first_line(text: object) -> str:
    return next(iter(str(text).strip().splitlines()), type(text).__name__)


def _some(keys: list[str]) -> str:
    return ', '.join(keys[:3]) + (', ...' if len(keys) > 3 else '')


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
