"""Networks that the library spandrel knows, as backbones like any other.

spandrel recognises some forty architectures by the keys of their weights (github.com/chaiNNer-org/spandrel, MIT).
"""

import importlib.util
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from ne_basicsr.archs.network_inputs import Facts
from ne_basicsr.ops.padding import pad
from ne_basicsr.utils.errors import InputError, first_line
from ne_basicsr.utils.optional import require
from ne_basicsr.weights import checkpoint
from ne_basicsr.weights.formats import Layout

PREFIX = 'model.'


@ARCH_REGISTRY.register()
class Spandrel(nn.Module):
    """A network that spandrel recognises by its weights.

    Args:
        weights: the file of the weights, read without running code; in Python also their state dict.

    Input: (N, C, H, W), any height and width, C ``input_channels``; what the network needs beside a multiple of
    ``size_multiple``, a least size or a square, is padded by reflection. Output: (N, ``output_channels``, rH, rW), r
    ``scale``, not clipped. Keys are those of the file, so that the weights load here, in spandrel and in the original.
    """

    # annotated as str, all that an option file can give
    def __init__(self, weights: str) -> None:
        super().__init__()
        descriptor = recognise(weights)
        self.architecture = str(descriptor.architecture.id)
        self.scale = int(descriptor.scale)
        self.input_channels, self.output_channels = int(descriptor.input_channels), int(descriptor.output_channels)
        self.size_multiple = int(descriptor.size_requirements.multiple_of)
        self.facts = Facts(self.input_channels, self.output_channels, self.scale, self.size_multiple)
        self.requirements = descriptor.size_requirements
        self.model = descriptor.model
        # What calling the descriptor comes to without its clamp to [0, 1] and its inference mode: normalized images
        # leave that range, and training needs gradients. The descriptor has no public name for it.
        if not hasattr(descriptor, '_call_fn'):
            found = require('spandrel').__version__
            raise InputError(f'spandrel {found} calls its networks in a new way: pip install spandrel==0.4.2')
        self._call = descriptor._call_fn
        # with a channel for the noise, for which the descriptor makes a map of level 15 / 255, of one image
        first = next((module for module in self.model.modules() if isinstance(module, nn.Conv2d)), None)
        self._one_by_one = first is not None and first.in_channels == self.input_channels + 1
        self.register_state_dict_post_hook(_leave_out_prefix)
        self.register_load_state_dict_pre_hook(_put_in_prefix)

    def forward(self, x: Tensor) -> Tensor:
        """(N, input_channels, H, W) to (N, output_channels, scale H, scale W), not clipped."""
        height, width = x.shape[-2:]
        right, bottom = self.requirements.get_padding(width, height)
        padded = pad(x, (0, right, 0, bottom))
        parts = padded.split(1) if self._one_by_one else [padded]
        output = torch.cat([self._call(self.model, part) for part in parts])
        return output[..., : height * self.scale, : width * self.scale]

    def extra_repr(self) -> str:
        return f'architecture={self.architecture}, scale={self.scale}'


def recognise(weights: Path | str | Mapping[str, Tensor]) -> Any:
    """spandrel's ``ImageModelDescriptor`` of a file of weights, or of a state dict.

    Files are read by this package's reader: spandrel's own also takes TorchScript, which is code.
    """
    spandrel = require('spandrel')
    if not isinstance(weights, (str, Path, Mapping)):
        raise InputError(f'weights is the file of a network that spandrel knows; got {weights!r}')
    name = 'the state dict' if isinstance(weights, Mapping) else str(weights)
    content = weights if isinstance(weights, Mapping) else checkpoint.read(Path(weights).expanduser())
    problem = f'a checkpoint must hold a mapping of weights; this one holds a {type(content).__name__}'
    if isinstance(content, Mapping):
        state = spandrel.canonicalize_state_dict(dict(content))
        try:
            descriptor = spandrel.MAIN_REGISTRY.load(state)
            if isinstance(descriptor, spandrel.ImageModelDescriptor):
                return descriptor
            problem = f'a network from images to images is needed; {descriptor.architecture.name} takes a mask'
        except spandrel.UnsupportedModelError:
            keys = ', '.join(map(str, list(state)[:3]))
            problem = f'spandrel {spandrel.__version__} knows no network with these weights (keys {keys}, ...)'
        except Exception as error:  # it reads shapes as they come, and can fail anywhere: KeyError, ZeroDivisionError
            problem = f'spandrel cannot build the network of these weights ({first_line(error)})'
    raise InputError(f'{name}: {problem}')


def find_layout(weights: Mapping[str, Tensor]) -> Layout | None:
    """The layout of weights that spandrel recognises, as a ``Spandrel``; None for others, and without spandrel."""
    if importlib.util.find_spec('spandrel') is not None:
        with suppress(InputError):
            name = recognise(weights).architecture.name
            state = require('spandrel').canonicalize_state_dict(dict(weights))
            return Layout(f'{name}, by spandrel', {'type': 'Spandrel'}, state)
    return None


def with_weights(options: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """``options`` of a network; a ``Spandrel`` among them gets its ``weights`` from a state dict, not from its file."""
    inner = {key.removeprefix('backbone.'): value for key, value in weights.items()}
    if (kind := options.get('type')) in ('Spandrel', 'SpandrelWNE'):
        return {**options, 'weights': inner if kind == 'SpandrelWNE' else dict(weights)}
    if isinstance(options.get('backbone'), Mapping):
        return {**options, 'backbone': with_weights(options['backbone'], inner)}
    return dict(options)


def _leave_out_prefix(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    for key in [key for key in state if key.startswith(prefix + PREFIX)]:
        state[prefix + key[len(prefix + PREFIX) :]] = state.pop(key)


def _put_in_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        state[prefix + PREFIX + key[len(prefix) :]] = state.pop(key)
