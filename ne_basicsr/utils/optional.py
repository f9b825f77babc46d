"""Optional libraries, each with the extra of its name."""

import importlib
from typing import Any

from ne_basicsr.utils.errors import InputError, first_line


def require(name: str) -> Any:
    """The module ``name`` of an optional library, or one line on how to install it.

    Raises:
        InputError: if it cannot be imported.
    """
    library = name.partition('.')[0]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{library} is needed and cannot be imported ({first_line(error)}): pip install 'ne-basicsr[{library}]'"
        ) from error
