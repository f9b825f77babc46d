"""What the parsers of all commands share."""

import pytest

from ne_basicsr.cli.main import _parser, main


@pytest.mark.parametrize(
    ('command', 'files'),
    [
        ('denoise net.pth --wne photo.png', {'paths': ['net.pth', 'photo.png'], 'wne': True}),
        ('denoise --wne -- -a.png', {'paths': ['-a.png']}),
        ('mismatch a.pth --data x --seed 1 b.pth', {'networks': ['a.pth', 'b.pth'], 'seed': 1}),
        ('analyze a.pth --data x --seed 1 b.pth', {'networks': ['a.pth', 'b.pth']}),
        ('analyze --data x', {'networks': []}),
        ('bench A --steps 3 B', {'networks': ['A', 'B']}),
        ('options x.yml --markdown', {'file': 'x.yml'}),
    ],
)
def test_options_stand_between_file_names(command, files):
    assert files.items() <= vars(_parser().parse_args(command.split())).items()


@pytest.mark.parametrize(
    ('command', 'parts'),
    [
        ('denose x', ('usage: basicsr [-h]', "got 'denose'; did you mean 'denoise'?")),
        ('denoise x.png --fromat png', ('usage: basicsr denoise', "--fromat png; did you mean '--format'?")),
        ('denoise x.png --format jpge', ('usage: basicsr denoise', '--format: one of png, ', "did you mean 'jpeg'?")),
        ('train -opt x.yml y.yml', ('usage: basicsr train', 'unrecognized arguments: y.yml')),
        ('analyze', ('usage: basicsr analyze', 'required: --data')),
    ],
)
def test_usage_errors_show_the_subcommand_and_the_nearest_name(command, parts, capsys):
    with pytest.raises(SystemExit, match='2'):
        main(command.split())
    text = capsys.readouterr().err
    assert all(part in text for part in parts), text


@pytest.mark.parametrize(
    ('command', 'message'),
    [
        ('denoise grey photo.png', "photo.png: no such file or folder; did you mean 'phot.png'?"),
        ('denoise grey phot.png', "grey: no such checkpoint file; did you mean 'gray'?"),
        ('check gary', "did you mean 'gray'?"),
        ('check foldr/net.pth', "did you mean 'folder'?"),
        ('mismatch gray --data foldr', "foldr: no such folder of images, and no LMDB; did you mean 'folder'?"),
        ('mismatch gray gray --data folder', "two networks have the label 'gray'"),
        ('train -opt swinr_wne', "swinr_wne: no such option file; did you mean 'swinir_wne'?"),
        ('check gray+wne', 'gray: the file already holds a wrapped network (DRUNetWNE): leave out +wne or --wne'),
        ('prepare folder -o x.zip', 'must end in .lmdb, that of a raw store in .raw'),
    ],
)
def test_misspelt_names_are_answered_in_the_words_of_the_command_line(command, message, workplace, capsys):
    (workplace / 'folder').mkdir()
    (workplace / 'phot.png').touch()
    assert main(command.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_usual_suffixes_are_formats():
    assert [_parser().parse_args(['denoise', 'x', '--format', name]).format for name in ('jpg', 'TIF')] == [
        'jpeg',
        'tiff',
    ]
