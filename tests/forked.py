"""Processes for tests, forked from a server that has imported the package: they start in milliseconds, not in seconds.

``Forked`` and ``run`` are used as ``subprocess.Popen`` and ``subprocess.run`` with commands that begin with
``[sys.executable, '-m', 'ne_basicsr']`` or ``[sys.executable, '-c', code]``. What depends on a fresh interpreter, such
as the order of imports, needs subprocess.
"""

import io
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing import reduction

PRELOADED = ['torch', 'ne_basicsr.cli.main', 'ne_basicsr.models.denoising_model', 'ne_basicsr.train.pipeline']
_CONTEXT = multiprocessing.get_context('forkserver')
_CONTEXT.set_forkserver_preload(PRELOADED)


class _Descriptor:
    """A file descriptor that goes along to the process."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __getstate__(self):
        return reduction.DupFd(self.number)

    def __setstate__(self, sent) -> None:
        self.number = sent.detach()


class Forked:
    """A running process; see this file."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdout: int | None = None,
        stderr: int | None = None,
        text: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: os.PathLike[str] | str | None = None,
        start_new_session: bool = False,
    ) -> None:
        assert command[0] == sys.executable and text
        given = {1: stdout, 2: stderr}
        pipes = {number: os.pipe() for number, wanted in given.items() if wanted == subprocess.PIPE}
        null = os.open(os.devnull, os.O_WRONLY)
        ends = {number: pipes[number][1] if number in pipes else null for number in given}
        if stderr == subprocess.STDOUT:
            ends[2] = ends[1]
        environment = dict(os.environ if env is None else env)
        arguments = [str(each) for each in command[1:]]
        descriptors = {number: _Descriptor(end) for number, end in ends.items()}
        self._process = _CONTEXT.Process(
            target=_work, args=(arguments, environment, str(cwd or os.getcwd()), descriptors, start_new_session)
        )
        self._process.start()
        for end in {null, *(end for _, end in pipes.values())}:
            os.close(end)
        self.stdout, self.stderr = (
            open(pipes[number][0], encoding='utf-8') if number in pipes else None  # noqa: SIM115
            for number in given
        )
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        self._process.join(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired('forked', timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        read: dict[int, str] = {}
        files = {number: file for number, file in ((1, self.stdout), (2, self.stderr)) if file}
        threads = [threading.Thread(target=lambda n=n, f=f: read.update({n: f.read()})) for n, f in files.items()]
        end = None if timeout is None else time.monotonic() + timeout
        for thread in threads:
            thread.daemon = True
            thread.start()
        for thread in threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
        self.wait(None if end is None else max(0.0, end - time.monotonic()))
        return read.get(1, ''), read.get(2, '')

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(command: Sequence[str], check: bool = False, timeout: float | None = None, **options):
    """As ``subprocess.run`` with ``capture_output=True, text=True``."""
    process = Forked(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    output, errors = process.communicate(timeout)
    if check and process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command), output, errors)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        return found.getsockname()[1]


def start(command, count=2, **options):
    """Ranks without a launcher that would look after them."""
    common = {'WORLD_SIZE': str(count), 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(free_port())}
    common['OMP_NUM_THREADS'] = '1'
    return [
        Forked(
            [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=os.environ | common | {'RANK': str(rank), 'LOCAL_RANK': str(rank)}, **options,
        )
        for rank in range(count)
    ]  # fmt: skip


def ends(processes, seconds=60):
    """(exit code, last line on stderr) of each; all within ``seconds``."""
    end = time.monotonic() + seconds
    found = []
    for process in processes:
        _, errors = process.communicate(timeout=max(1, end - time.monotonic()))
        found.append((process.returncode, errors.strip().splitlines()[-1] if errors.strip() else ''))
    return found


def _work(arguments, environment, folder, descriptors, start_new_session) -> None:
    for number, descriptor in descriptors.items():
        os.dup2(descriptor.number, number)
    if start_new_session:
        os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(open(number, 'wb', closefd=False), encoding='utf-8', line_buffering=number == 2)  # noqa: SIM115
        for number in (1, 2)
    )
    import torch

    torch.set_num_threads(int(environment.get('OMP_NUM_THREADS', 1)))
    try:
        if arguments[0] == '-c':
            sys.argv = ['-c', *arguments[2:]]
            exec(arguments[1], {'__name__': '__main__'})
        else:
            assert arguments[:2] == ['-m', 'ne_basicsr']
            from ne_basicsr.cli.main import main

            sys.exit(main(arguments[2:]))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
