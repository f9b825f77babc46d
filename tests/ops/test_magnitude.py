"""Laws from the smallest normal number to the largest, and gradients where an image is constant or nearly so."""

import math

import pytest
import torch
from basicsr.archs import build_network
from torch import Tensor

from ne_basicsr.archs.wne_arch import WNE, WSE
from ne_basicsr.archs.zero_shot_arch import ZeroShot
from ne_basicsr.inference.tiles import Tiled
from ne_basicsr.ops import chunked_statistics
from ne_basicsr.ops.equivariance import mean_noise, mean_std, min_max, root_mean_square
from ne_basicsr.ops.magnitude import power_of_two
from ne_basicsr.ops.noise_level import noise_level

DNCNN = {'type': 'DnCNN', 'num_feat': 4, 'num_layers': 3, 'act_mode': 'R'}
STATISTICS = {
    'mean_std': lambda y: torch.cat(mean_std(y)),
    'min_max': lambda y: torch.cat(min_max(y)),
    'mean_noise': lambda y: torch.cat(mean_noise(y)),
    'root_mean_square': lambda y: root_mean_square(y).scale,
    'noise_level': noise_level,
}
NETWORKS = {
    'mean_std': lambda g: WNE(g),
    'residual': lambda g: WNE(g, prediction='residual', target={'mean': 0.45, 'scale': 0.25}),
    'min_max': lambda g: WNE(g, statistics='min_max'),
    'mean_noise': lambda g: WNE(g, statistics='mean_noise', target={'mean': 0.45, 'sigma255': 25}),
    'WSE': lambda g: WSE(g),
    'ZeroShot': lambda g: ZeroShot(g, passes=2),
}
LIMIT = {torch.float32: 126, torch.float64: 1022}  # exponents of the smallest normal number, and the largest but one
DIGITS = {torch.float32: 24, torch.float64: 53}
types = pytest.mark.parametrize('dtype', list(LIMIT))


def images(dtype: torch.dtype, side: int = 24) -> Tensor:
    """One above and one below the noise of 25, on [0.5, 1]: all of their values are normal at the smallest unit."""
    noise = torch.randn(2, 1, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (0.75 + noise * torch.tensor([0.005, 0.06], dtype=torch.float64).view(2, 1, 1, 1)).clamp(0.5, 1).to(dtype)


def network(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name](build_network(DNCNN)).eval()


def exponents(dtype: torch.dtype, count: int) -> list[int]:
    low, high = -LIMIT[dtype], LIMIT[dtype]
    return sorted({low, low + 1, high - 1, high, *torch.linspace(low, high, count).int().tolist()})


@types
def test_powers_of_two_are_exact_and_have_inverses(dtype):
    limit = LIMIT[dtype]
    expected = torch.tensor([math.ldexp(1, k) for k in range(-limit, limit + 1)], dtype=dtype)
    assert torch.equal(power_of_two(expected), expected)
    assert torch.equal(power_of_two(1.7 * expected), expected)
    info = torch.finfo(dtype)
    special = power_of_two(torch.tensor([0.0, info.smallest_normal / 4, info.max, math.inf], dtype=dtype))
    assert special.tolist() == [1.0, 2.0**-limit, 2.0**limit, 2.0**limit]
    assert power_of_two(torch.tensor(math.nan)).isnan()


@types
@pytest.mark.parametrize('large', [False, True])
@pytest.mark.parametrize('name', STATISTICS)
def test_statistics_follow_powers_of_two_exactly(name, large, dtype, monkeypatch):
    if large:
        monkeypatch.setattr(chunked_statistics, 'LARGE', 16)
        monkeypatch.setattr(chunked_statistics, 'CHUNK', 300)
    y = images(dtype)
    expected = STATISTICS[name](y)
    for k in exponents(dtype, 4 if large else 40):
        found = STATISTICS[name](y * 2.0**k) / 2.0**k
        if k < 12 - LIMIT[dtype]:  # deviations of 2^-12 are below the normal numbers, whose spacing they then have
            torch.testing.assert_close(found, expected, rtol=0, atol=2.0 ** (-LIMIT[dtype] - DIGITS[dtype] + 2 - k))
        else:
            assert torch.equal(found, expected)


@types
@pytest.mark.parametrize('name', NETWORKS)
def test_networks_follow_powers_of_two_exactly(name, dtype):
    net, y = network(name).to(dtype), images(dtype)
    with torch.no_grad():
        expected = net(y)
        assert (expected - y).abs().max() > 1e-4  # the network does something
        for k in exponents(dtype, 12):
            found = net(y * 2.0**k) / 2.0**k
            if k < 12 - LIMIT[dtype]:  # the scale has lost digits
                torch.testing.assert_close(found, expected, rtol=2.0 ** (12 - DIGITS[dtype]), atol=0)
            else:
                assert torch.equal(found, expected)


@types
@pytest.mark.parametrize('name', ['mean_std', 'ZeroShot'])
def test_the_law_holds_in_tiles_and_for_any_gain_and_offset(name, dtype):
    net, y = Tiled(network(name).to(dtype), tile=96, overlap=0), images(dtype, 112)
    expected = net(y)
    tolerance = 2.0 ** (12 - DIGITS[dtype])  # digits that contrasts of 0.005 beside offsets of 3 cost
    for exponent in (-0.9, -0.5, 0.5, 0.98):
        a = 1.1 * 2.0 ** (exponent * LIMIT[dtype])
        torch.testing.assert_close(net(a * y + a) / a, expected + 1, rtol=tolerance, atol=0)


def test_half_precision_follows_at_the_limits_of_its_range():
    for dtype, limit in ((torch.bfloat16, 120), (torch.float16, 12)):
        y = images(torch.float32)[1:].to(dtype)
        for statistic in STATISTICS.values():
            expected = statistic(y)
            assert expected.dtype == torch.float32
            for k in (-limit, limit):
                moved = (y.float() * 2.0**k).to(dtype)
                assert torch.equal(moved.float() / 2.0**k, y.float())
                assert torch.equal(statistic(moved) / 2.0**k, expected)


def flat(dtype: torch.dtype) -> dict[str, Tensor]:
    """Constant and nearly constant images (1, 1, 12, 12)."""
    one = torch.ones(1, 1, 12, 12, dtype=dtype)
    step = 0.3 * one
    step[0, 0, 3, 4] = torch.nextafter(step[0, 0, 3, 4], one[0, 0, 0, 0])
    half = images(dtype, 12)[:1].clone()
    half[..., :7] = 0
    noise = torch.rand(one.shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    constants = {f'constant {value}': value * one for value in (0.0, 0.3, 1e-30, 1e30)}
    return {**constants, 'one step': step, 'half black': half, 'tiny': noise * 1e-37, 'large': noise * 1e37}


@types
@pytest.mark.parametrize('name', STATISTICS)
def test_statistics_have_finite_gradients_at_flat_images(name, dtype):
    for about, y in flat(dtype).items():
        y.requires_grad_()
        found = STATISTICS[name](y)
        for value in found:
            (gradient,) = torch.autograd.grad(value.sum(), y, retain_graph=True)
            assert gradient.isfinite().all(), about
            assert gradient.abs().sum() < 100, about  # a deviation moves by less than its image: 1 / sqrt(d) per pixel
        if about.startswith('constant') and (name != 'root_mean_square' or about == 'constant 0.0'):
            assert not gradient.any(), about  # the deviation's, at its minimum


@types
@pytest.mark.parametrize('name', NETWORKS)
def test_networks_have_finite_gradients_at_flat_images(name, dtype):
    net = network(name).to(dtype)
    for about, y in flat(dtype).items():
        y.requires_grad_()
        inputs = [y, *net.parameters()]
        for gradient in torch.autograd.grad(net(y).mean(), inputs, allow_unused=True):
            assert gradient is None or gradient.isfinite().all(), about


@pytest.mark.parametrize('name', STATISTICS)
def test_gradients_are_right_at_ordinary_images(name):
    y = torch.rand(2, 1, 10, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(STATISTICS[name], y, fast_mode=True)
    assert torch.autograd.gradgradcheck(STATISTICS[name], y, fast_mode=True)


@pytest.mark.parametrize('name', NETWORKS)
def test_gradients_of_networks_are_right_at_ordinary_images_of_any_unit(name):
    net = network(name).double().requires_grad_(False)
    y = torch.rand(1, 1, 10, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(net, y, fast_mode=True)
    assert torch.autograd.gradgradcheck(net, y, fast_mode=True)
    for unit in (2.0**-500, 2.0**500):  # f(a y) = a f(y), so its derivative is that of f at y
        moved = (unit * y).detach().requires_grad_()
        (found,) = torch.autograd.grad(net(moved)[0, 0, 4, 4], moved)
        torch.testing.assert_close(found, torch.autograd.grad(net(y)[0, 0, 4, 4], y)[0])


@pytest.mark.parametrize('name', [name for name in NETWORKS if name != 'ZeroShot'])  # which looks at values
def test_networks_work_under_function_transforms(name):
    net = network(name).double().requires_grad_(False)
    y = 2.0**-600 * torch.rand(3, 1, 1, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y[1] = 0.3
    torch.testing.assert_close(torch.func.vmap(net)(y), net(y[:, 0])[:, None])
    jacobians = [transform(net)(y[0]) for transform in (torch.func.jacrev, torch.func.jacfwd)]
    torch.testing.assert_close(*jacobians)
    compiled = torch.compile(net, backend='aot_eager', fullgraph=True)
    torch.testing.assert_close(compiled(y[:, 0]), net(y[:, 0]), rtol=1e-12, atol=0)
