"""Monte Carlo arithmetic: measure the rounding error of a torch computation by repeating it with random rounding.

Each floating-point input v of an operation is replaced by v (1 + k e xi), with xi uniform on (-1, 1), one draw per
number, and so is each result. Here e is the distance from 1 to the next number of the type, and

    k = sqrt(n),      n: number of terms that are summed to one number of the result, 1 without sums.

Reason for k: a computed sum of n products equals the exact sum of products with relative errors of a few sqrt(n) e / 2,
almost certainly and for any order of summation (Higham and Mary, A New Approach to Probabilistic Rounding Error
Analysis, SIAM J. Sci. Comput. 2019). So the spread does not depend on a processor's order of summation. Operations that
copy, compare or select numbers do not round and are not changed. Number types coarser than the checked one are not
changed, either: float16 inside a float64 network is not rounding of float64.

Sources: Parker, Monte Carlo Arithmetic, UCLA CSD-970002, 1997 (random inputs and results); Vignes, Discrete stochastic
arithmetic, Numerical Algorithms 2004 (two to three runs are enough).
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# ATen operations, besides views, whose results are copies of inputs or not rounded
EXACT = frozenset((Path(__file__).parent / 'exact_operations.txt').read_text().split())
# those that sum over dimensions: what newer versions of torch tag as reductions, less the exact ones
REDUCTIONS = frozenset(
    ['linalg_vector_norm', 'logsumexp', 'mean', 'nansum', 'norm', 'prod', 'std', 'std_mean', 'sum', 'var', 'var_mean']
)


def rounded_otherwise(function: Callable[[], Tensor], dtype: torch.dtype) -> Tensor | None:
    """The result of ``function`` in Monte Carlo arithmetic of ``dtype``; None if it calls no operation that rounds.

    Random numbers of torch do not change. Operations outside torch (onnxruntime, numpy) are not perturbed.
    """
    with _Arithmetic(dtype) as arithmetic, torch.no_grad():
        result = function()
    return result if arithmetic.operations else None


class _Arithmetic(TorchDispatchMode):
    """The formulas of this file, for every operation that runs under it."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.coarsest = torch.finfo(dtype).eps
        self.operations = 0
        self._generators: dict[torch.device, torch.Generator] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix('aten::').rstrip('_')
        if func.is_view or name in EXACT:
            return func(*args, **kwargs)
        written = [value for value in _written(func, args, kwargs) if self._rounds(value)]
        k = math.sqrt(_terms(func, name, args, kwargs))

        def moved(value: Any) -> Any:
            if isinstance(value, (list, tuple)):
                return type(value)(map(moved, value))
            if not self._rounds(value) or any(value is each for each in written):
                return value
            return value + value * self._draws(value, k)

        result = func(*map(moved, args), **{key: moved(value) for key, value in kwargs.items()})
        for value in written:
            value.add_(value * self._draws(value, k))
        self.operations += any(map(self._rounds, result if isinstance(result, (list, tuple)) else [result]))
        return result if written else moved(result)

    def _rounds(self, value: Any) -> bool:
        """Whether it is a tensor of a type that is at least as precise as the checked one."""
        is_tensor = isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())
        return is_tensor and torch.finfo(value.dtype).eps <= self.coarsest

    def _draws(self, value: Tensor, k: float) -> Tensor:
        """k e xi for each number of ``value``."""
        generator = self._generators.get(value.device)
        if generator is None:
            generator = self._generators[value.device] = torch.Generator(value.device).manual_seed(0)
        radius = k * torch.finfo(value.dtype).eps
        real = torch.empty(value.shape, dtype=value.dtype.to_real(), device=value.device)
        return real.uniform_(-radius, radius, generator=generator)


def _terms(func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    """Number of terms that an operation sums for one number of its result."""
    if name in ('mm', 'bmm', 'dot', 'mv'):
        return args[0].shape[-1]
    if name in ('addmm', 'baddbmm', 'addmv'):
        return args[1].shape[-1]
    if name in ('convolution', '_convolution'):
        weight, transposed = args[1], args[6]
        return weight.numel() / max(1, weight.shape[1 if transposed else 0])
    if name in REDUCTIONS:
        result = func(*args, **kwargs)
        first = result[0] if isinstance(result, tuple) else result
        return args[0].numel() / max(1, first.numel())
    return 1


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The arguments that an operation overwrites."""
    if not func._schema.is_mutable:
        return []
    given = dict(zip((each.name for each in func._schema.arguments), args, strict=False)) | kwargs
    written = [given.get(each.name) for each in func._schema.arguments if each.alias_info and each.alias_info.is_write]
    return [value for each in written for value in (each if isinstance(each, (list, tuple)) else [each])]
