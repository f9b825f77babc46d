"""Memory of the system: kept for reuse, and what a step needs at most."""

import ctypes
import os
from collections.abc import Callable
from typing import Any

import torch

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for what comes next, to the end of the process; elsewhere nothing happens.

    By default it returns each large block to the system, and mapping its pages again takes half of the time of a small
    network on a large image.
    """
    mallopt = getattr(ctypes.CDLL(None) if os.name == 'posix' else None, 'mallopt', None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def peak_memory(step: Callable[[], object], device: str = 'cpu') -> int:
    """Bytes that torch's allocator held at most during ``step``, above what it held before."""
    if device == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # the profiler would tell that there is no GPU
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        step()
    results: Any = profile.kineto_results
    events = sorted((e.start_ns(), e.nbytes()) for e in results.events() if e.name() == '[memory]')
    held = peak = 0
    for _, change in events:
        held += change
        peak = max(peak, held)
    return peak
