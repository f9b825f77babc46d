"""A certificate as a table on a terminal, and as JSON."""

import math

from ne_basicsr.evaluation.check.checks import Certificate, Row
from ne_basicsr.evaluation.check.law import MARGIN, Point
from ne_basicsr.evaluation.check.verdict import Verdict
from ne_basicsr.evaluation.report.tables import json_text

HEADER = f'{"check":<26} {"defect":>9} {"tolerance":>9}  {"":<7}  worst at'


def line(row: Row) -> str:
    """One row: the point with the largest defect in units of its tolerance."""
    worst = row.worst
    numbers = f'{_number(worst.defect):>9} {_number(worst.tolerance):>9}' if worst else f'{"":>9} {"":>9}'
    at = '; '.join(filter(None, (_place(worst) if worst else '', row.problem)))
    return f'{row.what:<26} {numbers}  {row.status:<7}  {at}'.rstrip()


def footnote(certificate: Certificate) -> str:
    """How the tolerances were determined."""
    ways: dict[str, list[str]] = {}
    for precision, how in certificate.rounding.items():
        ways.setdefault(how, []).append(precision)
    parts = (f'{how} in {", ".join(precisions)}' for how, precisions in ways.items())
    return f'tolerance: {MARGIN} times the rounding error of this network, {"; ".join(parts)}'


def _number(value: float) -> str:
    return 'exact' if value == 0 else f'{value:.1e}' if math.isfinite(value) else str(value)


def _place(point: Point) -> str:
    height, width = point.size
    ab = f'constant {point.b:.4g}' if point.a == 0 else f'a = {point.a:.3g}, b = {point.b:.3g}'
    return f'{ab}, {height}x{width}'


def to_json(subject: str, about: str, certificate: Certificate, verdict: Verdict) -> str:
    """Everything measured."""
    rows = [
        {'name': row.name, 'what': row.what, 'status': row.status, 'problem': row.problem, 'points': row.points}
        for row in certificate.rows
    ]
    return json_text({
        'subject': subject, 'about': about, 'verdict': verdict.sentence, 'passed': verdict.passed,
        'precision': certificate.precision, 'rounding': certificate.rounding, 'rows': rows,
    })  # fmt: skip
