"""Export networks, including the wrapper's statistics, as ONNX files and ``torch.export`` programs."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from packaging.version import Version
from torch import Tensor, nn

from ne_basicsr.inference.denoiser import Denoiser, as_denoiser
from ne_basicsr.inference.exported_graphs import open_exported
from ne_basicsr.inference.exporting import swinir
from ne_basicsr.utils import atomic_files
from ne_basicsr.utils.errors import InputError, first_line

TORCH = '2.11'  # the oldest whose tracer and programs are known to suffice
AXES = {0: 'batch', 2: 'height', 3: 'width'}  # those that may differ from image to image
TRACED = (2, 45, 77)  # batch, height and width of the traced image: no size with special cases
# and of the images for comparison with torch, with their noise in 8-bit units: ZeroShot differs at low levels
CHECKED = ((1, 48, 80, 1), (3, 37, 53, 25), (1, 96, 41, 5))
TOLERANCE = 1e-4  # relative to the largest value, float32; kernels sum in different order


class Agreement(NamedTuple):
    """The difference between an exported network and the original."""

    shape: tuple[int, ...]  # shape of the images
    difference: float  # the largest difference, relative to the largest value of the original's output


def trace(network: Denoiser | nn.Module) -> torch.export.ExportedProgram:
    """Trace a network into a program for any batch size, and any height and width of at least ``least_side``.

    Args:
        network: in eval mode. The program takes images ``y`` and, if the network is non-blind, the noise levels (N,).

    Raises:
        InputError: if the network's code cannot be traced, or fixes a size, and for a torch older than ``TORCH``.
    """
    if Version(torch.__version__) < Version(TORCH):
        raise InputError(f'exporting to .onnx and .pt2 needs torch {TORCH} or newer; this is {torch.__version__}')
    denoiser = as_denoiser(network)
    axes = dict.fromkeys(AXES, torch.export.Dim.AUTO)
    dynamic: dict[str, Any] = {'y': axes} | ({'sigma': {0: torch.export.Dim.AUTO}} if denoiser.needs_sigma else {})
    name = type(denoiser.network).__name__
    try:
        with torch.no_grad(), swinir.any_size(denoiser), _quiet():
            program = torch.export.export(denoiser, _inputs(denoiser, TRACED), dynamic_shapes=dynamic, strict=False)
    except Exception as error:  # torch's tracer raises many kinds of errors
        raise InputError(
            f'{name} cannot be exported: its code depends on the values of the image ({first_line(error)})'
        ) from error
    shape = _shape(program)
    if fixed := [axis for number, axis in AXES.items() if shape[number].isdecimal()]:
        raise InputError(f'{name} cannot be exported for images of any size: its code fixes the {fixed[0]}')
    # With example inputs, torch adds guards that reject sizes with special cases, such as a single image or a size
    # that needs no padding. The general code is also right for those, which ``compare`` verifies.
    program.example_inputs = None
    return program


def least_side(program: torch.export.ExportedProgram) -> int:
    """The smallest height and width of a traced program; blocks of the DCT need 8 pixels."""
    sides = _shape(program)[2:]
    least = [int(bounds.lower) for side, bounds in program.range_constraints.items() if str(side) in sides]
    return max([1, *(side for side in least if side > 2)])  # torch writes 2 for any size


def write_onnx(program: torch.export.ExportedProgram, path: Path, about: str = '') -> None:
    """Write ``program`` to an ONNX file: input ``y``, output ``restored``, named axes.

    Args:
        about: description to store in the file.

    Raises:
        InputError: if ``onnx`` or ``onnxscript`` is missing, or for an operation that ONNX does not support.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f'{error.name}, which writes ONNX files, is not installed: pip install onnx onnxscript onnxruntime'
        ) from None
    try:
        with _quiet():
            result: Any = torch.onnx.export(program, dynamo=True, verbose=False, output_names=['restored'])
    except Exception as error:
        raise InputError(f'{path}: cannot be written as ONNX: {first_line(error)}') from error
    names = {str(side): AXES[axis] for axis, side in enumerate(result.model.graph.inputs[0].shape) if axis in AXES}
    result.rename_axes(names)
    result.model.doc_string = about
    atomic_files.write(path, lambda file: file.write(result.model_proto.SerializeToString()))


def write_program(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write ``program`` to a ``.pt2`` file for ``torch.export.load``."""
    with _quiet():
        atomic_files.write(path, lambda file: torch.export.save(program, file))


def compare(path: Path, network: Denoiser | nn.Module) -> list[Agreement]:
    """Compare an exported file with its network on images of the sizes ``CHECKED``.

    Raises:
        InputError: if they differ by more than ``TOLERANCE``, or if the file does not run at a size.
    """
    denoiser = as_denoiser(network)
    with _quiet():
        exported = open_exported(path, 'cpu', trusted=True)
    agreements = []
    for *size, noise255 in CHECKED:
        inputs = _inputs(denoiser, size, noise255 / 255)
        try:
            with torch.no_grad():
                expected, given = denoiser(*inputs), exported.network(*inputs)
        except RuntimeError as error:
            raise InputError(f'{path}: does not run at {_times(inputs[0].shape)}: {error}') from error
        difference = float((given - expected).abs().max() / expected.abs().max())
        agreements.append(Agreement(tuple(inputs[0].shape), difference))
        if not difference <= TOLERANCE:
            raise InputError(
                f'{path}: differs from the network by {difference:.1e} of the largest value at'
                f' {_times(inputs[0].shape)}; at most {TOLERANCE:g} is allowed'
            )
    return agreements


def _shape(program: torch.export.ExportedProgram) -> list[str]:
    """N, C, H and W of the images: numbers or symbol names."""
    (y,) = [node for node in program.graph.nodes if node.op == 'placeholder' and node.name == 'y']
    return [str(side) for side in y.meta['val'].shape]


def _inputs(denoiser: Denoiser, size: Sequence[int], noise: float = 0.1) -> tuple[Tensor, ...]:
    batch, height, width = size
    generator = torch.Generator().manual_seed(0)
    rows = torch.linspace(0.2, 0.8, height)[:, None] + torch.zeros(width)
    y = rows + noise * torch.randn(batch, denoiser.channels, height, width, generator=generator)
    return (y.to(denoiser.like), torch.full((batch,), noise).to(denoiser.like))[: 1 + denoiser.needs_sigma]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the messages of torch's exporters."""
    loggers = [logging.getLogger(name) for name in ('torch.onnx', 'onnxscript', 'onnx_ir', 'torch.export')]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _times(shape: Sequence[int]) -> str:
    return 'x'.join(map(str, shape))
