"""``basicsr mismatch``."""

import argparse
import os

from ne_basicsr.cli import command


def run(arguments: argparse.Namespace) -> int:
    import torch

    from ne_basicsr.evaluation.mismatch.comparison import compare
    from ne_basicsr.evaluation.mismatch.outputs import write_outputs
    from ne_basicsr.evaluation.mismatch.units import Precision, Request
    from ne_basicsr.utils.machine import keep_freed_memory
    from ne_basicsr.utils.process_group import UNTIL_THE_LAST, holding, launcher_here, ranks

    command.check_least(arguments, draws=1, batch=1)
    device = command.chosen_device(arguments)
    if device == 'cpu':
        keep_freed_memory()
        # torchrun gives each process one thread, which would change sums over whole images
        torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1)
    precision = Precision(arguments.dtype, arguments.channels_last)
    request = command.given(arguments, Request, device=device, precision=precision)
    with (
        ranks(launcher_here(), int(device == 'cuda'), patience=UNTIL_THE_LAST) as (rank, world_size),
        holding(rank, arguments.output, 'choose another --output'),
    ):
        result, timing = compare(request, arguments.output, rank, world_size)
        if rank == 0:
            page = write_outputs(result, arguments.output, command.typed(arguments))
            print(f'{timing}\nReport: {page.resolve()}')
            command.report_failures(result.failures)
    return 1 if result.failures else 0
