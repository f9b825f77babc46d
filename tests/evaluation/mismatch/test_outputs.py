"""Files of a comparison: numbers as measured, the paper's shape, equal bytes, failures in sight, a page that fits."""

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from browser import measured, needs_chromium
from markupsafe import escape
from PIL import Image

from ne_basicsr.evaluation.mismatch.outputs import figures_of, lead, summary_of, write_comparison, write_outputs
from ne_basicsr.evaluation.mismatch.summaries import Comparison, Crop, Panel, matched_levels, summarize_panel
from ne_basicsr.evaluation.report.tables import write_json
from ne_basicsr.inference.denoiser import Entry
from ne_basicsr.ops.degradations import Degradation
from ne_basicsr.ops.noise import LevelRange
from ne_basicsr.utils.errors import InputError

LEVELS = (5.0, 10.0, 25.0, 50.0)
# made for this test: 'plain' is good at 25 alone, 'even' gains 5 dB at each level
OUTPUT = {
    'identity': {5.0: 34.0, 10.0: 28.0, 25.0: 20.0, 50.0: 14.0},
    'plain': {5.0: 30.0, 10.0: 30.2, 25.0: 30.5, 50.0: 17.0},
    'even': {5.0: 39.0, 10.0: 33.0, 25.0: 25.0, 50.0: 19.0},
}
HOSTILE = '<script>alert("x")</script>'
COMMAND = 'basicsr mismatch plain.pth even.pth --data Set'


def panel(data='Set', degradation=None, output=OUTPUT, defects=True, images=('one', 'two')) -> Panel:
    """Rows whose two images lie 1 dB above and below the mean, so that means are those of ``output``."""
    degradation = degradation or Degradation('gaussian', LEVELS)
    rows = []
    for network, by_level in output.items():
        for number, image in enumerate(images):
            for level, psnr in by_level.items():
                away = (1.0 if number else -1.0) if len(images) == 2 else 0.0
                measured = defects and network != 'identity'
                rows.append(
                    {
                        'network': network, 'data': data, 'image': image, 'degradation': str(degradation),
                        'level': level, 'unit': degradation.unit, 'draw': 0,
                        'psnr_in': output['identity'][level] + away,
                        'psnr_out': psnr + away - 0.7,  # which nothing shows but rows.csv
                        'psnr_clamped': psnr + away + (0.4 if network == 'identity' else 0.0),
                        'psnr_8bit': psnr + away, 'ssim': 0.5 + psnr / 100 + away / 10,
                        'ne_defect': (2e-7 if network == 'even' else 3e-2) * (1 + number) if measured else None,
                    }
                )  # fmt: skip
    crop = Crop(np.arange(24 * 32, dtype=np.uint8).reshape(24, 32), 20.0)
    names = ['noisy', *(name for name in output if name != 'identity')]
    first = degradation.levels[0]
    strips = {first: {**dict.fromkeys(names, crop), 'clean': crop._replace(psnr=None)}}
    return Panel(data, degradation, images, rows, strips, images[0])


def comparison(*panels: Panel, labels=('plain', 'even'), trained=(25.0,), failures=()) -> Comparison:
    entries = [Entry('identity', 'identity')]
    entries += [Entry(label, f'{label}.pth', 'DnCNN, 17 layers', 555137, tuple(trained)) for label in labels]
    return Comparison(entries, list(panels) or [panel()], {'Draws': '1, seed 0'}, list(failures))


def affine(kind: str) -> Panel:
    levels = (0.5, 1.0, 2.0) if kind == 'gain' else (-1.0, 0.0, 1.0)
    output = {
        'identity': dict.fromkeys(levels, 20.0),
        'plain': dict(zip(levels, (25.0, 30.5, 15.0), strict=True)),
        'even': dict.fromkeys(levels, 30.4),
    }
    return panel(degradation=Degradation(kind, levels, 25.0), output=output, defects=kind == 'gain')


def everything(failures=()) -> Comparison:
    """Several data sets, every unit of level, a network that fails on one panel and is missing from another."""
    jpeg = Degradation('jpeg', (10.0, 40.0))
    qualities = {name: {10.0: 28.0 + i, 40.0: 32.0 + i / 2} for i, name in enumerate(('identity', 'plain', 'even'))}
    photons = {name: {10.0: 12.0 + i, 1000.0: 29.0 + i} for i, name in enumerate(('identity', 'plain', 'even'))}
    panels = [
        panel(), affine('gain'), affine('offset'), panel(degradation=jpeg, output=qualities, defects=False),
        panel(degradation=Degradation('poisson_gaussian', (10.0, 1000.0), 2.0), output=photons, defects=False),
        panel('Other', output=OUTPUT | {'plain': OUTPUT['plain'] | {50.0: math.nan}}, defects=False),
        panel('Other', jpeg, {name: qualities[name] for name in ('identity', 'plain')}, defects=False),
    ]  # fmt: skip
    return comparison(*panels, failures=failures or ['broken.png: cannot be read'])


def write(folder: Path, of: Comparison | None = None) -> str:
    path = write_outputs(of or comparison(), folder, COMMAND)
    assert path == folder / 'report.html'
    return path.read_text(encoding='utf-8')


def page(folder: Path, of: Comparison | None = None) -> str:
    """The page alone, without figures, which take most of the time."""
    of = of or comparison()
    summaries = [summarize_panel(each, of.entries) for each in of.panels]
    write_comparison(folder / 'report.html', of, summaries, [{} for _ in of.panels], COMMAND)
    return (folder / 'report.html').read_text(encoding='utf-8')


def text_of(html: str) -> str:
    return re.sub(r'\s+', ' ', re.sub(r'<style>.*?</style>|<[^>]+>', ' ', html, flags=re.DOTALL)).replace('\u00a0', ' ')


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('whole') / 'new'
    with pytest.MonkeyPatch.context() as patch:  # files of figures have a test of their own
        patch.setattr('ne_basicsr.evaluation.mismatch.outputs.save_figures', lambda *_: None)
        write(folder, everything())
    return folder


# -- numbers -----------------------------------------------------------------------------------------------------------


def summary(of: Comparison, number: int = 0, network: str = 'plain'):
    return summarize_panel(of.panels[number], of.entries).networks[network]


def test_summary_of_a_network_is_read_off_its_curve():
    found = summary(comparison())
    assert found.mean_psnr == pytest.approx((30.0 + 30.2 + 30.5 + 17.0) / 4)
    assert (found.worst_loss, found.worst_loss_level) == (pytest.approx(4.0), 5.0)
    assert (found.matched_level, found.matched_psnr) == (25.0, pytest.approx(30.5))
    assert found.drop == pytest.approx(13.5)
    assert found.mean_ssim == pytest.approx(0.5 + (30.0 + 30.2 + 30.5 + 17.0) / 400)
    assert found.worst_defect == 6e-2  # of all cells, not of the means
    identity = summary(comparison(), network='identity')  # whose input is not clamped
    assert (identity.mean_psnr, identity.worst_loss) == (pytest.approx((34 + 28 + 20 + 14) / 4), 0)
    gains = summary(comparison(), network='even')
    assert gains.worst_loss == pytest.approx(-5.0)


def test_matched_level_is_that_of_the_training_or_what_changes_nothing():
    gaussian = Degradation('gaussian', LEVELS)
    assert matched_levels(gaussian, LEVELS, [25.000001]) == [25.0]
    assert matched_levels(gaussian, LEVELS, [30.0]) == []
    assert matched_levels(gaussian, LEVELS, [10.0, 50.0]) == [10.0, 50.0]
    assert matched_levels(Degradation('jpeg', (10.0, 25.0)), (10.0, 25.0), [25.0]) == []
    assert matched_levels(Degradation('gain', (1.0, 2.0), 25), (1.0, 2.0), [2.0]) == [1.0]
    assert matched_levels(Degradation('offset', (-1.0, 0.0), 25), (-1.0, 0.0), []) == [0.0]
    assert summary(comparison(trained=(10.0, 50.0))).matched_level == 50.0
    assert summary(comparison(trained=())).drop is None


def test_a_network_that_returns_nan_has_failed_and_the_others_keep_their_numbers():
    for bad in (math.nan, -math.inf):
        broken = OUTPUT | {'plain': OUTPUT['plain'] | {50.0: bad}}
        found = summary(comparison(panel(output=broken)))
        assert math.isnan(found.mean_psnr) and math.isnan(found.worst_loss) and math.isnan(found.drop)
        assert summary(comparison(panel(output=broken)), network='even') == summary(comparison(), network='even')


def test_noise_of_level_zero_takes_no_part_in_the_worst_loss():
    output = {name: {0.0: math.inf if name == 'identity' else 40.0, **levels} for name, levels in OUTPUT.items()}
    found = summary(
        comparison(panel(degradation=Degradation('gaussian', (0.0, *LEVELS)), output=output, images=('one',)))
    )
    assert (found.worst_loss, found.worst_loss_level) == (pytest.approx(4.0), 5.0)


# -- CSV and JSON ------------------------------------------------------------------------------------------------------


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def test_rows_of_all_panels_are_in_one_file(whole: Path):
    rows = read(whole / 'rows.csv')
    assert len(rows) == sum(len(each.rows) for each in everything().panels)
    assert {(row['data'], row['degradation']) for row in rows} == {
        ('Set', 'gaussian'), ('Set', 'gain@25'), ('Set', 'offset@25'), ('Set', 'jpeg'), ('Set', 'poisson_gaussian@2'),
        ('Other', 'gaussian'), ('Other', 'jpeg'),
    }  # fmt: skip


def test_curves_of_noise_have_the_papers_columns(whole: Path):
    path = whole / 'curves' / 'Set_gaussian.csv'
    assert path.read_text().splitlines()[:2] == [
        'sigma_8bit,sigma,input_psnr_db,is_train_sigma,plain,even',
        '5.0,0.01960784,34.0,False,30.0,39.0',
    ]
    assert [row['is_train_sigma'] for row in read(path)] == ['False', 'False', 'True', 'False']
    for row in read(path):
        assert float(row['even']) == OUTPUT['even'][float(row['sigma_8bit'])]


def test_curves_have_the_header_of_the_published_ones(shared: Path, whole: Path):
    published = (shared / 'paper/curves/Set12/dncnn_sigma25_psnr.csv').read_text().splitlines()
    own = (whole / 'curves' / 'Set_gaussian.csv').read_text().splitlines()
    assert published[0].split(',')[:4] == own[0].split(',')[:4]
    assert published[1].split(',')[:2] == own[1].split(',')[:2]


def test_curves_of_other_degradations_say_what_their_levels_are(whole: Path):
    headers = {path.stem: path.read_text().splitlines()[0] for path in (whole / 'curves').iterdir()}
    assert headers['Set_jpeg'] == 'quality_factor,input_psnr_db,plain,even'
    assert headers['Set_poisson_gaussian@2'] == 'photons,input_psnr_db,plain,even'
    assert headers['Set_gain@25'] == 'gain,input_psnr_db,plain,even'
    assert headers['Set_offset@25'] == 'offset,input_psnr_db,plain,even'
    assert headers['Other_jpeg'] == 'quality_factor,input_psnr_db,plain'  # the other was not measured there
    assert read(whole / 'curves' / 'Other_gaussian.csv')[3]['plain'] == ''  # NaN


def test_summary_json_is_strict_and_complete(whole: Path, tmp_path: Path):
    def refuse(name: str) -> None:
        raise AssertionError(name)

    read_back = json.loads((whole / 'summary.json').read_text(encoding='utf-8'), parse_constant=refuse)
    of = everything()
    found = summary_of(of, [summarize_panel(each, of.entries) for each in of.panels])
    write_json(tmp_path / 'again.json', found)
    assert read_back == json.loads((tmp_path / 'again.json').read_text(encoding='utf-8'))
    assert read_back['settings'] == of.settings and read_back['failures'] == of.failures
    assert [entry['label'] for entry in read_back['entries']] == ['identity', 'plain', 'even']
    networks = read_back['panels'][0]['networks']
    assert networks['plain']['worst_loss'] == 4 and networks['plain']['worst_loss_level'] == 5
    assert networks['even']['worst_defect'] == 4e-7
    failed = read_back['panels'][5]['networks']['plain']
    assert failed['mean_psnr'] is None and failed['drop'] is None


def test_equal_comparisons_give_equal_bytes(tmp_path: Path):
    of = comparison(panel(defects=False))
    write(tmp_path / 'a', of)
    write(tmp_path / 'b', of._replace(panels=[panel(defects=False)]))
    files = {path.relative_to(tmp_path / 'a').as_posix() for path in (tmp_path / 'a').rglob('*') if path.is_file()}
    # what was not measured, the defect, is not drawn
    figures = {f'figures/Set_gaussian_{what}.{suffix}' for what in ('psnr', 'ssim') for suffix in ('png', 'pdf')}
    assert files == {'rows.csv', 'summary.json', 'report.html', 'curves/Set_gaussian.csv'} | figures
    for file in files:
        assert (tmp_path / 'a' / file).read_bytes() == (tmp_path / 'b' / file).read_bytes(), file
    with Image.open(tmp_path / 'a/figures/Set_gaussian_ssim.png') as image:
        assert image.width == round(3.4 * 200)


def test_names_that_files_cannot_have_are_made_into_some_that_they_can(tmp_path: Path, monkeypatch):
    monkeypatch.setattr('ne_basicsr.evaluation.mismatch.outputs.figures_of', lambda *_: {})
    write(tmp_path, comparison(*(panel(data) for data in ('a/b: c', 'a b c', 'A-B-C', 'Set12'))))
    assert {path.name for path in (tmp_path / 'curves').iterdir()} == {
        'a-b-c_gaussian.csv', 'a-b-c_gaussian-2.csv', 'A-B-C_gaussian-3.csv', 'Set12_gaussian.csv',
    }  # fmt: skip


def test_figures_that_are_no_longer_drawn_do_not_stay(tmp_path: Path, monkeypatch):
    monkeypatch.setattr('ne_basicsr.evaluation.report.files.save_figure', lambda _, path: path.touch())
    monkeypatch.setattr('ne_basicsr.evaluation.mismatch.outputs.write_comparison', lambda *_: None)
    other = tmp_path / 'figures' / 'Other_gaussian_defect.png'  # of a data set that this comparison does not have
    other.parent.mkdir()
    other.touch()
    for drawn in (['psnr', 'ssim', 'defect'], ['psnr', 'ssim']):
        monkeypatch.setattr(
            'ne_basicsr.evaluation.mismatch.outputs.figures_of', lambda *_, drawn=drawn: dict.fromkeys(drawn)
        )
        write_outputs(comparison(), tmp_path, COMMAND)
        names = {path.name for path in (tmp_path / 'figures').iterdir()}
        assert names == {f'Set_gaussian_{what}.{suffix}' for what in drawn for suffix in ('png', 'pdf')} | {other.name}


def test_nothing_measured_is_said_and_written(tmp_path: Path):
    empty = panel()._replace(rows=[], images=(), strips={})
    html = write(tmp_path, comparison(empty, failures=['Set: no image could be read']))
    assert 'No network could be measured' in html and 'Set: no image could be read' in html
    assert (tmp_path / 'rows.csv').read_text().startswith('network,data,image,')
    assert not (tmp_path / 'figures').exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match=r'cannot be written .*give another folder') as error:
        write(tmp_path / 'file' / 'results')
    assert '\n' not in str(error.value)


# -- figures -----------------------------------------------------------------------------------------------------------


def network_lines(figure) -> dict[str, object]:
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    lines = [line for line in figure.axes[0].get_lines() if line.get_marker() != 'None']
    return dict(zip(names, lines, strict=False))  # networks come first


def test_a_network_looks_the_same_in_all_figures_though_others_are_missing():
    of = everything()
    first, gain = of.panels[0], of.panels[1]
    without = gain._replace(rows=[row for row in gain.rows if row['network'] != 'plain'])
    reference, *others = (
        network_lines(figure)
        for each in (first, without)
        for figure in figures_of(summarize_panel(each, of.entries)).values()
    )
    assert set(reference) >= {'plain', 'even'} and len(others) == 5
    assert look(reference['plain']) != look(reference['even'])
    assert {look(each['even']) for each in others} == {look(reference['even'])}
    assert ['plain' in each for each in others] == [True, True, False, False, False]


def look(line) -> tuple:
    return line.get_color(), line.get_marker(), line.get_linestyle()


# -- words -------------------------------------------------------------------------------------------------------------


def lead_of(*panels: Panel, **options) -> str:
    of = comparison(*panels, **options)
    return lead([summarize_panel(each, of.entries) for each in of.panels]).replace('\u00a0', ' ')


def test_the_lead_names_the_best_and_who_loses_with_their_numbers():
    assert lead_of() == (
        'even has the best mean PSNR of 29.00 dB over 4 levels. The largest loss against the noisy image is 4.00 dB,'
        ' of plain (Set, Gaussian noise, σ = 5).'
    )
    largest = 'The largest loss against the noisy image is 5.00 dB, of plain (Set, gain at σ = 25, a = 2).'
    for panels in ((panel(), affine('gain')), (affine('gain'), panel())):
        assert lead_of(*panels) == f'even has the best mean PSNR of 2 networks in 2 of 2 sweeps. {largest}'


def test_the_lead_follows_the_numbers_and_not_the_names():
    swapped = OUTPUT | {'plain': OUTPUT['even'], 'even': OUTPUT['plain']}
    assert lead_of(panel(output=swapped)).startswith('plain has the best mean')
    third = OUTPUT | {'worse': OUTPUT['plain'] | {5.0: 29.5, 50.0: 18.0}}
    assert '4.50 dB, of worse (' in lead_of(panel(output=third), labels=('plain', 'even', 'worse'))
    both_gain = OUTPUT | {'plain': {level: psnr + 1 for level, psnr in OUTPUT['identity'].items()}}
    assert lead_of(panel(output=both_gain)).endswith('Every network gains at every level, 1.00 dB or more.')


def test_the_lead_claims_nothing_about_what_failed():
    of = everything()
    assert 'plain' not in lead_of(of.panels[5])
    assert 'even' not in lead_of(of.panels[6])
    one = panel(output={name: OUTPUT[name] for name in ('identity', 'even')})
    assert lead_of(one, labels=('even',)).startswith('even has a mean PSNR of 29.00 dB')
    assert lead_of(one, one, labels=('even',)).startswith('even was tested in 2 sweeps.')


# -- the page ----------------------------------------------------------------------------------------------------------


def test_page_holds_numbers_entries_protocol_and_command(tmp_path: Path):
    text = text_of(page(tmp_path, comparison(failures=['broken.png: cannot be read'])))
    for expected in (
        'even has the best mean PSNR', 'even.pth · DnCNN, 17 layers · 555,137 parameters · trained at σ = 25',
        'Draws 1, seed 0', COMMAND, 'Not everything could be measured broken.png: cannot be read',
        '2 images, 4 levels, 1 noise draw', 'A crop of one', '20.00 dB', 'training level',
    ):  # fmt: skip
        assert expected in text, expected
    for value in OUTPUT['plain'].values():
        assert f'{value:.2f}' in text


def table_rows(html: str) -> dict[str, list[str]]:
    """The summary table of the first panel: label to cells, bold ones between asterisks."""
    table = re.search(r'<table>.*?worst loss.*?</table>', html, re.DOTALL)
    assert table
    rows = re.findall(r'<tr[^>]*><th scope="row">(.*?)</th>(.*?)</tr>', table[0])
    return {label: re.findall(r'<td[^>]*>(.*?)</td>', re.sub('</?strong>', '*', cells)) for label, cells in rows}


def test_summary_table_has_the_best_in_bold_whichever_way_is_better(tmp_path: Path):
    rows = table_rows(page(tmp_path))
    assert rows['plain'][:2] == ['26.93', '4.00']
    assert rows['even'][:2] == ['*29.00*', '*−5.00*']
    assert rows['plain'][3:5] == ['*30.50*', '13.50'] and rows['even'][3:5] == ['25.00', '*6.00*']
    assert not any('*' in cell for cell in rows['identity'])


def test_a_network_trained_on_a_range_has_a_number_at_the_level_of_the_others(tmp_path: Path):
    of = comparison()
    entries = [
        entry._replace(training_levels255=LevelRange(0, 20)) if entry.label == 'even' else entry for entry in of.entries
    ]
    of = of._replace(entries=entries)
    html = page(tmp_path, of)
    assert 'at σ = 25' in html and text_of(html).count('even 29.00 −5.00 σ = 5 25.00 –') == 1  # no drop: many levels
    assert 'trained at σ = 0 to 20' in html
    summary = summarize_panel(of.panels[0], of.entries)
    assert summary.trained == [25.0, LevelRange(0, 20)]
    assert matched_levels(of.panels[0].degradation, LEVELS, summary.trained) == [5.0, 10.0, 25.0]
    assert matched_levels(of.panels[0].degradation, LEVELS, (0.0, 20.0)) == []  # two levels


def test_failed_networks_are_shown_as_failed(whole: Path):
    html = (whole / 'report.html').read_text(encoding='utf-8')
    section = html[html.index('id="panel-6"') : html.index('id="panel-7"')]
    assert table_rows(section)['plain'][0] == 'failed'
    assert table_rows(html[html.index('id="panel-7"') :])['even'][0] == 'failed'
    assert 'failed' not in html[html.index('id="panel-1"') : html.index('id="panel-2"')]


def test_every_panel_can_be_reached_and_needs_nothing_else(whole: Path):
    html = (whole / 'report.html').read_text(encoding='utf-8')
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    nav = re.search('<nav.*?</nav>', html, re.DOTALL)
    assert nav
    targets = re.findall('href="#([^"]+)"', nav[0])
    assert {f'panel-{i + 1}' for i in range(7)} | {'overview', 'networks', 'protocol'} == set(targets) <= set(ids)
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', html)) <= set(ids)
    assert '<script' not in html and '://' not in html


def test_names_are_text_whatever_they_are(tmp_path: Path):
    output = {'identity': OUTPUT['identity'], HOSTILE: OUTPUT['plain'], 'σ': OUTPUT['even'], 'network': OUTPUT['even']}
    of = comparison(panel(HOSTILE, output=output), labels=tuple(output)[1:], failures=[HOSTILE])
    html = page(tmp_path, of._replace(settings={HOSTILE: HOSTILE}))
    assert '<script' not in html
    assert html.count(escape(HOSTILE)) > 10


@needs_chromium
def test_page_fits_phones_and_desktops(whole: Path, tmp_path: Path):
    widths = (320, 390, 1280)
    wanted = {
        'images': '[...d.images].every(image => image.complete && image.naturalWidth > 0)',
        'figures': "[...d.querySelectorAll('figure > svg')].map(svg => svg.getBoundingClientRect().width)",
        'anchors': "[...d.querySelectorAll('nav a')].every(a => d.querySelector(a.getAttribute('href')))",
        'names': "w.getComputedStyle(d.querySelector('.broad th[scope=row]')).position",
        'moved': "[...d.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth).map(e => "
        '[w.getComputedStyle(e).overflowX, w.getComputedStyle(e).backgroundAttachment])',
        'text': "Math.min(...[...d.querySelectorAll('td, dd, p, figcaption')]"
        '.map(e => parseFloat(w.getComputedStyle(e).fontSize)))',
    }
    pages = measured((whole / 'report.html').read_text(encoding='utf-8'), widths, wanted, tmp_path)
    assert [each['width'] for each in pages] == list(widths)
    assert [each['content'] for each in pages] == list(widths), 'content is wider than the window'
    assert [each['names'] for each in pages] == ['sticky', 'sticky', 'static']
    assert pages[0]['moved'] and not pages[-1]['moved']  # what is cut can be moved, and a shadow shows it
    assert all(each == ['auto', 'local, local, scroll, scroll'] for page in pages for each in page['moved'])
    for each, width in zip(pages, widths, strict=True):
        assert each['images'] and each['anchors'] and each['text'] >= 13
        assert len(each['figures']) == 2 * len(everything().panels) + 2
        assert max(each['figures']) <= width and min(each['figures']) > 0.8 * min(width, 600)
