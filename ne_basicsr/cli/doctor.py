"""``basicsr doctor``."""

import argparse

from ne_basicsr.cli.command import Commands, add_command


def add(commands: Commands) -> None:
    add_command(commands, 'doctor', 'print versions and devices, and explain what is wrong with them', run)


def run(_: argparse.Namespace) -> int:
    from ne_basicsr.cli.installation import examine

    findings = examine()
    print('\n'.join(findings.lines))
    return 0 if findings.healthy else 1
