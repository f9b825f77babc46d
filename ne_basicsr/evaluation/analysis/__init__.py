"""What a denoiser sees and does in normalized coordinates: functions that return arrays and rows.

How hard images are, how much of one noise level another covers, how well a denoiser does at each (``difficulty``); its
adaptive filters, rows of the Jacobian (``filters``); what an arbitrary interval [a, b] does to its answer
(``intervals``). For command lines: a ``study`` of networks on patches, and its ``outputs``.
"""

from ne_basicsr.evaluation.analysis.difficulty import (
    central,
    contrast,
    coverage,
    coverage_table,
    difficulties,
    difficulty,
    draw_patches,
    noisy_patches,
    qualities,
    quality_curve,
    residual_quality,
    sizes_of,
)
from ne_basicsr.evaluation.analysis.filters import Homogeneity, adaptive_filter, homogeneity
from ne_basicsr.evaluation.analysis.intervals import in_interval, interval_rows

__all__ = [
    'Homogeneity', 'adaptive_filter', 'central', 'contrast', 'coverage', 'coverage_table', 'difficulties', 'difficulty',
    'draw_patches', 'homogeneity', 'in_interval', 'interval_rows', 'noisy_patches', 'qualities', 'quality_curve',
    'residual_quality', 'sizes_of',
]  # fmt: skip
