"""DRUNet: equivariant as its mode says and no more, at any size, and loads the reference weights."""

import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from basicsr.archs import build_network
from conftest import GOLDENS
from torch import Tensor

from ne_basicsr.archs.drunet_arch import DRUNet
from ne_basicsr.ops.equivariance import ne_defect

MODES = ['ordinary', 'scale-equiv', 'norm-equiv']


def small(mode: str, **options: Any) -> DRUNet:
    """Four levels, one block each, in float64, with weights large enough to see a defect."""
    net = DRUNet(num_feats=[4, 8, 8, 12], num_blocks=1, mode=mode, **options).double().eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.mul_(2 if 'alpha' not in name else 0.8)
    return net


def scale_defect(net: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    return ne_defect(net, y, b_range=(0, 0))


# -- equivariance ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('num_in_ch', [1, 3])
def test_each_mode_has_its_equivariance_and_no_more(images: Tensor, num_in_ch: int) -> None:
    y = torch.cat([images.roll(i, 3) for i in range(num_in_ch)], dim=1)
    nets = {mode: small(mode, num_in_ch=num_in_ch, num_out_ch=num_in_ch) for mode in MODES}
    assert ne_defect(nets['norm-equiv'], y).max() < 1e-12
    assert scale_defect(nets['scale-equiv'], y).max() < 1e-12
    assert ne_defect(nets['scale-equiv'], y).max() > 1e-3
    assert scale_defect(nets['ordinary'], y).max() > 1e-3


@pytest.mark.parametrize('mode', ['scale-equiv', 'norm-equiv'])
def test_non_blind_networks_take_sigma_along(images: Tensor, mode: str) -> None:
    net = small(mode, blind=False)
    sigma = torch.tensor([0.1, 0.2, 0.3, 0.05], dtype=torch.float64)
    a, b = 1.6, -0.3 if mode == 'norm-equiv' else 0.0
    with torch.no_grad():
        output = net(images, sigma)
        torch.testing.assert_close(net(a * images + b, a * sigma), a * output + b, rtol=1e-12, atol=1e-12)
        assert (net(images, 2 * sigma) - output).abs().max() > 1e-3


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('blind', [True, False])
def test_an_image_does_not_depend_on_its_neighbours(images: Tensor, mode: str, blind: bool) -> None:
    # 19x23 is padded; with the mean of the whole batch this fails
    net = small(mode, blind=blind)
    sigma = [0.1, 0.2, 0.3, 0.05]
    with torch.no_grad():
        together = net(images) if blind else net(images, sigma)
        for i, expected in enumerate(together):
            alone = net(images[i : i + 1]) if blind else net(images[i : i + 1], sigma[i])
            torch.testing.assert_close(alone[0], expected, rtol=1e-12, atol=1e-12)


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('mode', MODES)
def test_drunet_reproduces_the_reference(golden: Callable[[str], Any], mode: str) -> None:
    stored = golden(f'drunet_{mode}')
    net = DRUNet(**{key: value for key, value in stored.meta.items() if key != 'source'}).double()
    assert list(net.state_dict()) == list(stored.weights)
    net.load_state_dict(stored.weights, strict=True)
    torch.testing.assert_close(net(stored.input), stored.output, rtol=0, atol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(net(stored.input), stored.output, rtol=0, atol=1e-10)


@pytest.mark.parametrize('mode', ['ordinary', 'norm-equiv'])
def test_the_public_checkpoints_fit(mode: str) -> None:
    manifests = json.loads((GOLDENS / 'state_dict_manifests.json').read_text())
    with torch.device('meta'):
        state_dict = DRUNet(mode=mode).state_dict()
    assert [(key, list(value.shape)) for key, value in state_dict.items()] == list(
        manifests[f'drunet_gray {mode} blind (Herbreteau et al.)'].items()
    )


@pytest.mark.parametrize('size', [(1, 1), (5, 8), (16, 16), (17, 23)])
@pytest.mark.parametrize('mode', MODES)
def test_any_size(mode: str, size: tuple[int, int]) -> None:
    net = small(mode, num_in_ch=3, num_out_ch=2)
    assert net(torch.rand(2, 3, *size, dtype=torch.float64)).shape == (2, 2, *size)
    assert net.size_multiple == 1


def test_other_numbers_of_levels(images: Tensor) -> None:
    for num_feats in ([4, 6], [2, 4, 6, 8, 10]):
        net = DRUNet(num_feats=num_feats, num_blocks=1, mode='norm-equiv').double()
        assert ne_defect(net, images).max() < 1e-12


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('blind', [True, False])
def test_training_reaches_every_weight(images: Tensor, mode: str, blind: bool) -> None:
    net = small(mode, blind=blind).train()
    output = net(images) if blind else net(images, 0.1)
    output.square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in net.parameters())


# -- inside other tools ------------------------------------------------------------------------------------------------


def test_an_option_file_builds_it() -> None:
    net = build_network({'type': 'DRUNet', 'num_feats': [4, 4, 4, 4], 'num_blocks': 1, 'mode': 'norm-equiv'})
    assert isinstance(net, DRUNet)
    defaults = {name: p.default for name, p in inspect.signature(DRUNet).parameters.items()}
    assert defaults == {
        'num_in_ch': 1, 'num_out_ch': 1, 'num_feats': (64, 128, 256, 512), 'num_blocks': 4, 'mode': 'ordinary',
        'blind': True,
    }  # fmt: skip


def test_one_export_serves_every_size() -> None:
    net = DRUNet(num_feats=[2, 2], num_blocks=1, mode='norm-equiv').eval()
    dynamic = torch.export.Dim.DYNAMIC
    with torch.no_grad():
        program = torch.export.export(
            net, (torch.rand(2, 1, 13, 17),), dynamic_shapes={'x': {0: dynamic, 2: dynamic, 3: dynamic}}
        )
        for size in ((1, 1, 13, 17), (3, 1, 32, 9), (1, 1, 16, 16)):
            y = torch.rand(size)
            torch.testing.assert_close(program.module()(y), net(y))


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'mode': 'norm_equiv'}, "needs mode 'ordinary', 'scale-equiv' or 'norm-equiv'; got 'norm_equiv'"),
        ({'mode': 'norm-equiv', 'num_feats': [4, 5]}, 'even number of channels in each of num_feats; got 5'),
        ({'num_feats': [4]}, r'at least 2 levels; got \[4\]'),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DRUNet(**options)


@pytest.mark.parametrize(
    ('blind', 'sigma', 'message'),
    [
        (True, 0.1, 'DRUNet with blind=True .* without sigma; got 0.1'),
        (False, None, 'DRUNet with blind=False needs sigma'),
        (False, [0.1, 0.2], 'one sigma or one per image, here 4; got 2 values'),
    ],
)
def test_sigma_goes_to_non_blind_networks_only(images: Tensor, blind: bool, sigma: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small('ordinary', blind=blind)(images, sigma)
