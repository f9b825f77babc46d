"""Optimizers and learning-rate schedules that option files can name: torch's, BasicSR's, Restormer's cyclic cosine."""

import inspect
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence

import torch
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

# optimizers that need more than dense gradients of the last forward pass: a closure, sparse gradients
_OTHER_STEPS = ('LBFGS', 'SparseAdam', 'Optimizer')
OPTIMIZERS: dict[str, type[Optimizer]] = {
    name: cls
    for name, cls in vars(torch.optim).items()
    if inspect.isclass(cls) and issubclass(cls, Optimizer) and name not in _OTHER_STEPS
}


class CosineAnnealingRestartCyclicLR(LRScheduler):
    """Cosine cycles one after the other, each with its own period, weight and minimum.

    At t iterations after the start of cycle i, with the optimizer's learning rate lr:

        eta_mins[i] + restart_weights[i] (lr - eta_mins[i]) (1 + cos(pi t / periods[i])) / 2

    The end of a cycle belongs to it; after the last one the rate stays at its end. Restormer trains with periods
    [92000, 208000] and eta_mins [3e-4, 1e-6]: constant first, since lr is 3e-4, then one cosine.

    Args:
        periods: iterations of each cycle.
        restart_weights: factor of each cycle.
        eta_mins: learning rate at the end of each cycle.

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
            lengths = f'{len(periods)}, {len(restart_weights)} and {len(eta_mins)}'
            raise ValueError(f'periods, restart_weights and eta_mins must be equally long; got {lengths}')
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
