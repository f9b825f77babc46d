"""Packaging of ne_basicsr. Versions that the tests passed with: .ci/constraints.txt; the lowest: -oldest.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r"__version__ = '(.+)'", (here / 'ne_basicsr' / '__init__.py').read_text()).group(1)

matlab = ['h5py>=3']  # MatConvNet's weights in files of MATLAB 7.3; BSD; 10 MB
onnx = ['onnx', 'onnxscript', 'onnxruntime']  # basicsr export writes ONNX files and compares them; Apache-2.0, MIT
spandrel = ['spandrel>=0.4.2, <0.5']  # its networks as backbones, our files in programs that load with it; MIT
perceptual = ['torchmetrics>=1.8']  # LPIPS and DISTS; Apache-2.0; torch is its one heavy dependency
deepinv = ['deepinv>=0.5']  # our networks in plug-and-play methods; BSD; brings torchmetrics, h5py, einops, natsort

setup(
    name='ne-basicsr',
    version=version,
    description='Normalization-equivariant image restoration as a plugin for BasicSR',
    long_description=(here / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='MIT',
    license_files=['LICENSE'],
    python_requires='>=3.11',
    classifiers=[
        *(f'Programming Language :: Python :: 3.{minor}' for minor in (11, 12, 13, 14)),
        'Operating System :: OS Independent',
        'Topic :: Scientific/Engineering :: Image Processing',
    ],
    packages=[
        *find_packages(include=['ne_basicsr', 'ne_basicsr.*']),
        'ne_basicsr.shipped_options',
        'ne_basicsr.shipped_datasets',
    ],
    # outside a clone: option files by name, and where to get their data
    package_dir={'ne_basicsr.shipped_options': 'options', 'ne_basicsr.shipped_datasets': 'datasets'},
    package_data={
        'ne_basicsr.cli': ['commands.toml'],
        'ne_basicsr.evaluation.bench': ['paper.yml'],
        'ne_basicsr.evaluation.check': ['exact_operations.txt'],
        'ne_basicsr.evaluation.report': ['templates/*'],
        'ne_basicsr.options': ['schema.yml'],
        'ne_basicsr.shipped_options': ['*.yml', 'experiments/*.yml', 'evidence/*.yml', 'schema.json'],
        'ne_basicsr.shipped_datasets': ['README.md'],
        'ne_basicsr.weights.shipped_models': ['*.pth'],
    },
    install_requires=[
        'basicsr==1.4.2',  # the host, from wheels/; Apache-2.0; brings torch, OpenCV, scikit-image, TensorBoard
        'torch>=2.6',  # before, torch.load(weights_only=True) could be made to run code: CVE-2025-32434
        'torchvision>=0.21',  # must come from the same index as torch
        'numpy>=2',
        'Jinja2>=3.1',  # the pages of reports; BSD; torch brings it, too
        'jsonschema>=4.18',  # option files: types, bounds, unknown keys, in the words of the schema for editors; MIT
        'lmdb>=1.4.1',
        'matplotlib>=3.9',  # figures; PSF licence, the field's standard
        'Pillow>=11',  # image files with EXIF and profiles; MIT-CMU
        'packaging>=22',  # stands in for distutils.version on Python 3.12
        'platformdirs>=3',  # the user's cache folder on each system; MIT; yapf, which BasicSR needs, brings it, too
        'PyYAML>=6',
        'safetensors>=0.4.3',  # weights without pickle, for other programs; Apache-2.0
        'scipy>=1.13',  # SIDD's .mat files; BSD; scikit-image brings it, too
        'scikit-image>=0.24',  # SSIM as in the paper, quickstart's photographs; BSD
        'tifffile>=2024.8.10',  # TIFF of 16 bits and floating point; BSD
        'tqdm',
    ],
    extras_require={
        'onnx': onnx,
        'spandrel': spandrel,
        'deepinv': deepinv,
        'perceptual': perceptual,
        'matlab': matlab,
        'imagecodecs': ['imagecodecs'],  # compressed TIFF of more than 8 bits, LZW and ZSTD among them; BSD; 20 MB
        'wandb': ['wandb'],  # a run's curves on its server, logger:wandb; MIT
        'test': [
            'pytest>=8',
            'pytest-xdist>=3.5',  # one process a core: the suite in half the time; MIT
            *matlab,
            *onnx,
            *spandrel,
            *deepinv,
            *perceptual,
        ],
        'dev': [
            'mypy>=1.11',
            'ruff>=0.6',
            'types-PyYAML',
            'import-linter>=2',  # the layers of the package, .importlinter; BSD
        ],
        'docs': [
            'sphinx>=8',  # the site, with the Python reference from docstrings; BSD
            'furo',  # its theme, light and dark, readable on a phone; MIT
            'myst-parser>=4',  # pages in Markdown, such as those that the README links to; MIT
            'sphinx-copybutton',  # a button that copies a command; MIT
        ],
    },
    entry_points={'console_scripts': ['basicsr = ne_basicsr.cli.main:main', 'ne-basicsr = ne_basicsr.cli.main:main']},
)
