"""The ``config.json`` of a run of the WNE paper's code, which tells the wrapper that its checkpoints do not tell."""

import json
import re
from pathlib import Path
from typing import NamedTuple

from ne_basicsr.utils.errors import InputError, first_line, leaves

# the paper's model_wrapper_mode -> the wrapper here
WRAPPERS = {'idem': None, 'norm-equiv': 'WNE', 'norm-equiv-input': 'InputNorm', 'scale-equiv': 'WSE'}
LARGEST = 2**20  # bytes


class PaperRun(NamedTuple):
    """How the network of a run was trained."""

    wrapper: str | None  # its class here; None for a plain network
    mode: str | None  # FDnCNN's
    prediction: str | None  # ``direct`` or ``residual``


def find_run(checkpoint: Path | str) -> PaperRun | None:
    """The run of a checkpoint, from the ``config.json`` beside it or in the folder above; None where there is none."""
    folder = Path(checkpoint).absolute().parent
    for path in (folder / 'config.json', folder.parent / 'config.json'):
        if not path.is_file():
            continue
        try:
            if path.stat().st_size > LARGEST:
                raise ValueError(f'it has more than {LARGEST} bytes')
            found = [*leaves(json.loads(path.read_bytes()), ('',))]
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f'{path}: not readable as the settings of a run ({first_line(error)})') from error
        # anywhere in the file: model_wrapper_mode, or wrapper_mode below model
        named = {re.sub('[.-]', '_', '_'.join(key)).removesuffix('_value'): text for key, text in found}
        wrapper, mode, prediction = (
            next((text for name, text in named.items() if name.endswith(key) and isinstance(text, str)), None)
            for key in ('_wrapper_mode', '_model_mode', '_pred_mode')
        )
        if wrapper is None:
            continue
        if wrapper not in WRAPPERS:
            raise InputError(f'{path}: model_wrapper_mode must be one of {", ".join(WRAPPERS)}; got {wrapper!r}')
        return PaperRun(WRAPPERS[wrapper], mode, prediction)
    return None
