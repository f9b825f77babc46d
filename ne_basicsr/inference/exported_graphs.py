"""Run exported networks: ONNX files, through onnxruntime, and ``torch.export`` programs."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ne_basicsr.inference.denoiser import Denoiser
from ne_basicsr.utils.errors import InputError, first_line
from ne_basicsr.utils.words import similar_path

SUFFIXES = ('.onnx', '.pt2')
ONNX_DTYPES = {'tensor(float)': 'float32', 'tensor(float16)': 'float16', 'tensor(double)': 'float64'}

Graph = tuple[Callable[[Sequence[Tensor]], Tensor], str, Sequence[Any], int]
"""What runs it on its inputs, their number type, the shape of the images, and the number of inputs."""


def open_exported(path: Path, device: str, trusted: bool) -> Denoiser:
    """The network in an exported file, as a denoiser.

    Its ``network`` maps (N, C, H, W) of its ``dtype``, and noise levels (N,) if it is non-blind, to (N, C', rH, rW),
    and raises RuntimeError for other types or sizes.

    Args:
        device: where it runs; a ``torch.export`` program runs on the device it was exported on.
        trusted: whether ``.pt2`` files may be read. Torch's reader evaluates expressions and unpickles objects from the
            file, so it can run code; ONNX files contain no code.

    An ``InputError`` for a missing file, one that is no exported network, other inputs, or an untrusted ``.pt2`` file.
    """
    if not path.is_file():
        raise InputError(f'{path}: no such file{similar_path(path)}')
    if path.suffix != '.onnx' and not trusted:
        raise InputError(
            f'{path}: reading a .pt2 file can run code in it; if you made it or trust its author, add --trust'
        )
    run, dtype, sides, inputs = _onnx(path, device) if path.suffix == '.onnx' else _program(path)

    def network(y: Tensor, sigma: Tensor | None = None) -> Tensor:
        try:
            return run([y, sigma][:inputs])  # type: ignore[arg-type]
        except Exception as error:  # onnxruntime's have no common base class; guards raise AssertionError and others
            raise RuntimeError(first_line(error)) from error

    shape = tuple(side if type(side) is int else None for side in sides)  # dynamic ones are names (ONNX) or symbols
    about = ['exported', dtype, 'x'.join('any' if side is None else str(side) for side in shape)]
    return Denoiser(
        network,
        description=', '.join([*about, *(['non-blind'] if inputs == 2 else [])]),
        needs_sigma=inputs == 2,
        digest=hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest(),
        dtype=getattr(torch, dtype),
        shape=shape,
    )


def _onnx(path: Path, device: str) -> Graph:
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
    _check_inputs(path, [len(each.shape) for each in inputs])
    if inputs[0].type not in ONNX_DTYPES:
        raise InputError(f'{path}: the input must be one of {", ".join(ONNX_DTYPES)}; it is {inputs[0].type}')

    def run(given: Sequence[Tensor]) -> Tensor:
        named = {each.name: value.cpu().numpy() for each, value in zip(inputs, given, strict=True)}
        return torch.from_numpy(session.run(None, named)[0])

    return run, ONNX_DTYPES[inputs[0].type], inputs[0].shape, len(inputs)


def _program(path: Path) -> Graph:
    try:
        program = torch.export.load(path)
    except Exception as error:  # a damaged archive can fail anywhere in the reader
        raise InputError(f'{path}: not a torch.export program: {first_line(error)}') from error
    names = program.graph_signature.user_inputs
    values = [node.meta['val'] for node in program.graph.nodes if node.op == 'placeholder' and node.name in names]
    _check_inputs(path, [getattr(value, 'dim', lambda: 0)() for value in values])
    images, module = values[0], program.module()
    dtype = str(images.dtype).removeprefix('torch.')
    return lambda given: module(*(each.to(images.device) for each in given)), dtype, images.shape, len(values)


def _check_inputs(path: Path, ranks: Sequence[int]) -> None:
    """Raise unless there are the images, or the images and their noise levels."""
    if list(ranks) not in ([4], [4, 1]):
        raise InputError(
            f'{path}: the network must have one input (N, C, H, W), or also the noise levels (N,); it has {len(ranks)}'
            f' of {" and ".join(map(str, ranks))} dimensions'
        )
