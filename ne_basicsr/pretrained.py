"""Networks that are ready to use, from any file whose layout is known."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import basicsr  # noqa: F401 - first, so that archs are not what imports it: they need each other
import torch
from torch import Tensor, nn

from ne_basicsr import checkpoint, fitting, layouts
from ne_basicsr.archs.backbone import BackboneHolder, build_arch
from ne_basicsr.archs.padding import crop, pad_to_multiple
from ne_basicsr.archs.spandrel_arch import with_weights
from ne_basicsr.archs.wne_arch import WNE
from ne_basicsr.archs.zero_shot_arch import ZeroShot
from ne_basicsr.denoising.arrays import take_arrays
from ne_basicsr.errors import InputError
from ne_basicsr.layouts import Layout
from ne_basicsr.noise import TrainingNoise

WRAPS = (None, 'wne')


class Loaded(NamedTuple):
    """A network from a file.

    Args:
        network: ready to use, as ``load`` returns it.
        description: what the file was recognised as.
        noise: what it was trained on, where the file says so.
    """

    network: nn.Module
    description: str
    noise: TrainingNoise | None


def load(
    path: Path | str,
    wrap: str | None = None,
    device: torch.device | str | None = None,
    *,
    sigma: float | None = None,
    allow: Sequence[type] = (),
    param_key: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """The network of a checkpoint, in eval mode: (N, C, H, W) to (N, C', rH, rW), any height and width.

    Checkpoints of this package say how they are built. For others the layout is found by the keys
    (``ne_basicsr.layouts``) and the network's arguments by keys and shapes; what was found is logged.

    Args:
        path: the file.
        wrap: ``wne`` makes a network that was trained without the wrapper normalization-equivariant, see
            ``wrap_zero_shot``.
        device: where the network goes; the CPU where not given.
        sigma: with ``wrap``, the one noise level that the network was trained at, on the [0, 1] scale; where not given,
            the checkpoint's own note of it.
        allow: classes that the file may hold beside weights, such as ``argparse.Namespace``.
        param_key: which weights of a BasicSR checkpoint; where not given ``params_ema``, and ``params`` without it.
        options: arguments of the network that the file does not tell, such as FDnCNN's ``mode``.

    Non-blind networks are called with ``sigma``, the noise level on the scale of the images. Called with a numpy array,
    (H, W) or (H, W, C), the network returns one, as ``ne_basicsr.denoise`` does and with its arguments.

    Raises:
        InputError: for an unreadable file, an unknown layout, or weights that do not fit or are not finite.
    """
    loaded = load_described(path, wrap, sigma=sigma, allow=allow, param_key=param_key, options=options)
    return take_arrays(loaded.network.to(device or 'cpu'))


def load_described(
    path: Path | str,
    wrap: str | None = None,
    *,
    sigma: float | None = None,
    allow: Sequence[type] = (),
    param_key: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Loaded:
    """As ``load``, on the CPU, with what the file says about the network."""
    if wrap not in WRAPS:
        raise ValueError(f"wrap must be None or 'wne'; got {wrap!r}.")
    content = checkpoint.read(path, allow)
    layout = layout_of(path, content, param_key)
    try:
        network = restore(layout, options or {})
    except InputError as error:
        raise InputError(f'{path}: {error}') from error
    logging.getLogger('basicsr').info(f'{path}: recognised {layout}.')
    noise = training_noise(content)
    if wrap is not None:
        known = noise.sigmas[0] if noise and noise.sigma_type == 'constant' else None
        network = wrap_zero_shot(network, known if sigma is None else sigma)
    return Loaded(any_size(network).eval(), str(layout), noise)


def layout_of(path: Path | str, content: Any, param_key: str | None = None) -> Layout:
    """The layout of a checkpoint's ``content``.

    Raises:
        InputError: where none is known, with ``path``.
    """
    try:
        weights, key = checkpoint.select_weights(content, param_key or 'params_ema')
        layout = checkpoint.described(content, weights) or layouts.recognise(weights, key)
        if layout is None:
            raise InputError(layouts.explain_unknown(weights))
    except InputError as error:
        raise InputError(f'{path}: {error}') from error
    return layout


def restore(layout: Layout, options: Mapping[str, Any]) -> nn.Module:
    """The network of a layout, with some of its options replaced."""
    chosen = {**layout.options, **options}
    try:
        network = build_arch(with_weights(chosen, layout.weights))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f'no network {layouts.describe(chosen)}: {error.args[0] if error.args else error}') from error
    weights = fitting.fit(network, layout.weights)
    if problem := fitting.explain_misfit(network, weights) or fitting.explain_values(weights):
        raise InputError(f'recognised {layout.name}, but {problem}')
    network.load_state_dict(weights)
    return network


def training_noise(content: Any) -> TrainingNoise | None:
    """What a checkpoint of this package says about the noise of its training; None where it says nothing."""
    metadata = content.get(checkpoint.METADATA) if isinstance(content, Mapping) else None
    noise = metadata.get('noise') if isinstance(metadata, Mapping) else None
    return TrainingNoise.from_options(noise) if noise else None


def any_size(network: nn.Module) -> nn.Module:
    """``network``, or ``AnySize`` around it where it asks for multiples of some number of pixels."""
    return AnySize(network) if getattr(network, 'size_multiple', 1) > 1 else network


def wrap_zero_shot(network: nn.Module, sigma: float | None = None) -> nn.Module:
    """A network that was trained without the wrapper, made exactly normalization-equivariant without training.

    Args:
        network: a denoiser, (N, C, H, W) to (N, C, H, W).
        sigma: the one noise level of its training, on the [0, 1] scale: ``ZeroShot`` then brings every image to it.
            None where there was a range of levels, or it is not known: ``WNE``, whose target puts normalized images
            into the range that photographs have, which the weights know.
    """
    if isinstance(network, BackboneHolder):
        raise InputError(f'the file holds a wrapped network already ({type(network).__name__}): load it without wrap')
    if sigma is None:
        logging.getLogger('basicsr').info('The noise level of the training is not known; give sigma if there was one.')
        return WNE(network, target={'mean': 0.45, 'scale': 0.25})
    return ZeroShot(network, sigma255=255 * sigma)


class AnySize(nn.Module):
    """A network that needs height and width to be multiples of its ``size_multiple``, for images of any size.

    Images (N, C, H, W) are reflect-padded right and bottom, and the result (N, C', rH, rW) is cropped.
    """

    size_multiple = 1

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        multiple: Any = network.size_multiple
        self.pad_to = int(multiple)

    def forward(self, y: Tensor, **arguments: Any) -> Tensor:
        padded, (height, width) = pad_to_multiple(y, self.pad_to)
        output = self.network(padded, **arguments)
        ratio = output.shape[-1] // padded.shape[-1]
        return crop(output, height * ratio, width * ratio)
