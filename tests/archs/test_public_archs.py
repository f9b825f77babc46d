"""Networks of other authors under their own names: against their formulas, recognised by keys, equivariant wrapped."""

import pytest
import torch
import torch.nn.functional as F
from basicsr.archs import build_network
from torch import nn

import ne_basicsr
from ne_basicsr.inference.loading import wrap_zero_shot
from ne_basicsr.ops.equivariance import ne_defect
from ne_basicsr.utils.errors import InputError


def stage(w, name, x):
    hidden = sum(key.startswith(f'{name}.hidden') for key in w if key.endswith('weight'))
    for layer in ('first_layer', *(f'hidden_layer_list.{i}' for i in range(hidden))):
        x = F.conv2d(x, w[f'{name}.{layer}.weight'], w.get(f'{name}.{layer}.bias'), padding=1).relu()
    return F.conv2d(x, w[f'{name}.last_layer.weight'], w.get(f'{name}.last_layer.bias'), padding=1)


def recurrent(w, y):
    x = y
    for _ in range(4):
        x = stage(w, 'cnn', torch.cat([y, x], 1))
    return x


def dense(w, y):
    x = stage(w, 'cnn_list.0', y)
    for i in range(1, 4):
        x = stage(w, f'cnn_list.{i}', torch.cat([y, x], 1))
    return x


def unet(w, y):
    height, width = y.shape[-2:]
    y = F.pad(y, (0, width % 2, 0, height % 2))

    def conv(i, x, **how):
        return F.conv2d(x, w[f'conv{i}.weight'], w.get(f'conv{i}.bias'), **how)

    fine = conv(2, conv(1, y, padding=2).relu(), padding=1).relu()
    x = conv(4, conv(3, fine, padding=1, stride=2).relu(), padding=1).relu()
    x = conv(6, conv(5, x, padding=2, dilation=2).relu(), padding=4, dilation=4).relu()
    x = F.conv_transpose2d(x, w['conv7.weight'], w.get('conv7.bias'), stride=2, padding=1).relu()
    return conv(9, conv(8, torch.cat([x, fine], 1), padding=1).relu(), padding=2)[..., :height, :width]


def adnet(w, y):
    x = y
    for i in range(1, 16):
        step = 2 if i in (2, 5, 9, 12) else 1
        x = F.conv2d(x, w[f'conv1_{i}.0.weight'], padding=step, dilation=step)
        mean, var, gain, bias = (w[f'conv1_{i}.1.{k}'] for k in ('running_mean', 'running_var', 'weight', 'bias'))
        x = F.batch_norm(x, mean, var, gain, bias).relu()
    x = F.conv2d(x, w['conv1_16.weight'], padding=1)
    return y - F.conv2d(torch.cat([y, x], 1).tanh(), w['conv3.weight'], w['conv3.bias']) * x


def ircnn(w, y):
    x = y
    for i, step in enumerate((1, 2, 3, 4, 3, 2, 1)):
        x = F.conv2d(x.relu() if i else x, w[f'model.{2 * i}.weight'], w[f'model.{2 * i}.bias'], 1, step, step)
    return y - x


PLAIN = {'type': 'DnCNN', 'num_feat': 4, 'num_layers': 4, 'bias': False, 'bn_eps': 1e-5}
CASES = {
    'IRCNN': ({'type': 'IRCNN', 'num_feat': 4}, ircnn),
    'recurrent': ({'type': 'RecurrentCNN', 'num_feat': 4, 'num_hidden': 2}, recurrent),
    'dense, biased': ({'type': 'SDenseNet', 'num_feat': 4, 'num_hidden': 3, 'bias': True}, dense),
    'U-Net': ({'type': 'MohanUNet'}, unet),
    'U-Net, biased': ({'type': 'MohanUNet', 'bias': True}, unet),
    'ADNet, colour': ({'type': 'ADNet', 'num_in_ch': 3, 'num_feat': 4}, adnet),
}


@pytest.mark.parametrize('name', CASES)
@torch.no_grad()
def test_a_file_is_recognised_and_computes_its_formula_and_wrapped_it_is_equivariant(name, tmp_path):
    options, formula = CASES[name]
    torch.manual_seed(0)
    weights = build_network(options).state_dict()
    for key, value in weights.items():
        if 'bias' in key or 'running_var' in key:
            value.copy_(0.1 + 0.1 * torch.rand_like(value))
    torch.save({'model': [{f'module.{key}': value for key, value in weights.items()}]}, tmp_path / 'net.pth')
    y = torch.rand(2, options.get('num_in_ch', 1), 13, 17, dtype=torch.float64)
    loaded = ne_basicsr.load(tmp_path / 'net.pth').double()
    weights = {key: value.double() for key, value in weights.items() if value.is_floating_point()}
    assert type(loaded.network).__name__ == options['type']
    torch.testing.assert_close(loaded(y), formula(weights, y), rtol=0, atol=1e-12)
    wrapped = ne_basicsr.load(tmp_path / 'net.pth', wrap='wne', sigma=25 / 255).double()
    assert ne_defect(wrapped, y, samples=2).max() < 1e-10
    if name != 'U-Net':  # without biases it is scale-equivariant, and random weights move constants little
        assert ne_defect(loaded, y, samples=2).max() > 1e-4  # the control


@torch.no_grad()
def test_buifds_prefix_and_that_seven_layers_may_be_a_dncnn(tmp_path):
    net = build_network(PLAIN).eval()
    weights = {f'module.dncnn.dncnn.{key.removeprefix("model.")}': value for key, value in net.state_dict().items()}
    torch.save(weights, tmp_path / 'net.pth')
    y = torch.rand(1, 1, 13, 17)
    torch.testing.assert_close(ne_basicsr.load(tmp_path / 'net.pth')(y), net(y), rtol=0, atol=1e-6)
    net = build_network({'type': 'DnCNN', 'num_feat': 4, 'num_layers': 7, 'act_mode': 'R'}).eval()
    torch.save(net.state_dict(), tmp_path / 'net.pth')
    assert torch.equal(ne_basicsr.load(f'{tmp_path}/net.pth=DnCNN')(y), net(y))
    assert not torch.equal(ne_basicsr.load(f'{tmp_path}/net.pth')(y), net(y))


class Classifier(nn.Module):
    def forward(self, y):
        return y.mean(dim=(2, 3))


class Timed(nn.Module):
    def forward(self, y, timesteps):
        return y


@pytest.mark.parametrize(
    ('network', 'reason'),
    [
        (Classifier(), r'returns no images but [(]1, 1[)]: a classifier'),
        (nn.Upsample(scale_factor=2), 'enlarges them 2 times'),
        (nn.MaxPool2d(2), 'changes their size'),
        (Timed(), 'missing 1 required positional argument'),
    ],
    ids=['classifier', 'super-resolution', 'smaller', 'diffusion'],
)
def test_only_denoisers_are_wrapped(network, reason):
    with pytest.raises(InputError, match=f'^[+]wne, wrap and --wne are .*: .*{reason}.*; open it without') as refused:
        wrap_zero_shot(network, 25 / 255)
    assert '\n' not in str(refused.value)


@pytest.mark.parametrize(
    ('keys', 'reason'),
    [
        (['conv1.weight', 'layer1.0.bn1.weight', 'fc.weight'], 'a classifier'),
        (['conv_first.weight', 'body.0.rdb1.conv1.weight', 'conv_up1.weight'], 'a super-resolution network'),
        (
            ['time_embed.0.weight', 'input_blocks.0.0.weight', 'out.2.weight'],
            'a diffusion model .it needs a time step.',
        ),
        (['t_embedder.mlp.0.weight'], 'a diffusion model'),
        (['patch_embed.proj.weight', 'norm.weight', 'head.weight'], 'a classifier'),
    ],
)
def test_files_of_other_networks_are_refused_by_what_they_are(keys, reason, tmp_path, monkeypatch):
    monkeypatch.setattr('ne_basicsr.inference.loading.find_layout', lambda weights: None)  # as without spandrel
    torch.save({key: torch.ones(2, 2) for key in keys}, tmp_path / 'net.pth')
    with pytest.raises(InputError, match=f'seems to be {reason}.* and denoisers are needed; if .* net.yml$') as refused:
        ne_basicsr.load(tmp_path / 'net.pth', wrap='wne')
    assert '\n' not in str(refused.value)
