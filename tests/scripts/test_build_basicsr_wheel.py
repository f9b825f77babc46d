"""The wheel of BasicSR in ``wheels/`` is BasicSR 1.4.2, and pip takes it for BasicSR 1.4.2."""

import hashlib
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64encode
from importlib import metadata
from pathlib import Path

import build_basicsr_wheel as script
import pytest
from conftest import REPOSITORY

WHEEL = REPOSITORY / 'wheels' / 'basicsr-1.4.2+ne-py3-none-any.whl'
# of the lines 'name SHA-256' of the 98 files in basicsr/ of the sdist whose SHA-256 the script checks, sorted
FILES_OF_THE_SDIST = '880e3bd59395cd8235f86e9c5546abdd59e8e72d56f6e44aba3dd7f163c14e7c'


def digest(files: dict[str, bytes]) -> str:
    lines = sorted(f'{name} {hashlib.sha256(data).hexdigest()}' for name, data in files.items())
    return hashlib.sha256('\n'.join(lines).encode()).hexdigest()


@pytest.fixture(scope='module')
def contents() -> dict[str, bytes]:
    with zipfile.ZipFile(WHEEL) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


def test_every_file_of_the_package_is_that_of_the_sdist(contents):
    package = {name: data for name, data in contents.items() if name.startswith('basicsr/')}
    assert digest(package) == FILES_OF_THE_SDIST
    assert digest(package | {'basicsr/train.py': package['basicsr/train.py'] + b' '}) != FILES_OF_THE_SDIST
    others = {name.split('/')[1] for name in contents.keys() - package.keys()}
    assert others == {'LICENSE.txt', 'METADATA', 'WHEEL', 'RECORD', 'top_level.txt'}


def test_it_is_the_basicsr_that_these_tests_run_on(contents):
    installed = Path(str(metadata.distribution('basicsr').locate_file('basicsr')))
    for name, data in contents.items():
        if name.startswith('basicsr/') and name != 'basicsr/version.py':  # which BasicSR's setup.py dates anew
            assert (installed.parent / name).read_bytes() == data, name


def test_the_record_names_every_file_with_its_hash(contents):
    record = contents['basicsr-1.4.2+ne.dist-info/RECORD'].decode().splitlines()
    listed = {name: hashed for name, hashed, _ in (line.split(',') for line in record)}
    assert listed.keys() == contents.keys()
    for name, hashed in listed.items():
        if hashed:
            found = urlsafe_b64encode(hashlib.sha256(contents[name]).digest()).decode().rstrip('=')
            assert hashed == f'sha256={found}', name


def test_of_the_metadata_three_lines_differ():
    files = {
        'PKG-INFO': b'Name: basicsr\nVersion: 1.4.2\nSummary: S\n\nVersion: 1.4.2\n',
        'requirements.txt': b'addict\nopencv-python\ntb-nightly\n',
    }
    assert script.metadata(files) == (
        'Name: basicsr\nVersion: 1.4.2+ne\nRequires-Dist: addict\nRequires-Dist: opencv-python-headless\n'
        'Requires-Dist: tensorboard\nSummary: S\n\nVersion: 1.4.2\n'
    )


def test_the_wheel_asks_for_no_package_that_is_hard_to_get(contents):
    text = contents['basicsr-1.4.2+ne.dist-info/METADATA'].decode()
    asked = {line.split()[1] for line in text.splitlines() if line.startswith('Requires-Dist: ')}
    assert {'tensorboard', 'opencv-python-headless', 'torch>=1.7', 'torchvision', 'lmdb'} <= asked
    assert not {'tb-nightly', 'opencv-python'} & asked


def test_another_sdist_is_refused(tmp_path):
    with pytest.raises(ValueError, match=script.SHA256):
        script.build(b'another file', tmp_path)
    assert not list(tmp_path.iterdir())
    assert script.SHA256 in (REPOSITORY / 'wheels' / 'README.md').read_text()


def test_pip_takes_the_wheel_for_basicsr_1_4_2(tmp_path):
    pytest.importorskip('pip')
    command = [sys.executable, '-m', 'pip', 'download', '--no-index', '--no-deps', '-q', '-f', 'wheels', '-d', tmp_path]
    subprocess.run([*command, 'basicsr==1.4.2'], cwd=REPOSITORY, check=True, capture_output=True)
    (taken,) = tmp_path.iterdir()
    assert taken.read_bytes() == WHEEL.read_bytes()
