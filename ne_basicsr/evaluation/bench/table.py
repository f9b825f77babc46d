"""What was measured as rows, as a table and as JSON."""

import json
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ne_basicsr.evaluation.bench.measure import Measured, Phase, Report, Setting, describe_setting
from ne_basicsr.utils.errors import InputError

PHASES = ('inference', 'training')

Ratios = Mapping[str, Mapping[str, float]]
"""By phase and network: its time relative to the first network."""


class Spread(NamedTuple):
    """A median between two bounds."""

    median: float
    low: float
    high: float


class Row(NamedTuple):
    """One network in one phase."""

    name: str
    parameters: int
    milliseconds: Spread  # between quartiles
    ratio: Spread  # to the first network in the same round, within an interval of 95% confidence
    memory_mib: float
    gflop: float
    gflop_per_s: float


def rows(report: Report, phase: str) -> list[Row]:
    """One row per network, for ``inference`` or ``training``."""
    phases: list[Phase] = [getattr(network, phase) for network in report.networks]
    found = []
    for network, own in zip(report.networks, phases, strict=True):
        median = statistics.median(own.seconds)
        found.append(
            Row(
                name=network.name,
                parameters=network.parameters,
                milliseconds=quartiles([1000 * seconds for seconds in own.seconds]),
                ratio=median_interval([b / a for a, b in zip(phases[0].seconds, own.seconds, strict=True)]),
                memory_mib=own.memory / 2**20,
                gflop=own.flops / 1e9,
                gflop_per_s=own.flops / 1e9 / median,
            )
        )
    return found


def quartiles(values: Sequence[float]) -> Spread:
    """The median between the first and the third quartile."""
    if len(values) == 1:
        return Spread(*values, *values, *values)
    low, median, high = statistics.quantiles(values, method='inclusive')
    return Spread(median, low, high)


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Spread:
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
    return Spread(statistics.median(ordered), ordered[k - 1], ordered[n - k])


# -- printing ----------------------------------------------------------------------------------------------------------


def table(report: Report, paper: Ratios | None = None) -> str:
    """The report for a terminal: what it ran on, then a block per phase.

    Args:
        paper: ratios to print beside, where the paper has them.
    """
    machine = report.machine
    rate, rounds = machine['product_gflop_per_s'], len(report.networks[0].inference.seconds)
    about = {key: value for key, value in machine.items() if key not in ('product_gflop_per_s', 'tf32')}
    lines = [
        f'{describe_setting(report.setting)}; input {"x".join(map(str, report.shape))}',
        ', '.join(str(value) if key in ('processor', 'gpu') else f'{key} {value}' for key, value in about.items()),
        f'{rounds} rounds after {report.warmup} to warm up; ms: median, quartiles; ratio: to the first in the round',
        f'a matrix product of this type does {rate:.4g} GFLOP/s here; of that, %: what the network reaches',
    ]
    width = max(len('training step'), *(len(network.name) for network in report.networks))
    for phase in PHASES:
        published = (paper or {}).get(phase, {})
        names = {'inference': 'inference', 'training': 'training step'}
        lines += ['', _header(names[phase], width, rounds, bool(published))]
        lines += [_line(row, width, rate, published) for row in rows(report, phase)]
    return '\n'.join(lines)


def _header(title: str, width: int, rounds: int, published: bool) -> str:
    interval = '95% interval' if rounds >= 6 else 'range'  # see median_interval
    paper = f'{"paper":>7}' if published else ''
    return (
        f'{title:<{width}} {"parameters":>11} {"ms":>9} {"quartiles":>19} {"ratio":>7} {interval:>13}{paper}'
        f' {"MiB":>9} {"GFLOP":>9} {"GFLOP/s":>9} {"%":>4}'
    )


def _line(row: Row, width: int, rate: float, published: Mapping[str, float]) -> str:
    ms, ratio = row.milliseconds, row.ratio
    paper = ''
    if published:
        paper = f'{published[row.name]:>7.2f}' if row.name in published else f'{"":>7}'
    quarter, interval = f'{ms.low:.5g} to {ms.high:.5g}', f'{ratio.low:.3f}-{ratio.high:.3f}'
    return (
        f'{row.name:<{width}} {row.parameters:>11,} {ms.median:>9.5g} {quarter:>19} {ratio.median:>7.3f}'
        f' {interval:>13}{paper} {row.memory_mib:>9.2f} {row.gflop:>9.4g} {row.gflop_per_s:>9.4g}'
        f' {100 * row.gflop_per_s / rate:>4.0f}'
    )


# -- JSON --------------------------------------------------------------------------------------------------------------


def to_json(reports: Sequence[Report]) -> str:
    """Reports with every time, and, for who only reads, the rows that follow from them."""
    entries = []
    for report in reports:
        networks = [
            {**network._asdict(), 'inference': network.inference._asdict(), 'training': network.training._asdict()}
            for network in report.networks
        ]
        derived = {phase: [_row_dict(row) for row in rows(report, phase)] for phase in PHASES}
        entries.append({**report._asdict(), 'setting': report.setting._asdict(), 'networks': networks, 'rows': derived})
    return json.dumps({'reports': entries}, indent=2, allow_nan=False) + '\n'


def from_json(text: str) -> list[Report]:
    """The reports that ``to_json`` wrote."""
    return [
        Report(
            machine=entry['machine'],
            setting=Setting(**entry['setting']),
            shape=tuple(entry['shape']),
            warmup=entry['warmup'],
            networks=tuple(
                Measured(e['name'], e['parameters'], _phase(e['inference']), _phase(e['training']))
                for e in entry['networks']
            ),
        )
        for entry in json.loads(text)['reports']
    ]


def write_json(path: str | Path, reports: Sequence[Report]) -> None:
    """Write ``to_json``; an ``InputError`` where the file cannot be written."""
    try:
        Path(path).write_text(to_json(reports), encoding='utf-8')
    except OSError as error:
        raise InputError(f'{path}: cannot be written ({error.strerror})') from None


def check_writable(path: str | Path) -> None:
    """Raise ``InputError`` where ``write_json`` is sure to fail: before a long measurement rather than after it."""
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f'{path}: the folder {str(path.parent)!r} does not exist')
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f'{path}: cannot be written; a file in a folder of yours is needed')


def _row_dict(row: Row) -> dict[str, Any]:
    return {**row._asdict(), 'milliseconds': row.milliseconds._asdict(), 'ratio': row.ratio._asdict()}


def _phase(entry: Mapping[str, Any]) -> Phase:
    return Phase(tuple(entry['seconds']), entry['memory'], entry['flops'])
