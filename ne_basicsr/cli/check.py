"""``basicsr check``."""

import argparse

from ne_basicsr.cli import command
from ne_basicsr.utils.errors import InputError


def run(arguments: argparse.Namespace) -> int:
    import torch

    from ne_basicsr.evaluation import check
    from ne_basicsr.evaluation.report.tables import check_writable, write_json
    from ne_basicsr.inference.opening import parse_spec
    from ne_basicsr.utils.progress import say

    device = command.chosen_device(arguments)
    command.check_level(arguments, 'training_sigma255', 'image_sigma255')
    if None not in (arguments.training_sigma255, arguments.image_sigma255):
        raise InputError('check: --training-sigma255 is for blind networks, --image-sigma255 for others; give one')
    level = arguments.training_sigma255 or arguments.image_sigma255  # --sigma255 was either
    if arguments.json:
        check_writable(arguments.json)
    spec = parse_spec(arguments.network)
    spec = spec._replace(wrap=spec.wrap or arguments.wne)
    if spec.wrap and spec.sigma255 is None:
        spec = spec._replace(sigma255=level)
    dtypes, sigma = arguments.dtype.split(','), None if level is None else level / 255
    subject = check.find_subject(spec, sigma=sigma, device=device, dtypes=dtypes, trusted=arguments.trusted)
    images = subject.images(arguments.images)
    print(f'{arguments.network}: {subject.about}; {device}, torch {torch.__version__}\n\n{check.HEADER}', flush=True)
    found = check.certify(
        subject.network, images, device=device, dtypes=subject.dtypes, sigma=subject.sigma, shown=True,
        on_row=lambda row: say(check.line(row)),
    )  # fmt: skip
    verdict = check.judge(found)
    print(f'\n{check.footnote(found)}\n{"PASS" if verdict.passed else "FAIL"}: {verdict.sentence}')
    if arguments.json:
        write_json(arguments.json, check.content_of(arguments.network, subject.about, found, verdict))
    return 0 if verdict.passed else 1
