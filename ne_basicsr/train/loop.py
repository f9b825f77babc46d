"""The iterations of a run: step, log, check the loss, save, validate, stop on a signal."""

import datetime
import logging
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader

from ne_basicsr.ops.noise import seed_of
from ne_basicsr.train.interruption import Interruption
from ne_basicsr.train.log import Stopwatch, line, progress_bar
from ne_basicsr.train.progression import samples_per_iteration
from ne_basicsr.utils.errors import InputError, Stopped
from ne_basicsr.utils.process_group import Vote


class TrainingLoop:
    """The remaining iterations of a run, with logging, saving and validation between them."""

    def __init__(
        self,
        opt: Mapping[str, Any],
        model: Any,
        done: int,
        epoch_iterations: int,
        val_loaders: list[DataLoader[Any]],
        tb_logger: Any,
        interruption: Interruption,
    ) -> None:
        self.opt, self.model, self.done = opt, model, done
        self.epoch_iterations, self.val_loaders, self.tb_logger = epoch_iterations, val_loaders, tb_logger
        self.interruption, self.vote = interruption, Vote()
        self.logger = logging.getLogger('basicsr')
        self.total = opt['train']['total_iter']
        self.parts = opt['train'].get('accumulate') or 1
        self.stops_at_nonfinite = opt['train'].get('on_nonfinite') == 'stop'
        self.saved = done  # the last iteration that was
        self.warned = False
        self.watch = Stopwatch(samples_per_iteration(opt), self.total, done)
        model.asked_to_stop = lambda: interruption.number

    def train(self, batches: Iterator[Any]) -> None:
        """Run all iterations; after the last one, save the network as ``net_g_latest.pth``, too."""
        start = time.monotonic()
        if self.done and (signal := self._validate(self.done)):  # the run may have been stopped in it
            raise Stopped(signal, self.done)
        with progress_bar(self.total, self.done, shown=self.opt['rank'] == 0) as bar:
            for iteration in range(self.done + 1, self.total + 1):
                self._step(iteration, batches)
                bar.update()
                self._between(iteration)
        self.vote.close()
        consumed = datetime.timedelta(seconds=int(time.monotonic() - start))
        self.logger.info(f'End of training. Time consumed: {consumed}')
        self.model.save(epoch=-1, current_iter=-1)

    def _step(self, iteration: int, batches: Iterator[Any]) -> None:
        # everything random in this iteration, such as drop paths, depends on these alone
        torch.manual_seed(seed_of(self.opt['manual_seed'], 'iteration', iteration, self.opt['rank']))
        self.model.logged = {}  # in TensorBoard, for the state of this iteration
        self.watch.start()
        self.model.update_learning_rate(iteration, warmup_iter=self.opt['train'].get('warmup_iter', -1))
        for part in range(1, self.parts + 1):
            self.model.feed_data(self.watch.next(batches))
            if part < self.parts:
                self.model.accumulate()
            else:
                self.model.optimize_parameters(iteration)
        # reading the loss waits until a GPU has finished its work
        log = self.model.get_current_log() if iteration % self.opt['logger']['print_freq'] == 0 else None
        self.watch.stop()
        if log is not None:
            self._report(iteration, log)

    def _between(self, iteration: int) -> None:
        """Check the loss, save, validate, and stop on a signal."""
        signal = self.vote.ask(self.interruption.number)
        due = iteration % self.opt['logger']['save_checkpoint_freq'] == 0 or iteration == self.total
        self._check_loss(iteration, due or signal != 0)
        if due or signal:
            self._save(iteration)
        signal = signal or self._validate(iteration)
        if signal:
            if self.saved != iteration:
                self._save(iteration)
            raise Stopped(signal, iteration)

    def _report(self, iteration: int, log: Mapping[str, float]) -> None:
        speed, rates = self.watch.speed(), self.model.get_current_learning_rate()
        self.watch.restart()
        if self.opt['rank'] != 0:
            return
        device, epoch = self.model.device, (iteration - 1) // self.epoch_iterations
        most = torch.cuda.max_memory_reserved(device) / 2**30 if device.type == 'cuda' else 0
        memory = f', GPU {most:.2f} GiB' if most else ''
        self.logger.info(line(self.opt['name'], epoch, iteration, rates, speed, log, memory))
        if self.tb_logger:
            losses = {f'losses/{key}' if key.startswith('l_') else key: value for key, value in log.items()}
            self.model.logged = losses | {'lr': rates[0]}
            for tag, value in (self.model.logged | {'speed/images_per_s': speed.images}).items():
                self.tb_logger.add_scalar(tag, value, iteration)

    def _check_loss(self, iteration: int, due: bool) -> None:
        due = due or iteration % self.opt['logger']['print_freq'] == 0
        if self.warned or not (due or self.stops_at_nonfinite):
            return
        if hasattr(self.model, 'first_nonfinite'):
            first = self.model.first_nonfinite()
        else:  # BasicSR's own
            first = None if all(map(math.isfinite, self.model.get_current_log().values())) else iteration
        if first is None:
            return
        if self.stops_at_nonfinite:
            raise InputError(_nonfinite(f'iteration {first}: the loss'))
        self.warned = True
        self.logger.warning(
            f'Iteration {first}: the loss is not finite. Training continues, but the weights may be lost;'
            ' train:on_nonfinite: stop would have stopped it here.'
        )

    def _save(self, iteration: int) -> None:
        if self.stops_at_nonfinite and not all(p.isfinite().all() for p in self.model.net_g.parameters()):
            raise InputError(_nonfinite(f'iteration {iteration}: the weights'))
        self.logger.info('Saving models and training states.')
        if self.tb_logger:
            self.tb_logger.flush()  # before a state is saved that relies on the curves
        self.model.save((iteration - 1) // self.epoch_iterations, iteration)
        self.saved = iteration

    def _validate(self, iteration: int) -> int:
        """Validate if it is due; returns the signal that ended it early, or 0."""
        if not self.val_loaders or getattr(self.model, 'validated_iter', 0) == iteration:
            return 0
        if iteration % self.opt['val'].get('val_freq', self.total) and iteration != self.total:
            return 0
        for loader in self.val_loaders:
            signal = self.model.validation(loader, iteration, self.tb_logger, self.opt['val'].get('save_img', False))
            if signal:
                return int(signal)
        self.model.validated_iter = iteration
        if self.saved == iteration:  # with the best metrics so far
            if self.tb_logger:
                self.tb_logger.flush()
            self.model.save_training_state((iteration - 1) // self.epoch_iterations, iteration)
        return 0


def _nonfinite(what: str) -> str:
    return (
        f'{what} is not finite, where train:on_nonfinite says stop; lower the learning rate, set clip_grad_norm or'
        ' amp: null, and continue from the last checkpoint with --auto_resume'
    )
