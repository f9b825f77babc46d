"""The sections of an option file that this package owns, as JSON Schema: names, types, bounds, defaults, descriptions.

This is the one place to add an option. What ``load_options`` refuses and fills in, the schema for editors, the printed
reference and the comments in a printed option file all come from here. ``errorMessage`` is the rule in words, which
editors show, too. Sections whose type a registry decides are references (``choice``), which ``sections.py`` resolves.
"""

from typing import Any

Section = dict[str, Any]  # the JSON Schema of a section or of one key

MAX_SEED = 2**31 - 1  # NumPy takes 32 bits, and loaders add the numbers of their workers
MAX_LEVEL = 100_000  # in float32, noise of more swallows the gray levels of the image
_NEEDED = object()


def key(types: str, description: str, default: Any = _NEEDED, **rules: Any) -> Section:
    """One key: its JSON types, such as ``'string null'``; it is required where there is no default.

    Args:
        rules: other keywords of JSON Schema. With ``enum`` or ``anyOf`` no types are needed.
    """
    kinds = types.split() + ['null'] * (default is None)
    if 'enum' in rules:
        rules['enum'] = [*rules['enum'], *([None] if 'null' in kinds else [])]
    elif 'anyOf' in rules:
        rules['anyOf'] = [*rules['anyOf'], *([{'type': 'null'}] if 'null' in kinds else [])]
    else:
        rules = {'type': kinds[0] if len(kinds) == 1 else kinds, **rules}
    return {'description': description, **rules, **({} if default is _NEEDED else {'default': default})}


def section(description: str, keys: dict[str, Section], default: Any = _NEEDED, **rules: Any) -> Section:
    """A section that holds ``keys`` and no others."""
    required = [name for name, each in keys.items() if 'default' not in each]
    rules = {'properties': keys, 'required': required, 'additionalProperties': False, **rules}
    return key('object', description, default, **rules)


def choice(kind: str, description: str = '', default: Any = _NEEDED) -> Section:
    """A section ``{type: <registered name>, <its arguments>}``; ``kind`` is one of ``sections.KINDS``."""
    return key('object', description, default, allOf=[{'$ref': f'#/definitions/{kind}'}])


def _word(choices: str, description: str, default: Any = _NEEDED) -> Section:
    return key('', description, default, enum=choices.split())


def _whole(description: str, default: Any = _NEEDED, minimum: int = 1, maximum: int | None = None) -> Section:
    bounds = {'minimum': minimum, 'maximum': maximum}
    return key('integer', description, default, **{name: bound for name, bound in bounds.items() if bound is not None})


def _folder_name(description: str, default: Any = _NEEDED) -> Section:
    rule = "a plain folder name is needed, without '/' and '..'"
    return key('string', description, default, pattern=r'^[^/\\]+$', format='folder-name', errorMessage=rule)


def _levels(description: str, default: Any = _NEEDED) -> Section:
    level = {'type': 'number', 'minimum': 0, 'maximum': MAX_LEVEL}
    levels = {'type': 'array', 'items': level, 'minItems': 1}
    rule = f'noise levels are numbers or lists of numbers from 0 to {MAX_LEVEL}, in units of 8-bit images'
    return key('', description, default, anyOf=[level, levels], errorMessage=rule)


def _phases(what: str) -> Section:
    items = {'type': 'integer', 'minimum': 1}
    return key('array', f'Progressive patch sizes: {what}', None, items=items)


BASE = key(
    'string',
    'Option file that this one differs from, relative to it: sections are merged, lists are replaced, null removes a'
    ' key.',
    None,
)

# -- top level ---------------------------------------------------------------------------------------------------------

_WANDB = {
    'project': key('string', 'Project name; null: not used.', None),
    'resume_id': key('string', 'Run to continue; null: a new run.', None),
}
_LOGGER = {
    'print_freq': _whole('Iterations between two log lines.', 100),
    'save_checkpoint_freq': _whole('Iterations between two checkpoints.', 5000),
    'use_tb_logger': key('boolean', 'Write TensorBoard files under tb_logger/.', True),
    'wandb': section('Weights and Biases; needs use_tb_logger.', _WANDB, None),
}
_PATH = {
    'pretrain_network_g': key('string', 'Checkpoint to start from or to test.', None),
    'param_key_g': key('string null', 'Key of the weights in that file: params or params_ema.', 'params'),
    'strict_load_g': key('boolean', 'Refuse a checkpoint whose keys differ from the network.', True),
    'resume_state': key('string', 'Training state (.state file) to resume from.', None),
    'ignore_resume_networks': key(
        '',
        'Networks whose pretrain path is kept when resuming, e.g. network_g.',
        None,
        anyOf=[{'type': 'string'}, {'type': 'array', 'items': {'type': 'string'}}],
        errorMessage='a name or a list of names is needed',
    ),
}
BETTER = _word('higher lower', 'Which direction is better.', 'higher')
_VAL = {
    'val_freq': _whole('Iterations between two validations.', 5000),
    'save_img': key('boolean', 'Write the restored images to disk.', False),
    'suffix': _folder_name('Ending of the written file names; null: the name of the run.', None),
    'pbar': key('boolean', 'Show a progress bar.', False),
    'metrics': key('object', 'Metrics by label.', None, additionalProperties=choice('metrics')),
    'save_best': key('string', 'Keep the best checkpoint by this metric: a label, or <dataset name>/<label>.', None),
}
_TRAIN = {  # of all models
    'total_iter': _whole('Training iterations.', maximum=10**9),
    'warmup_iter': _whole('Iterations of linear learning-rate warm-up; -1: none.', -1, minimum=-1),
    'ema_decay': key(
        'number', 'Decay of the moving average of the weights; 0: none.', 0, minimum=0, exclusiveMaximum=1
    ),
    'optim_g': choice('optimizers', 'Optimizer: type (any of torch.optim), lr and its other arguments.'),
    'scheduler': choice(
        'schedulers',
        'Learning rate by iteration: type, such as MultiStepLR, CosineAnnealingLR or CosineAnnealingRestartCyclicLR,'
        ' and its arguments; null: constant.',
        None,
    ),
    'pixel_opt': choice('losses', 'Pixel loss: type and arguments of a registered loss.', None),
    'perceptual_opt': choice('losses', 'Perceptual loss: type and arguments.', None),
    'on_nonfinite': _word(
        'warn stop', 'When the loss is NaN or infinite: warn, once, or stop and keep the last checkpoint.', 'warn'
    ),
}
OWN_TRAIN = {  # read by this package's models alone
    'accumulate': _whole(
        'Batches whose gradients are added up before each step: the batch is this many times as large.', 1, maximum=1000
    ),
    'clip_grad_norm': key('number', 'Largest norm of the gradients; null: no limit.', None, exclusiveMinimum=0),
    'amp': _word('bf16 fp16', 'Mixed precision: bf16, or fp16 with a scaled loss; null: float32.', None),
    'compile': key('boolean', 'Compile the network (torch.compile); keys of checkpoints stay.', False),
    'channels_last': key('boolean', 'Keep images with their channels last in memory.', False),
}
_DIST = {
    'backend': _word('nccl gloo mpi', 'Backend of torch.distributed.', 'nccl'),
    'port': _whole('Port of the first process (slurm).', 29500, maximum=65535),
}
_SETS = {'^train$': choice('train_sets'), '^(val|test)(_.*)?$': choice('test_sets')}
_TOP = {
    'name': _folder_name('Name of the run and of its folder under experiments/ or results/.'),
    'model_type': key('string', 'Registered model.'),
    'scale': _whole('Size of the output over that of the input.', 1),
    'num_gpu': key(
        '',
        'GPUs to use; 0: CPU; auto: all that are there.',
        'auto',
        anyOf=[{'type': 'integer', 'minimum': 0}, {'const': 'auto'}],
        errorMessage="an integer of at least 0, or 'auto', is needed",
    ),
    'manual_seed': _whole('Seed of all random draws; null: a new one each run.', None, minimum=0, maximum=MAX_SEED),
    'datasets': key(
        'object', 'Data sets: train, val, val_1, test_1 ...', patternProperties=_SETS, additionalProperties=False
    ),
    'network_g': choice('networks', 'Network: type and arguments of a registered architecture.'),
    'path': section('Weights and states to start from.', _PATH, {}),
    'train': section('Training; not needed to test.', _TRAIN | OWN_TRAIN, None),
    'val': section('Validation.', _VAL, None),
    'logger': section('Logging and checkpoints.', _LOGGER, None),
    'dist_params': section('Distributed training.', _DIST, None),
    'find_unused_parameters': key('boolean', 'Argument of DistributedDataParallel.', False),
}
OWN = section('An option file of `model_type: DenoisingModel`.', _TOP)

# BasicSR's other models read further keys (``foreign.py`` compares those with what the model's class reads)
_open = {'additionalProperties': True}
_FURTHER = {'^optim_.+$': choice('optimizers'), '^.+_opt$': choice('losses')}
_FOREIGN_METRICS = key('object', 'Metrics by label.', None, additionalProperties=choice('foreign_metrics'))
_FOREIGN = {
    'path': _TOP['path'] | _open,
    'train': section('Training; not needed to test.', _TRAIN, None, patternProperties=_FURTHER, **_open),
    'val': section('Validation.', _VAL | {'metrics': _FOREIGN_METRICS}, None, **_open),
}
_NETWORKS = {'^network_.+$': choice('networks')}
FOREIGN = section("An option file of BasicSR's other models.", _TOP | _FOREIGN, patternProperties=_NETWORKS, **_open)

# -- data sets ---------------------------------------------------------------------------------------------------------

_NAME = {'name': _folder_name('Name in logs and result folders.')}
_LOADING = {  # read by BasicSR's data loader and prefetcher
    'num_worker_per_gpu': _whole(
        'Loader processes per GPU (per process on a CPU); 0: none.', 2, minimum=0, maximum=1000
    ),
    'dataset_enlarge_ratio': _whole('How often an epoch goes through the set.', 1, maximum=10**6),
    'prefetch_mode': _word('cpu cuda', 'Prefetching: null, cpu or cuda.', None),
    'num_prefetch_queue': _whole('Batches that prefetch_mode cpu keeps ready.', 1, maximum=1000),
    'pin_memory': key('boolean', 'Page-locked memory for faster copies to the GPU.', False),
    'persistent_workers': key('boolean', 'Keep loader processes between epochs.', False),
}
_CROPS = {
    'gt_size': _whole('Side of the square crops, in pixels; one pixel has no contrast.', minimum=2, maximum=10_000),
    'batch_size_per_gpu': _whole('Crops per GPU and step.', maximum=10**6),
    'geometric_augs': key('boolean', 'Draw one of the 8 flips and rotations.', True),
    'iters': _phases('iterations of each phase.'),
    'gt_sizes': _phases('side of the crops by phase.'),
    'mini_batch_sizes': _phases('crops per GPU by phase.'),
}


def _stored(types: str, description: str) -> Section:
    return section('How images are stored.', {'type': _word(types, description, 'disk')}, {})


def _in_ch(default: int) -> Section:
    return key('', 'Channels: 1 (gray) or 3 (RGB).', default, enum=[1, 3])


_DISTRIBUTIONS = 'gaussian uniform laplace rayleigh'
_LEVEL_RULES = 'constant random choice'
_QUALITY = {'type': 'integer', 'minimum': 1, 'maximum': 100}
_SCALED = 'Distribution, scaled to the standard deviation'
_NOISE = {
    'type': _word(f'{_DISTRIBUTIONS} jpeg', f'{_SCALED} sigma255 / 255; or jpeg.', 'gaussian'),
    'sigma_type': _word(
        _LEVEL_RULES, 'One level, a level drawn uniformly from [low, high], or one of a list, per crop.', 'constant'
    ),
    'sigma255': _levels('Noise level in 8-bit units: a number, [low, high], or a list.', None),
    'quality': key(
        '',
        'With type jpeg: its quality factor, 1 to 100, or a list to choose from per crop.',
        None,
        anyOf=[_QUALITY, {'type': 'array', 'items': _QUALITY}],
        errorMessage='quality factors are integers from 1 to 100',
    ),
}
_TEST_NOISE = {'type': _word(_DISTRIBUTIONS, f'{_SCALED} sigma_test / 255.', 'gaussian')}
_CLEAN = _NAME | {
    'type': key('string', 'DenoisingDataset.'),
    'dataroot_gt': key('string', 'Folder of clean images, or LMDB folder.'),
    'meta_info_file': key('string', 'Text file with the image names to use, one per line.', None),
    'io_backend': _stored(
        'disk lmdb raw', 'A folder of images, a folder *.lmdb, or a folder by basicsr prepare --format raw.'
    ),
    'in_ch': _in_ch(1),
}
_CLEAN_TRAIN = {
    'small_images': _word(
        'reflect refuse',
        'What to do with images smaller than gt_size: reflect their borders, or refuse them.',
        'reflect',
    ),
    'noise': section('Noise that the model adds, drawn on its device.', _NOISE, None),
    'sigma_type': _word(_LEVEL_RULES, "Restormer's spelling of noise.sigma_type; not together with noise.", None),
    'sigma_range': _levels("Restormer's spelling of noise.sigma255, in 8-bit units.", None),
    'target': _word(
        'clean noise2noise soft_ne',
        'The clean image, a second noisy copy, or both images times alpha plus mu, drawn per crop.',
        'clean',
    ),
}
_CLEAN_TEST = {
    'noise': section('Kind of noise.', _TEST_NOISE, {}),
    'sigma_test': _levels('Noise level or levels, in 8-bit units.'),
    'draws': _whole('Noise draws per image and level.', 1, maximum=10_000),
}
_PAIRS = _NAME | {
    'type': key('string', 'SIDDDataset.'),
    'dataroot_gt': key('string', 'Folder, LMDB folder or .mat file of the clean images.'),
    'dataroot_lq': key('string', 'Folder, LMDB folder or .mat file of the noisy images.'),
    'io_backend': _stored(
        'disk lmdb raw mat',
        "Folders, LMDBs, folders by basicsr prepare --format raw, or SIDD's .mat files of blocks.",
    ),
    'in_ch': _in_ch(3),
}
OWN_SETS = {  # the one for training, the ones for validation and tests
    'DenoisingDataset': (
        section('`datasets.train` with `type: DenoisingDataset`.', _CLEAN | _CROPS | _LOADING | _CLEAN_TRAIN),
        section('`datasets.val`, `val_1`, `test_1` ... with `type: DenoisingDataset`.', _CLEAN | _CLEAN_TEST),
    ),
    'SIDDDataset': (
        section('`datasets.train` with `type: SIDDDataset`.', _PAIRS | _CROPS | _LOADING),
        section('`datasets.val`, `test_1` ... with `type: SIDDDataset`.', _PAIRS),
    ),
}
_FOREIGN_SET = _NAME | {
    'type': key('string', 'Registered data set.'),
    'io_backend': key('object', 'How images are stored: type disk, lmdb or memcached.', None),
}
_SAMPLES = {'batch_size_per_gpu': _whole('Samples per GPU and step.')}
FOREIGN_SETS = (
    section("`datasets.train` of another type: what BasicSR's data loader needs.", _FOREIGN_SET | _LOADING | _SAMPLES),
    section('A data set of another type.', _FOREIGN_SET),
)
