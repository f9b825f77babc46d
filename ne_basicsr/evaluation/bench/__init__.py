"""Time, memory and arithmetic of networks side by side: what to measure (request), measuring, and tables of it."""

from ne_basicsr.evaluation.bench.measure import Phase, Report, Setting, Timing, measure
from ne_basicsr.evaluation.bench.request import PRESETS, Preset, parse_networks, parse_settings, parse_shape
from ne_basicsr.evaluation.bench.table import content_of, rows, table

__all__ = [
    'PRESETS', 'Phase', 'Preset', 'Report', 'Setting', 'Timing', 'content_of', 'measure', 'parse_networks',
    'parse_settings', 'parse_shape', 'rows', 'table',
]  # fmt: skip
