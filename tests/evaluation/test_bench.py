"""What bench counts and computes is checked; how long anything takes is not."""

import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ne_basicsr.archs.fdncnn_arch import FDnCNN
from ne_basicsr.archs.ne_layers import SortPool
from ne_basicsr.evaluation import bench
from ne_basicsr.evaluation.bench.measure import (
    Phase,
    Products,
    Report,
    Setting,
    Timing,
    floor,
    interleaved,
    product_rate,
)
from ne_basicsr.evaluation.bench.request import SortByTorch, layer_by_layer
from ne_basicsr.evaluation.bench.table import PHASES, median_interval, quartiles
from ne_basicsr.evaluation.report.tables import check_writable, write_json
from ne_basicsr.utils.errors import InputError
from ne_basicsr.utils.machine import peak_memory

SHAPE = (2, 1, 8, 8)
TINY = {
    'plain': '{type: FDnCNN, num_feat: 4, num_layers: 2}',
    'wrapped': '{type: FDnCNNWNE, num_feat: 4, num_layers: 2}',
    'norm-equiv': '{type: FDnCNN, num_feat: 4, num_layers: 2, mode: norm-equiv}',
    'DnCNN': '{type: DnCNNWNE, num_feat: 4, num_layers: 3}',
    'SwinIR': '{type: SwinIRWNE, img_size: 8, window_size: 4, in_chans: 1, depths: [1], embed_dim: 4, num_heads: [1],'
    ' upscale: 1}',
}


def measured(texts, setting=Setting(), steps=1, shape=SHAPE):  # noqa: B008
    return bench.measure(bench.parse_networks(texts), shape, setting, steps, warmup=0)


def synthetic(**seconds) -> Report:
    """A report with given times, the same in both phases."""
    phases = {name: Phase(tuple(times), 2**20, 10**9, 0.25) for name, times in seconds.items()}
    machine = {'processor': 'none', 'threads': 1, 'torch': '2', 'product_gflop_per_s': 4.0, 'copy_gbyte_per_s': 8.0}
    return Report(machine, Setting(), SHAPE, 3, tuple(Timing(n, 12, phase, phase) for n, phase in phases.items()))


# -- from times to ratios ----------------------------------------------------------------------------------------------


def test_ratios_are_taken_within_rounds():
    slow_phase = [1.0, 1.0, 7.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    report = synthetic(first=slow_phase, same=slow_phase, half=[0.5 * t for t in slow_phase])
    for phase in PHASES:
        first, same, half = bench.rows(report, phase)
        assert first['ratio'] == same['ratio'] == (1, 1, 1)
        assert half['ratio'] == (0.5, 0.5, 0.5)
        assert first['milliseconds'] == (1000, 1000, 1000)
        assert (first['gflop'], first['gflop_per_s'], half['gflop_per_s'], first['memory_mib']) == (1, 1, 2, 1)


def test_quartiles_of_known_values():
    assert quartiles([4, 1, 3, 2, 5]) == (3, 2, 4)
    assert quartiles([7.0]) == (7, 7, 7)


@pytest.mark.parametrize(('n', 'k'), [(1, 1), (5, 1), (6, 1), (8, 1), (9, 2), (10, 2), (12, 3), (20, 6), (30, 10)])
def test_the_interval_of_a_median_has_the_ranks_of_the_tables(n, k):
    # ranks of the 95% sign-test interval, e.g. Conover, Practical Nonparametric Statistics, table A3
    median, low, high = median_interval(list(range(n, 0, -1)))
    assert (median, low, high) == ((n + 1) / 2, k, n + 1 - k)


def test_the_interval_of_a_median_covers_it():
    values = torch.randn(4000, 10).exp().tolist()  # median 1, skewed
    covered = [spread.low <= 1 <= spread.high for spread in map(median_interval, values)]
    assert sum(covered) / len(covered) == pytest.approx(0.979, abs=0.01)


# -- measuring ---------------------------------------------------------------------------------------------------------


def test_networks_take_turns_in_both_orders():
    order = []

    def clock(turn):
        order.append(turn)
        return len(order)

    assert interleaved('abc', clock, rounds=2, warmup=1) == [(4, 9), (5, 8), (6, 7)]
    assert ''.join(order) == 'cbaabccba'


def test_rounds_are_counted_and_reported(monkeypatch):
    turns = []
    bar = nullcontext(SimpleNamespace(update=lambda: turns.append(1)))
    monkeypatch.setitem(bench.measure.__globals__, 'progress', lambda *_: bar)  # its module has the name of a function
    networks = bench.parse_networks([TINY['plain'], TINY['wrapped']])
    report = bench.measure(networks, SHAPE, steps=3, warmup=2)
    assert len(turns) == 2 * (3 + 2) * 2
    for network in report.networks:
        assert len(network.inference.seconds) == len(network.training.seconds) == 3
        assert min(network.inference.seconds + network.training.seconds) > 0


def test_parameters_are_counted_and_the_wrapper_has_none():
    plain, wrapped = measured([TINY['plain'], TINY['wrapped']]).networks
    assert plain.parameters == wrapped.parameters == (9 * 4 + 4) + 9 * 4


def test_flops_of_a_convolution_and_of_twice_as_many():
    one, two, affine = measured(
        [
            '{type: FDnCNN, num_feat: 4, num_layers: 3, num_in_ch: 4, num_out_ch: 4}',
            '{type: FDnCNN, num_feat: 4, num_layers: 6, num_in_ch: 4, num_out_ch: 4}',
            '{type: FDnCNN, num_feat: 4, num_layers: 6, num_in_ch: 4, num_out_ch: 4, mode: norm-equiv}',
        ],
        shape=(2, 4, 8, 8),
    ).networks
    assert one.inference.flops == 3 * 2 * (2 * 8 * 8) * (4 * 4 * 9)  # layers x multiply-add x pixels x kernel
    assert two.inference.flops == affine.inference.flops == 2 * one.inference.flops
    # backward: to weights and to inputs, the first layer's input excepted
    assert one.training.flops == (3 * 3 - 1) * one.inference.flops / 3


def test_the_floor_is_that_of_arithmetic_or_of_memory_whichever_is_slower():
    machine = {'product_gflop_per_s': 2.0, 'copy_gbyte_per_s': 4.0}
    assert floor([(10**9, 0), (0, 10**9), (10**9, 10**9)], machine) == 0.5 + 0.25 + 0.5
    with Products() as products:
        (torch.rand(8, 16) @ torch.rand(16, 4)).relu()
    assert products.found == [(2 * 8 * 16 * 4, 4 * (8 * 16 + 16 * 4 + 8 * 4))]


def test_the_peak_of_memory_sees_a_temporary():
    x = torch.rand(1000, 1000)
    size = x.nbytes
    assert peak_memory(lambda: x.add_(1)) < size / 100
    assert size <= peak_memory(lambda: (x + 1).sum()) < 1.01 * size
    assert 2 * size <= peak_memory(lambda: (x + 1).mul(2)) < 2.01 * size
    assert size <= peak_memory(lambda: [(x + 1).sum() for _ in range(5)]) < 1.01 * size  # freed in between


def test_training_holds_activations_and_the_gradients():
    shape = (2, 1, 64, 64)
    plain, wrapped = measured([TINY['plain'], TINY['wrapped']], shape=shape).networks
    assert plain.training.memory > plain.inference.memory > 0
    image = 2 * 64 * 64 * 4
    assert wrapped.inference.memory <= plain.inference.memory + 1.2 * image  # the normalized input


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float64'])
@pytest.mark.parametrize('memory_format', ['contiguous', 'channels_last'])
def test_every_kind_of_network_runs(dtype, memory_format):
    report = measured(TINY.values(), Setting(dtype=dtype, memory_format=memory_format))
    assert len(report.networks) == len(TINY)
    for network in report.networks:
        assert network.inference.flops > 0
        assert network.training.memory > 0


def test_compiled_networks_go_through_the_compiler():
    called = []

    def backend(module, inputs):
        called.append(module)
        return module.forward

    eager, compiled = bench.parse_settings('cpu', compiler='eager')
    assert (eager, compiled) == (Setting(), Setting(compiler='eager'))
    torch._dynamo.register_backend(backend, 'counting')
    networks = [TINY['plain'], TINY['norm-equiv']]
    for setting, expected in ((eager, 0), (Setting(compiler='counting'), 4)):
        report = measured(networks, setting)
        assert len(called) >= expected
        assert bool(called) == bool(expected)
        assert report.networks[0].inference.flops > 0


def test_weights_and_random_numbers_are_left_alone():
    network = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Dropout(0.5))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state, threads, benchmark = torch.get_rng_state(), torch.get_num_threads(), torch.backends.cudnn.benchmark
    bench.measure({'own': lambda: network}, SHAPE, steps=2, warmup=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert (torch.get_num_threads(), torch.backends.cudnn.benchmark) == (threads, benchmark)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_rate_of_products_is_positive():
    assert product_rate('cpu', torch.float32, enough=1e-5) > 0


# -- tables and files --------------------------------------------------------------------------------------------------


def test_the_table_has_a_line_per_network_and_phase():
    report = synthetic(plain=[2.0] * 10, wrapped=[2.5] * 10)
    text = bench.table(report, {'inference': {'plain': 1.0, 'wrapped': 1.08}})
    assert 'cpu, float32, contiguous, eager; input 2x1x8x8' in text
    inference, training = text.split('\n\n')[1:]
    header, plain, wrapped = inference.splitlines()
    columns = 'inference parameters ms quartiles ratio 95% interval paper MiB GFLOP GFLOP/s floor x'
    assert header.split() == columns.split()
    assert plain.split()[:3] == ['plain', '12', '2000']
    row = [
        'wrapped',
        '12',
        '2500',
        '2500',
        'to',
        '2500',
        '1.250',
        '1.250-1.250',
        '1.08',
        '1.00',
        '1',
        '0.4',
        '250',
        '10.0',
    ]
    assert wrapped.split() == row
    assert len({len(line) for line in (header, plain, wrapped)}) == 1
    assert training.startswith('training step')
    assert 'paper' not in training
    assert 'range' in bench.table(synthetic(plain=[1.0] * 5))  # too few for 95%


def test_json_holds_every_time_and_the_rows_that_follow(tmp_path):
    reports = [synthetic(a=[1.0, 2.0], b=[2.0, 3.0]), synthetic(c=[0.1])._replace(setting=Setting('cuda', 'float16'))]
    write_json(tmp_path / 'a.json', bench.content_of(reports))
    written = json.loads((tmp_path / 'a.json').read_text())
    first, second = written['reports']
    assert first['networks'][1]['inference'] == json.loads(json.dumps(reports[0].networks[1].inference._asdict()))
    assert first['rows']['training'][1]['ratio']['median'] == 1.75
    assert second['setting'] == Setting('cuda', 'float16')._asdict()


def test_a_file_that_cannot_be_written_is_known_before(tmp_path):
    check_writable(tmp_path / 'new.json')
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match='missing'):
        check_writable(tmp_path / 'missing' / 'new.json')
    with pytest.raises(InputError):
        check_writable(tmp_path)


# -- what to measure ---------------------------------------------------------------------------------------------------


def test_networks_come_from_files_mappings_and_names(tmp_path):
    path = tmp_path / 'mine.yml'
    path.write_text('network_g:\n  type: DnCNN\n  num_layers: 3\n')
    networks = bench.parse_networks([str(path), 'FDnCNN', TINY['plain'], TINY['plain']])
    first, second = 'FDnCNN, num_feat: 4, num_layers: 2', 'FDnCNN, num_feat: 4, num_layers: 2 #2'
    assert list(networks) == ['mine', 'FDnCNN', first, second]
    assert len(networks['mine']().model) == 2 + 3 + 1


@pytest.mark.parametrize(
    ('text', 'parts'),
    [
        ('{type: DnCNNWNNE}', ("'DnCNNWNNE'", "'DnCNNWNE'")),
        ('{type: DnCNN, num_layer: 3}', ('num_layer', "'num_layers'")),
        ('{typ: DnCNN}', ('type',)),
        ('{type: DnCNN', ('cannot be read',)),
        ('{type: !!python/name:os.system x}', ('cannot be read',)),
        ('SwinIRWN', ('{type: ...}', "'SwinIRWNE'")),
        ('no/such.yml', ('no/such.yml', 'no such option file')),
    ],
)
def test_a_wrong_network_is_one_line(text, parts):
    with pytest.raises(InputError) as error:
        bench.parse_networks([text])
    assert len(str(error.value).splitlines()) == 1
    for part in parts:
        assert part in str(error.value)


def test_an_option_file_without_a_network_is_one_line(tmp_path):
    path = tmp_path / 'mine.yml'
    path.write_text('network_d: {type: DnCNN}\n')
    with pytest.raises(InputError, match=r'mine.yml: network_g is missing.* did you mean'):
        bench.parse_networks([str(path)])


def test_a_network_that_does_not_run_is_one_line():
    for text, shape, part in (
        (TINY['plain'], (1, 3, 8, 8), 'does not run: '),
        ('{type: FDnCNN, num_layers: 2, blind: false}', SHAPE, 'needs sigma'),
        ('{type: DnCNN, num_layers: 1}', SHAPE, 'cannot be built: DnCNN needs num_layers'),
    ):
        with pytest.raises(InputError, match=part) as error:
            measured([text], shape=shape)
        assert len(str(error.value).splitlines()) == 1
    with pytest.raises(InputError, match='does not train'):
        bench.measure({'frozen': nn.Identity}, SHAPE, steps=1, warmup=0)


@pytest.mark.parametrize('text', ['16x1x128', '16x1x0x8', '1x1x-8x8', 'big', '1,1,8,8', ''])
def test_a_wrong_input_is_one_line(text):
    with pytest.raises(InputError, match='16x1x128x128'):
        bench.parse_shape(text)


def test_inputs_and_settings_are_read():
    assert bench.parse_shape('16x1x128x96') == (16, 1, 128, 96)
    settings = bench.parse_settings('cpu', 'float32, bfloat16', 'contiguous,channels_last', 'inductor')
    assert len(set(settings)) == 8
    assert settings[0] == Setting()
    for wrong in ({'dtypes': 'float23'}, {'memory_formats': 'channel_last'}, {'devices': 'tpu'}):
        with pytest.raises(InputError, match='one of'):
            bench.parse_settings(**wrong)


def test_cuda_is_missed_in_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert bench.parse_settings('auto') == bench.parse_settings('all') == [Setting('cpu')]
    with pytest.raises(InputError, match='no CUDA device'):
        bench.parse_settings('cuda')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    assert [setting.device for setting in bench.parse_settings('all')] == ['cpu', 'cuda']
    assert [setting.device for setting in bench.parse_settings('auto')] == ['cuda']


# -- the paper's tables ------------------------------------------------------------------------------------------------


def test_the_tables_hold_the_networks_of_the_paper():
    assert bench.PRESETS['2'].shape == bench.PRESETS['6'].shape == (16, 1, 128, 128)
    assert bench.PRESETS['5'].shape == (32, 1, 64, 64)
    for build in bench.PRESETS['5'].networks.values():
        assert sum(p.numel() for p in build().parameters()) == 903_121
    for preset in bench.PRESETS.values():
        for ratios in preset.ratios.values():
            for phase in PHASES:
                assert list(ratios[phase]) == list(preset.networks)


@pytest.mark.parametrize('sort', [SortPool, SortByTorch])
def test_layer_by_layer_is_the_same_function(sort):
    affine = FDnCNN(mode='norm-equiv', num_feat=4, num_layers=3).double()
    reference = layer_by_layer(sort, num_feat=4, num_layers=3).double()
    reference.load_state_dict({key.removeprefix('fdncnn.'): value for key, value in affine.state_dict().items()})
    y = torch.rand(2, 1, 9, 7, dtype=torch.float64)
    assert torch.allclose(reference(y), affine(y), rtol=0, atol=1e-12)
