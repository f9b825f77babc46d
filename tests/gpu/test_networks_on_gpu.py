"""Every network forward and backward on the device against the CPU's float64, in every precision, and compiled."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from ne_basicsr.archs.backbone import build_arch

pytestmark = pytest.mark.gpu

SWINIR = {
    'upscale': 1, 'in_chans': 1, 'img_size': 16, 'window_size': 8, 'img_range': 1.0, 'depths': [2], 'embed_dim': 16,
    'num_heads': [2], 'mlp_ratio': 2, 'upsampler': '', 'resi_connection': '1conv', 'drop_path_rate': 0.0,
}  # fmt: skip
RESTORMER = {
    'inp_channels': 1, 'out_channels': 1, 'dim': 8, 'num_blocks': [1, 1, 1, 1], 'heads': [1, 2, 2, 2],
    'num_refinement_blocks': 1,
}  # fmt: skip
STACK = {'num_feat': 16, 'num_layers': 5}
DRUNET = {'num_feats': [8, 16, 16, 16], 'num_blocks': 1}
NETWORKS = {
    'DnCNN': {'type': 'DnCNN', **STACK},
    'DnCNN wrapped': {'type': 'DnCNNWNE', **STACK},
    'DnCNN wrapped, by minimum and range': {'type': 'DnCNNWNE', **STACK, 'statistics': 'min_max'},
    'DnCNN wrapped, by its noise': {'type': 'DnCNNWNE', **STACK, 'statistics': 'mean_noise'},
    'FDnCNN': {'type': 'FDnCNN', **STACK},
    'FDnCNN scale-equiv': {'type': 'FDnCNN', **STACK, 'mode': 'scale-equiv'},
    'FDnCNN norm-equiv': {'type': 'FDnCNN', **STACK, 'mode': 'norm-equiv'},
    'DRUNet': {'type': 'DRUNet', **DRUNET},
    'DRUNet scale-equiv': {'type': 'DRUNet', **DRUNET, 'mode': 'scale-equiv'},
    'DRUNet norm-equiv': {'type': 'DRUNet', **DRUNET, 'mode': 'norm-equiv'},
    'DRUNet wrapped': {'type': 'DRUNetWNE', **DRUNET},
    'SwinIR': {'type': 'SwinIR', **SWINIR},
    'SwinIR wrapped': {'type': 'SwinIRWNE', **SWINIR},
    'Restormer': {'type': 'Restormer', **RESTORMER},
    'Restormer wrapped': {'type': 'RestormerWNE', **RESTORMER},
}
# relative to the norm; 8 bits of mantissa in bfloat16, 11 in float16, 24 in float32, summed up over some ten layers
TOLERANCE = {'float32': 2e-4, 'bf16': 0.1, 'fp16': 2e-2, 'compiled': 2e-4, 'channels_last': 2e-4}
AMP = {'bf16': torch.bfloat16, 'fp16': torch.float16}
SCALE = 2.0**12  # of the loss in float16, whose smallest gradients would be 0


def noisy(side: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of two images with edges, contrasts apart, and their noisy copies."""
    generator = torch.Generator().manual_seed(1)
    clean = torch.nn.functional.interpolate(torch.rand(2, 1, 5, 5, generator=generator, dtype=torch.float64), side)
    clean = clean * torch.tensor([1.0, 0.3], dtype=torch.float64).view(2, 1, 1, 1)
    return clean, clean + 0.1 * torch.randn(clean.shape, generator=generator, dtype=torch.float64)


def both(network: nn.Module, device: str, precision: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and all gradients, in one vector each, in float64 on the CPU."""
    dtype = torch.float64 if precision == 'float64' else torch.float32
    network.to(device, dtype)
    clean, lq = (image.to(device, dtype) for image in noisy())
    if precision == 'channels_last':
        network.to(memory_format=torch.channels_last)
        lq = lq.contiguous(memory_format=torch.channels_last)
    called = network
    if precision == 'compiled':
        called = torch.compile(network, backend='inductor' if device == 'cuda' else 'aot_eager')
    amp = torch.autocast(device, AMP[precision]) if precision in AMP else nullcontext()
    with amp:
        output = called(lq)
    scale = SCALE if precision == 'fp16' else 1.0
    (scale * (output.to(dtype) - clean).square().mean()).backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert len(gradients) == len(list(network.parameters()))
    gradient = torch.cat([each.double().flatten().cpu() for each in gradients]) / scale
    return output.detach().double().cpu(), gradient


def gap(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize('precision', TOLERANCE)
@pytest.mark.parametrize('name', NETWORKS)
def test_a_network_computes_and_trains_as_in_float64_on_the_cpu(name: str, precision: str, device: str) -> None:
    torch.manual_seed(0)
    network = build_arch(NETWORKS[name])
    state = {key: value.clone() for key, value in network.state_dict().items()}
    wanted = both(network, 'cpu', 'float64')
    other = build_arch(NETWORKS[name])
    other.load_state_dict(state)
    found = both(other, device, precision)
    for part, one, reference in zip(('output', 'gradient'), found, wanted, strict=True):
        assert gap(one, reference) < TOLERANCE[precision] * (3 if part == 'gradient' else 1), part
