"""The certificate: networks that obey the law pass, every way to break it is found and named, rounding is forgiven."""

import contextlib
import itertools
import json
import re
import sys

import certify_many
import cv2
import numpy as np
import pytest
import torch
from conftest import needs_export
from torch import nn

from ne_basicsr.archs.backbone import build_arch
from ne_basicsr.archs.wne_arch import WNE, WSE, InputNorm
from ne_basicsr.cli.main import main
from ne_basicsr.evaluation import check
from ne_basicsr.evaluation.check import checks, law, monte_carlo
from ne_basicsr.inference.exporting import graphs
from ne_basicsr.inference.opening import randomize
from ne_basicsr.utils.errors import InputError
from ne_basicsr.weights import checkpoint

DNCNN = {'type': 'DnCNN', 'num_feat': 4, 'num_layers': 3}
FDNCNN = {'type': 'FDnCNN', 'num_feat': 4, 'num_layers': 3}
DRUNET = {'type': 'DRUNet', 'num_feats': [2, 4], 'num_blocks': 1}
SWINIR = {'type': 'SwinIR', 'img_size': 8, 'window_size': 4, 'in_chans': 1, 'depths': [1], 'embed_dim': 4}
SWINIR |= {'num_heads': [1], 'mlp_ratio': 2.0, 'upsampler': '', 'upscale': 1}
NORM_EQUIV = {'mode': 'norm-equiv'}
BROAD = ('float64', 'float32')


@pytest.fixture(autouse=True)
def _one_thread():
    """Networks as small as these wait for threads longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def random(options) -> nn.Module:
    network = build_arch(options)
    randomize(network)
    return network.eval()


def certified(network, dtypes=BROAD, channels=1, **options):
    images = check.synthetic_images(channels, (12, 16))
    found = check.certify(network, images, dtypes=dtypes, **options)
    return found, check.judge(found)


def sentence(network, dtypes=BROAD) -> str:
    verdict = certified(network, dtypes)[1]
    assert not verdict.passed
    return verdict.sentence


# -- what passes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'options',
    [
        DNCNN | {'type': 'DnCNNWNE'},
        DNCNN | {'type': 'DnCNNWNE', 'correction': 1, 'prediction': 'residual'},
        DNCNN | {'type': 'DnCNNWNE', 'statistics': 'min_max'},
        DNCNN | {'type': 'DnCNNWNE', 'statistics': 'mean_noise', 'target': {'mean': 0.45, 'sigma255': 25}},
        SWINIR | {'type': 'SwinIRWNE'},
        FDNCNN | NORM_EQUIV,
        DRUNET | NORM_EQUIV,
        {'type': 'ZeroShot', 'backbone': DNCNN},
    ],
    ids=lambda options: ' '.join(str(options.get(key, '')) for key in ('type', 'statistics')).strip(),
)
def test_equivariant_networks_pass(options):
    found, verdict = certified(random(options))
    assert verdict == (True, 'normalization-equivariant')
    assert {row.status for row in found.rows} == {'pass'}
    assert found.precision == 'float64'


def test_the_wrapper_passes_in_every_type_and_under_autocast():
    found, verdict = certified(random(DNCNN | {'type': 'DnCNNWNE'}), dtypes=tuple(check.PRECISIONS))
    assert verdict.passed
    names = [row.name for row in found.rows]
    assert names[-4:] == ['float32', 'bfloat16', 'float16', 'autocast bfloat16']
    assert all(found.row(name).points for name in names)


def test_colour_and_larger_outputs_pass():
    options = SWINIR | {'type': 'SwinIRWNE', 'in_chans': 3, 'upscale': 2, 'upsampler': 'pixelshuffledirect'}
    assert certified(random(options), channels=3)[1].passed


def test_a_non_blind_network_passes_with_a_noise_level_that_is_scaled_and_fails_with_one_that_is_not():
    network = random(FDNCNN | NORM_EQUIV | {'blind': False})
    assert certified(network, sigma=0.1)[1].passed
    unscaled = sentence(lambda y: network.to(y.dtype)(y, sigma=0.1))
    assert unscaled == 'shift-equivariant only: fails under scaling'


def test_the_network_is_left_as_it_was():
    network = random(DNCNN).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    certified(network)
    assert network.training
    for key, value in network.state_dict().items():
        assert value.dtype == before[key].dtype
        assert torch.equal(value, before[key])


# -- what fails, and why -----------------------------------------------------------------------------------------------


def test_plain_networks_fail():
    for options in (DNCNN, FDNCNN, SWINIR | {'window_size': 1}):
        assert sentence(random(options)) == 'not equivariant: a plain network'


def test_networks_that_follow_the_scale_alone_are_told_apart():
    expected = 'scale-equivariant only: fails under shift'
    for network in (
        WSE(random(DNCNN)),
        random(FDNCNN | {'mode': 'scale-equiv'}),
        random(DRUNET | {'mode': 'scale-equiv'}),
    ):
        assert sentence(network) == expected


def test_networks_that_follow_the_shift_alone_are_told_apart():
    backbone = random(DNCNN)

    def network(y):
        mean = y.mean((1, 2, 3), keepdim=True)
        return backbone.to(y.dtype)(y - mean) + mean

    assert sentence(network) == 'shift-equivariant only: fails under scaling'


def test_random_biases_make_a_plain_network_plain():
    untouched = build_arch(DNCNN).eval()  # zero biases: scale-equivariant until it is trained
    assert sentence(untouched) == 'scale-equivariant only: fails under shift'


def test_normalization_without_the_way_back_is_named():
    assert sentence(InputNorm(random(DNCNN))).endswith('the normalization is not undone')


class Written(nn.Module):
    """A wrapper written by hand: s (g((y - m) / (s + epsilon))) + m, with s taken over ``dims``."""

    def __init__(
        self, epsilon: float = 0.0, dims: tuple[int, ...] = (1, 2, 3), backbone: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.backbone = random(DNCNN) if backbone is None else backbone
        self.epsilon, self.dims = epsilon, dims

    def forward(self, y):
        unit = y.abs().amax().clamp(min=torch.finfo(y.dtype).tiny)  # squares hold half the range of the type
        m = unit * (y / unit).mean(self.dims, keepdim=True)
        s = unit * (y / unit).std(self.dims, keepdim=True, correction=0)
        return s * self.backbone((y - m) / (s + self.epsilon)) + m


@pytest.mark.parametrize('epsilon', [1e-4, 1e-5, 1e-8])
def test_an_epsilon_in_the_division_is_caught(epsilon):
    assert 'an epsilon in the division' in sentence(Written(epsilon))
    if epsilon >= 1e-5:
        assert 'an epsilon in the division' in sentence(Written(epsilon), dtypes=('float32',))


def test_division_by_zero_on_constants_is_named_once():
    assert sentence(Written()) == 'equivariant, but NaN for constant images'


class Guarded(Written):
    """The law for single images, constants too."""

    def forward(self, y):
        flat = y.amax(self.dims, keepdim=True) == y.amin(self.dims, keepdim=True)
        return torch.where(flat, y, super().forward(y))


def test_images_that_depend_on_their_neighbours_are_caught():
    assert certified(Guarded())[1].passed
    for network in (Guarded(dims=(0, 1, 2, 3)), WNE(random(DNCNN).train())):
        assert 'an image depends on its neighbours in the batch' in sentence(network)


def test_dropout_in_training_mode_is_caught():
    network = WNE(nn.Sequential(random(DNCNN), nn.Dropout(0.5)))
    assert 'two calls on one image differ' in sentence(network.train())
    assert certified(network.eval())[1].passed


class Through(nn.Module):
    """The identity, by way of ``to`` and back."""

    def __init__(self, there, back) -> None:
        super().__init__()
        self.there, self.back = there, back

    def forward(self, z):
        return self.back(self.there(z)).to(z.dtype)


def test_overflow_in_half_precision_alone_is_named():
    network = WNE(Through(lambda z: z * 1e6, lambda z: z / 1e6))
    assert certified(network)[1].passed
    assert sentence(network, ('float64', 'float32', 'float16')) == 'equivariant, but NaN in float16'


def test_statistics_in_half_precision_are_caught():
    def half(y):  # squares of a contrast of 1e-4 underflow in float16
        m = y.mean((1, 2, 3), keepdim=True)
        s = (y - m).square().mean((1, 2, 3), keepdim=True).sqrt()
        flat = y.amax((1, 2, 3), keepdim=True) == y.amin((1, 2, 3), keepdim=True)
        return torch.where(flat | (s == 0), y, s * torch.tanh((y - m) / s) + m)

    found, verdict = certified(half, ('float64', 'float32', 'float16'))
    failed = [row.name for row in found.rows if row.status == 'fail']
    assert failed == ['extreme scale', 'extreme scale float32', 'float16']  # and squares of 1e-300 in float64
    assert verdict.sentence.startswith('equivariant, but its statistics or products under- or overflow at the ends of')


def test_float32_inside_is_told_from_a_broken_law():
    wrapped = random(DNCNN | {'type': 'DnCNNWNE'})

    def network(y):
        return wrapped(y.float()).to(y.dtype)

    assert sentence(network).startswith('equivariant in float32 only')
    assert certified(network, dtypes=('float32',))[1].passed


def test_a_network_that_is_nan_everywhere_fails():
    assert 'NaN' in sentence(lambda y: y * float('nan'))


def test_a_clipping_network_fails():
    wrapped = random(DNCNN | {'type': 'DnCNNWNE'})
    assert 'not equivariant' in sentence(lambda y: wrapped.to(y.dtype)(y).clamp(0, 1))


def test_zero_padding_fails_at_the_borders():
    kernel = torch.ones(1, 1, 3, 3, dtype=torch.float64) / 9

    def blur(y):
        return nn.functional.conv2d(y, kernel.to(y.dtype), padding=1)

    assert sentence(blur) == 'scale-equivariant only: fails under shift'
    assert certified(lambda y: blur(nn.functional.pad(y, (1, 1, 1, 1), 'replicate'))[..., 1:-1, 1:-1])[1].passed


def test_breaks_at_large_sizes_and_numbers_alone_are_found():
    wrapped = random(DNCNN | {'type': 'DnCNNWNE', 'statistics': 'min_max'})

    def when(large):
        return lambda y: torch.where(large(y), 2 * y, wrapped.to(y.dtype)(y))

    always = torch.tensor(True)
    rows = {
        'size 8x521': lambda y: always & (y.shape[-1] > 200),
        'size 521x8': lambda y: always & (y.shape[-2] > 200),
        'large numbers': lambda y: y.amax() > 2e4,
        'constants': lambda y: (y.amax() > 2e4) & (y.amax() == y.amin()),
    }
    for name, large in rows.items():
        found, verdict = certified(when(large))
        assert found.row(name).status == 'fail'
        assert verdict.sentence.startswith('equivariant, but')


def test_the_ends_of_the_range_are_asked_of_every_kind_of_equivariant_network():
    for options in (DNCNN | {'type': 'DnCNNWNE'}, FDNCNN | NORM_EQUIV, {'type': 'ZeroShot', 'backbone': DNCNN}):
        found, _ = certified(random(options))
        for name, exponent in (('extreme scale', 290), ('extreme scale float32', 28)):
            row = found.row(name)
            assert (row.status, len(row.points)) == ('pass', 4)
            assert min(point.a for point in row.points) < 10.0**-exponent
            assert max(point.a for point in row.points) > 10.0**exponent


# -- the tolerance -----------------------------------------------------------------------------------------------------


def runner(network, name: str, measured: float | None = None):
    precision = check.PRECISIONS[name]
    return law.Runner(law.evaluator(network, precision), precision, measured or precision.roundoff)


def test_digits_that_the_input_lost_are_not_held_against_the_network():
    """y + 1000 in float32 holds 13 of the 24 digits of y; y' is what is left, and the identity is exact on it."""
    (y,) = check.synthetic_images(1, (12, 16), count=1)
    point = law.law(runner(lambda y: y, 'float32'), y, 1.0, 1000.0)
    assert point.defect == 0
    naive = ((y + 1000).float() - (y.float() + 1000).double()).abs().max() / y.std()
    assert naive > 1e-5 or torch.equal((y + 1000).float(), y.float() + 1000)


def test_the_tolerance_is_in_proportion_to_the_type_and_to_the_largest_number():
    (y,) = check.synthetic_images(1, (12, 16), count=1)
    for name in ('float64', 'float32'):
        near, far = (law.law(runner(lambda y: y, name), y, 1.0, b) for b in (0.0, 1000.0))
        u = check.PRECISIONS[name].roundoff
        assert near.tolerance == pytest.approx(law.MARGIN * u * float(y.abs().max() / y.std(correction=0)), rel=1e-3)
        back = law.law(runner(lambda y: y, name), y + 1000, 1.0, -1000.0)  # the large numbers are those of y
        assert back.tolerance == pytest.approx(far.tolerance, rel=1e-3)
        assert far.tolerance / near.tolerance == pytest.approx(float((y + 1000).max() / y.abs().max()), rel=1e-3)
    assert law.law(runner(lambda y: y, 'bfloat16'), y, 1.0, 1000.0) is None  # 8 digits hold nothing of y there


def test_an_output_that_stays_is_measured_in_units_of_the_larger_contrast():
    """A tolerance is relative to a std y, and a change, of a network that takes a away, to std y."""
    points = (law.Point(100.0, 0.0, (8, 8), 1.0, 1e-9, 5e-8),)
    rows = [checks.Row(name, name, points) for name in ('scale', 'shift', 'scale and shift', 'fixed shift')]
    broken = checks.Certificate((checks.Row('repeat', '', ()), *rows), 'float32', {})
    assert 'the normalization is not undone' in check.judge(broken).sentence
    plain = [row._replace(points=(points[0]._replace(change=5e-7),)) for row in rows]
    assert 'plain network' in check.judge(broken._replace(rows=(broken.rows[0], *plain))).sentence


def test_the_defect_is_in_units_of_contrast():
    """f(y) = y + 0.1 is off by 0.1 (1 - a)."""
    (y,) = check.synthetic_images(1, (12, 16), count=1)
    point = law.law(runner(lambda y: y + 0.1, 'float64'), y, 0.01, 50.0)
    assert point.defect == pytest.approx(0.1 * 0.99 / (0.01 * float(y.std(correction=0))), rel=1e-9)
    assert not point.holds
    assert point.size == (12, 16)


def test_rounding_is_measured_where_a_and_b_play_no_part():
    images = check.synthetic_images(1, (12, 16))
    precision = check.PRECISIONS['float32']

    def coarse(y):  # loses ten binary digits in float32, none in float64
        return (y + 1024 * y.amax()) - 1024 * y.amax() if y.dtype == torch.float32 else y

    exact = law.evaluator(coarse, check.PRECISIONS['float64'])
    asked = law.Runner(law.evaluator(coarse, precision), precision, exact=exact)
    measured = asked.on(images)
    assert measured.how == 'measured against float64'
    assert 256 < measured.rounding / precision.roundoff <= 1024 + 1
    alone = asked._replace(exact=None).on(images)  # as where float64 does not run
    assert alone.how == 'measured by Monte Carlo arithmetic'
    assert 256 < alone.rounding / precision.roundoff <= 16 * 1024  # each number, its factors and its product, by 2 u


def spread(network, y) -> float:
    """How far Monte Carlo arithmetic in float64 moves f(y), in units of roundoff of the largest pixel."""
    asked = law.Runner(law.evaluator(network, law.PRECISIONS['float64']), law.PRECISIONS['float64'])
    return law.rounding(asked, y)[0] / 2**-53


def test_the_spread_covers_every_order_of_summation():
    """Sums of many terms, in types that the machine adds up in other orders and with other instructions."""
    y = check.synthetic_images(1, (37, 53), count=1)[0] - 0.4
    backwards = torch.randperm(y.numel(), generator=torch.Generator().manual_seed(0))
    total = y.sum()
    orders = [y.flatten().cumsum(0)[-1], y.flatten()[backwards].cumsum(0)[-1], y.flatten().flip(0).sum()]
    errors = [float((each - total).abs() / y.abs().max()) / 2**-53 for each in orders]
    assert max(errors) > 8  # units of roundoff
    worst = y.numel() * float(y.abs().sum() / y.abs().max())  # if all terms were rounded the same way
    assert max(errors) < spread(lambda y: y.sum().expand(y.shape), y) < worst / 100


@pytest.mark.parametrize(('transposed', 'shape'), [(False, (3, 16, 2, 2)), (True, (16, 3, 2, 2))])
def test_a_convolution_sums_over_its_input_channels_also_when_transposed(transposed, shape):
    arguments = torch.zeros(1, 16, 8, 8), torch.zeros(shape), None, [2, 2], [0, 0], [1, 1], transposed, [0, 0], 1
    assert monte_carlo._terms(torch.ops.aten.convolution.default, 'convolution', arguments, {}) == 16 * 2 * 2


def test_what_breaks_the_law_does_not_widen_the_tolerance():
    wrapped, y = random(DNCNN | {'type': 'DnCNNWNE'}).double(), check.synthetic_images(1, (12, 16), count=1)[0]
    alone = spread(wrapped, y)
    for network in (
        lambda y: wrapped(y) + 1e-8,
        lambda y: wrapped(y).half().to(y.dtype),
        lambda y: wrapped(y.float().to(y.dtype)),
        lambda y: wrapped(y).clamp(0, 1),
    ):
        assert spread(network, y) < 4 * alone


def test_numbers_that_are_chosen_and_copied_are_not_rounded():
    def chosen(y):
        padded = torch.nn.functional.pad(y.clone(), (1, 1, 1, 1), 'reflect')
        padded[..., 0] = padded.amax()
        return torch.where(padded == padded.amin(), padded, padded.sort(-1).values)[..., 1:-1, 1:-1]

    precision, (y,) = law.PRECISIONS['float64'], check.synthetic_images(1, (12, 16), count=1)
    _, how = law.rounding(law.Runner(law.evaluator(chosen, precision), precision), y)
    assert how == 'guessed from perturbed pixels'


def test_operations_in_place_are_rounded_too():
    def in_place(y):
        y[..., ::2].mul_(3).add_(1e3).sub_(1e3).div_(3)
        return y

    (y,) = check.synthetic_images(1, (12, 16), count=1)
    assert 200 < spread(in_place, y) < 20000


def test_functions_that_torch_does_not_see_into_are_moved_by_their_pixels_and_it_says_so():
    found, verdict = certified(lambda y: torch.from_numpy(y.numpy() * 1.0))
    assert verdict.passed
    assert found.rounding == {'float64': 'guessed from perturbed pixels', 'float32': 'guessed from perturbed pixels'}
    assert 'guessed from perturbed pixels in float64' in check.footnote(found)


def test_networks_drawn_at_random_pass_and_fail_with_a_break():
    """A small share; all of them: ``python tests/certify_many.py``."""
    for seed in (*range(8), 901):  # 901 took 0.7 of a tolerance that was one error against float64, or all of it
        case = certify_many.equivariant(seed)
        passed, why, excess = case.passes()
        assert passed, f'{seed} {case.name}: {why}'
        assert excess < 0.5, f'{seed} {case.name}: {why}'  # the rest is for processors that round otherwise
    for seed, kind in itertools.islice(certify_many.plants(), 6):
        case = certify_many.planted(seed, kind)
        assert not case.passes()[0], f'{seed} {case.name}'


def test_nan_has_no_tolerance():
    assert not law.Point(1.0, 0.0, (1, 1), float('nan'), 1.0).holds
    assert law.Point(1.0, 0.0, (1, 1), float('nan'), 1.0).excess == float('inf')


# -- what does not run, and other forms --------------------------------------------------------------------------------


def test_types_and_sizes_that_do_not_run_are_rows_and_do_not_fail():
    wrapped = random(DNCNN | {'type': 'DnCNNWNE'})

    def picky(y):
        if y.dtype == torch.float64:
            raise RuntimeError('no kernel for Double\nand more lines')
        if y.shape[-2] % 4:
            raise ValueError('multiples of 4 are needed')
        return wrapped.to(y.dtype)(y)

    found, verdict = certified(picky)
    assert verdict.passed
    assert 'not run: 1x1 pixels' in verdict.sentence
    assert (found.row('float64').status, found.row('float64').problem) == ('not run', 'no kernel for Double')
    assert (found.row('size 7x13').status, found.precision) == ('not run', 'float32')


def test_a_network_that_refuses_constants_fails():
    wrapped = random(DNCNN | {'type': 'DnCNNWNE'})

    def picky(y):
        if y.amax() == y.amin():
            raise ValueError('no contrast')
        return wrapped.to(y.dtype)(y)

    assert 'fails on f(c), constant images: no contrast' in sentence(picky)


def test_nothing_that_runs_is_the_users_error():
    with pytest.raises(InputError, match='does not run on images 1x1x12x16 in any of float64, float32: '):
        certified(random(DNCNN | {'num_in_ch': 3, 'num_out_ch': 3}))


def test_further_forms_obey_the_law_and_agree_or_fail():
    network = random(DNCNN | {'type': 'DnCNNWNE'})
    forms = {
        'flipped twice': lambda network: lambda y: network.to(y.dtype)(y.flip(-1).flip(-1)),
        'halves': lambda network: lambda y: torch.cat([network.to(y.dtype)(part) for part in y.chunk(2, -1)], -1),
    }
    found, verdict = certified(network, forms=forms)
    assert found.row('flipped twice').status == 'pass'
    assert found.row('halves').status == 'fail'  # each with its own statistics
    assert verdict.sentence.startswith('equivariant, but not in halves')


# -- the command -------------------------------------------------------------------------------------------------------

INLINE = '{type: DnCNNWNE, num_feat: 4, num_layers: 3}'
SMALL = ['--dtype', 'float64,float32']


def saved(path, options):
    checkpoint.save_network(path, {'params': random(options)}, {'network_g': options})
    return str(path)


def test_the_progress_ends_with_the_last_row(monkeypatch):
    displays = []

    class Recorder(contextlib.nullcontext):
        def __init__(self, total, *_):
            self.total, self.done = total, []
            displays.append(self)

        def __enter__(self):
            return self

        def update(self, count=1):
            self.done.append(count)

    monkeypatch.setattr(checks, 'progress', Recorder)
    found, _ = certified(random(DNCNN), (*BROAD, 'bfloat16'))
    (display,) = displays
    assert display.total == sum(display.done) == len(found.rounding) + len(found.rows)


def test_the_command_shows_its_progress_on_a_terminal_and_nothing_elsewhere(monkeypatch, capsys):
    assert main(['check', INLINE, *SMALL]) == 0
    plain = capsys.readouterr()
    assert plain.err == ''
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True, raising=False)
    assert main(['check', INLINE, *SMALL]) == 0
    shown = capsys.readouterr()
    assert re.search(r'Checking \|.*0 of \d+ steps', shown.err)
    assert [line[:26] for line in shown.out.splitlines()] == [line[:26] for line in plain.out.splitlines()]


def test_exit_codes_and_json(tmp_path, capsys):
    good, bad = saved(tmp_path / 'good.pth', DNCNN | {'type': 'DnCNNWNE'}), saved(tmp_path / 'bad.pth', DNCNN)
    assert main(['check', good, *SMALL, '--json', str(tmp_path / 'good.json')]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == 'PASS: normalization-equivariant'
    assert main(['check', bad, *SMALL, '--json', str(tmp_path / 'bad.json')]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == 'FAIL: not equivariant: a plain network'
    assert main(['check', bad, *SMALL, '--wne', '--training-sigma255', '25']) == 0
    assert 'ZeroShot around DnCNN' in capsys.readouterr().out
    assert main(['check', bad, *SMALL, '--wne']) == 0
    assert 'WNE around DnCNN' in capsys.readouterr().out
    content = json.loads((tmp_path / 'bad.json').read_text())
    assert (content['passed'], content['precision'], content['rows'][1]['name']) == (False, 'float64', 'scale')
    assert len(content['rows'][1]['points']) == checks.DRAWS + 2


def test_option_files_count_with_their_weights_and_without(tmp_path, capsys):
    torch.manual_seed(1)  # not that of networks without weights
    weights = saved(tmp_path / 'weights.pth', DNCNN)
    text = 'network_g: {type: DnCNN, num_feat: 4, num_layers: 3}\npath: {pretrain_network_g: %s}\n'
    (tmp_path / 'loaded.yml').write_text(text % weights)
    (tmp_path / 'random.yml').write_text(text % '~')
    tables = []
    for argument in (weights, str(tmp_path / 'loaded.yml'), str(tmp_path / 'random.yml')):
        assert main(['check', argument, *SMALL]) == 1
        tables.append(capsys.readouterr().out.splitlines()[2:])
    assert tables[0] == tables[1] != tables[2]


def test_images_of_a_folder_are_used(tmp_path, image_folder, capsys):
    assert main(['check', INLINE, *SMALL, '--images', str(image_folder)]) == 0
    assert '48x56' in capsys.readouterr().out
    cv2.imwrite(str(image_folder / 'a_flat.png'), np.full((8, 8), 7, np.uint8))
    assert main(['check', INLINE, *SMALL, '--images', str(image_folder)]) == 2
    assert 'images must not be constant; image 1 is' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['none.pth'], 'none.pth: no such checkpoint file'),
        (['none.onnx'], 'none.onnx: no such file'),
        (['DnCNWNE'], "not a file, .* did you mean 'DnCNNWNE'"),
        (['{type: DnCNNWNE, num_fet: 4}'], 'num_fet.*num_feat'),
        ([INLINE, '--dtype', 'float31'], "one of float64, float32, bfloat16, float16 is needed; got 'float31'"),
        ([INLINE, '--device', 'tpu'], "--device must be one of cpu, cuda, mps, auto; got 'tpu'"),
        ([INLINE, '--image-sigma255', '0'], 'above 0 in 8-bit units; got 0'),
        ([INLINE, '--image-sigma255', '5', '--sigma255', '5'], '--training-sigma255 is for blind networks'),
        ([INLINE, '--images', 'nowhere'], 'nowhere: no such folder of images'),
        ([INLINE, '--json', 'nowhere/x.json'], "the folder 'nowhere' does not exist"),
        ([INLINE, '--wne'], 'already holds a wrapped network'),
        (['{type: VGGStyleDiscriminator, num_in_ch: 3, num_feat: 4}'], 'does not run on images 1x3x24x32 in any of'),
    ],
)
def test_wrong_input_is_one_line_and_code_2(arguments, message, workplace, capsys):
    assert main(['check', *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, line), line


# -- exported files ----------------------------------------------------------------------------------------------------


def exported_program(network):
    sides = torch.export.Dim('height', min=4, max=64), torch.export.Dim('width', min=4, max=64)
    return torch.export.export(network, (torch.rand(1, 1, 12, 16),), dynamic_shapes=({2: sides[0], 3: sides[1]},))


@needs_export
def test_programs_of_torch_export_are_checked_once_they_are_trusted(tmp_path, capsys):
    torch.export.save(exported_program(WNE(random(DNCNN))), tmp_path / 'net.pt2')
    assert main(['check', str(tmp_path / 'net.pt2')]) == 2
    assert 'can run code' in capsys.readouterr().err
    assert main(['check', str(tmp_path / 'net.pt2'), '--trust']) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[-1].startswith('PASS: normalization-equivariant')
    assert 'exported, float32, 1x1xanyxany' in text


@pytest.mark.parametrize(('kind', 'code'), [(WNE, 0), (WSE, 1)])
def test_onnx_files_are_checked(kind, code, tmp_path, capsys):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    torch.onnx.export(
        kind(random(FDNCNN)).eval(), (torch.rand(1, 1, 12, 16),), tmp_path / 'net.onnx', dynamo=True, verbose=False
    )
    capsys.readouterr()
    assert main(['check', str(tmp_path / 'net.onnx')]) == code
    text = capsys.readouterr().out
    assert ('normalization-equivariant' if code == 0 else 'scale-equivariant only') in text.splitlines()[-1]
    assert re.search('7x13 pixels +not run  .*takes images 1x1x12x16; got 1x1x7x13', text)
    assert main(['check', str(tmp_path / 'net.onnx'), '--wne']) == 2


def test_graphs_of_one_huge_size_are_refused(tmp_path, capsys):
    torch.export.save(
        torch.export.export(nn.ReLU(), (torch.empty(1, 1, 3000, 2000, device='meta'),)), tmp_path / 'net.pt2'
    )
    assert main(['check', str(tmp_path / 'net.pt2'), '--trust']) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert 'takes images of 1x3000x2000; check supports at most 4,194,304 values per image: export it' in line


def told(mode, tmp_path):
    network = random(FDNCNN | {'blind': False, 'mode': mode})
    graphs.write_program(graphs.trace(network), tmp_path / 'net.pt2')
    return str(tmp_path / 'net.pt2')


@needs_export
@pytest.mark.parametrize(('mode', 'code'), [('norm-equiv', 0), ('ordinary', 1)])
def test_non_blind_exports_are_told_their_noise_level(mode, code, tmp_path, capsys):
    assert main(['check', told(mode, tmp_path), '--trust']) == code
    text = capsys.readouterr().out
    assert 'exported, float32, anyx1xanyxany, non-blind' in text
    assert text.splitlines()[-1].startswith('PASS: normalization-equiv' if code == 0 else 'FAIL: not equivariant')


@needs_export
def test_the_level_that_a_non_blind_export_is_told_is_the_one_asked_for(tmp_path):
    path = told('norm-equiv', tmp_path)
    y = torch.rand(2, 1, 9, 11)
    outputs = []
    for sigma in (None, 25 / 255, 50 / 255):
        subject = check.find_subject(path, trusted=True, sigma=sigma)
        assert subject.sigma == (sigma or 25 / 255)
        outputs.append(subject.network(y, sigma=subject.sigma))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.allclose(outputs[1], outputs[2], atol=1e-4)


def test_exports_of_other_inputs_are_refused(tmp_path, capsys):
    torch.export.save(torch.export.export(nn.ReLU(), (torch.rand(1, 12, 16),)), tmp_path / 'net.pt2')
    assert main(['check', str(tmp_path / 'net.pt2'), '--trust']) == 2
    assert 'the network must have one input (N, C, H, W)' in capsys.readouterr().err


def test_damaged_exports_are_one_line(tmp_path, capsys):
    for name in ('net.onnx', 'net.pt2'):
        if name.endswith('.onnx'):
            pytest.importorskip('onnxruntime')
        (tmp_path / name).write_bytes(b'nothing')
        assert main(['check', str(tmp_path / name), '--trust']) == 2
        assert name in capsys.readouterr().err.strip().splitlines()[-1]


# -- public weights ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('kair_dncnn_25.pth', (False, 'not equivariant: a plain network')),
        ('kair_dncnn_25.pth@25+wne', (True, 'normalization-equivariant')),
        ('bf_cnn_bsd400_0to100.pt', (False, 'scale-equivariant only: fails under shift')),
    ],
)
def test_public_weights_are_what_their_authors_say(shared, name, expected):
    subject = check.find_subject(str(shared / 'weights' / name))
    assert certified(subject.network, ('float32',))[1] == expected


def test_float32_is_certified_without_tf32_on_gpus():
    seen = set()

    class Notes(nn.Module):
        def forward(self, x):
            seen.add((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32))
            return x

    law.evaluator(Notes(), law.PRECISIONS['float32'])(torch.rand(1, 1, 4, 4))
    assert seen == {(True, False)} and torch.backends.cudnn.allow_tf32
