"""Networks of this package in spandrel, which ComfyUI, chaiNNer and others use to load networks, and vice versa.

``install()`` lets spandrel load files of this package; ``wrap(path)`` makes a network of spandrel equivariant.
"""

import copy
import functools
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn

from ne_basicsr.archs.wne_arch import WNE
from ne_basicsr.inference import loading
from ne_basicsr.inference.denoiser import Denoiser
from ne_basicsr.inference.receptive_field import MeasuresWhole
from ne_basicsr.inference.tiles import Tiled
from ne_basicsr.ops.noise_level import noise_level
from ne_basicsr.utils.errors import InputError
from ne_basicsr.utils.optional import require
from ne_basicsr.weights import checkpoint, matching
from ne_basicsr.weights.formats import Layout
from ne_basicsr.weights.spandrel_arch import Spandrel, with_weights

spandrel = require('spandrel')
Architecture: Any = spandrel.Architecture

ID = 'ne_basicsr'
TARGET = {'mean': 0.45, 'scale': 0.25}  # of natural images on [0, 1], which pretrained weights expect


class NormalizationEquivariant(Architecture):
    """The networks of this package as an architecture of spandrel.

    A network is built from the description in its file. A bare state dict has no description: its keys determine the
    backbone, and keys with the prefix ``backbone.`` are assumed to belong to ``WNE`` with its defaults, with a warning.
    """

    def __init__(self) -> None:
        super().__init__(id=ID, detect=lambda state_dict: _layout(state_dict) is not None, name='NE (ne_basicsr)')

    def load(self, state_dict: Mapping[str, Tensor]) -> Any:
        """The ``ImageModelDescriptor`` of a detected state dict.

        It requires no size, because padding before the statistics would change them; the network pads after them.
        Wrapped networks tile large images themselves, with the whole image's statistics. Non-blind networks receive the
        estimated noise level, because spandrel passes none.
        """
        layout = _layout(state_dict)
        assert layout is not None, 'load comes after detect'
        if not layout.is_complete and layout.options['type'] == 'WNE':
            logging.getLogger('basicsr').warning(
                'The state dict does not record the wrapper of its network; WNE with its defaults is assumed. The file'
                ' may record it: use ModelLoader().load_from_file(path).'
            )
        layout = layout._replace(options=with_weights(layout.options, layout.weights))
        denoiser = Denoiser(loading.restore(layout, {}).eval(), source='the state dict')
        facts = denoiser.facts
        cut = isinstance(denoiser.network, MeasuresWhole)
        restore: nn.Module = Tiled(denoiser) if cut else denoiser

        def call(_: nn.Module, image: Tensor) -> Tensor:
            return restore(image, noise_level(image).flatten().to(image) if denoiser.needs_sigma else None)

        return spandrel.ImageModelDescriptor(
            denoiser,
            denoiser.state_dict(),
            architecture=self,
            purpose='Restoration' if facts.scale == 1 else 'SR',
            tags=_tags(denoiser.network),
            supports_half=_runs_in(torch.float16, denoiser),
            supports_bfloat16=_runs_in(torch.bfloat16, denoiser),
            scale=facts.scale,
            input_channels=facts.in_channels,
            output_channels=facts.out_channels,
            tiling=spandrel.ModelTiling.INTERNAL if cut else spandrel.ModelTiling.SUPPORTED,
            call_fn=call,
        )


class DescribedWeights(dict[str, Tensor]):
    """A state dict with the metadata of its file, because spandrel passes on state dicts only."""

    def __init__(self, weights: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        super().__init__(weights)
        self.metadata = metadata


def install() -> None:
    """Let spandrel load this package's files (``.pth`` and ``.safetensors``) in this process.

    They load through ``ModelLoader().load_from_file(path)`` or ``load_from_state_dict``. This adds one architecture
    to ``spandrel.MAIN_REGISTRY``, after spandrel's own, and makes the two methods keep the network's options, which are
    in the file but not in the state dict. A second call changes nothing.
    """
    if ID not in spandrel.MAIN_REGISTRY:
        spandrel.MAIN_REGISTRY.add(spandrel.ArchSupport.from_architecture(NormalizationEquivariant()))
        _keep_descriptions(spandrel.ModelLoader)


def wrap(path: Path | str, sigma: float | None = None, **options: Any) -> nn.Module:
    """Make a network that spandrel knows exactly normalization-equivariant, without training.

    Args:
        path: the file of its weights.
        sigma: the single training noise level of a denoiser, on the [0, 1] scale; it is then wrapped in ``ZeroShot``.
        options: options of ``WNE``, such as ``statistics``, if there is no ``sigma``. The default ``target`` is
            ``TARGET``.

    Returns:
        The network in eval mode, (N, C, H, W) to (N, C', rH, rW), any height and width.

    Raises:
        InputError: as ``Spandrel``, and for a sigma together with options or with a network that changes the size.
    """
    backbone = Spandrel(str(path))
    if sigma is None:
        return WNE(backbone, **{'target': TARGET, **options}).eval()
    if options or backbone.scale != 1:
        reason = f'scale is {backbone.scale}' if backbone.scale != 1 else f'got {", ".join(options)} as well'
        raise InputError(f'{path}: sigma is for denoisers and excludes options of WNE ({reason}): leave sigma out')
    return loading.wrap_zero_shot(backbone, sigma)[0].eval()


def _layout(state_dict: Mapping[str, Tensor]) -> Layout | None:
    """The layout of a canonical state dict; None if this package cannot load it."""
    if isinstance(state_dict, DescribedWeights):
        return checkpoint.described({checkpoint.METADATA: state_dict.metadata}, state_dict)
    if not all(isinstance(value, Tensor) for value in state_dict.values()):
        return None
    layout = matching.recognise(dict(state_dict))
    if layout is not None and layout.wrapper_is_unknown:
        return None  # the prefix model. can be that of the WNE paper's code or of a training framework
    return layout


@torch.no_grad()
def _runs_in(dtype: torch.dtype, denoiser: Denoiser) -> bool:
    """Whether the network runs in this type; BasicSR's SwinIR does so only at the size of its training."""
    image = torch.rand(1, denoiser.channels, 24, 24, generator=torch.Generator().manual_seed(0)).to(dtype)
    try:
        copy.deepcopy(denoiser).to(dtype)(image, denoiser.needed(0.1))
    except RuntimeError:
        return False
    return True


def _tags(network: nn.Module) -> list[str]:
    """Names of wrapper and backbone, and the number of features, written as in spandrel."""
    names = [type(network).__name__]
    inner: Any = network
    while isinstance(inner := getattr(inner, 'backbone', getattr(inner, 'network', None)), nn.Module):
        names.append(inner.architecture if isinstance(inner, Spandrel) else type(inner).__name__)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    return names + [f'{each.out_channels}nf' for each in convolutions[:1]]


def _keep_descriptions(loader: Any) -> None:
    from_file, from_state_dict = loader.load_state_dict_from_file, loader.load_from_state_dict

    @functools.wraps(from_file)
    def load_state_dict_from_file(self: Any, path: Path | str) -> Any:
        return _with_metadata(from_file(self, path), _metadata(Path(path)))

    @functools.wraps(from_state_dict)
    def load_from_state_dict(self: Any, state_dict: Mapping[str, Any]) -> Any:
        metadata = state_dict.get(checkpoint.METADATA)
        return from_state_dict(self, _with_metadata(spandrel.canonicalize_state_dict(state_dict), metadata))

    loader.load_state_dict_from_file, loader.load_from_state_dict = load_state_dict_from_file, load_from_state_dict


def _with_metadata(state_dict: Mapping[str, Any], metadata: Any) -> Mapping[str, Any]:
    is_described = isinstance(metadata, Mapping) and 'network_g' in metadata
    return DescribedWeights(state_dict, metadata) if is_described else state_dict


def _metadata(path: Path) -> Any:
    """The metadata of a file of this package, without reading the weights again; None for other files."""
    try:
        if path.suffix.lower() == '.safetensors':
            with safetensors.safe_open(path, 'pt') as file:
                return json.loads((file.metadata() or {}).get(checkpoint.METADATA, 'null'))
        content = torch.load(path, map_location='cpu', mmap=True, weights_only=True)
    except Exception:  # files of other toolboxes, which spandrel can read but this cannot
        return None
    return content.get(checkpoint.METADATA) if isinstance(content, Mapping) else None
