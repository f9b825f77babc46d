"""``basicsr options``."""

import argparse
from pathlib import Path

from ne_basicsr.utils.errors import InputError, explained_writing


def run(arguments: argparse.Namespace) -> int:
    from ne_basicsr.options import editor_schema, listing, printing, shipped

    lists = arguments.list is not None or arguments.markdown
    asked = [bool(arguments.file), lists, arguments.schema is not None]
    if sum(asked) != 1:
        raise InputError('options: one of FILE, --list and --schema is needed, e.g. basicsr options dncnn_wne')
    if arguments.force_yml and not arguments.file:
        raise InputError('options: --force_yml changes a FILE, and there is none')
    if arguments.output and not arguments.file:
        raise InputError('options: -o writes a FILE in full, and there is none: basicsr options swinir_wne -o my.yml')
    target, mode = arguments.output, 'xb'
    if arguments.file:
        folder = Path() if target is None else target.parent
        text = printing.resolved_text(arguments.file, arguments.force_yml, arguments.imports, folder=folder)
    elif 'files' in (arguments.list or ()):
        text = shipped.listing()
    elif lists:
        found = listing.chosen(listing.entries(), arguments.list or ())
        text = listing.as_markdown(found) if arguments.markdown else listing.as_text(found)
    else:
        text = editor_schema.editor_schema_text()
        target, mode = None if arguments.schema == '-' else Path(arguments.schema), 'wb'
    if target is None:
        print(text.rstrip('\n'))
        return 0
    with explained_writing(target, 'choose another name'), open(target, mode) as file:
        file.write(text.encode())
    if arguments.file:
        print(f'{target}: written; train with basicsr train -opt {target}')
    return 0
