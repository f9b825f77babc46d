"""``basicsr check``."""

import argparse
from pathlib import Path

from ne_basicsr.cli.command import NETWORKS, Commands, add_command, add_import, add_training_level, check_level
from ne_basicsr.cli.device import add_device, add_trust, chosen_device
from ne_basicsr.utils.errors import InputError


def add(commands: Commands) -> None:
    parser = add_command(commands, 'check', 'certify that a network is normalization-equivariant', run, epilog=NETWORKS)
    parser.add_argument(
        'network',
        metavar='CKPT',
        help="see below; also '{type: DnCNNWNE, num_layers: 20}' or DnCNNWNE, with random weights",
    )
    add_training_level(parser)
    parser.add_argument(
        '--image-sigma255', type=float, metavar='S', help='level for non-blind networks, 8-bit units (default: 25)'
    )
    add_device(parser, default='cpu')
    parser.add_argument(
        '--dtype',
        default='float64,float32,bfloat16,float16',
        help='number types, separated by commas (default: float64,float32,bfloat16,float16)',
    )
    parser.add_argument('--images', type=Path, metavar='DIR', help='use the first images of a folder')
    add_trust(parser)
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write all measurements to this file')
    add_import(parser)


def run(arguments: argparse.Namespace) -> int:
    import torch

    from ne_basicsr.evaluation import check
    from ne_basicsr.evaluation.bench import check_writable
    from ne_basicsr.utils.progress import say

    device = chosen_device(arguments)
    check_level('check', '--training-sigma255', arguments.training_sigma255)
    check_level('check', '--image-sigma255', arguments.image_sigma255)
    if None not in (arguments.training_sigma255, arguments.image_sigma255):
        raise InputError('check: --training-sigma255 is for blind networks, --image-sigma255 for others; give one')
    level = arguments.training_sigma255 or arguments.image_sigma255  # --sigma255 was either
    if arguments.json:
        check_writable(arguments.json)
    subject = check.find_subject(
        arguments.network,
        wne=arguments.wne,
        sigma=None if level is None else level / 255,
        device=device,
        dtypes=arguments.dtype,
        trusted=arguments.trust,
    )
    images = subject.images(arguments.images)
    print(f'{arguments.network}: {subject.about}; {device}, torch {torch.__version__}\n\n{check.HEADER}', flush=True)
    found = check.certify(
        subject.network,
        images,
        device=device,
        dtypes=subject.dtypes,
        sigma=subject.sigma,
        on_row=lambda row: say(check.line(row)),
        shown=True,
    )
    verdict = check.judge(found)
    print(f'\n{check.footnote(found)}\n{"PASS" if verdict.passed else "FAIL"}: {verdict.sentence}')
    if arguments.json:
        check.write_json(arguments.json, check.to_json(arguments.network, subject.about, found, verdict))
    return 0 if verdict.passed else 1
