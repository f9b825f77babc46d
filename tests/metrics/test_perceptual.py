"""LPIPS and DISTS with networks made here: the weights of torchvision are not part of the package."""

import csv
import json
from types import SimpleNamespace
from urllib.error import URLError

import cv2
import numpy as np
import pytest
import torch
from conftest import smooth_photograph
from torch import nn

from ne_basicsr.archs.backbone import build_arch
from ne_basicsr.cli.main import main
from ne_basicsr.metrics import perceptual as module
from ne_basicsr.metrics.perceptual import PERCEPTUAL, metric, perceptual
from ne_basicsr.metrics.registered_metrics import calculate_dists_float, calculate_lpips_float
from ne_basicsr.utils.errors import InputError
from ne_basicsr.weights import checkpoint

pytest.importorskip('torchmetrics', reason="needs torchmetrics: pip install -e '.[perceptual]'")


def alexnet(**_):
    """The shapes of AlexNet's features, with random weights; torchvision would make the classifier, too."""
    pool, sizes = (
        nn.MaxPool2d(3, 2),
        ((3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3), (384, 256, 3), (256, 256, 3)),
    )
    first, second, *rest = (nn.Sequential(nn.Conv2d(*size[:3], *(size[3:] or (1, 1))), nn.ReLU()) for size in sizes)
    layers = [*first, pool, *second, pool, *(layer for pair in rest for layer in pair)]
    return SimpleNamespace(features=nn.Sequential(*layers))


def vgg16(**_):
    from torchvision.models.vgg import cfgs, make_layers

    features = make_layers(cfgs['D'])
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)  # otherwise the image fades from layer to layer
            nn.init.zeros_(layer.bias)
    return SimpleNamespace(features=features)


@pytest.fixture
def weights(monkeypatch):
    torch.manual_seed(0)
    metric.cache_clear()
    monkeypatch.setattr('torchvision.models.alexnet', alexnet)
    monkeypatch.setattr('torchmetrics.functional.image.dists.vgg16', vgg16)
    yield
    metric.cache_clear()


@pytest.mark.parametrize('name', PERCEPTUAL)
def test_equal_images_are_at_zero_and_more_noise_is_further_away(weights, name):
    clean = torch.rand(1, 40, 33)
    noise = torch.randn(1, 40, 33)
    near, far = (perceptual(name, clean + sigma * noise, clean) for sigma in (0.02, 0.3))
    assert perceptual(name, clean, clean) == pytest.approx(0, abs=1e-5)
    assert 1e-6 < near < far
    assert perceptual(name, (clean + 0.3 * noise).clamp(0, 1), clean) == far  # and nothing is kept from call to call
    metric_of = {'lpips': calculate_lpips_float, 'dists': calculate_dists_float}[name]
    assert metric_of(clean[0].numpy().clip(0, 1), clean) == pytest.approx(0, abs=1e-5)
    with pytest.raises(ValueError, match='float images'):
        metric_of(np.zeros((48, 64), np.uint8), np.zeros((48, 64), np.uint8))
    with pytest.raises(InputError, match=f'{name} cannot compare images of 40x33 pixels'):
        perceptual(name, clean * torch.nan, clean)
    if name == 'lpips':
        with pytest.raises(InputError, match='lpips cannot compare images of 3x3 pixels'):
            perceptual(name, torch.rand(1, 3, 3), torch.rand(1, 3, 3))


def test_weights_that_cannot_be_had_are_one_line_before_any_work(workplace, image_folder, monkeypatch, capsys):
    def offline(*_, **__):
        raise URLError('no route to host')

    metric.cache_clear()
    monkeypatch.setattr('torchvision.models._api.load_state_dict_from_url', offline)
    assert main(['mismatch', 'gray', '--data', str(image_folder), '--perceptual', 'lpips']) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert 'lpips needs weights of torchvision that cannot be had here' in line and 'alexnet-owt' in line
    assert 'checkpoints' in line and not (workplace / 'results' / 'mismatch' / 'rows.csv').exists()


def test_without_torchmetrics_one_line_names_the_extra(monkeypatch):
    metric.cache_clear()
    monkeypatch.setattr(module, 'PERCEPTUAL', {'lpips': ('no_such_module.Metric', {}, '')})
    with pytest.raises(InputError, match=r"pip install 'ne-basicsr\[perceptual\]'"):
        metric('lpips')


def test_a_comparison_has_them_in_rows_summary_and_page(weights, workplace):
    (workplace / 'images').mkdir()
    cv2.imwrite('images/one.png', smooth_photograph(40, 40, 1))
    levels = ['--degradation', 'gaussian=10,50', '--defect', 'none']
    options = {'type': 'DnCNNWNE', 'num_feat': 4, 'num_layers': 3}
    checkpoint.save_network(workplace / 'net.pth', {'params': build_arch(options)}, {'network_g': options})
    words = ['mismatch', 'net.pth', '--data', 'images', *levels]
    assert main([*words, '--perceptual', 'lpips']) == 0
    folder = workplace / 'results' / 'mismatch'
    rows = list(csv.DictReader((folder / 'rows.csv').open()))
    (panel,) = json.loads((folder / 'summary.json').read_text())['panels']
    for name in ('net', 'identity'):
        own = [float(row['lpips']) for row in rows if row['network'] == name]
        assert panel['networks'][name]['mean_lpips'] == pytest.approx(np.mean(own), abs=1e-5)
    assert 'mean LPIPS' in (folder / 'report.html').read_text()
    assert main(words) == 0  # what is stored stays, the column goes
    assert 'lpips' not in (folder / 'rows.csv').read_text() + (folder / 'report.html').read_text()
