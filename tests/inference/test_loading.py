import copy
import json
import logging
import pickle
import subprocess
import sys

import numpy as np
import pytest
import safetensors.torch
import torch
from basicsr.archs import build_network
from conftest import GOLDENS
from torch import nn

import ne_basicsr
from ne_basicsr.archs.wne_arch import WNE
from ne_basicsr.cli.main import main
from ne_basicsr.evaluation.check import find_subject
from ne_basicsr.inference.opening import parse_spec
from ne_basicsr.utils.errors import InputError
from ne_basicsr.weights import checkpoint

DNCNN = {'type': 'DnCNN', 'num_feat': 4, 'num_layers': 4, 'act_mode': 'R'}
SWINIR = {'type': 'SwinIR', 'embed_dim': 8, 'depths': [2], 'num_heads': [2], 'window_size': 4, 'mlp_ratio': 2.0}


def same(net, other, y, **arguments):
    with torch.no_grad():
        return torch.equal(net(y, **arguments), other(y, **arguments))


@pytest.fixture
def y(images):
    return images.float()


@pytest.mark.parametrize(
    'options',
    [
        DNCNN | {'type': 'DnCNNWNE', 'prediction': 'residual', 'correction': 1},
        {'type': 'WSE', 'backbone': DNCNN},
        {'type': 'FDnCNN', 'num_feat': 4, 'num_layers': 3, 'mode': 'scale-equiv'},
    ],
)
def test_a_checkpoint_of_this_package_is_enough(tmp_path, y, options):
    net = build_network(options).eval()
    checkpoint.save_network(tmp_path / 'net.pth', {'params': net}, {'network_g': options})
    loaded = ne_basicsr.load(tmp_path / 'net.pth')
    assert same(loaded, net, y)
    assert not loaded.training


def test_averaged_weights_come_first(tmp_path, y):
    net, average = build_network(DNCNN).eval(), build_network(DNCNN).eval()
    checkpoint.save_network(tmp_path / 'net.pth', {'params': net, 'params_ema': average}, {'network_g': DNCNN})
    assert same(ne_basicsr.load(tmp_path / 'net.pth'), average, y)
    assert same(ne_basicsr.load(tmp_path / 'net.pth', param_key='params'), net, y)


def test_a_bare_state_dict_is_enough_where_its_keys_are_known(tmp_path, y, caplog):
    net = build_network(DNCNN).eval()
    torch.save(net.state_dict(), tmp_path / 'net.pth')
    with caplog.at_level(logging.INFO, 'basicsr'):
        assert same(ne_basicsr.load(str(tmp_path / 'net.pth')), net, y)
    assert 'net.pth: recognised KAIR DnCNN: DnCNN(num_in_ch=1' in caplog.text


def test_wrapped_files_come_back_wrapped(tmp_path, y):
    net = build_network(DNCNN | {'type': 'DnCNNWNE', 'correction': 1}).eval()
    fdncnn = build_network({'type': 'WNE', 'correction': 1, 'backbone': {'type': 'FDnCNN', 'num_layers': 3}}).eval()
    torch.save({'params': net.state_dict()}, tmp_path / 'own.pth')
    weights = {key.replace('backbone.', 'model.'): value for key, value in fdncnn.state_dict().items()}
    torch.save({'model_state': weights}, tmp_path / 'paper.pt')
    assert same(ne_basicsr.load(tmp_path / 'paper.pt', options={'type': 'WNE'}), fdncnn, y)
    own = ne_basicsr.load(tmp_path / 'own.pth', options={'correction': 1})  # no key says so
    assert same(own, net, y)
    assert not same(ne_basicsr.load(tmp_path / 'own.pth'), net, y)


WNE_1 = {'type': 'WNE', 'correction': 1, 'backbone': DNCNN}  # deviations of the paper's code divide by n - 1
AS_TRAINED = {
    'idem': DNCNN,
    'norm-equiv': WNE_1,
    'norm-equiv-input': WNE_1 | {'type': 'InputNorm'},
    'scale-equiv': {'type': 'WSE', 'backbone': DNCNN},
}


@pytest.fixture
def paper_run(tmp_path):
    """A checkpoint as every run of the paper's code writes it, plain ones too, and the networks that it may hold."""
    torch.manual_seed(0)
    plain = build_network(DNCNN)
    for parameter in plain.parameters():  # biases that are not zero, which would make it scale-equivariant
        nn.init.normal_(parameter, std=0.2)
    folder = tmp_path / 'some_run' / 'checkpoints'
    folder.mkdir(parents=True)
    weights = {f'model.{key}': value for key, value in plain.state_dict().items()}
    torch.save({'model_state': weights, 'step': 7}, folder / 'last.pt')
    networks = {mode: build_network(options).eval() for mode, options in AS_TRAINED.items()}
    for network in networks.values():
        network.load_state_dict(plain.state_dict())
    return folder / 'last.pt', networks


def test_a_paper_checkpoint_is_refused_unless_something_says_what_it_was_trained_in(paper_run, y):
    path, networks = paper_run
    for wrap in (None, 'wne'):
        with pytest.raises(InputError, match=r"options=\{'type': 'DnCNN'\}, 'WNE' or 'InputNorm', or on .* FILE=DnCNN"):
            ne_basicsr.load(path, wrap)
    for mode, options in AS_TRAINED.items():
        assert same(ne_basicsr.load(path, options={'type': options['type']}), networks[mode], y), mode
        for other in networks.keys() - {mode}:  # the control: taking one for another is wrong by much
            with torch.no_grad():
                assert (networks[mode](y) - networks[other](y)).abs().max() > 1e-3
    assert same(ne_basicsr.load(path, options={'type': 'DnCNNWNE', 'correction': 1}), networks['norm-equiv'], y)
    zero_shot = ne_basicsr.load(path, wrap='wne', sigma=0.1, options={'type': 'DnCNN'})
    assert same(zero_shot.network.backbone, networks['idem'], y)
    with pytest.raises(InputError, match='no network DnCN: '):
        ne_basicsr.load(path, options={'type': 'DnCN'})
    with pytest.raises(InputError, match=r'last\.pt: VGGFeatureExtractor is no network from images to images'):
        ne_basicsr.load(path, options={'type': 'VGGFeatureExtractor'})


def test_weights_of_a_colour_swinir_say_how_to_name_the_one_without_a_mean(tmp_path):
    small = {'in_chans': 3, 'img_size': 8, 'window_size': 8, 'depths': [1], 'embed_dim': 4, 'num_heads': [1]}
    network = build_network({'type': 'SwinIRNoMean', 'upscale': 1, 'mlp_ratio': 2.0, **small}).eval()
    torch.save(network.state_dict(), tmp_path / 'net.pth')
    assumed = ne_basicsr.load(tmp_path / 'net.pth')
    assert 'name the type, FILE=SwinIRNoMean' in assumed.description
    named = ne_basicsr.load(tmp_path / 'net.pth', options={'type': 'SwinIRNoMean'})
    assert 'name the type' not in named.description
    image = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(named.network(image), network(image))
        assert (assumed.network(image) - network(image)).abs().max() > 1e-3


@pytest.mark.parametrize('place', ['beside', 'above'])
@pytest.mark.parametrize(
    'settings',
    [
        lambda mode: {'model': 'dncnn', 'model_wrapper_mode': mode, 'model_pred_mode': 'direct'},
        lambda mode: {'config': {'model': {'wrapper_mode': mode, 'model_mode': 'ordinary'}}},
        lambda mode: {'model_wrapper_mode': {'value': mode, 'desc': None}},
        lambda mode: [{'model.wrapper_mode': mode}],
    ],
)
def test_the_config_of_the_run_says_it(paper_run, y, place, settings):
    path, networks = paper_run
    config = (path.parent if place == 'beside' else path.parent.parent) / 'config.json'
    for mode, network in networks.items():
        config.write_text(json.dumps(settings(mode)))
        assert same(ne_basicsr.load(path), network, y), mode
    assert same(ne_basicsr.load(path, options={'type': 'DnCNN'}), networks['idem'], y)  # who says otherwise is believed


def test_the_config_of_a_run_tells_fdncnns_mode_and_a_broken_one_is_named(tmp_path, y):
    net = build_network({'type': 'FDnCNN', 'num_feat': 4, 'num_layers': 3, 'mode': 'scale-equiv'}).eval()
    torch.save({'model_state': {f'model.{k}': v for k, v in net.state_dict().items()}}, tmp_path / 'last.pt')
    config = tmp_path / 'config.json'
    config.write_text('{"model_wrapper_mode": "idem", "model_model_mode": "scale-equiv"}')
    assert same(ne_basicsr.load(tmp_path / 'last.pt'), net, y)
    for text, message in (
        ('[' * 100_000, r'config.json: not readable as the settings of a run \(maximum recursion'),
        ('{"model_wrapper_mode": "wnei"}', 'model_wrapper_mode must be one of idem, norm-equiv, '),
        ('{"model_wrapper_mode": "idem", "model_pred_mode": "residual"}', "pred_mode 'residual'"),
        ('{"epochs": 3}', 'do not record whether the network is plain'),
        (' ' * 2**21, 'more than 1048576 bytes'),
    ):
        config.write_text(text)
        with pytest.raises(InputError, match=message) as error:
            ne_basicsr.load(tmp_path / 'last.pt')
        assert '\n' not in str(error.value)


def test_the_command_line_says_the_type_after_the_file(paper_run, tmp_path, capsys):
    path, _ = paper_run
    assert main(['export', str(path), '-o', str(tmp_path / 'a.safetensors')]) == 2
    assert f'{path}: KAIR DnCNN in the WNE paper' in capsys.readouterr().err
    for kind in ('DnCNN', 'InputNorm'):
        assert main(['export', f'{path}={kind}', '-o', str(tmp_path / f'{kind}.safetensors')]) == 0
        assert type(ne_basicsr.load(tmp_path / f'{kind}.safetensors').network).__name__ == kind
    spec = parse_spec(f'{path}=DnCNN@25+wne')
    assert (spec.file, spec.type, spec.sigma255, spec.wrap) == (str(path), 'DnCNN', 25, True)
    assert 'InputNorm' in find_subject(f'{path}=InputNorm').about
    assert 'ZeroShot' in find_subject(f'{path}=DnCNN@25+wne').about


def test_wrapping_makes_it_equivariant_and_refuses_to_wrap_twice(tmp_path, images):
    torch.save(build_network(DNCNN).state_dict(), tmp_path / 'net.pth')
    plain, wrapped = (ne_basicsr.load(tmp_path / 'net.pth', wrap).double() for wrap in (None, 'wne'))
    defect = {}
    for name, net in (('plain', plain), ('wrapped', wrapped)):
        with torch.no_grad():
            defect[name] = (net(0.5 * images + 0.2) - (0.5 * net(images) + 0.2)).abs().max()
    assert defect['wrapped'] < 1e-12
    assert defect['plain'] > 1e-3
    assert isinstance(wrapped.network, WNE)
    torch.save(wrapped.state_dict(), tmp_path / 'wrapped.pth')
    with pytest.raises(InputError, match='already holds a wrapped network'):
        ne_basicsr.load(tmp_path / 'wrapped.pth', wrap='wne')
    with pytest.raises(ValueError, match="None or 'wne'; got 'wse'"):
        ne_basicsr.load(tmp_path / 'net.pth', wrap='wse')


@pytest.mark.parametrize(('upsampler', 'scale'), [('', 1), ('pixelshuffledirect', 2)])
def test_any_size_goes_through_networks_with_windows(tmp_path, y, upsampler, scale):
    net = build_network(SWINIR | {'in_chans': 1, 'img_size': 8, 'upscale': scale, 'upsampler': upsampler}).eval()
    torch.save({'params': net.state_dict()}, tmp_path / 'swinir.pth')
    loaded = ne_basicsr.load(tmp_path / 'swinir.pth')
    with torch.no_grad():
        assert loaded(y).shape == (4, 1, 19 * scale, 23 * scale)
        assert torch.equal(loaded(y[..., :16, :20]), net(y[..., :16, :20]))
        wrapped = WNE(loaded.network) if scale > 1 else ne_basicsr.load(tmp_path / 'swinir.pth', wrap='wne')
        assert wrapped(y).shape == (4, 1, 19 * scale, 23 * scale)


def test_what_the_file_does_not_tell_can_be_given(tmp_path, y):
    net = build_network(
        {'type': 'FDnCNN', 'num_feat': 4, 'num_layers': 3, 'mode': 'scale-equiv', 'blind': False}
    ).eval()
    torch.save(net.state_dict(), tmp_path / 'net.pth')
    loaded = ne_basicsr.load(tmp_path / 'net.pth', options={'mode': 'scale-equiv'})
    assert same(loaded, net, y, sigma=0.1)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'params': {'head.weight': torch.ones(1)}}, 'unknown layout with keys head.weight; known are KAIR DnCNN'),
        ({'epoch': 3}, 'no weights found among the keys epoch'),
        ({'fdncnn.0.weight': torch.ones(4, 1, 3, 3)}, None),
        (
            {'params': {}, 'ne_basicsr': {'network_g': {'type': 'DnCN'}}},
            "no network DnCN: .*did you mean 'DnCNN'",
        ),
        ({'params': {}, 'ne_basicsr': {'network_g': {'type': 'DnCNN', 'depth': 3}}}, 'cannot build DnCNN.*depth'),
        ({'params': {}, 'ne_basicsr': {'network_g': DNCNN}}, 'do not fit DnCNN; 8 missing'),
        ([1, 2], 'must hold a mapping'),
    ],
)
def test_what_is_wrong_is_one_line_with_the_file(tmp_path, content, message):
    torch.save(content, tmp_path / 'net.pth')
    with pytest.raises(InputError, match=message) as error:
        ne_basicsr.load(tmp_path / 'net.pth')
    assert 'net.pth: ' in str(error.value)
    assert '\n' not in str(error.value)


def test_an_incomplete_state_dict_lists_what_is_missing(tmp_path):
    weights = build_network(DNCNN).state_dict()
    del weights['model.2.weight']
    weights['model.4.weight'][0] = float('inf')
    torch.save(weights, tmp_path / 'net.pth')
    with pytest.raises(InputError, match=r'recognised KAIR DnCNN, but .*1 missing \(model.2.weight\)'):
        ne_basicsr.load(tmp_path / 'net.pth')
    torch.save(build_network(DNCNN).state_dict() | {'model.4.weight': weights['model.4.weight']}, tmp_path / 'net.pth')
    with pytest.raises(InputError, match='hold NaN or infinity'):
        ne_basicsr.load(tmp_path / 'net.pth')


def test_the_package_imports_no_torch_and_load_is_there_at_once():
    script = (
        'import sys, ne_basicsr\n'
        'assert not {"torch", "basicsr"} & set(sys.modules)\n'
        'assert ne_basicsr.load.__name__ == "load"\n'
        'assert not hasattr(ne_basicsr, "lode")\n'
    )
    subprocess.run([sys.executable, '-c', script], check=True)


@pytest.mark.parametrize(
    ('name', 'layers'),
    [
        ('kair_dncnn_25.pth', 17),
        ('dncnn_pytorch_s25.pth', 17),
        ('bf_cnn_bsd400_0to100.pt', 20),
        ('bf_dncnn_0-30.pt', 20),
    ],
)
def test_public_weights_give_the_stored_images(shared, name, layers):
    """A corner of 96x96 of the 256x256 image: what is more than ``layers`` pixels from its cut sides is the same."""
    stored = np.load(GOLDENS / 'pretrained_set12_05_sigma25.npz')
    net = ne_basicsr.load(shared / 'weights' / name)
    with torch.no_grad():
        output = net(torch.from_numpy(stored['noisy'][:96, :96])[None, None].float())[0, 0].numpy()
    kept = slice(0, 96 - layers)
    expected = stored[f'denoised/{name.rsplit(".", 1)[0]}']
    assert np.abs(output[kept, kept] - expected[kept, kept]).max() < 1e-4


def test_a_training_level_given_or_noted_makes_the_wrapped_network_zero_shot(tmp_path):
    from ne_basicsr.archs.zero_shot_arch import ZeroShot

    options = {'type': 'DnCNN', 'num_feat': 4, 'num_layers': 3, 'act_mode': 'R'}
    net = build_network(options)
    for noise, level in (({'sigma255': 15}, 15), ({'sigma_type': 'random', 'sigma255': [0, 55]}, None)):
        path = tmp_path / 'net.pth'
        train = {'noise': {'type': 'gaussian', **noise}}
        checkpoint.save_network(path, {'params': net}, {'network_g': options, 'datasets': {'train': train}})
        wrapped = ne_basicsr.load(path, wrap='wne')
        assert isinstance(wrapped.network, ZeroShot) == (level is not None)
        if level:
            assert wrapped.network.sigma * 255 == pytest.approx(level)
        assert ne_basicsr.load(path, wrap='wne', sigma=0.2).network.sigma == pytest.approx(0.2)


def test_a_network_takes_arrays_as_well(tmp_path):
    options = DNCNN | {'type': 'DnCNNWNE'}
    net = build_network(options).eval()
    checkpoint.save_network(tmp_path / 'net.pth', {'params': net}, {'network_g': options})
    loaded = ne_basicsr.load(tmp_path / 'net.pth')
    assert isinstance(loaded.network, type(net))
    assert list(loaded.state_dict()) == list(net.state_dict())
    photo = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    expected = ne_basicsr.denoise(net, photo)
    again = (copy.deepcopy(loaded), pickle.loads(pickle.dumps(loaded)))
    for each in (loaded, *again):
        restored = each(photo)
        assert restored.dtype == np.uint8
        assert np.array_equal(restored, expected)
        y = torch.rand(1, 1, 16, 16)
        assert same(each, net, y)
    assert np.array_equal(loaded(photo, tile=96), expected)
    with pytest.raises(InputError, match='uint8, uint16 or floating point; got complex64'):
        loaded(photo.astype(np.complex64))


# -- files that are made to harm ---------------------------------------------------------------------------------------

WEIGHT = {'params': {'model.0.weight': torch.zeros(4, 1, 3, 3)}}


@pytest.mark.parametrize(
    ('network_g', 'message'),
    [
        ({'type': 'VGGFeatureExtractor', 'layer_name_list': ['conv1_1']}, 'is no network from images to images'),
        ({'type': 'SpyNet', 'load_path': '/etc/passwd'}, 'is no network from images to images'),
        ({'type': 'DnCNN', 'num_layers': 10**9}, 'num_layers: 1000000000, too much for its 36 values'),
        ({'type': 'DnCNN', 'num_feat': 1000}, 'num_feat: 1000, too much'),
        (
            {'type': 'SwinIR', 'window_size': 300, 'depths': [1], 'num_heads': [1]},
            'larger than the weights of the file',
        ),
        ({'type': 'SwinIR', 'depths': [200] * 4, 'num_heads': [1] * 4}, 'larger than the weights of the file'),
        ({'type': 'WNE', 'backbone': {'type': 'DnCNN', 'num_layers': 10**9}}, 'num_layers: 1000000000, too much'),
        ({'type': 'WNE', 'backbone': 7}, 'gives a backbone by 7'),
        ({'type': 'Nonsense'}, 'no network Nonsense'),
        ({'type': 'Restormer'}, 'larger than the weights of the file'),
    ],
)
def test_what_a_file_says_of_its_network_is_compared_before_it_is_built(tmp_path, monkeypatch, network_g, message):
    monkeypatch.setattr('torch.hub.load_state_dict_from_url', lambda *_, **__: pytest.fail('nothing is fetched'))
    checkpoint.write(tmp_path / 'net.pth', WEIGHT | {checkpoint.METADATA: {'network_g': network_g}})
    with pytest.raises(InputError, match=message) as error:
        ne_basicsr.load(tmp_path / 'net.pth')
    assert '\n' not in str(error.value)


def test_a_file_of_weights_is_not_opened_where_a_checkpoint_names_one(tmp_path, monkeypatch):
    pytest.importorskip('spandrel')
    secret = tmp_path / 'secret'
    secret.touch()
    described = {'network_g': {'type': 'Spandrel', 'weights': str(secret)}}
    checkpoint.write(tmp_path / 'net.pth', WEIGHT | {checkpoint.METADATA: described})
    opened, read = [], checkpoint.read
    monkeypatch.setattr(checkpoint, 'read', lambda path, *rest: [opened.append(str(path)), read(path, *rest)][1])
    with pytest.raises(InputError, match='knows no network with these weights'):
        ne_basicsr.load(tmp_path / 'net.pth')
    assert opened == [str(tmp_path / 'net.pth')]


@pytest.mark.parametrize(
    ('weights', 'message'),
    [
        ({'a': torch.zeros(2, dtype=torch.complex64)}, 'a is of type complex64'),
        ({'a': torch.empty(2, device='meta')}, 'a is a meta tensor'),
        ({'a': torch.eye(3).to_sparse()}, r'a is sparse or nested \(sparse_coo\)'),
        ({'a': torch.zeros(1).expand(2**40)}, 'a is expanded to 1,099,511,627,776 values'),
        ({3: torch.zeros(2)}, 'one of these is under the int 3'),
        ({'a': torch.zeros(2).to(torch.float8_e5m2)}, 'a is of type float8_e5m2'),
    ],
)
def test_weights_that_no_network_holds_are_one_line(tmp_path, weights, message):
    torch.save({'params': weights}, tmp_path / 'net.pth')
    with pytest.raises(InputError, match=f'net.pth: .*{message}'):
        ne_basicsr.load(tmp_path / 'net.pth')


def test_metadata_of_a_hundred_thousand_brackets_is_one_line(tmp_path):
    path = tmp_path / 'net.safetensors'
    for text in ('[' * 100_000, '[' * 100_000 + ']' * 100_000, '{"network_g":' * 1000 + '1' + '}' * 1000):
        safetensors.torch.save_file(WEIGHT['params'], path, {checkpoint.METADATA: text})
        with pytest.raises(InputError, match=r'net\.safetensors: '):
            ne_basicsr.load(path)
