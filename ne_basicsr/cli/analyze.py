"""``basicsr analyze``."""

import argparse

from ne_basicsr.cli import command
from ne_basicsr.utils.errors import InputError


def run(arguments: argparse.Namespace) -> int:
    command.check_least(arguments, patches=3, patch_size=2, denoised=3, crop=8)
    levels = list(dict.fromkeys(arguments.sigma255))
    command.check_level(arguments, 'sigma255', 'filter_sigma255')
    pixels = [_pair(text, 'pixel', int) for text in arguments.pixel]
    intervals = [_pair(text, 'interval', float) for text in arguments.interval]

    from ne_basicsr.evaluation.analysis.intervals import INTERVALS, check_interval
    from ne_basicsr.evaluation.analysis.outputs import coverage_text, write_study
    from ne_basicsr.evaluation.analysis.study import Request, study
    from ne_basicsr.evaluation.report.tables import writing
    from ne_basicsr.utils.folder_lock import hold

    for pair in intervals:
        check_interval(*pair)
    device = command.chosen_device(arguments)
    if device == 'mps':
        raise InputError('--device mps: analyze computes in float64, which mps does not have; use cpu')
    with writing(arguments.output), hold(arguments.output, 'choose another --output'):
        changed = {'sigmas255': levels, 'pixels': pixels, 'intervals': intervals or INTERVALS, 'device': device}
        findings = study(command.given(arguments, Request, **changed))
        page = write_study(findings, arguments.output, command.typed(arguments))
    print(coverage_text(findings.table))
    for row in findings.filter_rows:
        where = 'worst of the crop' if row['row'] is None else f'row {row["row"]}, column {row["column"]}'
        print(f'{row["network"]}, {where}: filter sum {row["sum"]:.7g}, rho {row["rho"]:.2e}')
    print(f'Report: {page.resolve()}')
    return command.report_failures(findings.failures)


def _pair(text: str, name: str, kind: type) -> tuple:
    try:
        first, second = map(kind, text.split(','))
    except ValueError:
        raise InputError(f'analyze: --{name} needs two numbers, as in 20,30; got {text!r}') from None
    return first, second
