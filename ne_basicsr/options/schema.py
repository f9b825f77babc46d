"""The sections of an option file that this package owns: names, types, units and defaults, one line each.

Two families share their fields: ``Options`` is strict, for ``model_type: DenoisingModel``; ``ForeignOptions`` is for
BasicSR's other models, whose further keys pass (``validation.py`` compares those with what the model's class reads).
Sections that a registry decides (networks, losses, optimizers, schedulers, metrics) are mappings here; data sets have
their classes in ``data_schema.py``.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ne_basicsr.options.values import Flag, FolderName, Gpus, Int, Names, Number, Positive, Section, Seed, Text, wrong


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
    suffix: FolderName | None = Field(None, description='Ending of the written file names; null: the name of the run.')
    pbar: Flag = Field(False, description='Show a progress bar.')
    metrics: dict[str, MetricOptions] | None = Field(None, description='Metrics by label.')
    save_best: Text | None = Field(
        None, description='Keep the best checkpoint by this metric: a label, or <dataset name>/<label>.'
    )


class CommonTrainOptions(Strict):
    """``train`` of all models."""

    total_iter: Positive = Field(le=10**9, description='Training iterations.', json_schema_extra={'maximum': 10**9})
    warmup_iter: Int = Field(
        -1,
        ge=-1,
        description='Iterations of linear learning-rate warm-up; -1: none.',
        json_schema_extra={'minimum': -1},
    )
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
        1,
        le=1000,
        description='Batches whose gradients are added up before each step: the batch is this many times as large.',
        json_schema_extra={'maximum': 1000},
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


class Options(Strict):
    """An option file of ``model_type: DenoisingModel``."""

    name: FolderName = Field(description='Name of the run and of its folder under experiments/ or results/.')
    model_type: Text = Field(description='Registered model.')
    scale: Positive = Field(1, description='Size of the output over that of the input.')
    num_gpu: Gpus = Field('auto', description='GPUs to use; 0: CPU; auto: all that are there.')
    manual_seed: Seed | None = Field(None, description='Seed of all random draws; null: a new one each run.')
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
