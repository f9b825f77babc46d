import pytest
import torch
import yaml
from torch import nn

import ne_basicsr
from ne_basicsr.archs.dncnn_arch import DnCNN
from ne_basicsr.archs.fdncnn_arch import FDnCNN
from ne_basicsr.inference.denoiser import Denoiser
from ne_basicsr.inference.opening import (
    Spec,
    common_channels,
    identity,
    labels_of,
    open_denoiser,
    open_denoisers,
    parse_spec,
)
from ne_basicsr.ops.noise import LevelRange
from ne_basicsr.utils.errors import InputError
from ne_basicsr.weights import checkpoint

DNCNN = {'type': 'DnCNN', 'num_feat': 4, 'num_layers': 3, 'act_mode': 'R'}
TRAINED_AT_25 = {'datasets': {'train': {'noise': {'type': 'gaussian', 'sigma255': 25}}}}


def save(path, network, options=None, **further):
    checkpoint.save_network(path, {'params': network}, {'network_g': options or DNCNN, **further})
    return str(path)


def dncnn(channels=1):
    return DnCNN(num_in_ch=channels, num_out_ch=channels, num_feat=4, num_layers=3, act_mode='R')


def test_arguments_name_file_level_and_wrapping(tmp_path):
    assert parse_spec('net.pth') == Spec('net.pth', 'net.pth', None, False)
    assert parse_spec('a@b/net.pth@25+wne') == Spec('a@b/net.pth@25+wne', 'a@b/net.pth', 25, True)
    assert parse_spec('net.pth+wne') == Spec('net.pth+wne', 'net.pth', None, True)
    odd = tmp_path / 'net@25+wne'
    odd.touch()
    assert parse_spec(str(odd)).file == str(odd)  # a file of that very name is meant
    for text in ('net.pth@', 'net.pth@x', 'net.pth@-1', 'net.pth@0'):
        with pytest.raises(InputError, match='@ must be followed by the training noise level'):
            parse_spec(text)


def test_labels_are_unique():
    specs = [parse_spec(text) for text in ('one/net.pth', 'two/net.pth', 'net2.pth', 'net2.pth+wne')]
    assert labels_of(specs) == ['one/net', 'two/net', 'net2', 'net2+wne']
    runs = [Spec(f, f, None, False) for f in ('experiments/a/models/net_g.pth', 'experiments/b/models/net_g.pth')]
    assert labels_of(runs) == ['a/net_g', 'b/net_g']
    assert labels_of(specs, ['plain']) == ['plain', 'two/net', 'net2', 'net2+wne']
    for given, reason in ((['a', 'a'], "'a'"), (['identity'], "'identity'"), (list('abcde'), '5 labels for 4')):
        with pytest.raises(InputError, match=reason):
            labels_of(specs, given)


def test_a_checkpoint_says_what_it_is(tmp_path):
    path = save(tmp_path / 'net.pth', dncnn(3), DNCNN | {'num_in_ch': 3, 'num_out_ch': 3}, **TRAINED_AT_25)
    denoiser = open_denoiser(parse_spec(path), 'net')
    assert denoiser.channels == 3 and not denoiser.needs_sigma
    assert denoiser.entry.training_levels255 == (25,)
    assert denoiser.entry.parameters == sum(p.numel() for p in dncnn(3).parameters())
    assert not denoiser.network.training
    noise = {'type': 'gaussian', 'sigma_type': 'random', 'sigma255': [0, 55]}
    ranged = save(tmp_path / 'ranged.pth', dncnn(), DNCNN, datasets={'train': {'noise': noise}})
    assert open_denoiser(ranged).training_levels255 == LevelRange(0, 55)
    assert isinstance(open_denoiser(ranged).training_levels255, LevelRange)
    listed = save(tmp_path / 'l.pth', dncnn(), DNCNN, datasets={'train': {'noise': noise | {'sigma_type': 'choice'}}})
    assert not isinstance(open_denoiser(listed).training_levels255, LevelRange)  # these two levels
    for other in ({'type': 'mixture', 'of': [noise]}, noise | {'quality': 50}, noise | {'type': 'speckle'}):
        mixed = save(tmp_path / 'm.pth', dncnn(), DNCNN, datasets={'train': {'noise': other}})
        assert open_denoiser(mixed).training_levels255 == ()  # no level of white noise


def test_networks_that_can_be_used_are_opened_and_the_others_named(tmp_path):
    path = save(tmp_path / 'net.pth', dncnn())
    denoisers, failures = open_denoisers(['missing.pth', path, f'{path}+wne'], ['gone', 'plain'])
    assert [denoiser.label for denoiser in denoisers] == ['plain', 'net+wne']
    (line,) = failures
    assert 'missing.pth' in line
    with pytest.raises(InputError, match=r'missing\.pth'):
        open_denoisers(['missing.pth'])
    assert open_denoisers([]) == ([], [])


def test_networks_that_are_compared_take_as_many_channels(tmp_path):
    gray = open_denoiser(parse_spec(save(tmp_path / 'gray.pth', dncnn())), 'gray')
    options = DNCNN | {'num_in_ch': 3, 'num_out_ch': 3}
    colour = open_denoiser(parse_spec(save(tmp_path / 'colour.pth', dncnn(3), options)), 'colour')
    assert [common_channels(each) for each in ([], [identity()], [identity(), colour], [gray, gray])] == [1, 1, 3, 1]
    with pytest.raises(InputError, match='gray takes 1 and colour takes 3; run them separately'):
        common_channels([colour, identity(), gray])


def test_digests_tell_networks_apart(tmp_path):
    torch.manual_seed(0)
    network = dncnn()
    path = save(tmp_path / 'net.pth', network)
    first = open_denoiser(parse_spec(path), 'a').digest
    assert open_denoiser(parse_spec(path), 'b').digest == first
    others = [open_denoiser(parse_spec(f'{path}{suffix}'), 'a').digest for suffix in ('+wne', '@25+wne', '@15+wne')]
    with torch.no_grad():
        network.model[0].bias[0] += 1e-6
    others.append(open_denoiser(parse_spec(save(tmp_path / 'other.pth', network)), 'a').digest)
    assert len({first, *others}) == 5


def test_a_non_blind_network_is_told_the_level(tmp_path):
    network = FDnCNN(num_feat=4, num_layers=3, blind=False)
    options = {'type': 'FDnCNN', 'num_feat': 4, 'num_layers': 3, 'blind': False}
    denoiser = open_denoiser(parse_spec(save(tmp_path / 'net.pth', network, options)), 'net')
    y = torch.rand(2, 1, 16, 16)
    assert denoiser.needs_sigma and denoiser.channels == 1
    with torch.no_grad():
        assert torch.equal(denoiser(y, torch.tensor([0.1, 0.2])), network(y, sigma=[0.1, 0.2]))
    wrapped = open_denoiser(parse_spec(f'{tmp_path}/net.pth+wne'), 'net')
    assert wrapped.needs_sigma and wrapped.description.endswith('wrapped without training')  # no level is missing


def test_an_option_file_stands_for_its_network_and_weights(tmp_path):
    weights = save(tmp_path / 'weights.pth', dncnn())
    file = tmp_path / 'net.yml'
    file.write_text(yaml.safe_dump({'network_g': DNCNN, 'path': {'pretrain_network_g': weights}, **TRAINED_AT_25}))
    denoiser = open_denoiser(parse_spec(str(file)), 'net')
    assert denoiser.entry.training_levels255 == (25,)
    assert denoiser.digest == open_denoiser(parse_spec(weights), 'net').digest
    file.write_text(yaml.safe_dump({'network_g': DNCNN}))
    with pytest.raises(InputError, match='pretrain_network_g, the file with the weights, is missing'):
        open_denoiser(parse_spec(str(file)), 'net')


def test_a_module_is_no_file():
    with pytest.raises(InputError, match=r'^load takes a file, .*; got Identity: ne_basicsr\.Denoiser\(network\)$'):
        ne_basicsr.load(nn.Identity())


def test_networks_of_other_shapes_are_refused(tmp_path):
    class Half(nn.Module):
        def forward(self, x):
            return x[..., ::2, ::2]

    with pytest.raises(InputError, match=r'^Half: a denoiser must keep the shape .*; this network changes their size'):
        Denoiser(Half()).require_image_to_image()
