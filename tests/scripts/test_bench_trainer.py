"""The benchmark of the trainer: it runs both, and they train alike."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import bench_trainer as trainer
import forked
import pytest
from bench_trainer import FIRST, VARIANTS, Work

from ne_basicsr.utils.errors import InputError

TINY = {'DnCNN': {'type': 'DnCNN', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 4, 'num_layers': 3}}
WORK = Work(batch=4, patch=16, warmup=2, steps=8, images=4, size=48)


@pytest.fixture(autouse=True)
def _forked(monkeypatch):
    """Runs are forked from a server that has imported the package, instead of started anew."""

    def run(command, cwd, env, **_):
        code = 'import sys\nsys.path.insert(0, sys.argv[1])\nimport bench_trainer\nbench_trainer.run_here(sys.argv[2])'
        return forked.run([sys.executable, '-c', code, Path(trainer.__file__).parent, command[-1]], cwd=cwd, env=env)

    monkeypatch.setattr(trainer, 'subprocess', SimpleNamespace(run=run))


def test_both_trainers_run_and_train_alike(monkeypatch):
    monkeypatch.setattr(trainer, 'VARIANTS', {name: VARIANTS[name] for name in (FIRST, 'DenoisingModel')})
    report = trainer.measure_trainers(WORK, rounds=1, networks=TINY, threads=1)
    both = report['networks']['DnCNN']
    assert set(both) == {FIRST, 'DenoisingModel'}
    losses = {name: own['losses'][0][0] for name, own in both.items()}
    assert losses['DenoisingModel'] == pytest.approx(losses[FIRST], rel=0.5)
    assert all(own['rates'][0] > 0 for own in both.values())
    table = trainer.trainer_table(report)
    assert 'DnCNN ' in table
    assert f'{FIRST:<24}' in table
    assert json.loads(trainer.as_json(report)) == json.loads(json.dumps(report))


def test_a_run_that_fails_is_named(monkeypatch):
    monkeypatch.setattr(trainer, 'VARIANTS', {'DenoisingModel': {}})
    with pytest.raises(InputError, match=r'DnCNN, DenoisingModel: .*num_feet'):
        trainer.measure_trainers(WORK, rounds=1, networks={'DnCNN': {'type': 'DnCNN', 'num_feet': 4}})


@pytest.mark.parametrize(
    ('given', 'said'),
    [
        (['--input', '8x1x48x48'], 'colour patches'),
        (['--input', '8x3x44x44'], 'a multiple of 8'),
        (['--steps', '1'], '--steps of 2 or more'),
    ],
)
def test_wrong_requests_are_one_line(capsys, given, said):
    with pytest.raises(SystemExit):
        trainer.main(given)
    assert said in capsys.readouterr().err
