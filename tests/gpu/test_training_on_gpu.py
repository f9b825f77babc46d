"""Training on the device: the CPU's noise and crops, loss scaling, waiting, prefetching, ranks, resume, memory."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from basicsr.models import build_model
from test_pipeline import option_file, weights
from torch import nn

from ne_basicsr.cli.main import main
from ne_basicsr.data.batch import as_float, prefetched
from ne_basicsr.ops.noise import TrainingNoise, add_noise, seed_of
from ne_basicsr.ops.noise_kinds import FURTHER, QUANTILE
from ne_basicsr.ops.random_numbers import centred_uniforms
from ne_basicsr.options import load_options
from ne_basicsr.train import pipeline
from ne_basicsr.train.gradient_step import GradientStep
from ne_basicsr.train.progression import Progression
from ne_basicsr.train.targets import FROM_NOISY, TARGETS

pytestmark = pytest.mark.gpu

SEEDS = [seed_of('test', number) for number in range(4)]
PLAIN = {'type': 'DnCNN', 'num_feat': 6, 'num_layers': 4, 'act_mode': 'R'}
SHORT = {
    'network_g': PLAIN,
    'train:total_iter': 8,
    'val': {'val_freq': 8, 'metrics': {}},
    'datasets:val:sigma_test': 25,
}
NEAR = 1e-3  # of weights after 8 steps of 1e-3: what a few wrong signs would exceed


def on(device: str) -> dict[str, int]:
    return {'num_gpu': int(device == 'cuda')}


def gap(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    return max(float((first[key] - second[key]).abs().max()) for key in first)


def trained(workplace: Path, images: Path, name: str, **changes: object) -> dict[str, torch.Tensor]:
    path = option_file(workplace, images, **(SHORT | changes))
    assert main(['train', '-opt', str(path), '--force_yml', f'name={name}']) == 0
    return weights(workplace / 'experiments' / name, 'latest')


@pytest.mark.parametrize('kind', [*QUANTILE, *FURTHER])
def test_noise_and_targets_are_those_of_the_cpu(kind: str, device: str) -> None:
    clean = torch.rand(4, 3, 19, 23)
    shape = clean.shape[1:]
    assert torch.equal(centred_uniforms(SEEDS, shape, device).cpu(), centred_uniforms(SEEDS, shape))
    noise = TrainingNoise(kind, 'random', (0.0, 0.2), photons=(20.0, 2000.0), kernel=((1.0, 2.0, 1.0),))
    if kind == 'speckle':
        noise = noise._replace(sigma_type='varying')
    levels, pairs = torch.full((4, 1, 1, 1), 0.1), []
    for make_pair in TARGETS.values():
        pairs += zip(make_pair(noise, clean.to(device), SEEDS), make_pair(noise, clean, SEEDS), strict=True)
    for make_task in FROM_NOISY.values():
        here, there = (make_task(clean.to(at), levels.to(at), SEEDS) for at in (device, 'cpu'))
        pairs += zip(here[:2], there[:2], strict=True)
    for found, wanted in pairs:
        assert found.device.type == device
        torch.testing.assert_close(found.cpu(), wanted, rtol=0, atol=5e-6)  # their functions differ in the last bits
    if kind in QUANTILE:
        assert torch.equal(add_noise(clean.to(device), 0.1, kind, seed=3).cpu(), add_noise(clean, 0.1, kind, seed=3))


def test_crops_are_those_of_the_cpu(device: str) -> None:
    batch = {'gt': torch.randint(0, 256, (6, 3, 24, 24), dtype=torch.uint8), 'number': torch.arange(7, 13)}
    phases = Progression((1, 1), (8, 16), (6, 3))
    for iteration, size, count in ((1, 8, 6), (2, 16, 3)):
        found, wanted = (phases.cut(as_float(batch, where), iteration, seed=5)['gt'] for where in (device, 'cpu'))
        assert found.shape == (count, 3, size, size) and found.device.type == device
        torch.testing.assert_close(found.cpu(), wanted, rtol=0, atol=1e-7)  # a division by 255


def test_a_run_trains_as_on_the_cpu(workplace: Path, image_folder: Path, device: str) -> None:
    sgd = {'train:optim_g': {'type': 'SGD', 'lr': 0.1}}  # Adam divides by small gradients, rounding errors included
    found = trained(workplace, image_folder, 'there', **sgd, **on(device))
    assert gap(found, trained(workplace, image_folder, 'here', **sgd, num_gpu=0)) < 1e-5


@pytest.mark.parametrize('amp', ['bf16', 'fp16'])
def test_mixed_precision_trains_nearly_as_float32(workplace: Path, image_folder: Path, device: str, amp: str) -> None:
    mixed = trained(workplace, image_folder, 'mixed', **{'train:amp': amp, 'train:channels_last': True}, **on(device))
    assert all(value.dtype == torch.float32 for value in mixed.values())
    exact = trained(workplace, image_folder, 'exact', **on(device))
    assert 0 < gap(mixed, exact) < 8e-3  # 8 steps of 1e-3, and the sign of a small gradient may be another


def test_a_step_that_overflows_is_skipped_and_the_scale_falls(device: str) -> None:
    network = nn.Linear(3, 1).to(device)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    step = GradientStep(optimizer, torch.device(device), amp='fp16', clip_norm=1.0)
    before, scale = network.weight.detach().clone(), step.scaler.get_scale()
    step.backward(network(torch.full((1, 3), float('inf'), device=device)).sum())
    step.apply()
    assert torch.equal(network.weight, before) and step.scaler.get_scale() < scale
    step.backward(network(torch.ones(1, 3, device=device)).sum())
    step.apply()
    assert not torch.equal(network.weight, before)


@pytest.mark.parametrize(
    'changes',
    [
        {'network_g': PLAIN | {'type': 'DnCNNWNE'}, 'train:ema_decay': 0.9},
        {'network_g': PLAIN, 'train:amp': 'fp16', 'train:clip_grad_norm': 1.0},
        {'network_g': {'type': 'FDnCNN', 'num_feat': 6, 'num_layers': 4, 'mode': 'norm-equiv'}},
        {'network_g': PLAIN | {'type': 'DnCNNWNE', 'statistics': 'mean_noise'}, 'train:amp': 'bf16'},
        {'datasets:train:target': 'soft_ne', 'datasets:train:prefetch_mode': 'cuda'},
    ],
    ids=['averaged', 'fp16', 'affine', 'noise estimate', 'prefetched'],
)
def test_no_step_waits_for_the_gpu(workplace: Path, image_folder: Path, cuda: str, changes: dict[str, object]) -> None:
    opt = load_options(option_file(workplace, image_folder, **changes, **on(cuda)), is_train=True)
    loader, _ = pipeline._train_loader(opt, 0)
    batches, model = iter(pipeline._batches(opt, loader)), build_model(opt)
    for iteration in range(1, 4):  # the first ones choose algorithms and reserve memory
        torch.cuda.set_sync_debug_mode('error' if iteration == 3 else 'default')
        try:
            model.feed_data(next(batches))
            model.optimize_parameters(iteration)
        finally:
            torch.cuda.set_sync_debug_mode('default')
    assert model.optimizer_g.defaults['fused'] is True


def test_batches_come_from_pinned_memory(workplace: Path, image_folder: Path, cuda: str) -> None:
    opt = load_options(option_file(workplace, image_folder, **on(cuda)), is_train=True)
    loader, _ = pipeline._train_loader(opt, 0)
    assert next(iter(loader))['gt'].is_pinned()


def test_the_prefetcher_returns_every_batch_unharmed_beside_a_busy_gpu(cuda: str) -> None:
    batches = [
        {'gt': torch.full((64, 1, 64, 64), number, dtype=torch.uint8).pin_memory(), 'number': torch.tensor([number])}
        for number in range(40)
    ]
    busy = torch.rand(4096, 4096, device=cuda)
    kept = []
    for number, batch in enumerate(prefetched(batches, torch.device(cuda))):
        busy = busy @ busy.clamp(max=1e-3)  # the GPU is behind: what is freed here is still to be read there
        kept.append(batch['gt'].mean() * 255)
        assert batch['number'].device.type == 'cpu' and batch['number'].item() == number
        del batch
    assert torch.stack(kept).round().tolist() == list(range(40))


def test_a_run_resumes_where_it_was(workplace: Path, image_folder: Path, device: str) -> None:
    changes = {'train:amp': 'fp16', 'train:ema_decay': 0.5, 'logger:save_checkpoint_freq': 4, **on(device)}
    straight = trained(workplace, image_folder, 'straight', **changes)
    trained(workplace, image_folder, 'parts', **{**changes, 'train:total_iter': 4})
    path = option_file(workplace, image_folder, **(SHORT | changes))
    assert main(['train', '-opt', str(path), '--auto_resume', '--force_yml', 'name=parts']) == 0
    difference = gap(straight, weights(workplace / 'experiments' / 'parts', 'latest'))
    assert difference == 0 if device == 'cpu' else difference < NEAR  # cuDNN may choose other algorithms


def test_a_state_moves_between_cpu_and_gpu(workplace: Path, image_folder: Path, device: str) -> None:
    straight = trained(workplace, image_folder, 'straight', num_gpu=0)
    for name, first, then in (('up', 0, int(device == 'cuda')), ('down', int(device == 'cuda'), 0)):
        trained(workplace, image_folder, name, **{'train:total_iter': 4}, num_gpu=first)
        path = option_file(workplace, image_folder, **SHORT, num_gpu=then)
        assert main(['train', '-opt', str(path), '--auto_resume', '--force_yml', f'name={name}']) == 0
        assert gap(straight, weights(workplace / 'experiments' / name, 'latest')) < NEAR


def ranks(size: int, path: Path, name: str) -> list[tuple[int, str]]:
    """Exit codes and last lines of ``size`` processes that train together."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    common = os.environ | {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port, 'WORLD_SIZE': str(size)}
    command = [sys.executable, '-m', 'ne_basicsr', 'train', '-opt', str(path), '--launcher', 'pytorch']
    processes = [
        subprocess.Popen(
            [*command, '--force_yml', f'name={name}'],
            env=common | {'RANK': str(rank), 'LOCAL_RANK': str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    errors = [process.communicate(timeout=240)[1] for process in processes]
    return [
        (p.returncode, (error.strip().splitlines() or [''])[-1]) for p, error in zip(processes, errors, strict=True)
    ]


def test_one_rank_trains_as_one_process(workplace: Path, image_folder: Path, device: str) -> None:
    alone = trained(workplace, image_folder, 'alone', **on(device))
    path = option_file(workplace, image_folder, **SHORT, **on(device))
    assert ranks(1, path, 'joined') == [(0, '')] or weights(workplace / 'experiments' / 'joined', 'latest')
    assert gap(alone, weights(workplace / 'experiments' / 'joined', 'latest')) < NEAR


def test_two_ranks_train_as_one_or_say_that_a_gpu_is_missing(workplace: Path, image_folder: Path, device: str) -> None:
    half = {'datasets:train:batch_size_per_gpu': 2}
    path = option_file(workplace, image_folder, **SHORT, **half, num_gpu=2 * int(device == 'cuda'))
    if device == 'cuda' and torch.cuda.device_count() < 2:  # NCCL takes one process per GPU
        path = option_file(workplace, image_folder, **SHORT, **half, num_gpu=1)
        assert any(code == 2 and 'has no GPU' in line for code, line in ranks(2, path, 'two'))
        return
    alone = trained(workplace, image_folder, 'alone', **on(device))
    path = option_file(workplace, image_folder, **SHORT, **half, num_gpu=2 * int(device == 'cuda'))
    assert [code for code, _ in ranks(2, path, 'two')] == [0, 0]
    assert gap(alone, weights(workplace / 'experiments' / 'two', 'latest')) < NEAR


def test_the_estimate_of_memory_is_what_a_step_needs(workplace: Path, image_folder: Path, cuda: str) -> None:
    network = {'type': 'DnCNNWNE', 'num_feat': 64, 'num_layers': 10}
    opt = load_options(option_file(workplace, image_folder, network_g=network, **on(cuda)), is_train=True)
    model = build_model(opt)
    estimate = model.step_memory((16, 1, 64))
    batch = {'gt': torch.rand(16, 1, 64, 64), 'number': torch.arange(16)}
    for iteration in (1, 2):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        model.feed_data(batch)
        model.optimize_parameters(iteration)
        torch.cuda.synchronize()
        if iteration == 1:
            needed = torch.cuda.max_memory_allocated() - before
    assert 0.7 < estimate / needed < 1.5, (estimate, needed)
