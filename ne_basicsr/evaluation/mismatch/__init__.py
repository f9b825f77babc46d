"""The mismatch evaluation: denoisers under noise levels and other degradations that they were not trained for.

Cells, one for each image, level and draw, become rows (``sweep``); rows become curves (``metrics.curves``). Networks
over data sets become a comparison (``comparison``: its ``units`` of work, and the ``work``), whose finished cells are
kept (``utils.result_store``); ``outputs`` writes tables, figures and the page, from ``summaries``.
"""

from ne_basicsr.evaluation.mismatch.sweep import Measure, mismatch, sweep
from ne_basicsr.evaluation.report.tables import write_rows as write_csv
from ne_basicsr.metrics.curves import Curve, Row, Summary, curve, drop_from, means, summarize

__all__ = [
    'Curve', 'Measure', 'Row', 'Summary', 'curve', 'drop_from', 'means', 'mismatch', 'summarize', 'sweep', 'write_csv',
]  # fmt: skip
