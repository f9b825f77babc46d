import csv

import pytest
import torch

from ne_basicsr.evaluation.mismatch import curve, means, sweep, write_csv
from ne_basicsr.ops.degradations import Degradation

IMAGES = [('left', torch.full((1, 1, 40, 40), 0.3)), ('right', torch.full((1, 1, 40, 40), 0.6))]


def rows_of(network, images=IMAGES, levels=(10, 50), **options):
    return [row for row, _, _ in sweep(network, images, Degradation('gaussian', levels), **options)]


def test_the_identity_lies_on_the_identity_line_and_clamping_its_output_lifts_it():
    rows = rows_of(lambda y: y)
    result = curve(rows)
    assert means(rows, 'psnr_out') == means(rows, 'psnr_in')
    assert result.psnr_out == tuple(means(rows, 'psnr_clamped').values())
    assert result.psnr_out[0] == pytest.approx(
        result.psnr_in[0], abs=1e-6
    )  # 0.3 and 0.6 are 7 deviations from the ends
    assert result.psnr_out[1] > result.psnr_in[1] + 0.1
    for level, psnr in zip(result.levels, result.psnr_in, strict=True):
        assert psnr == pytest.approx(-20 * torch.log10(torch.tensor(level / 255)).item(), abs=0.3)


@pytest.mark.parametrize(('kind', 'levels'), [('gain', (0.5, 1.0, 4.0)), ('offset', (-1.0, 0.0, 2.0))])
def test_gain_and_offset_are_taken_back_from_input_and_output_alike(kind, levels):
    rows = [row for row, _, _ in sweep(lambda y: y, IMAGES, Degradation(kind, levels, 25))]
    for column in ('psnr_in', 'psnr_out'):
        values = list(means(rows, column).values())
        assert values == pytest.approx([values[1]] * 3, abs=1e-4)


def test_a_perfect_denoiser_of_one_image_is_infinitely_good_there_only():
    rows = rows_of(lambda y: torch.full_like(y, 0.3))
    assert {row['psnr_out'] for row in rows if row['image'] == 'left'} == {float('inf')}
    assert all(row['psnr_out'] == pytest.approx(10.46, abs=0.01) for row in rows if row['image'] == 'right')


def test_noise_depends_on_seed_image_level_and_draw_alone():
    def noisy(images, levels, **options):
        return {
            (r['image'], r['level'], r['draw']): y
            for r, y, _ in sweep(lambda y: y, images, Degradation('gaussian', levels), **options)
        }

    expected = noisy(IMAGES, (10, 50), draws=2)
    for images, levels in ((IMAGES[::-1], (50, 10)), (IMAGES[:1], (50,))):
        for cell, image in noisy(images, levels, draws=2).items():
            assert torch.equal(image, expected[cell])
    clean = dict(IMAGES)
    residuals = [(image - clean[cell[0]]) / cell[1] for cell, image in expected.items()]
    residuals += [(y - clean[c[0]]) / c[1] for c, y in noisy(IMAGES, (10, 50), draws=2, seed=1).items()]
    correlation = torch.corrcoef(torch.stack([r.flatten() for r in residuals]))
    assert (correlation - torch.eye(len(residuals))).abs().max() < 0.2  # 16 different draws


def test_levels_given_as_integers_or_floats_have_the_same_noise():
    first, second = (
        next(iter(sweep(lambda y: y, IMAGES, Degradation('gaussian', (level,)))))[1] for level in (25, 25.0)
    )
    assert torch.equal(first, second)


def test_the_batch_does_not_change_what_is_drawn():
    one, three = (
        list(sweep(lambda y: y, IMAGES, Degradation('gaussian', (5, 10, 50)), draws=2, batch=n)) for n in (1, 4)
    )
    assert [row for row, _, _ in one] == [row for row, _, _ in three]
    assert all(torch.equal(first[1], second[1]) for first, second in zip(one, three, strict=True))


def test_measures_become_columns():
    rows = rows_of(lambda y: y, measures={'peak': lambda output, clean, noisy: output.max().item()})
    assert all(row['peak'] > 0.3 for row in rows)


def test_rows_are_written_in_full(tmp_path):
    rows = rows_of(lambda y: y, draws=2)
    write_csv(tmp_path / 'new' / 'rows.csv', rows)
    with open(tmp_path / 'new' / 'rows.csv', newline='') as file:
        read = list(csv.DictReader(file))
    assert [(r['image'], float(r['level']), int(r['draw'])) for r in read] == [
        (r['image'], r['level'], r['draw']) for r in rows
    ]
    assert [float(r['psnr_out']) for r in read] == pytest.approx([r['psnr_out'] for r in rows], abs=1e-6)
