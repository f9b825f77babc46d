"""The analysis: formulas on inputs whose answers are known, equivariant networks apart from plain ones, its files."""

import csv
import errno
import math
import shlex
import weakref

import cv2
import numpy as np
import pytest
import torch
from conftest import smooth_photograph

from ne_basicsr.archs.backbone import build_arch
from ne_basicsr.archs.wne_arch import WSE, InputNorm
from ne_basicsr.cli.command import typed as typed_again
from ne_basicsr.cli.main import _parser, main
from ne_basicsr.data.image_store import FolderStore, on_unit_range
from ne_basicsr.evaluation import analysis
from ne_basicsr.inference.opening import randomize
from ne_basicsr.ops.center import center
from ne_basicsr.ops.noise import seed_of
from ne_basicsr.utils.errors import InputError
from ne_basicsr.weights import checkpoint

DNCNN = {'type': 'DnCNN', 'num_feat': 4, 'num_layers': 3, 'act_mode': 'R'}
FDNCNN = {'type': 'FDnCNN', 'num_feat': 4, 'num_layers': 3}
EQUIVARIANT = {
    'WNE': DNCNN | {'type': 'DnCNNWNE'},
    'WNE min_max': DNCNN | {'type': 'DnCNNWNE', 'statistics': 'min_max'},
    'norm-equiv': FDNCNN | {'mode': 'norm-equiv'},
    'zero-shot': {'type': 'ZeroShot', 'backbone': DNCNN},
}


def network(options):
    made = build_arch(options)
    randomize(made)
    return made.double().eval()


@pytest.fixture
def image():
    photograph = torch.from_numpy(smooth_photograph(20, 22, 0)).double()[None, None] / 255
    return photograph + 0.1 * torch.randn(photograph.shape, dtype=torch.float64)


# -- difficulty and coverage -------------------------------------------------------------------------------------------


def test_difficulty_is_the_distance_in_normalized_coordinates(images):
    clean = images + 0.3 * torch.randn_like(images)
    m, s = images.mean((1, 2, 3), keepdim=True), images.std((1, 2, 3), keepdim=True, correction=0)
    expected = ((images - m) / s - (clean - m) / s).flatten(1).norm(dim=1)
    torch.testing.assert_close(analysis.difficulty(images, clean), expected)


def test_difficulty_does_not_change_with_brightness_and_contrast_and_the_distance_does(images):
    clean = images + 0.3 * torch.randn_like(images)
    before, after = analysis.difficulty(images, clean), analysis.difficulty(3 * images - 2, 3 * clean - 2)
    torch.testing.assert_close(before, after)
    assert not torch.allclose(3 * images - 2 - (3 * clean - 2), images - clean)


def test_difficulty_of_pure_noise_is_the_root_of_the_size():
    clean = torch.full((2, 1, 32, 32), 0.5, dtype=torch.float64)
    delta = analysis.difficulty(clean + torch.randn_like(clean), clean)
    torch.testing.assert_close(delta, torch.full((2,), 32.0, dtype=torch.float64), rtol=0.02, atol=0)


def test_coverage_is_the_formula_on_numbers_whose_quantiles_are_known():
    train = np.arange(1001)  # its quantiles are 25 and 975
    assert analysis.central(train) == (25.0, 975.0)
    assert analysis.coverage(train, train) == 951 / 1001
    assert analysis.coverage([24.9, 25.0, 500.0, 975.0, 975.1], train) == 3 / 5
    assert analysis.coverage([-1.0, 2000.0], train) == 0.0
    assert analysis.coverage(np.arange(500, 1500), train) == (975 - 500 + 1) / 1000
    assert analysis.central(train, 0.5) == (250.0, 750.0)


def test_the_coverage_table_has_a_row_for_each_training_level():
    deltas = {50.0: np.arange(1001), 10.0: np.arange(500, 1501)}
    first, second = analysis.coverage_table(deltas)
    assert (first['sigma_train'], first['low'], first['high'], first['samples']) == (50.0, 25.0, 975.0, 1001)
    assert first['coverage'] == {50.0: 951 / 1001, 10.0: 476 / 1001}
    assert second['coverage'] == {50.0: (1000 - 525 + 1) / 1001, 10.0: 951 / 1001}  # not symmetric


def test_the_contrast_of_a_patch_is_its_deviation():
    stripes = torch.tensor([0.2, 0.6]).repeat(4)[None, None, None].expand(1, 1, 3, 8)
    torch.testing.assert_close(analysis.contrast(stripes), torch.tensor([0.2], dtype=torch.float64))


def test_patches_are_crops_of_the_images_chosen_by_the_seed(image_folder):
    store = FolderStore(image_folder)
    patches = analysis.draw_patches(store, 20, 16, seed=1)
    assert patches.shape == (20, 1, 16, 16)
    assert torch.equal(patches, analysis.draw_patches(store, 20, 16, seed=1))
    assert not torch.equal(patches, analysis.draw_patches(store, 20, 16, seed=2))
    whole = [torch.from_numpy(store.pixels(name, 1)[..., 0] / np.float32(255)) for name in store.names]
    windows = torch.cat([x.unfold(0, 16, 1).unfold(1, 16, 1).reshape(-1, 16, 16) for x in whole])
    assert all((windows == patch[0]).flatten(1).all(1).any() for patch in patches)
    with pytest.raises(InputError, match='no image has 60 x 60'):
        analysis.draw_patches(store, 2, 60)


class WatchedStore:
    """Images of several sizes, and how many of them are in memory when another is asked for."""

    root, names = 'watched', [f'{number}' for number in range(8)]

    def __init__(self):
        self.alive, self.most = weakref.WeakSet(), 0

    def pixels(self, name, channels):
        self.most = max(self.most, len(self.alive))
        number = int(name)
        image = Pixels((10 + 3 * number, 40 - 3 * number, channels), np.uint8)
        image[:] = np.random.default_rng(number).integers(0, 256, image.shape, np.uint8)
        self.alive.add(image)
        return image


class Pixels(np.ndarray):
    __hash__ = object.__hash__  # for the set


def test_one_image_is_in_memory_at_a_time_and_patches_are_those_of_the_plain_way():
    store = WatchedStore()
    patches = analysis.draw_patches(store, 30, 16, channels=3, seed=5)
    assert (store.most, len(store.alive)) == (0, 0)
    images = [image for name in store.names if min((image := store.pixels(name, 3)).shape[:2]) >= 16]
    assert store.most > 0  # the store can tell
    assert len(images) == 6
    random = np.random.default_rng(seed_of('analysis patches', 5))
    for patch, chosen in zip(patches, random.integers(len(images), size=30), strict=True):
        image = np.asarray(images[chosen])
        top, left = (int(random.integers(side - 15)) for side in image.shape[:2])
        expected = on_unit_range(image[top : top + 16, left : left + 16])
        assert torch.equal(patch, torch.from_numpy(expected).permute(2, 0, 1))


def test_difficulties_depend_on_the_seed_and_the_level(image_folder):
    clean = analysis.draw_patches(FolderStore(image_folder), 8, 16)
    found = analysis.difficulties(clean, [0.1, 0.2], seed=3)
    assert list(found) == [0.1, 0.2]
    assert (found[0.2] > found[0.1]).all()
    assert np.array_equal(found[0.1], analysis.difficulties(clean, [0.1], seed=3)[0.1])
    assert not np.array_equal(found[0.1], analysis.difficulties(clean, [0.1], seed=4)[0.1])
    assert np.array_equal(found[0.1], analysis.difficulties(clean, np.array([0.1]), seed=3)[0.1])


# -- residual quality --------------------------------------------------------------------------------------------------


def test_noise_is_independent_in_every_chunk_of_patches(monkeypatch):
    patch = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).expand(6, -1, -1, -1)
    monkeypatch.setitem(analysis.difficulties.__globals__, 'CHUNK', 2)  # its module has the name of a function
    assert len(set(analysis.difficulties(patch, [0.1])[0.1].tolist())) == 6


def test_quality_of_the_identity_is_the_difficulty_in_decibels(images):
    clean = images + 0.3 * torch.randn_like(images)
    expected = -20 * torch.log10(analysis.difficulty(images, clean))
    torch.testing.assert_close(analysis.residual_quality(images, images, clean), expected)
    closer = analysis.residual_quality(clean + (images - clean) / 10, images, clean)
    torch.testing.assert_close(closer, expected + 20)


def test_curves_of_equivariant_networks_do_not_know_contrast(image_folder):
    """Q at contrast 1 and noise sigma is that at contrast 1/2 and noise sigma / 2; not for a plain network."""
    clean = analysis.draw_patches(FolderStore(image_folder), 4, 16).double()
    noisy = analysis.noisy_patches(clean, 0.2)

    def quality(net, scale):
        with torch.no_grad():
            return analysis.residual_quality(net(scale * noisy), scale * noisy, scale * clean)

    wrapped, plain = network(EQUIVARIANT['WNE']), network(DNCNN)
    torch.testing.assert_close(quality(wrapped, 1.0), quality(wrapped, 0.5))
    assert (quality(plain, 1.0) - quality(plain, 0.5)).abs().max() > 0.01


def test_quality_curves_bin_the_central_share():
    delta = np.arange(1001.0)
    rows = analysis.quality_curve(delta, 2 * delta, bins=10)
    assert [row['low'] for row in rows] == pytest.approx([25 + 95 * i for i in range(10)])
    assert sum(row['number'] for row in rows) == 951
    first = np.arange(25, 120)
    assert (rows[0]['delta'], rows[0]['mean'], rows[0]['number']) == (first.mean(), 2 * first.mean(), 95)
    assert rows[0]['deviation'] == pytest.approx((2 * first).std(ddof=1))
    assert analysis.quality_curve([1.0, 1.0], [5.0, 7.0], bins=4)[0]['deviation'] is None


def test_quality_runs_in_batches_and_for_each_level(image_folder):
    clean = analysis.draw_patches(FolderStore(image_folder), 5, 16)
    seen = []

    def identity(y):
        seen.append(len(y))
        return y

    delta, quality = analysis.qualities(identity, clean, 0.1, batch=2)
    assert seen == [2, 2, 1]
    assert delta.shape == quality.shape == (5,)
    np.testing.assert_allclose(quality, -20 * np.log10(delta))
    assert np.array_equal(delta, analysis.qualities(identity, clean, 0.1, batch=5)[0])
    assert not np.array_equal(delta, analysis.qualities(identity, clean, 0.1, seed=1)[0])


# -- adaptive filters --------------------------------------------------------------------------------------------------


def test_filters_of_a_convolution_are_its_kernel(image):
    kernel = torch.arange(9.0, dtype=torch.float64).view(1, 1, 3, 3)

    def convolution(y):
        return torch.nn.functional.conv2d(y, kernel, padding=1) + 5.0

    weights = analysis.adaptive_filter(convolution, image, 7, 4)
    assert torch.equal(weights[0, 6:9, 3:6], kernel[0, 0])
    assert weights.sum() == kernel.sum()
    found = analysis.homogeneity(convolution, image)
    torch.testing.assert_close(found.sums[0, 0, 7, 4], kernel.sum())  # J 1 is the sums of all rows
    expected = 5.0 * math.sqrt(image.numel()) / convolution(image).norm()  # what the filters leave out is the bias
    torch.testing.assert_close(found.rho[0], expected)


def test_a_filter_is_that_of_its_channel():
    y = torch.rand(1, 3, 6, 7, dtype=torch.float64)
    gains = torch.tensor([2.0, 3.0, 5.0], dtype=torch.float64).view(1, 3, 1, 1)
    for channel, gain in enumerate(gains.flatten()):
        expected = torch.zeros_like(y[0])
        expected[channel, 4, 2] = gain
        assert torch.equal(analysis.adaptive_filter(lambda y: gains * y, y, 4, 2, channel), expected)
    for outside in (-1, 3):
        with pytest.raises(InputError, match=f'channels 0 to 2; got row 4, column 2, channel {outside}'):
            analysis.adaptive_filter(lambda y: gains * y, y, 4, 2, outside)


@pytest.mark.parametrize('name', list(EQUIVARIANT))
def test_filters_of_equivariant_networks_sum_to_1_and_explain_the_output(name, image):
    net = network(EQUIVARIANT[name])
    found = analysis.homogeneity(net, image)
    assert found.rho.item() < 1e-4
    assert (found.sums - 1).abs().max() < 1e-4
    weights = analysis.adaptive_filter(net, image, 9, 11)
    assert abs(weights.sum().item() - 1) < 1e-4
    torch.testing.assert_close((weights * image[0]).sum(), found.output[0, 0, 9, 11])


@pytest.mark.parametrize('options', [DNCNN, FDNCNN], ids=['DnCNN', 'FDnCNN'])
def test_filters_of_plain_networks_do_neither(options, image):
    found = analysis.homogeneity(network(options), image)
    assert found.rho.item() > 1e-2
    assert (found.sums - 1).abs().max() > 1e-2


def test_scale_equivariance_is_half_of_it(image):
    for net in (WSE(network(DNCNN)), network(FDNCNN | {'mode': 'scale-equiv'})):
        found = analysis.homogeneity(net.double(), image)
        assert found.rho.item() < 1e-4
        assert (found.sums - 1).abs().max() > 1e-2


def test_input_normalization_alone_has_filters_that_sum_to_0(image):
    found = analysis.homogeneity(InputNorm(network(DNCNN)), image)
    assert found.sums.abs().max() < 1e-8
    assert found.rho.item() > 0.9


def test_pixels_outside_are_refused(image):
    with pytest.raises(InputError, match='rows 0 to 19, columns 0 to 21, channels 0 to 0; got row 20, column 0'):
        analysis.adaptive_filter(network(DNCNN), image, 20, 0)


# -- intervals ---------------------------------------------------------------------------------------------------------


def test_the_interval_matters_to_plain_networks_only(image):
    clean = torch.rand_like(image)
    for name, options in EQUIVARIANT.items():
        rows = analysis.interval_rows(network(options), image, clean)
        assert max(row['change'] for row in rows) < 1e-9, name
        assert max(row['psnr'] for row in rows) - min(row['psnr'] for row in rows) < 1e-6
    plain = analysis.interval_rows(network(DNCNN), image, clean, [(0.0, 1.0), (0.0, 2.0)])
    assert [(row['a'], row['b']) for row in plain] == [(0.0, 1.0), (0.0, 2.0)]
    assert abs(plain[0]['psnr'] - plain[1]['psnr']) > 1e-3
    assert min(row['change'] for row in plain) > 1e-3


def test_images_are_shown_to_the_network_in_the_interval_and_come_back(image):
    seen = []

    def identity(y):
        seen.append((y.min().item(), y.max().item()))
        return y

    torch.testing.assert_close(analysis.in_interval(identity, image, -1.0, 3.0), image)
    assert seen == [pytest.approx((-1.0, 3.0))]
    flat = torch.full((1, 1, 4, 4), 0.3, dtype=torch.float64)
    torch.testing.assert_close(analysis.in_interval(identity, flat, 0.0, 1.0), flat)
    for a, b in ((1.0, 0.0), (1.0, 1.0), (0.0, math.inf), (-math.inf, 0.0), (0.0, math.nan)):
        with pytest.raises(InputError, match=rf'to a larger b, both finite; got \[{a:g}, {b:g}\]'):
            analysis.in_interval(identity, image, a, b)


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def network_file(tmp_path):
    path = tmp_path / 'net.pth'
    checkpoint.save_network(path, {'params': network(DNCNN).float()}, {'network_g': DNCNN})
    return str(path)


SMALL = ['--patches', '50', '--patch-size', '16', '--denoised', '12', '--crop', '16', '--sigma255', '50', '10']


def read_csv(path):
    with open(path, encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def test_analyze_writes_tables_arrays_figures_and_a_page(workplace, network_file, image_folder, capsys):
    arguments = [network_file, f'{network_file}@25+wne', '--data', str(image_folder), *SMALL]
    assert main(['analyze', *arguments, '--pixel', '3,4', '--interval=-1,1', '--interval', '0,255']) == 0
    out = capsys.readouterr().out
    folder = workplace / 'results' / 'analyze'
    table = read_csv(folder / 'coverage.csv')
    assert list(table[0]) == ['sigma_train\\sigma_test', '50', '10', 'q0.025', 'q0.975', 'train_samples']
    assert float(table[0]['50']) == 0.92  # of 50 values the outermost two on either side lie beyond the quantiles
    arrays = np.load(folder / 'arrays.npz')
    assert arrays['delta/50'].shape == (50,)
    assert float(table[0]['10']) == pytest.approx(analysis.coverage(arrays['delta/10'], arrays['delta/50']), abs=1e-4)
    filters = {(row['network'], row['row']): row for row in read_csv(folder / 'filters.csv')}
    assert float(filters['net+wne', '3']['sum']) == pytest.approx(1, abs=1e-9)
    assert arrays['net+wne/filter/3,4'].sum() == pytest.approx(1, abs=1e-9)
    assert abs(float(filters['net', '']['sum']) - 1) > 1e-2
    intervals = read_csv(folder / 'intervals.csv')
    assert [(row['network'], row['a']) for row in intervals] == [
        (name, a) for name in ('net', 'net+wne') for a in ('-1', '0')
    ]
    assert {row['network'] for row in read_csv(folder / 'quality.csv')} == {'net', 'net+wne'}
    for name in ('difficulty', 'sigma_x', 'quality_1', 'quality_2', 'filters', 'intervals'):
        assert (folder / 'figures' / f'{name}.pdf').stat().st_size > 1000
    page = (folder / 'report.html').read_text(encoding='utf-8')
    assert 'Adaptive filters' in page
    assert '--interval=-1,1' in page
    assert 'net+wne, row 3, column 4: filter sum 1, rho' in out


def test_without_networks_the_images_are_studied(workplace, image_folder, capsys):
    folder = workplace / 'results' / 'analyze'
    (folder / 'figures').mkdir(parents=True)
    earlier = ('filters.csv', 'intervals.csv', 'quality.csv')
    earlier += tuple(f'figures/{name}.pdf' for name in ('filters', 'intervals', 'quality_1', 'quality_12'))
    for name in (*earlier, 'figures/quality_of_life.pdf'):
        (folder / name).touch()
    assert main(['analyze', '--data', str(image_folder), *SMALL]) == 0
    assert 'coverage' in capsys.readouterr().out
    assert not [name for name in earlier if (folder / name).exists()]
    assert (folder / 'figures' / 'quality_of_life.pdf').exists()  # none of the program's names
    assert sorted(path.name for path in folder.glob('*.csv')) == ['coverage.csv', 'difficulty.csv']
    page = (folder / 'report.html').read_text(encoding='utf-8')
    assert 'Adaptive filters' not in page
    assert 'Crop' not in page
    assert 'residual quality' not in page


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--pixel', '3'], "--pixel needs two numbers, as in 20,30; got '3'"),
        (['--interval', '1,0'], 'to a larger b, both finite; got [1, 0]'),
        (['--interval', '0,inf'], 'to a larger b, both finite; got [0, inf]'),
        (['--sigma255', '0'], '--sigma255 must be a noise level above 0'),
        (['--patches', '2'], '--patches must be at least 3; got 2'),
        (['--denoised', '2'], '--denoised must be at least 3; got 2'),
        (['--patch-size', '100'], 'no image has 100 x 100 pixels'),
        (['--device', 'tpu'], '--device must be one of cpu, cuda, mps, auto'),
        (['--output', 'a_file'], 'the results cannot be written'),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_code_2(workplace, image_folder, capsys, arguments, message):
    (workplace / 'a_file').touch()
    assert main(['analyze', '--data', str(image_folder), *SMALL, *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('basicsr: ')
    assert message in line


@pytest.mark.parametrize('full', [False, True])
def test_a_folder_that_cannot_be_written_is_found_before_the_work(workplace, image_folder, capsys, monkeypatch, full):
    def never(*_):
        raise AssertionError('the study has started')

    def fails(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('ne_basicsr.evaluation.analysis.study.study', never)
    if full:
        monkeypatch.setattr('ne_basicsr.utils.folder_lock._take', fails)
    else:
        (workplace / 'results').touch()
    assert main(['analyze', '--data', str(image_folder), *SMALL]) == 2
    reason = 'No space left on device' if full else 'Not a directory'
    assert f'the results cannot be written ({reason}); give another folder' in capsys.readouterr().err


def test_networks_and_images_that_fail_are_named_and_the_others_go_on(
    workplace, network_file, image_folder, capsys, monkeypatch
):
    def fails(network, y, *_):
        raise RuntimeError  # without a text

    monkeypatch.setattr(analysis, 'homogeneity', fails)
    (image_folder / 'a_broken.png').write_bytes(b'')  # the first by its name
    assert main(['analyze', network_file, '--data', str(image_folder), *SMALL]) == 1
    err = capsys.readouterr().err
    assert 'a_broken: not a readable image' in err
    assert 'net.pth: RuntimeError' in err
    assert np.load(workplace / 'results/analyze/arrays.npz')['delta/50'].shape == (50,)
    for path in image_folder.iterdir():
        path.write_bytes(b'')
    assert main(['analyze', '--data', str(image_folder), *SMALL]) == 2
    assert 'not a readable image' in capsys.readouterr().err


def test_patches_of_a_store_with_a_broken_image_are_refused(image_folder):
    (image_folder / 'broken.png').write_bytes(b'')
    with pytest.raises(InputError, match='broken: not a readable image'):
        analysis.draw_patches(FolderStore(image_folder), 4, 16)


def test_a_non_blind_network_is_told_the_levels(workplace, image_folder, tmp_path, monkeypatch):
    monkeypatch.setattr('ne_basicsr.evaluation.analysis.outputs.save_figures', lambda *_: None)
    options = FDNCNN | {'blind': False}
    net = build_arch(options)
    checkpoint.save_network(tmp_path / 'nb.pth', {'params': net}, {'network_g': options})
    arguments = ['--interval', '0,2', '--crop-sigma255', '40', '--crop', '100', '--denoised', '128', '--patches', '6']
    assert main(['analyze', str(tmp_path / 'nb.pth'), '--data', str(image_folder), *SMALL, *arguments]) == 0
    folder = workplace / 'results' / 'analyze'
    clean, noisy = (
        torch.from_numpy(np.load(folder / 'arrays.npz')[f'crop/{name}'])[None] for name in ('clean', 'noisy')
    )
    assert (noisy - clean).std().item() == pytest.approx(40 / 255, rel=0.1)
    (expected,) = analysis.interval_rows(lambda y: net.eval()(y, sigma=40 / 255), noisy, clean, [(0.0, 2.0)])
    (row,) = read_csv(folder / 'intervals.csv')
    assert float(row['psnr']) == pytest.approx(expected['psnr'], abs=1e-3)
    assert float(row['change']) == pytest.approx(expected['change'], rel=1e-3)
    page = (folder / 'report.html').read_text(encoding='utf-8')
    assert 'residual quality of the first 6' in page  # there are no more
    assert f'{clean.shape[-2]} rows and {clean.shape[-1]} columns' in page  # the whole image, smaller than 100


def test_the_command_on_the_page_is_the_one_that_was_typed():
    typed = ['net.pth', 'b+wne', '--data', 'a folder', '--label', 'one', '--sigma255', '12.3456789', '50', '1e-7']
    typed += ['--patches', '1000000', '--patch-size', '17', '--denoised', '12', '--pixel', '1,2', '3,4', '--crop', '33']
    typed += ['--crop-sigma255', '0.123456789', '--interval=-1,1', '--interval', '0,2', '--seed', '123456789']
    for words in (typed, typed[2:4]):
        arguments = _parser().parse_args(['analyze', *words])
        (program, *again) = shlex.split(typed_again(arguments))
        assert program == 'basicsr'
        assert vars(_parser().parse_args(again)) | {'parser': 0} == vars(arguments) | {'parser': 0}


def test_a_pixel_outside_the_crop_and_a_missing_folder_are_refused(
    workplace, network_file, image_folder, capsys, monkeypatch
):
    monkeypatch.setattr(analysis, 'draw_patches', None)  # refused before the work
    assert main(['analyze', network_file, '--data', str(image_folder), *SMALL, '--pixel', '16,0']) == 2
    assert 'in the crop, 16 rows and 16 columns; got 16,0' in capsys.readouterr().err
    assert main(['analyze', '--data', 'nowhere', *SMALL]) == 2
    assert 'nowhere: no such folder of images' in capsys.readouterr().err


def test_the_crop_is_the_centre():
    image = torch.arange(30).view(1, 5, 6)
    assert torch.equal(center(image, 3), image[:, 1:4, 1:4])
    assert torch.equal(center(image, 9), image)


def test_coverage_on_photographs_is_like_the_paper_s(shared):
    """BSD400 alone; the paper drew 384,000 patches of BSD400, Waterloo, DIV2K and Flickr2K.

    The lower ends of Delta come from patches full of contrast, which all corpora have, and agree. The upper ends come
    from flat patches, of which the large images of DIV2K and Flickr2K have more: the paper's are higher, and a training
    at 10 covers more of 50 there (0.88, here 0.42), a training at 50 more of 10 (0.19, here 0.08).
    """
    store = FolderStore(shared / 'data' / 'BSD400')
    store.names = store.names[::4]
    levels = ('50', '40', '30', '20', '10')
    patches = analysis.draw_patches(store, 500, 70)
    rows = analysis.coverage_table(analysis.difficulties(patches, [int(level) / 255 for level in levels]))
    with open(shared / 'paper' / 'delta_coverage.csv', encoding='utf-8') as file:
        published = list(csv.DictReader(file))
    for number, (row, expected) in enumerate(zip(rows, published, strict=True)):
        assert row['low'] == pytest.approx(float(expected['q0.025']), rel=0.1)
        assert row['high'] < float(expected['q0.975'])
        for place, (share, level) in enumerate(zip(row['coverage'].values(), levels, strict=True)):
            if abs(place - number) <= 1:
                assert share == pytest.approx(float(expected[level]), abs=0.12)
    shares = [list(row['coverage'].values()) for row in rows]
    assert shares[4][0] > shares[0][4] + 0.1  # weak noise covers strong noise rather than the other way round


def test_colour_filters_span_all_channels():
    y = torch.rand(1, 3, 12, 12, dtype=torch.float64)
    net = network(DNCNN | {'type': 'DnCNNWNE', 'num_in_ch': 3, 'num_out_ch': 3})
    weights = analysis.adaptive_filter(net, y, 5, 5, channel=2)
    assert weights.shape == (3, 12, 12)
    assert weights.sum().item() == pytest.approx(1, abs=1e-8)


def test_large_images_are_read_as_gray_and_colour(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.dstack([smooth_photograph(24, 24, seed) for seed in range(3)]))
    assert analysis.draw_patches(FolderStore(tmp_path), 2, 16, channels=3).shape == (2, 3, 16, 16)
