"""Sampling with a denoiser as the prior: inpainting and other linear inverse problems, and denoising in small steps.

Measurements are projectors (``projectors``); the walk is Algorithm 1 (``sampler``); trajectories, their rows and
the aggregates of tables are in ``trajectories``. For command lines: ``tasks`` by name, a ``session`` of networks over
images, its ``outputs``.
"""

from ne_basicsr.evaluation.sampling.projectors import (
    BlockMeans,
    LowPass,
    Nothing,
    Pixels,
    Projector,
    around_hole,
    low_frequencies,
    random_pixels,
)
from ne_basicsr.evaluation.sampling.sampler import RESIDUAL_STOPPED, SAMPLING, Noise, Schedule, State, start, walk
from ne_basicsr.evaluation.sampling.trajectories import (
    Quality,
    Record,
    Spread,
    Trajectory,
    aggregate,
    sample,
    summarize,
)

__all__ = [
    'RESIDUAL_STOPPED', 'SAMPLING', 'BlockMeans', 'LowPass', 'Noise', 'Nothing', 'Pixels', 'Projector', 'Quality',
    'Record', 'Schedule', 'Spread', 'State', 'Trajectory', 'aggregate', 'around_hole', 'low_frequencies',
    'random_pixels', 'sample', 'start', 'summarize', 'walk',
]  # fmt: skip
