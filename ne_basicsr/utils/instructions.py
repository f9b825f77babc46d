"""Number types that the processor or GPU multiplies by instructions of its own."""

import platform


def has_bf16(device: str) -> bool:
    """Whether ``cpu`` or ``cuda`` has it: x86 with AVX512_BF16 or AMX, ARM with BF16, newer GPUs."""
    import torch

    if device == 'cuda':
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device != 'cpu' or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    is_x86 = platform.machine().lower() in ('x86_64', 'amd64')  # for it, the answer above also means emulation
    return not is_x86 or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
