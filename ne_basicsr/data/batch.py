"""Training batches: made whole by the data set, 8 bits a pixel until they are on the device."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils.data._utils.collate import default_collate_fn_map

IMAGES = ('gt', 'lq')


class Batch(dict[str, Any]):
    """A batch that a data set's ``__getitems__`` made at once; torch's loader hands it on as it is.

    ``__getitems__`` returns ``[Batch(...)]``, a list as the loader asks for: one item, the batch.
    """


def as_float(batch: Mapping[str, Any], device: torch.device | str) -> dict[str, Any]:
    """``batch`` with its 8-bit images ``gt`` and ``lq`` (N, C, H, W) as float32 on [0, 1], on ``device``.

    They cross over with 8 bits a pixel, a quarter of what float32 takes. Everything else stays as and where it is.
    """
    ready = dict(batch)
    for key in IMAGES:
        images = ready.get(key)
        if isinstance(images, torch.Tensor) and images.dtype == torch.uint8:
            ready[key] = images.to(device, non_blocking=True).float().div_(255)
    return ready


def _as_it_is(batches: Sequence[Batch], *, collate_fn_map: object = None) -> Batch:
    (batch,) = batches
    return batch


# how torch is told what a loader does with a type: https://docs.pytorch.org/docs/stable/data.html, default_collate
default_collate_fn_map[Batch] = _as_it_is
