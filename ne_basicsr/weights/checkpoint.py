"""Checkpoints: written as atomic files, read without running code, and loaded with a reason where they do not fit.

A file holds BasicSR's ``params`` (and ``params_ema``), and under ``ne_basicsr`` the metadata that make it usable
without an option file: the network's options, the training noise and the version.
"""

import argparse
import contextlib
import hashlib
import json
import logging
import pickle
import re
import types
import warnings
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

import ne_basicsr
from ne_basicsr.archs import own_networks
from ne_basicsr.ops.noise_kinds import TRAITS
from ne_basicsr.utils import atomic_files
from ne_basicsr.utils.errors import InputError, first_line, one_line
from ne_basicsr.utils.words import similar_path
from ne_basicsr.weights import matching, matconvnet, shipped_models
from ne_basicsr.weights.formats import Layout, as_trained
from ne_basicsr.weights.formats.paper_run import find_run

StateDict = dict[str, Tensor]
METADATA = 'ne_basicsr'
KNOWS = 'knows'  # in the metadata of trainings whose noise was in the files: what of ``TRAITS`` the network learned
DIGEST = 'ne_basicsr_digest'  # in the header of a safetensors file, whose format has no checksums
# the keys under which toolboxes keep weights; the first one found is used
CONTAINERS = ('params', 'params_ema', 'state_dict', 'model_state', 'model_state_dict', 'model', 'net')
DEEPEST = 20  # containers inside one another in the metadata
# Classes of the standard library that hold values and run nothing of a file: command lines that training scripts keep
# beside their weights, and the milestones of BasicSR's MultiStepRestartLR.
HARMLESS = (argparse.Namespace, types.SimpleNamespace, Counter)


def write(path: Path, content: Any) -> None:
    """Save ``content`` to ``path``, complete or not at all; an ``OSError`` has the path, and leaves an older file."""
    atomic_files.write(path, lambda file: torch.save(content, file))


def write_safetensors(path: Path, weights: StateDict, metadata: Mapping[str, Any]) -> None:
    """As ``write``, weights to a safetensors file, with ``metadata`` as JSON and a digest in its header."""
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in weights.items()}  # shares no memory
    about = json.dumps(metadata)
    header = {'format': 'pt', METADATA: about, DIGEST: digest(tensors, about)}
    data = safetensors.torch.save(tensors, header)
    atomic_files.write(path, lambda file: file.write(data))


def digest(weights: Mapping[str, Tensor], about: str) -> str:
    """A hash of the names, types, shapes (any) and values of ``weights``, and of ``about``."""
    state = hashlib.blake2b(about.encode(), digest_size=16)
    for key, value in sorted(weights.items()):  # safetensors reorders them
        array: Any = value.detach().cpu().contiguous()
        state.update(f'{key}{tuple(array.shape)}{array.dtype}'.encode())
        state.update(array.flatten().view(torch.uint8).numpy().data)
    return state.hexdigest()


def read(path: Path | str, allow: Sequence[type] = ()) -> Any:
    """The content of a checkpoint on the CPU, tensors and plain containers only, or an ``InputError``.

    Every record of a torch file is compared with its CRC-32, and the content of a safetensors file of this package with
    its digest. Torch's files from before 1.6 and safetensors files of other programs have no checksums: a flipped bit
    in their numbers cannot be noticed.

    Args:
        path: the file, ``.safetensors``, one of torch, MatConvNet's ``.mat``, or the name of a shipped model, ``gray``.
        allow: further classes that the file may hold, besides ``HARMLESS``.
    """
    if functions := [each for each in allow if not isinstance(each, type)]:
        raise ValueError(f'allow takes classes; got {functions[0]!r}.')
    path = shipped_models.resolve(path)
    if not path.is_file():
        raise InputError(f'{path}: no such checkpoint file{similar_path(path, shipped_models.MODELS)}')
    with open(path, 'rb') as file:
        head = file.read(2)
    if path.suffix == '.safetensors':
        content: Any = _read_safetensors(path)
    elif head == b'MA' and path.suffix == '.mat':
        content = matconvnet.read(path)
    else:
        content = _read_torch(path, head, allow)
    if isinstance(content, Mapping) and _is_deep(content.get(METADATA)):
        raise InputError(f'{path}: the metadata about its network are nested more than {DEEPEST} deep')
    return content


def _read_torch(path: Path, head: bytes, allow: Sequence[type]) -> Any:
    if head and head != b'PK' and head[:1] != b'\x80':  # zip, and the pickle of older torch
        raise InputError(f'{path}: not a checkpoint file: neither torch.save nor safetensors wrote it')
    try:
        if head == b'PK':
            with zipfile.ZipFile(path) as archive:
                wrong = archive.testzip()  # every record against its CRC-32, which torch.load does not do
            if wrong is not None:
                problem = f'the record {wrong!r} differs from its checksum; take another copy'
                raise InputError(f'{path}: a damaged file: {problem}')
        with torch.serialization.safe_globals([*HARMLESS, *allow]), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of sparse tensors, which are refused below
            return torch.load(path, map_location='cpu', weights_only=True)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        reason = 'it holds more than tensors and plain containers'
        if found := re.search(r'GLOBAL ([\w.]+)', str(error)):
            reason = f'it asks for {found[1]}, and reading that may run code: ask its author for the weights alone'
        raise InputError(f'{path}: not readable as weights alone: {reason}') from error
    except Exception as error:  # a damaged file can fail anywhere in the readers: BadZipFile, IndexError, EOFError, ...
        reason = 'TorchScript holds code' if 'TorchScript' in str(error) else first_line(error)
        raise InputError(f'{path}: not a complete checkpoint file ({reason})') from error


def _is_deep(value: Any) -> bool:
    """Whether more than ``DEEPEST`` containers are inside one another: recursion over them would fail."""
    level = [value]
    for _ in range(DEEPEST + 1):
        containers = [each for each in level if isinstance(each, (Mapping, list, tuple))]
        children = (child for each in containers for child in (each.values() if isinstance(each, Mapping) else each))
        level = list({id(child): child for child in children}.values())  # shared ones count once
    return bool(level)


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(path, 'pt') as file:
            header = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
        about = header.get(METADATA, 'null')
        metadata = json.loads(about)
    except (safetensors.SafetensorError, ValueError, RecursionError) as error:
        raise InputError(f'{path}: not a complete safetensors file ({first_line(error)})') from error
    if DIGEST in header and header[DIGEST] != digest(weights, about):
        problem = 'its tensors or options differ from the digest that was written with them'
        raise InputError(f'{path}: {problem}: the file is damaged, or another program edited it; export it again')
    return {'params': weights} | ({METADATA: metadata} if isinstance(metadata, dict) else {})


def save_network(path: Path, networks: Mapping[str, nn.Module], options: Mapping[str, Any]) -> None:
    """Write networks under their keys (``params``, ``params_ema``), with metadata from the ``options`` of the run."""
    # in the usual order of dimensions, also where the network keeps channels last
    content: dict[str, Any] = {
        key: {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
        for key, network in networks.items()
    }
    train_set = options.get('datasets', {}).get('train', {})
    content[METADATA] = {
        'version': ne_basicsr.__version__,
        'network_g': _plain(options.get('network_g')),
        'noise': _plain({key: train_set[key] for key in ('noise', 'sigma_type', 'sigma_range') if key in train_set}),
        'scale': options.get('scale', 1),
    }
    if 'dataroot_lq' in train_set and not content[METADATA]['noise']:
        # from noisy images alone it learns to keep what is correlated
        content[METADATA][KNOWS] = sorted(TRAITS if 'dataroot_gt' in train_set else TRAITS - {'correlation'})
    if imports := own_networks.to_import(options.get('network_g')):
        content[METADATA][own_networks.IMPORTS] = imports
    write(path, content)


def load_network(
    network: nn.Module, path: Path | str, *, strict: bool = True, param_key: str | None = 'params'
) -> None:
    """Load a checkpoint into ``network``, converted where its layout is another one.

    Args:
        path: a checkpoint of BasicSR, a bare state dict, or any file whose layout is known (``formats``).
        strict: an ``InputError`` with reasons unless all agree; where not, what agrees is loaded, the rest logged.
        param_key: which weights of a BasicSR checkpoint; ``params`` where the key is not in the file.
    """
    logger = logging.getLogger('basicsr')
    content = read(path)
    try:
        weights, key = select_weights(content, param_key)
    except InputError as error:
        raise InputError(f'{path}: {one_line(error)}') from error
    logger.info(f'Loading {type(network).__name__} from {path}, {f"key {key}" if key else "a bare state dict"}.')
    layout = described(content, weights) or matching.recognise(weights, key)
    if layout and layout.wrapper_is_unknown:  # it is that of the network
        asked = matching.wrapper_of(type(network))
        layout = as_trained(layout, None if asked == 'ZeroShot' else asked)
        with contextlib.suppress(InputError):
            run = find_run(path)
            if run is not None and run.wrapper != asked:
                says = 'no wrapper' if run.wrapper is None else run.wrapper
                logger.warning(f'{path}: its config.json says {says}, here it is {asked or "no wrapper"}')
    fitted = matching.fit(network, weights)
    if layout and matching.explain_misfit(network, fitted):
        logger.info(f'Recognised {layout}.')
        weights = layout.weights
        fitted = matching.fit(network, weights)
    if layout:
        fitted = matching.match_eps(network, layout, fitted)
    if misfit := matching.explain_misfit(network, fitted):
        if strict:
            raise InputError(f'{path}: {one_line(misfit)}')
        logger.warning(f'{path}: {one_line(misfit)}; loading what agrees')
        own = network.state_dict()
        fitted = {k: v for k, v in fitted.items() if k in own and own[k].shape == v.shape}
    elif layout and (difference := matching.explain_behaviour(network, layout)):
        logger.warning(f'{path}: the weights fit, but they were trained otherwise: {one_line(difference)}')
    if matching.is_bare_backbone(network, weights) and hasattr(network, 'target'):  # ZeroShot is made for them
        logger.info(
            'These are weights of the bare backbone, trained without the wrapper; they go to backbone.*. The wrapper'
            ' moves images out of the range of their training: train on, or use target: {mean: 0.45, scale: 0.25}.'
        )
    network.load_state_dict(fitted, strict=strict)


def select_weights(content: Any, param_key: str | None = 'params') -> tuple[StateDict, str | None]:
    """The state dict in a checkpoint's content, without ``module.`` prefixes, and the key that it was under."""
    if not isinstance(content, Mapping):
        raise InputError(f'a checkpoint must hold a mapping of weights; this one holds a {type(content).__name__}')

    def is_weights(held: Mapping[Any, Any]) -> bool:
        return all(isinstance(value, Tensor) for value in held.values())

    for key in (param_key, *CONTAINERS):
        held = content.get(key)
        if isinstance(held, list) and len(held) == 1:  # Mohan et al. keep a list of networks
            held = held[0]
        if isinstance(held, Mapping) and is_weights(held):
            return _plain_weights(held), key
    if not content:
        raise InputError('no weights found: it is empty')
    if is_weights(content):
        return _plain_weights(content), None
    nets = [str(key) for key, value in content.items() if isinstance(value, Mapping) and value and is_weights(value)]
    way_out = f"; it holds {len(nets)} networks: choose one, as in param_key='{nets[0]}'" if nets else ''
    raise InputError(f'no weights found among the keys {", ".join(map(str, list(content)[:8]))}{way_out}')


def described(content: Any, weights: StateDict) -> Layout | None:
    """The network that the metadata in ``content`` describe, for its state dict; None without such metadata."""
    metadata = content.get(METADATA) if isinstance(content, Mapping) else None
    network_g = metadata.get('network_g') if isinstance(metadata, Mapping) else None
    if not isinstance(network_g, Mapping) or not all(isinstance(key, str) for key in network_g):
        return None
    if not isinstance(network_g.get('type'), str):
        return None
    return Layout('a checkpoint of ne_basicsr', dict(network_g), weights, is_complete=True)


def last_complete_state(states: Path, models: Path, labels: list[str]) -> Path | None:
    """The newest training state that is readable, as are its networks ``<label>_<iter>.pth``; None without one."""
    for iteration, path in sorted(((int(p.stem), p) for p in states.glob('*.state') if p.stem.isdigit()), reverse=True):
        try:
            for file in (path, *(models / f'{label}_{iteration}.pth' for label in labels)):
                read(file)
            return path
        except InputError as error:
            logging.getLogger('basicsr').warning(f'Skipping an unusable checkpoint: {error}')
    return None


def _plain_weights(weights: Mapping[Any, Tensor]) -> StateDict:
    for key, value in weights.items():
        if not isinstance(key, str):
            raise InputError(f'weights have names; one of these is under the {type(key).__name__} {key!r}')
        if kind := _unusual(value):
            raise InputError(f'weights are dense tensors of real numbers; {key} is {kind}')
    return {key.removeprefix('_orig_mod.').removeprefix('module.'): value for key, value in weights.items()}


def _unusual(value: Tensor) -> str | None:
    """Why no network here can hold a tensor; None if one can."""
    if value.is_meta:
        return 'a meta tensor, which has no values'
    if value.layout is not torch.strided or value.is_nested:
        return f'sparse or nested ({str(value.layout).removeprefix("torch.")})'
    if value.is_quantized or value.is_complex() or 'float8' in str(value.dtype):
        return f'of type {str(value.dtype).removeprefix("torch.")}'
    if value.numel() > max(2**20, value.untyped_storage().nbytes() // value.element_size()):
        return f'expanded to {value.numel():,} values, of which it holds fewer'
    return None


def _plain(value: Any) -> Any:
    """Mappings and sequences as dict and list, so that a weights-only load can read them."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value
