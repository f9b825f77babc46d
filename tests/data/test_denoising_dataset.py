import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataloader, build_dataset

from ne_basicsr.data.sample_stream import SampleStream
from ne_basicsr.errors import InputError


def train_set(folder, **options):
    defaults = {'name': 't', 'type': 'DenoisingDataset', 'phase': 'train', 'dataroot_gt': str(folder), 'gt_size': 16}
    return build_dataset(defaults | options)


def test_training_items_are_crops_of_their_image(image_folder):
    dataset = train_set(image_folder, geometric_augs=False)
    whole = build_dataset({'name': 'v', 'type': 'DenoisingDataset', 'phase': 'val', 'dataroot_gt': str(image_folder)})
    for index in range(6):
        item, image = dataset[index, 100 + index], whole[index]['gt'][0].numpy()
        assert item['gt'].shape == (1, 16, 16)
        assert item['gt'].dtype == torch.float32
        windows = np.lib.stride_tricks.sliding_window_view(image, (16, 16))
        assert (windows == item['gt'][0].numpy()).all((2, 3)).any()
        assert item['gt_path'] == f'photo_{index}'


def test_a_sample_depends_on_seed_and_number_alone(image_folder):
    dataset = train_set(image_folder)
    assert torch.equal(dataset[2, 7]['gt'], train_set(image_folder)[2, 7]['gt'])
    assert not torch.equal(dataset[2, 7]['gt'], dataset[2, 8]['gt'])
    assert not torch.equal(dataset[2, 7]['gt'], train_set(image_folder, seed=1)[2, 7]['gt'])


def test_augmentation_gives_each_of_the_eight_symmetries(tmp_path):
    cv2.imwrite(str(tmp_path / 'corner.png'), np.arange(16, dtype=np.uint8).reshape(4, 4) * 16)
    dataset = train_set(tmp_path, gt_size=4)
    variants = [dataset[0, number]['gt'] for number in range(200)]
    assert len({tuple(v.flatten().tolist()) for v in variants}) == 8
    plain = train_set(tmp_path, gt_size=4, geometric_augs=False)
    assert len({tuple(plain[0, n]['gt'].flatten().tolist()) for n in range(20)}) == 1


@pytest.mark.parametrize('shape', [(10, 40), (40, 10), (3, 5), (1, 1)])
def test_small_images_are_mirrored_up_or_refused_with_their_name(tmp_path, shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    cv2.imwrite(str(tmp_path / 'small.png'), image)
    crop = train_set(tmp_path)[0, 0]['gt']
    assert crop.shape == (1, 16, 16)
    assert set((crop * 255).round().int().flatten().tolist()) <= set(image.flatten().tolist())
    with pytest.raises(InputError, match=rf'small: {shape[0]}x{shape[1]} is smaller than gt_size 16; remove it'):
        train_set(tmp_path, small_images='refuse')[0, 0]


def test_colour_and_gray_are_chosen_by_in_ch(tmp_path):
    cv2.imwrite(str(tmp_path / 'c.png'), np.full((20, 20, 3), (255, 128, 0), np.uint8))
    red, green, blue = train_set(tmp_path, in_ch=3)[0, 0]['gt'][:, 0, 0].tolist()
    assert (red, green, blue) == (0, pytest.approx(128 / 255), 1)
    assert train_set(tmp_path)[0, 0]['gt'].shape == (1, 16, 16)


def loader(dataset, stream, workers=0, batch=4):
    options = {'phase': 'train', 'batch_size_per_gpu': batch, 'num_worker_per_gpu': workers}
    return iter(build_dataloader(dataset, options, num_gpu=0, sampler=stream, seed=0))


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def test_the_stream_is_the_same_whatever_the_workers(image_folder):
    dataset = train_set(image_folder)
    alone, two = (take(loader(dataset, SampleStream(dataset), workers), 6) for workers in (0, 2))
    for a, b in zip(alone, two, strict=True):
        assert torch.equal(a['number'], b['number'])
        assert torch.equal(a['gt'], b['gt'])


def test_the_stream_goes_on_where_it_is_told_to(image_folder):
    dataset = train_set(image_folder)
    straight = take(loader(dataset, SampleStream(dataset)), 9)
    resumed = take(loader(dataset, SampleStream(dataset, start=5 * 4)), 4)
    for a, b in zip(straight[5:], resumed, strict=True):
        assert torch.equal(a['gt'], b['gt'])


def test_ranks_share_what_one_process_would_see(image_folder):
    dataset = train_set(image_folder)
    alone = take(loader(dataset, SampleStream(dataset), batch=4), 5)
    ranks = [take(loader(dataset, SampleStream(dataset, rank=r, world_size=2), batch=2), 5) for r in range(2)]
    for step in range(5):
        shared = torch.cat([ranks[r][step]['number'] for r in range(2)])
        assert sorted(shared.tolist()) == sorted(alone[step]['number'].tolist())


def test_an_epoch_sees_every_image_as_often_and_epochs_differ(image_folder):
    dataset = train_set(image_folder)
    indices = [index for (index, _), _ in zip(SampleStream(dataset, ratio=2), range(24), strict=False)]
    assert all(sorted(indices[s : s + 12]) == sorted([*range(6)] * 2) for s in (0, 12))
    assert indices[:12] != indices[12:]


def test_crops_do_not_repeat_from_epoch_to_epoch(image_folder):
    dataset = train_set(image_folder, geometric_augs=False)
    first, second = ([dataset[0, number]['gt'] for number in range(s, s + 5)] for s in (0, 6))
    assert not any(torch.equal(a, b) for a in first for b in second)


def test_a_broken_file_is_named_even_from_a_worker(image_folder):
    (image_folder / 'photo_4.png').write_bytes(b'')
    dataset = train_set(image_folder)
    with pytest.raises(InputError, match=r'photo_4: not a readable image \(0 bytes\)'):
        take(loader(dataset, SampleStream(dataset), workers=1), 3)
