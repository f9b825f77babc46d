"""What a validation leaves behind."""

import csv
from types import SimpleNamespace

import pytest
import torch

from ne_basicsr.evaluation.report import figures, files
from ne_basicsr.train.validation_results import image_strip, in_order, keep_curve, keep_pairs


def test_a_strip_is_the_centres_side_by_side():
    noisy, output, clean = (torch.full((1, 1, 5, 9), value) for value in (-1.0, 0.25, 2.0))
    strip = image_strip(noisy, output, clean, size=4)
    assert strip.shape == (1, 4, 12)
    assert strip[0, 0].tolist() == [0.0] * 4 + [0.25] * 4 + [1.0] * 4


def test_rows_have_one_order_whatever_rank_made_them():
    rows = [{'image': image, 'level': level, 'draw': draw} for image in 'ab' for level in (5, 25) for draw in (0, 1)]
    of_ranks = rows[1::2] + rows[::2]
    assert of_ranks != rows
    assert in_order(of_ranks) == rows


def test_pairs_are_kept_without_levels(tmp_path, caplog):
    rows = [
        {'image': name, 'level': 0, 'draw': 0, 'psnr_in': 20.0, 'psnr_out': 30.0, 'psnr_clamped': 31.0} for name in 'ab'
    ]
    with caplog.at_level('INFO', 'basicsr'):
        keep_pairs(rows, tmp_path, 'SIDD', 100)
    assert 'noisy 20.00 dB, denoised 31.00 dB' in caplog.text
    with open(tmp_path / 'pairs' / 'SIDD_100.csv', newline='') as file:
        kept = list(csv.DictReader(file))
    assert [row['image'] for row in kept] == ['a', 'b']
    assert set(kept[0]) == {'image', 'psnr_in', 'psnr_out', 'psnr_clamped'}


@pytest.mark.parametrize(
    ('unit', 'word'), [('photons', 'photons'), ('sigma255', 'sigma'), ('max_sigma255', 'max_sigma')]
)
def test_levels_are_named_by_their_unit(tmp_path, caplog, monkeypatch, unit, word):
    drawn, tags = [], []
    monkeypatch.setattr(figures, 'mismatch_figure', lambda *_, unit, **__: drawn.append(unit))
    monkeypatch.setattr(files, 'save_figure', lambda *_: None)
    monkeypatch.setattr(files, 'figure_array', lambda _: None)
    board = SimpleNamespace(add_scalar=lambda tag, *_: tags.append(tag), add_image=lambda *_, **__: None)
    quality = {'psnr_in': 20.0, 'psnr_out': 30.0, 'psnr_clamped': 30.0}
    rows = [{'image': 'a', 'level': level, 'draw': 0, 'unit': unit, **quality} for level in (10.0, 100.0)]
    with caplog.at_level('INFO', 'basicsr'):
        keep_curve(rows, tmp_path, 'run', 'Set', 7, (), board)
    assert f'\t {word} 100.00: noisy  20.00 dB' in caplog.text
    assert f'mismatch/Set/psnr_out_{word}100' in tags and drawn == [unit]
