"""Optimizers and learning-rate schedules by name: torch's, BasicSR's, and Restormer's cyclic cosine."""

import inspect
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from ne_basicsr.errors import InputError

# optimizers that need more than dense gradients of the last forward pass: a closure, sparse gradients
_OTHER_STEPS = ('LBFGS', 'SparseAdam', 'Optimizer')
OPTIMIZERS: dict[str, type[Optimizer]] = {
    name: cls
    for name, cls in vars(torch.optim).items()
    if inspect.isclass(cls) and issubclass(cls, Optimizer) and name not in _OTHER_STEPS
}
# what a schedule counts in iterations, whole numbers of at least 1
ITERATION_KEYS = ('step_size', 'total_iters', 'T_max', 'T_0', 'T_mult')


class CosineAnnealingRestartCyclicLR(LRScheduler):
    """Cosine cycles one after the other, each with its own period, weight and minimum.

    At t iterations after the start of cycle i, with the optimizer's learning rate lr:

        eta_mins[i] + restart_weights[i] (lr - eta_mins[i]) (1 + cos(pi t / periods[i])) / 2

    The end of a cycle belongs to it; after the last one the rate stays at its end. Restormer trains with periods
    [92000, 208000] and eta_mins [3e-4, 1e-6]: constant first, since lr is 3e-4, then one cosine.

    Args:
        optimizer: whose learning rate changes.
        periods: iterations of each cycle.
        restart_weights: factor of each cycle.
        eta_mins: learning rate at the end of each cycle.
        last_epoch: iterations done; -1 to begin.

    Raises:
        ValueError: for lists of different lengths, or a period below 1.

    Source: the options of Restormer (Zamir et al., CVPR 2022).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        periods: Sequence[int],
        restart_weights: Sequence[float] = (1,),
        eta_mins: Sequence[float] = (0,),
        last_epoch: int = -1,
    ) -> None:
        if not len(periods) == len(restart_weights) == len(eta_mins):
            raise ValueError(
                'periods, restart_weights and eta_mins must be equally long; got'
                f' {len(periods)}, {len(restart_weights)} and {len(eta_mins)}'
            )
        if any(period < 1 for period in periods):
            raise ValueError(f'periods must be at least 1; got {min(periods)}')
        self.periods, self.restart_weights, self.eta_mins = list(periods), list(restart_weights), list(eta_mins)
        self.ends = [sum(periods[: i + 1]) for i in range(len(periods))]
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | torch.Tensor]:
        done = min(self.last_epoch, self.ends[-1])
        i = bisect_left(self.ends, done)
        share = (done - self.ends[i] + self.periods[i]) / self.periods[i]
        falling = self.restart_weights[i] * (1 + math.cos(math.pi * share)) / 2
        return [self.eta_mins[i] + falling * (lr - self.eta_mins[i]) for lr in self.base_lrs]


def schedules() -> dict[str, Callable[..., LRScheduler]]:
    """Schedules by the names that option files know them by."""
    from basicsr.models import lr_scheduler as of_basicsr  # not above: BasicSR imports models, which import this

    return {
        'MultiStepLR': of_basicsr.MultiStepRestartLR,
        'MultiStepRestartLR': of_basicsr.MultiStepRestartLR,
        'CosineAnnealingRestartLR': of_basicsr.CosineAnnealingRestartLR,
        'CosineAnnealingRestartCyclicLR': CosineAnnealingRestartCyclicLR,
        'TrueCosineAnnealingLR': lr_scheduler.CosineAnnealingLR,  # as Restormer and HINet call it
        'CosineAnnealingLR': lr_scheduler.CosineAnnealingLR,
        'CosineAnnealingWarmRestarts': lr_scheduler.CosineAnnealingWarmRestarts,
        'StepLR': lr_scheduler.StepLR,
        'ExponentialLR': lr_scheduler.ExponentialLR,
        'PolynomialLR': lr_scheduler.PolynomialLR,
    }


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
