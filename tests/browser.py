"""What a headless Chromium makes of a page at some widths."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason='needs Chromium on PATH')


def measured(html: str, widths: Sequence[int], wanted: Mapping[str, str], folder: Path) -> list[dict[str, Any]]:
    """``wanted``, names with JavaScript expressions of a document ``d`` and its window ``w``, at each width.

    Always there: ``width`` of the window and ``content``, the width that the page takes.
    """
    frames = ''.join(
        f'<iframe style="width:{w}px;height:800px;border:0" srcdoc="{escape(html)}"></iframe>' for w in widths
    )
    always = {'width': 'd.documentElement.clientWidth', 'content': 'd.documentElement.scrollWidth'}
    fields = ', '.join(f'{name}: {expression}' for name, expression in {**always, **wanted}.items())
    script = f"""<script>onload = () => {{
      const measured = [...document.querySelectorAll('iframe')].map(
        ({{contentDocument: d, contentWindow: w}}) => ({{{fields}}}));
      document.body.textContent = 'measured ' + encodeURIComponent(JSON.stringify(measured)) + ' end';
    }}</script>"""
    harness = folder / 'harness.html'
    harness.write_text(f'<!doctype html><meta charset="utf-8"><body>{frames}{script}', encoding='utf-8')
    command = [
        str(CHROMIUM), '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
        '--disable-background-networking', '--disable-component-update', '--disable-sync', '--hide-scrollbars',
        f'--user-data-dir={folder / "profile"}', '--dump-dom', harness.as_uri(),
    ]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    return json.loads(unquote(dom.split('measured ')[1].split(' end')[0]))
