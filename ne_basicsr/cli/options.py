"""``basicsr options``."""

import argparse
from pathlib import Path

from ne_basicsr.cli.command import Commands, add_command, add_import
from ne_basicsr.utils.errors import InputError


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        'options',
        'check an option file and print it in full, with its bases, overrides, defaults and descriptions;'
        ' or list what there is to set',
        run,
    )
    parser.add_argument(
        'file',
        nargs='?',
        metavar='FILE',
        help='option file (YAML), or the name of a shipped one (swinir_wne); data and weights need not be there',
    )
    parser.add_argument(
        '--force_yml', nargs='+', default=[], metavar='KEY=VALUE', help='set options, as for basicsr train'
    )
    parser.add_argument(
        '--list',
        nargs='*',
        metavar='NAME',
        help='the reference: every section, key, type, default and description, or those of some sections (train,'
        ' val:metrics) and types (SwinIR, L1Loss, AdamW); files: the shipped option files',
    )
    parser.add_argument(
        '-o', '--output', type=Path, metavar='NEW', help='write FILE in full to a new option file, to edit and train'
    )
    parser.add_argument('--markdown', action='store_true', help='the reference as Markdown')
    parser.add_argument(
        '--schema',
        nargs='?',
        const='-',
        metavar='SCHEMA',
        help='print the JSON Schema that editors complete and check option files with, or write it to a file',
    )
    add_import(parser)


def run(arguments: argparse.Namespace) -> int:
    from ne_basicsr.options import editor_schema, listing, printing, shipped

    lists = arguments.list is not None or arguments.markdown
    asked = [bool(arguments.file), lists, arguments.schema is not None]
    if sum(asked) != 1:
        raise InputError(
            'options: one of FILE, --list and --schema is needed, e.g. basicsr options options/dncnn_wne.yml'
        )
    if arguments.force_yml and not arguments.file:
        raise InputError('options: --force_yml changes a FILE, and there is none')
    if arguments.output and not arguments.file:
        raise InputError('options: -o writes a FILE in full, and there is none: basicsr options swinir_wne -o my.yml')
    if arguments.file:
        folder = Path() if arguments.output is None else arguments.output.parent
        text = printing.resolved_text(arguments.file, arguments.force_yml, arguments.imports, folder=folder)
        if arguments.output is None:
            _print(text)
        else:
            _write(arguments.output, text, 'x')
            print(f'{arguments.output}: written; train with basicsr train -opt {arguments.output}')
    elif 'files' in (arguments.list or ()):
        _print(shipped.listing())
    elif lists:
        found = listing.chosen(listing.entries(), arguments.list or ())
        _print(listing.as_markdown(found) if arguments.markdown else listing.as_text(found))
    elif arguments.schema == '-':
        _print(editor_schema.editor_schema_text())
    else:
        _write(Path(arguments.schema), editor_schema.editor_schema_text(), 'w')
    return 0


def _write(path: Path, text: str, mode: str) -> None:
    try:
        with open(path, mode, encoding='utf-8') as file:
            file.write(text)
    except OSError as error:
        raise InputError(f'options: {path}: cannot be written ({error.strerror}); choose another name') from None


def _print(text: str) -> None:
    """A closed pipe (``| head``) is no error."""
    try:
        print(text.rstrip('\n'), flush=True)
    except BrokenPipeError:
        import os
        import sys

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
