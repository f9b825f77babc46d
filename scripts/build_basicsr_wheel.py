"""Build ``wheels/basicsr-1.4.2+ne-py3-none-any.whl`` from the sdist of BasicSR 1.4.2.

BasicSR 1.4.2 was released as an sdist only. Its setup.py fails on Python 3.13 and later, and installs a second torch to
build with. The wheel holds the sdist's files, byte for byte; of its metadata, the version and the requirements change.
The same sdist always gives the same wheel.
"""

import argparse
import hashlib
import io
import tarfile
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

SHA256 = 'b89b595a87ef964cda9913b4d99380ddb6554c965577c0c10cb7b78e31301e87'
VERSION = '1.4.2+ne'  # pip prefers it to 1.4.2, and `pip list` shows it
REPLACED = {
    'tb-nightly': 'tensorboard',  # the same program in releases; old nightly builds are deleted from the index
    'opencv-python': 'opencv-python-headless',  # without windows, which BasicSR does not open; needs no libGL
}
WHEEL = (
    'Wheel-Version: 1.0\nGenerator: scripts/build_basicsr_wheel.py of ne_basicsr\n'
    'Root-Is-Purelib: true\nTag: py3-none-any\n'
)


def build(sdist: bytes, folder: Path) -> Path:
    """Write the wheel into ``folder`` and return its path.

    Raises:
        ValueError: if ``sdist`` is not the file that was released.
    """
    found = hashlib.sha256(sdist).hexdigest()
    if found != SHA256:
        raise ValueError(f'the sdist of BasicSR 1.4.2 has SHA-256 {SHA256}; this file has {found}')
    with tarfile.open(fileobj=io.BytesIO(sdist)) as archive:
        files = {
            member.name.removeprefix('basicsr-1.4.2/'): archive.extractfile(member).read()  # type: ignore[union-attr]
            for member in archive
            if member.isfile()
        }
    info = f'basicsr-{VERSION}.dist-info'
    contents = {name: data for name, data in files.items() if name.startswith('basicsr/')}
    contents[f'{info}/LICENSE.txt'] = files['LICENSE.txt']
    contents[f'{info}/METADATA'] = metadata(files).encode()
    contents[f'{info}/WHEEL'] = WHEEL.encode()
    contents[f'{info}/top_level.txt'] = b'basicsr\n'
    rows = [f'{name},sha256={_digest(data)},{len(data)}\n' for name, data in contents.items()]
    contents[f'{info}/RECORD'] = (''.join(rows) + f'{info}/RECORD,,\n').encode()

    path = folder / f'basicsr-{VERSION}-py3-none-any.whl'
    with zipfile.ZipFile(path, 'w') as wheel:
        for name, data in contents.items():
            entry = zipfile.ZipInfo(name)  # dated 1980, whenever it is built
            entry.external_attr = 0o644 << 16
            wheel.writestr(entry, data)  # not compressed: compressors differ
    return path


def metadata(files: dict[str, bytes]) -> str:
    """The sdist's PKG-INFO with the new version and the requirements, its description left as it is."""
    requirements = files['requirements.txt'].decode().split()
    lines = ''.join(f'Requires-Dist: {REPLACED.get(each, each)}\n' for each in requirements)
    text = files['PKG-INFO'].decode()
    return text.replace('\nVersion: 1.4.2\n', f'\nVersion: {VERSION}\n{lines}', 1)


def _digest(data: bytes) -> str:
    return urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip('=')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('sdist', type=Path, help="basicsr-1.4.2.tar.gz, from the package's page at your package index")
    sdist = parser.parse_args().sdist
    print(build(sdist.read_bytes(), Path(__file__).resolve().parents[1] / 'wheels'))
