import copy
import inspect
import pickle

import pytest
import torch
from basicsr.archs import build_network
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from ne_basicsr.archs.network_inputs import facts_of
from ne_basicsr.archs.wne_arch import WNE, WSE, InputNorm
from ne_basicsr.inference.denoiser import as_denoiser
from ne_basicsr.ops.equivariance import root_mean_square
from ne_basicsr.ops.noise_level import noise_level

SWINIR = {
    'upscale': 1, 'in_chans': 1, 'img_size': 16, 'window_size': 8, 'depths': [2, 2], 'embed_dim': 12,
    'num_heads': [2, 2], 'mlp_ratio': 2, 'drop_path_rate': 0.0,
}  # fmt: skip
DNCNN = {'num_feat': 8, 'num_layers': 5}


def build(**options):
    return build_network(options).eval()


def with_lively_statistics(net):
    """BatchNorm layers with running statistics that are not the initial ones."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return net


def affine_error(net, y, count=16):
    """Largest relative error of f(a y + b) = a f(y) + b, a log-uniform in [1e-3, 1e3], b in a * [-10, 10]."""
    worst = 0.0
    with torch.no_grad():
        expected = net(y)
        for _ in range(count):
            a = 10 ** (6 * torch.rand(()).item() - 3)
            b = a * (20 * torch.rand(()).item() - 10)
            error = (net(a * y + b) - (a * expected + b)).norm() / (a * expected + b).norm()
            worst = max(worst, error.item())
    return worst


@pytest.mark.parametrize('options', [{'type': 'SwinIR', **SWINIR}, {'type': 'DnCNN', **DNCNN}], ids=['SwinIR', 'DnCNN'])
@pytest.mark.parametrize('statistics', ['mean_std', 'min_max'])
@pytest.mark.parametrize('prediction', ['direct', 'residual'])
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_wne_commutes_with_affine_maps(options, statistics, prediction, dtype, tolerance):
    wrapper = {'prediction': prediction, 'statistics': statistics, 'target': {'mean': 0.45, 'scale': 0.25}}
    net = with_lively_statistics(build(**{**options, 'type': options['type'] + 'WNE'}, **wrapper)).to(dtype)
    y = torch.rand(3, 1, 19, 22, dtype=dtype) * torch.tensor([1, 0.1, 0.5], dtype=dtype).view(3, 1, 1, 1)
    assert affine_error(net, y) < tolerance


@pytest.mark.parametrize('options', [{'type': 'SwinIR', **SWINIR}, {'type': 'DnCNN', **DNCNN}], ids=['SwinIR', 'DnCNN'])
def test_plain_networks_do_not_commute(options):
    net = with_lively_statistics(build(**options)).double()
    assert affine_error(net, torch.rand(2, 1, 24, 24, dtype=torch.float64)) > 1e-3


def test_wse_commutes_with_scaling_and_fails_under_shift(images):
    net = with_lively_statistics(build(type='WSE', backbone={'type': 'DnCNN', **DNCNN})).double()
    with torch.no_grad():
        torch.testing.assert_close(net(7 * images), 7 * net(images), rtol=1e-10, atol=1e-12)
        assert (net(images + 1) - (net(images) + 1)).abs().max() > 1e-3


def test_input_norm_ignores_affine_maps_instead_of_following_them(images):
    net = build(type='InputNorm', backbone={'type': 'DnCNN', **DNCNN}).double()
    with torch.no_grad():
        torch.testing.assert_close(net(5 * images + 3), net(images), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize('prediction', ['direct', 'residual'])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize('value', [0.1, -3.7, 210.4])
def test_a_constant_image_maps_to_itself_exactly(prediction, dtype, value):
    net = build(type='DnCNNWNE', prediction=prediction, **DNCNN).to(dtype)
    y = torch.full((2, 1, 17, 21), value, dtype=dtype)
    with torch.no_grad():
        assert torch.equal(net(y), y)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_networks_return_their_type_and_stay_close(dtype):
    net = build(type='DnCNNWNE', **DNCNN)
    y = torch.rand(2, 1, 17, 21)
    with torch.no_grad():
        output = copy.deepcopy(net).to(dtype)(y.to(dtype))
        assert output.dtype == dtype
        torch.testing.assert_close(output.float(), net(y), atol=0.05, rtol=0.05)


def test_statistics_are_float32_under_autocast():
    net = build(type='DnCNNWNE', **DNCNN)
    y = torch.rand(2, 1, 17, 21) * 1e-3 + 1000  # bfloat16 cannot tell these pixels apart
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        output = net(y)
    assert output.dtype == torch.float32
    assert (output - 1000).abs().max() < 0.1
    torch.testing.assert_close(output, net(y), atol=1e-3, rtol=0)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_broken_image_does_not_touch_the_others_of_its_batch(value, images):
    net = with_lively_statistics(build(type='SwinIRWNE', **SWINIR)).double()
    broken = images.clone()
    broken[1, 0, 3, 3] = value
    with torch.no_grad():
        expected, output = net(images), net(broken)
    assert output[1].isnan().any()
    torch.testing.assert_close(output[[0, 2, 3]], expected[[0, 2, 3]], rtol=1e-12, atol=1e-12)


def test_a_batch_gives_what_its_images_give_alone(images):
    net = with_lively_statistics(build(type='DnCNNWNE', **DNCNN)).double()
    with torch.no_grad():
        alone = torch.cat([net(image[None]) for image in images])
        torch.testing.assert_close(net(images), alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('name', ['wne_direct', 'wne_residual', 'input_only_direct', 'input_only_residual'])
def test_wrappers_match_the_paper_s_code(name, golden):
    reference = golden(f'wrapper_{name}')
    wrapper = WNE if name.startswith('wne') else InputNorm
    net = wrapper(_fdncnn(reference), prediction=reference.meta['prediction'], correction=1).double()
    with torch.no_grad():
        torch.testing.assert_close(net(reference.input), reference.output, rtol=0, atol=1e-10)


@pytest.mark.parametrize('name', ['wse_direct', 'wse_residual'])
def test_wse_matches_the_paper_s_code_but_for_its_epsilon(name, golden):
    # That code feeds k x / s with k = s / (s + 1e-5) and multiplies by s. With target scale k, WSE feeds the same and
    # multiplies by s / k, so its direct result is the reference's divided by k, and so is its residual.
    reference = golden(f'wrapper_{name}')
    for y, expected in zip(reference.input.split(1), reference.output.split(1), strict=True):
        s = root_mean_square(y).scale.item()
        k = s / (s + 1e-5)
        net = WSE(_fdncnn(reference), prediction=reference.meta['prediction'], target={'scale': k}).double()
        with torch.no_grad():
            output = net(y)
        corrected = k * output if name.endswith('direct') else y - k * (y - output)
        torch.testing.assert_close(corrected, expected, rtol=0, atol=1e-10)


def _fdncnn(reference):
    """The plain stack of the reference: FDnCNN in ordinary mode, keys ``model.fdncnn.<i>``."""
    layers = {int(k.split('.')[-2]): v for k, v in reference.weights.items() if k.endswith('weight')}
    modules = []
    for index in range(max(layers) + 1):
        if index in layers:
            out_ch, in_ch = layers[index].shape[:2]
            modules.append(
                nn.Conv2d(in_ch, out_ch, 3, padding=1, bias=f'model.fdncnn.{index}.bias' in reference.weights)
            )
        else:
            modules.append(nn.ReLU())
    stack = nn.Sequential(*modules).double()
    stack.load_state_dict({k.removeprefix('model.fdncnn.'): v for k, v in reference.weights.items()})
    return stack


def test_every_image_to_image_network_has_a_wrapped_twin():
    names = ARCH_REGISTRY.keys()
    for name in ('SwinIR', 'DnCNN', 'RRDBNet', 'EDSR', 'RCAN', 'MSRResNet', 'SRVGGNetCompact', 'RIDNet', 'ECBSR'):
        assert name + 'WNE' in names
    for name in ('VGGStyleDiscriminatorWNE', 'StyleGAN2GeneratorWNE', 'SpyNetWNE', 'EDVRWNE', 'WNEWNE', 'DnCNNWNEWNE'):
        assert name not in names


def test_a_network_registered_later_gets_its_twin(monkeypatch):
    monkeypatch.setattr(ARCH_REGISTRY, '_obj_map', dict(ARCH_REGISTRY._obj_map))  # it leaves with this test

    @ARCH_REGISTRY.register()
    class LateNet(nn.Module):
        def __init__(self, gain: float = 2.0) -> None:
            super().__init__()
            self.gain = gain

        def forward(self, image):
            return self.gain * image + 1

    net = build(type='LateNetWNE', gain=3.0)
    y = torch.rand(1, 1, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(net(2 * y + 1), 2 * net(y) + 1)


def test_flat_and_nested_options_build_the_same_network():
    flat = build(type='SwinIRWNE', **SWINIR)
    nested = build(type='WNE', backbone={'type': 'SwinIR', **SWINIR})
    nested.load_state_dict(flat.state_dict())
    y = torch.rand(1, 1, 17, 20)
    with torch.no_grad():
        assert torch.equal(flat(y), nested(y))


def test_the_signature_of_a_twin_lists_the_options_of_both():
    parameters = inspect.signature(ARCH_REGISTRY.get('SwinIRWNE')).parameters
    assert {'window_size', 'embed_dim', 'prediction', 'statistics', 'correction', 'target'} <= set(parameters)
    assert 'kwargs' not in parameters
    with pytest.raises(TypeError, match='windw_size'):
        ARCH_REGISTRY.get('DnCNNWNE')(windw_size=8)


def test_options_are_left_as_they_were():
    options = {'type': 'WNE', 'backbone': {'type': 'DnCNN', **DNCNN}, 'target': {'mean': 0.5}}
    before = copy.deepcopy(options)
    WNE(**{key: value for key, value in options.items() if key != 'type'})
    assert options == before


def test_windowed_backbones_take_any_size_and_see_statistics_of_the_image_alone():
    net = build(type='SwinIRWNE', **SWINIR).double()
    for height, width in ((8, 8), (9, 15), (3, 21), (1, 1)):
        y = torch.rand(1, 1, height, width, dtype=torch.float64)
        with torch.no_grad():
            assert net(y).shape == y.shape
    seen = []
    net.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        net(torch.rand(1, 1, 9, 15, dtype=torch.float64))
    assert seen[0].shape[-2:] == (16, 16)
    assert abs(seen[0][..., :9, :15].mean().item()) < 1e-12
    assert abs(seen[0][..., :9, :15].std(correction=0).item() - 1) < 1e-12


def test_super_resolution_backbones_keep_their_scale():
    net = build(type='RRDBNetWNE', num_in_ch=3, num_out_ch=3, scale=4, num_feat=8, num_block=1, num_grow_ch=4).double()
    y = torch.rand(2, 3, 7, 9, dtype=torch.float64)
    with torch.no_grad():
        assert net(y).shape == (2, 3, 28, 36)
    assert affine_error(net, y, 4) < 1e-12
    net.prediction = 'residual'
    with pytest.raises(ValueError, match="use prediction 'direct'"):
        net(y)


def test_parameters_are_the_backbone_s_with_a_prefix_and_plain_checkpoints_load():
    plain, wrapped = build(type='DnCNN', **DNCNN), build(type='DnCNNWNE', **DNCNN)
    assert [f'backbone.{key}' for key in plain.state_dict()] == list(wrapped.state_dict())
    wrapped.load_state_dict(plain.state_dict())
    assert torch.equal(wrapped.backbone.model[0].weight, plain.model[0].weight)
    holder = nn.ModuleDict({'net': wrapped})
    holder.load_state_dict({f'net.{key}': 2 * value for key, value in plain.state_dict().items()})
    assert torch.equal(wrapped.backbone.model[0].weight, 2 * plain.model[0].weight)
    with pytest.raises(RuntimeError, match='backbone'):
        plain.load_state_dict(wrapped.state_dict())


def test_networks_survive_pickling_and_copying():
    net = build(type='DnCNNWNE', **DNCNN)
    y = torch.rand(1, 1, 9, 9)
    with torch.no_grad():
        for other in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
            assert torch.equal(other(y), net(y))


def test_a_noise_level_reaches_the_backbone_on_its_scale(images):
    class NonBlind(nn.Module):
        def forward(self, x, sigma=None):
            return x * sigma.view(-1, 1, 1, 1)

    net = WNE(NonBlind())
    a, b = 4.0, -1.0
    torch.testing.assert_close(net(a * images + b, sigma=a * 0.1), a * net(images, sigma=0.1) + b)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'prediction': 'noise'}, "'direct' or 'residual'; got 'noise'"),
        ({'statistics': 'median'}, "mean_std or min_max or mean_noise; got 'median'"),
        ({'statistics': 'min_max', 'correction': 1}, 'correction must be 0'),
        ({'target': {'mean': 0.5, 'std': 1}}, 'mean and scale with statistics mean_std; got std'),
        ({'target': {'scale': 0}}, 'positive; got 0'),
        (
            {'statistics': 'mean_noise', 'target': {'scale': 1}},
            'mean and sigma255 with statistics mean_noise; got scale',
        ),
    ],
)
def test_wrong_options_are_refused_at_construction(options, message):
    with pytest.raises(ValueError, match=message):
        WNE(nn.Identity(), **options)


@pytest.mark.parametrize(
    ('y', 'message'),
    [
        (torch.rand(1, 2, 3, 5, 5), r'\(N, C, H, W\); got torch.float32 of shape \(1, 2, 3, 5, 5\)'),
        (torch.zeros(1, 1, 5, 5, dtype=torch.uint8), 'floating-point tensors .* got torch.uint8'),
        ([[0.5]], 'got list'),
    ],
)
def test_what_is_no_batch_of_images_is_refused(y, message):
    with pytest.raises(ValueError, match=message):
        WNE(nn.Identity())(y)


@pytest.mark.parametrize(
    ('backbone', 'message'),
    [
        (WNE(nn.Identity()), 'already wrapped in WNE: leave WNE out'),
        ({'type': 'DnCNNWNE', 'num_layers': 3}, 'already wrapped in DnCNNWNE'),
        (3, 'a torch module, or options with a type; got 3'),
        (nn.Conv2d, 'options with a type; got Conv2d'),
    ],
)
def test_only_networks_are_wrapped_and_only_once(backbone, message):
    with pytest.raises(ValueError, match=message):
        WNE(backbone)


# -- a level that is estimated -----------------------------------------------------------------------------------------


TOLD = {'type': 'FDnCNNWNE', 'blind': False, 'num_feat': 4, 'num_layers': 3}


def test_a_network_that_estimates_the_level_is_blind_and_can_be_told():
    network, plain = build(**TOLD, estimate=True).double(), build(**TOLD).double()
    plain.load_state_dict(network.state_dict())
    y = torch.rand(3, 1, 24, 30, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(network(y), plain(y, sigma=noise_level(y).flatten()), rtol=0, atol=0)
        assert torch.equal(network(y, sigma=0.1), plain(y, sigma=0.1)) and not torch.equal(network(y), network(y, 0.1))
    assert affine_error(network, y, 4) < 1e-10
    for facts in (facts_of(network), facts_of(TOLD | {'estimate': True})):
        assert not facts.needs_sigma
    assert facts_of(plain).needs_sigma and as_denoiser(plain).needs_sigma
    denoiser = as_denoiser(network)
    assert denoiser.takes_sigma and not denoiser.needs_sigma and denoiser.is_equivariant


def test_only_networks_that_are_told_a_level_estimate_it():
    with pytest.raises(ValueError, match='estimate: true is for backbones with blind: false'):
        build(type='DnCNNWNE', **DNCNN, estimate=True)
