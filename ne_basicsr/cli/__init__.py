"""The command line: ``basicsr COMMAND``, one module a command."""

from ne_basicsr.cli.main import main

__all__ = ['main']
