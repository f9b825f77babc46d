"""Networks that are called with arrays, too."""

import functools
from typing import Any

import numpy as np
from torch import nn


def take_arrays(network: nn.Module) -> nn.Module:
    """The same network, which for a numpy array returns ``ne_basicsr.denoise(network, array, ...)``.

    Its class becomes a subclass of what it was: attributes, keys, copies and pickles stay as they were.
    """
    network.__class__ = _with_arrays(type(network))  # type: ignore[arg-type] # mypy doubts that classes are hashable
    return network


class _TakesArrays(nn.Module):
    def __call__(self, y: Any, *arguments: Any, **named: Any) -> Any:
        if isinstance(y, np.ndarray):
            from ne_basicsr.inference.pixels import denoise  # which needs what loads networks

            return denoise(self, y, *arguments, **named)
        return super().__call__(y, *arguments, **named)

    def __reduce__(self) -> tuple[Any, ...]:  # the class has no name to be found by
        return _unpickled, (type(self).__bases__[1],), self.__dict__


@functools.cache
def _with_arrays(cls: type[nn.Module]) -> type[nn.Module]:
    if issubclass(cls, _TakesArrays):
        return cls
    return type(cls.__name__, (_TakesArrays, cls), {'__module__': cls.__module__, '__doc__': cls.__doc__})


def _unpickled(cls: type[nn.Module]) -> nn.Module:
    return take_arrays(cls.__new__(cls))
