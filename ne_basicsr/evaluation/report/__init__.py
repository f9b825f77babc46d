"""Everything that evaluations write: figures, tables, files and pages.

Figures are plain ``matplotlib.figure.Figure`` objects, never pyplot's: nothing is global, nothing is kept, threads may
draw. They are sized for one column of a two-column paper, with text of 7 points and more (``style``): over degradations
(``figures``, whose axis is ``horizontal``), of the ``analysis`` and of the sampler. ``files`` writes
them, ``tables`` writes CSV, JSON and plain text, ``page`` fills the HTML templates in ``templates/``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ne_basicsr.evaluation.report.figures import FLOAT32_ROUNDING, defect_figure, mismatch_figure, ssim_figure
    from ne_basicsr.evaluation.report.files import figure_array, figure_svg, save_figure, save_figures
    from ne_basicsr.evaluation.report.horizontal import input_psnr

__all__ = [
    'FLOAT32_ROUNDING', 'defect_figure', 'figure_array', 'figure_svg', 'input_psnr', 'mismatch_figure', 'save_figure',
    'save_figures', 'ssim_figure',
]  # fmt: skip


def __getattr__(name: str) -> Any:
    # matplotlib takes 0.4 s to import, and commands that draw nothing need the tables
    for room in ('figures', 'files', 'horizontal') if name in __all__ else ():
        if hasattr(module := import_module(f'{__name__}.{room}'), name):
            return getattr(module, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
