"""The command from end to end on small networks: numbers, what is kept, processes, kills, failures."""

import csv
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from conftest import smooth_photograph
from forked import Forked, ends, start

from ne_basicsr.archs.dncnn_arch import DnCNN
from ne_basicsr.cli.main import main
from ne_basicsr.data.prepare import write_lmdb
from ne_basicsr.evaluation.mismatch import curve, drop_from, means, work
from ne_basicsr.evaluation.mismatch.comparison import compare, effect_of
from ne_basicsr.evaluation.mismatch.units import Precision, Request, Unit, spread, strip_levels
from ne_basicsr.evaluation.mismatch.work import crop_value, pixels_of
from ne_basicsr.inference.denoiser import Denoiser
from ne_basicsr.metrics.curves import Curve
from ne_basicsr.metrics.quality import psnr
from ne_basicsr.metrics.registered_metrics import calculate_mismatch
from ne_basicsr.ops.degradations import parse_degradation
from ne_basicsr.ops.equivariance import ne_defect
from ne_basicsr.weights import checkpoint

OPTIONS = {'type': 'DnCNN', 'num_feat': 6, 'num_layers': 3, 'act_mode': 'R'}
TRAINED = {'datasets': {'train': {'noise': {'type': 'gaussian', 'sigma255': 25}}}}


def network(seed: int = 0, channels: int = 1) -> DnCNN:
    torch.manual_seed(seed)
    arguments = {key: value for key, value in OPTIONS.items() if key != 'type'}
    net = DnCNN(num_in_ch=channels, num_out_ch=channels, **arguments)
    for name, parameter in net.named_parameters():
        if name.endswith('bias'):  # at 0 the network would be scale-equivariant
            torch.nn.init.uniform_(parameter, -0.05, 0.05)
    return net


def save(path: Path, net: torch.nn.Module, **options) -> Path:
    checkpoint.save_network(path, {'params': net}, {'network_g': OPTIONS | options, **TRAINED})
    return path


@pytest.fixture
def nets(tmp_path: Path) -> list[str]:
    return [str(save(tmp_path / f'{name}.pth', network(i))) for i, name in enumerate(('first', 'second'))]


def test_images_of_another_range_are_compared_as_if_scaled(nets, tmp_path, capsys):
    pixels = smooth_photograph(40, 40, 0).astype(np.uint16) * 16
    for folder, image in (('scans', pixels), ('scaled', pixels.astype(np.float32) / np.float32(4095))):
        (tmp_path / folder).mkdir()
        assert cv2.imwrite(str(tmp_path / folder / 'a.tiff'), image)

    def rows(folder: str, **options) -> list[float]:
        kinds = ('gaussian=25', 'poisson_gaussian=50')
        found, _ = compare(request(nets[:1], tmp_path / folder, *kinds, defect='none', **options), tmp_path / 'out')
        return [row['psnr_clamped'] for panel in found.panels for row in panel.rows]

    assert rows('scans', data_range=4095.0) == rows('scaled')
    assert rows('scans') != rows('scaled')  # the negative control: 12 bits of 16 are dark
    (line,) = compare(request(nets, tmp_path / 'scans', data_range=1000.0), tmp_path / 'out')[0].failures
    assert re.search(r'scans/a: holds \d+, more than data_range: 1000, which is for white', line)
    start = ['mismatch', *nets, '--data', str(tmp_path / 'scans'), '-o', str(tmp_path / 'out')]
    assert main([*start, '--data-range', '0']) == 2
    assert 'the data range, the value of white, must be above 0; got 0' in capsys.readouterr().err
    assert main([*start, '--degradation', 'demosaicked']) == 2
    assert 'demosaicked: noise of colour images' in capsys.readouterr().err


def request(nets, folder, *degradations, **options) -> Request:
    return Request(nets, [folder], degradations or ('gaussian=5,25,50',), **options)


def rows(result, label: str, column: str = 'psnr_out') -> dict:
    return {(r['data'], r['degradation'], r['image'], r['level'], r['draw']): r[column]
            for panel in result.panels for r in panel.rows if r['network'] == label}  # fmt: skip


def test_every_cell_is_measured_with_the_noise_of_the_sweep(nets, image_folder, tmp_path):
    result, _ = compare(request(nets, image_folder, draws=2, defect='all'), tmp_path / 'out')
    (panel,) = result.panels
    assert [entry.label for entry in result.entries] == ['identity', 'first', 'second']
    assert len(panel.rows) == 3 * 6 * 3 * 2
    assert panel.images == tuple(f'photo_{i}' for i in range(6))
    cell = ('second', 'photo_3', 50, 1)
    row = next(r for r in panel.rows if (r['network'], r['image'], r['level'], r['draw']) == cell)
    clean = torch.from_numpy(smooth_photograph(48, 56, 3) / np.float32(255))[None, None]
    noisy = panel.degradation.apply(clean, 'photo_3', 50, 1, 0)
    with torch.no_grad():
        output = network(1).eval()(noisy)
    error = (output.double() - clean).square().mean().item()
    assert row['psnr_out'] == pytest.approx(-10 * np.log10(error), abs=1e-5)
    error = (output.double().clamp(0, 1) - clean).square().mean().item()
    assert row['psnr_clamped'] == pytest.approx(-10 * np.log10(error), abs=1e-5)
    assert row['psnr_clamped'] > row['psnr_out'] + 0.01
    eight_bit = np.float64([np.rint(x.numpy().clip(0, 1) * 255) for x in (output, clean)])
    expected = 10 * np.log10(255**2 / np.square(eight_bit[0] - eight_bit[1]).mean())
    assert row['psnr_8bit'] == pytest.approx(expected, abs=1e-5)
    identity = next(r for r in panel.rows if r['network'] == 'identity')
    assert identity['psnr_out'] == identity['psnr_in'] and identity['ne_defect'] is None
    assert row['ne_defect'] > 1e-3  # a plain network


def test_networks_share_the_noise_of_a_cell(nets, image_folder, tmp_path, monkeypatch):
    drawn, own = [], work.degraded
    monkeypatch.setattr(work, 'degraded', lambda *given: drawn.append(given[1]) or own(*given))
    compare(request(nets, image_folder), tmp_path / 'out')
    assert sorted(drawn) == [f'photo_{i}' for i in range(6)]  # once, for the identity and two networks


def test_the_batch_does_not_change_the_numbers(nets, image_folder, tmp_path):
    one, eight = (
        compare(request(nets, image_folder, 'gaussian=5,25,50', 'gain=0.5,2', batch=batch), tmp_path / str(batch))[0]
        for batch in (1, 8)
    )
    for label in ('first', 'second'):
        first, second = rows(one, label), rows(eight, label)
        assert first.keys() == second.keys()
        assert max(abs(first[cell] - second[cell]) for cell in first) < 1e-4


def test_what_is_finished_is_not_computed_again(nets, image_folder, tmp_path):
    def again(*degradations, **options):
        _, timing = compare(request(nets, image_folder, *degradations, **options), tmp_path / 'out')
        return 0 if timing.startswith('All') else int(timing.split()[0])

    assert again() == 3 * 6 * 3
    assert again() == 0
    assert again('gaussian=5,25,50,75') == 3 * 6  # the new level
    assert again('gaussian=5,25') == 0
    assert again(draws=2) == 3 * 6 * 3  # the second draw


def test_a_changed_checkpoint_or_image_recomputes_itself_alone(nets, image_folder, tmp_path):
    before, _ = compare(request(nets, image_folder), tmp_path / 'out')
    save(Path(nets[0]), network(7))
    cv2.imwrite(str(image_folder / 'photo_2.png'), smooth_photograph(48, 56, 99))
    after, timing = compare(request(nets, image_folder), tmp_path / 'out')
    assert int(timing.split()[0]) == 6 * 3 + 2 * 3  # the first network; of identity and the second one image
    first, second = (rows(result, 'first') for result in (before, after))
    assert all(first[cell] != second[cell] for cell in first)
    first, second = (rows(result, 'second') for result in (before, after))
    assert {cell[2] for cell in first if first[cell] != second[cell]} == {'photo_2'}


def test_an_lmdb_gives_the_numbers_of_its_folder(nets, image_folder, tmp_path):
    images = ((f'photo_{i}', smooth_photograph(48, 56, i)) for i in range(6))
    write_lmdb(tmp_path / 'set.lmdb', images)
    folder, _ = compare(request(nets, image_folder), tmp_path / 'a')
    lmdb, _ = compare(request(nets, tmp_path / 'set.lmdb'), tmp_path / 'b')
    of_folder, of_lmdb = ({cell[2:]: value for cell, value in rows(each, 'first').items()} for each in (folder, lmdb))
    assert of_folder == of_lmdb


def test_an_equivariant_network_is_flat_under_gain_and_offset_and_a_plain_one_is_not(nets, image_folder, tmp_path):
    both = [nets[0], f'{nets[0]}+wne']
    result, _ = compare(
        request(both, image_folder, 'gain=0.1,1,10', 'offset=-1,0,1', labels=['plain', 'wrapped']), tmp_path / 'out'
    )
    for panel in result.panels:
        for label, flat in (('plain', False), ('wrapped', True)):
            by_level = means([row for row in panel.rows if row['network'] == label], 'psnr_out')
            assert (max(by_level.values()) - min(by_level.values()) < 1e-3) == flat, (panel.degradation, label)


@pytest.mark.parametrize(('degradation', 'level'), [('gain=3', 3.0), ('offset=-1', -1.0)])
def test_outputs_are_clamped_to_the_range_that_the_clean_image_has_there(
    degradation, level, nets, image_folder, tmp_path
):
    result, _ = compare(request(nets[:1], image_folder, degradation), tmp_path / 'out')
    (panel,) = result.panels
    a, b = (level, 0.0) if degradation.startswith('gain') else (1.0, level)
    clean = torch.from_numpy(smooth_photograph(48, 56, 3) / np.float32(255))[None, None]
    noisy = panel.degradation.apply(clean, 'photo_3', level, 0, 0)
    with torch.no_grad():
        output = network(0).eval()(noisy).double()
    error = ((output.clamp(b, a + b) - (a * clean.double() + b)) / a).square().mean().item()
    (row,) = [r for r in panel.rows if (r['network'], r['image']) == ('first', 'photo_3')]
    assert row['psnr_clamped'] == pytest.approx(-10 * np.log10(error), abs=1e-4)
    error = ((output.clamp(0, 1) - (a * clean.double() + b)) / a).square().mean().item()
    assert abs(row['psnr_clamped'] + 10 * np.log10(error)) > 0.1  # the range without gain and offset is another
    assert row['psnr_in'] == next(
        r['psnr_out'] for r in panel.rows if (r['network'], r['image']) == ('identity', 'photo_3')
    )


def test_cells_of_an_earlier_protocol_are_not_mixed_with_new_ones(nets, image_folder, tmp_path, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr('ne_basicsr.evaluation.mismatch.units.PROTOCOL', 1)
        before.setattr(
            'ne_basicsr.metrics.quality.psnr_clamped', lambda *_: 0.0
        )  # as far as the keys tell, this is PSNR
        old, _ = compare(request(nets, image_folder), tmp_path / 'out')
    new, timing = compare(request(nets, image_folder), tmp_path / 'out')
    assert int(timing.split()[0]) == 3 * 6 * 3
    assert (
        set(rows(old, 'first', 'psnr_clamped').values()) == {0.0}
        and min(rows(new, 'first', 'psnr_clamped').values()) > 1
    )


def test_each_noisy_image_has_pairs_of_its_own_for_the_defect_and_they_repeat(
    nets, image_folder, tmp_path, monkeypatch
):
    def pairs(name: str, **options) -> tuple[dict[tuple, int], dict[tuple, float]]:
        """The seed with which the pairs of each cell were drawn, and its defect."""
        seen: list[int] = []
        asked = request(nets[:1], image_folder, 'gaussian=5,50', draws=2, defect='all', **options)
        with monkeypatch.context() as patch:
            patch.setitem(work.DEFECT_SAMPLES, 'all', 2)
            patch.setattr(
                work, 'ne_defect', lambda *args, seed, **kw: seen.extend(seed) or ne_defect(*args, seed=seed, **kw)
            )
            result, _ = compare(asked, tmp_path / name)
        defects = rows(result, 'first', 'ne_defect')
        return dict(zip(defects, seen, strict=True)), defects

    (seeds, defects), (repeated, again) = pairs('one', batch=1), pairs('four', batch=4)
    assert len(set(seeds.values())) == len(seeds) == 6 * 2 * 2  # by image, level and draw
    assert not set(seeds.values()) & set(pairs('seed', batch=4, seed=1)[0].values())
    assert seeds == repeated
    assert max(abs(defects[cell] / again[cell] - 1) for cell in defects) < 1e-3  # float32, another batch


def test_the_metric_of_validation_gives_the_same_number(nets, image_folder, tmp_path, workplace):
    result, _ = compare(request(nets[:1], image_folder, 'gaussian=10,25,60', seed=3), tmp_path / 'out')
    own = calculate_mismatch([row for row in result.panels[0].rows if row['network'] == 'first'], 'worst_loss')
    options = workplace / 'test.yml'
    options.write_text(json.dumps({
        'name': 'check', 'model_type': 'DenoisingModel', 'num_gpu': 0, 'manual_seed': 3, 'network_g': OPTIONS,
        'datasets': {'val': {'name': 'set', 'type': 'DenoisingDataset', 'dataroot_gt': str(image_folder),
                             'io_backend': {'type': 'disk'}, 'sigma_test': [10, 25, 60]}},
        'path': {'pretrain_network_g': nets[0]},
        'val': {'metrics': {'worst': {'type': 'calculate_mismatch', 'summary': 'worst_loss'}}},
    }))  # fmt: skip
    assert main(['test', '-opt', str(options)]) == 0
    with open(next((workplace / 'results' / 'check' / 'mismatch').glob('*.csv')), newline='') as file:
        written = [
            {key: float(value) if key in ('level', 'psnr_in', 'psnr_clamped') else value for key, value in row.items()}
            for row in csv.DictReader(file)
        ]
    assert calculate_mismatch(written, 'worst_loss') == pytest.approx(own, abs=1e-4)


# -- processes ---------------------------------------------------------------------------------------------------------


def command(nets, folder, output) -> list[str]:
    program = ['-m', 'ne_basicsr', 'mismatch', *nets, '--data', str(folder), '-o', str(output), '--device', 'cpu']
    program += ['--degradation', 'gaussian=5,25,50', 'gain=0.5,2', '--draws', '2', '--batch', '2']
    return [sys.executable, *program]


def test_two_processes_and_a_killed_one_write_the_bytes_of_one(nets, image_folder, tmp_path):
    assert main([*command(nets, image_folder, tmp_path / 'one')[3:]]) == 0
    expected = (tmp_path / 'one' / 'rows.csv').read_bytes()
    assert ends(start(command(nets, image_folder, tmp_path / 'two')[1:])) == [(0, '')] * 2
    assert (tmp_path / 'two' / 'rows.csv').read_bytes() == expected
    assert len(list((tmp_path / 'two' / 'cells').iterdir())) == 2  # both worked

    killed = Forked(command(nets, image_folder, tmp_path / 'killed'))
    cells = tmp_path / 'killed' / 'cells' / 'cells_0.jsonl'
    while killed.poll() is None and not (cells.is_file() and cells.stat().st_size > 3000):
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / 'killed' / 'rows.csv').exists()
    assert main([*command(nets, image_folder, tmp_path / 'killed')[3:]]) == 0
    assert (tmp_path / 'killed' / 'rows.csv').read_bytes() == expected


# -- what can go wrong -------------------------------------------------------------------------------------------------


def test_what_cannot_be_used_is_one_line_and_the_rest_is_measured(nets, image_folder, tmp_path, capsys):
    (image_folder / 'cut.png').write_bytes((image_folder / 'photo_0.png').read_bytes()[:60])
    truncated = tmp_path / 'truncated.pth'
    truncated.write_bytes(Path(nets[0]).read_bytes()[:2000])
    broken = network()
    with torch.no_grad():
        broken.model[0].weight[0] = 1e38
    (tmp_path / 'empty').mkdir()
    diverged = save(tmp_path / 'diverged.pth', broken)
    arguments = [nets[0], str(truncated), str(diverged), '--data', str(image_folder), str(tmp_path / 'empty')]
    code = main(
        ['mismatch', *arguments, '-o', str(tmp_path / 'out'), '--degradation', 'gaussian=5,25', '--device', 'cpu']
    )
    lines = capsys.readouterr().err.splitlines()
    assert code == 1
    for part in ('cut', 'truncated.pth', 'empty', 'diverged.pth'):
        assert len([line for line in lines if part in line]) == 1, (part, lines)
    with open(tmp_path / 'out' / 'rows.csv', newline='') as file:
        written = list(csv.DictReader(file))
    assert {row['image'] for row in written} == {f'photo_{i}' for i in range(6)}
    assert all(float(row['psnr_out']) > 0 for row in written if row['network'] == 'first')
    assert 'diverged' in {row['network'] for row in written}


@pytest.mark.parametrize('case', ['channels', 'nothing', 'no data', 'labels', 'draws'])
def test_a_request_that_cannot_be_met_ends_in_one_line(case, nets, image_folder, tmp_path, capsys):
    colour = save(tmp_path / 'colour.pth', network(0, 3), num_in_ch=3, num_out_ch=3)
    arguments, reason = {
        'channels': (
            [nets[0], str(colour), '--data', str(image_folder)],
            'first takes 1 and colour takes 3; run them separately',
        ),
        'nothing': ([str(tmp_path / 'none.pth'), '--data', str(image_folder)], 'no such checkpoint'),
        'no data': ([nets[0], '--data', str(tmp_path / 'nowhere')], 'no such folder'),
        'labels': (
            [nets[0], '--data', str(image_folder), '--label', 'identity'],
            "two networks have the label 'identity'",
        ),
        'draws': ([nets[0], '--data', str(image_folder), '--draws', '0'], '--draws must be at least 1'),
    }[case]
    assert main(['mismatch', *arguments, '-o', str(tmp_path / 'out')]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line
    assert not (tmp_path / 'out').exists()


@pytest.mark.skipif(os.name != 'posix', reason='names of files are text there')
def test_names_that_are_no_utf_8_are_compared_and_shown_as_they_can_be(tmp_path, capsys):
    folder, out = tmp_path / os.fsdecode(b'caf\xe9'), tmp_path / os.fsdecode(b'out\xe9')
    try:
        folder.mkdir()
    except OSError:
        pytest.skip('this file system takes UTF-8 alone')
    for name, content in (
        (b'\xff.png', cv2.imencode('.png', np.arange(144, dtype=np.uint8).reshape(12, 12))[1].tobytes()),
        (b'\xfe.png', b'no image'),
    ):
        (folder / os.fsdecode(name)).write_bytes(content)
    net, damaged = save(tmp_path / os.fsdecode(b'\xe8.pth'), network()), tmp_path / os.fsdecode(b'\xe7.pth')
    damaged.write_bytes(b'no network')
    command = [
        'mismatch',
        str(net),
        str(damaged),
        '--data',
        str(folder),
        '-o',
        str(out),
        '--degradation',
        'gaussian=25',
    ]
    assert main([*command, '--device', 'cpu']) == 1
    assert {row['data'] + row['image'] + row['network'] for row in csv.DictReader((out / 'rows.csv').open())} == {
        rf'caf\xe9\xff{label}' for label in ('identity', r'\xe8')
    }
    failures = json.loads((out / 'summary.json').read_text())['failures']
    assert [line.partition(': ')[0] for line in failures] == [rf'{tmp_path}/\xe7.pth', rf'{tmp_path}/caf\xe9/\xfe']
    assert r'caf\xe9' in (out / 'report.html').read_text()


def test_on_gpus_cudnn_computes_and_not_in_tf32(nets, image_folder, tmp_path, monkeypatch):
    denoise, seen = Denoiser.denoise, set()

    def noted(*arguments):
        seen.add((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32))
        return denoise(*arguments)

    asked = request([f'{nets[0]}@25'], image_folder, 'gaussian=25')
    monkeypatch.setattr(Denoiser, 'denoise', noted)
    compare(asked, tmp_path / 'out')
    assert seen == {(True, False)} and torch.backends.cudnn.allow_tf32


def test_short_memory_halves_the_batch(nets, image_folder, tmp_path, monkeypatch):
    honest, seen = Denoiser.denoise, []

    def tight(denoiser, noisy, *further):
        seen.append(len(noisy))
        if len(noisy) > 2:
            raise torch.OutOfMemoryError('out of memory')
        return honest(denoiser, noisy, *further)

    expected, _ = compare(request(nets, image_folder, batch=2, defect='none'), tmp_path / 'a')
    monkeypatch.setattr(Denoiser, 'denoise', tight)
    result, _ = compare(request(nets, image_folder, batch=8, defect='none'), tmp_path / 'b')
    assert max(seen) == 3 and not result.failures
    first, second = (rows(each, 'second') for each in (expected, result))
    assert max(abs(first[cell] - second[cell]) for cell in first) < 1e-4


def test_reduced_precision_says_what_it_costs(nets, image_folder, tmp_path):
    result, _ = compare(
        request(nets, image_folder, precision=Precision('bfloat16', channels_last=True)), tmp_path / 'out'
    )
    assert result.settings['Arithmetic'] == 'bfloat16, channels_last on cpu'
    assert '6 cells of the first image' in result.settings['Effect of the arithmetic']
    exact, _ = compare(request(nets, image_folder), tmp_path / 'out')
    assert rows(exact, 'first') != rows(result, 'first')
    assert 'Effect of the arithmetic' not in exact.settings


# -- small parts -------------------------------------------------------------------------------------------------------


def test_the_effect_of_the_arithmetic_at_most_is_the_largest_of_either_sign():
    precision, changes = Precision('bfloat16'), {0: -1.0, 1: 0.5}
    unit = Unit(object(), SimpleNamespace(label='n', is_identity=False), 'a', Precision(), {})
    rows = [(unit, cell, {'psnr_clamped': 30.0}) for cell in changes]
    rows += [(unit._replace(precision=precision), cell, {'psnr_clamped': 30 + d}) for cell, d in changes.items()]
    assert '-0.2500 dB on average, -1.0000 dB at most' in effect_of(precision, rows)


def test_strips_show_the_centre_of_an_image():
    clean = torch.randint(0, 256, (1, 1, 200, 300)) / 255
    value = crop_value(clean, clean.flip(2), clean, psnr)
    middle = clean[..., 28:172, 78:222]
    assert np.array_equal(pixels_of(value['clean']), (middle[0, 0] * 255).round().byte().numpy())
    assert value['psnr'] == psnr(clean.flip(2)[..., 28:172, 78:222], middle)


def test_levels_are_spread_over_the_sweep():
    assert spread(range(21), 5) == (0, 5, 10, 15, 20)
    assert spread((1, 2), 5) == (1, 2)
    levels = strip_levels(parse_degradation('gaussian', [25]), [25], ())
    assert len(levels) == 4 and 25 in levels and levels[0] == 5 and levels[-1] == 100
    assert strip_levels(parse_degradation('gaussian'), [], (5, 100, 77)) == (5, 100)


def test_the_drop_is_from_the_matched_level():
    line = Curve((10, 25, 50), (28, 20, 14), (29, 30, 15))
    assert drop_from(line, 25) == 15
    assert drop_from(line, 30) is None
    assert curve([{'level': 1, 'psnr_in': 2.0, 'psnr_out': 0.0, 'psnr_clamped': 3.0}]) == Curve((1,), (2.0,), (3.0,))


def test_published_weights_give_the_papers_curve(shared, tmp_path):
    weights = shared / 'weights' / 'kair_dncnn_25.pth'
    (tmp_path / 'data').mkdir()
    for name in ('01', '05'):
        (tmp_path / 'data' / f'{name}.png').write_bytes((shared / 'data' / 'Set12' / f'{name}.png').read_bytes())
    networks = [f'{weights}@25', f'{weights}@25+wne']
    asked = request(networks, tmp_path / 'data', 'gaussian=25,50', defect='none', labels=['plain', 'wrapped'])
    result, _ = compare(asked, tmp_path / 'out')
    plain, wrapped = (
        means([row for row in result.panels[0].rows if row['network'] == label], 'psnr_out') for label in asked.labels
    )
    assert plain[25] == pytest.approx(wrapped[25], abs=0.1)
    assert wrapped[50] - plain[50] > 8
