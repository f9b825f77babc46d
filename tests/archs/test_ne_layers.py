"""The affine layers: they commute with a y + b, their fast route is the definition, and kernels follow the weights."""

import copy
import io
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from ne_basicsr.archs.ne_layers import (
    AffineConv2d,
    AffineResidual,
    AffineUpsample2x,
    SortPool,
    affine_chain,
    affine_kernel,
    sort_halves,
    sort_pairs,
    to_halves,
)
from ne_basicsr.ops.equivariance import ne_defect

CONVOLUTIONS: dict[str, dict[str, Any]] = {
    'plain': {'kernel_size': 3, 'padding': 1},
    'asymmetric': {'kernel_size': (3, 5), 'padding': (0, 2)},
    'same': {'kernel_size': 4, 'padding': 'same'},
    'strided': {'kernel_size': 2, 'stride': 2},
    'dilated': {'kernel_size': 3, 'padding': 3, 'dilation': 3},
    'grouped': {'kernel_size': 3, 'padding': 1, 'groups': 2},
    'depthwise': {'kernel_size': 3, 'padding': 1, 'groups': 4},
    'replicate': {'kernel_size': 3, 'padding': 2, 'padding_mode': 'replicate'},
    'circular': {'kernel_size': 3, 'padding': 1, 'padding_mode': 'circular'},
    'wider than the image': {'kernel_size': 3, 'padding': 30, 'dilation': 30},
}


@pytest.fixture
def features(images: Tensor) -> Tensor:
    """Four inputs (4, 4, 19, 23) that differ in mean and contrast."""
    return torch.cat([images, images.flip(2), images.flip(3), images.mT.mT.roll(3, 2)], dim=1)


def chain(channels: list[int], **options: Any) -> nn.Sequential:
    """AffineConv2d and SortPool in turn, float64, through the given channels."""
    convs = [AffineConv2d(i, o, 3, padding=1, **options) for i, o in itertools.pairwise(channels)]
    layers = [layer for conv in convs for layer in (conv, SortPool())][:-1]
    return nn.Sequential(*layers).double()


def convs_of(net: nn.Module) -> list[AffineConv2d]:
    return [module for module in net.modules() if isinstance(module, AffineConv2d)]


def by_definition(x: Tensor, weights: list[Tensor]) -> Tensor:
    """The chain from its definition, sharing no code with the layers."""
    for i, w in enumerate(weights):
        flat = w.reshape(len(w), -1)
        kernel = torch.cat([flat[:, -1:], flat[:, :-1]], dim=1) - flat + 1 / flat.shape[1]
        x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode='reflect'), kernel.view_as(w))
        if i < len(weights) - 1:
            n, c, height, width = x.shape
            x = x.reshape(n, c // 2, 2, height, width).sort(dim=2).values.reshape(n, c, height, width)
    return x


# -- equivariance ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', CONVOLUTIONS)
def test_affine_convolution_commutes_with_affine_maps(name: str, features: Tensor) -> None:
    conv = AffineConv2d(4, 6 if 'groups' not in CONVOLUTIONS[name] else 8, **CONVOLUTIONS[name]).double()
    assert ne_defect(conv, features).max() < 1e-12
    torch.testing.assert_close(conv.kernel().flatten(1).sum(1), torch.ones(conv.out_channels, dtype=torch.float64))
    plain = nn.Conv2d(4, conv.out_channels, bias=False, **CONVOLUTIONS[name]).double()
    assert ne_defect(plain, features).max() > 1e-3


def test_the_other_affine_layers_commute_with_affine_maps(features: Tensor) -> None:
    residual = AffineResidual().double()
    nn.init.constant_(residual.alpha, 1.3)
    for layer in (AffineUpsample2x(4, 3).double(), SortPool(), lambda x: residual(x, x.square().sqrt().flip(1))):
        positive = features - features.amin() + 1  # so that square().sqrt() is the identity
        assert ne_defect(layer, positive, b_range=(0, 0.25)).max() < 1e-12
    assert ne_defect(nn.ReLU(), features).max() > 1e-3
    assert ne_defect(lambda x: x + residual(x, x), features).max() > 1e-3


def test_noise_map_enters_unconstrained(features: Tensor) -> None:
    conv = AffineConv2d(5, 6, 3, padding=1, noise_map=True).double()
    kernel = conv.kernel()
    assert torch.equal(kernel[:, 4], conv.weight[:, 4])
    torch.testing.assert_close(kernel[:, :4].flatten(1).sum(1), torch.ones(6, dtype=torch.float64))
    sigma = torch.full_like(features[:, :1], 0.3)
    a, b = 1.4, -0.2
    output = conv(torch.cat([features, sigma], dim=1))
    mapped = conv(torch.cat([a * features + b, a * sigma], dim=1))
    torch.testing.assert_close(mapped, a * output + b, rtol=1e-12, atol=1e-12)
    assert (output - conv(torch.cat([features, 2 * sigma], dim=1))).abs().max() > 1e-3


# -- values ------------------------------------------------------------------------------------------------------------


def test_affine_kernel_closed_form() -> None:
    weight = torch.tensor([1.0, 2.0, 4.0, 8.0]).view(1, 1, 2, 2)
    assert affine_kernel(weight).flatten().tolist() == [8 - 1 + 0.25, 1 - 2 + 0.25, 2 - 4 + 0.25, 4 - 8 + 0.25]


def test_sort_pool_closed_form() -> None:
    x = torch.tensor([3.0, 1.0, 0.0, 5.0, -2.0, -7.0]).view(1, 6, 1, 1)
    assert SortPool()(x).flatten().tolist() == [1, 3, 0, 5, -7, -2]
    assert to_halves(torch.arange(6), 0).tolist() == [0, 2, 4, 1, 3, 5]


def test_affine_residual_closed_form() -> None:
    residual = AffineResidual()
    assert residual(torch.tensor([2.0]), torch.tensor([4.0])).item() == 3
    nn.init.constant_(residual.alpha, 2.0)
    assert residual(torch.tensor([2.0]), torch.tensor([4.0])).item() == 0


@pytest.mark.parametrize(
    ('name', 'layer'),
    [
        ('affine_conv2d_0', AffineConv2d),
        ('affine_conv2d_1', AffineConv2d),
        ('affine_upscale2', AffineUpsample2x),
        ('sort_pool', SortPool),
    ],
)
def test_layers_reproduce_the_reference(golden: Callable[[str], Any], name: str, layer: type[nn.Module]) -> None:
    # stored weights are the free tensors w, not the kernels
    stored = golden(name)
    net = layer(**{key: value for key, value in stored.meta.items() if key != 'source'}).double()
    net.load_state_dict(stored.weights, strict=True)
    torch.testing.assert_close(net(stored.input), stored.output, rtol=0, atol=1e-10)


# -- the fast route ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('grad', [False, True])
@pytest.mark.parametrize('mode', ['reflect', 'replicate', 'circular'])
def test_chain_in_halves_equals_sorting_interleaved_pairs(
    features: Tensor, layout: torch.memory_format, grad: bool, mode: str
) -> None:
    net = chain([4, 8, 6, 6, 3], padding_mode=mode).to(memory_format=layout)
    x = features.to(memory_format=layout)
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(affine_chain(x, convs_of(net)), net(x), rtol=1e-13, atol=1e-13)
        if mode == 'reflect':
            weights = [conv.weight for conv in convs_of(net)]
            torch.testing.assert_close(net(x), by_definition(x, weights), rtol=1e-13, atol=1e-13)
            assert affine_chain(x, convs_of(net)).is_contiguous(memory_format=layout)


@pytest.mark.parametrize('size', [(1, 1), (1, 5), (2, 2), (7, 1)])
def test_chain_takes_images_smaller_than_its_padding(size: tuple[int, int]) -> None:
    x = torch.rand(2, 1, *size, dtype=torch.float64)
    net = chain([1, 4, 4, 1])
    with torch.no_grad():
        torch.testing.assert_close(affine_chain(x, convs_of(net)), net(x))
    torch.testing.assert_close(affine_chain(x, convs_of(net)), net(x))


def test_chain_has_the_gradients_of_the_definition(features: Tensor) -> None:
    net = chain([4, 6, 6, 2])
    x = features.clone().requires_grad_()
    wanted = [x, *net.parameters()]
    fast = torch.autograd.grad(affine_chain(x, convs_of(net)).square().sum(), wanted)
    slow = torch.autograd.grad(by_definition(x, list(net.parameters())).square().sum(), wanted)
    for each, expected in zip(fast, slow, strict=True):
        torch.testing.assert_close(each, expected, rtol=1e-10, atol=1e-10)


def test_sort_halves_has_first_and_second_derivatives() -> None:
    x = torch.rand(1, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: sort_halves(x, (1, 1, 1, 1)), (x,))
    assert torch.autograd.gradgradcheck(lambda x: sort_halves(x.sin(), (1, 1, 1, 1)), (x,))
    expected = to_halves(sort_pairs(x), 1)
    assert torch.equal(sort_halves(to_halves(x, 1)), expected)
    with torch.no_grad():
        assert torch.equal(sort_halves(to_halves(x, 1)), expected)


def test_chain_under_function_transforms_and_forward_mode() -> None:
    net = chain([1, 4, 4, 1])
    x, t = torch.rand(2, 1, 1, 4, 4, dtype=torch.float64)

    def f(x: Tensor) -> Tensor:
        return affine_chain(x, convs_of(net))

    jacobian = torch.autograd.functional.jacobian(f, x).reshape(16, 16)
    expected = (jacobian @ t.flatten()).view_as(x)
    torch.testing.assert_close(torch.func.jvp(f, (x,), (t,))[1], expected)
    torch.testing.assert_close(torch.func.jacrev(f)(x).reshape(16, 16), jacobian)
    torch.testing.assert_close(torch.func.vmap(f)(x[None].repeat(3, 1, 1, 1, 1))[2], f(x))
    torch.testing.assert_close(torch.autograd.functional.jacobian(f, x, vectorize=True).reshape(16, 16), jacobian)
    for grad in (False, True):
        with torch.set_grad_enabled(grad), torch.autograd.forward_ad.dual_level():
            output = f(torch.autograd.forward_ad.make_dual(x, t))
            torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(output).tangent, expected)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_scratch_memory_is_reused_in_either_layout(memory_format: torch.memory_format) -> None:
    x = torch.rand(2, 6, 9, 8).contiguous(memory_format=memory_format)
    scratch = torch.empty(2, 6, 11, 10).contiguous(memory_format=memory_format)
    with torch.no_grad():
        fresh = sort_halves(x, (1, 1, 1, 1))
        reused = sort_halves(x, (1, 1, 1, 1), scratch=scratch)
        assert sort_halves(x.double(), (1, 1, 1, 1), scratch=scratch).data_ptr() != scratch.data_ptr()
    assert torch.equal(fresh, reused)
    assert reused.data_ptr() == scratch.data_ptr()


def test_scratch_memory_is_not_reused_where_autograd_needs_it(features: Tensor) -> None:
    net = chain([4, 4, 4, 4, 2])
    for parameter in convs_of(net)[0].parameters():
        parameter.requires_grad_(False)  # the first sorted features want no gradient, the next weights do
    weights = [conv.weight for conv in convs_of(net)]
    fast = torch.autograd.grad(affine_chain(features, convs_of(net)).square().sum(), weights[1:])
    slow = torch.autograd.grad(by_definition(features, weights).square().sum(), weights[1:])
    for each, expected in zip(fast, slow, strict=True):
        torch.testing.assert_close(each, expected, rtol=1e-10, atol=1e-10)


def test_inputs_are_left_alone(features: Tensor) -> None:
    before = features.clone()
    convs = [AffineConv2d(4, 4, 1).double() for _ in range(3)]  # without padding the input itself enters the chain
    with torch.no_grad():
        affine_chain(features, convs)
    assert torch.equal(features, before)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_kernels_are_rounded_once(dtype: torch.dtype) -> None:
    conv = AffineConv2d(64, 4, 3).to(dtype)
    assert conv.kernel().dtype == dtype
    assert torch.equal(conv.kernel(), affine_kernel(conv.weight.double()).to(dtype))


def test_autocast_keeps_the_chain_in_low_precision(features: Tensor) -> None:
    net = chain([4, 4, 4, 2]).float()
    x = features.float().requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        output = affine_chain(x, convs_of(net))
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), net(x), rtol=0.1, atol=0.1)
    output.float().sum().backward()


# -- kernels follow the weights ----------------------------------------------------------------------------------------


def optimizer_step(net: nn.Module) -> None:
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    affine_chain(torch.rand(1, 1, 6, 6, dtype=torch.float64), convs_of(net)).square().sum().backward()
    optimizer.step()


def load(net: nn.Module, assign: bool = False) -> None:
    net.load_state_dict({key: torch.randn_like(value) for key, value in net.state_dict().items()}, assign=assign)


def basicsr_average(net: nn.Module) -> None:
    for parameter in net.parameters():  # as in BasicSR's model_ema: leaves no trace in _version
        parameter.data.mul_(0.5).add_(torch.randn_like(parameter), alpha=0.5)


def replace_data(net: nn.Module) -> None:
    for parameter in net.parameters():
        parameter.data = torch.randn_like(parameter)


def write_without_grad(net: nn.Module) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2).add_(1)
            parameter[0] = 0.3


def write_through_numpy(net: nn.Module) -> None:
    for parameter in net.parameters():
        parameter.detach().numpy()[...] += 0.25 * torch.randn_like(parameter).numpy()


def restore_old_values(net: nn.Module) -> None:
    old = copy.deepcopy(net.state_dict())
    load(net)
    affine_chain(torch.rand(1, 1, 6, 6, dtype=torch.float64), convs_of(net))
    net.load_state_dict(old)


def through_half_and_back(net: nn.Module) -> None:
    net.half()
    net.double()


@pytest.mark.parametrize('inference', [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(
    'change',
    [
        optimizer_step,
        load,
        lambda net: load(net, assign=True),
        basicsr_average,
        replace_data,
        write_without_grad,
        write_through_numpy,
        restore_old_values,
        through_half_and_back,
        lambda net: net.train().eval(),
    ],
)
def test_no_kernel_outlives_its_weights(change: Callable[[nn.Module], None], inference: Callable[[], Any]) -> None:
    net = chain([1, 4, 4, 1]).eval()
    x = torch.rand(2, 1, 7, 9, dtype=torch.float64)
    with inference():
        affine_chain(x, convs_of(net))  # whatever could be kept is kept now
        net(x)
    change(net)
    with inference():
        expected = by_definition(x, [conv.weight for conv in convs_of(net)])
        torch.testing.assert_close(affine_chain(x, convs_of(net)), expected)
        torch.testing.assert_close(net(x), expected)


def test_copies_and_pickles_have_their_own_kernels() -> None:
    net = chain([1, 4, 4, 1]).eval()
    x = torch.rand(2, 1, 7, 9, dtype=torch.float64)
    with torch.no_grad():
        before = affine_chain(x, convs_of(net))
        file = io.BytesIO()
        torch.save(net, file)
        file.seek(0)
        copies = [copy.deepcopy(net), torch.load(file, weights_only=False)]
        basicsr_average(net)
        assert (affine_chain(x, convs_of(net)) - before).abs().max() > 1e-3
        for each in copies:
            assert torch.equal(affine_chain(x, convs_of(each)), before)
            basicsr_average(each)
            expected = by_definition(x, [conv.weight for conv in convs_of(each)])
            torch.testing.assert_close(affine_chain(x, convs_of(each)), expected)


def test_distributed_training_follows_the_weights(tmp_path: Any) -> None:

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = chain([1, 4, 1])

        def forward(self, x: Tensor) -> Tensor:
            return affine_chain(x, convs_of(self.layers))

    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/rendezvous', rank=0, world_size=1)
    try:
        net = Chain()
        parallel = DistributedDataParallel(net)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        x = torch.rand(2, 1, 7, 9, dtype=torch.float64)
        for _ in range(2):
            optimizer.zero_grad()
            parallel(x).square().mean().backward()
            optimizer.step()
            with torch.no_grad():
                expected = by_definition(x, [conv.weight for conv in convs_of(net)])
                torch.testing.assert_close(parallel(x), expected)
    finally:
        dist.destroy_process_group()


def test_state_dicts_hold_the_free_weights_alone() -> None:
    net = chain([1, 4, 4, 1])
    keys, weights = list(net.state_dict()), [conv.weight.clone() for conv in convs_of(net)]
    with torch.no_grad():
        affine_chain(torch.rand(1, 1, 6, 6, dtype=torch.float64), convs_of(net))
    assert list(net.state_dict()) == keys == ['0.weight', '2.weight', '4.weight']
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), weights, strict=True))


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_zero_padding_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match=r"AffineConv2d needs padding_mode .*not affine-invariant\); got 'zeros'"):
        AffineConv2d(1, 2, 3, padding=1, padding_mode='zeros')


def test_odd_channel_counts_cannot_be_sorted() -> None:
    with pytest.raises(ValueError, match='even number of channels; got 5'):
        SortPool()(torch.rand(1, 5, 4, 4))


@pytest.mark.parametrize('options', [{'in_channels': 1}, {'in_channels': 4, 'groups': 2}])
def test_a_noise_map_needs_an_image_and_no_groups(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match='noise_map needs groups 1 and in_channels of at least 2'):
        AffineConv2d(out_channels=4, kernel_size=3, noise_map=True, **options)
