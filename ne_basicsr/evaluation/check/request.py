"""What to certify: a network from what a command line says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ne_basicsr.archs.backbone import BackboneHolder
from ne_basicsr.archs.network_inputs import REFUSALS, channels_of, is_non_blind
from ne_basicsr.evaluation.bench import parse_networks
from ne_basicsr.evaluation.check.images import read_images, synthetic_images
from ne_basicsr.evaluation.check.law import PRECISIONS
from ne_basicsr.inference import exported_graphs, loading
from ne_basicsr.inference.denoisers import parse_spec
from ne_basicsr.ops.equivariance import Network
from ne_basicsr.options import read_yaml
from ne_basicsr.options.words import one_of
from ne_basicsr.utils.errors import InputError, first_line
from ne_basicsr.weights import checkpoint, shipped_models

SIZE = (24, 32)  # of the images that are made here
MOST = 2**22  # values of an image that an exported network takes: some hundred are computed
SIGMA = 25 / 255  # what non-blind networks are told where nothing is said


class Subject(NamedTuple):
    """A network and what it takes.

    Attributes:
        about: what it is, in words.
        sigma: the noise level that a non-blind network is told, on the [0, 1] scale; None for blind ones.
        dtypes: number types to ask in.
        channels, size: of its images.
    """

    network: Network
    about: str
    sigma: float | None
    dtypes: tuple[str, ...]
    channels: int
    size: tuple[int, int] = SIZE

    def images(self, folder: Path | None) -> list[torch.Tensor]:
        """Those of a folder, or synthetic ones."""
        if folder is None:
            return synthetic_images(self.channels, self.size)
        images = read_images(folder, self.channels)
        # one size for all, since they share batches
        height, width = (min(image.shape[axis] for image in images) for axis in (-2, -1))
        images = [image[..., :height, :width] for image in images]
        if constant := [number for number, image in enumerate(images, 1) if image.amax() == image.amin()]:
            raise InputError(f'{folder}: images with some contrast are needed; image {constant[0]} is constant')
        return images


def find_subject(
    text: str,
    *,
    wne: bool = False,
    sigma: float | None = None,
    device: str = 'cpu',
    dtypes: str = ','.join(PRECISIONS),
    trusted: bool = False,
) -> Subject:
    """The network that ``text`` names.

    Args:
        text: a checkpoint as ``denoisers.parse_spec`` takes it; an exported network (``.onnx``, ``.pt2``); an
            option file (``.yml``), whose ``network_g`` counts, with ``path: pretrain_network_g`` if there is one; an
            inline mapping or a name as for ``basicsr bench``. Without weights they are random, biases and running
            statistics, too: what a constructor sets to zero could make a plain network look equivariant to scale.
        wne: wrap the network as ``ne_basicsr.load`` does.
        sigma: the noise level of its training, with ``wne``; else the one that a non-blind network is told, 25 / 255
            where not given.
        dtypes: names of ``PRECISIONS``, with commas.
        trusted: see ``exported.open_exported``.

    Raises:
        InputError: nothing that can be certified.
    """
    chosen = _dtypes(dtypes)
    path = Path(text)
    if path.suffix in exported_graphs.SUFFIXES and not text.lstrip().startswith('{'):
        if wne:
            raise InputError(
                f'{text}: an exported network cannot be wrapped; wrap the checkpoint that it was made from'
            )
        return _exported(path, device, chosen, trusted, sigma)
    if _is_description(text):
        network, about = _built(text, wne, sigma), ''
    else:
        spec = parse_spec(text)
        known = sigma if spec.sigma255 is None else spec.sigma255 / 255
        wrap = 'wne' if wne or spec.wrap else None
        loaded = loading.load_described(spec.file, wrap, sigma=known if wrap else None, options=spec.options)
        network, about = loaded.network, f'{loaded.description}: '
    needs_sigma = is_non_blind(network)
    told = (sigma or SIGMA) if needs_sigma else None
    channels = channels_of(network, needs_sigma, text, size=SIZE)
    return Subject(network, about + _describe(network), told, chosen, channels)


def _dtypes(text: str) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(',')]
    for name in names:
        if name not in PRECISIONS:
            raise InputError(f'dtype: {one_of(PRECISIONS, name)}')
    return tuple(name for name in PRECISIONS if name in names)  # the finest first


def _is_description(text: str) -> bool:
    path = Path(text)
    is_name = not (path.suffix or path.exists() or text in shipped_models.MODELS)
    return text.lstrip().startswith('{') or path.suffix in ('.yml', '.yaml') or is_name


def _built(text: str, wne: bool, sigma: float | None) -> nn.Module:
    """A described network, with the weights that its option file names or with random ones, always the same."""
    (build,) = parse_networks([text]).values()
    options = read_yaml(text) if Path(text).suffix in ('.yml', '.yaml') else {}
    paths: Any = options.get('path') if isinstance(options.get('path'), Mapping) else {}
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(0)
        try:
            network = build()
        except REFUSALS as error:
            raise InputError(f'{text}: cannot be built: {first_line(error)}') from error
        if weights := paths.get('pretrain_network_g'):
            checkpoint.load_network(
                network,
                Path(weights).expanduser(),
                strict=paths.get('strict_load_g', True),
                param_key=paths.get('param_key_g', 'params'),
            )
        else:
            randomize(network)
    return loading.any_size(loading.wrap_zero_shot(network, sigma) if wne else network).eval()


@torch.no_grad()
def randomize(network: nn.Module) -> None:
    """Make weights and running statistics generic that the constructor set to constants, such as biases of zero."""
    for parameter in network.parameters():
        if parameter.numel() and (parameter == parameter.flatten()[0]).all():
            parameter.add_(0.1 * torch.randn_like(parameter))
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is not None:
            assert module.running_var is not None
            module.running_mean.add_(0.1 * torch.randn_like(module.running_mean))
            module.running_var.mul_((0.1 * torch.randn_like(module.running_var)).exp())


def _exported(path: Path, device: str, dtypes: tuple[str, ...], trusted: bool, sigma: float | None) -> Subject:
    network = exported_graphs.open_exported(path, device, trusted)
    if network.dtype not in dtypes:
        raise InputError(f'{path}: it takes {network.dtype} alone; --dtype asks for {", ".join(dtypes)}')
    batch, channels, *sides = network.shape
    if batch not in (None, 1):
        raise InputError(f'{path}: it takes {batch} images at a time; export it for any number, or for one')
    size = (sides[0] or SIZE[0], sides[1] or SIZE[1])
    if (channels or 1) * size[0] * size[1] > MOST:
        raise InputError(
            f'{path}: at most {MOST:,} values per image are checked; it takes {channels or 1}x{size[0]}x{size[1]}:'
            ' export it for any size, or for a smaller one'
        )
    about = f'exported, {network.dtype}, {"x".join("any" if side is None else str(side) for side in network.shape)}'
    if not network.needs_sigma:
        return Subject(network.run, about, None, (network.dtype,), channels or 1, size)

    told = sigma or SIGMA

    def run(images: torch.Tensor, sigma: float = told) -> torch.Tensor:
        return network.run(images, images.new_full((len(images),), sigma))

    return Subject(run, f'{about}, non-blind', told, (network.dtype,), channels or 1, size)


def _chain(network: nn.Module) -> list[nn.Module]:
    """The network, and those that it is wrapped around."""
    inner = getattr(network, 'backbone', getattr(network, 'network', None))
    if isinstance(network, (BackboneHolder, loading.AnySize)) and isinstance(inner, nn.Module):
        return [network, *_chain(inner)]
    return [network]


def _describe(network: nn.Module) -> str:
    names = [type(each).__name__ for each in _chain(network) if not isinstance(each, loading.AnySize)]
    return f'{" around ".join(names)}, {sum(p.numel() for p in network.parameters()):,} parameters'
