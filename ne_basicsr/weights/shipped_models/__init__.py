"""Models that come with the package, ``.pth`` files in this folder: blind denoisers, normalization-equivariant.

Wherever a checkpoint is taken, their names are, too. How they were trained and how good they are: ``docs/models.md``.
"""

from pathlib import Path

MODELS = {path.stem: path for path in sorted(Path(__file__).parent.glob('*.pth'))}
DEFAULT = 'gray'  # of basicsr denoise; colour images go through it as brightness and colour differences


def list_models() -> list[str]:
    """Names of the models that come with the package; ``load`` and every command take them."""
    return list(MODELS)


def resolve(path: Path | str) -> Path:
    """The file of a shipped model where ``path`` is its name and no file of that name is there; else ``path``."""
    return MODELS[str(path)] if str(path) in MODELS and not Path(path).is_file() else Path(path)
