"""Figures keep the numbers they are given; pages are self-contained, well-formed and say what they were told to."""

import base64
import io
import json
import math
import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from browser import measured, needs_chromium
from jinja2 import ChoiceLoader, DictLoader
from matplotlib.figure import Figure
from PIL import Image

from ne_basicsr.evaluation.mismatch import Curve
from ne_basicsr.evaluation.report import figures, files, tables
from ne_basicsr.evaluation.report import page as pages
from ne_basicsr.evaluation.report.page import Column, Tile, link
from ne_basicsr.ops.noise import LevelRange
from ne_basicsr.utils.errors import InputError

LEVELS = (5.0, 10.0, 25.0, 50.0, 100.0)
HOSTILE = '<script>alert("$x_1$ & \'more\'")</script>'


def nominal_psnr(level255: float) -> float:
    return -20 * math.log10(level255 / 255)


def gaussian_curve(gain: float = 8.0, levels: tuple[float, ...] = LEVELS) -> Curve:
    psnr_in = tuple(nominal_psnr(level) for level in levels)
    return Curve(levels, psnr_in, tuple(0.6 * x + gain for x in psnr_in))


def main_lines(figure: Figure) -> dict[str, list]:
    """The figure's lines by what they are: vertical, identity (dashed gray), or of a network (with markers)."""
    kinds: dict[str, list] = {'network': [], 'vertical': [], 'identity': []}
    for line in figure.axes[0].get_lines():
        kind = 'network' if line.get_marker() != 'None' else 'vertical' if line.get_linestyle() == ':' else 'identity'
        kinds[kind].append(line)
    return kinds


def legend_texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


# -- the mismatch figure -----------------------------------------------------------------------------------------------


def test_each_network_has_one_line_with_its_numbers() -> None:
    curves = {f'net {i}': gaussian_curve(gain=5.0 + i) for i in range(8)}
    lines = main_lines(figures.mismatch_figure(curves))
    assert len(lines['network']) == len(curves)
    for line, curve in zip(lines['network'], curves.values(), strict=True):
        assert tuple(line.get_xdata()) == curve.psnr_in
        assert tuple(line.get_ydata()) == curve.psnr_out


def test_networks_differ_in_colour_and_in_marker() -> None:
    lines = main_lines(figures.mismatch_figure({str(i): gaussian_curve(float(i)) for i in range(8)}))['network']
    assert len({line.get_color() for line in lines}) == 8
    assert len({line.get_marker() for line in lines}) == 8


def test_identity_line_has_equal_coordinates_and_spans_the_axis() -> None:
    figure = figures.mismatch_figure({'net': gaussian_curve()})
    (identity,) = main_lines(figure)['identity']
    np.testing.assert_array_equal(identity.get_xdata(), identity.get_ydata())
    assert tuple(identity.get_xdata()) == figure.axes[0].get_xlim()


@pytest.mark.parametrize('level', [25.0, 17.3, 2.5, 150.0])
def test_training_level_is_marked_at_its_input_psnr(level: float) -> None:
    figure = figures.mismatch_figure({'net': gaussian_curve()}, [level])
    (line,) = main_lines(figure)['vertical']
    assert line.get_xdata()[0] == pytest.approx(nominal_psnr(level), abs=1e-9)
    low, high = figure.axes[0].get_xlim()
    assert low < line.get_xdata()[0] < high


def test_a_training_range_is_a_band_and_the_same_two_levels_are_two_lines() -> None:
    curves = {'net': gaussian_curve()}
    for low, high in ((10.0, 50.0), (0.0, 55.0), (10.0, 400.0)):
        figure = figures.mismatch_figure(curves, LevelRange(low, high))
        assert not main_lines(figure)['vertical']
        (band,) = figure.axes[0].patches
        start, end = band.get_extents().transformed(figure.axes[0].transData.inverted()).intervalx
        left, right = figure.axes[0].get_xlim()
        assert start == pytest.approx(max(left, nominal_psnr(high)), abs=1e-6)
        assert end == pytest.approx(min(right, nominal_psnr(low)) if low else right, abs=1e-6)
        assert f'training σ = {low:g} to {high:g}' in legend_texts(figure)
    figure = figures.mismatch_figure(curves, (10.0, 50.0))
    assert len(main_lines(figure)['vertical']) == 2 and not figure.axes[0].patches
    assert not figures.mismatch_figure(curves, LevelRange(200, 400)).axes[0].patches  # outside of what was tested


def test_level_zero_has_no_place_on_the_axis() -> None:
    assert len(main_lines(figures.mismatch_figure({'net': gaussian_curve()}, [0, 55]))['vertical']) == 1
    assert len(main_lines(figures.mismatch_figure({'net': gaussian_curve()}, [10, 55]))['vertical']) == 2


def test_input_psnr_passes_through_the_tested_levels_of_any_noise() -> None:
    brightening = -6.7  # Rayleigh noise is not centred
    plain = gaussian_curve()
    curve = plain._replace(psnr_in=tuple(x + brightening for x in plain.psnr_in))
    for level, expected in zip(curve.levels, curve.psnr_in, strict=True):
        assert figures.input_psnr(level, [curve]) == pytest.approx(expected)
    assert figures.input_psnr(33, [curve]) == pytest.approx(nominal_psnr(33) + brightening)


def test_input_psnr_of_measured_noise_stays_between_its_neighbours() -> None:
    curve = Curve((10, 25, 50), (28.11, 20.23, 14.13), (0, 0, 0))
    values = [figures.input_psnr(level, [curve]) for level in np.linspace(10, 50, 41)]
    assert values == sorted(values, reverse=True)


def test_sigma_axis_reads_as_the_levels_under_it() -> None:
    figure = figures.mismatch_figure({'net': gaussian_curve()}, [25.000000000000004])
    figure.draw_without_rendering()
    (top,) = figure.axes[0].child_axes
    ticks = dict(zip((t.get_text() for t in top.get_xticklabels()), top.get_xticks(), strict=True))
    assert {'5', '10', '25', '50', '100'} <= set(ticks)
    for label, x in ticks.items():
        assert x == pytest.approx(nominal_psnr(float(label)))
    assert [t.get_text() for t in top.get_xticklabels() if t.get_fontweight() == 'bold'] == ['25']


def test_one_level_draws_one_point_inside_the_axes() -> None:
    figure = figures.mismatch_figure({'net': gaussian_curve(levels=(25.0,))}, [25])
    (line,) = main_lines(figure)['network']
    low, high = figure.axes[0].get_xlim()
    assert low < line.get_xdata()[0] < high
    assert files.figure_array(figure).std() > 0


def test_what_is_not_finite_is_left_out() -> None:
    curve = Curve((0, 10, 25), (math.inf, 28.1, 20.2), (40.0, math.nan, 30.0))
    (line,) = main_lines(figures.mismatch_figure({'net': curve}))['network']
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([20.2], [30.0])
    nothing = Curve((10.0,), (28.1,), (math.nan,))
    assert files.figure_array(figures.mismatch_figure({'diverged': nothing}, [10])).size


def test_legend_shows_names_as_they_are() -> None:
    names = ['_hidden', 'cost $x_1$ and $', 'A^B']
    figure = figures.mismatch_figure({name: gaussian_curve() for name in names}, [25], title='50$ \\frac{')
    files.figure_array(figure)
    assert legend_texts(figure)[: len(names)] == names


@pytest.mark.parametrize('number', [1, 8, 12])
def test_legend_covers_no_axes_and_all_is_inside_the_figure(number: int) -> None:
    names = [f'experiment_{i}_' + 'x' * (12 * i) for i in range(number)]
    figure = figures.mismatch_figure({name: gaussian_curve() for name in names}, [25], title='a long title ' + 'x' * 80)
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    axes = figure.axes[0].get_tightbbox()
    assert axes is not None
    assert legend.y1 <= axes.y0
    for box in (legend, axes):
        assert box.x0 >= 0 and box.y0 >= 0
        assert box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
    assert figure.axes[0].get_window_extent().height > 0.35 * figure.bbox.width


def test_figures_leave_no_global_state() -> None:
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    figure = figures.mismatch_figure({'net': gaussian_curve()}, [25])
    files.figure_array(figure)
    files.figure_svg(figure, 'alt')
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


def test_networks_keep_their_look_whoever_is_missing() -> None:
    names = ['a', 'b', 'c']
    (_, whole, _), (alone,) = (
        main_lines(figures.mismatch_figure({name: gaussian_curve() for name in shown}, names=names))['network']
        for shown in (names, ['b'])
    )
    for of in ('get_color', 'get_marker', 'get_linestyle'):
        assert getattr(whole, of)() == getattr(alone, of)()


def test_a_line_far_below_the_identity_does_not_flatten_the_others() -> None:
    lost = gaussian_curve(-200.0)
    low, high = figures.mismatch_figure({'net': gaussian_curve(), 'lost': lost}).axes[0].get_ylim()
    assert low < min(lost.psnr_in) and high - low < 60
    near = figures.mismatch_figure({'net': gaussian_curve(), 'near': gaussian_curve(-10.0)}).axes[0].get_ylim()
    assert near[0] <= min(gaussian_curve(-10.0).psnr_out)


GAIN = (0.1, 0.5, 1.0, 2.0, 10.0)


@pytest.mark.parametrize(('unit', 'levels', 'unchanged'), [('a', GAIN, 1.0), ('b', (-1.0, 0.0, 0.5), 0.0)])
def test_gain_and_offset_are_the_axis_and_a_flat_network_is_flat(unit: str, levels: tuple, unchanged: float) -> None:
    flat, hurt = Curve(levels, (20.0,) * len(levels), (30.0,) * len(levels)), [20.0 + i for i in range(len(levels))]
    curves = {'ne': flat, 'plain': flat._replace(psnr_out=tuple(hurt))}
    figure = figures.mismatch_figure(curves, [25], unit=unit)
    lines = main_lines(figure)
    for line, psnr in zip(lines['network'], (flat.psnr_out, hurt), strict=True):
        assert tuple(line.get_xdata()) == levels and list(line.get_ydata()) == list(psnr)
    (vertical,), (identity,) = lines['vertical'], lines['identity']
    assert vertical.get_xdata()[0] == unchanged
    assert set(identity.get_ydata()) == {20.0} and tuple(identity.get_xdata()) == levels
    assert figure.axes[0].get_xscale() == ('log' if unit == 'a' else 'linear')
    assert not figure.axes[0].child_axes and 'training' not in ' '.join(legend_texts(figure))
    figure.draw_without_rendering()
    if unit == 'a':
        assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ['0.1', '0.2', '0.5', '1', '2', '5', '10']


def test_jpeg_and_photons_have_their_own_axis_on_top_and_no_training_level() -> None:
    for unit, levels in (('quality', (5.0, 40.0, 85.0)), ('photons', (10.0, 100.0, 1000.0))):
        curve = Curve(levels, (25.0, 32.0, 38.0), (26.0, 33.0, 37.0))
        figure = figures.mismatch_figure({'net': curve}, [40.0], unit=unit)
        (top,) = figure.axes[0].child_axes
        ticks = {t.get_text(): x for t, x in zip(top.get_xticklabels(), top.get_xticks(), strict=True)}
        assert ticks == {f'{level:g}': x for level, x in zip(levels, curve.psnr_in, strict=True)}
        assert not main_lines(figure)['vertical']


def test_ssim_lies_over_the_input_psnr_with_that_of_the_input_dashed() -> None:
    curve = gaussian_curve()
    ssim, inputs = ({level: value - level / 300 for level in LEVELS} for value in (0.95, 0.8))
    lines = main_lines(figures.ssim_figure({'net': ssim}, curve, inputs, [25]))
    (network,), (identity,), (vertical,) = lines['network'], lines['identity'], lines['vertical']
    assert list(network.get_xdata()) == list(identity.get_xdata()) == list(curve.psnr_in)
    assert list(network.get_ydata()) == list(ssim.values()) and list(identity.get_ydata()) == list(inputs.values())
    assert vertical.get_xdata()[0] == pytest.approx(nominal_psnr(25))


def test_defect_figure_tells_rounding_from_failing() -> None:
    defects = {
        'plain': {5.0: 3e-2, 25.0: 4e-2}, 'ne': {5.0: 4e-7, 25.0: 5e-7},
        'exact': {5.0: 0.0, 25.0: 0.0}, 'diverged': {5.0: math.nan, 25.0: 1e-3},
    }  # fmt: skip
    figure = figures.defect_figure(defects, [25])
    axes = figure.axes[0]
    (shaded,) = axes.patches
    assert shaded.get_extents().transformed(axes.transData.inverted()).y1 == pytest.approx(figures.FLOAT32_ROUNDING)
    plain, ne, exact, diverged = main_lines(figure)['network']
    assert min(plain.get_ydata()) > figures.FLOAT32_ROUNDING > max(ne.get_ydata())
    low, high = axes.get_ylim()
    for line in (plain, ne, exact, diverged):
        assert len(line.get_ydata()) and all(low < y < high for y in line.get_ydata())
    assert list(diverged.get_xdata()) == [25.0]
    assert (axes.get_xscale(), axes.get_yscale()) == ('log', 'log')


def test_defect_figure_shows_level_zero_on_an_axis_of_equal_steps() -> None:
    values = {float(level): 1e-2 + level / 1000 for level in range(0, 100, 5)}
    figure = figures.defect_figure({'net': values}, [25])
    (line,) = main_lines(figure)['network']
    assert list(line.get_xdata()) == list(values) and list(line.get_ydata()) == list(values.values())
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ('linear', 'log')
    assert axes.get_xlim()[0] < 0 < 95 < axes.get_xlim()[1]


def test_text_is_seven_points_or_more_in_one_column() -> None:
    curve, values = gaussian_curve(), dict.fromkeys(LEVELS, 0.5)
    for figure in (
        figures.mismatch_figure({'net': curve}, [25], title='title'),
        figures.ssim_figure({'net': values}, curve, values, [25]),
        figures.defect_figure({'net': values}, [25]),
        figures.mismatch_figure({'net': Curve(GAIN, (20.0,) * 5, (30.0,) * 5)}, unit='a'),
    ):
        figure.draw_without_rendering()
        texts = [t for t in figure.findobj(matplotlib.text.Text) if t.get_visible() and t.get_text()]
        assert min(t.get_fontsize() for t in texts) >= 7 and figure.get_figwidth() == pytest.approx(3.4)


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('suffix', ['png', 'pdf'])
def test_saved_figures_are_valid_and_repeat_to_the_byte(tmp_path: Path, suffix: str) -> None:
    paths = [tmp_path / 'a' / 'b' / f'one.{suffix}', tmp_path / f'two.{suffix}']
    for path in paths:
        files.save_figure(figures.mismatch_figure({'net': gaussian_curve()}, [25]), path)
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    if suffix == 'png':
        with Image.open(paths[0]) as image:
            image.load()
            assert image.width == round(3.4 * 200)
    else:
        assert first.startswith(b'%PDF-') and first.rstrip().endswith(b'%%EOF')
        assert b'/Type3' not in first  # publishers refuse Type 3 fonts


def test_figure_array_is_the_saved_picture(tmp_path: Path) -> None:
    figure = figures.mismatch_figure({'net': gaussian_curve()}, [25])
    array = files.figure_array(figure)
    files.save_figure(figure, tmp_path / 'figure.png')
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, np.asarray(Image.open(tmp_path / 'figure.png').convert('RGB')))


# -- tables ------------------------------------------------------------------------------------------------------------


def test_csv_has_the_given_digits_empty_cells_and_one_header(tmp_path: Path) -> None:
    path = tmp_path / 'new' / 'rows.csv'
    tables.write_csv(path, ('name', 'a', 'b'), [('one, two', 1 / 3, 2 / 3)], {'a': '.2f'})
    tables.write_csv(path, ('name', 'a', 'b'), [('three', None, 4)], append=True)
    assert path.read_text() == 'name,a,b\n"one, two",0.33,0.6666666666666666\nthree,,4\n'
    with pytest.raises(ValueError, match='zip'):
        tables.write_csv(path, ('name', 'a'), [('one',)])


def test_json_is_strict_and_keeps_every_name(tmp_path: Path) -> None:
    content = {'σ\udcff': [math.nan, -math.inf, 0.1], 'curve': Curve((5.0,), (math.inf,), (30.0,))}
    tables.write_json(tmp_path / 'a.json', content)
    text = (tmp_path / 'a.json').read_text(encoding='utf-8')
    assert 'σ' in text and 'NaN' not in text and 'Infinity' not in text
    curve = {'levels': [5.0], 'psnr_in': [None], 'psnr_out': [30.0]}
    assert json.loads(text) == {'σ\udcff': [None, None, 0.1], 'curve': curve}


def test_text_tables_are_aligned() -> None:
    rows = [['network', 'PSNR'], ['a', '9.5'], ['wrapped', '30.25']]
    assert tables.text_table(rows).splitlines() == ['network   PSNR', 'a          9.5', 'wrapped  30.25']
    assert tables.text_table(rows, left=(0, 1)).splitlines() == ['network  PSNR', 'a        9.5', 'wrapped  30.25']


def test_folders_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    message = r'the results cannot be written .*; give another folder'
    with pytest.raises(InputError, match=message) as error, tables.writing(tmp_path / 'file' / 'folder'):
        raise AssertionError
    assert '\n' not in str(error.value)
    with tables.writing(tmp_path / 'folder'):
        assert not list((tmp_path / 'folder').iterdir())


# -- the page ----------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The elements of a page, (name, attributes); its text; what was not closed in order."""

    VOID = ('meta', 'img', 'br', 'hr', 'link')

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.problems: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        self.problems += self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]


def random_tensor(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2


def random_image(*shape: int) -> np.ndarray:
    return pages.display_pixels(random_tensor(1, *shape))


def rendered(source: str, **data: object) -> str:
    """A piece of a template with ``parts`` at hand."""
    start = "{% import 'parts.html' as parts %}"
    return pages.TEMPLATES.from_string(start + source).render(data)


def strips(of: dict[str, list[Tile]], scale: int = 2) -> str:
    return rendered("{{ parts.strips(of, 'caption', scale) }}", of=of, scale=scale)


def table(*arguments: object, **options: object) -> str:
    return rendered("{{ parts.table(of, 'caption') }}", of=pages.table(*arguments, **options))


EXAMPLE = """
{% extends 'base.html' %}
{% import 'parts.html' as parts %}
{% block title %}Title {{ name }}{% endblock %}
{% block content %}
{{ parts.warning('Warning ' ~ name, [name]) }}
<section><h2>Curves of {{ name }}</h2>
{{ parts.figures(figures, {'first': 'Caption of ' ~ name}) }}
{{ parts.figures(figures, {'second': 'Another of ' ~ name, 'third': 'Not drawn'}, 'alt ' ~ name ~ ': ') }}
{{ parts.table(table, 'PSNR of ' ~ name) }}
</section>
{{ parts.strips(strips, 'Crops of ' ~ name) }}
{{ parts.facts({'Time of ' ~ name: '1 s ' ~ name}, 'basicsr denoise ' ~ name ~ '\\n  --now') }}
{% endblock %}
"""


def write_example(path: Path, name: str = 'DnCNN-WNE') -> str:
    """A page with each part, all texts containing ``name``."""
    curves = {'DnCNN': gaussian_curve(5.0), name: gaussian_curve()}
    columns = [Column('σ', 'g'), Column('noisy', '.2f'), Column('DnCNN', '.2f', 'row'), Column(name, '.2f', 'row')]
    columns.append(Column(f'{name} gain', '+.2f'))
    rows = [(10, 28.13, 30.35, 34.15, 3.8), (25, 20.17, 30.5, 30.43, -0.07)]
    tile = Tile(random_image(24, 32), name, f'20.1 dB {name}')
    path.parent.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        shipped = pages.TEMPLATES.loader
        patch.setattr(pages.TEMPLATES, 'loader', ChoiceLoader([DictLoader({'example.html': EXAMPLE}), shipped]))
        pages.write_page(
            path,
            'example.html',
            lead=f'Lead {name}',
            name=name,
            figures={
                'first': figures.mismatch_figure(curves, [25], title=name),
                'second': figures.mismatch_figure(curves),
            },
            table=pages.table(columns, rows, marked={1: name}),
            strips={f'σ = 10, {name}': [tile] * 4, 'σ = 50': [tile] * 3},
        )
    return path.read_text(encoding='utf-8')


@pytest.fixture(scope='module')
def example(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_example(tmp_path_factory.mktemp('example') / 'new' / 'page.html')


def test_page_is_well_formed_and_needs_nothing_else(example: str) -> None:
    page = Page(example)
    assert page.problems == []
    assert not {'script', 'link', 'iframe', 'object'} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        for key in ('src', 'href', 'xlink:href', 'srcset', 'action'):
            assert (attributes.get(key) or '#').startswith(('#', 'data:'))
    assert '://' not in example and '@import' not in example


def test_page_repeats_to_the_byte(example: str, tmp_path: Path) -> None:
    assert write_example(tmp_path / 'page.html') == example


def test_page_escapes_whatever_it_is_told(tmp_path: Path) -> None:
    html = write_example(tmp_path / 'page.html', HOSTILE)
    page = Page(html)
    assert page.problems == []
    assert page.of('script') == []
    assert '<script' not in html
    text = ''.join(page.text)
    for prefix in ('Title', 'Lead', 'Warning', 'Curves of', 'Caption of', 'PSNR of', 'Crops of', 'Time of', 'σ = 10,'):
        assert f'{prefix} {HOSTILE}' in text
    assert f'basicsr denoise {HOSTILE}\n  --now' in text
    assert any(HOSTILE in (attributes['alt'] or '') for attributes in page.of('img'))


def test_images_and_figures_have_a_text_instead(example: str) -> None:
    page = Page(example)
    assert len(page.of('img')) == 7 and len(page.of('svg')) == 2
    assert all(attributes['alt'] for attributes in page.of('img'))
    assert [attributes['aria-label'] for attributes in page.of('svg')] == [
        'Caption of DnCNN-WNE',
        'alt DnCNN-WNE: Another of DnCNN-WNE',
    ]


def test_ids_in_one_page_are_unique_and_references_resolve(example: str) -> None:
    ids = Counter(attributes['id'] for _, attributes in Page(example).elements if 'id' in attributes)
    assert set(ids.values()) == {1}
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', example)) <= set(ids)


def test_headings_descend_without_gaps(example: str) -> None:
    levels = [int(tag[1]) for tag, _ in Page(example).elements if tag in ('h1', 'h2', 'h3')]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_figure_ink_takes_the_colour_of_the_text() -> None:
    svg = files.figure_svg(figures.mismatch_figure({'net': gaussian_curve()}, [25]), 'alt')
    assert '#000000' not in svg and '#ffffff' not in svg
    assert 'currentColor' in svg


def embedded(html: str) -> np.ndarray:
    (image,) = Page(html).of('img')
    data = base64.b64decode((image['src'] or '').removeprefix('data:image/png;base64,'))
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize(
    'image',
    [
        random_tensor(1, 9, 13),
        random_tensor(3, 9, 13).requires_grad_(),
        random_tensor(3, 9, 13).bfloat16(),
        torch.full((1, 9, 13), math.nan),
    ],
    ids=['gray', 'colour', 'bfloat16', 'nothing'],
)
def test_embedded_images_have_the_pixels_given_clipped_for_display(image) -> None:
    html = strips({'strip': [Tile(pages.display_pixels(image), 'label')]}, scale=3)
    wanted = image.detach().nan_to_num().float().clamp(0, 1).mul(255).round().movedim(0, -1).numpy()
    np.testing.assert_array_equal(embedded(html), wanted[..., 0] if len(image) == 1 else wanted)
    (attributes,) = Page(html).of('img')
    assert (attributes['width'], attributes['height']) == ('39', '27')


def test_display_leaves_the_image_as_it_was() -> None:
    image = random_tensor(1, 5, 5)
    pages.display_pixels(image)
    assert torch.equal(image, random_tensor(1, 5, 5))


def table_rows(html: str) -> list[list[str]]:
    """Cells as text, bold ones between asterisks."""
    rows = re.findall(r'<tr[^>]*>(.*?)</tr>', html)
    cells = [re.findall(r'<t[hd][^>]*>(.*?)</t[hd]>', row) for row in rows]
    return [[re.sub(r'<[^>]+>', '', re.sub(r'</?strong>', '*', cell)) for cell in row] for row in cells]


def test_table_prints_fixed_decimals_and_the_best_in_bold() -> None:
    columns = [Column('σ', 'g'), Column('a', '.2f', 'row'), Column('b', '.2f', 'row'), Column('gain', '+.2f')]
    rows = [
        (5.0, 30.0, 35.756, 5.756),
        (25, 30.5, 30.43, -0.07),
        (50, 20.001, 20.002, 0.001),
        (75, None, 20.0, None),
        (90, math.nan, math.nan, math.nan),
    ]
    html = table(columns, rows, marked={1: 'training level'})
    assert table_rows(html) == [
        ['σ', 'a', 'b', 'gain'],
        ['5', '30.00', '*35.76*', '+5.76'],
        ['25 training level', '*30.50*', '30.43', '−0.07'],
        ['50', '20.00', '20.00', '+0.00'],  # they read alike
        ['75', '–', '20.00', '–'],  # nothing to compare with
        ['90', '–', '–', '–'],
    ]
    assert len(re.findall('<tr class="marked">', html)) == 1
    assert '<caption><span>caption</span></caption>' in html


def test_table_finds_the_best_of_a_column_whichever_way_is_better() -> None:
    columns = [Column('network'), Column('psnr', '.2f', 'highest'), Column('loss', '.2f', 'lowest')]
    rows = [('identity', 99.0, -99.0), ('a', 30.0, 1.0), ('b', 31.0, -2.0), ('c', 'failed', None), ('d', 31.001, -1.0)]
    html = table(columns, rows, reference=[0])
    assert table_rows(html)[1:] == [
        ['identity', '99.00', '−99.00'],
        ['a', '30.00', '1.00'],
        ['b', '*31.00*', '*−2.00*'],
        ['c', 'failed', '–'],
        ['d', '*31.00*', '−1.00'],  # reads alike
    ]


def test_links_lead_to_sections() -> None:
    html = table([Column('sweep'), Column('n', 'g')], [(link('a & b', 'there'), 1)])
    assert Page(html).problems == []
    assert [each['href'] for each in Page(html).of('a')] == ['#there']
    assert html.count('a &amp; b') == 1


def test_equal_figures_may_stand_in_one_page_under_different_texts() -> None:
    html = ''.join(files.figure_svg(figures.mismatch_figure({'net': gaussian_curve()}), alt) for alt in ('a', 'b'))
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(('tiles', 'columns'), [(4, 4), (5, 5), (6, 3), (8, 4), (10, 5), (11, 4)])
def test_long_strips_break_into_equal_rows(tiles: int, columns: int) -> None:
    html = strips({'strip': [Tile(random_image(3, 3), 'x')] * tiles})
    assert f'--columns: {columns};' in html


def test_table_aligns_numbers_right_and_texts_left() -> None:
    html = table([Column('image'), Column('PSNR', '.2f')], [('camera', 30.0), ('coffee', None)])
    assert html.count('class="number"') == 3  # the header and two cells
    assert '<th scope="row">camera</th>' in html


def test_table_row_of_another_length_is_an_error() -> None:
    with pytest.raises(ValueError, match='zip'):
        pages.table([Column('a', 'g'), Column('b', 'g')], [(1,)])


# -- in a browser ------------------------------------------------------------------------------------------------------


@needs_chromium
def test_page_fits_phones_and_desktops(tmp_path: Path) -> None:
    html = write_example(tmp_path / 'page.html', name='experiment_' + 'x' * 60)
    widths = (320, 390, 1280)
    wanted = {
        'images': '[...d.images].every(image => image.complete && image.naturalWidth > 0)',
        'pixelated': 'w.getComputedStyle(d.images[0]).imageRendering',
    }
    pages = measured(html, widths, wanted, tmp_path)
    assert [each['width'] for each in pages] == list(widths)
    assert [each['content'] for each in pages] == list(widths), 'content is wider than the window'
    assert all(each['images'] and each['pixelated'] == 'pixelated' for each in pages)
