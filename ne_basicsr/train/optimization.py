"""Optimizers and learning-rate schedules of a run."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ne_basicsr.options.optimizers import OPTIMIZERS, schedules
from ne_basicsr.utils.errors import InputError


def make_optimizer(name: str, parameters: Any, lr: float, **options: Any) -> Optimizer:
    """The optimizer called ``name`` in ``torch.optim``.

    Raises:
        InputError: for an unknown name, or options or parameters that it refuses.
    """
    if name not in OPTIMIZERS:
        raise InputError(f'no optimizer is called {name!r}; known: {", ".join(sorted(OPTIMIZERS))}')
    try:
        return OPTIMIZERS[name](parameters, lr=lr, **options)  # type: ignore[call-arg] # all of them take lr
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f'train:optim_g: {name} refuses this network or its arguments: {error}') from error


def make_schedules(options: Mapping[str, Any], optimizers: Iterable[Optimizer]) -> list[LRScheduler]:
    """One schedule per optimizer, from ``{type: <name>, <arguments>}``, which is left as it is."""
    arguments = {key: value for key, value in options.items() if key != 'type'}
    known = schedules()
    if options['type'] not in known:
        raise InputError(f'no scheduler is called {options["type"]!r}; known: {", ".join(known)}')
    return [known[options['type']](optimizer, **arguments) for optimizer in optimizers]


def update_learning_rates(
    optimizers: Iterable[Optimizer], scheduled: Iterable[LRScheduler], iteration: int, warmup_iter: int = -1
) -> None:
    """Set the learning rates of ``iteration``, counted from 1.

    Before iteration ``warmup_iter`` they grow linearly to the optimizer's own; from there on they are the schedule's.
    Schedules compute a rate from the one before, so the schedule's is kept apart (``scheduled_lr``, which the
    optimizer's state holds) from the smaller one that is used while warming up.
    """
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    if iteration > 1:
        for group in groups:
            group['lr'] = group.get('scheduled_lr', group['lr'])
        for schedule in scheduled:
            schedule.step()
    for group in groups:
        group['scheduled_lr'] = group['lr']
        if iteration < warmup_iter:
            group['lr'] = group['initial_lr'] / warmup_iter * iteration
