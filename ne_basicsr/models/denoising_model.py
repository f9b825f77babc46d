"""The denoising experiment: noise on the training device, validation over noise levels."""

import inspect
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from basicsr.metrics import calculate_metric
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger, imwrite, tensor2img
from basicsr.utils.dist_util import get_dist_info
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm

from ne_basicsr.evaluation import mismatch
from ne_basicsr.evaluation.mismatch import Row
from ne_basicsr.inference.loading import levels255
from ne_basicsr.inference.tiles import Tiled
from ne_basicsr.metrics.perceptual import PERCEPTUAL, metric
from ne_basicsr.metrics.quality import psnrs
from ne_basicsr.ops.degradations import Degradation
from ne_basicsr.ops.noise import TrainingNoise
from ne_basicsr.ops.padding import pad_to_multiple
from ne_basicsr.options.optimizers import OPTIMIZERS
from ne_basicsr.train.gradient_step import GradientStep
from ne_basicsr.train.progression import Progression, training_batch
from ne_basicsr.train.targets import task_of
from ne_basicsr.train.validation_results import image_strip, in_order, keep_curve, keep_pairs
from ne_basicsr.utils.errors import InputError
from ne_basicsr.utils.machine import peak_memory
from ne_basicsr.utils.process_group import gathered

DEFECT, FEW = 'calculate_ne_defect', 4  # the metric of equivariance, and how many images it is measured on
STRIP_LEVELS = 4  # of the images in TensorBoard
NEVER = 2**62  # an iteration
TRIED = 4  # crops: enough to tell which order in memory is faster


@MODEL_REGISTRY.register()
class DenoisingModel(SRModel):
    """BasicSR's ``SRModel`` for data sets of clean images (``DenoisingDataset``).

    Training adds noise on the device, drawn from (manual_seed, number of the sample) alone; it also takes noisy images
    (``NoisyDataset``), to which it adds none. Validation denoises every image at every level of ``sigma_test``, with
    noise from (manual_seed, image, level, draw) alone, and keeps the rows, the curve and its summary in the run folder.
    ``val.save_best`` names the metric by which ``net_g_best.pth`` is kept.

    Of the section ``train`` it reads, besides SRModel's: ``amp``, ``accumulate``, ``clip_grad_norm``, ``compile`` and
    ``channels_last`` (true; a pipeline follows ``auto``). Validation is always in float32 and not compiled.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.seed = opt.get('manual_seed', 0)
        self.channels_last = bool(opt.get('is_train')) and opt['train'].get('channels_last') is True
        train_set = opt['datasets'].get('train')
        opt['val'] = {**(opt.get('val') or {}), 'metrics': (opt.get('val') or {}).get('metrics') or {}}
        self.noise = TrainingNoise.from_options(train_set) if train_set else None
        self.progression = Progression.from_options(train_set) if train_set else None
        self.rows: dict[str, list[Row]] = {}  # of the last validation, by data set
        self.asked_to_stop: Callable[[], int] = int  # the signal that arrived; validation ends early then
        self._strip: list[Tensor] = []
        super().__init__(opt)
        for name in PERCEPTUAL:  # weights that cannot be had are found before the training
            if any(each['type'] == f'calculate_{name}_float' for each in opt['val']['metrics'].values()):
                metric(name, self.device)
        tile = opt['val'].get('tile')
        try:
            self._tiled = Tiled(self._test_net(), tile) if tile else None
        except InputError as error:
            raise InputError(f'val:tile: {str(error).removeprefix("tile (--tile) ")}') from None

    # -- training ------------------------------------------------------------------------------------------------------

    def feed_data(self, data: Mapping[str, Any]) -> None:
        """Clean crops ``gt`` (N, C, H, W), noisy ones ``lq``, or both of pairs, with the ``number`` of each sample."""
        batch = training_batch(data, self.opt, self.device, self.progression)
        self.lq, self.gt, self.addition = task_of(batch, self.seed, self.opt['datasets']['train'], self.noise)

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """The network on its device, in its memory format, compiled, and shared by the ranks, in this order."""
        train = self._training_options()
        if self.channels_last:
            net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch has no such
        if train.get('compile'):
            if self.opt['num_gpu'] > 1 and not self.opt['dist']:
                raise InputError('train:compile needs one process per GPU: start with torchrun, or set num_gpu: 1')
            _check_compiler(self.device)
            net.to(self.device).compile()  # in place: the class and the keys of the state dict stay
        return super().model_to_device(net)

    def init_training_settings(self) -> None:
        super().init_training_settings()
        train = self._training_options()
        average: Any = getattr(self, 'net_g_ema', None)
        if self.channels_last and average is not None:
            average.to(memory_format=torch.channels_last)
        self.parts = train.get('accumulate') or 1
        amp, clip_norm = train.get('amp'), train.get('clip_grad_norm')
        self.gradient_step = GradientStep(self.optimizer_g, self.device, amp=amp, clip_norm=clip_norm, parts=self.parts)
        # logged values stay on the device until they are read: a GPU need not wait for that
        self._losses: dict[str, Tensor] = {}
        self._sums: dict[str, Tensor] = {}  # of the parts so far
        self._gradient_norm: Tensor | None = None
        self._nonfinite = torch.tensor(NEVER, device=self.device)

    def setup_optimizers(self) -> None:
        """As in SRModel, but the options are not changed, and a GPU steps in one kernel where torch has it."""
        kind = self.opt['train']['optim_g']['type']
        options = {key: value for key, value in self.opt['train']['optim_g'].items() if key != 'type'}
        known = inspect.signature(OPTIMIZERS[kind]).parameters if kind in OPTIMIZERS else ()
        open_to_it = 'fused' in known and not {'fused', 'foreach', 'differentiable'} & set(options)
        if self.device.type == 'cuda' and open_to_it:
            options['fused'] = True  # with a scaled loss (fp16), all others read on the CPU whether it overflowed
        parameters = [parameter for parameter in self.net_g.parameters() if parameter.requires_grad]
        self.optimizer_g = self.get_optimizer(kind, parameters, **options)
        self.optimizers.append(self.optimizer_g)

    def accumulate(self) -> None:
        """Add the gradients of the current part of the batch; ``optimize_parameters`` takes the last part."""
        # ranks exchange their gradients once per step
        with self.net_g.no_sync() if isinstance(self.net_g, DistributedDataParallel) else nullcontext():
            self._add_gradients()

    def optimize_parameters(self, current_iter: int) -> None:
        """The last, or only, part of the batch, and the optimizer's step."""
        self._add_gradients()
        total = torch.stack(list(self._sums.values())).sum()
        self._nonfinite = torch.where(total.isfinite(), self._nonfinite, self._nonfinite.clamp(max=current_iter))
        self._losses, self._sums = self._sums, {}
        self._gradient_norm = self.gradient_step.apply()
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    def _add_gradients(self) -> None:
        lq = self.lq
        if self.channels_last:
            lq = lq.contiguous(memory_format=torch.channels_last)
        with self.gradient_step.autocast():
            output = self.net_g(lq)
        output = output.to(self.gt.dtype)
        self.output = output[: len(self.gt)]
        losses = {}
        if self.cri_pix:
            losses['l_pix'] = self.cri_pix(self.output, self.gt)
        if self.cri_perceptual:
            found = zip(('l_percep', 'l_style'), self.cri_perceptual(self.output, self.gt), strict=True)
            losses |= {name: loss for name, loss in found if loss is not None}
        if self.addition:
            losses['l_target'] = self.cri_pix.loss_weight * self.addition(self._without_gradients, output)
        self.gradient_step.backward(torch.stack(list(losses.values())).sum())
        self._sums = {k: self._sums.get(k, 0) + loss.detach() / self.parts for k, loss in losses.items()}

    @torch.no_grad()
    def _without_gradients(self, images: Tensor) -> Tensor:
        with self.gradient_step.autocast():
            return self.get_bare_model(self.net_g)(images).to(images.dtype)

    def get_current_log(self) -> dict[str, float]:
        """The losses of the last step, means over its parts and over the ranks; all ranks must call this."""
        log: dict[str, float] = self.reduce_loss_dict(self._losses)
        if self._gradient_norm is not None:
            log['grad_norm'] = self._gradient_norm.item()
        return log

    def step_memory(self, batch: tuple[int, int, int]) -> int:
        """Bytes that a step of a ``batch`` (crops, their channels and their side) needs at most beside what is there.

        They follow from steps with one and two crops that change nothing.
        """
        count, peaks = batch[0], []
        with self._trial(batch) as prepare:
            for images in range(1, min(count, 2) + 1):
                prepare(images)
                peaks.append(peak_memory(self.accumulate, self.device.type))
        moments = 2 * sum(p.numel() * p.element_size() for p in self.net_g.parameters())  # of Adam
        return peaks[0] + (count - 1) * (peaks[-1] - peaks[0]) + moments

    def step_seconds(self, batch: tuple[int, int, int]) -> dict[bool, float]:
        """Seconds of a step without and with channels_last, from steps of up to ``TRIED`` crops that change nothing."""
        seconds: dict[bool, list[float]] = {False: [], True: []}
        with self._trial(batch) as prepare:
            for _ in range(4):  # in turn, for a machine that has other work, too
                for channels_last, found in seconds.items():
                    self.use_channels_last(channels_last)
                    prepare(min(batch[0], TRIED))
                    start = time.perf_counter()
                    self.accumulate()
                    found.append(time.perf_counter() - start)
        self.use_channels_last(False)
        return {channels_last: min(found[1:]) for channels_last, found in seconds.items()}

    def use_channels_last(self, channels_last: bool) -> None:
        """Change the order in memory of images and weights, whose values stay."""
        self.channels_last = channels_last
        for net in (self.net_g, getattr(self, 'net_g_ema', None)):
            if net is not None:
                net.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)

    @contextmanager
    def _trial(self, batch: tuple[int, int, int]) -> Iterator[Callable[[int], None]]:
        """A context for steps that change nothing; yields what prepares one of a number of crops."""
        shape = (*batch[1:], batch[2])
        kept = [(buffer, buffer.clone()) for buffer in self.get_bare_model(self.net_g).buffers()]

        def prepare(images: int) -> None:
            self.optimizer_g.zero_grad(set_to_none=True)
            crops = torch.rand(images, *shape, device=self.device)
            batch, options = {'lq': crops, 'gt': crops, 'number': torch.arange(images)}, self.opt['datasets']['train']
            self.lq, self.gt, self.addition = task_of(batch, self.seed, options, self.noise)

        # compiled code needs less, but is compiled again for each size
        with torch.random.fork_rng(), torch.compiler.set_stance('force_eager'):
            yield prepare
        self.optimizer_g.zero_grad(set_to_none=True)
        for buffer, value in kept:
            buffer.copy_(value)
        self._sums, self.addition = {}, None
        del self.lq, self.gt, self.output

    def first_nonfinite(self) -> int | None:
        """The first iteration, on any rank, whose loss was not finite; all ranks must call this."""
        if self.opt['dist']:
            distributed.all_reduce(self._nonfinite, distributed.ReduceOp.MIN)
        first = int(self._nonfinite)
        return None if first == NEVER else first

    def _training_options(self) -> Mapping[str, Any]:
        return self.opt['train'] if self.is_train else {}

    # -- validation ----------------------------------------------------------------------------------------------------

    def denoise(self, lq: Tensor) -> Tensor:
        """The restored images for lq (N, C, H, W) of any size, by the averaged weights if there are some, in tiles."""
        if self._tiled:
            return self._tiled(lq)
        multiple = getattr(self.get_bare_model(self.net_g), 'size_multiple', 1)
        padded, (height, width) = pad_to_multiple(lq, multiple)
        return self._test_net()(padded)[..., :height, :width]

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """A context with the tested network in eval mode and without gradients."""
        net = self._test_net()
        was_training = net.training
        net.eval()
        if self.opt['dist']:  # each rank has its own running statistics; those of rank 0 are saved and tested
            for buffer in net.buffers():
                torch.distributed.broadcast(buffer, 0)
        is_compiled = self._training_options().get('compile')  # it would compile again for each size
        try:
            with torch.no_grad(), torch.compiler.set_stance('force_eager') if is_compiled else nullcontext():
                yield
        finally:
            net.train(was_training)

    def validation(
        self, dataloader: DataLoader[Any], current_iter: int | str, tb_logger: Any, save_img: bool = False
    ) -> int:
        """Denoise a data set at its levels; log, keep the rows, and save the best network if the options ask for it.

        Returns:
            0, or the signal that ended it early, on all ranks; nothing is kept then.
        """
        options = dataloader.dataset.opt  # type: ignore[attr-defined]
        name = options['name']
        with self.evaluating():
            own = list(self._rows(dataloader, options, current_iter, save_img))
        parts, signals = zip(*gathered((own, self.asked_to_stop())), strict=True)
        if any(signals) or self.opt['rank'] != 0:
            return max(signals)

        rows = in_order(row for part in parts for row in part)
        self.rows[name] = rows
        self.metric_results = self._summarize(rows)
        if self.is_train:  # a test has one result, and no best one
            self._initialize_best_metric_results(name)
            for label, value in self.metric_results.items():
                self._update_best_metric_result(name, label, value, current_iter)
        self._log_validation_metric_values(current_iter, name, tb_logger)
        self._keep(rows, name, current_iter, tb_logger)
        if tb_logger and self._strip:
            tb_logger.add_image(f'images/{name}', torch.cat(self._strip, dim=1), current_iter)
        if self.is_train and self._is_best(name, current_iter):
            self.save(-1, 'best')
        return 0

    def _rows(
        self, loader: DataLoader[Any], options: Mapping[str, Any], current_iter: int | str, save_img: bool
    ) -> Iterator[Row]:
        rank, world_size = get_dist_info()
        metrics = self.opt['val']['metrics'].items()
        measures = {k: self._measure(v) for k, v in metrics if v['type'] not in ('calculate_mismatch', DEFECT)}
        defects = {k: (self._measure(v), v.get('images', FEW)) for k, v in metrics if v['type'] == DEFECT}
        levels = self._levels(options)
        shown = levels[:: max(1, math.ceil(len(levels) / STRIP_LEVELS))]
        self._strip, first = [], None
        for i, data in enumerate(tqdm(loader, unit='image', disable=not self.opt['val'].get('pbar'))):
            if i % world_size != rank:
                continue
            for row, noisy, output in self._denoised(data, options, measures):
                if self.asked_to_stop():
                    return
                is_one = row['draw'] == 0 and row['level'] == levels[len(levels) // 2]
                values = {  # each runs the network several times
                    label: measure(output, data['gt'], noisy) if is_one and i < images else None
                    for label, (measure, images) in defects.items()
                }
                first = first or row['image']
                if row['image'] == first and row['draw'] == 0 and row['level'] in shown:
                    self._strip.append(image_strip(noisy, output, data['gt'].to(noisy)))
                if save_img and row['draw'] == 0:
                    imwrite(tensor2img(output.clone()), str(self._image_path(options['name'], row, current_iter)))
                yield {**row, **values}

    def _levels(self, options: Mapping[str, Any]) -> list[float]:
        return list(Degradation.from_options(options).levels)

    def _denoised(
        self, data: Mapping[str, Any], options: Mapping[str, Any], measures: Mapping[str, mismatch.Measure]
    ) -> Iterator[tuple[Row, Tensor, Tensor]]:
        """(row, noisy, output) of one image of a validation set, at each level and draw."""
        return mismatch.sweep(
            self.denoise,
            [(data['gt_path'][0], data['gt'])],
            Degradation.from_options(options),
            draws=options.get('draws', 1),
            seed=self.seed,
            measures=measures,
            device=self.device,
        )

    def _measure(self, options: Mapping[str, Any]) -> mismatch.Measure:
        def measure(output: Tensor, clean: Tensor, noisy: Tensor) -> float:
            if options['type'].endswith('_float'):
                data = {'img': output, 'img2': clean}
            else:  # BasicSR's metrics compare 8-bit images; tensor2img clips in place
                data = {'img': tensor2img(output.clone()), 'img2': tensor2img(clean.clone())}
            return float(
                calculate_metric(data | {'lq': noisy, 'net': self.denoise}, {'crop_border': 0} | _arguments(options))
            )

        return measure

    def _summarize(self, rows: list[Row]) -> dict[str, float]:
        """The value of each metric: the mean over images, levels and draws, or the summary of the curve."""
        results = {}
        for label, options in self.opt['val']['metrics'].items():
            if options['type'] == 'calculate_mismatch':
                results[label] = calculate_metric({'rows': rows}, _arguments(options))
            else:
                measured = [row[label] for row in rows if row[label] is not None]
                results[label] = sum(measured) / len(measured)
        return results

    def _log_validation_metric_values(self, current_iter: int | str, dataset_name: str, tb_logger: Any) -> None:
        """As BasicSR, but small values with their digits, and no best value in a test."""
        lines = [f'Validation {dataset_name}']
        for label, value in self.metric_results.items():
            lines.append(f'\t # {label}: {_digits(value)}')
            if self.is_train:
                best = self.best_metric_results[dataset_name][label]
                lines[-1] += f'\tBest: {_digits(best["val"])} @ {best["iter"]} iter'
            if tb_logger:
                tb_logger.add_scalar(f'metrics/{dataset_name}/{label}', value, current_iter)
        get_root_logger().info('\n'.join(lines) + '\n')

    def _keep(self, rows: list[Row], name: str, current_iter: int | str, tb_logger: Any) -> None:
        keep_curve(
            rows, Path(self.opt['path']['log']), self.opt['name'], name, current_iter, levels255(self.noise), tb_logger
        )

    def _is_best(self, name: str, current_iter: int | str) -> bool:
        wanted = self.opt['val'].get('save_best')
        if not wanted:
            return False
        of_set, _, label = wanted.rpartition('/')
        first = next(opt['name'] for phase, opt in sorted(self.opt['datasets'].items()) if phase != 'train')
        return name == (of_set or first) and self.best_metric_results[name][label]['iter'] == current_iter

    def save(self, epoch: int, current_iter: int | str) -> None:
        """Networks as ``net_g_<iter>.pth``, and the state to resume from; ``best`` has networks only."""
        nets, keys = [self.net_g], ['params']
        if hasattr(self, 'net_g_ema'):
            nets, keys = [*nets, self.net_g_ema], [*keys, 'params_ema']
        self.save_network(nets, 'net_g', current_iter, param_key=keys)
        if current_iter != 'best':
            self.save_training_state(epoch, current_iter)

    def resume_training(self, resume_state: Mapping[str, Any]) -> None:
        """Optimizers, schedules and the best metrics so far."""
        for optimizer, state in zip(self.optimizers, resume_state['optimizers'], strict=False):
            for own, group in zip(optimizer.param_groups, state['param_groups'], strict=False):
                if 'fused' in own:  # of this device and these options, not of those that saved the state
                    group['fused'] = own['fused']
        super().resume_training(resume_state)
        self.best_metric_results = resume_state.get('best_metric_results', {})
        if 'scaler' in resume_state and self.gradient_step.scaler.is_enabled():
            self.gradient_step.scaler.load_state_dict(resume_state['scaler'])

    def further_state(self) -> dict[str, Any]:
        """Additions to BasicSR's training state."""
        scaler = self.gradient_step.scaler
        return {'channels_last': self.channels_last} | ({'scaler': scaler.state_dict()} if scaler.is_enabled() else {})

    def _test_net(self) -> nn.Module:
        # the bare one: ranks validate different numbers of images, DistributedDataParallel would wait for the others
        return self.get_bare_model(getattr(self, 'net_g_ema', self.net_g))

    def _image_path(self, dataset: str, row: Row, current_iter: int | str) -> Path:
        folder = Path(self.opt['path']['visualization']) / (row['image'] if self.is_train else dataset)
        suffix = self.opt['val'].get('suffix') or current_iter
        level = f'_{row["unit"].removesuffix("255")}{row["level"]:g}' if 'degradation' in row else ''  # pairs have none
        return folder / f'{row["image"]}{level}_{suffix}.png'


# here, as a module that imports BasicSR can have nothing of another such module, see _compat
@MODEL_REGISTRY.register()
class PairedDenoisingModel(DenoisingModel):
    """``DenoisingModel`` for noise that is in the images already: pairs (``NoisyPairDataset``, ``SIDDDataset``).

    It trains on ``NoisyDataset``, too. Everything else of a run is the same: optimizers, precision, validation over all
    ranks, the best network. Validation keeps one row per image in ``pairs/<data set>_<iteration>.csv`` of the run
    folder. Metrics without ``_float`` see 8-bit images, as for SIDD's numbers in the literature.
    """

    def _levels(self, options: Mapping[str, Any]) -> list[float]:
        return [0]

    def _denoised(
        self, data: Mapping[str, Any], options: Mapping[str, Any], measures: Mapping[str, mismatch.Measure]
    ) -> Iterator[tuple[Row, Tensor, Tensor]]:
        noisy, clean = (data[key].to(self.device) for key in ('lq', 'gt'))
        output = self.denoise(noisy)
        row = {'image': Path(data['gt_path'][0]).with_suffix('').as_posix(), 'level': 0, 'draw': 0}
        row |= psnrs(noisy, output, clean)
        yield row | {label: measure(output, clean, noisy) for label, measure in measures.items()}, noisy, output

    def _keep(self, rows: list[Row], name: str, current_iter: int | str, tb_logger: Any) -> None:
        keep_pairs(rows, Path(self.opt['path']['log']), name, current_iter)


def _arguments(metric: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metric.items() if key != 'better'}


def _digits(value: float) -> str:
    return f'{value:.4f}' if value == 0 or abs(value) >= 1e-2 else f'{value:.2g}'


def _check_compiler(device: torch.device) -> None:
    """Raise InputError if torch.compile does not work on this machine, which compiling one addition tells."""
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(8, device=device))
    except Exception as error:  # of the C++ compiler, of Triton, of torch: each has its own
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = next((line for line in lines if 'Error' in line), lines[0])
        raise InputError(
            f'train:compile: torch.compile does not work here ({reason}); set compile: false, or install what it needs'
            ' (a C++ compiler on CPUs, Triton on GPUs)'
        ) from error
