"""The figure of a sampler's walks: a measure against the step, every walk thin, the mean of a network thick."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ne_basicsr.evaluation.report.style import finish, limits, new_figure, plot_network

Walk = Sequence[float]
"""A value at each step 0, 1, 2, ..."""


def trajectory_figure(walks: Mapping[str, Sequence[Walk]], label: str, *, log: bool = False) -> Figure:
    """The walks of each network, by its name.

    Args:
        walks: all walks of each network; one that has ended counts for the mean with its last value.
        label: of the vertical axis.
        log: a logarithmic vertical axis.
    """
    figure, axes = new_figure(walks, 'step', label)
    handles = []
    for number, own in enumerate(walks.values()):
        thick = mean_walk(own)
        line = plot_network(axes, number, range(len(thick)), thick, len(walks))
        for each in own if len(own) > 1 else []:
            axes.plot(range(len(each)), each, color=line.get_color(), linewidth=0.5, alpha=0.35, zorder=1)
        handles.append(line)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True))
    axes.set_xlim(limits([0.0, *(len(walk) - 1.0 for own in walks.values() for walk in own)], 4.0))
    if log:
        axes.set_yscale('log')
    return finish(figure, handles, list(walks))


def mean_walk(walks: Sequence[Walk]) -> list[float]:
    """The mean at each step; a walk that has ended counts with its last value."""
    length = max(map(len, walks), default=0)
    return [sum(walk[min(step, len(walk) - 1)] for walk in walks) / len(walks) for step in range(length)]
