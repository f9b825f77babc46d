"""Sphinx: `sphinx-build -W --keep-going -b html docs docs/_build/html`, without network."""

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import written_pages  # noqa: E402 - beside this file
from docutils.nodes import SkipNode  # noqa: E402
from docutils.utils.math.latex2mathml import tex2mathml  # noqa: E402

import ne_basicsr  # noqa: E402

project = 'ne_basicsr'
author = 'the authors of ne_basicsr'
release = version = ne_basicsr.__version__
language = 'en'

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode', 'sphinx_copybutton']
exclude_patterns = ['_build', 'examples']
nitpicky = True  # every reference between pages has to resolve ...
nitpick_ignore_regex = [('py:.*', '.*')]  # ... but for types of torch and others, whose pages would need the network
highlight_language = 'none'  # formulas and shell lines without a language
myst_heading_anchors = 3
myst_enable_extensions = ['colon_fence', 'dollarmath']

autodoc_member_order = 'bysource'
autodoc_typehints_format = 'short'
autodoc_inherit_docstrings = False  # torch's of forward says nothing about a network
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = 'hide'

html_theme = 'furo'
html_title = f'ne_basicsr {release}'
html_static_path = ['_static']
html_css_files = ['custom.css']
html_domain_indices = False
html_copy_source = html_show_sourcelink = False
html_show_copyright = html_show_sphinx = False
pygments_style, pygments_dark_style = 'friendly', 'github-dark'
sidebar = {
    'color-sidebar-link-text': 'var(--color-foreground-secondary)',
    'color-sidebar-link-text--top-level': 'var(--color-foreground-secondary)',
}
html_theme_options = {
    'light_css_variables': {'color-brand-primary': '#b04a00', 'color-brand-content': '#0069a6', **sidebar},
    'dark_css_variables': {'color-brand-primary': '#f0935a', 'color-brand-content': '#5db1ea', **sidebar},
}
copybutton_selector = 'div:not(.highlight-text) > div.highlight > pre'  # not what programs print

html_math_renderer = 'mathml'  # which browsers draw themselves; MathJax would come from the network

SECTION = re.compile(r'(Args|Attributes|Raises|Returns|Yields).*:$')


def setup(app: Any) -> None:
    written_pages.write_pages(HERE / '_generated')
    app.connect('autodoc-process-docstring', as_restructured_text, priority=100)  # before napoleon
    app.connect('autodoc-skip-member', skip_fields)
    app.add_html_math_renderer('mathml', (draw_formula, None), (draw_block, None))


def draw_formula(translator: Any, node: Any) -> None:
    translator.body.append(tex2mathml(node.astext()))
    raise SkipNode


def draw_block(translator: Any, node: Any) -> None:
    formula = tex2mathml(node.astext()).replace('<math ', '<math display="block" ', 1)
    translator.body.append(f'<div class="math">{formula}</div>')
    raise SkipNode


def as_restructured_text(app: Any, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    """Show indented formulas in docstrings literally, and escape bars, which are norms and not substitutions."""
    paragraph, is_formula, text = '', False, []
    for number, line in enumerate(lines):
        indented = line.startswith(' ')
        if line and not indented:
            paragraph, is_formula = line, False
        elif indented and not is_formula and number and not lines[number - 1] and not SECTION.match(paragraph):
            is_formula = True
            text += ['::', '']
        text.append(line if is_formula else escape_bars(line))
    lines[:] = text


def escape_bars(line: str) -> str:
    parts = re.split(r'(``.+?``)', line)
    return ''.join(part if part.startswith('``') else part.replace('|', r'\|') for part in parts)


def skip_fields(app: Any, what: str, name: str, item: Any, skip: bool, options: Any) -> bool | None:
    """Fields of named tuples are described with the class; leave out their 'Alias for field number 0'."""
    return True if type(item).__name__ == '_tuplegetter' else None
