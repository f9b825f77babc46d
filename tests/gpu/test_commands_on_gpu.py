"""``check``, ``denoise``, ``mismatch`` and ``bench`` on the device, against the CPU."""

import csv
import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import smooth_photograph

from ne_basicsr import load
from ne_basicsr.cli.main import main
from ne_basicsr.evaluation.bench.measure import peak_memory
from ne_basicsr.inference.real_noise import Settings, find
from ne_basicsr.inference.tiles import Tiled
from ne_basicsr.ops.noise import add_noise

pytestmark = pytest.mark.gpu

NE = '{type: DnCNNWNE, num_layers: 4, num_feat: 8}'
AFFINE = '{type: FDnCNN, mode: norm-equiv, num_layers: 4, num_feat: 8}'
PLAIN = '{type: DnCNN, num_layers: 4, num_feat: 8}'


@pytest.mark.parametrize(('network', 'code'), [(NE, 0), (AFFINE, 0), ('gray', 0), (PLAIN, 1)])
def test_check_certifies_what_it_certifies_on_the_cpu(network: str, code: int, device: str) -> None:
    assert main(['check', network, '--device', device, '--dtype', 'float64,float32']) == code


def test_check_certifies_half_precision(device: str) -> None:
    assert main(['check', NE, '--device', device, '--dtype', 'float32,bfloat16,float16']) == 0


def test_tiles_give_the_image_of_the_cpu(workplace: Path, device: str) -> None:
    clean = smooth_photograph(150, 170, 0)
    noisy = add_noise(torch.from_numpy(clean / 255.0), 25 / 255, seed=1).clamp(0, 1)
    cv2.imwrite('noisy.png', (noisy.numpy() * 255).round().astype(np.uint8))
    results = {}
    for where in ('cpu', device):
        assert main(['denoise', 'gray', 'noisy.png', '-o', f'on_{where}', '--device', where, '--tile', '96']) == 0
        results[where] = cv2.imread(f'on_{where}/noisy.png', cv2.IMREAD_UNCHANGED).astype(int)
    assert np.abs(results['cpu'] - results[device]).max() <= 1  # of 255: rounding
    assert np.abs(results['cpu'] - (noisy.numpy() * 255)).mean() > 2  # it is not the input


@pytest.mark.parametrize('kind', ['photons', 'correlated', 'half'])
def test_noise_that_is_not_white_is_treated_as_on_the_cpu(kind: str, device: str) -> None:
    clean, rng = smooth_photograph(256, 256, 0) / 255.0, np.random.default_rng(0)
    white = rng.standard_normal(clean.shape)
    noisy = {
        'photons': rng.poisson(100 * clean) / 100,
        'correlated': clean + 0.2 * cv2.GaussianBlur(white, None, 1.0),
        'half': clean + 0.1 * white * (np.arange(256) >= 128),
    }[kind].astype(np.float32)
    treatments = [find(torch.from_numpy(noisy)[None].to(where), Settings()) for where in ('cpu', device)]
    assert treatments[0] is not None and str(treatments[0]) == str(treatments[1])
    networks = [load('gray', device=where) for where in ('cpu', device)]
    for network in networks:
        network.knows = frozenset()  # so that nothing is left to it
    results = [network(noisy) for network in networks]
    np.testing.assert_allclose(*results, rtol=0, atol=1e-3)  # a quarter of an 8-bit step: sums in another order
    assert np.abs(results[0] - networks[0](noisy, stride=1, stabilize=False)).max() > 1e-2  # it is treated


def test_tiles_bound_the_memory(cuda: str) -> None:
    denoiser = load('gray').to(cuda).eval()
    image = torch.rand(1, 1, 2048, 2048, device=cuda)
    small, large = (peak_memory(partial(Tiled(denoiser, tile), image), cuda) for tile in (256, 1024))
    assert small < large / 2


def test_mismatch_measures_as_on_the_cpu(workplace: Path, image_folder: Path, device: str) -> None:
    values = {}
    for where in ('cpu', device):
        command = [
            'mismatch',
            'gray',
            '--data',
            str(image_folder),
            '--degradation',
            'gaussian=15,50',
            '--defect',
            'none',
            '-o',
            f'on_{where}',
        ]
        assert main([*command, '--device', where]) == 0
        (file,) = Path(f'on_{where}').rglob('rows.csv')
        values[where] = [float(row['psnr_out']) for row in csv.DictReader(file.open())]
    assert values['cpu']
    assert values[device] == pytest.approx(values['cpu'], abs=0.01)  # dB


def test_bench_says_how_far_a_step_is_from_its_floor(workplace: Path, device: str) -> None:
    command = ['bench', PLAIN, AFFINE, '--input', '2x1x32x32', '--steps', '2', '--warmup', '1', '--device', device]
    assert main([*command, '--dtype', 'float32,bfloat16', '--json', 'bench.json']) == 0
    reports = json.loads(Path('bench.json').read_text())['reports']
    assert [report['setting']['dtype'] for report in reports] == ['float32', 'bfloat16']
    for report in reports:
        for row in report['rows']['training'] + report['rows']['inference']:
            assert row['floor_ms'] > 0
