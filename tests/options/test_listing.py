"""The option reference names everything that can be set."""

import pytest

from ne_basicsr.cli.main import main
from ne_basicsr.options import listing
from ne_basicsr.options.sections import sections_of
from ne_basicsr.utils.errors import InputError


@pytest.fixture(scope='module')
def found() -> list[listing.Listed]:
    return listing.entries()


def test_every_key_of_every_section_is_listed(found: list[listing.Listed]) -> None:
    text, page = listing.as_text(found), listing.as_markdown(found)
    described = [entry for entry in found if entry.group == 'Sections']
    assert len(described) > 10
    for entry in described:
        for key, rule in entry.section['properties'].items():
            if key != 'type':
                assert f'\n    {key}: ' in text, key
                assert f'| `{key}` |' in page, key
                assert rule['description'][:40] in text, key
    for name in (*sections_of('losses'), *sections_of('schedulers'), *sections_of('metrics'), 'SwinIR', 'AdamW'):
        assert f'\n{name}\n' in text
        assert f'### `{name}`' in page


def test_types_defaults_and_descriptions_are_told(found: list[listing.Listed]) -> None:
    text = listing.as_text(listing.chosen(found, ['train', 'DnCNN']))
    assert '    total_iter: integer >= 1 <= 1e+09, required\n        Training iterations.' in text
    assert '    num_feat: integer, default 64\n        channels of the hidden layers.' in text
    assert '    ema_decay: number >= 0 < 1, default 0\n' in text
    assert 'SwinIR' not in text


def test_a_wrapped_network_is_its_network_and_the_wrapper(found: list[listing.Listed]) -> None:
    assert [entry.name for entry in listing.chosen(found, ['SwinIRWNE'])] == ['SwinIR', 'WNE']


def test_groups_have_names_and_unknown_names_the_nearest(found: list[listing.Listed]) -> None:
    names = [entry.name for entry in listing.chosen(found, ['val:metrics'])]
    assert names == [entry.name for entry in listing.chosen(found, ['metrics'])]
    assert 'calculate_psnr_float' in names
    with pytest.raises(InputError, match="did you mean 'AdamW'"):
        listing.chosen(found, ['AdamWW'])


def test_markdown_tables_have_four_cells_in_every_row(found: list[listing.Listed]) -> None:
    rows = [line for line in listing.as_markdown(found).splitlines() if line.startswith('|')]
    assert len(rows) > 400
    for row in rows:
        assert row.replace('\\|', '').count('|') == 5, row


def test_the_command_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['options', '--list', 'logger']) == 0
    assert capsys.readouterr().out.startswith('== Sections ==\n\nlogger\n')
    assert main(['options', '--markdown', '--list', 'logger']) == 0
    assert '| `print_freq` | integer >= 1 | `100` |' in capsys.readouterr().out
