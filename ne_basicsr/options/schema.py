"""The sections of an option file that this package owns: names, types, units and defaults, one line each.

Two families share their fields: ``Options`` is strict, for ``model_type: DenoisingModel``; ``ForeignOptions`` is for
BasicSR's other models, whose further keys pass (``options.py`` compares those with what the model's class reads).
Sections that a registry decides (networks, losses, optimizers, schedulers, metrics) are mappings here.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError


def shown(value: Any) -> str:
    """A value as a message shows it: on one line, at most 60 characters, as YAML would spell it."""
    spelled = {None: 'null', True: 'true', False: 'false'}
    text = spelled[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'


def integer(value: Any) -> int:
    """An int, or a float that is one (``5e3``, which YAML 1.2 reads as a float)."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong('an integer is needed', value)
    return value


def number(value: Any) -> int | float:
    """A finite int or float."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise wrong('a number is needed', value)
    return value


def wrong(rule: str, value: Any, key: str | None = None) -> PydanticCustomError:
    """The rule and the value received; a number in quotes gets its way out.

    Args:
        key: which key of a section is meant, where a rule joins several.
    """
    message = f'{rule}; got {shown(value)}'
    if isinstance(value, str) and _reads_as_number(value) and ('integer' in rule or 'number' in rule):
        message += ' (remove the quotes)'
    return PydanticCustomError('wrong', '{message}', {'message': message, 'key': key})


def missing(section: type[BaseModel], key: str) -> PydanticCustomError:
    """A key that is needed as another one stands."""
    message = f'missing: {section.model_fields[key].description}'
    return PydanticCustomError('wrong', '{message}', {'message': message, 'key': key})


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise wrong('a text is needed (put it in quotes)', value)
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise wrong('true or false is needed', value)
    return value


def _folder_name(value: str) -> str:
    plain = value.strip() == value and value.isprintable() and not set('/\\') & set(value)
    if not plain or value in ('', '.', '..') or len(value) > 200:
        raise wrong("a plain folder name is needed, without '/' and '..'", value)
    return value


def _at_least(low: float, value: int | float) -> int | float:
    if value < low:
        raise wrong(f'at least {low} is needed', value)
    return value


def _qualities(value: Any) -> Any:
    """A quality factor of JPEG, or a list of them."""
    factors = value if isinstance(value, list) else [value]
    if not all(isinstance(q, int) and not isinstance(q, bool) and 1 <= q <= 100 for q in factors):
        raise wrong('quality factors are integers from 1 to 100', value)
    return value


def _gpus(value: Any) -> int | str:
    if value == 'auto':
        return 'auto'
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise wrong("an integer of at least 0, or 'auto', is needed", value)
    return value


def _levels(value: Any) -> Any:
    """A noise level, or a list of them, in 8-bit units."""
    levels = value if isinstance(value, list) else [value]
    if not levels or any(isinstance(v, bool) or not isinstance(v, int | float) for v in levels):
        raise wrong('a number or a list of numbers is needed', value)
    if any(not math.isfinite(v) or v < 0 for v in levels):
        raise wrong('noise levels are at least 0', value)
    return value


def _names(value: Any) -> Any:
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) for name in names):
        raise wrong('a name or a list of names is needed', value)
    return value


Int = Annotated[int, BeforeValidator(integer)]
Count = Annotated[
    int,
    BeforeValidator(integer),
    AfterValidator(lambda value: _at_least(0, value)),
    WithJsonSchema({'type': 'integer', 'minimum': 0}),
]
Positive = Annotated[
    int,
    BeforeValidator(integer),
    AfterValidator(lambda value: _at_least(1, value)),
    WithJsonSchema({'type': 'integer', 'minimum': 1}),
]
Qualities = Annotated[int | list[int], BeforeValidator(_qualities)]
Number = Annotated[float, BeforeValidator(number)]
Text = Annotated[str, BeforeValidator(_text)]
FolderName = Annotated[
    str,
    BeforeValidator(_text),
    AfterValidator(_folder_name),
    WithJsonSchema({'type': 'string', 'pattern': r'^[^/\\]+$', 'not': {'enum': ['.', '..']}, 'maxLength': 200}),
]
Flag = Annotated[bool, BeforeValidator(_flag)]
Gpus = Annotated[
    int | Literal['auto'],
    BeforeValidator(_gpus),
    WithJsonSchema({'anyOf': [{'type': 'integer', 'minimum': 0}, {'const': 'auto'}]}),
]
Levels = Annotated[
    int | float | list[int | float],
    BeforeValidator(_levels),
    WithJsonSchema(
        {
            'anyOf': [
                {'type': 'number', 'minimum': 0},
                {'type': 'array', 'items': {'type': 'number', 'minimum': 0}, 'minItems': 1},
            ]
        }
    ),
]
Names = Annotated[str | list[str], BeforeValidator(_names)]
Section = dict[str, Any]


class Strict(BaseModel):
    """A section whose keys are all known."""

    model_config = ConfigDict(extra='forbid', strict=True)


class Wandb(Strict):
    """Weights and Biases."""

    project: Text | None = Field(None, description='Project name; null: not used.')
    resume_id: Text | None = Field(None, description='Run to continue; null: a new run.')


class LoggerOptions(Strict):
    """``logger``."""

    print_freq: Positive = Field(100, description='Iterations between two log lines.')
    save_checkpoint_freq: Positive = Field(5000, description='Iterations between two checkpoints.')
    use_tb_logger: Flag = Field(True, description='Write TensorBoard files under tb_logger/.')
    wandb: Wandb | None = Field(None, description='Weights and Biases; needs use_tb_logger.')

    @model_validator(mode='after')
    def _wandb_follows_tensorboard(self) -> 'LoggerOptions':
        if self.wandb is not None and self.wandb.project is not None and not self.use_tb_logger:
            raise wrong('wandb needs use_tb_logger: true', self.use_tb_logger, 'use_tb_logger')
        return self


class PathOptions(Strict):
    """``path``: what a run starts from. The folders it writes are derived from ``name``."""

    pretrain_network_g: Text | None = Field(None, description='Checkpoint to start from or to test.')
    param_key_g: Text | None = Field('params', description='Key of the weights in that file: params or params_ema.')
    strict_load_g: Flag = Field(True, description='Refuse a checkpoint whose keys differ from the network.')
    resume_state: Text | None = Field(None, description='Training state (.state file) to resume from.')
    ignore_resume_networks: Names | None = Field(
        None, description='Networks whose pretrain path is kept when resuming, e.g. network_g.'
    )


class MetricOptions(BaseModel):
    """One entry of ``val.metrics``; further keys are the metric function's own."""

    model_config = ConfigDict(extra='allow', strict=True)

    type: Text = Field(description='Registered metric, e.g. calculate_psnr.')
    better: Literal['higher', 'lower'] = Field('higher', description='Which direction is better.')


class ValOptions(Strict):
    """``val``."""

    val_freq: Positive = Field(5000, description='Iterations between two validations.')
    save_img: Flag = Field(False, description='Write the restored images to disk.')
    suffix: Text | None = Field(None, description='Ending of the written file names; null: the name of the run.')
    pbar: Flag = Field(False, description='Show a progress bar.')
    metrics: dict[str, MetricOptions] | None = Field(None, description='Metrics by label.')
    save_best: Text | None = Field(
        None, description='Keep the best checkpoint by this metric: a label, or <dataset name>/<label>.'
    )


class CommonTrainOptions(Strict):
    """``train`` of all models."""

    total_iter: Positive = Field(description='Training iterations.')
    warmup_iter: Int = Field(-1, description='Iterations of linear learning-rate warm-up; -1: none.')
    ema_decay: Number = Field(0, ge=0, lt=1, description='Decay of the moving average of the weights; 0: none.')
    optim_g: Section = Field(description='Optimizer: type (any of torch.optim), lr and its other arguments.')
    scheduler: Section | None = Field(
        None,
        description='Learning rate by iteration: type, such as MultiStepLR, CosineAnnealingLR or'
        ' CosineAnnealingRestartCyclicLR, and its arguments; null: constant.',
    )
    pixel_opt: Section | None = Field(None, description='Pixel loss: type and arguments of a registered loss.')
    perceptual_opt: Section | None = Field(None, description='Perceptual loss: type and arguments.')
    on_nonfinite: Literal['warn', 'stop'] = Field(
        'warn', description='When the loss is NaN or infinite: warn, once, or stop and keep the last checkpoint.'
    )


class TrainOptions(CommonTrainOptions):
    """``train``."""

    accumulate: Positive = Field(
        1, description='Batches whose gradients are added up before each step: the batch is this many times as large.'
    )
    clip_grad_norm: Number | None = Field(
        None,
        gt=0,
        description='Largest norm of the gradients; null: no limit.',
        json_schema_extra={'exclusiveMinimum': 0},  # pydantic tells it of the check, not of the schema
    )
    amp: Literal['bf16', 'fp16'] | None = Field(
        None, description='Mixed precision: bf16, or fp16 with a scaled loss; null: float32.'
    )
    compile: Flag = Field(False, description='Compile the network (torch.compile); keys of checkpoints stay.')
    channels_last: Flag = Field(False, description='Keep images with their channels last in memory.')


class DistOptions(Strict):
    """``dist_params``."""

    backend: Literal['nccl', 'gloo', 'mpi'] = Field('nccl', description='Backend of torch.distributed.')
    port: Positive = Field(
        29500, le=65535, description='Port of the first process (slurm).', json_schema_extra={'maximum': 65535}
    )


class Noise(Strict):
    """``noise`` of a training set."""

    type: Literal['gaussian', 'uniform', 'laplace', 'rayleigh', 'jpeg'] = Field(
        'gaussian', description='Distribution, scaled to the standard deviation sigma255 / 255; or jpeg.'
    )
    sigma_type: Literal['constant', 'random', 'choice'] = Field(
        'constant', description='One level, a level drawn uniformly from [low, high], or one of a list, per crop.'
    )
    sigma255: Levels | None = Field(None, description='Noise level in 8-bit units: a number, [low, high], or a list.')
    quality: Qualities | None = Field(
        None, description='With type jpeg: its quality factor, 1 to 100, or a list to choose from per crop.'
    )

    @model_validator(mode='after')
    def _levels_fit_type(self) -> 'Noise':
        needed, other = ('quality', 'sigma255') if self.type == 'jpeg' else ('sigma255', 'quality')
        if getattr(self, other) is not None:
            raise wrong(f'type {self.type} has no {other}', getattr(self, other), other)
        if getattr(self, needed) in (None, []):
            raise missing(type(self), needed)
        if self.sigma255 is not None:
            check_levels(self.sigma_type, self.sigma255, 'sigma255')
        return self


class TestNoise(Strict):
    """``noise`` of a validation set; its levels are ``sigma_test``."""

    type: Literal['gaussian', 'uniform', 'laplace', 'rayleigh'] = Field(
        'gaussian', description='Distribution, scaled to the standard deviation sigma_test / 255.'
    )


class Backend(Strict):
    """``io_backend`` of a DenoisingDataset."""

    type: Literal['disk', 'lmdb', 'raw'] = Field(
        'disk', description='A folder of images, a folder *.lmdb, or a folder by basicsr prepare --format raw.'
    )


class DenoisingSet(Strict):
    """Keys that training and validation sets of ``type: DenoisingDataset`` share."""

    name: FolderName = Field(description='Name in logs and result folders.')
    type: Text = Field(description='DenoisingDataset.')
    dataroot_gt: Text = Field(description='Folder of clean images, or LMDB folder.')
    meta_info_file: Text | None = Field(None, description='Text file with the image names to use, one per line.')
    io_backend: Backend = Field(default_factory=Backend, description='How images are stored.')
    in_ch: Annotated[Literal[1, 3], BeforeValidator(integer)] = Field(1, description='Channels: 1 (gray) or 3 (RGB).')


class Progressive(Strict):
    """Restormer's progressive training, in a training set; ``gt_size`` and ``batch_size_per_gpu`` are the largest."""

    gt_size: Positive = Field(description='Side of the square crops, in pixels.')
    batch_size_per_gpu: Positive = Field(description='Crops per GPU and step.')
    iters: list[Positive] | None = Field(None, description='Progressive patch sizes: iterations of each phase.')
    gt_sizes: list[Positive] | None = Field(None, description='Progressive patch sizes: side of the crops by phase.')
    mini_batch_sizes: list[Positive] | None = Field(
        None, description='Progressive patch sizes: crops per GPU by phase.'
    )

    @model_validator(mode='after')
    def _phases_fit(self) -> 'Progressive':
        phases = {key: getattr(self, key) for key in ('iters', 'gt_sizes', 'mini_batch_sizes')}
        if all(value is None for value in phases.values()):
            return self
        for key, value in phases.items():
            if value is None:
                raise missing(Progressive, key)
            if len(value) != len(phases['iters'] or []) or not value:
                raise wrong('one number per phase, as many as iters, is needed', value, key)
        for key, limit in (('gt_sizes', 'gt_size'), ('mini_batch_sizes', 'batch_size_per_gpu')):
            if max(phases[key] or []) > getattr(self, limit):
                raise wrong(f'at most {limit}: {getattr(self, limit)} is possible', phases[key], key)
        return self


class DenoisingTrainSet(Progressive, DenoisingSet):
    """``datasets.train`` with ``type: DenoisingDataset``."""

    geometric_augs: Flag = Field(True, description='Draw one of the 8 flips and rotations.')
    small_images: Literal['reflect', 'refuse'] = Field(
        'reflect', description='What to do with images smaller than gt_size: reflect their borders, or refuse them.'
    )
    noise: Noise | None = Field(None, description='Noise that the model adds, drawn on its device.')
    sigma_type: Literal['constant', 'random', 'choice'] | None = Field(
        None, description="Restormer's spelling of noise.sigma_type; not together with noise."
    )
    sigma_range: Levels | None = Field(None, description="Restormer's spelling of noise.sigma255, in 8-bit units.")
    num_worker_per_gpu: Count = Field(2, description='Loader processes per GPU (per process on a CPU); 0: none.')
    dataset_enlarge_ratio: Positive = Field(1, description='How often an epoch goes through the set.')
    prefetch_mode: Literal['cpu', 'cuda'] | None = Field(None, description='Prefetching: null, cpu or cuda.')
    num_prefetch_queue: Positive = Field(1, description='Batches that prefetch_mode cpu keeps ready.')
    pin_memory: Flag = Field(False, description='Page-locked memory for faster copies to the GPU.')
    persistent_workers: Flag = Field(False, description='Keep loader processes between epochs.')
    target: Literal['clean', 'noise2noise', 'soft_ne'] = Field(
        'clean', description='The clean image, a second noisy copy, or both images times alpha plus mu, drawn per crop.'
    )

    @model_validator(mode='after')
    def _target_fits_noise(self) -> 'DenoisingTrainSet':
        if self.target == 'noise2noise' and self.noise is not None and self.noise.type == 'jpeg':
            raise wrong('two noisy copies need noise, and JPEG is none', self.target, 'target')
        return self

    @model_validator(mode='after')
    def _one_noise(self) -> 'DenoisingTrainSet':
        if self.noise is not None and (self.sigma_type is not None or self.sigma_range is not None):
            key = 'sigma_type' if self.sigma_range is None else 'sigma_range'
            raise wrong("Restormer's key beside noise; keep one of the two", getattr(self, key), key)
        if self.noise is None:
            if self.sigma_range is None:
                raise wrong('a section such as {type: gaussian, sigma255: 25} (8-bit units) is needed', None, 'noise')
            check_levels(self.sigma_type or 'constant', self.sigma_range, 'sigma_range')
        check_loader(self)
        return self


class DenoisingTestSet(DenoisingSet):
    """``datasets.val``, ``val_1``, ``test_1`` ... with ``type: DenoisingDataset``."""

    noise: TestNoise = Field(default_factory=TestNoise, description='Kind of noise.')
    sigma_test: Levels = Field(description='Noise level or levels, in 8-bit units.')
    draws: Positive = Field(1, description='Noise draws per image and level.')


def check_loader(section: Any) -> None:
    """What torch's data loader and BasicSR's prefetcher would refuse later."""
    if section.prefetch_mode == 'cuda' and not section.pin_memory:
        raise wrong('prefetch_mode cuda needs pin_memory: true', section.pin_memory, 'pin_memory')
    if section.persistent_workers and section.num_worker_per_gpu == 0:
        raise wrong('persistent_workers needs at least 1', section.num_worker_per_gpu, 'num_worker_per_gpu')


def check_levels(sigma_type: str, levels: float | list[int | float], key: str) -> None:
    """A number for ``constant``, [low, high] for ``random``, a list for ``choice``."""
    if sigma_type == 'constant' and isinstance(levels, list):
        raise wrong('sigma_type constant takes one number (random takes [low, high], choice a list)', levels, key)
    if sigma_type == 'random' and not (isinstance(levels, list) and len(levels) == 2 and levels[0] <= levels[1]):
        raise wrong('sigma_type random takes [low, high]', levels, key)
    if sigma_type == 'choice' and not isinstance(levels, list):
        raise wrong('sigma_type choice takes a list', levels, key)


class PairBackend(Strict):
    """``io_backend`` of a SIDDDataset."""

    type: Literal['disk', 'lmdb', 'raw', 'mat'] = Field(
        'disk', description="Folders, LMDBs, folders by basicsr prepare --format raw, or SIDD's .mat files of blocks."
    )


class SIDDSet(Strict):
    """``datasets.val``, ``test_1`` ... with ``type: SIDDDataset``."""

    name: FolderName = Field(description='Name in logs and result folders.')
    type: Text = Field(description='SIDDDataset.')
    dataroot_gt: Text = Field(description='Folder, LMDB folder or .mat file of the clean images.')
    dataroot_lq: Text = Field(description='Folder, LMDB folder or .mat file of the noisy images.')
    io_backend: PairBackend = Field(default_factory=PairBackend, description='How images are stored.')
    in_ch: Annotated[Literal[1, 3], BeforeValidator(integer)] = Field(3, description='Channels: 1 (gray) or 3 (RGB).')


class SIDDTrainSet(Progressive, SIDDSet):
    """``datasets.train`` with ``type: SIDDDataset``."""

    geometric_augs: Flag = Field(True, description='Draw one of the 8 flips and rotations.')
    num_worker_per_gpu: Count = Field(2, description='Loader processes per GPU (per process on a CPU); 0: none.')
    dataset_enlarge_ratio: Positive = Field(1, description='How often an epoch goes through the set.')
    prefetch_mode: Literal['cpu', 'cuda'] | None = Field(None, description='Prefetching: null, cpu or cuda.')
    num_prefetch_queue: Positive = Field(1, description='Batches that prefetch_mode cpu keeps ready.')
    pin_memory: Flag = Field(False, description='Page-locked memory for faster copies to the GPU.')
    persistent_workers: Flag = Field(False, description='Keep loader processes between epochs.')

    @model_validator(mode='after')
    def _loader_fits(self) -> 'SIDDTrainSet':
        check_loader(self)
        return self


class ForeignSet(BaseModel):
    """A data set of another type. What further keys mean is up to its class."""

    model_config = ConfigDict(extra='allow', strict=True)

    name: FolderName = Field(description='Name in logs and result folders.')
    type: Text = Field(description='Registered data set.')
    io_backend: Section | None = Field(None, description='How images are stored: type disk, lmdb or memcached.')


class ForeignTrainSet(ForeignSet):
    """``datasets.train`` of another type: what BasicSR's data loader needs."""

    num_worker_per_gpu: Count = Field(2, description='Loader processes per GPU (per process on a CPU); 0: none.')
    batch_size_per_gpu: Positive = Field(description='Samples per GPU and step.')
    dataset_enlarge_ratio: Positive = Field(1, description='How often an epoch goes through the set.')
    prefetch_mode: Literal['cpu', 'cuda'] | None = Field(None, description='Prefetching: null, cpu or cuda.')
    num_prefetch_queue: Positive = Field(1, description='Batches that prefetch_mode cpu keeps ready.')
    pin_memory: Flag = Field(False, description='Page-locked memory for faster copies to the GPU.')
    persistent_workers: Flag = Field(False, description='Keep loader processes between epochs.')

    @model_validator(mode='after')
    def _loader_fits(self) -> 'ForeignTrainSet':
        check_loader(self)
        return self


class Options(Strict):
    """An option file of ``model_type: DenoisingModel``."""

    name: FolderName = Field(description='Name of the run and of its folder under experiments/ or results/.')
    model_type: Text = Field(description='Registered model.')
    scale: Positive = Field(1, description='Size of the output over that of the input.')
    num_gpu: Gpus = Field('auto', description='GPUs to use; 0: CPU; auto: all that are there.')
    manual_seed: Count | None = Field(None, description='Seed of all random draws; null: a new one each run.')
    datasets: dict[str, Section] = Field(description='Data sets: train, val, val_1, test_1 ...')
    network_g: Section = Field(description='Network: type and arguments of a registered architecture.')
    path: PathOptions = Field(default_factory=PathOptions, description='Weights and states to start from.')
    train: TrainOptions | None = Field(None, description='Training; not needed to test.')
    val: ValOptions | None = Field(None, description='Validation.')
    logger: LoggerOptions | None = Field(None, description='Logging and checkpoints.')
    dist_params: DistOptions | None = Field(None, description='Distributed training.')
    find_unused_parameters: Flag = Field(False, description='Argument of DistributedDataParallel.')


class ForeignPath(PathOptions):
    """``path`` of BasicSR's other models: pretrain_network_d and the like as well."""

    model_config = ConfigDict(extra='allow', strict=True)


class ForeignVal(ValOptions):
    """``val`` of BasicSR's other models."""

    model_config = ConfigDict(extra='allow', strict=True)


class ForeignTrain(CommonTrainOptions):
    """``train`` of BasicSR's other models."""

    model_config = ConfigDict(extra='allow', strict=True)

    @model_validator(mode='after')
    def _nothing_without_effect(self) -> 'ForeignTrain':
        for key, value in (self.model_extra or {}).items():
            if key in set(TrainOptions.model_fields) - set(CommonTrainOptions.model_fields) and value:
                raise wrong('needs model_type: DenoisingModel; other models do not read it', value, key)
        return self


class ForeignOptions(Options):
    """An option file of BasicSR's other models."""

    model_config = ConfigDict(extra='allow', strict=True)

    path: ForeignPath = Field(default_factory=ForeignPath, description='Weights and states to start from.')
    train: ForeignTrain | None = Field(  # type: ignore[assignment]
        None, description='Training; not needed to test.'
    )
    val: ForeignVal | None = Field(None, description='Validation.')
