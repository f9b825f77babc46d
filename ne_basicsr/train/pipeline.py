"""The train and test pipelines: BasicSR's builders and log format, with exact resume and distribution."""

import ctypes
import errno
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import yaml
from basicsr.archs.vgg_arch import VGG_PRETRAIN_PATH
from basicsr.data import build_dataloader, build_dataset
from basicsr.models import build_model
from basicsr.utils import (
    check_resume,
    get_env_info,
    get_root_logger,
    get_time_str,
    make_exp_dirs,
    mkdir_and_rename,
    set_random_seed,
)
from basicsr.utils.options import dict2str
from torch.utils.data import DataLoader

from ne_basicsr._compat import deferred
from ne_basicsr.data.batch import SampleStream, as_float, prefetched
from ne_basicsr.options import load_options, trial
from ne_basicsr.options.rules import cautions
from ne_basicsr.train.interruption import Interruption
from ne_basicsr.train.loop import TrainingLoop
from ne_basicsr.train.progression import batch_of, samples_per_iteration
from ne_basicsr.utils.errors import InputError, explained_writing, first_line
from ne_basicsr.utils.optional import require
from ne_basicsr.utils.process_group import gathered, holding
from ne_basicsr.weights import checkpoint

Options = dict[str, Any]

VGG_URL = f'https://download.pytorch.org/models/{Path(VGG_PRETRAIN_PATH).name}'
SURE = 0.8  # estimates of memory are right within 20%
SCATTERED = 3  # glibc keeps freed blocks between others: three times what is in use at most, in measurements
TRIM_THRESHOLD = -1  # M_TRIM_THRESHOLD of malloc.h
LONG = 1000  # iterations: in fewer, a trial gains nothing
GAIN = 1.1  # less is within the noise of a trial
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def train_from(options: Mapping[str, Any], *, auto_resume: bool = False) -> Any:
    """Train as a mapping says that has the shape of an option file; returns the model, whose network is ``net_g``.

    The run is that of ``basicsr train`` in one process: folders, log, checkpoints, validations. Checkpoints are in
    ``experiments/<name>/models/`` under the current directory.

    Raises:
        InputError: as ``options.load_options`` and ``train``.
    """
    return train(load_options(options, is_train=True, auto_resume=auto_resume), yaml.safe_dump(dict(options)))


def train(opt: Options, option_text: str | None = None) -> Any:
    """Train as ``opt`` says (from ``options.load_options``); returns the model.

    The run folder is ``experiments/<name>`` under the current directory; an older one of that name is renamed, unless
    the run resumes. Each iteration depends on (manual_seed, iteration, rank) and the weights alone, so a resumed run
    continues as if it had not stopped.

    Args:
        option_text: what to keep as the option file in the run folder.

    Raises:
        InputError: for errors that the user can mend, a full disk among them; the last complete checkpoint is kept.
        Stopped: after SIGINT or SIGTERM, on all ranks after the same iteration, which is saved.
    """
    way_out = 'the last complete checkpoint is kept: free some space and continue with --auto_resume'
    full_disk = explained_writing(Path(opt['path']['experiments_root']), way_out, only=DISK_FULL)
    with _holding_run_folder(opt), full_disk, _log_file(opt, 'train') as (logger, open_log):
        torch.backends.cudnn.benchmark = True
        resume_state = _load_resume_state(opt)
        set_random_seed(opt['manual_seed'])  # the initial weights
        _log_settings(logger, opt)
        # problems with weights and data are found before a run folder is made
        train_loader, epoch_iterations = _train_loader(opt, resume_state['iter'] if resume_state else 0)
        val_loaders = _validation_loaders(opt)
        model = _build_model(opt)
        _check_memory(opt, model)
        _choose_memory_format(opt, model, resume_state)
        iteration = 0
        if resume_state is None:
            make_exp_dirs(opt)
            if (folder := _tensorboard_folder(opt)) and opt['rank'] == 0:
                mkdir_and_rename(folder)
        else:
            model.resume_training(resume_state)
            iteration = resume_state['iter']
            model.validated_iter = resume_state.get('validated', iteration)
            logger.info(f'Resuming training from epoch: {resume_state["epoch"]}, iter: {iteration}.')
            _warn_of_another_batch(opt, resume_state)
        gathered(None)  # all ranks are here
        open_log()
        if option_text is not None and opt['rank'] == 0:
            (Path(opt['path']['experiments_root']) / 'options.yml').write_text(option_text, encoding='utf-8')
        with _tensorboard(opt, model, resume_state) as tb_logger, Interruption() as interruption:
            run = TrainingLoop(opt, model, iteration, epoch_iterations, val_loaders, tb_logger, interruption)
            run.train(_batches(opt, train_loader))
    return model


def test(opt: Options) -> Any:
    """Validate on every data set of ``opt`` but the training set; returns the model."""
    with _holding_run_folder(opt), _log_file(opt, 'test') as (logger, open_log):
        _log_settings(logger, opt)
        loaders = _validation_loaders(opt)
        model = _build_model(opt)
        make_exp_dirs(opt)
        gathered(None)
        open_log()
        for loader in loaders:
            logger.info(f'Testing {loader.dataset.opt["name"]}...')  # type: ignore[attr-defined]
            model.validation(loader, opt['name'], None, save_img=opt['val'].get('save_img', False))
    return model


def _build_model(opt: Options) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', module='torchvision')  # of the way in which BasicSR asks for VGG
            return build_model(opt)
    except (URLError, ConnectionError, TimeoutError) as error:
        raise InputError(
            f'weights that a loss or network needs cannot be fetched ({first_line(error)}); for a perceptual loss, put'
            f' {VGG_URL} into the folder {Path(VGG_PRETRAIN_PATH).parent.absolute()}'
        ) from error


def _check_memory(opt: Options, model: Any) -> None:
    """Measure a small step: warn where a whole one may not fit into the memory that is free, refuse where it cannot."""
    if not hasattr(model, 'step_memory'):  # BasicSR's own
        return
    count, channels, size = batch = trial.largest_batch(opt)
    needed, free = model.step_memory(batch), trial.memory(opt['num_gpu'], free=True)
    if not opt['num_gpu'] and SCATTERED * needed > free:
        with suppress(OSError, AttributeError):  # of another C library than glibc
            ctypes.CDLL(None).mallopt(TRIM_THRESHOLD, 2**20)
            get_root_logger().info('Memory is short: what is freed goes back to the system at once; steps take longer.')
    if needed <= SURE * free:
        return
    parts = opt['train'].get('accumulate') or 1
    sizes = [n for n in range(count - 1, 0, -1) if count % n == 0]
    fits = next((n for n in sizes if model.step_memory((n, channels, size)) <= SURE * free), None)
    if fits is None:
        way_out = 'use smaller crops or a smaller network'
    elif opt['datasets']['train'].get('iters'):
        way_out = f'{fits} fit; lower mini_batch_sizes'
    else:
        way_out = f'the same step in less: batch_size_per_gpu: {fits}, train:accumulate: {parts * count // fits}'
    problem = (
        f'datasets:train:batch_size_per_gpu: {count} crops of {size}x{size} need about {needed / 2**30:.1f} GiB in each'
        f' step, and {free / 2**30:.1f} GiB are free; {way_out}'
    )
    if needed > free / SURE:
        raise InputError(problem)
    get_root_logger().warning(problem)


def _choose_memory_format(opt: Options, model: Any, state: Mapping[str, Any] | None) -> None:
    """Follow ``train:channels_last: auto``: long runs in one process on a CPU take what is faster in a short trial.

    A resumed run takes what it took before, so it rounds as if it had not stopped.
    """
    train = opt['train']
    if train.get('channels_last') != 'auto' or not hasattr(model, 'step_seconds'):  # BasicSR's own
        return
    if state is not None:
        model.use_channels_last(state.get('channels_last', False))
    elif not (opt['num_gpu'] or opt['dist'] or train.get('compile') or train['total_iter'] < LONG):
        seconds = model.step_seconds(trial.largest_batch(opt))
        faster = seconds[False] > GAIN * seconds[True]
        model.use_channels_last(faster)
        get_root_logger().info(
            f'train:channels_last: auto: {faster}; forward and backward took {seconds[True]:.2g} s with it,'
            f' {seconds[False]:.2g} s without.'
        )


def _holding_run_folder(opt: Options) -> AbstractContextManager[None]:
    # beside the folder, which a new run renames if it is an older run's
    return holding(opt['rank'], Path(opt['path']['log']), 'give another name, --force_yml name=...', beside=True)


def _log_settings(logger: logging.Logger, opt: Options) -> None:
    with deferred():  # it imports torchvision for the number of its version
        logger.info(get_env_info())
    logger.info(dict2str(opt))
    for line in cautions(opt):
        logger.warning(line)


def _train_loader(opt: Options, iteration: int) -> tuple[DataLoader[Any], int]:
    """The endless loader, from the first sample of iteration + 1, and the iterations of an epoch."""
    options = {'pin_memory': opt['num_gpu'] > 0, **opt['datasets']['train'], 'seed': opt['manual_seed']}
    dataset = build_dataset(options)
    _check_image_size(dataset, options['gt_size'], options)
    per_step = samples_per_iteration(opt)
    ratio = options.get('dataset_enlarge_ratio') or 1
    place = {'rank': opt['rank'], 'world_size': opt['world_size'], 'start': iteration * per_step}
    stream = SampleStream(dataset, ratio=ratio, seed=opt['manual_seed'], **place)
    loader = _loader(opt, dataset, options, stream)
    epoch_iterations = math.ceil(stream.epoch_size / per_step)
    get_root_logger().info(
        'Training statistics:'
        f'\n\tNumber of train images: {len(dataset)}'
        f'\n\tDataset enlarge ratio: {ratio}'
        f'\n\tBatch size per gpu: {options["batch_size_per_gpu"]}'
        f'\n\tWorld size (gpu number): {opt["world_size"]}'
        f'\n\tBatches whose gradients are added up: {opt["train"].get("accumulate") or 1}'
        f'\n\tEffective batch, over all ranks: {per_step}'
        f'\n\tLearning rate, not scaled with the batch: {opt["train"]["optim_g"]["lr"]:g}'
        f'\n\tRequire iter number per epoch: {epoch_iterations}'
        f'\n\tTotal epochs: {math.ceil(opt["train"]["total_iter"] / epoch_iterations)};'
        f' iters: {opt["train"]["total_iter"]}.'
    )
    return loader, epoch_iterations


def _check_image_size(dataset: Any, least: int, options: Options) -> None:
    """Check that the first image can be read and has enough pixels for crops or metrics."""
    if (store := getattr(dataset, 'store', None)) is None:
        return
    height, width = store.pixels(store.names[0], options['in_ch']).shape[:2]
    if min(height, width) < least and options['phase'] != 'train':
        problem = f'{store.root}/{store.names[0]} is {height}x{width}, and nothing is left of it'
        raise InputError(f'val:metrics: crop_border: {least // 2}: {problem}; lower crop_border')
    if min(height, width) < least:
        problem = f'datasets:train:gt_size: {least}, but {store.root}/{store.names[0]} is {height}x{width}'
        if options['small_images'] == 'refuse':
            raise InputError(f'{problem}; lower gt_size, or set small_images: reflect')
        get_root_logger().warning(f'{problem}; its borders are reflected')


def _validation_loaders(opt: Options) -> list[DataLoader[Any]]:
    if opt.get('val') is None:
        return []
    loaders = []
    for phase, options in sorted(opt['datasets'].items()):
        if phase == 'train':
            continue
        dataset = build_dataset(options)
        borders = [metric.get('crop_border') or 0 for metric in (opt['val'].get('metrics') or {}).values()]
        _check_image_size(dataset, 2 * max(borders, default=0) + 1, options)
        get_root_logger().info(f'Number of {phase} images/folders in {options["name"]}: {len(dataset)}')
        loaders.append(_loader(opt, dataset, options, None))
    return loaders


def _loader(opt: Options, dataset: Any, options: Options, sampler: Any) -> DataLoader[Any]:
    further = {'num_gpu': opt['num_gpu'], 'dist': opt['dist'], 'seed': opt['manual_seed']}
    return build_dataloader(dataset, options, sampler=sampler, **further)


def _batches(opt: Options, loader: DataLoader[Any]) -> Iterator[Any]:
    device = torch.device('cuda' if opt['num_gpu'] else 'cpu')
    if opt['datasets']['train'].get('prefetch_mode') == 'cuda' and opt['num_gpu']:
        return prefetched(loader, device)
    return (as_float(batch, device) for batch in loader)


@contextmanager
def _tensorboard(opt: Options, model: Any, state: Mapping[str, Any] | None) -> Iterator[Any]:
    """TensorBoard's writer on rank 0, else None.

    Everything written after the iteration that a run resumes from is removed. If the validation of that iteration is to
    be repeated, that iteration is removed, too, and its other scalars are written again from the state.
    """
    folder = _tensorboard_folder(opt)
    if folder is None or opt['rank'] != 0:
        yield None
        return
    from torch.utils.tensorboard import SummaryWriter

    if ((opt['logger'].get('wandb') or {}).get('project')) is not None:
        _start_wandb(opt)  # it follows TensorBoard's writers, hence before them
    before = state or {}
    again = 'logged' in before and model.validated_iter != before['iter']
    tb_logger = SummaryWriter(folder, purge_step=before['iter'] + (not again) if before else None)
    for tag, value in before['logged'].items() if again else ():
        tb_logger.add_scalar(tag, value, before['iter'])
    try:
        yield tb_logger
    finally:
        tb_logger.close()


def _start_wandb(opt: Options) -> None:
    """BasicSR's ``init_wandb_logger``, whose ``wandb.util.generate_id`` is gone: wandb makes the id itself."""
    wandb, options = require('wandb'), opt['logger']['wandb']
    run_id = options.get('resume_id')
    arguments = {'id': run_id, 'resume': 'allow' if run_id else 'never', 'project': options['project']}
    try:
        run = wandb.init(**arguments, name=opt['name'], config=opt, sync_tensorboard=True)
    except wandb.errors.Error as error:
        problem = f'logger:wandb: {first_line(error)}'
        raise InputError(f'{problem}; run wandb login, set WANDB_MODE=offline, or leave out project') from error
    get_root_logger().info(f'Use wandb logger with id={run.id}; project={options["project"]}.')


def _tensorboard_folder(opt: Options) -> str | None:
    # BasicSR's MessageLogger leaves TensorBoard alone if the name contains "debug"
    if not opt['logger'].get('use_tb_logger') or 'debug' in opt['name']:
        return None
    return str(Path(opt['root_path']) / 'tb_logger' / opt['name'])


class _LogFile(logging.FileHandler):
    """A log file whose errors, such as a full disk, end the run instead of filling the terminal.

    So does its absence: if a run folder is removed or renamed, the next checkpoint does not create an incomplete one.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if not os.path.exists(self.baseFilename):
            raise InputError(f'{Path(self.baseFilename).parent}: was removed or renamed while a run wrote to it')
        super().emit(record)

    # logging calls it while it handles the error
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        raise


@contextmanager
def _log_file(opt: Options, what: str) -> Iterator[tuple[logging.Logger, Callable[[], None]]]:
    """BasicSR's logger while a run lasts, and a function to call once the run folder exists.

    Earlier lines are held back until then. A run that cannot start shows its warnings alone: it ends in one line.
    """
    logger = get_root_logger()
    if opt['rank'] != 0:
        logger.setLevel(logging.ERROR)
        yield logger, lambda: None
        return
    level, terminal, early = logger.level, logger.handlers, BufferingHandler(capacity=1_000_000)
    logger.setLevel(logging.INFO)
    logger.handlers = [early]

    def show(handlers: list[logging.Handler], least: int) -> None:
        logger.handlers = handlers
        for record in early.buffer:
            if record.levelno >= least:
                logger.handle(record)
        early.buffer = []

    def open_log() -> None:
        path = Path(opt['path']['log']) / f'{what}_{opt["name"]}_{get_time_str()}.log'
        file = _LogFile(path, 'w', encoding='utf-8')
        file.setFormatter(logging.Formatter('%(asctime)s %(levelname)s: %(message)s'))
        show([*terminal, file], logging.NOTSET)

    try:
        yield logger, open_log
    finally:
        own = [handler for handler in logger.handlers if handler not in terminal]
        show(terminal, logging.WARNING)
        logger.setLevel(level)
        for handler in own:
            handler.close()


def _load_resume_state(opt: Options) -> dict[str, Any] | None:
    """The state to resume from, by --auto_resume or path:resume_state; sets the networks to load in ``opt``."""
    path = opt['path'].get('resume_state')
    if opt['auto_resume']:
        labels = [key.replace('network_', 'net_') for key in opt if key.startswith('network_')]
        folders = Path(opt['path']['training_states']), Path(opt['path']['models'])
        path = checkpoint.last_complete_state(*folders, labels) or path
    if path is None:
        return None
    state = checkpoint.read(path)
    if not isinstance(state, dict) or 'iter' not in state:
        raise InputError(
            f'path:resume_state: {path} is no training state; give experiments/<name>/training_states/N.state'
        )
    opt['path']['resume_state'] = str(path)
    check_resume(opt, state['iter'])
    for key, file in opt['path'].items():
        if key.startswith('pretrain_network_') and file is not None and not Path(file).is_file():
            raise InputError(
                f'path:resume_state: {path} needs {file}, which is not there; resume a run under its own name, or'
                ' start a new one from path:pretrain_network_g'
            )
    opt['manual_seed'] = state.get('manual_seed') or opt['manual_seed']  # the one that the run drew
    for folder in (opt['path']['training_states'], opt['path']['models']):
        for torn in Path(folder).glob('.*.part'):  # of a kill while saving
            torn.unlink(missing_ok=True)
    return state


def _warn_of_another_batch(opt: Options, state: Mapping[str, Any]) -> None:
    before, now = state.get('batch', {}), batch_of(opt)
    if changes := [f'{key} {now[key]} instead of {before[key]}' for key in before if before[key] != now.get(key)]:
        get_root_logger().warning(
            f'The state was saved with another batch: {", ".join(changes)}. The learning rate is not scaled with it;'
            ' the run continues at the sample that it would have reached with the new batch.'
        )
