"""BasicSR's SwinIR without the RGB mean, as the WNE paper uses it for colour images."""

from functools import wraps
from typing import Any

import torch
from basicsr.archs.swinir_arch import SwinIR
from basicsr.utils.registry import ARCH_REGISTRY

from ne_basicsr.archs import swinir_blocks

swinir_blocks.install()


@ARCH_REGISTRY.register()
class SwinIRNoMean(SwinIR):
    """SwinIR without a mean: BasicSR's subtracts DIV2K's RGB mean from colour images, and adds it at the end.

    Arguments, input, output and keys as ``SwinIR``; for gray images the two are the same network. Weights do not tell
    which of the two they belong to: without metadata they load as ``SwinIR``, and ``options={'type': 'SwinIRNoMean'}``,
    on the command line ``FILE=SwinIRNoMean``, names this one.
    """

    @wraps(SwinIR.__init__)  # type: ignore[misc] # its arguments, for option files
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.mean = torch.zeros(1, 1, 1, 1)
