"""Without a library one line says what to install."""

import sys

import pytest

from ne_basicsr.utils.errors import InputError, last_line
from ne_basicsr.utils.optional import require


@pytest.mark.parametrize('name', ['spandrel', 'deepinv', 'deepinv.models'])
def test_a_missing_library_is_one_line_with_its_extra(name, monkeypatch):
    library = name.partition('.')[0]
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError) as error:
        require(name)
    assert f"pip install 'ne-basicsr[{library}]'" in str(error.value)
    assert last_line(error.value) == str(error.value)


def test_a_library_that_is_there_is_imported():
    assert require('json').loads('1') == 1
