"""spandrel, which ComfyUI, chaiNNer and others load networks with: our networks there, and theirs here.

``install()`` teaches spandrel the files of this package; ``wrap(path)`` makes a network of its own equivariant.
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
from ne_basicsr.ops.noise import noise_level
from ne_basicsr.utils.errors import InputError
from ne_basicsr.utils.optional import require
from ne_basicsr.weights import checkpoint, matching
from ne_basicsr.weights.formats import Layout
from ne_basicsr.weights.spandrel_arch import Spandrel, with_weights

spandrel = require('spandrel')
Architecture: Any = spandrel.Architecture

ID = 'ne_basicsr'
TARGET = {'mean': 0.45, 'scale': 0.25}  # where natural images lie in [0, 1], which pretrained weights know


class NormalizationEquivariant(Architecture):
    """The networks of this package in spandrel's terms.

    A network is built as its file says. A bare state dict says less: its keys tell the backbone, and what is below
    ``backbone.`` is taken as ``WNE`` with its defaults, with a warning.
    """

    def __init__(self) -> None:
        super().__init__(id=ID, detect=lambda state_dict: _layout(state_dict) is not None, name='NE (ne_basicsr)')

    def load(self, state_dict: Mapping[str, Tensor]) -> Any:
        """The ``ImageModelDescriptor`` of a state dict that was detected.

        No size is required, since padding before the statistics would change them: the network pads behind them.
        Wrapped networks tile large images by themselves, with the whole image's statistics. Non-blind ones are told the
        noise level that is estimated, for spandrel has none to give.
        """
        layout = _layout(state_dict)
        assert layout is not None, 'load comes after detect'
        if not layout.is_complete and layout.options['type'] == 'WNE':
            logging.getLogger('basicsr').warning(
                'The state dict alone does not say how its network is wrapped: taken as WNE with its defaults. The file'
                ' may say more: ModelLoader().load_from_file(path).'
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
    """A state dict that remembers what its file says about the network: spandrel hands on nothing but state dicts."""

    def __init__(self, weights: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        super().__init__(weights)
        self.metadata = metadata


def install() -> None:
    """Teach spandrel this package's files: what loads with spandrel in this process then loads them, too.

    ``.pth`` and ``.safetensors``, through ``ModelLoader().load_from_file(path)`` or ``load_from_state_dict`` of the
    content. Adds one architecture to ``spandrel.MAIN_REGISTRY``, behind spandrel's own, and makes the two methods keep
    the network's options, which are in the file but not in the state dict. Calling it again changes nothing.
    """
    if ID not in spandrel.MAIN_REGISTRY:
        spandrel.MAIN_REGISTRY.add(spandrel.ArchSupport.from_architecture(NormalizationEquivariant()))
        _keep_descriptions(spandrel.ModelLoader)


def wrap(path: Path | str, sigma: float | None = None, **options: Any) -> nn.Module:
    """A network that spandrel knows, made exactly normalization-equivariant without training.

    Args:
        path: the file of its weights.
        sigma: the one noise level that a denoiser was trained at, on the [0, 1] scale: then ``ZeroShot`` is around it.
        options: of ``WNE``, such as ``statistics``, where there is no ``sigma``. The ``target`` is ``TARGET`` where not
            given.

    Returns:
        The network in eval mode, (N, C, H, W) to (N, C', rH, rW), any height and width.

    Raises:
        InputError: as ``Spandrel``, and for a sigma with options, or with a network that changes the size.
    """
    backbone = Spandrel(str(path))
    if sigma is None:
        return WNE(backbone, **{'target': TARGET, **options}).eval()
    if options or backbone.scale != 1:
        reason = f'scale is {backbone.scale}' if backbone.scale != 1 else f'got {", ".join(options)} as well'
        raise InputError(f'{path}: sigma is for denoisers, and takes no options of WNE ({reason}): leave sigma out')
    return loading.wrap_zero_shot(backbone, sigma).eval()


def _layout(state_dict: Mapping[str, Tensor]) -> Layout | None:
    """The layout of a canonical state dict; None where it is not ours to load."""
    if isinstance(state_dict, DescribedWeights):
        return checkpoint.described({checkpoint.METADATA: state_dict.metadata}, state_dict)
    if not all(isinstance(value, Tensor) for value in state_dict.values()):
        return None
    layout = matching.recognise(dict(state_dict))
    if layout is not None and layout.wrapper_is_unknown:
        return None  # keys below model. are the WNE paper's code, or a training framework's: cannot be told here
    return layout


@torch.no_grad()
def _runs_in(dtype: torch.dtype, denoiser: Denoiser) -> bool:
    """Whether the network takes images of this type: BasicSR's SwinIR does not, but at the size of its training."""
    image = torch.rand(1, denoiser.channels, 24, 24, generator=torch.Generator().manual_seed(0)).to(dtype)
    try:
        copy.deepcopy(denoiser).to(dtype)(image, denoiser.needed(0.1))
    except RuntimeError:
        return False
    return True


def _tags(network: nn.Module) -> list[str]:
    """Wrapper and backbone by name, and how many features the first convolution has, as spandrel's own say it."""
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
    return (
        DescribedWeights(state_dict, metadata)
        if isinstance(metadata, Mapping) and 'network_g' in metadata
        else state_dict
    )


def _metadata(path: Path) -> Any:
    """What a file of this package says about its network, without reading the weights again; None for other files."""
    try:
        if path.suffix.lower() == '.safetensors':
            with safetensors.safe_open(path, 'pt') as file:
                return json.loads((file.metadata() or {}).get(checkpoint.METADATA, 'null'))
        content = torch.load(path, map_location='cpu', mmap=True, weights_only=True)
    except Exception:  # other toolboxes' files, which spandrel has read already: they need not be readable in this way
        return None
    return content.get(checkpoint.METADATA) if isinstance(content, Mapping) else None
