"""``basicsr options``."""

import argparse
from pathlib import Path

from ne_basicsr.cli.command import Commands, add_command
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
        'file', nargs='?', metavar='FILE', help='option file (YAML); data and weights need not be there'
    )
    parser.add_argument(
        '--force_yml', nargs='+', default=[], metavar='KEY=VALUE', help='set options, as for basicsr train'
    )
    parser.add_argument(
        '--list',
        nargs='*',
        metavar='NAME',
        help='the reference: every section, key, type, default and description, or those of some sections (train,'
        ' val:metrics) and types (SwinIR, L1Loss, AdamW)',
    )
    parser.add_argument('--markdown', action='store_true', help='the reference as Markdown')
    parser.add_argument(
        '--schema',
        nargs='?',
        const='-',
        metavar='SCHEMA',
        help='print the JSON Schema that editors complete and check option files with, or write it to a file',
    )


def run(arguments: argparse.Namespace) -> int:
    from ne_basicsr.options import editor_schema, listing, printing

    lists = arguments.list is not None or arguments.markdown
    asked = [bool(arguments.file), lists, arguments.schema is not None]
    if sum(asked) != 1:
        raise InputError(
            'options: one of FILE, --list and --schema is needed, e.g. basicsr options options/dncnn_wne.yml'
        )
    if arguments.force_yml and not arguments.file:
        raise InputError('options: --force_yml changes a FILE, and there is none')
    if arguments.file:
        _print(printing.resolved_text(arguments.file, arguments.force_yml))
    elif lists:
        found = listing.chosen(listing.entries(), arguments.list or ())
        _print(listing.as_markdown(found) if arguments.markdown else listing.as_text(found))
    elif arguments.schema == '-':
        _print(editor_schema.editor_schema_text())
    else:
        path = Path(arguments.schema)
        try:
            path.write_text(editor_schema.editor_schema_text(), encoding='utf-8')
        except OSError as error:
            raise InputError(f'options: --schema {path}: cannot be written ({error.strerror})') from None
    return 0


def _print(text: str) -> None:
    """A closed pipe (``| head``) is no error."""
    try:
        print(text.rstrip('\n'), flush=True)
    except BrokenPipeError:
        import os
        import sys

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
