"""FDnCNN and DRUNet: equivariant as their mode says and no more, blind or not, and they load the reference weights."""

import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from basicsr.archs import build_network
from conftest import GOLDENS, needs_export
from torch import Tensor, nn

from ne_basicsr.archs.drunet_arch import DRUNet
from ne_basicsr.archs.fdncnn_arch import FDnCNN
from ne_basicsr.ops.equivariance import ne_defect
from ne_basicsr.ops.padding import pad_to_multiple

MODES = ['ordinary', 'scale-equiv', 'norm-equiv']
SMALL: dict[type[nn.Module], dict[str, Any]] = {
    FDnCNN: {'num_feat': 8, 'num_layers': 4},
    DRUNet: {'num_feats': [4, 8, 8, 12], 'num_blocks': 1},  # four levels: 19x23 is padded
}
DEFAULTS: dict[type[nn.Module], dict[str, Any]] = {
    FDnCNN: {'num_in_ch': 1, 'num_out_ch': 1, 'num_feat': 64, 'num_layers': 20, 'mode': 'ordinary', 'blind': True},
    DRUNet: {
        'num_in_ch': 1, 'num_out_ch': 1, 'num_feats': (64, 128, 256, 512), 'num_blocks': 4, 'mode': 'ordinary',
        'blind': True,
        'pad_with': 'mean',
    },
}  # fmt: skip
SIGMA = [0.1, 0.2, 0.3, 0.05]

archs = pytest.mark.parametrize('arch', SMALL)
modes = pytest.mark.parametrize('mode', MODES)
blindness = pytest.mark.parametrize('blind', [True, False])


def small(arch: type[nn.Module], mode: str, **options: Any) -> nn.Module:
    """In float64, with weights large enough to see a defect."""
    net = arch(mode=mode, **SMALL[arch] | options).double().eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.mul_(2 if 'alpha' not in name else 0.8)
    return net


def scale_defect(net: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    return ne_defect(net, y, b_range=(0, 0))


# -- equivariance ------------------------------------------------------------------------------------------------------


@archs
@pytest.mark.parametrize('num_in_ch', [1, 3])
def test_each_mode_has_its_equivariance_and_no_more(images: Tensor, arch: type[nn.Module], num_in_ch: int) -> None:
    y = torch.cat([images.roll(i, 3) for i in range(num_in_ch)], dim=1)
    nets = {mode: small(arch, mode, num_in_ch=num_in_ch, num_out_ch=num_in_ch) for mode in MODES}
    assert ne_defect(nets['norm-equiv'], y).max() < 1e-12
    assert scale_defect(nets['scale-equiv'], y).max() < 1e-12
    assert ne_defect(nets['scale-equiv'], y).max() > 1e-3
    assert scale_defect(nets['ordinary'], y).max() > 1e-3


@archs
@pytest.mark.parametrize('mode', ['scale-equiv', 'norm-equiv'])
def test_non_blind_networks_take_sigma_along(images: Tensor, arch: type[nn.Module], mode: str) -> None:
    net = small(arch, mode, blind=False)
    sigma = torch.tensor(SIGMA, dtype=torch.float64)
    a, b = 1.6, -0.3 if mode == 'norm-equiv' else 0.0
    with torch.no_grad():
        output = net(images, sigma)
        torch.testing.assert_close(net(a * images + b, a * sigma), a * output + b, rtol=1e-12, atol=1e-12)
        assert (net(images, 2 * sigma) - output).abs().max() > 1e-3
        assert (net(a * images + b, sigma) - (a * output + b)).abs().max() > 1e-3


@modes
def test_float32_defect_is_rounding(images: Tensor, mode: str) -> None:
    defect = ne_defect(small(FDnCNN, mode).float(), images.float())
    assert (defect.max() < 1e-5) == (mode == 'norm-equiv')


@archs
@modes
@blindness
def test_an_image_does_not_depend_on_its_neighbours(
    images: Tensor, arch: type[nn.Module], mode: str, blind: bool
) -> None:
    net = small(arch, mode, blind=blind)  # where DRUNet pads, the mean of the whole batch would fail
    with torch.no_grad():
        together = net(images) if blind else net(images, SIGMA)
        for i, expected in enumerate(together):
            alone = net(images[i : i + 1]) if blind else net(images[i : i + 1], SIGMA[i])
            torch.testing.assert_close(alone[0], expected, rtol=1e-12, atol=1e-12)


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('arch', 'name'), [*((arch, mode) for arch in SMALL for mode in MODES), (FDnCNN, 'norm-equiv_nonblind')]
)
def test_the_reference_is_reproduced(golden: Callable[[str], Any], arch: type[nn.Module], name: str) -> None:
    stored = golden(f'{arch.__name__.lower()}_{name}')
    options = {key: value for key, value in stored.meta.items() if key != 'source'}
    net = arch(**options, blind='nonblind' not in name).double()
    assert list(net.state_dict()) == list(stored.weights)
    net.load_state_dict(stored.weights, strict=True)
    torch.testing.assert_close(net(stored.input, **stored.args), stored.output, rtol=0, atol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(net(stored.input, **stored.args), stored.output, rtol=0, atol=1e-10)


@pytest.mark.parametrize(('arch', 'name'), [(FDnCNN, 'fdncnn'), (DRUNet, 'drunet_gray')])
@pytest.mark.parametrize('mode', ['ordinary', 'norm-equiv'])
def test_the_public_checkpoints_fit(arch: type[nn.Module], name: str, mode: str) -> None:
    manifests = json.loads((GOLDENS / 'state_dict_manifests.json').read_text())
    with torch.device('meta'):
        state_dict = arch(mode=mode).state_dict()
    expected = manifests[f'{name} {mode} blind (Herbreteau et al.)']
    assert [(key, list(value.shape)) for key, value in state_dict.items()] == list(expected.items())


def test_the_sequence_of_layers_is_what_forward_computes(images: Tensor) -> None:
    net = small(FDnCNN, 'norm-equiv')
    torch.testing.assert_close(net(images), net.fdncnn(images), rtol=1e-12, atol=1e-12)


@archs
@modes
@pytest.mark.parametrize('size', [(1, 1), (2, 5), (5, 8), (16, 16), (17, 23)])
def test_any_size(arch: type[nn.Module], mode: str, size: tuple[int, int]) -> None:
    net = small(arch, mode, num_in_ch=3, num_out_ch=2)
    assert net(torch.rand(2, 3, *size, dtype=torch.float64)).shape == (2, 2, *size)
    assert net.size_multiple == 1


def test_other_numbers_of_levels(images: Tensor) -> None:
    for num_feats in ([4, 6], [2, 4, 6, 8, 10]):
        net = DRUNet(num_feats=num_feats, num_blocks=1, mode='norm-equiv').double()
        assert ne_defect(net, images).max() < 1e-12


@modes
def test_padding_of_drunet_continues_the_image_if_told_and_is_its_mean_otherwise(images: Tensor, mode: str) -> None:
    by_mean, by_reflection = small(DRUNet, mode), small(DRUNet, mode, pad_with='reflect')
    by_reflection.load_state_dict(by_mean.state_dict())
    height, width = images.shape[-2:]
    whole = pad_to_multiple(images, 8)[0]
    assert whole.shape != images.shape
    torch.testing.assert_close(by_reflection(images), by_reflection(whole)[..., :height, :width], rtol=0, atol=1e-12)
    torch.testing.assert_close(by_mean(whole), by_reflection(whole), rtol=0, atol=1e-12)
    assert (by_mean(images) - by_reflection(images)).abs().max() > 1e-3
    with pytest.raises(ValueError, match=r"pad_with 'mean' or one of \['reflect'.*; got 'zeros'"):
        DRUNet(pad_with='zeros')


@archs
@modes
@blindness
def test_training_reaches_every_weight(images: Tensor, arch: type[nn.Module], mode: str, blind: bool) -> None:
    net = small(arch, mode, blind=blind).train()
    output = net(images) if blind else net(images, 0.1)
    output.square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in net.parameters())


def test_sigma_is_one_value_or_one_per_image(images: Tensor) -> None:
    net = small(FDnCNN, 'norm-equiv', blind=False)
    expected = net(images, 0.1)
    for sigma in (torch.tensor(0.1), [0.1] * 4, torch.full((4,), 0.1), torch.full((4, 1, 1, 1), 0.1)):
        torch.testing.assert_close(net(images, sigma), expected, rtol=1e-6, atol=1e-6)


# -- inside other tools ------------------------------------------------------------------------------------------------


@archs
def test_an_option_file_builds_it(arch: type[nn.Module]) -> None:
    assert isinstance(build_network({'type': arch.__name__, **SMALL[arch], 'mode': 'norm-equiv'}), arch)
    defaults = {name: p.default for name, p in inspect.signature(arch).parameters.items()}
    assert defaults == DEFAULTS[arch]


@needs_export
@pytest.mark.parametrize(
    ('arch', 'options'), [(FDnCNN, SMALL[FDnCNN]), (DRUNet, {'num_feats': [2, 2], 'num_blocks': 1})]
)
def test_one_export_serves_every_size(arch: type[nn.Module], options: dict[str, Any]) -> None:
    net, dynamic = arch(mode='norm-equiv', **options).eval(), torch.export.Dim.DYNAMIC
    with torch.no_grad():
        program = torch.export.export(
            net, (torch.rand(2, 1, 13, 17),), dynamic_shapes={'x': {0: dynamic, 2: dynamic, 3: dynamic}}
        )
        for size in ((1, 1, 13, 17), (3, 1, 32, 9), (1, 1, 16, 16)):
            y = torch.rand(size)
            torch.testing.assert_close(program.module()(y), net(y))


def test_compiled_and_traced_networks_agree(images: Tensor) -> None:
    net = small(FDnCNN, 'norm-equiv')
    compiled = torch.compile(net, backend='eager', fullgraph=True)
    torch.testing.assert_close(compiled(images), net(images))
    with torch.no_grad():
        traced = torch.jit.trace(net, (images,))
        torch.testing.assert_close(traced(images.flip(0)), net(images.flip(0)))


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('arch', 'options', 'message'),
    [
        (FDnCNN, {'mode': 'norm_equiv'}, "needs mode 'ordinary', 'scale-equiv' or 'norm-equiv'; got 'norm_equiv'"),
        (FDnCNN, {'mode': 'norm-equiv', 'num_feat': 7}, 'even number of num_feat; got 7'),
        (FDnCNN, {'num_layers': 1}, 'num_layers of at least 2.*got 1'),
        (DRUNet, {'mode': 'norm_equiv'}, "needs mode 'ordinary', 'scale-equiv' or 'norm-equiv'; got 'norm_equiv'"),
        (DRUNet, {'mode': 'norm-equiv', 'num_feats': [4, 5]}, 'even number of channels in each of num_feats; got 5'),
        (DRUNet, {'num_feats': [4]}, r'at least 2 levels; got \[4\]'),
    ],
)
def test_wrong_options_are_refused(arch: type[nn.Module], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arch(**options)


@archs
@pytest.mark.parametrize(
    ('blind', 'sigma', 'message'),
    [
        (True, 0.1, 'blind=True .* without sigma; got 0.1'),
        (False, None, 'blind=False needs sigma'),
        (False, [0.1, 0.2], 'one sigma or one per image, here 4; got 2 values'),
    ],
)
def test_sigma_goes_to_non_blind_networks_only(
    images: Tensor, arch: type[nn.Module], blind: bool, sigma: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=f'^{arch.__name__} .*{message}'):
        small(arch, 'ordinary', blind=blind)(images, sigma)
