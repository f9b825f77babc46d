"""Data sets in option files: clean images, pairs, and the sets of other packages, each for training and for tests."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from ne_basicsr.options.schema import Strict
from ne_basicsr.options.values import (
    Flag,
    FolderName,
    Int,
    Levels,
    Positive,
    Qualities,
    Section,
    Text,
    Workers,
    integer,
    wrong,
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


class Loading(BaseModel):
    """What BasicSR's data loader and prefetcher read, in a training set."""

    num_worker_per_gpu: Workers = Field(2, description='Loader processes per GPU (per process on a CPU); 0: none.')
    dataset_enlarge_ratio: Positive = Field(
        1, le=10**6, description='How often an epoch goes through the set.', json_schema_extra={'maximum': 10**6}
    )
    prefetch_mode: Literal['cpu', 'cuda'] | None = Field(None, description='Prefetching: null, cpu or cuda.')
    num_prefetch_queue: Positive = Field(
        1, le=1000, description='Batches that prefetch_mode cpu keeps ready.', json_schema_extra={'maximum': 1000}
    )
    pin_memory: Flag = Field(False, description='Page-locked memory for faster copies to the GPU.')
    persistent_workers: Flag = Field(False, description='Keep loader processes between epochs.')

    @model_validator(mode='after')
    def _loader_fits(self) -> 'Loading':
        if self.prefetch_mode == 'cuda' and not self.pin_memory:
            raise wrong('prefetch_mode cuda needs pin_memory: true', self.pin_memory, 'pin_memory')
        if self.persistent_workers and self.num_worker_per_gpu == 0:
            raise wrong('persistent_workers needs at least 1', self.num_worker_per_gpu, 'num_worker_per_gpu')
        return self


class Crops(Strict):
    """The crops of a training set. With Restormer's progressive patch sizes those of the section are the largest."""

    gt_size: Int = Field(
        ge=2,
        le=10_000,
        description='Side of the square crops, in pixels; one pixel has no contrast.',
        json_schema_extra={'minimum': 2, 'maximum': 10_000},
    )
    batch_size_per_gpu: Positive = Field(
        le=10**6, description='Crops per GPU and step.', json_schema_extra={'maximum': 10**6}
    )
    geometric_augs: Flag = Field(True, description='Draw one of the 8 flips and rotations.')
    iters: list[Positive] | None = Field(None, description='Progressive patch sizes: iterations of each phase.')
    gt_sizes: list[Positive] | None = Field(None, description='Progressive patch sizes: side of the crops by phase.')
    mini_batch_sizes: list[Positive] | None = Field(
        None, description='Progressive patch sizes: crops per GPU by phase.'
    )

    @model_validator(mode='after')
    def _phases_fit(self) -> 'Crops':
        phases = {key: getattr(self, key) for key in ('iters', 'gt_sizes', 'mini_batch_sizes')}
        if all(value is None for value in phases.values()):
            return self
        for key, value in phases.items():
            if value is None:
                raise missing(Crops, key)
            if len(value) != len(phases['iters'] or []) or not value:
                raise wrong('one number per phase, as many as iters, is needed', value, key)
        for key, limit in (('gt_sizes', 'gt_size'), ('mini_batch_sizes', 'batch_size_per_gpu')):
            if max(phases[key] or []) > getattr(self, limit):
                raise wrong(f'at most {limit}: {getattr(self, limit)} is possible', phases[key], key)
        return self


class DenoisingTrainSet(Loading, Crops, DenoisingSet):
    """``datasets.train`` with ``type: DenoisingDataset``."""

    small_images: Literal['reflect', 'refuse'] = Field(
        'reflect', description='What to do with images smaller than gt_size: reflect their borders, or refuse them.'
    )
    noise: Noise | None = Field(None, description='Noise that the model adds, drawn on its device.')
    sigma_type: Literal['constant', 'random', 'choice'] | None = Field(
        None, description="Restormer's spelling of noise.sigma_type; not together with noise."
    )
    sigma_range: Levels | None = Field(None, description="Restormer's spelling of noise.sigma255, in 8-bit units.")
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
        return self


class DenoisingTestSet(DenoisingSet):
    """``datasets.val``, ``val_1``, ``test_1`` ... with ``type: DenoisingDataset``."""

    noise: TestNoise = Field(default_factory=TestNoise, description='Kind of noise.')
    sigma_test: Levels = Field(description='Noise level or levels, in 8-bit units.')
    draws: Positive = Field(
        1, le=10_000, description='Noise draws per image and level.', json_schema_extra={'maximum': 10_000}
    )


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


class SIDDTrainSet(Loading, Crops, SIDDSet):
    """``datasets.train`` with ``type: SIDDDataset``."""


class ForeignSet(BaseModel):
    """A data set of another type. What further keys mean is up to its class."""

    model_config = ConfigDict(extra='allow', strict=True)

    name: FolderName = Field(description='Name in logs and result folders.')
    type: Text = Field(description='Registered data set.')
    io_backend: Section | None = Field(None, description='How images are stored: type disk, lmdb or memcached.')


class ForeignTrainSet(Loading, ForeignSet):
    """``datasets.train`` of another type: what BasicSR's data loader needs."""

    batch_size_per_gpu: Positive = Field(description='Samples per GPU and step.')


def missing(section: type[BaseModel], key: str) -> PydanticCustomError:
    """A key that is needed as another one stands."""
    message = f'missing: {section.model_fields[key].description}'
    return PydanticCustomError('wrong', '{message}', {'message': message, 'key': key})
