"""``basicsr doctor``: what is installed, which devices there are, and which known problems the installation has.

Every import that may fail is guarded.
"""

import argparse
import importlib.util
import platform
import sys
from pathlib import Path

import ne_basicsr
from ne_basicsr._compat import BASICSR_VERSION, explain_foreign, installed_version
from ne_basicsr.cli.command import Commands, add_command
from ne_basicsr.utils.errors import first_line

DISTRIBUTIONS = (
    'torch', 'torchvision', 'numpy', 'opencv-python', 'opencv-python-headless', 'lmdb', 'scikit-image', 'scipy',
)  # fmt: skip


def add(commands: Commands) -> None:
    add_command(commands, 'doctor', 'print versions and devices, and explain what is wrong with them', run)


def run(_: argparse.Namespace) -> int:
    """Print versions, devices, the ``basicsr`` that is imported, and every known problem with its cure."""
    lines = [
        f'ne_basicsr  {ne_basicsr.__version__}  ({Path(ne_basicsr.__file__).parent})',
        f'python      {platform.python_version()}  ({sys.executable})',
        f'platform    {platform.platform()}',
        *(f'{name:<11} {version}' for name in DISTRIBUTIONS if (version := installed_version(name))),
    ]
    problems = [*_python_problems(), *_package_problems()]
    for look in (_torch, _basicsr):
        found, problem = look()
        lines += found
        problems += [problem] if problem else []
    conclusion = [f'PROBLEM: {each}' for each in problems] or ['No problems found.']
    print('\n'.join([*lines, '', *conclusion]))
    return 1 if problems else 0


def _python_problems() -> list[str]:
    if (3, 10) <= sys.version_info < (3, 13):
        return []
    return [
        f'Python {platform.python_version()}: BasicSR {BASICSR_VERSION} can be built on Python 3.10 to 3.12 only (its'
        ' setup.py fails on 3.13); make the environment with python3.12'
    ]


def _package_problems() -> list[str]:
    wanted = f'pip install basicsr=={BASICSR_VERSION}'
    problems = [
        f'{name} is not installed: pip install torch torchvision, both from one index'
        for name in ('torch', 'torchvision')
        if installed_version(name) is None
    ]
    version = installed_version('basicsr')
    if version is None:
        problems.append(f'basicsr is not installed: {wanted}')
    elif version != BASICSR_VERSION:
        problems.append(f'basicsr is {version}; this plugin is made for {BASICSR_VERSION}: {wanted}')
    if installed_version('opencv-python') and installed_version('opencv-python-headless'):
        problems.append('opencv-python and opencv-python-headless overwrite each other: uninstall both, install one')
    return problems


def _torch() -> tuple[list[str], str | None]:
    try:
        import torch
    except (ImportError, OSError, RuntimeError) as error:
        return [], f'torch cannot be imported ({first_line(error)}): reinstall it'
    lines = [f'cpu         {torch.get_num_threads()} threads']
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            lines.append(f'cuda:{index}      {properties.name}, {properties.total_memory / 2**30:.0f} GiB')
    else:
        built_for = f'torch is built for CUDA {torch.version.cuda}' if torch.version.cuda else 'torch is built for CPUs'
        lines.append(f'cuda        none available ({built_for})')
    return lines, None


def _basicsr() -> tuple[list[str], str | None]:
    try:
        spec = importlib.util.find_spec('basicsr')
        if spec is None or spec.origin is None:
            return [], None  # reported with the packages
        folder = Path(spec.origin).parent
        if foreign := explain_foreign(folder):
            return [f'basicsr     {folder}'], foreign
        import basicsr
        from basicsr.utils.registry import ARCH_REGISTRY
    except Exception as error:  # an installation can be broken in any way
        return [], first_line(error)
    wrapped = sum(name.endswith('WNE') for name, _ in ARCH_REGISTRY)
    lines = [f'basicsr     {basicsr.__version__}  ({folder})']
    lines.append(f'            {len(ARCH_REGISTRY.keys())} networks registered, {wrapped} of them equivariant')
    return lines, None
