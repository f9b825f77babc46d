"""Random damages of checkpoint files: none may go unnoticed that changes a number.

    python tests/damage.py 200

prints for each kind of file how many damages were refused, how many were harmless, and how many changed the content
without an error, which is none.
"""

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch

from ne_basicsr.inference import loading
from ne_basicsr.utils.errors import InputError
from ne_basicsr.weights import checkpoint

OPTIONS = {'network_g': {'type': 'DnCNNWNE', 'num_feat': 4, 'num_layers': 3, 'correction': 1}}


def damaged(data: bytes, draw: random.Random) -> bytes:
    """``data`` with one bit flipped, 64 bytes zeroed, or its end cut off."""
    kind, at = draw.choice(('bit', 'zeros', 'cut')), draw.randrange(len(data))
    if kind == 'bit':
        return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
    if kind == 'zeros':
        return (data[:at] + bytes(64) + data[at + 64 :])[: len(data)]
    return data[:at]


def write_files(folder: Path) -> list[Path]:
    """A training state, a network of a run, and one as safetensors."""
    torch.manual_seed(0)
    net = loading.build_arch(OPTIONS['network_g'])
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.rand(1, 1, 8, 8)).sum().backward()
    optimizer.step()
    state = {'iter': 8, 'epoch': 0, 'optimizers': [optimizer.state_dict()], 'milestones': Counter([4]), 'seed': 7}
    checkpoint.write(folder / '8.state', state)
    checkpoint.save_network(folder / 'net_g_8.pth', {'params': net, 'params_ema': net}, OPTIONS)
    checkpoint.write_safetensors(folder / 'net.safetensors', net.state_dict(), OPTIONS)
    return [folder / '8.state', folder / 'net_g_8.pth', folder / 'net.safetensors']


def same(a: object, b: object) -> bool:
    """Whether two contents are equal to the bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def outcomes(path: Path, count: int, seed: int) -> Counter[str]:
    """How many of ``count`` damages of ``path`` were refused, harmless, and unnoticed."""
    draw, whole, content = random.Random(seed), path.read_bytes(), checkpoint.read(path)
    found: Counter[str] = Counter(refused=0, harmless=0, unnoticed=0)
    broken = path.with_name(f'broken{path.suffix}')
    for _ in range(count):
        broken.write_bytes(damaged(whole, draw))
        try:
            found['harmless' if same(checkpoint.read(broken), content) else 'unnoticed'] += 1
        except InputError as error:
            assert str(broken) in str(error), error
            assert '\n' not in str(error), error
            found['refused'] += 1
    return found


if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as name:
        results = {path.name: outcomes(path, int(sys.argv[1]), seed=1) for path in write_files(Path(name))}
    for file, found in results.items():
        print(file, dict(found))
    sys.exit(any(found['unnoticed'] for found in results.values()))
