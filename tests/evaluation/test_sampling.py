"""The sampler: projectors are projectors, the walk is Algorithm 1, noise depends on seed and name, files hold it."""

import csv
import json
import math
import re
import shlex

import cv2
import numpy as np
import pytest
import torch
from conftest import smooth_photograph
from PIL import Image
from torch import nn

from ne_basicsr.archs.backbone import build_arch
from ne_basicsr.archs.dncnn_arch import DnCNN
from ne_basicsr.cli.command import typed as typed_again
from ne_basicsr.cli.main import _parser, main
from ne_basicsr.evaluation import sampling
from ne_basicsr.evaluation.report.analysis import trajectory_figure
from ne_basicsr.evaluation.sampling import outputs, tasks
from ne_basicsr.evaluation.sampling import projectors as projectors_module
from ne_basicsr.evaluation.sampling.session import batches
from ne_basicsr.inference.denoiser import Denoiser
from ne_basicsr.metrics.quality import psnr, psnr_clamped
from ne_basicsr.utils.errors import InputError
from ne_basicsr.weights import checkpoint

SIZE = (18, 23)  # odd: blocks are cut, no frequency of the columns is its own mirror image
NAMES = ('one', 'two', 'three')


def projectors(size=SIZE):
    return {
        'random': sampling.random_pixels(0.1, NAMES, size, seed=1),
        'hole': sampling.around_hole(0.25, size),
        'blocks': sampling.BlockMeans(4),
        'lowpass': sampling.LowPass(0.05),
        'nothing': sampling.Nothing(),
    }


each = pytest.mark.parametrize('name', list(projectors()))


def random_images(seed=0, size=SIZE, channels=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(NAMES), channels, *size, dtype=torch.float64, generator=generator)


# -- projectors --------------------------------------------------------------------------------------------------------


@each
@pytest.mark.parametrize('size', [SIZE, (16, 24)])
def test_projectors_are_linear_idempotent_and_self_adjoint(name, size):
    projector = projectors(size)[name]
    x, y = random_images(0, size), random_images(1, size)
    close = {'rtol': 0, 'atol': 1e-12}
    torch.testing.assert_close(projector(projector(x)), projector(x), **close)
    torch.testing.assert_close((projector(x) * y).sum(), (x * projector(y)).sum(), **close)
    torch.testing.assert_close(projector(2 * x - 3 * y), 2 * projector(x) - 3 * projector(y), **close)


def test_what_is_no_projector_is_told_from_one():
    """The test above can fail: a blur is linear and self-adjoint, but not idempotent."""

    def blur(y):
        return (y + y.roll(1, -1) + y.roll(-1, -1)) / 3

    x = random_images()
    assert (blur(blur(x)) - blur(x)).abs().max() > 1e-2


@each
def test_images_that_meet_the_measurements_meet_them_exactly_and_nothing_else_changes(name):
    projector = projectors()[name]
    x, y = random_images(0), random_images(1)
    result = projector.meet(y, projector(x))
    torch.testing.assert_close(projector(result), projector(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(result - projector(result), y - projector(y), rtol=0, atol=1e-12)
    if isinstance(projector, sampling.Pixels):  # bit for bit
        known = projector.mask.expand_as(x)
        assert torch.equal(result[known], x[known])
        assert torch.equal(result[~known], y[~known])


def test_random_pixels_are_as_many_as_asked_for_and_depend_on_seed_and_name_alone():
    mask = sampling.random_pixels(0.1, NAMES, SIZE, seed=1).mask
    assert mask.flatten(1).sum(1).tolist() == [round(0.1 * 18 * 23)] * 3
    alone = sampling.random_pixels(0.1, ['two'], SIZE, seed=1).mask
    assert torch.equal(alone[0], mask[1])
    assert not torch.equal(mask[0], mask[1])
    assert not torch.equal(sampling.random_pixels(0.1, ['two'], SIZE, seed=2).mask, alone)
    assert sampling.random_pixels(1e-9, ['one'], SIZE).mask.sum() == 1


def test_the_hole_is_centred():
    mask = sampling.around_hole(0.25, (16, 24)).mask[0, 0]
    assert (~mask).nonzero().tolist() == [[row, column] for row in range(6, 10) for column in range(9, 15)]


def test_block_means_are_means_of_blocks_also_where_the_edge_cuts_them():
    y = random_images()
    means = sampling.BlockMeans(4)(y)
    torch.testing.assert_close(means[..., 4:8, 8:12], y[..., 4:8, 8:12].mean((-2, -1), keepdim=True).expand(3, 2, 4, 4))
    torch.testing.assert_close(means[..., 16:, 20:], y[..., 16:, 20:].mean((-2, -1), keepdim=True).expand(3, 2, 2, 3))


@pytest.mark.parametrize('size', [SIZE, (16, 24), (9, 9)])
def test_the_low_pass_keeps_a_symmetric_disc_of_about_its_share(size):
    disc = sampling.low_frequencies(*size, 0.2)
    assert disc[0, 0]
    assert torch.equal(disc, disc.flip(0, 1).roll((1, 1), (0, 1)))  # frequency k and -k
    assert abs(disc.float().mean().item() - 0.2) <= 8 / (size[0] * size[1])  # at most 8 or so share a radius
    y = random_images(0, size)
    expected = torch.fft.ifft2(torch.fft.fft2(y) * disc)
    assert expected.imag.abs().max() < 1e-12
    torch.testing.assert_close(sampling.LowPass(0.2)(y), expected.real, rtol=0, atol=1e-12)


def test_the_disc_of_the_low_pass_is_made_once_for_each_size(monkeypatch):
    made = []

    def counted(height, width, share):
        made.append((height, width))
        return sampling.low_frequencies(height, width, share)

    monkeypatch.setattr(projectors_module, 'low_frequencies', counted)
    projector = sampling.LowPass(0.2)
    for size in ((9, 9), (9, 10), (9, 9)):
        y = random_images(0, size)
        torch.testing.assert_close(projector(y), sampling.LowPass(0.2)(y))
        projector.take([0])(y[:1])
    assert made == [(9, 9), (9, 9), (9, 10), (9, 10), (9, 9)]  # the other of each pair is a new projector's


def test_a_projector_of_some_images_is_theirs():
    projector = projectors()['random']
    x = random_images()
    assert torch.equal(projector.take([0, 2])(x[[0, 2]]), projector(x)[[0, 2]])
    with_one_mask = projectors()['hole']
    assert torch.equal(with_one_mask.take([1])(x[[1]]), with_one_mask(x)[[1]])


# -- the walk ----------------------------------------------------------------------------------------------------------


def towards(target):
    """A denoiser that knows the image: its residual is all that is wrong."""
    return lambda y: target.expand_as(y)


def walk_by_hand(denoiser, x, mask, schedule, draws):
    """Algorithm 1, written down again, for one image; ``draws`` are its z."""
    y = mask * x + 0.5 * (1 - mask) + schedule.sigma_start * next(draws)
    sigmas = []
    for t in range(1, schedule.max_steps + 2):
        d = denoiser(y)
        u = (1 - mask) * (d - y) + mask * x - mask * y
        sigma = math.sqrt((u**2).mean().item())
        sigmas.append(sigma)
        if sigma <= schedule.sigma_stop or t > schedule.max_steps:
            break
        h = schedule.h0 * t / (1 + schedule.h0 * (t - 1))
        gamma = math.sqrt((1 - schedule.beta * h) ** 2 - (1 - h) ** 2) * sigma
        y = y + h * u + gamma * next(draws)
    return mask * x + (1 - mask) * y, sigmas


def test_the_walk_is_algorithm_1():
    x = random_images(size=(8, 9), channels=1)[:1] * 0.1 + 0.5
    schedule = sampling.Schedule(sigma_stop=0.05, h0=0.1, beta=0.2, max_steps=40)
    projector = sampling.random_pixels(0.3, ['one'], (8, 9))

    def denoiser(y):
        return 0.7 * y + 0.3 * y.mean()

    (found,) = sampling.sample(denoiser, x, projector, schedule, ['one'], seed=3)
    noise = sampling.Noise(['one draw 0'], 3)
    draws = iter(lambda: noise.draw([0], x), None)
    expected, sigmas = walk_by_hand(denoiser, x, projector.mask.double(), schedule, draws)
    torch.testing.assert_close(found.result, expected[0])
    assert [record.sigma for record in found.records] == pytest.approx(sigmas)
    assert len(sigmas) > 5


def test_step_sizes_and_added_noise_are_the_formulas():
    schedule = sampling.Schedule(h0=0.01, beta=0.01)
    assert schedule.step_size(1) == 0.01
    assert schedule.step_size(101) == pytest.approx(0.01 * 101 / 2)
    assert schedule.gamma(0.5, 2.0) == pytest.approx(math.sqrt(0.995**2 - 0.25) * 2)
    assert schedule._replace(beta=1.0).gamma(0.5, 2.0) == 0  # no new noise


def test_an_exact_denoiser_leads_to_its_image_within_sigma_stop_and_meets_the_measurements():
    x = torch.rand(1, 1, 12, 12, dtype=torch.float64)
    projector = sampling.random_pixels(0.1, ['one'], (12, 12))
    (found,) = sampling.sample(towards(x), x, projector, sampling.Schedule(h0=0.1), ['one'])
    assert found.outcome == 'converged'
    assert (found.result - x[0]).square().mean().sqrt() <= 0.01
    assert not torch.equal(found.result, x[0])
    known = projector.mask[0]
    assert torch.equal(found.result[known], x[0][known])
    assert torch.equal(found.one_pass, x[0])


def test_noise_free_denoising_takes_the_steps_that_the_step_sizes_say():
    """beta 1, P 0: each step leaves 1 - h of the residual, so the number of steps is known before."""
    x = torch.full((1, 1, 64, 64), 0.5, dtype=torch.float64)
    schedule = sampling.RESIDUAL_STOPPED
    (found,) = sampling.sample(towards(x), x, sampling.Nothing(), schedule, ['one'], from_noisy=True)
    left, steps = found.records[0].sigma, 0
    while left > schedule.sigma_stop:
        steps += 1
        left *= 1 - schedule.step_size(steps)
    assert found.records[-1].step == steps
    assert found.records[-1].sigma == pytest.approx(left)
    assert found.observed_quality.psnr == pytest.approx(-20 * math.log10(10 / 255), abs=0.5)


def test_psnr_is_that_of_the_image_clamped_to_0_and_1_but_for_what_was_observed():
    x = torch.zeros(1, 1, 32, 32)
    below = lambda y: torch.full_like(y, -0.1)  # noqa: E731
    (found,) = sampling.sample(below, x, sampling.Nothing(), sampling.RESIDUAL_STOPPED, ['one'], from_noisy=True)
    assert found.one_pass_quality.psnr == math.inf
    assert found.observed_quality.psnr == psnr(found.observed, x[0]) < psnr_clamped(found.observed, x[0]) - 2
    assert found.records[-1].psnr == psnr_clamped(found.result, x[0]) > psnr(found.result, x[0]) + 2


def small_network(seed=0):
    torch.manual_seed(seed)
    network = DnCNN(1, 1, num_feat=4, num_layers=3, act_mode='R').double().eval()
    return network


def test_a_walk_depends_on_seed_and_name_alone_whatever_the_batch():
    x = torch.rand(3, 1, 12, 12, dtype=torch.float64)
    network, schedule = small_network(), sampling.Schedule(max_steps=12, h0=0.1)

    def results(numbers, seed=0, draw=0):
        names = [NAMES[n] for n in numbers]
        projector = sampling.random_pixels(0.1, names, (12, 12), seed)
        return sampling.sample(network, x[numbers], projector, schedule, names, seed=seed, draw=draw)

    together, alone, backwards = results([0, 1, 2]), results([1]), results([2, 1, 0])
    torch.testing.assert_close(alone[0].result, together[1].result)
    torch.testing.assert_close(backwards[1].result, together[1].result)
    for other in (results([1], seed=1), results([1], draw=1)):
        assert (other[0].result - alone[0].result).abs().max() > 1e-2


def test_images_that_end_early_do_not_disturb_the_others():
    x = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    x[..., 0, :] = torch.tensor([0.1, 0.9, 0.6]).view(3, 1, 1)  # known: how bright, which says how slowly a walk goes

    def slow_where_bright(y):
        bright = y[..., :1, :].mean((1, 2, 3), keepdim=True).clamp(0, 0.95)
        return torch.cat([y[..., :1, :], bright * y[..., 1:, :]], dim=2)

    schedule = sampling.Schedule(sigma_start=0.3, sigma_stop=0.03, h0=0.1, beta=0.5, max_steps=400)

    def walks(numbers):
        names = [NAMES[n] for n in numbers]
        mask = sampling.random_pixels(0.3, names, (8, 8)).mask
        mask[..., 0, :] = True
        return sampling.sample(slow_where_bright, x[numbers], sampling.Pixels(mask), schedule, names)

    together = walks([0, 1, 2])
    lengths = [len(trajectory.records) for trajectory in together]
    assert lengths[0] < lengths[2] < lengths[1]  # one ends while others, of which it is not the last, go on
    for number, trajectory in enumerate(together):
        (alone,) = walks([number])
        torch.testing.assert_close(trajectory.result, alone.result)
        assert len(trajectory.records) == len(alone.records)


def test_a_walk_that_diverges_ends_and_the_others_go_on():
    x = torch.full((3, 1, 8, 8), 0.5, dtype=torch.float64)

    class Explodes(nn.Module):
        """For the image that holds the most, away from where it should go."""

        def forward(self, y):
            wrong = (y[:, :, :1, :1] > 20).to(y)
            return (1 - wrong) * 0.5 + wrong * 30 * y

    x[1, :, 0, 0] = 40
    corner = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    corner[..., 0, 0] = True
    schedule = sampling.Schedule(h0=0.1)
    trajectories = sampling.sample(Explodes(), x, sampling.Pixels(corner), schedule, NAMES)
    assert [trajectory.outcome for trajectory in trajectories] == ['converged', 'diverged', 'converged']
    row = sampling.summarize('net', trajectories[1])
    assert row['final_psnr'] is None
    assert row['one_pass_psnr'] is not None
    assert sampling.aggregate([sampling.summarize('net', t) for t in trajectories])['final_psnr'].number == 2


def test_nan_is_a_divergence_and_the_last_finite_image_is_kept():
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    calls = []

    def breaks(y):
        calls.append(1)
        return y * float('nan') if len(calls) > 3 else 0.9 * y

    (found,) = sampling.sample(breaks, x, sampling.Nothing(), sampling.Schedule(h0=0.1), ['one'])
    assert (found.outcome, found.records[-1].step) == ('diverged', 3)
    assert found.result.isfinite().all()


def test_walks_without_steps_left_are_unfinished():
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    (found,) = sampling.sample(towards(x), x, sampling.Nothing(), sampling.Schedule(max_steps=5), ['one'])
    assert (found.outcome, len(found.records)) == ('unfinished', 6)


def test_non_blind_denoisers_are_told_the_level_that_is_left():
    x = torch.full((2, 1, 12, 12), 0.5, dtype=torch.float64)
    told = []

    def network(y, sigma):
        told.append(sigma.tolist())
        return torch.full_like(y, 0.5)

    schedule = sampling.Schedule(h0=0.1, beta=0.5, max_steps=3)
    found = sampling.sample(network, x, sampling.Nothing(), schedule, NAMES[:2])
    assert told[0] == [1.0, 1.0]
    expected = [(1 - 0.5 * schedule.step_size(1)) * trajectory.records[0].sigma for trajectory in found]
    assert told[1] == pytest.approx(expected)
    # and the level is right: what is left, of the residual and of the new noise together
    actual = [trajectory.records[1].sigma for trajectory in found]
    assert told[1] == pytest.approx(actual, rel=0.15)


def test_a_network_that_changes_the_size_is_refused():
    x = torch.rand(1, 1, 8, 8)
    with pytest.raises(InputError, match='must keep the shape of its images'):
        sampling.sample(lambda y: y[..., :4], x, sampling.Nothing(), sampling.SAMPLING, ['one'])


@pytest.mark.parametrize('names', [['one'], 'abc', []])
def test_images_without_a_name_each_are_refused_before_the_walk(names):
    def never(y):
        raise AssertionError('the walk has started')

    with pytest.raises(InputError, match=r'one for each image; got .* for 3'):
        sampling.sample(never, torch.rand(3, 1, 8, 8), sampling.Nothing(), sampling.SAMPLING, names)


@pytest.mark.parametrize(
    ('name', 'value'),
    [('sigma_stop', 0), ('h0', 0), ('h0', 1.5), ('beta', 0), ('beta', 2), ('max_steps', 0), ('h0', math.nan)],
)
def test_schedules_that_make_no_sense_are_refused(name, value):
    with pytest.raises(InputError, match=name):
        sampling.SAMPLING._replace(**{name: value}).check()


# -- rows and aggregates -----------------------------------------------------------------------------------------------


def made_up(psnrs, image='one', outcome='converged', sigma=0.01):
    records = [sampling.Record(i, None, sigma, None, value, 0.5) for i, value in enumerate(psnrs)]
    blank = torch.zeros(1, 2, 2)
    known = sampling.Quality(6.0, 0.1), sampling.Quality(13.0, 0.2)
    return sampling.Trajectory(image, 0, outcome, records, blank, blank, blank, *known, [])


def test_summaries_find_the_best_step_and_the_gap():
    row = sampling.summarize('net', made_up([5.0, 20.0, 22.0, 21.5]))
    assert (row['best_psnr'], row['best_step'], row['final_psnr'], row['steps']) == (22.0, 2, 21.5, 3)
    assert row['gap'] == -0.5
    assert (row['observed_psnr'], row['one_pass_psnr'], row['one_pass_ssim']) == (6.0, 13.0, 0.2)


def test_aggregates_are_mean_and_deviation():
    rows = [sampling.summarize('net', made_up([5.0, last])) for last in (20.0, 22.0, 27.0)]
    spread = sampling.aggregate(rows)['final_psnr']
    assert spread == (23.0, pytest.approx(np.std([20, 22, 27], ddof=1)), 3)
    assert sampling.aggregate(rows[:1])['final_psnr'] == (20.0, None, 1)
    assert sampling.aggregate([])['final_psnr'] is None


def test_a_walk_that_has_ended_counts_as_it_ended():
    mean, *walks = trajectory_figure({'net': [[1.0, 3.0], [1.0, 5.0, 7.0]]}, 'PSNR').axes[0].get_lines()
    assert list(mean.get_ydata()) == [1.0, 4.0, 5.0] and len(walks) == 2


def test_images_are_batched_by_size_and_all_of_them_once():
    shapes = [(8, 8), (9, 8), (8, 8), (8, 8)]
    pictures = {str(i): torch.zeros(1, *shape) for i, shape in enumerate(shapes)}
    assert list(batches(pictures, None, 2 * 64)) == [['0', '2'], ['3'], ['1']]
    assert [len(batch) for batch in batches(pictures, 3, 1)] == [3, 1]


# -- tasks, films and the command line ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('randon', 'not one of random'),
        ('random@3', 'write random=VALUE'),
        ('random=2', 'above 0 and at most 1'),
        ('random=', 'a value follows'),
        ('hole=x', 'a number above 0'),
        ('mask', 'write mask=FILE'),
        ('unconstrained=1', 'it takes no value'),
        ('denoise@0', 'above 0 and at most 255'),
        ('denoise=10', 'write denoise@VALUE'),
    ],
)
def test_wrong_tasks_say_what_is_right(text, message):
    with pytest.raises(InputError, match=message):
        tasks.parse_task(text)


def test_tasks_know_the_paper_s_settings():
    assert [str(tasks.parse_task(text)) for text in ('random', 'hole', 'denoise', 'unconstrained')] == [
        'random=0.1',
        'hole=0.25',
        'denoise@10',
        'unconstrained',
    ]
    assert tasks.parse_task('random').schedule() == (1.0, 0.01, 0.01, 0.01, 1000)
    assert tasks.parse_task('denoise@25').schedule() == (25 / 255, 1 / 255, 0.01, 1.0, 1000)
    assert tasks.parse_task('mask=a=b@c.png').value == 'a=b@c.png'


def test_masks_come_from_images_and_have_their_size(tmp_path):
    pixels = np.zeros((8, 9), np.uint8)
    pixels[2:5, 3:7] = 255
    path = tmp_path / 'mask.png'
    cv2.imwrite(str(path), pixels)
    task = tasks.parse_task(f'mask={path}')
    assert torch.equal(task.projector(['one'], (8, 9), 0).mask[0, 0], torch.from_numpy(pixels > 0))
    with pytest.raises(InputError, match='it is 9 x 8 and the images are 10 x 8'):
        task.projector(['one'], (8, 10), 0)
    assert tasks.parse_task('hole=0.5').projector(['one'], (8, 8), 0).mask.sum() == 48
    with pytest.raises(InputError, match='the side of a block'):
        tasks.parse_task('blocks=2.5').projector(['one'], (8, 8), 0)
    with pytest.raises(InputError, match='at most 8'):
        tasks.parse_task('blocks=9').projector(['one'], (8, 8), 0)


@pytest.mark.parametrize('shape', [(8, 9), (9, 8, 3)])
def test_films_hold_their_frames(tmp_path, shape):
    frames = [np.full(shape, value, np.uint8) for value in (0, 120, 255)]
    outputs.write_film(tmp_path / 'films' / 'a.gif', frames)
    with Image.open(tmp_path / 'films' / 'a.gif') as film:
        assert film.n_frames == 3
        assert film.size == (shape[1], shape[0])
        film.seek(2)
        assert np.asarray(film.convert('L')).min() == 255
    outputs.write_film(tmp_path / 'a.mp4', frames)
    video = cv2.VideoCapture(str(tmp_path / 'a.mp4'))
    read, first = video.read()
    assert read
    assert first.shape == ((10, 8, 3) if len(shape) == 3 else (8, 10, 3))


OPTIONS = {'type': 'DnCNN', 'num_feat': 4, 'num_layers': 3, 'act_mode': 'R'}


@pytest.fixture
def network_file(tmp_path):
    path = tmp_path / 'net.pth'
    checkpoint.save_network(path, {'params': small_network().float()}, {'network_g': OPTIONS})
    return str(path)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    for number, size in enumerate([(24, 26), (24, 26), (20, 22)]):
        cv2.imwrite(str(folder / f'p{number}.png'), smooth_photograph(*size, number))
    return folder


def test_sample_writes_rows_images_films_figures_and_a_page(workplace, network_file, photos, capsys):
    arguments = ['sample', network_file, str(photos), '--against', f'{network_file}@25+wne', '--max-steps', '4']
    assert main([*arguments, '--film', 'gif', '--draws', '2', '--h0', '0.1', '--label', 'plain']) == 0
    out = capsys.readouterr().out
    folder = workplace / 'results' / 'sample'
    with open(folder / 'rows.csv', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 2 * 5  # networks, images, draws, states
    summary = json.loads((folder / 'summary.json').read_text())
    assert summary['networks']['plain']['outcomes'] == {'unfinished': 6}
    # the numbers of the summary are those of the rows, and those of the image that was written
    last = [row for row in rows if (row['network'], row['step']) == ('plain', '4')]
    mean = sum(float(row['psnr']) for row in last) / len(last)
    assert summary['networks']['plain']['measures']['final_psnr']['mean'] == pytest.approx(mean, abs=1e-3)
    assert f'{mean:.2f}'.replace('-', '−') in out
    for name in ('table.csv', 'figures/psnr.png', 'figures/sigma.pdf', 'films/net+wne/p1_draw0.gif'):
        assert (folder / name).is_file()
    assert len(list(folder.glob('images/*/*.png'))) == 12
    page = (folder / 'report.html').read_text(encoding='utf-8')
    assert 'basicsr sample' in page
    assert '4 unfinished' not in page
    assert '6 unfinished' in page


def test_known_pixels_are_in_the_images_that_are_written(workplace, network_file, photos):
    mask = np.zeros((20, 22), np.uint8)
    mask[:10] = 255
    cv2.imwrite('mask.png', mask)
    assert main(['sample', network_file, str(photos / 'p2.png'), '--task', 'mask=mask.png', '--max-steps', '3']) == 0
    (path,) = (workplace / 'results' / 'sample' / 'images').glob('*/*.png')
    result, clean = (cv2.imread(str(p), cv2.IMREAD_GRAYSCALE) for p in (path, photos / 'p2.png'))
    assert np.array_equal(result[:10], clean[:10])
    assert not np.array_equal(result[10:], clean[10:])


def test_unconstrained_images_are_compared_with_nothing(workplace, network_file, photos):
    earlier = workplace / 'results/sample/figures'
    earlier.mkdir(parents=True)
    for name in ('psnr.png', 'psnr.pdf', 'ssim.pdf'):  # there will be none
        (earlier / name).touch()
    assert main(['sample', network_file, str(photos / 'p2.png'), '--task', 'unconstrained', '--max-steps', '2']) == 0
    summary = json.loads((workplace / 'results/sample/summary.json').read_text())
    assert summary['walks'][0]['final_psnr'] is None
    assert {path.name for path in (workplace / 'results/sample/figures').iterdir()} == {'sigma.png', 'sigma.pdf'}


def test_networks_and_images_that_fail_are_named_and_the_others_go_on(workplace, network_file, photos, capsys):
    (photos / 'broken.png').write_bytes(b'')
    arguments = ['sample', network_file, str(photos), '--against', 'missing.pth', '--max-steps', '1']
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert 'missing.pth' in err
    assert 'broken: not a readable image' in err
    assert len(json.loads((workplace / 'results/sample/summary.json').read_text())['walks']) == 3


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--task', 'rondom'], "task 'rondom': not one of random"),
        (['--h0', '2'], 'schedule: h0 is above 0 and at most 1; got 2'),
        (['--draws', '0'], '--draws must be at least 1; got 0'),
        (['--task', 'denoise', '--sigma-start', '0.1'], 'leave out --sigma-start'),
        (['--task', 'blocks=21'], 'at most 20'),
        (['--device', 'tpu'], '--device must be one of cpu, cuda, mps, auto'),
        (['--output', 'a_file'], 'the results cannot be written'),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_code_2(workplace, network_file, photos, capsys, arguments, message):
    (workplace / 'a_file').touch()
    assert main(['sample', network_file, str(photos), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('basicsr: ')
    assert message in line


def test_a_network_that_fails_is_named_and_the_others_go_on(network_file, photos):
    from ne_basicsr.evaluation.sampling import session

    request = session.Request([network_file], [photos], tasks.parse_task('random'), sampling.Schedule(max_steps=1))
    opened = session.open_session(request)

    class Fails(nn.Module):
        def forward(self, y):
            raise RuntimeError('out of luck\nand more')

    opened.denoisers.insert(0, Denoiser(Fails(), source='bad.pth'))
    seen = [trajectory.image for _, trajectory in opened.run()]
    assert opened.failures == ['bad.pth: out of luck']
    assert sorted(seen) == ['p0', 'p1', 'p2']


def test_names_that_files_cannot_have_do_not_overwrite_each_other(workplace, network_file, photos, monkeypatch):
    monkeypatch.setattr('ne_basicsr.evaluation.sampling.outputs.Collector.figures', lambda _: {})
    for name, old in (('photo (1)', 'p0'), ('photo [1]', 'p1'), ('Photo (1)', 'p2')):
        (photos / f'{old}.png').rename(photos / f'{name}.png')
    arguments = ['--against', f'{network_file}+wne', '--label', 'a b', 'a-b', '--max-steps', '1', '--film', 'gif']
    assert main(['sample', network_file, str(photos), *arguments]) == 0
    for folder, suffix in (('images', 'png'), ('films', 'gif')):
        files = list((workplace / 'results/sample' / folder).glob('*/*'))
        assert len({str(path).lower() for path in files}) == 6
        assert {path.parent.name for path in files} == {'a-b', 'a-b-2'}
        assert {path.suffix for path in files} == {f'.{suffix}'}
    first, *others = (cv2.imread(str(path)) for path in sorted((workplace / 'results/sample/images').glob('*/*')))
    assert not any(first.shape == other.shape and np.array_equal(first, other) for other in others)


def test_a_non_blind_network_denoises_in_small_steps(workplace, photos, non_blind_file, monkeypatch):
    """Table 11's task."""
    monkeypatch.setattr('ne_basicsr.evaluation.sampling.outputs.Collector.figures', lambda _: {})
    assert main(['sample', non_blind_file, str(photos), '--task', 'denoise@25', '--max-steps', '1']) == 0
    (network,) = json.loads((workplace / 'results/sample/summary.json').read_text())['networks'].values()
    assert network['measures']['observed_psnr']['mean'] == pytest.approx(-20 * math.log10(25 / 255), abs=1)
    html = (workplace / 'results/sample/report.html').read_text(encoding='utf-8')
    # a caption breaks between its parts alone
    assert re.search(r'<b>nb</b> <span>one\u00a0pass, \d+\.\d\d\u00a0dB</span>', html)
    assert re.search(r'<b>nb</b> <span>unfinished, step\u00a01, \d+\.\d\d\u00a0dB</span>', html)


@pytest.fixture
def non_blind_file(tmp_path):
    options = {'type': 'FDnCNN', 'num_feat': 4, 'num_layers': 3, 'blind': False}
    checkpoint.save_network(tmp_path / 'nb.pth', {'params': build_arch(options)}, {'network_g': options})
    return str(tmp_path / 'nb.pth')


def test_the_command_on_the_page_is_the_one_that_was_typed():
    typed = ['net.pth', 'a photo.png', 'b', '--task', 'hole=0.123456789', '--against', 'x.pth', 'y.pth']
    typed += [
        '--label',
        'one',
        '--sigma-start',
        '0.123456789',
        '--sigma-stop',
        '1e-7',
        '--h0',
        '0.1',
        '--beta',
        '0.0123456789',
    ]
    typed += ['--max-steps', '1000000', '--seed', '123456789', '--draws', '7', '--film', 'mp4']
    for words in (typed, typed[:2]):
        arguments = _parser().parse_args(['sample', *words])
        (program, *again) = shlex.split(typed_again(arguments))
        assert program == 'basicsr'
        assert vars(_parser().parse_args(again)) | {'parser': 0} == vars(arguments) | {'parser': 0}


def test_two_images_of_one_name_are_refused(workplace, network_file, photos, capsys):
    assert main(['sample', network_file, str(photos), str(photos / 'p0.png')]) == 2
    assert "two images are called 'p0'" in capsys.readouterr().err


# -- the reference material --------------------------------------------------------------------------------------------


def test_inpainting_with_public_weights_gains(shared):
    """A crop and large steps, so that it takes seconds."""
    import ne_basicsr

    network = ne_basicsr.load(shared / 'weights' / 'bf_cnn_bsd400_0to100.pt')
    image = cv2.imread(str(shared / 'data' / 'Set12' / '04.png'), cv2.IMREAD_GRAYSCALE)[64:96, 64:96]
    x = torch.from_numpy(image)[None, None].float() / 255
    schedule = sampling.Schedule(h0=0.3, beta=0.5, max_steps=30)
    projector = sampling.random_pixels(0.3, ['04'], (32, 32))
    (found,) = sampling.sample(network, x, projector, schedule, ['04'])
    row = sampling.summarize('bf', found)
    assert found.outcome == 'converged'
    assert row['final_psnr'] > row['one_pass_psnr'] + 3  # from noise of sigma 1, one pass is far from enough
    assert row['final_psnr'] > row['observed_psnr']
