"""What an option file names, tried before a run starts and without its cost: optimizer, schedule, network, memory.

The constructor of the network runs with weights that nobody draws; one training step runs on torch's meta device,
which computes shapes and nothing else.
"""

import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from basicsr.losses import build_loss
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from ne_basicsr.archs.backbone import build_arch
from ne_basicsr.archs.network_inputs import REFUSALS, SCALE, is_non_blind
from ne_basicsr.archs.wne_arch import Wrapper, is_image_to_image
from ne_basicsr.options.optimizers import OPTIMIZERS, schedules
from ne_basicsr.options.sections import NOT_WRAPPED, SIZES, named_parameters, registered
from ne_basicsr.utils.errors import InputError, Key, OptionError, first_line, leaves
from ne_basicsr.utils.words import shown
from ne_basicsr.weights import checkpoint

PATH: Key = ('network_g',)
MAX_SIZE = 1_000_000  # channels, pixels and layers of a network
MAX_NUMBERS = 2**32  # in a new network: 16 GiB of weights
MAX_OPERATIONS = 20_000  # to build it; Restormer, the largest network here, takes 768
TEST_SIZE = 64  # pixels, for a test; a multiple of all size_multiples here
_DRAWS = ('uniform_', 'normal_', 'random_', 'bernoulli_', 'exponential_')


def check_arguments(section: Mapping[str, Any], key: Key) -> None:
    """A network's sizes and its wrapper's arguments; the networks inside it, too."""
    for name, value in leaves(section, key):
        if type(value) is int and abs(value) > MAX_SIZE:
            raise OptionError(name, f'at most {MAX_SIZE} is a size or a number of layers; got {value}')
    _check_heads(section, key)
    cls = registered(ARCH_REGISTRY)[section['type']]
    if isinstance(cls, type) and issubclass(cls, Wrapper):
        wrapper = next(base for base in cls.__mro__ if base in Wrapper.__subclasses__())
        own = {name: section[name] for name in named_parameters(wrapper) if name != 'backbone' and name in section}
        nothing: Any = nn.Identity()  # networks may be large
        nothing.blind = False  # whether ``estimate`` suits the backbone is seen when that is built
        try:
            wrapper(nothing, **own)
        except (ValueError, TypeError) as error:
            problem = first_line(error).removesuffix('.')
            named = sorted((name for name in own if name in problem), key=problem.index)[:1]
            raise OptionError((*key, *named), f'{section["type"]} refuses it: {problem}') from None
    if isinstance(inner := section.get('backbone'), Mapping):
        if not is_image_to_image(inner['type']):
            raise OptionError((*key, 'backbone', 'type'), NOT_WRAPPED.format(inner['type']))
        check_arguments(inner, (*key, 'backbone'))


def _check_heads(section: Mapping[str, Any], key: Key) -> None:
    """Depths and heads of a transformer, whichever it is."""
    depths, heads, width = (section.get(name) for name in ('depths', 'num_heads', 'embed_dim'))
    if isinstance(depths, list) and (not depths or any(type(each) is not int or each < 1 for each in depths)):
        problem = f'numbers of blocks, 1 or more in each group, are needed; got {shown(depths)}'
        raise OptionError((*key, 'depths'), problem)
    if not isinstance(heads, list):
        return
    problem = ''
    if isinstance(depths, list) and len(depths) != len(heads):
        problem = f'one number per group of blocks is needed, {len(depths)} as in depths: {depths}; got {shown(heads)}'
    elif wrong := [e for e in heads if isinstance(width, int) and (type(e) is not int or e < 1 or width % e)]:
        problem = f'each must divide embed_dim: {width}, which heads share; got {shown(wrong[0])} in it'
    if problem:
        raise OptionError((*key, 'num_heads'), problem)


def check_training(train: Mapping[str, Any]) -> None:
    """Build each optimizer and the schedule, and step them twice; some look at their arguments only then."""
    optimizers = []
    for name in train:
        if name.startswith('optim_') and train[name]:
            weights = nn.Parameter(torch.zeros(1, 1))
            weights.grad = torch.ones(1, 1)
            with _refused(train[name], ('train', name)) as arguments:
                optimizers.append(OPTIMIZERS[train[name]['type']]([weights], **arguments))
                optimizers[-1].step()
    section, key = train['scheduler'], ('train', 'scheduler')
    if sum(section.get('periods', [train['total_iter']])) < train['total_iter']:
        problem = f'the periods must cover total_iter: {train["total_iter"]}; their sum is {sum(section["periods"])}'
        raise OptionError((*key, 'periods'), problem)
    with _refused(section, key) as arguments:
        schedule = schedules()[section['type']](optimizers[0], **arguments)
        for _ in range(2):
            optimizers[0].step()
            schedule.step()


@contextmanager
def _refused(section: Mapping[str, Any], key: Key) -> Iterator[dict[str, Any]]:
    try:
        yield {name: value for name, value in section.items() if name != 'type'}
    except REFUSALS as error:
        problem = first_line(error).removesuffix('.')
        raise OptionError(key, f'{section["type"]} refuses its arguments: {problem}') from None


def check(opt: Mapping[str, Any], is_train: bool, here: bool) -> None:
    """Build ``network_g``, pass a batch of crops, or an image for a test, through it and its loss.

    ``here``, on the machine where it is to run, also load the weights that it starts from, and compare the memory.
    """
    section, path = opt['network_g'], opt['path']
    if not is_image_to_image(section['type']):
        problem = f'{opt["model_type"]} needs an image-to-image network, such as DnCNN; got {shown(section["type"])}'
        raise OptionError((*PATH, 'type'), problem)
    network = build(section)
    if is_non_blind(network):
        problem = 'networks are not told the noise level while they train or validate'
        if told := [key for key, value in leaves(section, PATH) if key[-1] == 'blind' and value is False]:
            raise OptionError(told[0], f'{problem}: true is needed; got false')
        way_out = f'a blind network, such as FDnCNN, is needed; got {shown(section["type"])}'
        raise OptionError((*PATH, 'type'), f'{problem}: {way_out}')
    if here and (file := path['pretrain_network_g']) is not None:
        how = {'strict': path['strict_load_g'], 'param_key': path['param_key_g']}
        try:
            with _quiet():
                checkpoint.load_network(network, os.path.expanduser(file), **how)
        except InputError as error:
            raise OptionError(('path', 'pretrain_network_g'), str(error)) from None
    batch = largest_batch(opt, is_train)
    count, channels, size = batch
    if here and is_train:  # the images themselves first: even shapes take long where there are too many
        _check_memory(2 * 4 * count * channels * size**2, network, opt, batch)
    needed = _step(network, opt, batch)
    if here and is_train:
        _check_memory(needed, network, opt, batch)


def build(section: Mapping[str, Any], path: Key = PATH) -> nn.Module:
    """The network that a section describes, its weights not drawn. The random numbers of the run are left alone."""
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), _Draft():
            warnings.simplefilter('ignore')  # of torch, on tensors without elements
            return build_arch(section)
    except Exception as error:  # a registered class may raise any
        raise _refusal(section, path, f'refuses its options: {first_line(error)}') from None


class _Draft(TorchDispatchMode):
    """Random values are not drawn, and what would take too much memory or time stops."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.operations += 1
        if func.overloadpacket.__name__ in _DRAWS:
            return args[0]
        tensors = [value for value in args if isinstance(value, Tensor)]
        if not tensors and 'device' in kwargs:
            self.numbers += func(*args, **{**kwargs, 'device': torch.device('meta')}).numel()
        broadcast = math.prod(map(max, zip(*(t.shape for t in tensors), strict=False))) if len(tensors) > 1 else 0
        if self.operations > MAX_OPERATIONS or max(self.numbers, broadcast) > MAX_NUMBERS:
            billions = MAX_NUMBERS / 1e9
            raise ValueError(f'it has more than {billions:.1f} billion weights or thousands of layers; use fewer')
        return func(*args, **kwargs)


def largest_batch(opt: Mapping[str, Any], is_train: bool = True) -> tuple[int, int, int]:
    """Crops, their channels and their side: of the phase with most pixels, or one image for a test."""
    if not is_train:
        section = next(section for key, section in opt['datasets'].items() if key != 'train')
        return 1, section['in_ch'], TEST_SIZE
    train = opt['datasets']['train']
    sizes = train.get('gt_sizes') or [train['gt_size']]
    counts = train.get('mini_batch_sizes') or [train['batch_size_per_gpu']]
    count, size = max(zip(counts, sizes, strict=True), key=lambda pair: pair[0] * pair[1] ** 2)
    return count, train['in_ch'], size


def _step(network: nn.Module, opt: Mapping[str, Any], batch: tuple[int, int, int]) -> int:
    """Bytes that autograd keeps of the forward pass, on the meta device."""
    section, (count, channels, size) = opt['network_g'], batch
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not (tensor.is_leaf and tensor.requires_grad):  # weights are there anyway
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    network = network.to('meta')
    images = torch.empty(count, channels, size, size, device='meta')
    if opt['datasets'].get('train', {}).get('target') == 'sure':
        images = torch.cat([images, images])
    try:
        with saved_tensors_hooks(keep, lambda tensor: tensor), _quiet():
            output = network(images)
    except Exception as error:  # a registered class may raise any
        if 'meta' in str(error) or isinstance(error, NotImplementedError) or 'unsupported scalarType' in str(error):
            return 0  # it looks at values, which are not there: its own training is the test
        what = f'does not run on {_described(batch)}: {first_line(error)}'
        raise _refusal(section, PATH, what) from None
    if not isinstance(output, Tensor) or output.shape != images.shape:
        is_image = isinstance(output, Tensor) and output.dim() == 4
        got = f'{output.shape[1]} channels, {output.shape[2]}x{output.shape[3]}' if is_image else 'no images'
        problem = f'{section["type"]} makes {got} of {_described(batch)}; {opt["model_type"]} needs the same size'
        raise OptionError(next((key for key, _ in leaves(section, PATH) if key[-1] in SCALE), PATH), problem)
    if loss := (opt['train'] or {}).get('pixel_opt'):
        if loss['type'] == 'PerceptualLoss':  # it would fetch weights first
            raise OptionError(('train', 'pixel_opt', 'type'), 'PerceptualLoss belongs into perceptual_opt; got it here')
        try:
            with _quiet():
                build_loss(loss)(output, images)
        except Exception as error:
            problem = f'{loss["type"]} does not compare images as a pixel loss does: {first_line(error)}'
            raise OptionError(('train', 'pixel_opt'), problem) from None
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _refusal(section: Mapping[str, Any], path: Key, what: str) -> OptionError:
    """The key is that of the one number of channels, layers or pixels below 1, where there is one."""
    problem, sizes = f'{section["type"]} {what.removesuffix(".")}', [*leaves(section, path)]
    low = [(key, size) for key, size in sizes if type(size) is int and size < 1 and any(w in key[-1] for w in SIZES)]
    if len(low) == 1:
        path, problem = low[0][0], f'at least 1 is needed; got {low[0][1]} ({problem})'
    return OptionError(path, problem)


@contextmanager
def _quiet() -> Iterator[None]:
    """What the run itself will say is not said twice."""
    logger = logging.getLogger('basicsr')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        logger.disabled, before = True, logger.disabled
        try:
            yield
        finally:
            logger.disabled = before


def _check_memory(activations: int, network: nn.Module, opt: Mapping[str, Any], batch: tuple[int, int, int]) -> None:
    """Weights with their gradients and two moments, and activations, against the memory of the device."""
    train = opt['train']
    # half precision halves activations at most, a compiler may compute most of them twice instead
    least = activations / (2 if train['amp'] else 1) / (4 if train['compile'] else 1)
    least += sum(parameter.numel() for parameter in network.parameters()) * 4 * 4
    there = memory(opt['num_gpu'])
    if least > there:
        count = batch[0] * there / least
        way_out = f'use {int(count)} or fewer' if count >= 1 else 'use smaller crops or a smaller network'
        problem = (
            f'{_described(batch)} need {least / 2**30:,.0f} GiB at least in each step, and'
            f' {"the GPU" if opt["num_gpu"] else "this machine"} has {there / 2**30:,.0f}; {way_out}'
        )
        raise OptionError(('datasets', 'train', 'batch_size_per_gpu'), problem)


def _described(batch: tuple[int, int, int]) -> str:
    count, channels, size = batch
    return f'{count} {"crop" if count == 1 else "crops"} of {size}x{size} with {channels} channel(s)'


def memory(num_gpu: int, free: bool = False) -> int:
    """Bytes of the first GPU, or of this machine or container; ``free`` ones may hold cached files."""
    if num_gpu:
        unused = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return torch.cuda.mem_get_info(0)[0] + unused if free else torch.cuda.mem_get_info(0)[1]
    known = [os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')]
    with suppress(OSError, ValueError, KeyError):
        known += [_numbers(Path('/proc/meminfo'))['MemAvailable:'] * 1024] if free else []
    with suppress(OSError, ValueError, KeyError):
        known += _limits(Path('/proc/self/cgroup').read_text(encoding='utf-8'), Path('/sys/fs/cgroup'), free)
    return max(0, min(known))


def _limits(groups: str, root: Path, free: bool) -> Iterator[int]:
    """What the control groups of Linux, version 2 or 1, let this process have; the groups above limit it, too."""
    for line in groups.splitlines():
        _, kind, path = line.split(':', 2)
        if kind not in ('', 'memory'):
            continue
        own = Path(path.lstrip('/'))
        names = ('memory.max', 'memory.current') if kind == '' else ('memory.limit_in_bytes', 'memory.usage_in_bytes')
        for folder in [root / kind / each for each in (own, *own.parents)]:
            limit, used = folder / names[0], folder / names[1]
            if limit.is_file() and (most := limit.read_text().strip()).isdigit():  # else: max
                files = _numbers(folder / 'memory.stat')['inactive_file'] if free else 0
                yield int(most) - (int(used.read_text()) - files if free else 0)


def _numbers(file: Path) -> dict[str, int]:
    """The first number of each line, by the line's first word."""
    lines = (line.split() for line in file.read_text(encoding='utf-8').splitlines())
    return {line[0]: int(line[1]) for line in lines}
