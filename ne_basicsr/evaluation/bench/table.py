"""The results of a bench as rows, as a table and as JSON."""

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from ne_basicsr.evaluation.bench.measure import Phase, Report, describe_setting
from ne_basicsr.evaluation.bench.request import Ratios
from ne_basicsr.evaluation.report.tables import text_table

PHASES = {'inference': 'inference', 'training': 'training step'}


class Interval(NamedTuple):
    """A median between two bounds."""

    median: float
    low: float
    high: float


def rows(report: Report, phase: str) -> list[dict[str, Any]]:
    """One row per network, for ``inference`` or ``training``.

    ``milliseconds`` between quartiles; ``ratio`` to the first network in the same round, within an interval of 95%
    confidence; ``floor_ms``, what the device needs for the matrix products and convolutions alone.
    """
    phases: list[Phase] = [getattr(network, phase) for network in report.networks]
    return [
        {
            'name': network.name,
            'parameters': network.parameters,
            'milliseconds': quartiles([1000 * seconds for seconds in own.seconds]),
            'ratio': median_interval([b / a for a, b in zip(phases[0].seconds, own.seconds, strict=True)]),
            'memory_mib': own.memory / 2**20,
            'gflop': own.flops / 1e9,
            'gflop_per_s': own.flops / 1e9 / statistics.median(own.seconds),
            'floor_ms': 1000 * own.floor,
        }
        for network, own in zip(report.networks, phases, strict=True)
    ]


def quartiles(values: Sequence[float]) -> Interval:
    """The median between the first and the third quartile."""
    if len(values) == 1:
        return Interval(*values, *values, *values)
    low, median, high = statistics.quantiles(values, method='inclusive')
    return Interval(median, low, high)


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The median, and the narrowest pair (k-th smallest, k-th largest) that holds the true median at ``confidence``.

    Whatever the distribution, the pair misses it with probability 2 P(B < k), B binomial of n and 1/2. Fewer than 6
    values reach 95% with no pair; they give their range.
    """
    ordered, n = sorted(values), len(values)
    below, k = 0.0, 0
    while 2 * (below + math.comb(n, k) / 2**n) <= 1 - confidence:
        below += math.comb(n, k) / 2**n
        k += 1
    k = max(k, 1)
    return Interval(statistics.median(ordered), ordered[k - 1], ordered[n - k])


def table(report: Report, paper: Ratios | None = None) -> str:
    """The report for a terminal: the machine and the setting, then a block per phase.

    Args:
        paper: ratios to print beside, where the paper has them.
    """
    machine = report.machine
    rates = machine['product_gflop_per_s'], machine['copy_gbyte_per_s']
    rounds = len(report.networks[0].inference.seconds)
    about = {key: value for key, value in machine.items() if not key.endswith('_per_s') and key != 'tf32'}
    lines = [
        f'{describe_setting(report.setting)}; input {"x".join(map(str, report.shape))}',
        ', '.join(str(value) if key in ('processor', 'gpu') else f'{key} {value}' for key, value in about.items()),
        f'{rounds} rounds after {report.warmup} to warm up; ms: median, quartiles; ratio: to the first in the round',
        f'a matrix product of this type does {rates[0]:.4g} GFLOP/s here, a copy moves {rates[1]:.4g} GB/s; floor: ms'
        ' of the products and convolutions alone at these rates; x: how many times that the step takes',
    ]
    for phase, title in PHASES.items():
        published = (paper or {}).get(phase, {})
        interval = '95% interval' if rounds >= 6 else 'range'  # see median_interval
        header = [title, 'parameters', 'ms', 'quartiles', 'ratio', interval, *(['paper'] if published else [])]
        cells = [[*header, 'MiB', 'GFLOP', 'GFLOP/s', 'floor', 'x']]
        for row in rows(report, phase):
            name, ms, ratio, least = row['name'], row['milliseconds'], row['ratio'], row['floor_ms']
            beside = [f'{published[name]:.2f}' if name in published else ''] if published else []
            cells.append([
                name, f'{row["parameters"]:,}', f'{ms.median:.5g}', f'{ms.low:.5g} to {ms.high:.5g}',
                f'{ratio.median:.3f}', f'{ratio.low:.3f}-{ratio.high:.3f}', *beside, f'{row["memory_mib"]:.2f}',
                f'{row["gflop"]:.4g}', f'{row["gflop_per_s"]:.4g}', f'{least:.4g}',
                f'{ms.median / least:.1f}' if least else '',
            ])  # fmt: skip
        lines += ['', text_table(cells)]
    return '\n'.join(lines)


def content_of(reports: Sequence[Report]) -> dict[str, Any]:
    """Reports with all times and the rows derived from them, for JSON."""
    derived = [{phase: rows(report, phase) for phase in PHASES} for report in reports]
    return {'reports': [each._asdict() | {'rows': own} for each, own in zip(reports, derived, strict=True)]}
