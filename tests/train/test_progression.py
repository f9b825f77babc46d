"""Progressive patch sizes: which phase an iteration belongs to, and what is left of a batch."""

import pytest
import torch
import yaml
from test_pipeline import assert_equal_weights, option_file, weights

from ne_basicsr.cli.main import main
from ne_basicsr.models.denoising_model import DenoisingModel
from ne_basicsr.train.progression import Progression, training_batch, windows

RESTORMER = Progression((92000, 64000, 48000, 36000, 36000, 24000), (128, 160, 192, 256, 320, 384), (8, 5, 4, 2, 1, 1))


@pytest.mark.parametrize(
    ('iteration', 'phase'),
    [(1, 0), (92000, 0), (92001, 1), (156000, 1), (156001, 2), (276000, 4), (276001, 5), (300000, 5), (400000, 5)],
)
def test_the_last_iteration_of_a_phase_belongs_to_it(iteration, phase):
    assert RESTORMER.phase(iteration) == phase


def test_windows_are_where_they_are_asked_for():
    images = torch.arange(2 * 3 * 7 * 8).view(2, 3, 7, 8)
    cut = windows(images, [(0, 3), (2, 1)], 5)
    assert torch.equal(cut[0], images[0, :, :5, 3:8])
    assert torch.equal(cut[1], images[1, :, 2:7, 1:6])
    assert windows(images[..., :7], [(0, 0), (0, 0)], 7).shape == (2, 3, 7, 7)


def test_a_batch_loses_its_last_images_and_pairs_keep_one_place():
    gt = torch.rand(4, 1, 12, 12)
    batch = {'gt': gt, 'lq': 1 - gt, 'number': torch.arange(40, 44), 'gt_path': ['a', 'b', 'c', 'd']}
    progression = Progression((2, 2), (5, 12), (3, 1))
    first = progression.cut(batch, 1, seed=0)
    assert first['gt'].shape == (3, 1, 5, 5)
    assert first['number'].tolist() == [40, 41, 42]
    assert torch.equal(first['lq'], 1 - first['gt'])
    alone = progression.cut({key: value[1:] for key, value in batch.items()}, 2, seed=0)
    assert torch.equal(alone['gt'][0], first['gt'][1])  # a place depends on seed and number alone
    assert not torch.equal(progression.cut(batch, 1, seed=1)['gt'], first['gt'])
    last = progression.cut(batch, 3, seed=0)
    assert torch.equal(last['gt'], gt[:1])
    noisy = progression.cut({key: batch[key] for key in ('lq', 'number')}, 1, seed=0)  # images alone
    assert torch.equal(noisy['lq'], first['lq'])


def test_places_cover_the_crop():
    numbers = torch.arange(500)
    ramp = torch.arange(64).view(1, 1, 8, 8).expand(500, -1, -1, -1)
    corners = Progression((1,), (6,), (500,)).cut({'gt': ramp, 'number': numbers}, 1, seed=0)['gt'][:, 0, 0, 0]
    assert set(corners.tolist()) == {8 * row + column for row in range(3) for column in range(3)}


def test_the_iteration_follows_from_the_number_of_the_sample():
    train = {'batch_size_per_gpu': 4, 'iters': [3, 1], 'gt_sizes': [2, 4], 'mini_batch_sizes': [2, 1]}
    opt = {'datasets': {'train': train}, 'train': {}, 'dist': False, 'world_size': 1, 'num_gpu': 0, 'manual_seed': 0}
    progression = Progression.from_options(train)
    for changes, per_step in (({}, 4), ({'dist': True, 'world_size': 3}, 12), ({'train': {'accumulate': 2}}, 8)):
        sides = []
        for first in (0, 3 * per_step - 4, 3 * per_step, 99 * per_step):
            batch = {'gt': torch.zeros(4, 1, 4, 4), 'number': torch.arange(first, first + 4)}
            sides.append(training_batch(batch, opt | changes, 'cpu', progression)['gt'].shape[-1])
        assert sides == [2, 2, 4, 4]


def test_a_progressive_run_resumes_exactly(workplace, image_folder, monkeypatch):
    seen = []
    feed_data = DenoisingModel.feed_data

    def note(self, data):
        feed_data(self, data)
        seen.append(tuple(self.lq.shape[::3]))

    monkeypatch.setattr(DenoisingModel, 'feed_data', note)
    changes = {'train:total_iter': 6, 'logger:save_checkpoint_freq': 1, 'logger:use_tb_logger': False}
    file = option_file(workplace, image_folder, **changes, **{'val': {'val_freq': 100}, 'datasets:val:sigma_test': 25})
    options = yaml.safe_load(file.read_text())
    phases = {'iters': [2, 3, 1], 'gt_sizes': [8, 12, 16], 'mini_batch_sizes': [4, 2, 1]}
    options['datasets']['train'] |= phases
    file.write_text(yaml.safe_dump(options))
    assert main(['train', '-opt', str(file)]) == 0
    assert seen == [(4, 8)] * 2 + [(2, 12)] * 3 + [(1, 16)]
    name = 'name=stopped'  # within the second phase
    assert main(['train', '-opt', str(file), '--force_yml', name, 'train:total_iter=4']) == 0
    assert main(['train', '-opt', str(file), '--auto_resume', '--force_yml', name]) == 0
    assert seen[6:] == seen[:6]
    assert_equal_weights(*(weights(workplace / 'experiments' / run, 6) for run in ('run', 'stopped')))
