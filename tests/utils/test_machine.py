import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform != 'linux', reason='glibc')
def test_freed_memory_is_kept_and_not_mapped_again():
    code = (
        'import resource, torch\n'
        'from ne_basicsr.utils.machine import keep_freed_memory\n'
        'def faults():\n'
        '    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n'
        '    for _ in range(5):\n'
        '        torch.ones(2**23)\n'  # 8192 pages of 4096 bytes
        '    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n'
        'before = faults()\nkeep_freed_memory()\nafter = [faults() for _ in range(4)]\n'
        'assert min(after) < 1000 < before, (before, after)'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)  # a fork's heap is in pieces
    assert done.returncode == 0, done.stderr
