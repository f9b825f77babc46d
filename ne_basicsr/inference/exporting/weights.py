"""Weights with what describes them: BasicSR's ``.pth`` or safetensors, with the wrapper or without it.

``unwrap`` takes the wrapper away, for programs that know the backbone alone, and keeps its options in the file;
``rewrap`` puts the same wrapper back. The tensors stay what they are.
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
WRAPPED = 'wrapped'  # where a file without its wrapper keeps the options of the network that had it


class Weights(NamedTuple):
    """What a file of weights holds.

    Attributes:
        tensors: by the keys of the network.
        metadata: ``network_g``, its options; ``noise``, its training; ``wrapped``, the options of the
            network that it was the backbone of.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]


def read(path: Path | str, kind: str | None = None) -> Weights:
    """The weights of any checkpoint that ``ne_basicsr.load`` reads, in the layout of this package.

    Those of a DnCNN are for the default ``bn_eps``, so that programs that know keys alone read them, too.

    Args:
        kind: its type, where the file does not tell.

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
        InputError: where there is no wrapper.
    """
    options = weights.metadata['network_g']
    backbone = backbone_of(options)
    if backbone is None:
        raise InputError(f'--unwrap takes networks with a wrapper, such as DnCNNWNE; the file holds {options["type"]}')
    tensors = {key.removeprefix(PREFIX): value for key, value in weights.tensors.items()}
    return Weights(tensors, weights.metadata | {'network_g': backbone, WRAPPED: options})


def rewrap(weights: Weights) -> Weights:
    """The wrapped network that ``unwrap`` made ``weights`` from.

    Raises:
        InputError: where it did not.
    """
    wrapped = weights.metadata.get(WRAPPED)
    if not isinstance(wrapped, Mapping):
        raise InputError(
            '--rewrap takes what --unwrap wrote, which remembers its wrapper; for a network that never had one, --wne'
            ' makes it equivariant without training'
        )
    metadata = {key: value for key, value in weights.metadata.items() if key != WRAPPED} | {'network_g': dict(wrapped)}
    return Weights({PREFIX + key: value for key, value in weights.tensors.items()}, metadata)


def half(weights: Weights) -> Weights:
    """The same in float16; ``ne_basicsr.load`` makes float32 of it again, with 11 of its 24 significant bits.

    Raises:
        InputError: for values that float16 does not hold.
    """
    tensors = {key: value.half() if value.is_floating_point() else value for key, value in weights.tensors.items()}
    for key, value in tensors.items():
        if value.isinf().any():
            largest = float(weights.tensors[key].abs().max())
            raise InputError(f'--half holds values up to 65504; {key} has {largest:g}: leave it out')
    return weights._replace(tensors=tensors)


def write(path: Path, weights: Weights) -> None:
    """Write a ``.pth`` file in BasicSR's layout, or a ``.safetensors`` file; ``ne_basicsr.load`` reads both.

    Raises:
        OSError: where the disk is full or not writable.
    """
    if path.suffix == '.safetensors':
        checkpoint.write_safetensors(path, weights.tensors, weights.metadata)
    else:
        checkpoint.write(path, {'params': weights.tensors, checkpoint.METADATA: weights.metadata})
