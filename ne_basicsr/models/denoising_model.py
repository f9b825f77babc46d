"""The denoising experiment: noise on the training device, validation over noise levels."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from basicsr.metrics import calculate_metric
from basicsr.models.sr_model import SRModel
from basicsr.utils import imwrite, tensor2img
from basicsr.utils.dist_util import get_dist_info
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from ne_basicsr import mismatch, report
from ne_basicsr.archs.padding import pad_to_multiple
from ne_basicsr.mismatch import Row
from ne_basicsr.noise import TrainingNoise, seed_of


@MODEL_REGISTRY.register()
class DenoisingModel(SRModel):
    """BasicSR's ``SRModel`` for data sets of clean images (``DenoisingDataset``).

    Training adds noise on the device, drawn from (manual_seed, number of the sample) alone. Validation denoises every
    image at every level of ``sigma_test``, with noise from (manual_seed, image, level, draw) alone, and keeps the rows,
    the curve and its summary in the run folder. ``val.save_best`` names the metric by which ``net_g_best.pth`` is kept.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.seed = opt.get('manual_seed', 0)
        train_set = opt['datasets'].get('train')
        opt['val'] = {**(opt.get('val') or {}), 'metrics': (opt.get('val') or {}).get('metrics') or {}}
        self.noise = TrainingNoise.from_options(train_set) if train_set else None
        self.rows: dict[str, list[Row]] = {}  # of the last validation, by data set
        super().__init__(opt)

    # -- training ------------------------------------------------------------------------------------------------------

    def feed_data(self, data: Mapping[str, Any]) -> None:
        """Clean crops ``gt`` (N, C, H, W) with their ``number``; makes ``lq``."""
        assert self.noise is not None, 'training starts with datasets:train'
        self.gt = data['gt'].to(self.device, non_blocking=True)
        self.lq = self.noise.add(self.gt, [seed_of(self.seed, 'noise', n) for n in data['number'].tolist()])

    # -- validation ----------------------------------------------------------------------------------------------------

    def denoise(self, lq: Tensor) -> Tensor:
        """The restored images for lq (N, C, H, W) of any size; the averaged weights' where there are some."""
        padded, (height, width) = pad_to_multiple(lq, self._size_multiple())
        return self._test_net()(padded)[..., :height, :width]

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """The network that is tested, in eval mode and without gradients."""
        net = self._test_net()
        was_training = net.training
        net.eval()
        if self.opt['dist']:  # each rank has its own running statistics; what is saved, and tested, is rank 0's
            for buffer in net.buffers():
                torch.distributed.broadcast(buffer, 0)
        try:
            with torch.no_grad():
                yield
        finally:
            net.train(was_training)

    def validation(
        self, dataloader: DataLoader[Any], current_iter: int | str, tb_logger: Any, save_img: bool = False
    ) -> None:
        """Denoise a data set at its levels; log, keep the rows, and save the best network where asked to."""
        options = dataloader.dataset.opt  # type: ignore[attr-defined]
        name = options['name']
        with self.evaluating():
            rows = gather_rows(list(self._rows(dataloader, options, current_iter, save_img)))
        if self.opt['rank'] != 0:
            return

        self.rows[name] = rows
        self.metric_results = self._summarize(rows)
        self._initialize_best_metric_results(name)
        for label, value in self.metric_results.items():
            self._update_best_metric_result(name, label, value, current_iter)
        self._log_validation_metric_values(current_iter, name, tb_logger)
        self._keep_curve(rows, name, current_iter, tb_logger)
        if self.is_train and self._is_best(name, current_iter):
            self.save(-1, 'best')

    def _rows(
        self, loader: DataLoader[Any], options: Mapping[str, Any], current_iter: int | str, save_img: bool
    ) -> Iterator[Row]:
        rank, world_size = get_dist_info()
        items = enumerate(tqdm(loader, unit='image', disable=not self.opt['val'].get('pbar')))
        images = ((data['gt_path'][0], data['gt']) for i, data in items if i % world_size == rank)
        metrics = self.opt['val']['metrics'].items()
        measures = {k: self._measure(v) for k, v in metrics if v['type'] != 'calculate_mismatch'}
        levels = sigma_test(options)
        cells = mismatch.sweep(
            self.denoise,
            images,
            levels,
            kind=(options.get('noise') or {}).get('type', 'gaussian'),
            draws=options.get('draws', 1),
            seed=self.seed,
            measures=measures,
            device=self.device,
        )
        for row, _, output in cells:
            if save_img and row['draw'] == 0:
                imwrite(tensor2img(output.clone()), str(self._image_path(options['name'], row, current_iter)))
            yield row

    def _measure(self, options: Mapping[str, Any]) -> mismatch.Measure:
        arguments = {key: value for key, value in options.items() if key != 'better'}

        def measure(output: Tensor, clean: Tensor, noisy: Tensor) -> float:
            if options['type'].endswith('_float'):
                data = {'img': output, 'img2': clean}
            else:  # BasicSR's metrics compare 8-bit images; tensor2img clips in place
                data = {'img': tensor2img(output.clone()), 'img2': tensor2img(clean.clone())}
            return float(calculate_metric(data | {'lq': noisy, 'net': self.denoise}, {'crop_border': 0} | arguments))

        return measure

    def _summarize(self, rows: list[Row]) -> dict[str, float]:
        """Each metric's value: the mean over images, levels and draws, or the curve's summary."""
        results = {}
        for label, options in self.opt['val']['metrics'].items():
            if options['type'] == 'calculate_mismatch':
                arguments = {key: value for key, value in options.items() if key != 'better'}
                results[label] = calculate_metric({'rows': rows}, arguments)
            else:
                results[label] = sum(row[label] for row in rows) / len(rows)
        return results

    def _keep_curve(self, rows: list[Row], name: str, current_iter: int | str, tb_logger: Any) -> None:
        """Rows as CSV, the curve as a figure and as lines of the log; the summary, too."""
        curve = mismatch.curve(rows)
        summary = mismatch.summarize(curve)
        folder = Path(self.opt['path']['log']) / 'mismatch'
        mismatch.write_csv(folder / f'{name}_{current_iter}.csv', rows)
        table = ''.join(
            f'\n\t sigma {level:6.2f}: noisy {psnr_in:6.2f} dB, denoised {psnr_out:6.2f} dB'
            for level, psnr_in, psnr_out in zip(*curve, strict=True)
        )
        numbers = (
            f'mean output PSNR {summary.mean_psnr:.4f} dB, worst loss against identity {summary.worst_loss:+.2f} dB'
        )
        logging.getLogger('basicsr').info(f'Mismatch {name}{table}\n\t {numbers}')
        figure = report.mismatch_figure({self.opt['name']: curve}, self._training_levels(), title=name)
        report.save_figure(figure, folder / f'{name}_{current_iter}.png')
        if tb_logger:
            tb_logger.add_scalar(f'mismatch/{name}/mean_psnr', summary.mean_psnr, current_iter)
            tb_logger.add_scalar(f'mismatch/{name}/worst_loss', summary.worst_loss, current_iter)
            for level, value in zip(curve.sigma255, curve.psnr_out, strict=True):
                tb_logger.add_scalar(f'mismatch/{name}/psnr_out_sigma{level:g}', value, current_iter)
            tb_logger.add_image(f'mismatch/{name}', report.figure_array(figure), current_iter, dataformats='HWC')

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
        super().resume_training(resume_state)
        self.best_metric_results = resume_state.get('best_metric_results', {})

    def _test_net(self) -> nn.Module:
        # the bare one: ranks validate different numbers of images, DistributedDataParallel would wait for the others
        return self.get_bare_model(getattr(self, 'net_g_ema', self.net_g))

    def _size_multiple(self) -> int:
        return getattr(self.get_bare_model(self.net_g), 'size_multiple', 1)

    def _training_levels(self) -> list[float]:
        return [sigma * 255 for sigma in self.noise.sigmas] if self.noise else []

    def _image_path(self, dataset: str, row: Row, current_iter: int | str) -> Path:
        folder = Path(self.opt['path']['visualization'])
        image = f'{row["image"]}_sigma{row["sigma255"]:g}'
        suffix = self.opt['val'].get('suffix') or current_iter
        return (
            folder / row['image'] / f'{image}_{suffix}.png'
            if self.is_train
            else folder / dataset / f'{image}_{suffix}.png'
        )


def sigma_test(options: Mapping[str, Any]) -> list[float]:
    """The levels, in 8-bit units, that a validation set is denoised at."""
    levels = options['sigma_test']
    return list(levels) if isinstance(levels, (list, tuple)) else [levels]


def gather_rows(rows: list[Row]) -> list[Row]:
    """All ranks' rows, in one order whatever the number of ranks."""
    _, world_size = get_dist_info()
    if world_size > 1:
        parts: list[list[Row]] = [[] for _ in range(world_size)]
        torch.distributed.all_gather_object(parts, rows)
        rows = [row for part in parts for row in part]
    return sorted(rows, key=lambda row: (row['image'], row['sigma255'], row['draw']))
