"""Everything that evaluations write: figures, tables, files and pages.

Figures are plain ``matplotlib.figure.Figure`` objects, never pyplot's: nothing is global, nothing is kept, threads may
draw. They are sized for one column of a two-column paper, with text of 7 points and more (``style``): over degradations
(``figures``), of the ``analysis`` and of the sampler. ``files`` writes them, ``tables`` writes CSV, JSON and plain
text, ``page`` fills the HTML templates in ``templates/``.
"""
