"""Weights with a description of their network, as BasicSR's ``.pth`` or safetensors, with or without the wrapper.

``unwrap`` removes the wrapper, for programs that know only the backbone, and keeps its options in the file; ``rewrap``
restores the same wrapper. The tensors do not change.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ne_basicsr.archs.backbone import backbone_of
from ne_basicsr.inference.loading import layout_of
from ne_basicsr.utils.errors import InputError
from ne_basicsr.weights import checkpoint
from ne_basicsr.weights.matching import with_default_eps

PREFIX = 'backbone.'
WRAPPED = 'wrapped'  # key for the options of the wrapped network in a file without its wrapper


class Weights(NamedTuple):
    """The content of a file of weights."""

    tensors: dict[str, Tensor]  # tensors by the keys of the network
    # ``network_g``, its options; ``noise``, its training noise; ``wrapped``, the options of the wrapped network if this
    # is its backbone
    metadata: dict[str, Any]


def read(path: Path | str, kind: str | None = None) -> Weights:
    """The weights of any checkpoint that ``ne_basicsr.load`` reads, in the layout of this package.

    Weights of a DnCNN are converted to the default ``bn_eps``, for programs that only know the keys.

    Args:
        kind: type of the network, if the file does not record it.

    Raises:
        InputError: as ``ne_basicsr.load``.
    """
    content = checkpoint.read(path)
    layout = with_default_eps(layout_of(path, content, kind=kind))
    held = content.get(checkpoint.METADATA) if isinstance(content, Mapping) else None
    metadata = dict(held) if isinstance(held, Mapping) else {}
    return Weights(dict(layout.weights), metadata | {'network_g': layout.options})


def unwrap(weights: Weights) -> Weights:
    """The backbone of a wrapped network.

    Raises:
        InputError: if there is no wrapper.
    """
    options = weights.metadata['network_g']
    backbone = backbone_of(options)
    if backbone is None:
        raise InputError(f'--unwrap needs a network with a wrapper, such as DnCNNWNE; the file holds {options["type"]}')
    tensors = {key.removeprefix(PREFIX): value for key, value in weights.tensors.items()}
    return Weights(tensors, weights.metadata | {'network_g': backbone, WRAPPED: options})


def rewrap(weights: Weights) -> Weights:
    """Undo ``unwrap``.

    Raises:
        InputError: if ``weights`` do not come from ``unwrap``.
    """
    wrapped = weights.metadata.get(WRAPPED)
    if not isinstance(wrapped, Mapping):
        raise InputError(
            '--rewrap needs a file that --unwrap wrote, which records the wrapper; --wne makes other networks'
            ' equivariant without training'
        )
    metadata = {key: value for key, value in weights.metadata.items() if key != WRAPPED} | {'network_g': dict(wrapped)}
    return Weights({PREFIX + key: value for key, value in weights.tensors.items()}, metadata)


def half(weights: Weights) -> Weights:
    """Convert to float16, which keeps 11 of 24 significant bits; ``ne_basicsr.load`` converts back to float32.

    Raises:
        InputError: for values that float16 cannot represent.
    """
    tensors = {key: value.half() if value.is_floating_point() else value for key, value in weights.tensors.items()}
    for key, value in tensors.items():
        if value.isinf().any():
            largest = float(weights.tensors[key].abs().max())
            raise InputError(f'--half supports values up to 65504; {key} has {largest:g}: leave out --half')
    return weights._replace(tensors=tensors)


def write(path: Path, weights: Weights) -> None:
    """Write a ``.pth`` file in BasicSR's layout, or a ``.safetensors`` file; ``ne_basicsr.load`` reads both.

    Raises:
        OSError: if the disk is full or not writable.
    """
    if path.suffix == '.safetensors':
        checkpoint.write_safetensors(path, weights.tensors, weights.metadata)
    else:
        checkpoint.write(path, {'params': weights.tensors, checkpoint.METADATA: weights.metadata})
