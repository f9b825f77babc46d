"""BasicSR's SwinIR as the WNE paper has it in colour: without a mean that is subtracted."""

from functools import wraps
from typing import Any

import torch
from basicsr.archs.swinir_arch import SwinIR
from basicsr.utils.registry import ARCH_REGISTRY


@ARCH_REGISTRY.register()
class SwinIRNoMean(SwinIR):
    """SwinIR of colour images as they are: BasicSR's subtracts DIV2K's RGB mean, and adds it at the end.

    Arguments, input, output and keys as ``SwinIR``, which it is for gray images. Weights do not tell which of the two
    they belong to.
    """

    @wraps(SwinIR.__init__)  # type: ignore[misc] # its arguments, for option files
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.mean = torch.zeros(1, 1, 1, 1)
