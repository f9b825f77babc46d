"""Processes that train together and end together: ranks from torchrun or Slurm, NCCL on GPUs and gloo on CPUs."""

import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed

from ne_basicsr.utils import folder_lock
from ne_basicsr.utils.errors import InputError, Stopped, exit_code, last_line
from ne_basicsr.utils.watchdog import Failure, Watchdog

# how long a collective may wait for a rank that is alive but busy, with validation for instance
PATIENCE = timedelta(minutes=30)
# the same for commands whose ranks meet only at the end, when one may have much more left to do
UNTIL_THE_LAST = timedelta(days=7)
T = TypeVar('T')
_DEALS = count()  # equal on all ranks
LOST = ('Connection closed by peer', 'Connection reset by peer', 'Broken pipe')  # in errors of collectives


def launcher_here() -> str:
    """``pytorch`` in a process that torchrun started, else ``none``: for commands without ``--launcher``."""
    return 'pytorch' if {'RANK', 'WORLD_SIZE'} <= set(os.environ) else 'none'


@contextmanager
def ranks(
    launcher: str,
    num_gpu: int = 0,
    dist_params: Mapping[str, Any] | None = None,
    debug: bool = False,
    patience: timedelta = PATIENCE,
) -> Iterator[tuple[int, int]]:
    """Join the processes that ``launcher`` (none, pytorch, slurm) started; (rank, world size).

    If one of several fails, it ends at once, and the others end with its line: no exception but ``Stopped`` leaves this
    context, since whatever handles it, or the interpreter's own exit, might wait for a rank that is gone.

    Args:
        num_gpu: GPUs of this machine that the run uses; 0 trains on CPUs, with gloo.
        dist_params: ``backend``, instead of NCCL on GPUs and gloo on CPUs, and ``port`` of the first process (Slurm).
        debug: print the traceback of every failure.
        patience: how long ranks wait for one that is alive but busy.
    """
    if launcher == 'none':
        yield 0, 1
        return
    chosen = dist_params or {}
    if launcher == 'slurm':
        _slurm_environment(chosen.get('port', 29500))
    if missing := [name for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT') if name not in os.environ]:
        way_out = 'start with torchrun --nproc_per_node=N -m ne_basicsr'
        raise InputError(f'--launcher {launcher}: {", ".join(missing)} not set; {way_out}')
    if num_gpu:
        local, there = int(os.environ.get('LOCAL_RANK', 0)), torch.cuda.device_count()
        if local >= there:
            problem = f'process {local} of this machine has no GPU, there are {there}'
            raise InputError(f'--launcher {launcher}: {problem}; start as many processes, or set num_gpu: 0')
        torch.cuda.set_device(local)
    distributed.init_process_group(chosen.get('backend', 'nccl') if num_gpu else 'gloo', timeout=patience)
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    watchdog, stopped = None, None
    if world_size > 1:
        # a connection of its own: while one waits for an answer, nothing else can use it
        host, port = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])
        store = distributed.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=30))
        watchdog = Watchdog(distributed.PrefixStore('ne_basicsr', store), rank, world_size, partial(_end, rank))
    try:
        yield rank, world_size
    except Stopped as asked:  # by all ranks, after the same iteration
        stopped = asked
    except BaseException as error:
        if watchdog is None:
            raise
        _fail(watchdog, error, debug)
    if watchdog:
        watchdog.leave()
        distributed.barrier()
        watchdog.close()
    distributed.destroy_process_group()
    if stopped:
        raise stopped


class Vote:
    """Whether any rank asks to stop, known to all at the same iteration; if several, one late, as they exchange it."""

    def __init__(self) -> None:
        several = _is_joined() and distributed.get_world_size() > 1
        self._group = distributed.new_group(backend='gloo') if several else None
        self._pending: tuple[Any, torch.Tensor] | None = None

    def ask(self, number: int) -> int:
        """Submit this rank's number; 0 unless some rank submitted another one. Every rank asks equally often."""
        if self._group is None:
            return number
        value = torch.tensor([number])
        work = distributed.all_reduce(value, distributed.ReduceOp.MAX, self._group, async_op=True)
        answer = self.close()
        self._pending = work, value
        return answer

    def close(self) -> int:
        """Wait for the exchange that is under way; its answer."""
        if self._pending is None:
            return 0
        work, value = self._pending
        self._pending = None
        work.wait()
        return int(value)


def agreed(value: Any) -> Any:
    """Rank 0's ``value`` on all ranks."""
    return gathered(value)[0]


def gathered(value: Any) -> list[Any]:
    """Every rank's ``value``, in the order of the ranks, on all ranks."""
    if not _is_joined():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def dealt(items: Sequence[T], size: Callable[[T], float] | None = None) -> Iterator[T]:
    """The next of the same items that no rank has taken, whenever this one asks, the largest first by ``size``."""
    if not _is_joined():
        yield from items
        return
    ordered = sorted(items, key=size, reverse=True) if size else items
    store, name = distributed.distributed_c10d._get_default_store(), f'dealt {next(_DEALS)}'
    while (number := store.add(name, 1) - 1) < len(ordered):
        yield ordered[number]


@contextmanager
def holding(rank: int, folder: Path, way_out: str, beside: bool = False) -> Iterator[None]:
    """``folder_lock.hold`` by rank 0; the others wait until it holds the folder."""
    with folder_lock.hold(folder, way_out, beside) if rank == 0 else nullcontext():
        gathered(None)
        yield


def _is_joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _fail(watchdog: Watchdog, error: BaseException, debug: bool) -> None:
    """End this process with the message of ``error``, or with another's failure that came before and explains it."""
    code, line, lost = exit_code(error), last_line(error), False
    if isinstance(error, RuntimeError) and any(words in str(error) for words in LOST):
        line, lost = 'lost the connection to another process', True
    first = watchdog.report(code or 1, line)
    if first.rank == watchdog.rank and (debug or not (code or lost)):
        traceback.print_exception(error)
    sys.stdout.flush()
    _end(watchdog.rank, first)


def _end(rank: int, failure: Failure) -> None:
    what = 'failed' if failure.rank == rank else f'stops, since process {failure.rank} failed'
    print(f'basicsr: process {rank} {what}: {failure.line}', file=sys.stderr, flush=True)
    os._exit(failure.code)


def _slurm_environment(port: int) -> None:
    """Set torch's variables from Slurm's, unless they are set."""
    try:
        rank, size, local, nodes = (os.environ[f'SLURM_{name}'] for name in ('PROCID', 'NTASKS', 'LOCALID', 'NODELIST'))
    except KeyError as error:
        raise InputError(f'--launcher slurm: {error.args[0]} not set; start with srun') from None
    if 'MASTER_ADDR' not in os.environ:
        try:
            hosts = subprocess.run(['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            problem = f'scontrol does not tell the hosts of {nodes} ({last_line(error)})'
            raise InputError(f'--launcher slurm: {problem}; set MASTER_ADDR to the first one') from None
        os.environ['MASTER_ADDR'] = hosts.stdout.split()[0]
    os.environ.setdefault('MASTER_PORT', str(port))
    os.environ.update(RANK=rank, WORLD_SIZE=size, LOCAL_RANK=local)
