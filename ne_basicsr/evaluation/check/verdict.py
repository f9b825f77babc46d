"""What a certificate says: the verdict in one sentence, a table on a terminal, JSON."""

import math
from typing import Any, NamedTuple

from ne_basicsr.evaluation.check.checks import Certificate, Row
from ne_basicsr.evaluation.check.law import MARGIN, PRECISIONS

LAW = ('scale', 'shift', 'scale and shift', 'fixed shift')
HEADER = f'{"check":<26} {"defect":>9} {"tolerance":>9}  {"":<7}  worst at'


class Verdict(NamedTuple):
    """Whether every check that ran passed, and a sentence with the result and the reason."""

    passed: bool
    sentence: str


def judge(certificate: Certificate) -> Verdict:
    """Judge a certificate. Checks that did not run (a number type, a size) do not count."""
    rows = certificate.rows
    law = {name: certificate.row(name) for name in LAW}
    failed = [row for row in rows if row.status == 'fail']
    if not failed:
        not_run = [row.what for row in rows if row.status == 'not run']
        return Verdict(True, 'normalization-equivariant' + (f'; not run: {", ".join(not_run)}' if not_run else ''))
    if certificate.row('repeat').status == 'fail':
        sentence = 'not equivariant: two calls on one image differ (dropout in training mode?)'
    elif all(row.status == 'pass' for row in law.values()):
        sentence = f'equivariant, but {"; ".join(_shortcomings(failed))}'
    else:
        sentence = _broken_law(certificate, law)
    return Verdict(False, sentence)


def _broken_law(certificate: Certificate, law: dict[str, Row]) -> str:
    for row in law.values():
        if row.problem:
            return f'not equivariant: fails on {row.what}: {row.problem}'
    for row in law.values():
        if _is_nan(row):
            return f'not equivariant: NaN or infinite values for {row.what}{_where(row)}'
    points = [point for row in law.values() for point in row.points]
    coarser = PRECISIONS['float32'].roundoff / PRECISIONS['float64'].roundoff
    if certificate.precision == 'float64' and all(p.defect <= coarser * p.tolerance for p in points):
        return (
            'equivariant in float32 only, not in float64: some operation inside runs in float32, or a small number is'
            ' added to the scale'
        )
    scale, shift = (law[name].status == 'pass' for name in ('scale', 'shift'))
    if scale and shift:
        return f'not equivariant: fails where a and b act together{_where(law["scale and shift"])}'
    if scale:
        return 'scale-equivariant only: fails under shift'
    # an epsilon e added to the scale s costs e / (a s), almost nothing for large a; biases also cost much there
    defects = [point.defect for point in law['scale'].points]
    large = [point.defect for point in law['scale'].points if point.a >= 1]
    if large and max(large) < 1e-2 * min(1, max(defects)):
        return 'not equivariant: fails for small a y, as with an epsilon in the division by the scale (s + 1e-5)'
    if shift:
        return 'shift-equivariant only: fails under scaling'
    if all(p.change <= p.tolerance * max(p.a, 1) for p in points if (p.a, p.b) != (1, 0)):
        return 'not equivariant: f(a y + b) = f(y), the normalization is not undone'
    return 'not equivariant: a plain network'


def _shortcomings(failed: list[Row]) -> list[str]:
    parts = []
    constants = any(row.name == 'constants' for row in failed)
    for row in failed:
        wrong = [point for point in row.points if not point.holds]
        flat = bool(wrong) and all(point.a == 0 or point.size == (1, 1) for point in wrong)
        if row.problem:
            parts.append(f'fails on {row.what}: {row.problem}')
        elif row.name == 'constants':
            parts.append('NaN for constant images' if _is_nan(row) else f'changes constant images{_where(row)}')
        elif row.name == 'batch':
            parts.append('an image depends on its neighbours in the batch (statistics of the batch, training mode?)')
        elif row.name.startswith('extreme scale'):
            ends = row.what.removeprefix('f(a y), ')
            parts.append(f'its statistics or products under- or overflow at the {ends}{_where(row)}')
        elif flat and constants:
            continue  # already reported
        else:
            what = f'{row.what}, constant images' if flat else row.what
            parts.append(f'NaN in {what}' if _is_nan(row) else f'not in {what}{_where(row)}')
    return parts


def _is_nan(row: Row) -> bool:
    return not all(math.isfinite(point.defect) for point in row.points)


def _where(row: Row) -> str:
    if row.worst is None:
        return ''
    a = '' if row.worst.a == 0 else f'a = {row.worst.a:.3g}, '
    return f' ({a}b = {row.worst.b:.3g})'


def line(row: Row) -> str:
    """One row: the point with the largest defect in units of its tolerance."""
    defect = tolerance = place = ''
    if worst := row.worst:
        defect, tolerance = (
            'exact' if value == 0 else f'{value:.1e}' if math.isfinite(value) else str(value)
            for value in (worst.defect, worst.tolerance)
        )
        ab = f'constant {worst.b:.4g}' if worst.a == 0 else f'a = {worst.a:.3g}, b = {worst.b:.3g}'
        place = f'{ab}, {"x".join(map(str, worst.size))}'
    at = '; '.join(filter(None, (place, row.problem)))
    return f'{row.what:<26} {defect:>9} {tolerance:>9}  {row.status:<7}  {at}'.rstrip()


def footnote(certificate: Certificate) -> str:
    """How the tolerances were determined."""
    ways: dict[str, list[str]] = {}
    for precision, how in certificate.rounding.items():
        ways.setdefault(how, []).append(precision)
    parts = (f'{how} in {", ".join(precisions)}' for how, precisions in ways.items())
    return f'tolerance: {MARGIN} times the rounding error of this network, {"; ".join(parts)}'


def content_of(subject: str, about: str, certificate: Certificate, verdict: Verdict) -> dict[str, Any]:
    """Everything measured, for JSON."""
    rows = [row._asdict() | {'status': row.status} for row in certificate.rows]
    said = {'subject': subject, 'about': about, 'verdict': verdict.sentence, 'passed': verdict.passed}
    return said | certificate._asdict() | {'rows': rows}
