"""The table of zero-shot: each network beside the specialist of the level, and its distance."""

from zero_shot_tables import tables  # of scripts/, see conftest.py


def test_the_distance_is_that_to_the_specialist_of_the_level():
    cells = [(25, 'specialist', 25, 30), (25, '1 pass', 50, 29.75), (5, '1 pass', 50, 37)]
    rows = [
        {'sigma255': f'{level}', 'method': method, 'trained255': f'{trained}', 'psnr_db': f'{psnr}'}
        for level, method, trained, psnr in cells
    ]
    psnr, distances = (table.splitlines() for table in tables(rows).split('\n\n'))
    assert psnr[0] == distances[0] == '| network | 5 | 25 |'
    assert psnr[2:] == ['| the network of that level |  | 30.00 |', '| trained at 50, 1 pass | 37.00 | 29.75 |']
    assert distances[2:] == ['| trained at 50, 1 pass |  | -0.25 |']
