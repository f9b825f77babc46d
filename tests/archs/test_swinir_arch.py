"""SwinIR without its mean: the law that tells it from BasicSR's, in colour and in gray."""

from typing import Any

import pytest
import torch
from basicsr.archs import build_network
from torch import Tensor

from ne_basicsr.ops.equivariance import ne_defect

SMALL: dict[str, Any] = {
    'upscale': 1, 'img_size': 8, 'window_size': 4, 'embed_dim': 8, 'depths': [2], 'num_heads': [2], 'mlp_ratio': 2,
}  # fmt: skip
DIV2K_MEAN = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1)


def pair(in_chans: int) -> tuple[torch.nn.Module, torch.nn.Module]:
    """BasicSR's and the one without a mean, of the same weights."""
    usual, plain = (build_network({'type': name, 'in_chans': in_chans, **SMALL}) for name in ('SwinIR', 'SwinIRNoMean'))
    plain.load_state_dict(usual.state_dict())
    return usual.double().eval(), plain.double().eval()


@torch.no_grad()
def test_without_the_mean_swinir_is_what_basicsr_s_is_on_images_moved_by_it() -> None:
    usual, plain = pair(3)
    y = torch.rand(2, 3, 8, 12, dtype=torch.float64)
    # BasicSR's is g(y - m) + m; m is float32 there
    torch.testing.assert_close(plain(y), usual(y + DIV2K_MEAN) - DIV2K_MEAN, rtol=0, atol=1e-12)
    assert (plain(y) - usual(y)).abs().max() > 1e-3  # so BasicSR's does subtract


@torch.no_grad()
def test_for_gray_images_it_is_swinir() -> None:
    usual, plain = pair(1)
    y: Tensor = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    assert torch.equal(plain(y), usual(y))


@pytest.mark.parametrize('in_chans', [1, 3])
def test_its_wrapped_form_takes_swinir_s_options_and_is_equivariant(in_chans: int) -> None:
    net = build_network({'type': 'SwinIRNoMeanWNE', 'in_chans': in_chans, **SMALL}).double().eval()
    assert ne_defect(net, torch.rand(2, in_chans, 9, 13, dtype=torch.float64)).max() < 1e-12
