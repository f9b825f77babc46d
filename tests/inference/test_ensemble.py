"""The x8 self-ensemble commutes with turning and mirroring, and with y -> a y + b where its network does."""

import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from torch import nn

import ne_basicsr
from ne_basicsr.cli.main import main
from ne_basicsr.inference.denoiser import Denoiser
from ne_basicsr.inference.ensemble import Ensemble
from ne_basicsr.inference.opening import open_denoiser, parse_spec
from ne_basicsr.inference.tiles import Tiled

DNCNN = {'type': 'DnCNNWNE', 'num_feat': 4, 'num_layers': 4}
SWINIR = {
    'type': 'SwinIRWNE', 'upscale': 1, 'in_chans': 1, 'img_size': 16, 'window_size': 8, 'depths': [2], 'embed_dim': 8,
    'num_heads': [2], 'mlp_ratio': 2, 'drop_path_rate': 0.0,
}  # fmt: skip
TURNS = [lambda y: y.flip(-1), lambda y: y.transpose(-1, -2), lambda y: torch.rot90(y, 1, (-2, -1))]


def networks(options) -> tuple[Denoiser, Denoiser]:
    """(the network alone, its ensemble), in float64."""
    torch.manual_seed(0)
    alone = Denoiser(build_network(options).double().eval())
    return alone, Denoiser(Ensemble(alone))


def image(height: int = 37, width: int = 130, seed: int = 1) -> torch.Tensor:
    ramp = torch.linspace(0.1, 0.9, width).double()
    return 0.05 * torch.randn(1, 1, height, width, generator=torch.Generator().manual_seed(seed)).double() + ramp


@pytest.mark.parametrize('options', [DNCNN, SWINIR], ids=['DnCNNWNE', 'SwinIRWNE'])
@torch.no_grad()
def test_an_ensemble_turns_with_the_image_and_commutes_with_affine_maps(options):
    alone, ensemble = networks(options)
    y = image(29, 40)
    for turn in TURNS:
        torch.testing.assert_close(ensemble(turn(y)), turn(ensemble(y)), rtol=0, atol=1e-12)
        assert (alone(turn(y)) - turn(alone(y))).abs().max() > 1e-5  # the control
    torch.testing.assert_close(ensemble(30 * y + 7), 30 * ensemble(y) + 7, rtol=1e-10, atol=1e-10)
    assert ensemble.is_equivariant and ensemble.channels == 1
    plain = networks({**options, 'type': options['type'].removesuffix('WNE')})[1]
    assert not plain.is_equivariant


@torch.no_grad()
def test_an_ensemble_in_tiles_has_the_statistics_of_the_whole_image():
    _, ensemble = networks(DNCNN)
    y, seen = image(), []
    tiled = Tiled(ensemble, 96, 32)
    torch.testing.assert_close(tiled(y, None, seen.append), ensemble(y), rtol=0, atol=1e-12)
    assert tiled.plan(1).exact and sum(seen) == pytest.approx(y.numel())
    own = ensemble(y[..., :96])  # the control: statistics of one tile
    assert (own - ensemble(y)[..., :96])[..., :48].abs().max() > 1e-4


def test_a_non_blind_network_is_told_the_level_each_time():
    seen = []

    class Shrink(nn.Module):
        def forward(self, y, sigma):
            seen.append((tuple(y.shape), sigma.tolist()))
            return y * (1 - sigma.view(-1, 1, 1, 1))

    restored = Denoiser(Ensemble(Denoiser(Shrink())))(torch.ones(2, 1, 64, 48), (0.25, 0.5))
    assert [shape[2:] for shape, _ in seen[-8:]] == 2 * [(64, 48), (48, 64), (64, 48), (48, 64)]
    assert all(levels == [0.25, 0.5] for _, levels in seen[-8:])
    assert restored[:, 0, 0, 0].tolist() == [0.75, 0.5]


def test_x8_names_it_everywhere(workplace, image_folder, capsys):
    spec = parse_spec('net.pth=DnCNN@25+wne+x8')
    assert (spec.file, spec.type, spec.sigma255, spec.wrap, spec.ensemble) == ('net.pth', 'DnCNN', 25, True, True)
    assert not parse_spec('net.pth+wne').ensemble
    gray, ensemble = ne_basicsr.load('gray'), open_denoiser('gray+x8')
    assert (ensemble.label, ensemble.training_levels255) == ('gray+x8', gray.training_levels255)
    assert ensemble.digest != gray.digest and ensemble.entry.parameters == gray.entry.parameters
    noisy = np.random.default_rng(0).random((24, 40))
    turned = [np.rot90(gray(np.rot90(x, k).copy()), -k) for x in (noisy, noisy[::-1]) for k in range(4)]
    turned[4:] = [x[::-1] for x in turned[4:]]  # mirrored the other way round: the same eight
    np.testing.assert_allclose(ensemble(noisy), np.mean(turned, axis=0), atol=1e-5)  # float32

    assert main(['denoise', 'gray+x8', str(image_folder), '-o', 'out']) == 0
    assert main(['export', 'gray+x8', '-o', 'net.safetensors']) == 2 and '+x8' in capsys.readouterr().err
