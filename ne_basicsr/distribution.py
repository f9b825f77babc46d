"""Processes that train together: ranks from torchrun or Slurm, NCCL on GPUs and gloo on CPUs."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed

from ne_basicsr.errors import InputError


@contextmanager
def ranks(launcher: str, num_gpu: int = 0, dist_params: Mapping[str, Any] | None = None) -> Iterator[tuple[int, int]]:
    """Join the processes that ``launcher`` (none, pytorch, slurm) started; (rank, world size).

    Args:
        num_gpu: GPUs of this machine that the run uses; 0 trains on CPUs, with gloo.
        dist_params: ``backend``, instead of NCCL on GPUs and gloo on CPUs, and ``port`` of the first process (Slurm).

    Raises:
        InputError: where the launcher's environment is not there, or there are more processes than GPUs.
    """
    if launcher == 'none':
        yield 0, 1
        return
    chosen = dist_params or {}
    if launcher == 'slurm':
        _slurm_environment(chosen.get('port', 29500))
    if missing := [name for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT') if name not in os.environ]:
        raise InputError(
            f'--launcher {launcher}: {", ".join(missing)} not set; start with torchrun --nproc_per_node=N -m ne_basicsr'
        )
    if num_gpu:
        local = int(os.environ.get('LOCAL_RANK', 0))
        if local >= torch.cuda.device_count():
            raise InputError(
                f'--launcher {launcher}: process {local} of this machine has no GPU, there are'
                f' {torch.cuda.device_count()}; start as many processes, or set num_gpu: 0'
            )
        torch.cuda.set_device(local)
    distributed.init_process_group(chosen.get('backend', 'nccl') if num_gpu else 'gloo')
    try:
        yield distributed.get_rank(), distributed.get_world_size()
    finally:
        distributed.destroy_process_group()


def _slurm_environment(port: int) -> None:
    """torch's variables from Slurm's, where they are not set."""
    try:
        rank, size, local, nodes = (os.environ[f'SLURM_{name}'] for name in ('PROCID', 'NTASKS', 'LOCALID', 'NODELIST'))
    except KeyError as error:
        raise InputError(f'--launcher slurm: {error.args[0]} not set; start with srun') from None
    if 'MASTER_ADDR' not in os.environ:
        hosts = subprocess.run(['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True, check=True)
        os.environ['MASTER_ADDR'] = hosts.stdout.split()[0]
    os.environ.setdefault('MASTER_PORT', str(port))
    os.environ.update(RANK=rank, WORLD_SIZE=size, LOCAL_RANK=local)


def agreed(value: Any) -> Any:
    """Rank 0's ``value`` on all ranks."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    box = [value]
    distributed.broadcast_object_list(box)
    return box[0]
