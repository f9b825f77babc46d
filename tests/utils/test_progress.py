"""What progress displays, on a terminal and elsewhere."""

import sys

import pytest

from ne_basicsr.utils import progress


@pytest.fixture(params=[True, False], ids=['terminal', 'file'])
def stderr(request, monkeypatch, capsys):
    """What stderr has shown; lines for a file come at once."""
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: request.param, raising=False)
    monkeypatch.setattr(progress, 'SECONDS_BETWEEN_LINES', 0)
    return lambda: capsys.readouterr().err


def test_the_time_left_is_left_out_until_it_is_known(stderr):
    with progress.progress(4, 'Counting', 'sheep') as bar:
        bar.refresh()
        first = stderr()
        bar.update(2)
        bar.refresh()
        second = stderr()
    assert '0 of 4 sheep' in first
    assert 'left' not in first
    assert '?' not in first + second
    assert '2 of 4 sheeps, 00:00 left' in second


def test_what_is_not_shown_writes_nothing(stderr):
    with progress.progress(4, 'Counting', 'sheep', shown=False) as bar:
        bar.update(2)
        bar.refresh()
    assert stderr() == ''
