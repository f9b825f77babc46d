"""Certify that a network is normalization-equivariant: the law, the checks, the verdict and the table."""

from ne_basicsr.evaluation.check.checks import Certificate, Form, Row, certify
from ne_basicsr.evaluation.check.images import read_images, synthetic_images
from ne_basicsr.evaluation.check.law import PRECISIONS, Point
from ne_basicsr.evaluation.check.request import Subject, assert_equivariant, check, find_subject
from ne_basicsr.evaluation.check.verdict import HEADER, Verdict, content_of, footnote, judge, line
from ne_basicsr.evaluation.report.tables import write_json

__all__ = [
    'HEADER', 'PRECISIONS', 'Certificate', 'Form', 'Point', 'Row', 'Subject', 'Verdict', 'assert_equivariant',
    'certify', 'check', 'content_of', 'find_subject', 'footnote', 'judge', 'line', 'read_images', 'synthetic_images',
    'write_json',
]  # fmt: skip
