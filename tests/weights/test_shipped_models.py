"""The models that come with the package: what they say about themselves is true, and they denoise."""

import cv2
import numpy as np
import pytest
import skimage
import torch
from conftest import REPOSITORY, smooth_photograph

import ne_basicsr
from ne_basicsr.cli.main import main
from ne_basicsr.inference import image_files
from ne_basicsr.ops.equivariance import ne_defect
from ne_basicsr.ops.noise import TrainingNoise
from ne_basicsr.ops.noise_level import noise_level
from ne_basicsr.options import read_yaml
from ne_basicsr.weights import checkpoint, shipped_models

CHANNELS = {'gray': 1, 'colour': 3}


def test_they_are_small_and_there_is_one_for_gray_and_one_for_colour():
    assert set(shipped_models.MODELS) == set(CHANNELS)
    assert (CHANNELS[shipped_models.GRAY], CHANNELS[shipped_models.COLOUR]) == (1, 3)
    assert all(path.stat().st_size < 8 * 2**20 for path in shipped_models.MODELS.values())


@pytest.mark.parametrize('name', CHANNELS)
def test_each_is_what_its_option_file_makes(name):
    options = read_yaml(REPOSITORY / 'options' / f'shipped_{name}.yml')
    metadata = checkpoint.read(name)[checkpoint.METADATA]
    assert metadata['network_g'] == options['network_g']
    recorded, written = (TrainingNoise.from_options(each) for each in (metadata['noise'], options['datasets']['train']))
    assert recorded == written is not None


@pytest.mark.parametrize('name', CHANNELS)
@pytest.mark.parametrize('sigma255', [10, 25, 50, 100])
def test_each_removes_noise_and_is_equivariant(name, sigma255):
    network = ne_basicsr.load(name)
    clean = torch.from_numpy(smooth_photograph(96, 128, seed=3) / 255.0).float()
    clean = clean.expand(1, CHANNELS[name], 96, 128)
    noisy = clean + sigma255 / 255 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        error = (network(noisy) - clean).square().mean()
    assert error < 0.5 * (noisy - clean).square().mean()  # 3 dB
    assert ne_defect(network, noisy).max() < 1e-5


@pytest.mark.parametrize('name', CHANNELS)
@pytest.mark.parametrize(
    'noise',
    [
        {'type': 'camera', 'sigma255': 12},
        {'type': 'correlated', 'sigma255': 12},
        {'type': 'poisson_gaussian', 'photons': 100},
        {'sigma255': 20, 'quality': 75},
    ],
    ids=['camera', 'correlated', 'photons', 'JPEG'],
)
def test_each_removes_the_noise_of_cameras_by_itself(name, noise):
    network = ne_basicsr.load(name)
    clean = torch.from_numpy(skimage.data.coffee()[150:278, 200:328] / 255.0).float().movedim(-1, 0)[None]
    clean = clean if CHANNELS[name] == 3 else clean[:, 1:2]
    added = TrainingNoise.from_options({'noise': noise})
    assert added is not None
    noisy = added.add(clean, [5])
    image = noisy[0].movedim(0, -1).numpy()
    result = network(image)
    assert np.array_equal(result, network(image, stride=1, stabilize=False))  # as it is
    error, level = (result - clean[0].movedim(0, -1).numpy()).std(), (noisy - clean).std()
    assert error < 0.63 * level  # 4 dB; a network for white noise leaves correlated noise as it is
    if noise.get('type') == 'correlated':
        assert noise_level(noisy) < 0.25 * level


@pytest.mark.parametrize('name', CHANNELS)
def test_large_images_are_denoised_as_well_as_crops(name):
    # trained on small crops alone, the networks relied on the crops' statistics and were 1 to 2 dB worse on images
    network = ne_basicsr.load(name)
    clean = torch.from_numpy(smooth_photograph(192, 192, seed=5) / 255.0).float()
    clean = clean.expand(1, CHANNELS[name], 192, 192)
    noisy = clean + 10 / 255 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    crops = noisy.unfold(2, 48, 48).unfold(3, 48, 48).flatten(2, 3)  # (1, C, 16, 48, 48)
    with torch.no_grad():
        whole = network(noisy)
        apart = network(crops[0].transpose(0, 1)).transpose(0, 1)[None]
    of_crops = clean.unfold(2, 48, 48).unfold(3, 48, 48).flatten(2, 3)
    assert (whole - clean).square().mean() < 1.05 * (apart - of_crops).square().mean()


def test_colour_differences_are_worth_more_than_channels_apart():
    gray = smooth_photograph(96, 128, seed=1).astype(np.float32) / 255
    clean = np.stack([gray, 0.9 * gray, 0.7 * gray + 0.1], axis=2)
    noisy = clean + np.random.default_rng(0).normal(0, 25 / 255, clean.shape).astype(np.float32)
    network = ne_basicsr.load('gray')
    apart = np.stack([network(noisy[..., channel]) for channel in range(3)], axis=2)
    together = network(noisy)
    assert ((together - clean) ** 2).mean() < 0.8 * ((apart - clean) ** 2).mean()
    assert np.abs(network(2 * noisy - 3) - (2 * together - 3)).max() < 1e-5


def test_denoise_takes_it_without_being_told(tmp_path, capsys, monkeypatch):
    gray = smooth_photograph(48, 64, seed=1)
    colour = np.stack([gray, gray[::-1], gray[:, ::-1]], axis=2)
    cv2.imwrite(str(tmp_path / 'gray.png'), gray)
    cv2.imwrite(str(tmp_path / 'colour.png'), colour[..., ::-1])
    monkeypatch.chdir(tmp_path)
    assert main(['denoise', 'gray.png', 'colour.png']) == 0
    for name, image in (('gray', gray), ('colour', colour)):
        expected = ne_basicsr.denoise(ne_basicsr.load(name), image)
        written = image_files.read(tmp_path / 'denoised' / f'{name}.png').pixels
        difference = np.abs(written.squeeze().astype(int) - expected)  # channels_last sums in another order
        assert difference.max() <= 1 and difference.mean() < 1e-3
    capsys.readouterr()
    assert main(['denoise', 'gray.png', 'colour.png']) == 0
    assert '2 finished before' in capsys.readouterr().out


@pytest.mark.parametrize('command', ['mismatch', 'check', 'export', 'denoise'])
def test_names_are_taken_for_checkpoints_everywhere(command, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'images').mkdir()
    cv2.imwrite('images/a.png', smooth_photograph(32, 32, seed=1))
    more = {
        'mismatch': ['--data', 'images', '--degradation', 'gaussian=25', '--defect', 'none'],
        'check': ['--dtype', 'float32'],
        'export': ['-o', 'gray.safetensors'],
        'denoise': ['images'],
    }
    assert main([command, 'gray', *more[command]]) == 0


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({'params': {'model.0.weight': torch.zeros(1)}}, 'gray')
    assert 'model.0.weight' in checkpoint.read('gray')['params']
