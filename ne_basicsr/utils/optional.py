"""Optional libraries, each with the extra of its name."""

import importlib
from typing import Any

from ne_basicsr.utils.errors import InputError, first_line


def require(name: str, extra: str = '') -> Any:
    """The module ``name`` of an optional library, or an ``InputError`` that says how to install it (``extra``)."""
    library = name.partition('.')[0]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        way_out = f"pip install 'ne-basicsr[{extra or library}]'"
        raise InputError(f'{library} is needed and cannot be imported ({first_line(error)}): {way_out}') from error
