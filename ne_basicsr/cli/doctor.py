"""``basicsr doctor``: what is installed, which devices there are, and which known problems the installation has."""

import argparse
import importlib.util
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import ne_basicsr
from ne_basicsr._compat import BASICSR_VERSION, NOT_INSTALLED, explain_foreign, installed_version
from ne_basicsr.utils.errors import InputError, first_line

DISTRIBUTIONS = (
    'torch', 'torchvision', 'numpy', 'opencv-python', 'opencv-python-headless', 'lmdb', 'scikit-image', 'scipy',
)  # fmt: skip


def run(_: argparse.Namespace) -> int:
    """Print versions, devices, the ``basicsr`` that is imported, and every known problem with its cure."""
    lines = [
        f'ne_basicsr  {ne_basicsr.__version__}  ({Path(ne_basicsr.__file__).parent})',
        f'python      {platform.python_version()}  ({sys.executable})',
        f'platform    {platform.platform()}',
        *(f'{name:<11} {version}' for name in DISTRIBUTIONS if (version := installed_version(name))),
    ]
    problems = _package_problems()
    for look in (_torch, _basicsr):
        try:
            lines.extend(look())
        except InputError as problem:
            problems.append(str(problem))
    conclusion = [f'PROBLEM: {each}' for each in problems] or ['No problems found.']
    print('\n'.join([*lines, '', *conclusion]))
    return 1 if problems else 0


def _package_problems() -> list[str]:
    problems = [
        f'{name} is not installed: pip install torch torchvision, both from one index'
        for name in ('torch', 'torchvision')
        if installed_version(name) is None
    ]
    version = installed_version('basicsr')
    if version and version.split('+')[0] != BASICSR_VERSION:
        needed = f'{BASICSR_VERSION}: pip install basicsr=={BASICSR_VERSION}'
        problems.append(f'basicsr is {version}; this plugin is made for {needed}')
    if installed_version('opencv-python') and installed_version('opencv-python-headless'):
        problems.append('opencv-python and opencv-python-headless overwrite each other: uninstall both, install one')
    return problems


def _torch() -> Iterator[str]:
    try:
        import torch
    except (ImportError, OSError, RuntimeError) as error:
        raise InputError(f'torch cannot be imported ({first_line(error)}): reinstall it') from error
    yield f'cpu         {torch.get_num_threads()} threads'
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            yield f'cuda:{index}      {properties.name}, {properties.total_memory / 2**30:.0f} GiB'
    elif torch.backends.mps.is_available():
        yield "mps         Apple's GPU, with --device mps; no float64"
    else:
        built_for = f'torch is built for CUDA {torch.version.cuda}' if torch.version.cuda else 'torch is built for CPUs'
        yield f'cuda        none available ({built_for})'


def _basicsr() -> Iterator[str]:
    try:
        spec = importlib.util.find_spec('basicsr')
        if spec is None or spec.origin is None:
            raise ImportError(NOT_INSTALLED)
        folder = Path(spec.origin).parent
        if foreign := explain_foreign(folder):
            raise ImportError(foreign)
        import basicsr
        from basicsr.utils.registry import ARCH_REGISTRY

        basicsr.archs.vgg_arch.vgg.vgg19  # imports torchvision  # noqa: B018
    except Exception as error:  # an installation can be broken in any way
        raise InputError(first_line(error)) from error
    version = installed_version('basicsr') or basicsr.__version__
    yield f'basicsr     {version}  ({folder})'
    if version == '1.4.2+ne':
        yield '            (+ne: the files of 1.4.2 in a wheel made for this plugin, see wheels/README.md)'
    wrapped = sum(name.endswith('WNE') for name, _ in ARCH_REGISTRY)
    yield f'            {len(ARCH_REGISTRY.keys())} networks registered, {wrapped} of them equivariant'
