import torch
from torch.utils.data import DataLoader, Dataset

from ne_basicsr.data.batch import Batch, as_float


class Whole(Dataset):
    def __len__(self):
        return 8

    def __getitems__(self, keys):
        return [Batch(gt=torch.tensor(keys, dtype=torch.uint8)[:, None, None, None], names=[f'{key}' for key in keys])]


def test_a_loader_hands_batches_on_as_they_are():
    for workers in (0, 1):
        first, second = DataLoader(Whole(), batch_size=4, num_workers=workers)
        assert first['gt'].shape == (4, 1, 1, 1)
        assert second['names'] == ['4', '5', '6', '7']


def test_8_bit_images_become_float_and_the_rest_stays():
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    batch = {'gt': every, 'lq': every.float(), 'mask': every, 'number': torch.tensor([3]), 'gt_path': ['a']}
    ready = as_float(batch, 'cpu')
    assert torch.equal(ready['gt'].flatten(), torch.arange(256, dtype=torch.float32) / 255)
    assert all(ready[key] is batch[key] for key in ('lq', 'mask', 'number', 'gt_path'))
    assert batch['gt'] is every
