"""Figures: PSNR, SSIM and defect over degradations, as files, as arrays and as SVG for pages.

Figures are plain ``matplotlib.figure.Figure`` objects, never pyplot's: nothing is global, nothing is kept, threads may
draw. They are sized for one column of a two-column paper, with text of 7 points and more (``style``). What they show is
in ``figures``, over what in ``horizontal``, what becomes of them in ``files``. Pages
are ``html_page``.
"""

from ne_basicsr.evaluation.report.figures import FLOAT32_ROUNDING, defect_figure, mismatch_figure, ssim_figure
from ne_basicsr.evaluation.report.files import figure_array, figure_svg, save_figure, save_figures
from ne_basicsr.evaluation.report.horizontal import input_psnr

__all__ = [
    'FLOAT32_ROUNDING',
    'defect_figure',
    'figure_array',
    'figure_svg',
    'input_psnr',
    'mismatch_figure',
    'save_figure',
    'save_figures',
    'ssim_figure',
]
