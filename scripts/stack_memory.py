"""Peak memory of ``basicsr denoise`` on stacks: ``python scripts/stack_memory.py [PAGES...] > memory.json``.

Pages have 1024x1024 pixels of 16 bits. The network is a DnCNN with 3 layers of 4 channels, so that what the stack takes
is not hidden behind the network; the disk needs room for two stacks.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

SIDE = 1024


def main(counts: list[int]) -> None:
    from ne_basicsr.archs.dncnn_arch import DnCNN
    from ne_basicsr.weights import checkpoint

    options = {'num_in_ch': 1, 'num_out_ch': 1, 'num_feat': 4, 'num_layers': 3, 'act_mode': 'R'}
    with tempfile.TemporaryDirectory() as folder:
        network, stack, out = (Path(folder) / name for name in ('net.pth', 'stack.tif', 'out'))
        checkpoint.save_network(network, {'params': DnCNN(**options)}, {'network_g': {'type': 'DnCNN', **options}})
        rows = []
        for count in counts:
            tifffile.imwrite(stack, pages(count), shape=(count, SIDE, SIDE), dtype=np.uint16, imagej=True)
            start = time.perf_counter()
            command = [sys.executable, '-m', 'ne_basicsr', 'denoise', network, stack, '-o', out]
            with subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL) as process:
                _, status, used = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            assert process.returncode == 0, 'basicsr denoise failed'
            assert len(tifffile.TiffFile(out / stack.name).pages) == count
            seconds = {'wall': round(time.perf_counter() - start, 1), 'user': round(used.ru_utime, 1)}
            rows.append({'pages': count, 'peak_mb': round(used.ru_maxrss / 1024), 'seconds': seconds})
    print(json.dumps(rows, indent=1))


def pages(count: int) -> Iterator[np.ndarray]:
    page = np.random.default_rng(0).integers(0, 40000, (SIDE, SIDE), np.uint16)
    return (page + np.uint16(number) for number in range(count))


if __name__ == '__main__':
    main([int(text) for text in sys.argv[1:]] or [40, 800])
