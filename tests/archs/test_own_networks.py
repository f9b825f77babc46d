"""Networks of the user's own are imported where the user says so, and nowhere else."""

import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY
from test_pipeline import option_file

import ne_basicsr
from ne_basicsr.archs import own_networks
from ne_basicsr.archs.backbone import build_arch
from ne_basicsr.archs.own_networks import import_installed, import_own
from ne_basicsr.cli.main import main
from ne_basicsr.options import load_options, read_yaml
from ne_basicsr.utils.errors import InputError
from ne_basicsr.weights import checkpoint

NETWORK = """
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

@ARCH_REGISTRY.register()
class OwnNet(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.body = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x):
        return self.body(x)
"""


def forget() -> None:
    """As in a new process."""
    for name in ('OwnNet', 'OwnNetWNE'):
        ARCH_REGISTRY._obj_map.pop(name, None)
    for name in ('own_nets', 'plug'):
        sys.modules.pop(name, None)


@pytest.fixture(autouse=True)
def nets(workplace, monkeypatch):
    monkeypatch.setattr(own_networks, '_ORIGINS', {})
    monkeypatch.setattr(sys, 'path', [*sys.path])
    Path('code').mkdir()
    Path('code/own_nets.py').write_text(NETWORK)
    yield 'code/own_nets.py'
    forget()


def save(kind: str = 'OwnNetWNE') -> None:
    options = {'type': kind}
    checkpoint.save_network(Path('net.pth'), {'params': build_arch(options)}, {'network_g': options})


def refusal(function, *arguments, **options) -> str:
    with pytest.raises(InputError) as error:
        function(*arguments, **options)
    (line,) = str(error.value).splitlines()
    return line


def test_a_file_registers_its_networks_and_their_twins_once(nets):
    import_own(nets)
    arch = ARCH_REGISTRY.get('OwnNet')
    import_own([Path(nets), f'./{nets}'])
    assert ARCH_REGISTRY.get('OwnNet') is arch and 'OwnNetWNE' in ARCH_REGISTRY


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('code/own_net.py', None, "code/own_net.py: no such file; did you mean 'code/own_nets.py'?"),
        ('code/', None, 'code: is a folder; name a .py file in it'),
        ('own_nets', None, 'own_nets: no such module; a file ends in .py'),
        ('plug', None, "plug: no such module; did you mean 'plug.py'?"),
        ('./plug.txt', '', 'plug.txt: a name such as my_networks.py is needed; rename the file'),
        ('torch.py', NETWORK, 'torch.py: there is another module torch'),
        ('plug.py', 'x = 1', 'plug.py: it registers nothing; decorate a class with @ARCH_REGISTRY.register()'),
        ('plug.py', 'x = 1\n\nraise OSError("no\\nway")', 'plug.py: line 3: OSError: no'),
        ('plug.py', 'import sys\nsys.exit(3)', 'plug.py: line 2: SystemExit: 3'),
        ('plug.py', 'import no_such_thing', 'plug.py: line 1: ModuleNotFoundError: No module named'),
        ('plug.py', 'x = (', 'plug.py: SyntaxError'),
        ('plug.py', f'{NETWORK}\nOwnNet.__name__ = "DnCNN"\nARCH_REGISTRY.register(OwnNet)', 'give it another name'),
        (5, None, 'import: a .py file, a module or a list of them is needed; got 5'),
    ],
)
def test_what_cannot_be_imported_is_one_line_and_registers_nothing(name, text, message):
    if name == 'plug':
        Path('plug.py').touch()
    elif text is not None:
        Path(name).write_text(text)
    assert refusal(import_own, name).startswith(message) or message.startswith('give')
    assert message in refusal(import_own, name)
    assert 'OwnNet' not in ARCH_REGISTRY


def test_a_checkpoint_names_what_to_import_and_imports_nothing(nets, capsys):
    import_own(nets)
    save()
    assert checkpoint.read('net.pth')[checkpoint.METADATA]['import'] == ['own_nets.py']
    forget()
    sys.path.insert(0, 'code')  # so that it could be found
    line = refusal(ne_basicsr.load, 'net.pth')
    assert 'net.pth: its network OwnNetWNE is registered by own_nets.py: add --import own_nets.py' in line
    assert 'own_nets' not in sys.modules
    assert main(['check', 'net.pth', '--dtype', 'float64']) == 2
    capsys.readouterr()
    assert main(['check', 'net.pth', '--dtype', 'float64', '--import', nets]) == 0
    assert 'PASS' in capsys.readouterr().out
    forget()
    assert ne_basicsr.load('net.pth', imports=nets)(torch.rand(1, 1, 8, 8)).shape == (1, 1, 8, 8)


def test_a_checkpoint_of_networks_of_this_package_records_no_import():
    save('DnCNN')
    assert 'import' not in checkpoint.read('net.pth')[checkpoint.METADATA]


def test_what_a_checkpoint_records_is_shown_whatever_it_is(nets):
    import_own(nets)
    save()
    content = checkpoint.read('net.pth')
    forget()
    for recorded in (None, 5, 'own_nets.py', [5], {}):
        content[checkpoint.METADATA]['import'] = recorded
        torch.save(content, 'net.pth')
        assert 'no network OwnNetWNE' in refusal(ne_basicsr.load, 'net.pth')


def test_an_option_file_imports_beside_itself_and_its_run_keeps_that(nets, workplace, image_folder):
    changes = {'import': 'own_nets.py', 'network_g': {'type': 'OwnNetWNE'}, 'train:total_iter': 1, 'val': None}
    option_file(Path('code'), image_folder, **changes)
    assert read_yaml('code/run.yml')['import'] == nets
    assert 'OwnNet' not in ARCH_REGISTRY  # reading runs nothing
    assert main(['train', '-opt', 'code/run.yml']) == 0
    kept = workplace / 'experiments/run/options.yml'
    assert 'import: [../../code/own_nets.py]' in kept.read_text()
    forget()
    assert load_options(kept, is_train=True)['network_g']['type'] == 'OwnNetWNE'
    assert 'OwnNet' in ARCH_REGISTRY


def test_a_wrong_import_in_an_option_file_names_its_line(image_folder):
    path = option_file(Path('code'), image_folder, **{'import': ['none.py']})
    line = refusal(load_options, path, is_train=True)
    assert line.startswith('code/run.yml: import: code/none.py: no such file')
    number = path.read_text().splitlines().index('import:') + 1
    assert line.endswith(f'(line {number})')


def test_the_import_of_the_command_line_is_kept_with_the_run(nets, workplace, image_folder):
    changes = {'network_g': {'type': 'OwnNetWNE'}, 'train:total_iter': 1, 'val': None}
    option_file(Path(), image_folder, **changes)
    assert main(['train', '-opt', 'run.yml']) == 2
    assert main(['train', '-opt', 'run.yml', '--import', nets]) == 0
    assert read_yaml('experiments/run/options.yml')['import'] == [nets]


def test_installed_packages_register_networks_by_an_entry_point(monkeypatch, caplog):
    monkeypatch.syspath_prepend('site')
    for name, text in (('plug', NETWORK), ('torn', 'raise ValueError("torn")')):
        info = Path(f'site/{name}-1.0.dist-info')
        info.mkdir(parents=True)
        Path(f'site/{name}.py').write_text(text)
        (info / 'METADATA').write_text(f'Name: {name}\nVersion: 1.0\n')
        (info / 'entry_points.txt').write_text(f'[{own_networks.GROUP}]\n{name} = {name}\n')
    assert {entry.name for entry in metadata.entry_points(group=own_networks.GROUP)} == {'plug', 'torn'}
    import_installed()
    assert 'OwnNetWNE' in ARCH_REGISTRY
    assert 'entry point torn of ne_basicsr.networks: torn: line 1: ValueError: torn' in caplog.text
    save()
    assert checkpoint.read('net.pth')[checkpoint.METADATA]['import'] == ['plug']
