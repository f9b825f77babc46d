"""The documentation builds without a warning, its links lead somewhere, and what it tells to type works."""

import ast
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import cv2
import pytest
import torch
import yaml
from conftest import REPOSITORY, smooth_photograph

import ne_basicsr
from ne_basicsr.cli.main import _parser, main
from ne_basicsr.options import load_options

DOCS = REPOSITORY / 'docs'
SOURCES = [*sorted(DOCS.glob('*.md')), *sorted(DOCS.glob('guides/*.md')), *sorted(DOCS.glob('api/*.md'))]
TEXTS = [
    *SOURCES,
    *(REPOSITORY / name for name in ('README.md', 'CONTRIBUTING.md', 'options/README.md', 'datasets/README.md')),
]
EXAMPLES = {
    'unshuffle_cnn_arch.py': 'ne_basicsr/archs',
    'test_unshuffle_cnn_arch.py': 'tests/archs',
    'unshuffle_cnn_wne.yml': 'options',
}


class Page(HTMLParser):
    """What other pages can link to, what this one links to, and what it shows as code."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.codes: set[str] = set()
        self._code: list[str] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == 'id' and value:
                self.anchors.add(value)
            elif name in ('href', 'src') and value:
                self.links.append(value)
        if tag == 'code':
            self._code = []

    def handle_endtag(self, tag: str) -> None:
        if tag == 'code' and self._code is not None:
            self.codes.add(''.join(self._code))
            self._code = None

    def handle_data(self, data: str) -> None:
        if self._code is not None:
            self._code.append(data)


def read_pages(folder: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding='utf-8')) for path in sorted(folder.rglob('*.html'))}


def dead_links(pages: Mapping[Path, Page]) -> list[str]:
    """Links inside the site that lead nowhere; and whatever would have to come from the network to show a page."""
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.is_file() or (target in pages and anchor and anchor not in pages[target].anchors):
                dead.append(f'{path.name}: {link}')
    return dead


def absent(names: Iterable[str], pages: Mapping[Path, Page]) -> list[str]:
    """Names that no page shows as code."""
    shown = set().union(*(page.codes for page in pages.values()))
    return [name for name in names if name not in shown]


def own_archs() -> list[str]:
    import basicsr  # noqa: F401 - fills the registry
    from basicsr.utils.registry import ARCH_REGISTRY

    return [name for name, arch in ARCH_REGISTRY if arch.__module__.startswith('ne_basicsr.archs.')]


@pytest.fixture(scope='module')
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    """The pages of the site, built from a copy, which also holds what the pages include."""
    for name in ('sphinx', 'furo', 'myst_parser', 'sphinx_copybutton'):
        pytest.importorskip(name, reason="needs Sphinx and its theme: pip install -e '.[docs]'")
    copy, site = tmp_path_factory.mktemp('clone'), tmp_path_factory.mktemp('site').resolve()
    for name in ('docs', 'options', 'scripts'):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns('_build', '_generated'))
    (copy / 'datasets').mkdir()
    for name in ('README.md', 'datasets/README.md'):
        shutil.copy(REPOSITORY / name, copy / name)
    command = [sys.executable, '-m', 'sphinx', '-W', '--keep-going', '-q', '-b', 'html', copy / 'docs', site]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return read_pages(site)


def test_links_inside_the_site_lead_somewhere(pages: dict[Path, Page]) -> None:
    assert sum(len(page.links) for page in pages.values()) > 100
    assert dead_links(pages) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / 'a.html').write_text(
        '<p id="here"><a href="b.html#there">b</a> <a href="#here">up</a> <img src="c.png">'
    )
    (tmp_path / 'b.html').write_text(
        '<p id="elsewhere"><a href="a.html#here">a</a> <a href="https://example.org/x">x</a>'
    )
    assert dead_links(read_pages(tmp_path.resolve())) == ['a.html: b.html#there', 'a.html: c.png']


def test_nothing_on_a_page_comes_from_the_network(pages: dict[Path, Page]) -> None:
    for path in pages:
        html = path.read_text(encoding='utf-8')
        assert not re.findall(r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//', html), path.name
        assert not re.findall(r'<link[^>]+rel="stylesheet"[^>]+href="(?:https?:)?//', html), path.name


def test_every_command_and_every_network_is_on_a_page(pages: dict[Path, Page]) -> None:
    (commands,) = (page for path, page in pages.items() if path.name == 'commands.html')
    names = list(_parser()._subparsers._group_actions[0].choices)  # type: ignore[union-attr]
    assert {'train', 'test', 'mismatch', 'denoise'} <= set(names)
    assert [name for name in names if f'basicsr-{name}' not in commands.anchors] == []
    archs = own_archs()
    assert {'WNE', 'ZeroShot', 'DnCNN', 'DnCNNWNE', 'SwinIRWNE'} <= set(archs)
    assert absent([*names, *archs], pages) == []


def test_a_network_that_is_on_no_page_is_missed(pages: dict[Path, Page]) -> None:
    from basicsr.utils.registry import ARCH_REGISTRY

    class NowhereDescribed(torch.nn.Module):
        def forward(self, y: torch.Tensor) -> torch.Tensor:
            return y

    NowhereDescribed.__module__ = 'ne_basicsr.archs.nowhere_described_arch'
    try:
        ARCH_REGISTRY.register(NowhereDescribed)
        assert absent(own_archs(), pages) == ['NowhereDescribed', 'NowhereDescribedWNE']
    finally:
        for name in ('NowhereDescribed', 'NowhereDescribedWNE'):
            ARCH_REGISTRY._obj_map.pop(name, None)


def test_every_page_can_be_reached_from_the_first(pages: dict[Path, Page]) -> None:
    first = min(pages, key=lambda path: len(path.parts)).with_name('index.html')
    seen, waiting = {first}, [first]
    while waiting:
        path = waiting.pop()
        targets = {(path.parent / unquote(urlsplit(link).path)).resolve() for link in pages[path].links}
        new = (targets & pages.keys()) - seen
        seen |= new
        waiting += new
    sources = first.parent / '_modules' / 'index.html'  # Sphinx writes it and links to it from sources alone
    assert pages.keys() - seen <= {sources}


# -- what pages tell to type -------------------------------------------------------------------------------------------


def blocks(text: str, language: str = '') -> list[str]:
    """Fenced blocks of a Markdown text in one language, directives left out; all but those where none is given."""
    found = re.findall(r'^```([^\n]*)\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)
    return [body for name, body in found if name == language or (not language and not name.startswith('{'))]


def commands_in(text: str) -> list[list[str]]:
    """What ``basicsr`` is called with, in blocks of a text: the words after it."""
    lines = '\n'.join(blocks(text)).replace('\\\n', ' ').splitlines()
    started = [re.split(r'^basicsr |^(?:torchrun|srun) .*-m ne_basicsr ', line, maxsplit=1) for line in lines]
    return [shlex.split(parts[1], comments=True) for parts in started if len(parts) == 2]


def test_every_command_on_a_page_is_one_that_the_program_takes() -> None:
    count = 0
    for path in TEXTS:
        for words in commands_in(path.read_text(encoding='utf-8')):
            try:
                _parser().parse_args(words)
            except SystemExit:
                pytest.fail(f'{path.relative_to(REPOSITORY)}: basicsr {shlex.join(words)}')
            count += 1
    assert count > 40


def test_links_of_the_files_beside_the_readme_lead_somewhere() -> None:
    for name in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md'):
        links = re.findall(r'\]\(([^)#]+)', (REPOSITORY / name).read_text(encoding='utf-8'))
        assert [link for link in links if '://' not in link and not (REPOSITORY / link).exists()] == [], name
    citation = yaml.safe_load((REPOSITORY / 'CITATION.cff').read_text(encoding='utf-8'))
    assert citation['version'] == ne_basicsr.__version__ and citation['preferred-citation']['year'] == 2026
    readme = (REPOSITORY / 'README.md').read_text(encoding='utf-8')
    assert len(blocks(readme, 'sh')) == 2 and 'basicsr quickstart' in blocks(readme, 'sh')[0]  # .ci/run takes them


def test_a_formula_on_the_first_page_is_one(pages: dict[Path, Page]) -> None:
    first = next(path for path in pages if path.name == 'index.html' and path.parent.name.startswith('site'))
    html = first.read_text(encoding='utf-8')
    assert html.count('<math') >= 2 and '<mfrac>' in html and '$$' not in html
    assert 'report.png' in html and 'keep working when noise level' in html


def test_a_command_that_the_program_does_not_take_is_found() -> None:
    text = '```sh\nbasicsr denoise net.pth photos \\\n  --outpt denoised  # no such flag\n```\n'
    (words,) = commands_in(text)
    assert words == ['denoise', 'net.pth', 'photos', '--outpt', 'denoised']
    with pytest.raises(SystemExit):
        _parser().parse_args(words)


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: path.stem)
def test_python_on_pages_imports_what_is_there(path: Path) -> None:
    for block in blocks(path.read_text(encoding='utf-8'), 'python'):
        for node in ast.walk(ast.parse(block)):
            if (
                isinstance(node, ast.ImportFrom)
                and node.module
                and node.module.split('.')[0] in ('ne_basicsr', 'basicsr')
            ):
                module = importlib.import_module(node.module)
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_python_on_the_page_of_public_names_runs(workplace: Path) -> None:
    text = (DOCS / 'api' / 'python.md').read_text(encoding='utf-8')
    code = '\n'.join(blocks(text, 'python'))
    assert [name for name in ne_basicsr.__all__ if not re.search(rf'\bne_basicsr\.{name}\b', code)] == []
    names: dict[str, Any] = {}
    exec(compile(code, 'docs/api/python.md', 'exec'), names)
    names['test_my_network_is_equivariant']()
    assert 'phase' not in names['images'] and names['options'].keys().isdisjoint({'dist', 'path'})  # as they were
    first, second = (
        ne_basicsr.load(f'experiments/{name}/models/net_g_latest.pth').state_dict()
        for name in ('from_a_dict', 'finetuned')
    )
    weights = [key for key in first if first[key].is_floating_point() and 'running' not in key]  # seeds are random here
    moved = max(float((first[key] - second[key]).abs().max()) for key in weights)
    assert 0 < moved < 0.01  # it went on from there: two steps of 0.001
    assert not names['verdict'].passed and names['restored'].shape == names['noisy'].shape


def test_the_notebook_runs(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notebook = json.loads((DOCS / 'examples' / 'denoise_and_compare.ipynb').read_text(encoding='utf-8'))
    names: dict[str, Any] = {}
    for number, cell in enumerate(notebook['cells']):
        if cell['cell_type'] == 'code':
            exec(compile(''.join(cell['source']), f'cell {number}', 'exec'), names)
            assert not cell['outputs'], 'outputs are not versioned'
    assert abs(names['difference']).max() < 1e-5
    gray, blur = names['curves']['gray'], names['curves']['blur']
    assert all(ours > theirs for ours, theirs in zip(gray.psnr_out, blur.psnr_out, strict=True))
    assert 'gray [' in capsys.readouterr().out and len(names['figure'].axes) == 1


def test_the_network_of_the_guide_works_where_the_guide_says(tmp_path: Path) -> None:
    for name in ('ne_basicsr', 'options'):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns('__pycache__'))
    guide = (DOCS / 'guides' / 'new_network.md').read_text(encoding='utf-8')
    for name, folder in EXAMPLES.items():
        assert f'`{folder}/{name}`' in guide
        assert f'../examples/{name}' in guide
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(DOCS / 'examples' / name, tmp_path / folder / name)
    shutil.copy(REPOSITORY / 'tests' / 'conftest.py', tmp_path / 'tests')
    typed = [words for words in commands_in(guide) if words[0] in ('options', 'check')]
    assert [words[0] for words in typed] == ['options', 'check', 'check', 'options', 'check']
    (own,) = (block for block in blocks(guide, 'python') if 'class TinyNet' in block)
    (tmp_path / 'my_networks.py').write_text(own)
    small = ', num_feat: 8, num_layers: 4}'
    typed = [
        ['check', words[1].replace('}', small), *words[2:], '--dtype', 'float64'] if words[0] == 'check' else words
        for words in typed
    ]
    code = (
        'import pytest, sys, ne_basicsr\n'
        'assert ne_basicsr.__file__.startswith(sys.argv[1])\n'
        'from ne_basicsr.cli.main import main\n'
        f'codes = [main(words) for words in {typed}]\n'
        'assert codes == [0, 0, 1, 0, 0], codes\n'
        'assert "UnshuffleCNNWNE" in open("options/schema.json").read()\n'
        'sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "tests/archs/test_unshuffle_cnn_arch.py"]))\n'
    )
    result = subprocess.run(
        [sys.executable, '-c', code, str(tmp_path)],
        cwd=tmp_path, env=os.environ | {'PYTHONPATH': str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert 'num_feat: 64' in result.stdout


def test_the_tutorial_runs_as_it_stands(workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    (workplace / 'options').symlink_to(REPOSITORY / 'options')
    for folder, count in (('train', 3), ('test', 1)):
        (workplace / 'photos' / folder).mkdir(parents=True)
        for index in range(count):
            cv2.imwrite(str(workplace / 'photos' / folder / f'{index}.png'), smooth_photograph(44, 48, index))
    tutorial = (DOCS / 'tutorial.md').read_text(encoding='utf-8')
    for name in ('my_dncnn_wne.yml', 'my_dncnn.yml'):
        assert f'examples/{name}' in tutorial
        shutil.copy(DOCS / 'examples' / name, workplace)
    kinds = {'prepare', 'options', 'train', 'test', 'check', 'denoise', 'export'}
    typed = [words for words in commands_in(tutorial) if words[0] in kinds]
    assert {words[0] for words in typed} == kinds
    small = [
        'network_g:num_layers=2', 'network_g:num_feat=4', 'train:total_iter=2', 'val:val_freq=2', 'val:save_best=psnr',
        'datasets:val:sigma_test=25', 'datasets:train:num_worker_per_gpu=0', 'datasets:train:batch_size_per_gpu=2',
        'logger:use_tb_logger=false', 'num_gpu=0',
    ]  # fmt: skip
    for words in typed:
        if any(word.endswith(('.onnx', '.pt2')) for word in words):  # tests/exporting has them
            continue
        more = small if words[0] in ('train', 'test') else []
        further = more if '--force_yml' in words else ['--force_yml', *more] if more else []
        expected = 1 if words[0] == 'check' and '/my_dncnn/' in words[1] else 0
        assert main([*words, *further]) == expected, shlex.join(words)
    networks = [
        workplace / 'experiments' / name / 'models' / 'net_g_latest.pth' for name in ('my_dncnn', 'my_dncnn_wne')
    ]
    assert all(path.is_file() for path in networks)


def test_the_two_networks_of_the_tutorial_differ_in_the_wrapper_alone(workplace: Path) -> None:
    (workplace / 'options').symlink_to(REPOSITORY / 'options')
    for folder in ('photos/test', 'datasets/photos.raw'):
        (workplace / folder).mkdir(parents=True)
    cv2.imwrite('photos/test/0.png', smooth_photograph(44, 48, 0))
    shutil.copytree(DOCS / 'examples', workplace, dirs_exist_ok=True)
    (workplace / 'photos' / 'train').mkdir()
    cv2.imwrite('photos/train/0.png', smooth_photograph(44, 48, 0))
    shutil.rmtree('datasets/photos.raw')
    assert main(['prepare', 'photos/train', '-o', 'datasets/photos.raw', '--in_ch', '1']) == 0
    plain, wrapped = (load_options(f'{name}.yml', is_train=True) for name in ('my_dncnn', 'my_dncnn_wne'))
    assert plain['network_g'].pop('type') + 'WNE' == wrapped['network_g'].pop('type')
    assert wrapped['network_g'].items() >= plain['network_g'].items()
    assert {key for key in wrapped if wrapped[key] != plain.get(key)} == {'name', 'network_g', 'path'}
