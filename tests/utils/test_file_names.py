"""Names of files: safe, and no two alike."""

from ne_basicsr.utils.file_names import file_name, file_names


def test_file_names_are_safe():
    assert file_name('a b/c:d') == 'a-b/c-d'
    assert file_name('../../x') == 'x'
    assert file_name('..') == '-'


def test_names_that_are_alike_are_numbered():
    assert file_names(['photo (1)', 'photo [1]', 'other', 'PHOTO (1)']) == [
        'photo-1-', 'photo-1--2', 'other', 'PHOTO-1--3',
    ]  # fmt: skip
    assert file_names(['a-2', 'a', 'A', 'a b', 'a-b']) == ['a-2', 'a', 'A-3', 'a-b', 'a-b-2']  # a number may be taken
    assert file_names([]) == []
