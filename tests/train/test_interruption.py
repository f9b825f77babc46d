"""The first signal asks, the second one ends the process, and what was ignored stays so."""

import os
import signal
import subprocess
import sys

import pytest
from forked import Forked

from ne_basicsr.train.interruption import Interruption

SCRIPT = (
    'import sys, time, signal\nfrom ne_basicsr.train.interruption import Interruption\n'
    '{before}\n'
    'with Interruption() as interruption:\n'
    '    print("ready", flush=True)\n'
    '    for _ in range(2000):\n'
    '        time.sleep(0.01)\n'
    '        if interruption.number and not {stays}:\n'
    '            sys.exit(interruption.number)\n'
)


def started(stays: bool, before: str = '', **environment: str) -> Forked:
    process = Forked(
        [sys.executable, '-c', SCRIPT.format(stays=stays, before=before)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | environment,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == 'ready\n'
    return process


def test_the_first_signal_is_noted_and_the_earlier_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Interruption() as interruption:
        assert interruption.number == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.number == signal.SIGTERM
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_exits_at_once(number):
    process = started(stays=True)
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline() == 'SIGTERM: saving after this iteration; once more exits at once\n'
    process.send_signal(number)
    assert process.wait(10) == 128 + number


def test_torchrun_s_echo_of_a_signal_is_not_a_second_one():
    process = started(stays=True, TORCHELASTIC_RUN_ID='x')
    process.send_signal(signal.SIGINT)
    process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.kill()
    process.wait()


def test_ignored_signals_stay_ignored():
    process = started(stays=False, before='signal.signal(signal.SIGINT, signal.SIG_IGN)')
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == signal.SIGTERM
