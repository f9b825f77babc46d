"""``--device``: what is chosen and refused. No Apple GPU takes part: ``mps`` is tested up to tensors on it."""

from types import SimpleNamespace

import pytest
import torch

from ne_basicsr.cli.command import chosen_device
from ne_basicsr.cli.main import main
from ne_basicsr.ops.padding import in_float64
from ne_basicsr.utils.errors import InputError


@pytest.mark.parametrize(
    ('cuda', 'mps', 'asked', 'chosen'),
    [
        (False, True, 'mps', 'mps'),
        (False, True, 'auto', 'cpu'),  # mps computes in float32 at most, so it is not chosen for anyone
        (True, True, 'auto', 'cuda'),
        (True, True, 'mps', 'mps'),
        (True, True, 'cpu', 'cpu'),
    ],
)
def test_the_device_asked_for_is_taken_where_it_is_there(cuda, mps, asked, chosen, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: mps)
    assert chosen_device(SimpleNamespace(device=asked)) == chosen


@pytest.mark.parametrize(
    ('asked', 'message'),
    [
        ('mps', '--device mps: no Apple GPU that this torch can use is available; use cpu or auto'),
        ('cuda', '--device cuda: no CUDA device is available; use cpu or auto'),
        ('tpu', "--device must be one of cpu, cuda, mps, auto; got 'tpu'"),
    ],
)
def test_a_device_that_is_not_there_is_refused(asked, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: False)
    with pytest.raises(InputError) as error:
        chosen_device(SimpleNamespace(device=asked))
    assert str(error.value) == message


def test_analyze_which_computes_in_float64_refuses_mps(monkeypatch, capsys, tmp_path, image_folder):
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: True)
    arguments = ['analyze', '--data', str(image_folder), '-o', str(tmp_path / 'out'), '--device', 'mps']
    assert main(arguments) == 2
    assert '--device mps: analyze computes in float64, which mps does not have; use cpu' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_sums_in_float64_leave_a_device_without_it_first():
    on_mps = SimpleNamespace(device=torch.device('mps'), cpu=lambda: torch.ones(2))  # has no double()
    assert in_float64(on_mps).dtype == torch.float64
    assert in_float64(torch.ones(2)).dtype == torch.float64
