"""Pages written when the site is built, so that they say what the program does: options, commands, networks."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import ne_basicsr  # noqa: F401 - before whatever imports BasicSR


def write_pages(folder: Path) -> None:
    """Write all of them to ``folder``; files whose text is the same stay as they are."""
    from ne_basicsr.options import listing

    pages = {
        'options.md': option_page(listing.as_markdown(listing.entries())),
        'commands.md': command_page(subcommands()),
        'networks.md': network_page(),
    }
    folder.mkdir(exist_ok=True)
    for name, text in pages.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding='utf-8') != text:
            path.write_text(text, encoding='utf-8')


# -- options -----------------------------------------------------------------------------------------------------------


def option_page(markdown: str) -> str:
    """``listing.as_markdown`` with an introduction."""
    title, _, rest = markdown.partition('\n')
    about = (
        'Every section and key with type, default and description, generated from the code. In a terminal,'
        ' `basicsr options --list train DnCNNWNE` shows a part of it, and `basicsr options my.yml` your option file'
        ' with defaults.'
    )
    return '\n'.join([title, '', about, *rest.partition('`.\n')[2:]])


# -- the command line --------------------------------------------------------------------------------------------------


def subcommands() -> dict[str, tuple[str, argparse.ArgumentParser]]:
    """What each subcommand is for, and its parser."""
    from ne_basicsr.cli.command import add_commands

    parsers = argparse.ArgumentParser(prog='basicsr').add_subparsers()
    add_commands(parsers)
    about = {action.dest: action.help or '' for action in parsers._choices_actions}  # argparse keeps them nowhere else
    return {name: (about[name], parser) for name, parser in parsers.choices.items()}


def command_page(parsers: dict[str, tuple[str, argparse.ArgumentParser]]) -> str:
    """A table of the subcommands, then each one's arguments."""
    lines = [
        '# Command line',
        '',
        'The program has three equivalent names: `basicsr COMMAND`, `ne-basicsr COMMAND`, and'
        ' `python -m ne_basicsr COMMAND` for `torchrun` and `srun`. Invalid input gives a one-line error and exit code'
        ' 2; training stopped by a signal exits with 128 plus the number of the signal. `--debug` shows tracebacks.',
        '',
        '| command | what it does |',
        '|---|---|',
        *(f'| [`{name}`](#basicsr-{name}) | {cell(about)} |' for name, (about, _) in parsers.items()),
        '',
    ]
    for name, (about, parser) in parsers.items():
        lines += [f'(basicsr-{name})=', f'## `{name}`', '', f'{about[:1].upper()}{about[1:]}.', '']
        lines += ['```text', usage(parser), '```', '', '| argument | meaning |', '|---|---|']
        lines += [f'| {spelled} | {cell(what)} |' for spelled, what in arguments(parser)]
        lines.append('')
        if parser.epilog:
            lines += ['```text', parser.epilog.strip(), '```', '']
    return '\n'.join(lines)


def usage(parser: argparse.ArgumentParser) -> str:
    """The usage line, broken the same way in every terminal."""
    formatter = argparse.HelpFormatter(prog=parser.prog, width=100)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, prefix='')
    return formatter.format_help().strip()


def arguments(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """How each argument is spelled, as Markdown, and its help; those without a flag first, --help left out."""
    formatter = parser._get_formatter()
    for action in sorted(parser._actions, key=lambda action: bool(action.option_strings)):
        if action.help is argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
            continue
        if action.option_strings:
            given = '' if action.nargs == 0 else ' ' + formatter._format_args(action, action.dest.upper())
            spelled = ', '.join(f'`{name}{given}`' for name in action.option_strings)
        else:
            spelled = f'`{formatter._format_args(action, action.dest)}`'
        yield cell(spelled, code=True), formatter._expand_help(action) if action.help else ''


# -- networks ----------------------------------------------------------------------------------------------------------


def network_page() -> str:
    """Every registered network and its wrapped version."""
    from ne_basicsr.options.sections import is_wrapped, sections_of

    found = sections_of('networks')
    lines = [
        '# Networks by name',
        '',
        'The values of `type` in `network_g`. Each image-to-image network X also has a wrapped version `XWNE` with the'
        ' same options. [Options](options.md) lists the arguments.',
        '',
    ]
    own, others = [], []
    for name, section in found.items():
        if is_wrapped(name) or name.endswith('_basicsr'):
            continue
        twin = f'`{name}WNE`' if f'{name}WNE' in found else ''
        row = f'| `{name}` | {twin} | {cell(plain(section["description"]))} |'
        (own if is_own(name) else others).append(row)
    head = ['| type | wrapped | description |', '|---|---|---|']
    return '\n'.join(
        [*lines, '## Networks of this package', '', *head, *own, '', '## Networks of BasicSR', '', *head, *others, '']
    )


def is_own(name: str) -> bool:
    """Whether a network is registered by this package."""
    from basicsr.utils.registry import ARCH_REGISTRY

    return ARCH_REGISTRY.get(name).__module__.startswith('ne_basicsr.')


def plain(text: str) -> str:
    return text.replace('``', '`')


def cell(text: str, code: bool = False) -> str:
    """Text in a table of Markdown: bars would end the cell, and stars outside of code would be emphasis."""
    text = re.sub(r'\s+', ' ', text).replace('|', r'\|')
    return text if code else re.sub(r'([*<_])', r'\\\1', text)
