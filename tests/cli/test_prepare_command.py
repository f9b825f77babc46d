import cv2
import pytest

from ne_basicsr.cli.main import main
from ne_basicsr.data.image_store import LmdbStore, RawStore


def test_a_folder_becomes_an_lmdb_or_a_raw_store(image_folder, tmp_path, capsys):
    assert main(['prepare', str(image_folder), '-o', str(tmp_path / 'x.lmdb'), '--workers', '1']) == 0
    assert capsys.readouterr().out == f'{tmp_path}/x.lmdb: 6 images\n'
    assert len(LmdbStore(tmp_path / 'x.lmdb').names) == 6
    assert main(['prepare', str(image_folder), '-o', str(tmp_path / 'x.raw'), '--crop', '32']) == 0
    assert capsys.readouterr().out == f'{tmp_path}/x.raw: 6 images in 24 sub-images\n'
    assert len(RawStore(tmp_path / 'x.raw').names) == 24


def test_broken_files_give_a_list_and_exit_code_1(image_folder, tmp_path, capsys):
    (image_folder / 'photo_2.png').write_bytes(b'')
    assert main(['prepare', str(image_folder), '-o', str(tmp_path / 'x.lmdb')]) == 1
    out, err = capsys.readouterr()
    assert '5 images' in out
    assert '1 could not be used' in err
    assert 'photo_2.png: not a readable image (0 bytes)' in err
    cv2.imwrite(str(image_folder / 'photo_2.png'), cv2.imread(str(image_folder / 'photo_1.png'), 0))
    assert main(['prepare', str(image_folder), '-o', str(tmp_path / 'x.lmdb'), '--resume']) == 0
    assert '6 images, 5 of them before' in capsys.readouterr().out


def test_sidd_is_cropped_to_pairs(tmp_path, capsys):
    import numpy as np

    for kind in ('GT', 'NOISY'):
        (tmp_path / 'Data').mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / 'Data' / f'1_{kind}_SRGB_010.PNG'), np.zeros((520, 600, 3), np.uint8))
    assert main(['prepare', '--sidd', str(tmp_path / 'Data'), '-o', str(tmp_path / 'SIDD')]) == 0
    assert '1 pairs in 4 sub-images' in capsys.readouterr().out
    assert LmdbStore(tmp_path / 'SIDD' / 'gt.lmdb').names == LmdbStore(tmp_path / 'SIDD' / 'lq.lmdb').names


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nowhere', '-o', 'x.lmdb'], 'nowhere: no such folder'),
        (['.', '-o', 'x.lmdb'], 'no images found'),
        (['.'], 'the folder to write is needed: -o X.lmdb or -o X.raw'),
        (['.', '-o', 'x.lmdb', '--workers', '0'], '--workers must be at least 1; got 0'),
        (
            ['.', '-o', 'x', '--format', 'png'],
            'an LMDB must end in .lmdb, that of a raw store in .raw',
        ),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_code_2(workplace, capsys, arguments, message):
    assert main(['prepare', *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('basicsr: ')
    assert message in line
    assert not any(workplace.iterdir())
