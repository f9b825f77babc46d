"""ne_basicsr: normalization-equivariant image restoration, f(a y + b) = a f(y) + b, as a plugin for BasicSR.

``import ne_basicsr`` comes first: from then on any BasicSR import works on current libraries, and BasicSR's registries
hold the names of this package (``WNE``, ``DnCNN``, ``SwinIRWNE``, ``DenoisingDataset``, ...). Nothing heavy is imported
until BasicSR is, so the command line can explain a broken installation instead of failing in it.

``ne_basicsr.load(path)`` opens the network of a checkpoint (``ne_basicsr.inference.loading.load``);
``ne_basicsr.denoise(network, array)`` runs it on an image (``ne_basicsr.inference.pixels.denoise``).
"""

from typing import Any

from ne_basicsr import _compat

__version__ = '0.1.0'

_compat.install()


def __getattr__(name: str) -> Any:
    if name == 'load':  # imports torch and BasicSR
        from ne_basicsr.inference.loading import load

        return load
    if name == 'denoise':
        from ne_basicsr.inference.pixels import denoise

        return denoise
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
