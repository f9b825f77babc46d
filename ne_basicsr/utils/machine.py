"""What the machine has: memory, kept for reuse and needed by a step at most, and bfloat16."""

import ctypes
import os
import platform
from collections.abc import Callable
from typing import Any

import torch

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for what comes next, to the end of the process; elsewhere nothing happens.

    Mapping the pages of returned blocks again takes half of the time of a small network on a large image.
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


def has_bf16(device: str) -> bool:
    """Whether ``cpu`` or ``cuda`` multiplies bfloat16: x86 with AVX512_BF16 or AMX, ARM with BF16, newer GPUs."""
    if device == 'cuda':
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device != 'cpu' or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    is_x86 = platform.machine().lower() in ('x86_64', 'amd64')  # for it, the answer above also means emulation
    return not is_x86 or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
