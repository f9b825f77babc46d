"""Replacements for methods of BasicSR's ``BaseModel``, in all models; each with its reason and when to drop it.

When it is imported, this module puts its public functions in the place of the methods of their names.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from basicsr.models.base_model import BaseModel
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim import Optimizer

from ne_basicsr.inference.loading import settle
from ne_basicsr.options import optimizers
from ne_basicsr.train import progression
from ne_basicsr.utils.errors import InputError
from ne_basicsr.weights import checkpoint


def model_to_device(self: Any, net: nn.Module) -> nn.Module:
    """The network on its device, shared by the ranks or the GPUs of this process."""
    # device_ids=[cuda] fails on CPUs, and DataParallel was chosen from num_gpu alone.
    # Drop when BasicSR trains with gloo on CPUs.
    net = net.to(self.device)
    if self.opt['dist']:
        unused = self.opt.get('find_unused_parameters', False)
        devices = None if self.device.type == 'cpu' else [self.device.index or torch.cuda.current_device()]
        return DistributedDataParallel(net, device_ids=devices, find_unused_parameters=unused)
    return DataParallel(net, list(range(self.opt['num_gpu']))) if self.opt['num_gpu'] > 1 else net


@torch.no_grad()
def model_ema(self: Any, decay: float = 0.999) -> None:
    """One step of the averaged weights."""
    # BasicSR averages parameters only, so BatchNorm's running statistics never reach params_ema: those are copied here.
    # Drop when BasicSR's model_ema handles buffers.
    source, average = self.get_bare_model(self.net_g), self.net_g_ema
    parameters, buffers = dict(source.named_parameters()), dict(source.named_buffers())
    averages = dict(average.named_parameters())
    values = list(averages.values())
    torch._foreach_mul_(values, decay)  # a few kernels, where a GPU would have two of each tensor
    torch._foreach_add_(values, [parameters[name] for name in averages], alpha=1 - decay)
    for name, value in average.named_buffers():
        value.copy_(buffers[name])


# BasicSR writes checkpoints in place and trains on after three failures ("Just ignore it"): a kill while saving leaves
# a broken file that auto-resume picks, a full disk loses the run. Here they are whole or absent, and a failure stops.
# Drop when BasicSR writes to a temporary file and renames.


def save_network(self: Any, net: Any, net_label: str, current_iter: int | str, param_key: Any = 'params') -> None:
    """Networks under their keys as ``<net_label>_<current_iter>.pth``, by rank 0."""
    if self.opt.get('rank', 0) != 0:
        return
    nets, keys = (value if isinstance(value, list) else [value] for value in (net, param_key))
    bare = {key: self.get_bare_model(each) for key, each in zip(keys, nets, strict=True)}
    label = 'latest' if current_iter == -1 else current_iter
    checkpoint.save_network(Path(self.opt['path']['models']) / f'{net_label}_{label}.pth', bare, self.opt)


def save_training_state(self: Any, epoch: int, current_iter: int) -> None:
    """Everything needed to resume as ``<current_iter>.state``, by rank 0."""
    if self.opt.get('rank', 0) != 0 or current_iter == -1:
        return
    state = {
        'epoch': epoch,
        'iter': current_iter,
        'optimizers': [optimizer.state_dict() for optimizer in self.optimizers],
        'schedulers': [scheduler.state_dict() for scheduler in self.schedulers],
        'best_metric_results': _plain_numbers(getattr(self, 'best_metric_results', {})),
        'validated': getattr(self, 'validated_iter', 0),
        'manual_seed': self.opt.get('manual_seed'),
        'batch': progression.batch_of(self.opt),
        'logged': _plain_numbers(getattr(self, 'logged', {})),
    }
    if hasattr(self, 'further_state'):
        state |= self.further_state()
    checkpoint.write(Path(self.opt['path']['training_states']) / f'{current_iter}.state', state)


def _plain_numbers(value: Any) -> Any:
    """numpy's numbers, which BasicSR's metrics return and a weights-only load refuses, as Python's."""
    if isinstance(value, dict):
        return {key: _plain_numbers(each) for key, each in value.items()}
    return value.item() if hasattr(value, 'item') else value


def load_network(
    self: Any, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = 'params'
) -> None:
    """Fill a network from a checkpoint, without running code from it; errors explain what does not fit."""
    # Drop when BasicSR loads with weights_only and explains what does not fit.
    bare = self.get_bare_model(net)
    checkpoint.load_network(bare, load_path, strict=strict, param_key=param_key)
    if (level := settle(bare, load_path)) is not None:
        self.opt['network_g'] = {**self.opt['network_g'], 'sigma255': level}  # checkpoints then say it


# BasicSR knows Adam and three schedules, takes type out of the options, and after warming up stays at the last rate of
# the warm-up, a little below the schedule's. Drop when it knows more.


def get_optimizer(self: Any, optim_type: str, params: Any, lr: float, **kwargs: Any) -> Optimizer:
    """The optimizer called ``optim_type`` in ``torch.optim``.

    Raises:
        InputError: for an unknown name, or options or parameters that it refuses.
    """
    known = optimizers.OPTIMIZERS
    if optim_type not in known:
        raise InputError(f'no optimizer is called {optim_type!r}; known: {", ".join(sorted(known))}')
    try:
        return known[optim_type](params, lr=lr, **kwargs)  # type: ignore[call-arg] # all of them take lr
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f'train:optim_g: {optim_type} refuses this network or its arguments: {error}') from error


def setup_schedulers(self: Any) -> None:
    """One schedule per optimizer, from ``train:scheduler`` (type and arguments), which is left unchanged."""
    options: Mapping[str, Any] = self.opt['train']['scheduler']
    arguments = {key: value for key, value in options.items() if key != 'type'}
    known = optimizers.schedules()
    if options['type'] not in known:
        raise InputError(f'no scheduler is called {options["type"]!r}; known: {", ".join(known)}')
    self.schedulers += [known[options['type']](optimizer, **arguments) for optimizer in self.optimizers]


def update_learning_rate(self: Any, current_iter: int, warmup_iter: int = -1) -> None:
    """Set the learning rates of ``current_iter``, which counts from 1.

    Before iteration ``warmup_iter`` they grow linearly to the optimizer's own; from there on they are the schedule's.
    Schedules compute a rate from the one before, so the schedule's is kept apart (``scheduled_lr``, which the
    optimizer's state holds) from the smaller one that is used while warming up.
    """
    groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
    if current_iter > 1:
        for group in groups:
            group['lr'] = group.get('scheduled_lr', group['lr'])
        for schedule in self.schedulers:
            schedule.step()
    for group in groups:
        group['scheduled_lr'] = group['lr']
        if current_iter < warmup_iter:
            group['lr'] = group['initial_lr'] / warmup_iter * current_iter


for _function in (
    model_to_device, model_ema, save_network, save_training_state, load_network, get_optimizer, setup_schedulers,
    update_learning_rate,
):  # fmt: skip
    setattr(BaseModel, _function.__name__, _function)
