"""``basicsr export``."""

import argparse
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from ne_basicsr.cli import command
from ne_basicsr.utils.errors import InputError

GRAPHS = ('.onnx', '.pt2')
WEIGHTS = ('.pth', '.safetensors')


def run(arguments: argparse.Namespace) -> int:
    path = arguments.output
    if path.suffix not in (*GRAPHS, *WEIGHTS):
        raise InputError(f'export: -o must end in {", ".join((*GRAPHS, *WEIGHTS))}; got {str(path)!r}')
    if arguments.unwrap and arguments.rewrap:
        raise InputError('export: --rewrap undoes --unwrap; give one of them')
    if path.is_dir():
        raise InputError(f'export: -o must be a file; {path} is a folder')
    command.check_level(arguments, 'training_sigma255')
    spec = command.named_network(arguments.network, arguments)
    if path.exists() and os.path.exists(spec.file) and path.samefile(spec.file):
        raise InputError(f'export: -o {path} is the input file; choose another name')
    if path.suffix in GRAPHS and (arguments.unwrap or arguments.rewrap or arguments.half):
        needed = f'a file of weights ({" or ".join(WEIGHTS)})'
        raise InputError(f'export: --unwrap, --rewrap and --half need {needed}; got {path.name}')
    try:
        lines = _graph(spec, path) if path.suffix in GRAPHS else _weights(spec, arguments)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # not the name of a temporary file
    print(f'{path}: {path.stat().st_size / 2**20:.1f} MiB', *lines, sep='\n  ')
    return 0


def _graph(spec: Any, path: Path) -> list[str]:
    from torch import nn

    from ne_basicsr.inference.exporting import graphs
    from ne_basicsr.inference.opening import open_denoiser

    denoiser = open_denoiser(spec, only=None)
    if not isinstance(denoiser.network, nn.Module):
        raise InputError(f'{spec.source}: is already an exported graph; give the checkpoint it was made from')
    say = partial(print, file=sys.stderr, flush=True)  # each step can take minutes
    say('export: tracing the network ...')
    program = graphs.trace(denoiser)
    side = graphs.least_side(program)
    about = denoiser.description + (f'; for images of at least {side}x{side} pixels' if side > 1 else '')
    lines = [about]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix='.export-') as folder:
        part = Path(folder) / path.name
        try:
            say(f'export: writing {path} ...')
            if path.suffix == '.onnx':
                graphs.write_onnx(program, part, about)
            else:
                graphs.write_program(program, part)
            say('export: comparing it with the network ...')
            found = graphs.compare(part, denoiser)
        except InputError as error:
            raise InputError(str(error).replace(str(part), str(path))) from error
        os.replace(part, path)  # an older file stays until the new one has passed the comparison
    for each in found:
        differs = f'differs from torch by {each.difference:.1e} of the largest value'
        lines.append(f'at {"x".join(map(str, each.shape))}: {differs if each.difference else "equal to torch"}')
    return lines


def _weights(spec: Any, arguments: argparse.Namespace) -> list[str]:
    from ne_basicsr.inference.exporting import weights as files
    from ne_basicsr.weights.formats import describe

    if spec.wrap or spec.ensemble or spec.sigma255 is not None:
        way_out = 'leave them out and use them when you open the file, or export a graph'
        raise InputError(f'export: --wne, +wne, +x8 and @LEVEL do not change the weights; {way_out}')
    weights: Any = files.read(spec.file, spec.type)
    try:
        for name in ('unwrap', 'rewrap', 'half'):
            weights = getattr(files, name)(weights) if getattr(arguments, name) else weights
    except InputError as error:
        raise InputError(f'{spec.file}: {error}') from None
    files.write(arguments.output, weights)
    count = sum(tensor.numel() for tensor in weights.tensors.values())
    return [f'{describe(weights.metadata["network_g"])}, {len(weights.tensors)} tensors, {count:,} values']
