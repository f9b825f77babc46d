import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataloader, build_dataset

from ne_basicsr.data.batch import SampleStream, as_float
from ne_basicsr.data.prepare import Recipe, prepare
from ne_basicsr.utils.errors import InputError


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


def test_every_place_and_symmetry_is_as_likely(tmp_path):
    # each pixel says where it lies, so a crop's first pixel and its neighbour tell place and symmetry
    image = np.arange(20 * 12, dtype=np.uint8).reshape(20, 12)
    cv2.imwrite(str(tmp_path / 'places.png'), image)
    dataset = train_set(tmp_path, gt_size=4)
    (batch,) = dataset.__getitems__([(0, number) for number in range(20_000)])
    crops = batch['gt'][:, 0].numpy().astype(int)
    corners = np.minimum.reduce([crops[:, i, j] for i in (0, -1) for j in (0, -1)])  # the top left one of each crop
    places = np.bincount(corners, minlength=240).reshape(20, 12)
    assert not places[17:].any() and not places[:, 9:].any()
    cells = places[:17, :9].flatten()
    symmetry, steps = (
        np.unique(crops[:, 0, 1] - crops[:, 0, 0], return_inverse=True)[1],
        crops[:, 1, 0] - crops[:, 0, 0],
    )
    eight = np.unique(np.stack([symmetry, steps]), axis=1, return_counts=True)[1]
    assert len(eight) == 8
    for counts in (cells, eight):
        expected = counts.sum() / len(counts)
        chi_square = ((counts - expected) ** 2 / expected).sum()
        assert chi_square < len(counts) - 1 + 4 * np.sqrt(2 * len(counts))  # four deviations


@pytest.mark.parametrize('channels', [1, 3])
def test_a_sample_is_the_same_from_a_folder_an_lmdb_and_a_raw_store(tmp_path, channels):
    (tmp_path / 'images').mkdir()
    rng = np.random.default_rng(0)
    for number, shape in enumerate([(40, 31), (16, 50), (33, 47), (9, 20)]):  # the last one is smaller than a crop
        shape = shape if channels == 1 else (*shape, 3)
        cv2.imwrite(str(tmp_path / 'images' / f'{number}.png'), rng.integers(0, 256, shape, np.uint8))
    roots = {'disk': tmp_path / 'images', 'lmdb': tmp_path / 'png.lmdb', 'raw': tmp_path / 'pixels.raw'}
    prepare([roots['disk']], roots['lmdb'], Recipe('png'))
    prepare([roots['disk']], roots['raw'], Recipe('raw'))
    keys = [(number % 4, number) for number in range(40)]
    batches = [
        train_set(root, in_ch=channels, io_backend={'type': backend}).__getitems__(keys)[0]
        for backend, root in roots.items()
    ]
    assert batches[0]['gt'].dtype == torch.uint8
    assert batches[0]['gt'].shape == (40, channels, 16, 16)
    for batch in batches[1:]:
        assert torch.equal(batch['gt'], batches[0]['gt'])
        assert batch['gt_path'] == batches[0]['gt_path']


def test_a_batch_holds_what_its_samples_are_alone(image_folder):
    dataset = train_set(image_folder)
    keys = [(3, 8), (0, 1), (3, 9), (3, 8)]
    (batch,) = dataset.__getitems__(keys)
    ready = as_float(batch, 'cpu')['gt']
    for i, key in enumerate(keys):
        assert torch.equal(dataset[key]['gt'], ready[i])
    assert torch.equal(ready[0], ready[3])
    assert not torch.equal(ready[0], ready[2])


def test_images_of_more_bits_keep_them_in_training(tmp_path):
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / 'a.png'), rng.integers(0, 256, (16, 16), np.uint8))
    cv2.imwrite(str(tmp_path / 'b.png'), deep := rng.integers(0, 65536, (16, 16)).astype(np.uint16))
    (batch,) = train_set(tmp_path, geometric_augs=False).__getitems__([(0, 0), (1, 1)])
    assert batch['gt'].dtype == torch.float32
    assert torch.equal(batch['gt'][0], train_set(tmp_path, geometric_augs=False)[0, 0]['gt'])
    np.testing.assert_allclose(batch['gt'][1, 0].numpy(), deep / 65535, rtol=1e-6)


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
        assert a['gt'].dtype == torch.uint8 and a['gt'].shape == (4, 1, 16, 16)
        assert a['gt_path'] == b['gt_path']


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
        numbers, crops = (torch.cat([ranks[r][step][key] for r in range(2)]) for key in ('number', 'gt'))
        order = numbers.argsort()
        assert torch.equal(numbers[order], alone[step]['number'])
        assert torch.equal(crops[order], alone[step]['gt'])


def test_crops_do_not_repeat_from_epoch_to_epoch(image_folder):
    dataset = train_set(image_folder)
    epochs = take(loader(dataset, SampleStream(dataset), batch=6), 4)
    for index in range(6):
        crops = [crop for epoch in epochs for crop, name in zip(epoch['gt'], epoch['gt_path'], strict=True)
                 if name == f'photo_{index}']  # fmt: skip
        assert len({tuple(crop.flatten().tolist()) for crop in crops}) == 4


def test_a_broken_file_is_named_even_from_a_worker(image_folder):
    (image_folder / 'photo_4.png').write_bytes(b'')
    dataset = train_set(image_folder)
    with pytest.raises(InputError, match=r'photo_4: not a readable image \(0 bytes\)'):
        take(loader(dataset, SampleStream(dataset), workers=1), 3)


@pytest.mark.parametrize(('dtype', 'white'), [(np.uint16, 4095), (np.uint8, 15), (np.float32, 1000.0)])
def test_images_are_divided_by_their_data_range(tmp_path, dtype, white):
    pixels = (np.random.default_rng(0).random((20, 24)) * white).astype(dtype)
    cv2.imwrite(str(tmp_path / 'scan.tiff'), pixels)
    expected = torch.from_numpy(pixels.astype(np.float32) / np.float32(white))
    ranged, folder = {'data_range': white, 'geometric_augs': False}, str(tmp_path)
    whole = build_dataset({'name': 'v', 'type': 'DenoisingDataset', 'phase': 'val', 'dataroot_gt': folder, **ranged})
    assert torch.equal(whole[0]['gt'][0], expected)
    train = train_set(tmp_path, **ranged)
    batch = train.__getitems__([(0, n) for n in range(3)])[0]
    assert batch['gt'].dtype == torch.float32
    for number in range(3):
        assert torch.equal(as_float(batch, 'cpu')['gt'][number], train[0, number]['gt'])
        windows = np.lib.stride_tricks.sliding_window_view(expected.numpy(), (16, 16))
        assert (windows == batch['gt'][number, 0].numpy()).all((2, 3)).any()
    plain = train_set(tmp_path, geometric_augs=False)
    if dtype is np.float32:
        with pytest.raises(InputError, match=r'/scan: holds .*, but white is 1 in floats; say data_range'):
            plain[0, 0]
    else:
        assert not torch.equal(plain[0, 0]['gt'], train[0, 0]['gt'])  # the negative control


def test_integers_beyond_the_data_range_are_refused_with_their_image(tmp_path):
    cv2.imwrite(str(tmp_path / 'scan.png'), np.full((20, 20), 65520, np.uint16))  # 12 bits, shifted to the top
    with pytest.raises(InputError, match='/scan: holds 65520, more than data_range: 4095, which is for white'):
        train_set(tmp_path, data_range=4095)[0, 0]


def test_noisy_images_come_with_the_level_that_their_target_needs(tmp_path):
    rng = np.random.default_rng(0)
    for number, level in enumerate((2000, 6000)):
        cv2.imwrite(str(tmp_path / f'{number}.png'), (30000 + level * rng.standard_normal((96, 96))).astype(np.uint16))
    options = {'name': 'n', 'type': 'NoisyDataset', 'phase': 'train', 'dataroot_lq': str(tmp_path), 'gt_size': 16}
    (batch,) = build_dataset(options | {'target': 'sure'}).__getitems__([(0, 7), (1, 8), (0, 9)])
    assert batch['lq'].shape == (3, 1, 16, 16) and 'gt' not in batch
    assert (batch['level'].flatten() * 65535).tolist() == pytest.approx([2000, 6000, 2000], rel=0.03)
    (batch,) = build_dataset(options | {'target': 'sure', 'data_range': 60000}).__getitems__([(0, 7)])
    assert float(batch['level']) * 60000 == pytest.approx(2000, rel=0.03)  # on the scale of the images
    for known in ({'target': 'sure', 'sigma255': 5}, {'target': 'neighbor2neighbor'}):
        assert 'level' not in build_dataset(options | known).__getitems__([(0, 7)])[0]
