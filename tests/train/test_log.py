"""Lines as BasicSR writes them, times that leave out what lies between iterations, and a bar on terminals only."""

import logging
import sys

import pytest
from basicsr.utils import MessageLogger, get_root_logger

from ne_basicsr.train import log
from ne_basicsr.train.log import Speed, Stopwatch


def test_a_line_begins_as_basicsr_s(monkeypatch):
    opt = {'name': 'denoising', 'train': {'total_iter': 5000}, 'logger': {'print_freq': 100, 'use_tb_logger': False}}
    monkeypatch.setattr('basicsr.utils.logger.time.time', lambda: 50.0)
    logger = MessageLogger(opt, start_iter=1)
    monkeypatch.setattr('basicsr.utils.logger.time.time', lambda: 150.0)
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    monkeypatch.setattr(get_root_logger(), 'handlers', [handler])
    get_root_logger().setLevel(logging.INFO)
    losses = {'l_pix': 0.0123, 'grad_norm': 4.5}
    logger({'epoch': 3, 'iter': 1000, 'lrs': [1e-4, 2e-4], 'time': 0.1234, 'data_time': 0.0056} | losses)
    own = log.line(
        'denoising', 3, 1000, [1e-4, 2e-4], Speed(0.1234, 0.0056, 1037.0, 0.1 * 3999), losses, ', GPU 2.50 GiB'
    )
    assert own == records[0].getMessage() + '[1037 images/s, GPU 2.50 GiB]'


def test_only_iterations_are_timed_and_all_the_time_counts_for_the_rest(monkeypatch):
    now = 0.0
    monkeypatch.setattr(log.time, 'monotonic', lambda: now)
    watch = Stopwatch(images=12, total=10, done=4)
    for _ in range(2):
        watch.start()

        def batches():
            nonlocal now
            now += 1
            yield 'batch'

        assert watch.next(batches()) == 'batch'
        now += 2
        watch.stop()
        now += 7  # validation
    assert watch.speed() == Speed(iteration=3.0, data=1.0, images=4.0, left=10.0 * 4)
    watch.restart()
    watch.start()
    now += 6
    watch.stop()
    assert watch.speed().iteration == 6.0


@pytest.mark.parametrize(('terminal', 'shown'), [(True, True), (True, False), (False, True)])
def test_there_is_a_bar_on_a_terminal_only(monkeypatch, capsys, terminal, shown):
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: terminal, raising=False)
    with log.progress_bar(10, 4, shown) as bar:
        bar.update()
    assert ('5/10' in capsys.readouterr().err) == (terminal and shown)
