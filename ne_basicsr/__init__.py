"""ne_basicsr: normalization-equivariant image restoration, f(a y + b) = a f(y) + b, as a plugin for BasicSR.

``import ne_basicsr`` comes first: from then on any BasicSR import works on current libraries, and BasicSR's registries
hold the names of this package (``WNE``, ``DnCNN``, ``SwinIRWNE``, ``DenoisingDataset``, ...). Nothing heavy is imported
until BasicSR is, so the command line can explain a broken installation instead of failing in it.

Public are the names in ``__all__``, what option files and the command line name, and what the documentation describes.
Everything else is private and may change.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ne_basicsr import _compat

if TYPE_CHECKING:
    from ne_basicsr.archs.wne_arch import WNE
    from ne_basicsr.evaluation.check import assert_equivariant, check
    from ne_basicsr.evaluation.mismatch import mismatch
    from ne_basicsr.inference.denoiser import Denoiser
    from ne_basicsr.inference.opening import load
    from ne_basicsr.inference.pixels import denoise
    from ne_basicsr.weights.shipped_models import list_models

__version__ = '0.1.0'
__all__ = ['WNE', 'Denoiser', 'assert_equivariant', 'check', 'denoise', 'list_models', 'load', 'mismatch']

_compat.install()

_MODULES = {
    'WNE': 'archs.wne_arch',
    'Denoiser': 'inference.denoiser',
    'assert_equivariant': 'evaluation.check',
    'check': 'evaluation.check',
    'denoise': 'inference.pixels',
    'list_models': 'weights.shipped_models',
    'load': 'inference.opening',
    'mismatch': 'evaluation.mismatch',
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_MODULES[name]}'), name)  # imports torch and BasicSR


def __dir__() -> list[str]:
    return sorted({name for name in globals() if name.startswith('__')} | {*__all__})
