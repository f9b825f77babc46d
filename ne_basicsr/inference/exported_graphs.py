"""Run exported networks: ONNX files, through onnxruntime, and ``torch.export`` programs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ne_basicsr.utils.errors import InputError, first_line
from ne_basicsr.utils.words import similar_path

SUFFIXES = ('.onnx', '.pt2')
ONNX_DTYPES = {'tensor(float)': 'float32', 'tensor(float16)': 'float16', 'tensor(double)': 'float64'}


class Exported(NamedTuple):
    """An exported network."""

    # maps (N, C, H, W) of ``dtype``, and noise levels (N,) if ``needs_sigma``, to (N, C', rH, rW); raises RuntimeError
    # for other types or sizes
    run: Callable[..., Tensor]
    dtype: str  # the only number type that it accepts
    shape: tuple[int | None, ...]  # the N, C, H and W that it accepts; None stands for any value
    needs_sigma: bool  # whether it is non-blind


def open_exported(path: Path, device: str, trusted: bool) -> Exported:
    """Open the network in an exported file.

    Args:
        device: where it runs; a ``torch.export`` program runs on the device it was exported on.
        trusted: whether ``.pt2`` files may be read. Torch's reader evaluates expressions and unpickles objects from the
            file, so it can run code; ONNX files contain no code.

    Raises:
        InputError: for a missing file, one that is no exported network, other inputs, or an untrusted ``.pt2`` file.
    """
    if not path.is_file():
        raise InputError(f'{path}: no such file{similar_path(path)}')
    if path.suffix == '.onnx':
        return _onnx(path, device)
    if not trusted:
        raise InputError(
            f'{path}: reading a .pt2 file can run code in it; if you made it or trust its author, add --trust'
        )
    return _program(path)


def _onnx(path: Path, device: str) -> Exported:
    try:
        import onnxruntime
    except ImportError:
        raise InputError(
            f'{path}: onnxruntime, which runs .onnx files, is not installed: pip install onnxruntime'
        ) from None
    here = onnxruntime.get_available_providers()
    wanted = ['CUDAExecutionProvider'] if torch.device(device).type == 'cuda' else []
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are also in the exceptions
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=[name for name in (*wanted, 'CPUExecutionProvider') if name in here]
        )
    except Exception as error:  # onnxruntime's own exceptions have no common base class
        raise InputError(f'{path}: not an ONNX model that onnxruntime can run: {first_line(error)}') from error
    inputs = session.get_inputs()
    needs_sigma = _needs_sigma(path, [len(each.shape) for each in inputs])
    only = inputs[0]
    if only.type not in ONNX_DTYPES:
        raise InputError(f'{path}: the input must be one of {", ".join(ONNX_DTYPES)}; it is {only.type}')
    dtype = ONNX_DTYPES[only.type]

    def run(*given: Tensor) -> Tensor:
        _check_dtype(given[0], dtype)
        try:
            (output, *_) = session.run(
                None, {each.name: value.cpu().numpy() for each, value in zip(inputs, given, strict=True)}
            )
        except Exception as error:
            raise RuntimeError(first_line(error)) from error
        return torch.from_numpy(output)

    return Exported(run, dtype, _fixed(only.shape), needs_sigma)


def _program(path: Path) -> Exported:
    try:
        program = torch.export.load(path)
    except Exception as error:  # a damaged archive can fail anywhere in the reader
        raise InputError(f'{path}: not a torch.export program: {first_line(error)}') from error
    names = program.graph_signature.user_inputs
    values = [node.meta['val'] for node in program.graph.nodes if node.op == 'placeholder' and node.name in names]
    needs_sigma = _needs_sigma(path, [getattr(value, 'dim', lambda: 0)() for value in values])
    dtype = str(values[0].dtype).removeprefix('torch.')
    device = values[0].device
    module = program.module()

    def run(*given: Tensor) -> Tensor:
        _check_dtype(given[0], dtype)
        try:
            return module(*(value.to(device) for value in given))
        except Exception as error:  # guards of the graph raise AssertionError and others
            raise RuntimeError(first_line(error)) from error

    return Exported(run, dtype, _fixed(values[0].shape), needs_sigma)


def _needs_sigma(path: Path, ranks: Sequence[int]) -> bool:
    """Whether there are two inputs, the images and their noise levels."""
    if list(ranks) not in ([4], [4, 1]):
        raise InputError(
            f'{path}: the network must have one input (N, C, H, W), or also the noise levels (N,); it has {len(ranks)}'
            f' of {" and ".join(map(str, ranks))} dimensions'
        )
    return len(ranks) == 2


def _check_dtype(images: Tensor, dtype: str) -> None:
    if images.dtype != getattr(torch, dtype):
        raise TypeError(f'the file takes images of {dtype}')


def _fixed(shape: Sequence[Any]) -> tuple[int | None, ...]:
    """The fixed sizes; None for dynamic ones, which are names (ONNX) or symbols (torch)."""
    return tuple(side if type(side) is int else None for side in shape)
