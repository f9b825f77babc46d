"""MatConvNet's files: written here in both formats of MATLAB, and the authors' own."""

import numpy as np
import pytest
import scipy.io
import torch
from basicsr.archs import build_network

import ne_basicsr
from ne_basicsr.utils.errors import InputError
from ne_basicsr.weights import checkpoint, matconvnet
from ne_basicsr.weights.formats.stacks import OWN_EPS

DNCNN = {'type': 'DnCNN', 'num_feat': 4, 'num_layers': 4}
IRCNN = {'type': 'IRCNN', 'num_feat': 2}
# (options, layers before the stack, whether the stack is within 2x2 pixels)
NETWORKS = [
    (DNCNN | {'act_mode': 'R'}, ()),
    (DNCNN | {'num_in_ch': 3, 'num_out_ch': 3}, ()),
    ({'type': 'FFDNet', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 4, 'num_layers': 3}, ('SubP', 'concat')),
]
COLUMNS = {12: [0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11], 13: [0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12]}


def network(options):
    net = build_network(options).eval()
    for name, value in net.state_dict().items():
        if 'running' in name or 'bias' in name:
            value.copy_(torch.rand(value.shape) + 0.1)
    return net


def in_matlab(net, before=()):
    """The layers of MatConvNet that compute what ``net.model`` does; FFDNet's pixels go down the columns."""
    layers = [{'type': kind} for kind in before]
    for module in net.model:
        if isinstance(module, torch.nn.Conv2d):
            kernel, bias = module.weight.detach().numpy(), module.bias.detach().numpy()
            kernel = kernel[:, COLUMNS[13]] if before and kernel.shape[1] == 13 else kernel
            kernel, bias = (each[COLUMNS[12]] if before and len(each) == 12 else each for each in (kernel, bias))
            layers.append({'type': 'conv', 'weights': [kernel.transpose(2, 3, 1, 0), bias[:, None]]})
        elif isinstance(module, torch.nn.BatchNorm2d):
            deviation = (module.running_var + OWN_EPS).sqrt()
            moments = torch.stack([module.running_mean, deviation], dim=1).numpy()
            gain, bias = module.weight.detach().numpy(), module.bias.detach().numpy()
            layers.append({'type': 'bnorm', 'weights': [gain[:, None], bias[:, None], moments]})
        else:
            layers.append({'type': 'relu', 'leak': 0.0})
    return [*layers, *({'type': 'SubP'} for _ in before[:1]), {'type': 'loss'}]


def cell(items):
    array = np.empty((1, len(items)), dtype=object)
    for i, item in enumerate(items):
        array[0, i] = (
            item | {'weights': cell(item['weights'])} if isinstance(item, dict) and 'weights' in item else item
        )
    return array


def write_matlab(path, layers):
    scipy.io.savemat(path, {'net': {'layers': cell(layers), 'meta': {'sigma': 25.0}}})


def write_hdf5(path, layers):
    """As MATLAB 7.3: arrays with their axes in reverse order and without trailing ones, cells of references."""
    h5py = pytest.importorskip('h5py')
    with h5py.File(path, 'w', userblock_size=512) as file:

        def put(value):
            name = f'#refs#/{len(file.get("#refs#", ()))}'
            if isinstance(value, dict):
                for key, held in value.items():
                    if key == 'type':
                        file[f'{name}/type'] = np.array([list(held.encode())], dtype=np.uint16).T
                    elif key == 'weights':
                        references = [put(each) for each in held]
                        file[f'{name}/weights'] = np.array([references], dtype=h5py.ref_dtype).T
            else:
                shape = value.shape[
                    : 2 + max((i for i in range(2) if value.shape[2:][i : i + 1] > (1,)), default=-1) + 1
                ]
                file[name] = value.reshape(shape).T
            return file[name].ref

        file['net/layers'] = np.array([[put(layer) for layer in layers]], dtype=h5py.ref_dtype).T
    with open(path, 'r+b') as raw:
        raw.write(b'MATLAB 7.3 MAT-file, Platform: GLNXA64')


@pytest.mark.parametrize('write', [write_matlab, write_hdf5])
@pytest.mark.parametrize(('options', 'before'), NETWORKS, ids=['merged', 'with BatchNorm', 'FFDNet'])
def test_networks_in_files_of_matlab_compute_what_they_did(tmp_path, write, options, before):
    net = network(options)
    write(tmp_path / 'net.mat', in_matlab(net, before))
    loaded = ne_basicsr.load(tmp_path / 'net.mat')
    assert type(loaded.network) is type(net)
    y = torch.rand(1, options.get('num_in_ch', 1), 12, 14)
    given = {'sigma': 0.1} if before else {}
    with torch.no_grad():
        torch.testing.assert_close(loaded(y, **given), net(y, **given), rtol=0, atol=1e-5)
        if before:  # the control: pixels by rows
            write(tmp_path / 'rows.mat', [each for each in in_matlab(net, before) if each['type'] != 'SubP'])
            rows = {k: v for k, v in checkpoint.read(tmp_path / 'rows.mat').items() if k in net.state_dict()}
            net.load_state_dict(rows)
            assert (loaded(y, **given) - net(y, **given)).abs().max() > 1e-3


def test_one_of_several_networks_is_chosen_by_its_number(tmp_path):
    nets = [network(IRCNN) for _ in range(3)]
    scipy.io.savemat(tmp_path / 'net.mat', {'CNNdenoiser': cell([{'layers': cell(in_matlab(net))} for net in nets])})
    with pytest.raises(InputError, match="holds 3 networks: choose one, as in param_key='0'"):
        ne_basicsr.load(tmp_path / 'net.mat')
    y = torch.rand(1, 1, 12, 14)
    assert torch.equal(ne_basicsr.load(tmp_path / 'net.mat', param_key='2')(y), nets[2](y))


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'images': np.zeros(3)}, 'no network of MatConvNet'),
        ({'net': {'params': 1, 'vars': 2}}, 'no network of MatConvNet'),
        ({'net': {'layers': cell([{'type': 'relu'}, {'type': 'pool'}])}}, 'with a layer pool'),
        (
            {
                'net': {
                    'layers': cell(
                        [{'type': 'conv', 'weights': [np.zeros((5, 5, 1, 4)), np.zeros(4)]}, {'type': 'relu'}]
                    )
                }
            },
            'cannot reshape',
        ),
    ],
)
def test_other_files_of_matlab_are_refused_in_one_line(tmp_path, content, message):
    scipy.io.savemat(tmp_path / 'net.mat', content)
    with pytest.raises(InputError, match=message):
        ne_basicsr.load(tmp_path / 'net.mat')
    (tmp_path / 'net.mat').write_bytes(b'MATLAB 5.0 MAT-file' + bytes(200))
    with pytest.raises(InputError, match='no network of MatConvNet'):
        ne_basicsr.load(tmp_path / 'net.mat')


def test_the_authors_file_is_the_converted_one(shared):
    pytest.importorskip('h5py')
    own = matconvnet.read(shared / 'weights' / 'matconvnet_dncnn_25.mat')
    converted = checkpoint.read(shared / 'weights' / 'kair_dncnn_25.pth')
    assert own.keys() == converted.keys()
    assert all(torch.equal(own[key], converted[key]) for key in own)
