"""Models that come with the package, ``.pth`` files in this folder: blind denoisers, normalization-equivariant.

Their names can be used wherever a checkpoint can. How they were trained and how good they are: ``docs/models.md``.
"""

from pathlib import Path

MODELS = {path.stem: path for path in sorted(Path(__file__).parent.glob('*.pth'))}
GRAY, COLOUR = 'gray', 'colour'  # what basicsr denoise takes for gray and for colour images


def list_models() -> list[str]:
    """Names of the models that come with the package; ``load`` and every command take them."""
    return list(MODELS)


def resolve(path: Path | str) -> Path:
    """The file of the shipped model called ``path``; ``path`` itself if there is none or a file of that name exists."""
    return MODELS[str(path)] if str(path) in MODELS and not Path(path).is_file() else Path(path)
