"""What to measure: networks, input and settings from a command line, and the tables of the paper."""

from collections.abc import Collection, Iterable, Mapping
from copy import deepcopy
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor, nn

from ne_basicsr.archs.backbone import build_arch
from ne_basicsr.archs.fdncnn_arch import FDnCNN
from ne_basicsr.archs.ne_layers import SortPool
from ne_basicsr.evaluation.bench.measure import DTYPES, MEMORY_FORMATS, Build, Setting, Shape
from ne_basicsr.inference.opening import open_denoiser, parse_spec, read_description
from ne_basicsr.utils.errors import InputError
from ne_basicsr.utils.words import one_of

Ratios = Mapping[str, Mapping[str, float]]
"""By phase and network: its time relative to the first network."""

DEVICES = ('cpu', 'cuda', 'auto', 'all')


class Preset(NamedTuple):
    """Networks and input of a table, and its ratios by device."""

    networks: dict[str, Build]
    shape: Shape
    ratios: Mapping[str, Ratios]


def parse_networks(texts: Iterable[str]) -> dict[str, Build]:
    """Networks by name, from what a command line says.

    Args:
        texts: as ``opening.parse_spec`` takes them; those that are described, rather than stored, get random weights.

    Raises:
        InputError: no such file or network, or options that the network does not take. Described ones are not built
            yet.
    """
    networks: dict[str, Build] = {}
    for text in texts:
        spec = parse_spec(text)
        build: Build
        if spec.is_description and text == spec.file:
            name, options, _ = read_description(spec.file)
            build = partial(build_arch, options)
        else:
            denoiser = open_denoiser(spec, only=None, untrained=True)
            if not isinstance(denoiser.network, nn.Module):
                raise InputError(f'{text}: bench trains networks, too, which a graph cannot: give its checkpoint')
            name, build = denoiser.label, partial(deepcopy, denoiser)
        count = sum(known.split(' #')[0] == name for known in networks)
        networks[f'{name} #{count + 1}' if count else name] = build
    return networks


def parse_shape(text: str) -> Shape:
    """``16x1x128x128`` to (16, 1, 128, 128), (N, C, H, W)."""
    parts = text.lower().split('x')
    if len(parts) != 4 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f'an input is NxCxHxW, four whole numbers above 0, e.g. 16x1x128x128; got {text!r}')
    n, c, height, width = map(int, parts)
    return n, c, height, width


def parse_settings(
    devices: str = 'auto', dtypes: str = 'float32', memory_formats: str = 'contiguous', compiler: str = ''
) -> list[Setting]:
    """Every combination of lists with commas; with a ``compiler`` each of them eager, then compiled.

    Args:
        devices: of ``DEVICES``: ``auto`` is cuda where there is one, else cpu; ``all`` is cpu, and cuda where there is
            one.
        dtypes, memory_formats: of ``DTYPES`` and ``MEMORY_FORMATS``.
        compiler: a backend of ``torch.compile``, e.g. inductor.

    Raises:
        InputError: an unknown word, or cuda where there is none.
    """
    there = ['cuda'] if torch.cuda.is_available() else []
    chosen: list[str] = []
    for device in _words(devices, DEVICES, 'device'):
        if device == 'cuda' and not there:
            raise InputError('device: no CUDA device is available here; use cpu, auto or all')
        chosen += {'auto': there or ['cpu'], 'all': ['cpu', *there]}.get(device, [device])
    combinations = product(
        dict.fromkeys(chosen),
        _words(dtypes, DTYPES, 'dtype'),
        _words(memory_formats, MEMORY_FORMATS, 'memory_format'),
        ('', compiler) if compiler else ('',),
    )
    return [Setting(*combination) for combination in combinations]


def _words(text: str, known: Collection[str], what: str) -> list[str]:
    words = [word.strip() for word in text.split(',')]
    for word in words:
        if word not in known:
            raise InputError(f'{what}: {one_of(known, word)}')
    return words


class SortByTorch(nn.Module):
    """``SortPool`` by ``torch.sort``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (-1, 2)).sort(dim=2).values.flatten(1, 2)


def layer_by_layer(sort: type[nn.Module], **options: Any) -> nn.Sequential:
    """FDnCNN norm-equiv as its authors describe it: kernels, padding, convolution and ``sort`` one after the other."""
    layers = FDnCNN(mode='norm-equiv', **options).fdncnn
    return nn.Sequential(*(sort() if isinstance(layer, SortPool) else layer for layer in layers))


_PAPER = yaml.safe_load((Path(__file__).parent / 'paper.yml').read_text(encoding='utf-8'))
PRESETS = {
    str(number): Preset(
        {name: partial(build_arch, options) for name, options in each['networks'].items()},
        tuple(each['shape']),
        each['ratios'],
    )
    for number, each in _PAPER.items()
}
# not of the paper: the affine route against the plain network and against what its authors describe, in one run
_ROUTES = {name: build for name, build in PRESETS['2'].networks.items() if not name.endswith('WNE')}
_ROUTES['layer by layer, min and max'] = partial(layer_by_layer, SortPool)
_ROUTES['layer by layer, torch.sort'] = partial(layer_by_layer, SortByTorch)
PRESETS['affine'] = Preset(_ROUTES, PRESETS['2'].shape, {})
"""By number, the paper's tables (FDnCNN on the GPU and on the CPU; SwinIR), and ``affine``. Default: all devices."""
