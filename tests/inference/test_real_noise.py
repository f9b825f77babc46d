"""Noise that is neither white nor equal everywhere: what ``denoise`` does about it, and what it leaves alone."""

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from skimage.restoration import denoise_nl_means
from torch import nn

import ne_basicsr
from ne_basicsr.archs.backbone import build_arch
from ne_basicsr.archs.network_inputs import Facts
from ne_basicsr.archs.zero_shot_arch import ZeroShot
from ne_basicsr.cli.main import main
from ne_basicsr.inference import batch_run, pixels, real_noise
from ne_basicsr.inference.image_jobs import find_jobs
from ne_basicsr.inference.real_noise import Curve, Settings, find, joined, phases, stabilizing
from ne_basicsr.ops.noise_level import noise_level
from ne_basicsr.ops.noise_model import measure
from ne_basicsr.utils.errors import InputError
from ne_basicsr.weights import checkpoint

WHITE = {'stride': 1, 'stabilize': False}


def photograph(side: int = 192) -> np.ndarray:
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.random((side // 32 + 2, side // 32 + 2)), (side, side), interpolation=cv2.INTER_CUBIC)
    image[side // 4 : side // 2, side // 2 : 7 * side // 8] = 0.8
    return 0.1 + 0.8 * (image - image.min()) / (image.max() - image.min())


def noisy(kind: str, side: int = 192, seed: int = 1) -> np.ndarray:
    rng, clean = np.random.default_rng(seed), photograph(side)
    if kind == 'photons':
        return rng.poisson(200 * clean) / 200
    noise = rng.standard_normal(clean.shape)
    if kind == 'half':
        return clean + 20 / 255 * noise * (np.arange(side) >= side // 2)
    if kind == 'rising':
        return clean + np.linspace(5, 50, side) / 255 * noise
    if kind == 'correlated':
        noise = cv2.GaussianBlur(noise, None, 1.0, borderType=cv2.BORDER_REFLECT)
    return clean + 20 / 255 * noise / noise.std()


def psnr(image: np.ndarray) -> float:
    return -10 * math.log10(np.square(image - photograph(len(image))).mean())


class Blur(nn.Module):
    """Removes noise of any kind a little; commutes with a y + b; remembers its images."""

    facts = Facts(in_channels=1, out_channels=1)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float64))
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(y.shape))
        return nn.functional.conv2d(nn.functional.pad(y, (1, 1, 1, 1), mode='replicate'), self.weight.to(y))


class Told(Blur):
    """Remembers the levels as well."""

    def __init__(self) -> None:
        super().__init__()
        self.levels: list[torch.Tensor] = []

    def forward(self, y: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        self.levels.append(sigma)
        return super().forward(y)


@pytest.fixture(scope='module')
def gray() -> ne_basicsr.Denoiser:
    return ne_basicsr.load('gray')


def non_local_means(image: np.ndarray, sigma: float) -> np.ndarray:
    """A denoiser for white noise of a level that it is told."""
    how = {'patch_size': 5, 'patch_distance': 6, 'fast_mode': True}
    return denoise_nl_means(image, h=0.8 * sigma, sigma=sigma, **how)


@pytest.mark.parametrize(('kind', 'gain'), [('correlated', 2.0), ('photons', 0.5)])
def test_treatment_removes_what_a_denoiser_for_white_noise_leaves(kind, gain):
    denoiser, image = ne_basicsr.Denoiser.of_arrays(non_local_means), noisy(kind, 128)
    found = find(torch.from_numpy(image)[None], Settings())
    assert found is not None and (found.stride > 1, found.curve is not None) == (
        kind == 'correlated',
        kind == 'photons',
    )
    alone, treated = denoiser(image, **WHITE), denoiser(image)
    assert psnr(treated) > psnr(alone) + gain
    assert psnr(treated) > psnr(image) + 2


@pytest.mark.parametrize('kind', ['correlated', 'photons', 'half', 'rising'])
@pytest.mark.parametrize(('a', 'b'), [(3.0, 7.0), (1e-3, -2.0)])
def test_treated_images_commute_with_affine_maps(kind, a, b):
    network, image = Blur(), noisy(kind, 128)
    treated = ne_basicsr.denoise(network, image)
    assert not np.array_equal(treated, ne_basicsr.denoise(network, image, **WHITE))
    other = ne_basicsr.denoise(network, a * image + b)
    np.testing.assert_allclose((other - b) / a, treated, rtol=0, atol=1e-10)  # of 2^-53 b / a, through 256 slopes


@pytest.mark.parametrize('kind', ['white', 'clean', 'small'])
def test_white_noise_and_clean_images_are_left_alone(kind):
    image = {'white': noisy('white'), 'clean': photograph(), 'small': noisy('correlated', 63)}[kind]
    assert find(torch.from_numpy(image)[None], Settings()) is None
    network = Blur()
    assert np.array_equal(ne_basicsr.denoise(network, image), ne_basicsr.denoise(network, image, **WHITE))
    assert set(network.shapes) == {(1, 1, *image.shape)}


@pytest.mark.parametrize('dtype', [np.uint8, np.float32, np.float64])
def test_a_clean_image_is_left_as_it_is_by_networks_that_are_told_the_level(gray, dtype, workplace, capsys):
    clean = photograph() if dtype != np.uint8 else np.rint(255 * photograph()).astype(np.uint8)
    for image in [clean.astype(dtype), (3 * clean - 1).astype(dtype)][: 1 if dtype == np.uint8 else 2]:
        result = gray(image)
        assert np.array_equal(result, image) and result is not image
        assert not np.array_equal(gray(image, **WHITE), image) and not np.array_equal(gray(image, noise=0.01), image)
    slightly = noisy('white') if dtype != np.uint8 else np.rint(255 * noisy('white')).clip(0, 255).astype(np.uint8)
    assert not np.array_equal(gray(slightly.astype(dtype)), slightly.astype(dtype))
    write('clean.png', photograph())
    write('noisy.png', noisy('white'))
    assert main(['denoise', 'clean.png', 'noisy.png', '-o', 'out']) == 0
    assert 'clean.png: noise below 1.2% of the contrast: left as it is' in capsys.readouterr().err
    pairs = [[cv2.imread(f'{folder}{name}', -1) for folder in ('', 'out/')] for name in ('clean.png', 'noisy.png')]
    assert [np.array_equal(*pair) for pair in pairs] == [True, False]


WHITE_NOISE = {'noise': {'sigma255': 25}}
CORRELATED = {'noise': {'type': 'mixture', 'of': [{'sigma255': 25}, {'type': 'correlated', 'sigma255': 25}]}}
PHOTONS = {'noise': {'type': 'poisson_gaussian', 'photons': 50}}
VARYING = {'noise': {'sigma_type': 'varying', 'sigma255': [5, 25]}}
JPEG = {'noise': {'sigma255': 25, 'quality': 75}}


@pytest.mark.parametrize(
    ('trained_on', 'left'),
    [
        (WHITE_NOISE, set()),
        (CORRELATED, {'correlated'}),
        (JPEG, {'correlated'}),
        (PHOTONS, {'photons'}),
        (VARYING, {'half'}),
        ({'noise': {'type': 'camera', 'sigma255': 9}}, {'correlated', 'photons'}),
        ({'dataroot_lq': 'noisy', 'dataroot_gt': 'clean'}, {'correlated', 'photons', 'half'}),
        ({'dataroot_lq': 'noisy'}, {'photons', 'half'}),
    ],
    ids=['white', 'correlated', 'JPEG', 'photons', 'place', 'camera', 'pairs', 'noisy images'],
)
def test_noise_as_in_its_training_is_left_to_a_network(trained_on, left, workplace, capsys):
    options = {'type': 'DnCNNWNE', 'num_in_ch': 1, 'num_out_ch': 1, 'num_feat': 4, 'num_layers': 3}
    about = {'network_g': options, 'datasets': {'train': trained_on}}
    checkpoint.save_network(Path('net.pth'), {'params': build_arch(options)}, about)
    kinds = ('correlated', 'photons', 'half')
    for denoiser in (ne_basicsr.load('net.pth'), ne_basicsr.load('net.pth+x8')):
        alone = [np.array_equal(denoiser(noisy(kind)), denoiser(noisy(kind), **WHITE)) for kind in kinds]
        assert {kind for kind, is_alone in zip(kinds, alone, strict=True) if is_alone} == left
        assert not np.array_equal(denoiser(noisy('half'), stride=2), denoiser(noisy('half'), **WHITE))  # if one insists
    write('noisy.png', noisy('correlated'))
    assert main(['denoise', 'net.pth', 'noisy.png', '-o', 'out']) == 0
    said = 'pixels: left to the network, which was trained on such noise' in capsys.readouterr().err
    assert said == ('correlated' in left)


def test_noise_without_high_frequencies_is_not_taken_for_none():
    blurred = cv2.GaussianBlur(noisy('correlated') - photograph(), None, 1.0, borderType=cv2.BORDER_REFLECT)
    image = torch.from_numpy(photograph() + blurred)[None]
    assert noise_level(image[None]) < real_noise.CLEAN * image.std()  # which JPEG and demosaicking take first
    assert not real_noise.is_clean(image, Settings())
    assert real_noise.is_clean(torch.from_numpy(photograph())[None], Settings())


@pytest.mark.parametrize('stride', [1, 2, 3, 5])
@pytest.mark.parametrize('size', [(40, 40), (41, 43), (44, 57)])
def test_phases_are_every_stride_th_pixel_and_joined_is_the_way_back(stride, size):
    y = torch.rand(2, 3, *size)
    parts = phases(y, stride)
    assert parts.shape == (2 * stride**2, 3, *(-(-side // stride) for side in size))
    down, across = (side // stride for side in size)
    assert torch.equal(parts[0][:, :down, :across], y[0, :, ::stride, ::stride][:, :down, :across])
    assert torch.equal(parts[stride**2][:, :down, :across], y[1, :, ::stride, ::stride][:, :down, :across])
    assert torch.equal(joined(parts, stride, *size), y)


@pytest.mark.parametrize(('kind', 'gain'), [('half', 2.0), ('rising', 2.0)])
def test_noise_that_differs_from_place_to_place_is_made_equal(kind, gain):
    image = noisy(kind, 256)
    found = find(torch.from_numpy(image)[None], Settings())
    assert found is not None and found.gain is not None and found.curve is None and found.stride == 1
    y = torch.from_numpy(image)[None, None]
    torch.testing.assert_close(found.gain.inverse(found.gain.forward(y), slice(0, 256)), y, rtol=0, atol=1e-12)
    network = ne_basicsr.Denoiser(ZeroShot(Blur(), 25.0).double())
    alone, treated = network(image, **WHITE), network(image)
    told = 255 * float(real_noise.told(found, y))
    # the map has 8x8 parts, each read from a few dozen blocks
    assert told == pytest.approx({'half': 10, 'rising': 27.5}[kind], rel=0.3)
    assert psnr(treated) > psnr(alone) + gain


def test_channels_of_different_levels_are_made_equal_for_networks_that_cannot_see_it(gray):
    clean = np.stack([photograph(), photograph()[::-1], photograph().T], axis=2)
    noise = np.random.default_rng(1).standard_normal(clean.shape)
    different, equal = (clean + np.array(levels) / 255 * noise for levels in ([5, 10, 30], [18.5] * 3))
    found = find(torch.from_numpy(different).movedim(2, 0), Settings(), judges=False)
    assert found is not None and found.gain is not None and found.curve is None and found.stride == 1
    levels = found.gain.factor.mean(dim=(2, 3)).flatten() * torch.tensor([5, 10, 30])
    assert levels.min() == pytest.approx(float(levels.max()), rel=0.05)  # each read from 300 blocks of 64 values
    assert 'by channel: made equal by gains' in str(found)
    assert find(torch.from_numpy(equal).movedim(2, 0), Settings(), judges=False) is None
    assert np.array_equal(gray(different), gray(different, **WHITE))
    network = ne_basicsr.Denoiser(ZeroShot(Blur(), 25.0).double())
    treated, other = (network(a * different + b) for a, b in [(1, 0), (3, 7)])
    np.testing.assert_allclose((other - 7) / 3, treated, rtol=0, atol=1e-10)
    errors = [np.square(result - clean).mean() for result in (treated, network(different, **WHITE))]
    assert errors[0] < 0.99 * errors[1]  # a blur is linear: it hardly gains


def test_a_curve_has_an_inverse_and_makes_noise_equal():
    image = torch.from_numpy(noisy('photons'))[None]
    curve = stabilizing(measure(image))
    y = torch.linspace(-3, 4, 999, dtype=torch.float64)  # beyond the ends as well
    torch.testing.assert_close(curve.inverse(curve.forward(y)), y, rtol=0, atol=1e-12)
    assert (curve.forward(y).diff() > 0).all()
    before, after = (measure(each).by_brightness for each in (image, curve.forward(image)))
    assert after.max() / after.min() < 1.4 < 1.6 < before.max() / before.min()


def test_a_curve_is_the_same_in_parts(monkeypatch):
    curve = Curve(torch.tensor([0.0, 1, 2]), torch.tensor([0.0, 3, 4]))
    y = torch.rand(2, 3, 7, 5).permute(0, 2, 3, 1)
    whole = curve.forward(y)
    monkeypatch.setattr(real_noise, 'AT_ONCE', 11)
    assert torch.equal(curve.forward(y), whole) and torch.equal(whole, 3 * y)


def test_a_brightness_that_is_everywhere_the_same_has_no_curve():
    image = 1e6 + np.random.default_rng(0).random((80, 80)).astype(np.float32)
    image[0, 0] = 0  # float32 holds this contrast, but nodes of a curve would be equal in it
    result = ne_basicsr.denoise(Blur().float(), image, stabilize=True)
    assert np.isfinite(result).all()


def test_phases_pass_alone_in_the_memory_of_the_plain_way():
    network = Blur()
    ne_basicsr.denoise(network, noisy('white', 96), stride=3)
    assert network.shapes == [(1, 1, 32, 32)] * 9


def test_a_level_that_is_given_means_white_noise_unless_more_is_given():
    network, image = Told(), noisy('correlated', 96)
    ne_basicsr.denoise(network, image)
    measured = [float(level) for level in network.levels]
    assert len(measured) > 1 and measured[0] == pytest.approx(measure(torch.from_numpy(image)[None]).told(2), rel=0.5)
    network.levels.clear()
    ne_basicsr.denoise(network, image, noise=0.1)
    assert [float(level) for level in network.levels] == [pytest.approx(0.1)]
    ne_basicsr.denoise(network, image, noise=0.1, stride=2)
    assert [float(level) for level in network.levels] == [pytest.approx(0.1)] * 5


def test_strength_multiplies_the_level_or_the_noise_that_a_blind_network_removes():
    told, image = Told(), noisy('white', 64)
    ne_basicsr.denoise(told, image, noise=0.1, strength=1.5)
    assert float(told.levels[0]) == pytest.approx(0.15)
    once, half, more = (ne_basicsr.denoise(Blur(), image, **WHITE, strength=s) for s in (1.0, 0.5, 1.5))
    np.testing.assert_allclose(half, (image + once) / 2, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        more, ne_basicsr.denoise(Blur(), image + (image - once) / 2, **WHITE), rtol=0, atol=1e-12
    )


def test_colour_differences_are_told_the_width_of_the_image(monkeypatch):
    seen: list[float] = []
    rng = np.random.default_rng(0)
    common = noisy('correlated', 128)[..., None]
    image = common + 1e-3 * rng.standard_normal((128, 128, 3))
    monkeypatch.setattr(real_noise, 'measure', lambda y, width=0.0: seen.append(width) or measure(y, width))
    ne_basicsr.denoise(Told(), image)
    assert seen[1:] == [measure(torch.from_numpy(image).permute(2, 0, 1)).width] * 3 and seen[1] > 0


@pytest.mark.parametrize(
    ('settings', 'shape', 'message'),
    [
        ({'stride': 0}, (96, 96), r'stride \(--stride\) must be 1 or more, at most an eighth of the image, 12; got 0'),
        ({'stride': 13}, (96, 200), 'at most an eighth of the image, 12; got 13'),
        ({'stride': 2}, (40, 63), 'for images of 64 pixels a side or more; got 63x40: leave them out'),
        ({'stabilize': True}, (1, 80), 'for images of 64 pixels a side or more; got 80x1'),
        ({'strength': 0}, (96, 96), r'strength \(--strength\) must be finite and above 0; got 0'),
        ({'strength': math.nan}, (96, 96), 'above 0; got nan'),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, shape, message):
    with pytest.raises(InputError, match=message):
        ne_basicsr.denoise(Blur(), np.zeros(shape), **settings)
    assert ne_basicsr.denoise(Blur().float(), np.zeros((1, 80), np.float32), stride=1).shape == (1, 80)


# -- the commands ------------------------------------------------------------------------------------------------------


def write(name: str, image: np.ndarray) -> None:
    cv2.imwrite(name, (255 * image).round().clip(0, 255).astype(np.uint8))


def test_files_of_one_size_are_named_and_counted_each(workplace, monkeypatch):
    for number, kind in enumerate(('white', 'correlated', 'photons')):
        write(f'{number}.png', noisy(kind, 96, number))
    said: list[str] = []
    counted: list[float] = []
    monkeypatch.setattr(batch_run.tqdm, 'write', lambda line, file: said.append(line))
    monkeypatch.setattr(batch_run, '_counted', lambda update: counted.append)
    jobs = find_jobs(['0.png', '1.png', '2.png'], workplace / 'out')
    done = batch_run.denoise_files(jobs, pixels.Tiled(Blur(), 512), workplace / 'out', {}, about=Settings())
    assert done == (3, 0, []) and sum(counted) == pytest.approx(3 * 96 * 96)
    assert [line[:5] for line in said if 'correlated over' in line] == ['1.png']
    assert [line.split(': ')[0] for line in said if 'by a curve' in line] == ['2.png']


def test_the_command_noise_prints_and_writes_what_it_measures(workplace, capsys):
    write('wide.png', noisy('correlated'))
    write('tiny.png', photograph(32)[:10, :10])
    assert main(['noise', 'wide.png', 'tiny.png', '--json', 'noise.json']) == 1
    out, error = capsys.readouterr()
    assert error == 'basicsr: tiny.png: noise is measured on images of 64 pixels a side or more; got 10x10\n'
    (about,) = json.loads((workplace / 'noise.json').read_text()).values()
    assert out.startswith('wide.png\n  level ') and 'correlation   ' in out and 'pixel by itself' in out
    assert about['level'] == pytest.approx(20, rel=0.5) and about['correlation'] > 1 and len(about['map']) == 6


def test_the_command_noise_measures_each_page_of_a_stack(workplace, capsys):
    pages = np.stack([noisy('white', 96), noisy('correlated', 96)])
    tifffile.imwrite('stack.tif', (255 * pages).clip(0, 255).astype(np.uint8), photometric='minisblack')
    assert main(['noise', 'stack.tif', '--json', 'noise.json']) == 0
    about = json.loads((workplace / 'noise.json').read_text())
    assert list(about) == ['stack.tif, page 1', 'stack.tif, page 2']
    assert [each['correlation'] > 0 for each in about.values()] == [False, True]
    assert 'stack.tif, page 2\n  level ' in capsys.readouterr().out


def test_a_page_that_cannot_be_measured_or_denoised_is_named_and_the_others_are_measured(workplace, capsys):
    pages = np.stack([noisy('correlated', 96), noisy('white', 96), photograph(96)]).astype(np.float32)
    tifffile.imwrite('stack.tif', pages, photometric='minisblack', compression='zlib')
    with tifffile.TiffFile('stack.tif') as tiff:
        (start, *_), (size, *_) = tiff.pages[1].dataoffsets, tiff.pages[1].databytecounts
    content = Path('stack.tif').read_bytes()
    Path('stack.tif').write_bytes(content[:start] + bytes(size) + content[start + size :])
    write('white.png', noisy('white'))
    tifffile.imwrite('wide.tif', np.zeros((70, 70), np.uint32))
    assert main(['noise', 'stack.tif', 'wide.tif', 'white.png', '--json', 'noise.json']) == 1
    out, error = capsys.readouterr()
    assert list(json.loads((workplace / 'noise.json').read_text())) == [
        'stack.tif, page 1',
        'stack.tif, page 3',
        'white.png',
    ]
    assert 'basicsr: stack.tif, page 2: cannot be read, is the file damaged? (' in error
    assert 'wide.tif: ' in error and 'this is uint32' in error
    assert 'denoise       below 1.2% of the contrast: left as it is' in out.split('page 3')[1].split('white.png')[0]
    assert main(['denoise', 'gray', 'stack.tif', '--stride', '2', '-o', 'out']) == 1
    error = capsys.readouterr().err
    assert 'stack.tif: page 2: cannot be read, is the file damaged? (' in error
    assert main(['noise', 'white.png', '--json', '.']) == 2
    assert '--json .: is a folder; name a file in it' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'code', 'reason'),
    [
        (['--stride', '0'], 2, 'stride (--stride) must be 1 or more; got 0'),
        (['--strength', '0'], 2, 'strength (--strength) must be finite and above 0; got 0'),
        (
            ['--stride', '99'],
            1,
            'a.png: stride (--stride) must be 1 or more, at most an eighth of the image, 10; got 99',
        ),
    ],
)
def test_wrong_settings_are_one_line(arguments, code, reason, workplace, capsys):
    write('a.png', noisy('white', 80))
    assert main(['denoise', 'a.png', *arguments]) == code
    assert capsys.readouterr().err.strip().splitlines()[-1] == f'basicsr: {reason}'


def test_a_finished_file_is_finished_for_its_settings(workplace, capsys):
    write('a.png', noisy('white', 64))
    for more, denoised in (
        ([], 1),
        ([], 0),
        (['--stride', '2'], 1),
        (['--strength', '0.5'], 1),
        (['--stride', '2'], 1),
    ):
        assert main(['denoise', 'a.png', *more]) == 0
        assert f'{denoised} denoised' in capsys.readouterr().out, more
