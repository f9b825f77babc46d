"""MatConvNet's networks in MATLAB files, as state dicts with the keys of KAIR's PyTorch ones.

The authors of DnCNN, FDnCNN, FFDNet and IRCNN publish them: ``net.layers``, a list of ``conv``, ``relu``, ``bnorm``,
``concat`` (the map of the noise level) and ``SubP`` (the 2x2 pixels as channels, down the columns). Normalization there
is (x - m) / s * g + b with s the root of var + eps.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy  # which imports scipy.io when it is used
import torch
from torch import Tensor

from ne_basicsr.utils.errors import InputError, first_line
from ne_basicsr.utils.optional import require
from ne_basicsr.weights.formats.stacks import OWN_EPS

COUNTED = ('conv', 'bnorm', 'relu')  # layers that have a number in KAIR's networks
WITHOUT_WEIGHTS = ('relu', 'concat', 'SubP', 'loss')
VARIABLES = ('net', 'CNNdenoiser')
COLUMNS = (0, 2, 1, 3)  # of 2x2 pixels, in the order of rows


def read(path: Path | str) -> dict[str, Any]:
    """The state dict of the ``net`` in a MATLAB file; of the list ``CNNdenoiser``, IRCNN's, by number from '0'."""
    try:
        with open(path, 'rb') as file:
            is_hdf5 = file.read(10) == b'MATLAB 7.3'
        plain = {'simplify_cells': True, 'appendmat': False}
        content = _of_hdf5(path) if is_hdf5 else scipy.io.loadmat(str(path), variable_names=VARIABLES, **plain)
        if 'net' in content:
            return _state(content['net']['layers'])
        return {str(i): _state(net['layers']) for i, net in enumerate(content['CNNdenoiser'])}
    except InputError as error:
        raise InputError(f'{path}: {error}') from None
    except Exception as error:  # of a damaged or other file: KeyError, OSError, ValueError, MatReadError, ...
        reason = first_line(error)
        raise InputError(f'{path}: no network of MatConvNet, net.layers with 3x3 convolutions ({reason})') from error


def _state(layers: Iterable[Mapping[str, Any]]) -> dict[str, Tensor]:
    """KAIR's keys, ``model.<i>.weight``, ..., for layers with ``type`` and ``weights`` as MATLAB has them."""
    weights: dict[str, Any] = {}
    layers, position = list(layers), 0
    for layer in layers:
        kind, name = str(layer['type']), f'model.{position}'
        if kind == 'conv':
            kernel, bias = layer['weights'][:2]
            # (3, 3, in, out) in MATLAB's order, whose last axes are left out where they have one entry
            kernel = np.reshape(kernel, (3, 3, -1, np.size(bias)), order='F')
            weights |= {f'{name}.weight': kernel.transpose(3, 2, 0, 1), f'{name}.bias': np.ravel(bias)}
        elif kind == 'bnorm':
            gain, bias, moments = layer['weights'][:3]
            mean, deviation = np.reshape(moments, (-1, 2), order='F').T
            weights |= {f'{name}.weight': np.ravel(gain), f'{name}.bias': np.ravel(bias)}
            weights |= {f'{name}.running_mean': mean, f'{name}.running_var': deviation**2 - OWN_EPS}
        elif kind not in WITHOUT_WEIGHTS:
            raise InputError(f'a network with a layer {kind}; known are conv, bnorm and {WITHOUT_WEIGHTS}')
        position += kind in COUNTED
    if any(layer['type'] == 'SubP' for layer in layers):
        first, *_, last = (key for key in weights if key.endswith('.weight'))
        weights[first] = _by_rows(weights[first].swapaxes(0, 1)).swapaxes(0, 1)
        for key in (last, last.replace('weight', 'bias')):
            weights[key] = _by_rows(weights[key])
    return {key: torch.from_numpy(np.array(value, np.float32, order='C')) for key, value in weights.items()}


def _by_rows(value: Any) -> Any:
    """Channels (4 C, ...) or (4 C + 1, ...), each four of them the 2x2 pixels by columns, by rows."""
    order = [4 * (i // 4) + COLUMNS[i % 4] for i in range(len(value) // 4 * 4)]
    return value[[*order, *range(len(order), len(value))]]


def _of_hdf5(path: Path | str) -> dict[str, Any]:
    """A file of version 7.3, whose arrays have their axes in reverse order."""
    h5py = require('h5py', 'matlab')

    def value(item: Any) -> Any:
        if isinstance(item, h5py.Group):
            return {key: value(child) for key, child in item.items() if key in ('layers', 'type', 'weights')}
        array = item[()]
        if array.dtype == object:  # a cell
            return [value(file[reference]) for reference in array.ravel()]
        return bytes(array.ravel().tolist()).decode() if array.dtype == np.uint16 else array.T

    with h5py.File(path, 'r') as file:
        return {key: value(file[key]) for key in VARIABLES if key in file}
