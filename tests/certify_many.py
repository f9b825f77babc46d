"""Many random networks through the certificate: those that obey the law must pass, those with a small break must fail.

    python tests/certify_many.py --networks 1000 --plants 200

under whatever settings of the processor the environment names (ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA). Prints every
false alarm and every miss, and counts. ``--part 0/4`` does every fourth, from the first. The suite does a small share.

Networks: convolutional, U-shaped and attention backbones under WNE with every statistics and prediction, ZeroShot,
affine-constrained FDnCNN and DRUNet, blind and told the noise; weights times a gain for each layer.

Breaks: those of ``BREAKS``, in otherwise equivariant networks. That each does break the law, by more than rounding,
is found without the certificate. Bias, epsilon and kernel sum are smooth: 2^20 and 2^24 times as large they must have
defects that are 16 times apart, and the break is the first over 2^20. It has to be 100 times as large as the defect of
the network without it, and as u K. Clipping, zero padding and float16 are large themselves. Others are drawn again.
"""

import argparse
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ne_basicsr  # noqa: F401 - first, so that basicsr imports
from ne_basicsr.archs.backbone import build_arch
from ne_basicsr.archs.ne_layers import AffineConv2d
from ne_basicsr.evaluation.check import certify, judge, synthetic_images
from ne_basicsr.inference.opening import randomize

BREAKS = {'bias': 1e-8, 'epsilon': 1e-12, 'kernel sum': 1e-12, 'zero padding': 0.0, 'clipping': 0.0, 'float16': 0.0}
SMOOTH = ('bias', 'epsilon', 'kernel sum')


class Case(NamedTuple):
    """A network, and what ``certify`` needs to know about it."""

    name: str
    network: nn.Module
    channels: int
    size: tuple[int, int]
    sigma: float | None = None

    def passes(self) -> tuple[bool, str, float]:
        """The verdict, and the largest defect in units of its tolerance."""
        images = synthetic_images(self.channels, self.size, count=2)
        found = certify(self.network, images, dtypes=('float64', 'float32'), sigma=self.sigma)
        verdict = judge(found)
        rows = [row for row in found.rows if row.worst is not None]
        worst = max(rows, key=lambda row: row.worst.excess)
        return verdict.passed, f'{verdict.sentence}; {worst.name}: {worst.worst}', worst.worst.excess


# -- networks that obey the law ----------------------------------------------------------------------------------------


def backbone(draw: random.Random, channels: int) -> dict:
    feats = draw.choice([2, 4, 6])
    io = {'num_in_ch': channels, 'num_out_ch': channels}
    swinir = {'type': 'SwinIR', 'img_size': 8, 'window_size': draw.choice([2, 4]), 'in_chans': channels, 'depths': [1]}
    swinir |= {'embed_dim': 4, 'num_heads': [draw.choice([1, 2])], 'mlp_ratio': 2.0, 'upsampler': '', 'upscale': 1}
    restormer = {'type': 'Restormer', 'inp_channels': channels, 'out_channels': channels, 'dim': 2}
    restormer |= {'num_blocks': [1, 1, 1, 1], 'heads': [1, 1, 1, 1], 'num_refinement_blocks': 1}
    layers = {'num_feat': feats, 'num_layers': draw.randint(2, 5)}
    modes = ['ordinary', 'scale-equiv', 'norm-equiv']
    small = {'num_feat': feats, 'num_block': 1} | io
    shares = [  # the slow ones are few
        (30, {'type': 'DnCNN', 'act_mode': draw.choice(['BR', 'R'])} | io | layers),
        (20, {'type': 'FDnCNN', 'mode': draw.choice(modes)} | io | layers),
        (12, {'type': 'DRUNet', 'num_feats': [2, 4], 'num_blocks': 1, 'mode': draw.choice(modes)} | io),
        (5, {'type': 'RRDBNet', 'num_grow_ch': 2, 'scale': 1} | small),
        (5, {'type': 'MSRResNet', 'upscale': 2} | small),
        (5 if channels == 3 else 0, {'type': 'EDSR', 'upscale': 2, 'img_range': 1.0, 'rgb_mean': [0.4] * 3} | small),
        (10, swinir),
        (5, swinir | {'upscale': 2, 'upsampler': 'pixelshuffledirect'}),
        (3, restormer),
    ]
    return draw.choices([options for _, options in shares], [share for share, _ in shares])[0]


def wrapped(draw: random.Random, channels: int) -> dict:
    inner = backbone(draw, channels)
    statistics = draw.choice(['mean_std', 'min_max', 'mean_noise'])
    options = {'type': 'WNE', 'backbone': inner, 'statistics': statistics}
    if inner['type'] in ('DnCNN', 'FDnCNN', 'DRUNet', 'Restormer') and draw.random() < 0.4:
        options['prediction'] = 'residual'
    if statistics == 'mean_std':
        options['correction'] = draw.choice([0, 1])
    if draw.random() < 0.3:
        options['target'] = {'mean': 0.45} | ({'sigma255': 25} if statistics == 'mean_noise' else {'scale': 0.25})
    return options


def affine(draw: random.Random, channels: int) -> dict:
    io = {'num_in_ch': channels, 'num_out_ch': channels, 'mode': 'norm-equiv', 'blind': draw.random() < 0.7}
    if draw.random() < 0.5:
        return {'type': 'FDnCNN', 'num_feat': draw.choice([2, 4, 8]), 'num_layers': draw.randint(2, 6)} | io
    return {'type': 'DRUNet', 'num_feats': draw.choice([[2, 4], [4, 4], [2, 2, 4]]), 'num_blocks': 1} | io


def zero_shot(draw: random.Random, channels: int) -> dict:
    io = {'num_in_ch': channels, 'num_out_ch': channels, 'num_feat': 4, 'num_layers': 3}
    return {'type': 'ZeroShot', 'backbone': {'type': 'DnCNN'} | io, 'passes': draw.choice([1, 2])}


def equivariant(seed: int, kinds: Callable[[random.Random], Callable] | None = None) -> Case:
    """The random network number ``seed``."""
    draw = random.Random(seed)
    kind = kinds(draw) if kinds else draw.choices([wrapped, affine, zero_shot], [70, 28, 2])[0]
    channels = draw.choice([1, 1, 3])
    options = kind(draw, channels)
    torch.manual_seed(seed)
    network = build_arch(options)
    randomize(network)
    spread, gain = draw.choice([0.0, 0.3]), 10 ** draw.choice([0, 0, 0, -2, 1])
    weights = [each for each in network.parameters() if each.dim() > 1]
    with torch.no_grad():
        for weight in weights:  # as trainings leave them, and beyond
            weight.mul_(10 ** draw.gauss(0, spread))
        weights[-1].mul_(gain)
    inner = options.get('backbone', {})
    words = [options['type'], inner.get('type', ''), options.get('statistics', ''), options.get('prediction', '')]
    sigma = draw.choice([0.02, 0.2]) if options.get('blind') is False else None
    size = draw.choice([(8, 9), (8, 12), (11, 16), (13, 10)])
    return Case(' '.join(filter(None, words)), network.eval(), channels, size, sigma)


# -- and those that break it -------------------------------------------------------------------------------------------


class PlantedConv(AffineConv2d):
    """An affine convolution with a break; convolutions become one by their class, and so can be copied."""

    planted: str
    amount: float

    def kernel(self, *args: bool, **kwargs: bool) -> Tensor:
        return super().kernel(*args, **kwargs) * (1 + self.amount if self.planted == 'kernel sum' else 1)

    def convolve(self, padded: Tensor, kernel: Tensor) -> Tensor:
        if self.planted == 'zero padding':
            return F.conv2d(padded, kernel, None, self.stride, self.padding, self.dilation, self.groups)
        if self.planted == 'float16':
            padded = padded.half().to(padded.dtype)
        return super().convolve(padded, kernel) + (self.amount if self.planted == 'bias' else 0)


class Planted(nn.Module):
    """A break around a whole network, or in the wrapper that it has."""

    def __init__(self, network: nn.Module, planted: str, amount: float, early: bool) -> None:
        super().__init__()
        self.network, self.planted, self.amount, self.early = network, planted, amount, early

    def forward(self, y: Tensor, **told: float) -> Tensor:
        if self.planted == 'epsilon':
            origin = y[:, :1, :1, :1]  # so that constant images have deviation 0, and are left as they are
            variance, mean = torch.var_mean(y - origin, dim=(1, 2, 3), keepdim=True, correction=0)
            deviation, mean = variance.sqrt(), origin + mean
            shrunk = (y - mean) / (deviation + self.amount) * deviation + mean
            return self.network(shrunk if self.amount else y, **told)
        y = self._broken(y) if self.early else y
        output = self.network(y, **told)
        return output if self.early else self._broken(output)

    def _broken(self, y: Tensor) -> Tensor:
        if self.planted == 'clipping':
            return y.clamp(0, 1)
        if self.planted == 'float16':
            return y.half().to(y.dtype)
        if self.planted == 'zero padding':
            kernel = torch.full((y.shape[1], 1, 3, 3), 1 / 9, dtype=y.dtype)
            return F.conv2d(y, kernel, padding=1, groups=y.shape[1])
        return y + self.amount


def planted(seed: int, kind: str, times: float = 1.0) -> Case | None:
    """The random network ``seed`` with a break, ``times`` as large as ``BREAKS`` says."""
    draw = random.Random(-seed - 1)
    amount = BREAKS[kind] * times
    in_a_layer = kind == 'kernel sum' or (kind not in ('epsilon', 'clipping') and draw.random() < 0.5)
    case = equivariant(seed, (lambda _: affine) if in_a_layer else None)
    if not in_a_layer:
        early = kind != 'bias' and draw.random() < 0.5
        return case._replace(name=f'{kind}: {case.name}', network=Planted(case.network, kind, amount, early))
    layers = [each for each in case.network.modules() if type(each) is AffineConv2d]
    layer = draw.choice([each for each in layers if kind != 'zero padding' or any(each.pads)])
    layer.__class__, layer.planted, layer.amount = PlantedConv, kind, amount
    if kind == 'zero padding':
        layer.pads = (0, 0, 0, 0)
    return case._replace(name=f'{kind} in a layer: {case.name}')


def really_broken(seed: int, kind: str) -> bool:
    """See this file's first lines."""
    with torch.no_grad():
        rounding = defects(equivariant_twin(seed, kind))
        if kind not in SMOOTH:
            return any(found > 100 * least for found, least in zip(defects(planted(seed, kind)), rounding, strict=True))
        large, larger = (defects(planted(seed, kind, 2.0**power)) for power in (20, 24))
    return any(
        math.isclose(16 * one, other, rel_tol=0.2) and one / 2**20 > 100 * least
        for one, other, least in zip(large, larger, rounding, strict=True)
    )


def equivariant_twin(seed: int, kind: str) -> Case:
    """The network that ``planted`` breaks, before that."""
    case = planted(seed, kind, 0.0)
    for module in case.network.modules():
        if isinstance(module, PlantedConv):
            module.__class__ = AffineConv2d
            height, width = ((side - 1) // 2 for side in module.kernel_size)
            module.pads = (width, width, height, height)
    return case._replace(network=case.network.network) if isinstance(case.network, Planted) else case


def defects(case: Case) -> list[float]:
    """The law at a few (a, b), in units of a std y, or of u K where that is larger."""
    network = case.network.double()
    y = synthetic_images(case.channels, case.size, count=1)[0]
    found = []
    for a, b in ((1e-3, 0.0), (1e-3, 10.0), (1.0, -10.0), (300.0, 0.0)):
        x = a * y + b
        image = (x - b) / a
        told = [{} if case.sigma is None else {'sigma': scale * case.sigma} for scale in (a, 1.0)]
        defect = (network(x, **told[0]) - (a * network(image, **told[1]) + b)).abs().max()
        found.append(float(max(defect, 2**-53 * x.abs().max()) / (a * image.std(correction=0))))
    return found


def plants() -> Iterator[tuple[int, str]]:
    """Seeds and kinds of breaks that are ones."""
    for number in range(10**6):
        kind = list(BREAKS)[number % len(BREAKS)]
        seed = next(seed for seed in range(1000 * number, 1000 * number + 1000) if really_broken(seed, kind))
        yield seed, kind


# -- counting ----------------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument('--networks', type=int, default=1000)
    parser.add_argument('--plants', type=int, default=200)
    parser.add_argument('--part', default='0/1')
    arguments = parser.parse_args()
    part, parts = map(int, arguments.part.split('/'))
    torch.set_num_threads(1)
    alarms, misses, kinds, breaks, largest = 0, 0, Counter(), Counter(), (0.0, '')
    for seed in range(part, arguments.networks, parts):
        case = equivariant(seed)
        passed, why, excess = case.passes()
        kinds[case.name.split()[0]] += 1
        largest = max(largest, (excess, f'{seed} {why}'))
        if not passed:
            alarms += 1
            print(f'false alarm {seed}: {case.name}: {why}', flush=True)
    redrawn = 0
    for number, (seed, kind) in enumerate(plants()):
        if number >= arguments.plants:
            break
        if number % parts != part:
            continue
        redrawn += seed % 1000
        case = planted(seed, kind)
        passed, _, _ = case.passes()
        breaks[kind] += 1
        if passed:
            misses += 1
            print(f'miss {seed}: {case.name}', flush=True)
    print(f'{alarms} false alarms in {kinds.total()} networks ({dict(kinds)})')
    print(f'largest defect in tolerances: {largest}')
    print(f'{misses} misses in {breaks.total()} breaks ({dict(breaks)}); {redrawn} draws broke nothing')
    return bool(alarms or misses)


if __name__ == '__main__':
    raise SystemExit(main())
