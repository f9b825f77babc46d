"""Time, memory and arithmetic of networks side by side: one inference and one training step of each.

Networks take turns within each round, every second round in reverse, so that a slow phase of the machine or a drift
hits all alike; what is compared is the ratio to the first network within one round. A training step is forward, mean
squared error, backward; inference runs in eval mode under ``no_grad``. Model and input are cast, nothing is autocast.

Memory is the peak above what was there before the step, as torch's allocator saw it: activations, gradients,
temporaries. Memory that libraries take without asking torch (oneDNN's own buffers) is not in it. FLOPs are those of
matrix products and convolutions (``torch.utils.flop_counter``), two per multiply-add. The floor is the time in which
this device could do these alone, one after the other: each takes its FLOPs over the rate of a large matrix product or,
if that is more, the bytes that it reads and writes over the rate of a large copy.
"""

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from ne_basicsr.utils.errors import InputError, first_line
from ne_basicsr.utils.machine import peak_memory
from ne_basicsr.utils.progress import progress

DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16, 'float64': torch.float64}
MEMORY_FORMATS = {'contiguous': torch.contiguous_format, 'channels_last': torch.channels_last}

Build = Callable[[], nn.Module]
"""Makes a network anew, with random weights; it maps (N, C, H, W) to (N, C', rH, rW)."""

Shape = tuple[int, int, int, int]
Turn = TypeVar('Turn')


class Setting(NamedTuple):
    """What all networks of one report run under; ``compiler`` is a backend of ``torch.compile``, or '' for eager."""

    device: str = 'cpu'
    dtype: str = 'float32'
    memory_format: str = 'contiguous'
    compiler: str = ''


class Phase(NamedTuple):
    """Inference or training: seconds of each round; of one step the peak of memory in bytes, FLOPs, and the floor."""

    seconds: tuple[float, ...]
    memory: int
    flops: int
    floor: float  # seconds


class Timing(NamedTuple):
    """What was measured of one network."""

    name: str
    parameters: int
    inference: Phase
    training: Phase


class Report(NamedTuple):
    """Networks measured together, and on what."""

    machine: dict[str, Any]
    setting: Setting
    shape: Shape
    warmup: int
    networks: tuple[Timing, ...]


# -- measuring ---------------------------------------------------------------------------------------------------------


def measure(
    networks: Mapping[str, Build],
    shape: Shape,
    setting: Setting = Setting(),  # noqa: B008 - immutable
    steps: int = 10,
    warmup: int = 3,
    shown: bool = False,
) -> Report:
    """Measure networks side by side. Weights and input are random, from one seed; torch's generators are left alone.

    Args:
        networks: by name, what builds each.
        shape: of the input, (N, C, H, W).
        steps: timed rounds. From 6 on, the intervals of the ratios have their 95%; with fewer they are the range.
        warmup: rounds before them, besides the two steps that count FLOPs and memory.
        shown: whether stderr shows the progress.

    Raises:
        InputError: a network that does not run, or does not train, on this input in this setting.
    """
    if not networks or steps < 1 or warmup < 0:
        raise InputError(f'bench needs a network, steps >= 1 and warmup >= 0; got {len(networks)}, {steps}, {warmup}')
    turns = 2 * (steps + warmup) * len(networks)
    with _measuring(setting, len(networks)), progress(turns, describe_setting(setting), 'step', shown) as bar:
        machine = describe_machine(setting)
        runs = [_Run(name, build, shape, setting) for name, build in networks.items()]
        phases: list[list[Phase]] = [[] for _ in runs]
        for training in (False, True):
            for run in runs:
                run.training = training
                run.network.train(training)
            costs = [run.costs() for run in runs]

            def timed(run: _Run) -> float:
                seconds = _clock(setting.device)(run)
                run.network.zero_grad(set_to_none=True)  # each step makes its gradients anew
                bar.update()
                return seconds

            times = interleaved(runs, timed, steps, warmup)
            for found, seconds, (memory, products) in zip(phases, times, costs, strict=True):
                found.append(Phase(seconds, memory, sum(flops for flops, _ in products), floor(products, machine)))
    measured = (Timing(run.name, run.parameters, *found) for run, found in zip(runs, phases, strict=True))
    return Report(machine, setting, shape, warmup, tuple(measured))


def interleaved(
    turns: Sequence[Turn], clock: Callable[[Turn], float], rounds: int, warmup: int = 0
) -> list[tuple[float, ...]]:
    """What ``clock`` says of each of ``turns`` in each round, without the ``warmup`` rounds before."""
    times: list[list[float]] = [[] for _ in turns]
    for number in range(-warmup, rounds):
        for i in range(len(turns))[:: -1 if number % 2 else 1]:
            seconds = clock(turns[i])
            if number >= 0:
                times[i].append(seconds)
    return [tuple(seconds) for seconds in times]


class Products(TorchDispatchMode):
    """Lists (FLOPs, bytes read and written) of the matrix products and convolutions that run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if count := flop_registry.get(func._overloadpacket):
            tensors = [leaf for leaf in tree_leaves((args, kwargs, output)) if isinstance(leaf, Tensor)]
            self.found.append((count(*args, **kwargs, out_val=output), sum(tensor.nbytes for tensor in tensors)))
        return output


def floor(products: Sequence[tuple[int, int]], machine: Mapping[str, Any]) -> float:
    """Seconds that ``Products.found`` take at the rates of ``describe_machine``."""
    flop_rate, byte_rate = 1e9 * machine['product_gflop_per_s'], 1e9 * machine['copy_gbyte_per_s']
    return sum(max(flops / flop_rate, moved / byte_rate) for flops, moved in products)


@cache
def copy_rate(device: str, size: int = 2**28) -> float:
    """Bytes per second, read and written, of a copy of ``size`` bytes, more than caches hold."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return (
        2 * size / min(_clock(device)(partial(target.copy_, source)) for _ in range(4))
    )  # the first one gets its memory


def product_rate(device: str, dtype: torch.dtype, enough: float = 0.02) -> float:
    """FLOP/s of products of square matrices, large enough to take ``enough`` seconds: what the machine can do.

    On GPUs float32 is TF32 where convolutions compute in it.
    """
    rate, seconds, size = 0.0, 0.0, 128
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        # an unlucky turn of a busy machine must not end it early, nor a type without fast kernels take minutes
        while seconds < 10 * enough and (seconds < enough or size <= 1024) and size <= 8192:
            a = torch.rand(size, size, device=device).to(dtype)
            seconds = min(_clock(device)(partial(torch.matmul, a, a)) for _ in range(3))
            rate = max(rate, 2 * size**3 / seconds)
            size *= 2
    finally:
        matmul.allow_tf32 = before
    return rate


def describe_setting(setting: Setting) -> str:
    """``cpu, float32, contiguous, eager``."""
    device, dtype, memory_format, compiler = setting
    return ', '.join((device, dtype, memory_format, f'compiled ({compiler})' if compiler else 'eager'))


def describe_machine(setting: Setting) -> dict[str, Any]:
    """What the times depend on besides the setting: processor, threads, how busy it is, libraries."""
    machine: dict[str, Any] = {'processor': _processor(), 'threads': torch.get_num_threads()}
    if hasattr(os, 'getloadavg'):
        machine['load'] = round(os.getloadavg()[0], 2)  # processes that ran in the last minute
    machine['torch'] = torch.__version__
    if setting.device == 'cuda':
        machine['gpu'] = torch.cuda.get_device_name()
        machine['cudnn'] = torch.backends.cudnn.version()
        machine['tf32'] = {'conv': torch.backends.cudnn.allow_tf32, 'matmul': torch.backends.cuda.matmul.allow_tf32}
    machine['product_gflop_per_s'] = product_rate(setting.device, DTYPES[setting.dtype]) / 1e9
    machine['copy_gbyte_per_s'] = copy_rate(setting.device) / 1e9
    return machine


# -- parts of a measurement --------------------------------------------------------------------------------------------


class _Run:
    """A network with its input, set to infer or to train; calling it does one step."""

    def __init__(self, name: str, build: Build, shape: Shape, setting: Setting) -> None:
        self.name = name
        self.setting = setting
        self.where = f'{name} with input {"x".join(map(str, shape))} in {setting.dtype} on {setting.device}'
        self.training = False
        dtype, memory_format = DTYPES[setting.dtype], MEMORY_FORMATS[setting.memory_format]
        torch.manual_seed(0)
        with self._explained('cannot be built'):
            network = build().to(setting.device, dtype)
            self.network = network.to(memory_format=memory_format)  # type: ignore[call-overload] # torch has no such
        self.parameters = sum(parameter.numel() for parameter in self.network.parameters())
        self.input = torch.rand(shape).to(setting.device, dtype).contiguous(memory_format=memory_format)
        with torch.no_grad(), self._explained('does not run'):
            output = self.network.eval()(self.input)
        if not isinstance(output, Tensor):
            raise InputError(f'{name}: bench needs a network that returns one tensor; it returned {type(output)}')
        self.target = torch.rand_like(output)
        self.called: Callable[[Tensor], Tensor] = self.network
        if setting.compiler:
            self.called = torch.compile(self.network, backend=setting.compiler)

    def __call__(self) -> None:
        self._step(self.called)

    def costs(self) -> tuple[int, list[tuple[int, int]]]:
        """Peak of memory in bytes, and the ``Products``, of one step."""
        with self._explained('does not train' if self.training else 'does not run'):
            with Products() as products:
                self._step(self.network)
            if self.called is not self.network:
                self()  # compiles
            self.network.zero_grad(set_to_none=True)
            memory = peak_memory(self, self.setting.device)
            self.network.zero_grad(set_to_none=True)
        return memory, products.found

    def _step(self, network: Callable[[Tensor], Tensor]) -> None:
        if self.training:
            F.mse_loss(network(self.input), self.target).backward()
        else:
            with torch.no_grad():
                network(self.input)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
            raise InputError(f'{self.where}: {what}: {first_line(error)}') from error


@contextmanager
def _measuring(setting: Setting, networks: int) -> Iterator[None]:
    """Own random numbers; cuDNN chooses its algorithms as in BasicSR's trainer; the compiler does not give up."""
    benchmark = torch.backends.cudnn.benchmark
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=range(torch.cuda.device_count())))
        if setting.compiler:
            from torch._dynamo import config

            # two variants per network; beyond the limit of 8 per class they would run eagerly without a word
            limit = 'recompile_limit' if hasattr(config, 'recompile_limit') else 'cache_size_limit'  # until torch 2.6
            stack.enter_context(config.patch({limit: 8 + 4 * networks}))
        torch.backends.cudnn.benchmark = True
        try:
            yield
        finally:
            torch.backends.cudnn.benchmark = benchmark


def _clock(device: str) -> Callable[[Callable[[], object]], float]:
    """Seconds of a step on that device."""
    return _cuda_clock if device == 'cuda' else _cpu_clock


def _cpu_clock(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _cuda_clock(step: Callable[[], object]) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


def _processor() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    except OSError:
        lines = []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()
