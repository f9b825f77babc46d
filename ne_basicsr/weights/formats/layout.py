"""The result of a layout's function, and helpers of these functions."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

StateDict = dict[str, Tensor]


class Layout(NamedTuple):
    """A recognised state dict as a network of this package."""

    name: str  # whose layout it is
    options: dict[str, Any]  # ``type`` and arguments of the registered network
    weights: StateDict  # the state dict of that network
    note: str = ''  # what had to be assumed, or how the network differs from the original; may be empty
    is_complete: bool = False  # whether ``options`` are all that were given, so that the others had their defaults
    # whether the network may have been trained inside a wrapper, which the file does not tell; ``options`` and
    # ``weights`` are those of the plain network
    wrapper_is_unknown: bool = False

    def __str__(self) -> str:
        return f'{self.name}: {describe(self.options)}' + (f' ({self.note})' if self.note else '')


def describe(options: Mapping[str, Any]) -> str:
    """``{type: DnCNN, num_layers: 17}`` as ``DnCNN(num_layers=17)``."""
    arguments = []
    for key, value in options.items():
        if isinstance(value, Mapping) and 'type' in value:
            arguments.append(describe(value))
        elif key != 'type':
            is_list = isinstance(value, (list, tuple))
            arguments.append(f'{key}=' + (f'[{",".join(map(str, value))}]' if is_list else str(value)))
    return f'{options["type"]}({", ".join(arguments)})'


def first_few(keys: list[str]) -> str:
    """The first three keys, comma-separated, with dots if there are more."""
    return ', '.join(keys[:3]) + (', ...' if len(keys) > 3 else '')


def length(weights: StateDict, prefix: str) -> int:
    """The number of entries of the list or sequence ``prefix``."""
    heads = [key[len(prefix) + 1 :].split('.')[0] for key in weights if key.startswith(f'{prefix}.')]
    if not any(map(str.isdigit, heads)):
        raise KeyError(f'{prefix}.0')
    return max(int(head) for head in heads if head.isdigit()) + 1
