"""Ctrl-C and SIGTERM while training: the first saves and stops after this iteration, the second exits at once."""

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# torchrun sends its processes another signal right after the terminal did
ECHO_SECONDS = 5.0


class Interruption:
    """While this context is active, ``number`` is the first SIGINT or SIGTERM that arrived, and 0 before.

    A second one ends the process at once, with 128 + its number. Ignored signals stay ignored (a shell starts jobs in
    the background so). Outside the main thread, the only one that may set handlers, nothing is changed.
    """

    def __init__(self) -> None:
        self.number = 0
        self._since = 0.0
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> 'Interruption':
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._earlier[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        self._earlier = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.number == 0:
            self.number, self._since = number, now
            # not print, which a handler must not enter twice
            name = signal.Signals(number).name
            os.write(2, f'{name}: saving after this iteration; once more exits at once\n'.encode())
        elif 'TORCHELASTIC_RUN_ID' not in os.environ or now - self._since > ECHO_SECONDS:
            os._exit(128 + number)
