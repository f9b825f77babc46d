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


def test_work_in_seconds_says_at_once_how_long_it_takes(stderr):
    with progress.progress(90.4, 'Checking', progress.SECONDS) as bar:
        bar.refresh()
        assert '0 %, 01:30 left' in stderr()
        bar.start_t -= 20  # twice as slow as expected
        bar.update(10)
        bar.refresh()
        assert '11 %, 02:40 left' in stderr()


def test_what_is_not_shown_writes_nothing(stderr):
    with progress.progress(4, 'Counting', 'sheep', shown=False) as bar:
        bar.update(2)
        bar.refresh()
    assert stderr() == ''
