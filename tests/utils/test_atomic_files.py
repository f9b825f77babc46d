"""Files that are complete or absent."""

import pytest

from ne_basicsr.utils import atomic_files


@pytest.mark.parametrize('name', ['a.png', '\u5199' * 80 + '.png', 'x' * 251 + '.png', 'a\udcff' * 60 + '.png'])
def test_every_name_that_the_system_takes_is_written(name, tmp_path):
    path = tmp_path / 'folder' / name
    try:
        path.parent.mkdir()
        path.touch()
    except (OSError, UnicodeError):  # a system of other names
        pytest.skip('no such names here')
    atomic_files.write(path, lambda file: file.write(b'content'))
    assert path.read_bytes() == b'content'
    assert list(path.parent.iterdir()) == [path]
