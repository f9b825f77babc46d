"""Tiles against the whole. Images have a ramp, so that parts have statistics of their own, and little noise."""

import re

import pytest
import skimage
import torch
from basicsr.archs import build_network
from torch import nn

from ne_basicsr.archs.drunet_arch import DRUNet
from ne_basicsr.archs.wne_arch import WNE
from ne_basicsr.inference import tiles as tiling
from ne_basicsr.inference.opening import open_denoiser
from ne_basicsr.inference.receptive_field import grid, receptive_radius
from ne_basicsr.inference.tiles import Plan, Tiled, _cut, _weight
from ne_basicsr.ops import chunked_statistics, equivariance
from ne_basicsr.utils.errors import InputError

DNCNN = {'type': 'DnCNN', 'num_feat': 4, 'num_layers': 6}
SWINIR = {
    'type': 'SwinIR', 'upscale': 1, 'in_chans': 1, 'img_size': 16, 'window_size': 8, 'depths': [2], 'embed_dim': 8,
    'num_heads': [2], 'mlp_ratio': 2, 'drop_path_rate': 0.0,
}  # fmt: skip
DRUNET = {'type': 'DRUNet', 'num_feats': [4, 6], 'num_blocks': 1}
RESTORMER = {
    'type': 'Restormer', 'inp_channels': 1, 'out_channels': 1, 'dim': 4, 'num_blocks': [1, 1, 1, 1],
    'num_refinement_blocks': 1, 'heads': [1, 1, 1, 1], 'ffn_expansion_factor': 1,
}  # fmt: skip
SUBJECTS = {
    'DnCNN': DNCNN,
    'FDnCNN': {'type': 'FDnCNN', 'mode': 'norm-equiv', 'num_feat': 4, 'num_layers': 5},
    'DRUNet': DRUNET | {'mode': 'norm-equiv'},
    'DnCNNWNE': DNCNN | {'type': 'DnCNNWNE'},
    'mean_noise': {'type': 'WNE', 'statistics': 'mean_noise', 'target': {'mean': 0.45}, 'backbone': DNCNN},
    'ZeroShot': {'type': 'ZeroShot', 'backbone': DNCNN},
    'two passes': {'type': 'ZeroShot', 'backbone': DNCNN, 'passes': 2},
    'told': {'type': 'FDnCNNWNE', 'blind': False, 'estimate': True, 'num_feat': 4, 'num_layers': 5},
    'SwinIRWNE': SWINIR | {'type': 'SwinIRWNE'},
    'super-resolution': {'type': 'SRVGGNetCompact', 'num_in_ch': 1, 'num_out_ch': 1, 'num_feat': 4, 'num_conv': 2},
}


def image(height: int = 40, width: int = 134, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    y = 0.01 * torch.randn(1, 1, height, width, dtype=torch.float64) + torch.linspace(0.1, 0.9, width).double()
    return y.to(dtype)


def build(options, dtype=torch.float64) -> nn.Module:
    return build_network(options).to(dtype).eval()


@pytest.mark.parametrize('name', SUBJECTS)
def test_tiles_give_what_the_whole_image_gives(name):
    net, y = build(SUBJECTS[name]), image()
    tiled = Tiled(net, tile=96, overlap=32)
    with torch.no_grad():
        expected, result = net(y), tiled(y)
    assert tiled.plan(1).exact
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-11)
    if name == 'DnCNNWNE':
        single, y = net.float(), y.float()
        with torch.no_grad():
            assert (Tiled(single, 96)(y) - single(y)).abs().max() < 1e-5


def test_colours_in_tiles_are_moved_by_one_mean_as_in_the_whole_image():
    net = build({'type': 'ZeroShot', 'backbone': DNCNN | {'num_in_ch': 3, 'num_out_ch': 3}})
    y = torch.cat([0.3 * image(), image(), image().square()], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(Tiled(net, tile=96, overlap=32)(y), net(y), rtol=0, atol=1e-9)


def test_statistics_of_each_tile_would_give_another_image():
    net, y = build(SUBJECTS['DnCNNWNE']), image()
    with torch.no_grad():
        own = net(y[..., :96])  # what tiling around the wrapper without its statistics would do
        assert (own - net(y)[..., :96])[..., :48].abs().max() > 1e-4
        assert (Tiled(net, 96)(y) - net(y))[..., :48].abs().max() < 1e-11


@pytest.mark.parametrize('name', ['DnCNNWNE', 'ZeroShot'])
def test_tiled_networks_commute_with_affine_maps(name):
    net, y = Tiled(build(SUBJECTS[name]), 96), image()
    with torch.no_grad():
        torch.testing.assert_close(net(30 * y + 7), 30 * net(y) + 7, rtol=1e-10, atol=1e-10)


def test_images_of_a_batch_keep_their_own_statistics():
    net, y = Tiled(build(SUBJECTS['ZeroShot']), 96), image()
    other = 0.1 * image() + 2
    with torch.no_grad():
        together = net(torch.cat([y, other]))
        torch.testing.assert_close(together, torch.cat([net(y), net(other)]), rtol=0, atol=1e-11)


def test_reach_is_the_receptive_field_of_convolutions():
    for layers in (3, 9):
        assert receptive_radius(build({**DNCNN, 'num_layers': layers}), 1, 32) == layers
    assert receptive_radius(build({**DNCNN, 'num_layers': 9}), 1, 8) is None  # over the limit
    assert receptive_radius(nn.Conv2d(3, 3, 3, padding=5, dilation=5), 3, 32) == 5
    assert receptive_radius(nn.Identity(), 1, 32) == 0
    assert receptive_radius(build(SUBJECTS['ZeroShot']), 1, 32) == 6 + 7 + 12  # and the blocks of its DCT, its window
    assert receptive_radius(build(SUBJECTS['two passes']), 1, 32) == 6 + 7
    assert receptive_radius(build(SWINIR), 1, 64) > 8
    assert receptive_radius(build(RESTORMER), 1, 64) is None  # channel attention sees everything


@pytest.mark.parametrize('kernel', [(9, 1), (1, 9)])
def test_reach_is_the_farther_of_rows_and_columns_up_to_its_limit(kernel):
    net = nn.Conv2d(1, 1, kernel, padding='same')
    assert (receptive_radius(net, 1, limit=4), receptive_radius(net, 1, limit=3)) == (4, None)


@pytest.mark.parametrize(('side', 'exact'), [(65, True), (67, False)])
def test_an_overlap_is_enough_where_the_network_looks_just_as_far(side, exact):
    assert Tiled(nn.Conv2d(1, 1, (side, 1), padding='same'), 96, 32).plan(1).exact == exact


def test_grids_hold_windows_and_strides():
    assert grid(build(DNCNN)) == 32
    assert grid(build({**SWINIR, 'window_size': 7, 'img_size': 14})) == 35


def test_a_network_that_sees_everything_is_blended_and_leaves_no_seam():
    net, y = build(SUBJECTS['DnCNN']), image(64, 200)

    class Global(nn.Module):  # tiles differ by a constant of their own: the worst case for seams
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, z):
            return self.net(z) + 0.1 * z.mean(dim=(2, 3), keepdim=True)

    def steps(result):  # largest jump between columns, beyond what the backbone makes
        return (result - net(y)).mean(dim=2).diff(dim=-1).abs().max()

    tiled = Tiled(Global().eval(), 128, overlap=32)
    plan = tiled.plan(1)
    assert not plan.exact and plan.blend == 16
    cut = Tiled(Global().eval(), 128, overlap=32)
    cut._plans[1] = plan._replace(blend=0)  # the control: a step of the whole difference between two tiles
    with torch.no_grad():
        blended, hard = steps(tiled(y)), steps(cut(y))
    assert hard > 0.01
    assert blended < 1.5 * hard / (2 * plan.blend)


@pytest.mark.parametrize(
    ('options', 'tile'),
    [
        ({**SWINIR, 'type': 'SwinIRWNE', 'depths': [6, 6], 'num_heads': [2, 2]}, 128),
        ({**DNCNN, 'num_layers': 40}, 64),
        ({**DNCNN, 'num_layers': 40}, 95),
    ],
)
def test_networks_in_short_overlaps_stay_close_and_without_seams(options, tile):
    net, y = build(options), image(48, 208)
    tiled = Tiled(net, tile)
    with torch.no_grad():
        expected, result = net(y), tiled(y)
    assert not tiled.plan(1).exact and tiled.plan(1).blend
    error = (result - expected).square().mean().sqrt() / (net(y) - y).square().mean().sqrt()
    assert error < 0.01  # of what the network changes
    jumps = (result - expected).abs()
    assert jumps.diff(dim=-1).abs().max() < 0.05 * (expected - y).abs().max()


def test_odd_windows_leave_room_for_an_overlap():
    net, y = build({**SWINIR, 'type': 'SwinIRWNE', 'window_size': 7, 'img_size': 14}), image(42, 150)
    tiled = Tiled(net, 110)
    with torch.no_grad():
        torch.testing.assert_close(tiled(y), net(y), rtol=0, atol=1e-11)
    assert tiled.plan(1) == Plan(core=35, overlap=35, blend=0, step=35, exact=True)


@pytest.mark.parametrize('step', [32, 35])
@pytest.mark.parametrize('tiles', [1, 2.9, 3, 5, 16])
@pytest.mark.parametrize('layers', [6, 20])
def test_tiles_overlap_wherever_the_network_looks_further(layers, tiles, step):
    net = build({**DNCNN, 'num_layers': layers})
    net.size_multiple = step
    plan = Tiled(net, int(tiles * step)).plan(1)
    assert plan.step == step and plan.overlap >= step and plan.core >= step
    assert plan.exact or plan.blend >= step // 4
    assert tiles < 3 or plan.core + 2 * plan.overlap <= tiles * step


@pytest.mark.parametrize('blend', [0, 7, 16])
@pytest.mark.parametrize('length', [1, 64, 65, 200, 257])
def test_shares_of_tiles_add_up_to_one(blend, length):
    plan = Plan(core=64, overlap=32, blend=blend, step=32, exact=False)
    for ratio in (1, 2):
        total = torch.zeros(length * ratio, dtype=torch.float64)
        for tile in _cut(length, plan):
            total[tile.mixed.start * ratio : tile.mixed.stop * ratio] += _weight(tile, blend, length, ratio)
            assert tile.seen.start % plan.step == 0
        torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)


@pytest.mark.parametrize('size', [(40, 136), (40, 133), (139, 130)])
def test_what_pads_with_the_mean_gets_that_of_the_whole_image(size, monkeypatch):
    net = WNE(DRUNet(num_feats=[4, 6], num_blocks=1)).double().eval()
    tiled, y = Tiled(net, 96, overlap=32), image(*size)
    with torch.no_grad():
        torch.testing.assert_close(tiled(y), net(y), rtol=0, atol=1e-11)
        monkeypatch.setattr(tiling, '_mean_padding', lambda network: 1)
        is_even = size[0] % 8 == size[1] % 8 == 0
        assert is_even == ((tiled(y) - net(y)).abs().max() < 1e-6)
        net = WNE(DRUNet(num_feats=[4, 6], num_blocks=1, pad_with='reflect')).double().eval()
        torch.testing.assert_close(Tiled(net, 96, overlap=32)(y), net(y), rtol=0, atol=1e-11)


def test_small_images_are_not_cut_and_results_come_from_the_top():
    calls: list[torch.Size] = []
    net = nn.Identity()
    net.register_forward_hook(lambda module, inputs, output: calls.append(output.shape))
    y = torch.rand(1, 3, 96, 96)
    assert torch.equal(Tiled(net, 96)(y), y)
    assert calls == [y.shape]
    y, rows = torch.rand(1, 3, 200, 100), []
    seen = []
    Tiled(net, 96).run(y, lambda part, height, values: rows.append((part, height)), on_tile=seen.append)
    assert [part.start for part, _ in rows[1:]] == [part.stop for part, _ in rows[:-1]]
    assert rows[0][0].start == 0 and rows[-1][0].stop == 200 and {height for _, height in rows} == {200}
    assert sum(seen) == 200 * 100


@pytest.mark.parametrize(('tile', 'overlap', 'message'), [(16, None, '(--tile) must be at least 32 pixels'),
                                                          (128, 64, 'at least 160 pixels for this network with'),
                                                          (128, -1, 'at least 0 pixels; got -1')])  # fmt: skip
def test_impossible_tiles_are_refused(tile, overlap, message):
    with pytest.raises(InputError, match=re.escape(message)):
        Tiled(nn.Identity(), tile, overlap)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_statistics_in_chunks_are_those_of_the_whole(dtype, monkeypatch):
    size = 120, 150
    y = torch.cat([image(*size, dtype), image(*size, dtype).clamp(0.3, 0.7), torch.full((1, 1, *size), 0.3).to(dtype)])
    functions = equivariance.mean_std, lambda z: equivariance.mean_std(z, 1), equivariance.mean_noise
    whole = [function(y) for function in functions]
    monkeypatch.setattr(chunked_statistics, 'LARGE', 100)
    monkeypatch.setattr(chunked_statistics, 'CHUNK', 1000)
    assert chunked_statistics.is_large(y) and not chunked_statistics.is_large(y.clone().requires_grad_())
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    for function, expected in zip(functions, whole, strict=True):
        for one, other in zip(function(y), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=tolerance, atol=1e-12)


@pytest.mark.parametrize('name', ['DnCNNWNE', 'ZeroShot'])
def test_more_memory_makes_larger_tiles_and_the_same_image(name):
    net, y = build(SUBJECTS[name]), image(150, 230)
    results = []
    for memory in (0, 3e7, 1e9):
        tiled = Tiled(net, 96, 32, memory=memory)
        down, across = tiled.parts(y.shape)
        results.append((len(down) * len(across), tiled(y)))
        assert bool(tiled.how(y.shape)) == (results[-1][0] > 1)
    assert results[0][0] > results[1][0] > results[2][0] == 1
    for _, result in results:
        torch.testing.assert_close(result, results[-1][1], rtol=0, atol=1e-11)


def test_memory_does_not_change_the_tiles_of_networks_that_see_further():  # nor, with them, the result
    net, shape = build({**DNCNN, 'num_layers': 40}), (1, 1, 200, 300)
    assert Tiled(net, 64, memory=1e12).parts(shape) == Tiled(net, 64).parts(shape)


@pytest.mark.parametrize('is_reduced', [True, False], ids=['photograph', 'smooth'])
def test_bfloat16_is_taken_where_it_costs_less_than_a_hundredth_of_a_decibel(is_reduced, monkeypatch):
    monkeypatch.setattr(tiling, 'has_bf16', lambda device: True)
    net = open_denoiser('gray')
    clean = torch.from_numpy(skimage.data.camera()[100:400, 100:400] / 255.0).float()
    if not is_reduced:  # where so little noise remains that rounding counts
        clean = 0.5 + 0.3 * torch.sin(torch.arange(300) / 9)[:, None] * torch.sin(torch.arange(300) / 7)
    y = clean[None, None] + 50 / 255 * torch.randn(1, 1, 300, 300, generator=torch.Generator().manual_seed(0))
    errors = {}
    for precision in ('float32', 'auto', 'bf16'):
        tiled = Tiled(net, 288, precision=precision)
        errors[precision] = (tiled(y) - clean).square().mean().log10() * 10
        assert tiled.is_reduced == {'float32': False, 'auto': is_reduced, 'bf16': True}[precision]
    assert abs(errors['auto'] - errors['float32']) < 0.01
    assert is_reduced or errors['bf16'] - errors['float32'] > 0.01  # the rule had a reason to refuse
