"""How DenoisingModel trains: parts of a batch, precision, compilation, memory formats, losses that are not finite."""

import functools
import sys
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
import yaml
from basicsr.archs import build_network
from basicsr.models import build_model
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_pipeline import option_file, weights

from ne_basicsr.cli.main import main
from ne_basicsr.models.denoising_model import DenoisingModel
from ne_basicsr.ops.noise import TrainingNoise
from ne_basicsr.options import load_options
from ne_basicsr.train import pipeline
from ne_basicsr.utils.machine import peak_memory
from ne_basicsr.weights import checkpoint

LITTLE = {
    'train:total_iter': 6,
    'datasets:val:sigma_test': 25,
    'val': {'val_freq': 6, 'metrics': {}},
}
PLAIN = {'type': 'DnCNN', 'num_feat': 6, 'num_layers': 4, 'act_mode': 'R'}  # without statistics over the batch


def trained(workplace, image_folder, name, **changes):
    path = option_file(workplace, image_folder, **(LITTLE | {'network_g': PLAIN} | changes))
    assert main(['train', '-opt', str(path), '--force_yml', f'name={name}']) == 0
    return weights(workplace / 'experiments' / name, 'latest')


def gap(first, second):
    return max(float((first[key] - second[key]).abs().max()) for key in first)


def log_of(workplace, name):
    (log,) = (workplace / 'experiments' / name).glob('*.log')
    return log.read_text()


def test_accumulated_batches_train_as_one(workplace, image_folder):
    sgd = {'train:optim_g': {'type': 'SGD', 'lr': 0.1}}  # Adam divides by small gradients, rounding errors included
    single = sgd | {'datasets:train:batch_size_per_gpu': 1}
    whole = trained(workplace, image_folder, 'whole', **sgd)
    parts = trained(workplace, image_folder, 'parts', **single, **{'train:accumulate': 4})
    smaller = trained(workplace, image_folder, 'smaller', **single)
    assert gap(whole, parts) < 1e-6 < 1e-4 < gap(whole, smaller)
    assert 'Effective batch, over all ranks: 4' in log_of(workplace, 'parts')
    events = [EventAccumulator(str(workplace / 'tb_logger' / name)).Reload() for name in ('whole', 'parts')]
    first, second = ([event.value for event in each.Scalars('losses/l_pix')] for each in events)
    assert first == pytest.approx(second, rel=1e-4)


@pytest.mark.parametrize('amp', ['bf16', 'fp16'])
def test_mixed_precision_trains_nearly_as_float32(workplace, image_folder, amp):
    mixed = trained(workplace, image_folder, 'mixed', **{'train:amp': amp})
    exact = trained(workplace, image_folder, 'exact')
    assert all(value.dtype == torch.float32 for value in mixed.values())
    assert 0 < gap(mixed, exact) < 5e-3


def test_channels_last_trains_as_the_usual_order(workplace, image_folder):
    last = trained(workplace, image_folder, 'last', **{'train:channels_last': True, 'train:ema_decay': 0.5})
    usual = trained(workplace, image_folder, 'usual')
    assert gap(last, usual) < 1e-4
    assert all(value.is_contiguous() for value in last.values())


def test_the_trial_of_the_order_in_memory_changes_nothing_and_is_kept(workplace, image_folder, monkeypatch):
    monkeypatch.setattr(pipeline, 'LONG', 1)
    seconds, real = {False: 1, True: 1}, DenoisingModel.step_seconds
    monkeypatch.setattr(DenoisingModel, 'step_seconds', lambda *given: real(*given) and seconds)
    network = {'network_g': {'type': 'DnCNN', 'num_feat': 6, 'num_layers': 4, 'act_mode': 'BR'}}  # with statistics
    options = network | {'train:ema_decay': 0.5, 'logger:save_checkpoint_freq': 3}
    usual = trained(workplace, image_folder, 'usual', **options, **{'train:channels_last': False})
    slower = trained(workplace, image_folder, 'slower', **options)
    assert 'channels_last: auto: False' in log_of(workplace, 'slower')
    assert gap(slower, usual) == 0
    seconds[False] = 2
    faster = trained(workplace, image_folder, 'faster', **options)
    assert 'channels_last: auto: True' in log_of(workplace, 'faster')
    assert 0 < gap(faster, usual) < 1e-2  # rounded otherwise, and Adam divides by small gradients

    seconds[False] = 1  # a resumed run does not ask again
    run = workplace / 'experiments' / 'faster'
    for path in [*run.glob('*/*6.*'), *run.glob('*/*latest*')]:
        path.unlink()
    path = option_file(workplace, image_folder, **(LITTLE | options))
    assert main(['train', '-opt', str(path), '--auto_resume', '--force_yml', 'name=faster']) == 0
    assert gap(weights(run, 'latest'), faster) == 0


def test_a_trial_times_both_orders_and_short_runs_have_none(workplace, image_folder, monkeypatch):
    opt = load_options(option_file(workplace, image_folder, **(LITTLE | {'network_g': PLAIN})), is_train=True)
    assert opt['train']['channels_last'] == 'auto'
    monkeypatch.setattr(DenoisingModel, 'step_seconds', lambda *_: pytest.fail('6 iterations'))
    pipeline._choose_memory_format(opt, SimpleNamespace(step_seconds=None), None)
    monkeypatch.undo()
    model = build_model(opt)
    orders = []
    monkeypatch.setattr(model, 'accumulate', lambda: orders.append(next(model.net_g.parameters()).is_contiguous()))
    model.output = None
    assert set(model.step_seconds((2, 1, 16))) == {False, True}
    assert len(orders) == 8
    assert model.channels_last is False


def test_compiled_checkpoints_have_the_usual_keys_and_resume(workplace, image_folder, monkeypatch):
    # all of torch.compile but the C++ compiler, which takes seconds and changes no keys
    monkeypatch.setattr(torch, 'compile', functools.partial(torch.compile, backend='aot_eager'))
    changes = {'train:compile': True, 'train:ema_decay': 0.5, 'network_g': PLAIN | {'type': 'DnCNNWNE'}}
    compiled = trained(workplace, image_folder, 'compiled', **changes)
    eager = trained(workplace, image_folder, 'eager', **(changes | {'train:compile': False}))
    assert compiled.keys() == eager.keys()
    assert gap(compiled, eager) < 1e-4
    content = checkpoint.read(workplace / 'experiments' / 'compiled' / 'models' / 'net_g_6.pth')
    assert content['params_ema'].keys() == eager.keys()


def test_without_a_compiler_compile_is_one_line(workplace, image_folder, capsys, monkeypatch):
    def broken(function):
        raise RuntimeError('No working C++ compiler found\nin many lines')

    monkeypatch.setattr(torch, 'compile', broken)
    path = option_file(workplace, image_folder, **{'train:compile': True})
    assert main(['train', '-opt', str(path)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert 'train:compile: torch.compile does not work here (No working C++ compiler found); set compile: false' in line
    assert not (workplace / 'experiments').exists()


def test_a_perceptual_loss_whose_weights_cannot_be_fetched_is_one_line(workplace, image_folder, capsys, monkeypatch):
    def unreachable(*_, **__):
        raise URLError('Name or service not known')

    monkeypatch.setattr('basicsr.archs.vgg_arch.vgg.vgg19', unreachable)
    loss = {'type': 'PerceptualLoss', 'layer_weights': {'conv1_1': 1.0}}
    path = option_file(workplace, image_folder, **{'train:perceptual_opt': loss})
    assert main(['train', '-opt', str(path)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert 'cannot be fetched (<urlopen error Name or service not known>); for a perceptual loss, put https' in line
    assert line.endswith(f'/vgg19-dcbb9e9d.pth into the folder {workplace}/experiments/pretrained_models')
    assert not (workplace / 'experiments').exists()


def spoilt(monkeypatch, iteration):
    """The clean images of one iteration, and of those after it, hold an infinite pixel."""
    original, count = DenoisingModel.feed_data, 0

    def feed_data(self, data):
        nonlocal count
        count += 1
        original(self, data)
        if count >= iteration:
            self.gt[0, 0, 0, 0] = float('inf')

    monkeypatch.setattr(DenoisingModel, 'feed_data', feed_data)


def test_a_loss_that_is_not_finite_is_told_once_with_its_iteration(workplace, image_folder, monkeypatch):
    spoilt(monkeypatch, 3)
    trained(workplace, image_folder, 'spoilt')
    lines = [line for line in log_of(workplace, 'spoilt').splitlines() if 'not finite' in line]
    assert len(lines) == 1
    assert 'WARNING: Iteration 3: the loss is not finite' in lines[0]


def test_training_can_stop_there_and_keeps_what_was_saved(workplace, image_folder, monkeypatch, capsys):
    spoilt(monkeypatch, 6)
    path = option_file(workplace, image_folder, **(LITTLE | {'train:total_iter': 8, 'train:on_nonfinite': 'stop'}))
    assert main(['train', '-opt', str(path)]) == 2
    assert 'iteration 6: the loss is not finite, where train:on_nonfinite' in capsys.readouterr().err.splitlines()[-1]
    run = workplace / 'experiments' / 'run'
    assert {file.name for file in (run / 'training_states').iterdir()} == {'4.state'}
    assert all(value.isfinite().all() for value in weights(run, 4).values())


def test_training_needs_no_validation(workplace, image_folder):
    path = option_file(workplace, image_folder, **{'train:total_iter': 2})
    without = yaml.safe_load(path.read_text())
    del without['val'], without['datasets']['val']
    path.write_text(yaml.safe_dump(without))
    assert main(['train', '-opt', str(path)]) == 0


def test_finite_losses_are_not_remarked_on(workplace, image_folder):
    trained(workplace, image_folder, 'fine', **{'train:on_nonfinite': 'stop'})
    assert 'not finite' not in log_of(workplace, 'fine')


def test_tensorboard_shows_strips_of_the_first_image(workplace, image_folder):
    trained(workplace, image_folder, 'strips', **{'datasets:val:sigma_test': [10, 25, 60]})
    events = EventAccumulator(str(workplace / 'tb_logger' / 'strips'), size_guidance={'images': 0}).Reload()
    (first, *_) = events.Images('images/held_out')
    assert (first.height, first.width) == (3 * 48, 3 * 56)  # three levels; noisy, output, clean


def test_options_are_left_as_they_are(workplace, image_folder):
    from ne_basicsr.options import load_options

    opt = load_options(option_file(workplace, image_folder), is_train=True) | {'dist': False, 'rank': 0}
    before = {key: dict(opt['train'][key]) for key in ('optim_g', 'scheduler')}
    model = DenoisingModel(opt)
    assert {key: opt['train'][key] for key in before} == before
    assert build_network(opt['network_g']).state_dict().keys() == model.net_g.state_dict().keys()


def test_weights_and_biases_gets_the_run_and_is_one_line_where_it_cannot(workplace, image_folder, monkeypatch, capsys):
    class Refused(Exception):
        pass

    started, logged_in = [], [True]

    def init(**arguments):
        if not logged_in[0]:
            raise Refused('No API key configured.')
        started.append(arguments)
        return SimpleNamespace(id='abc')

    wandb = SimpleNamespace(init=init, errors=SimpleNamespace(Error=Refused))  # current ones have no util.generate_id
    monkeypatch.setitem(sys.modules, 'wandb', wandb)
    changes = {'logger:wandb': {'project': 'denoising'}}
    trained(workplace, image_folder, 'followed', **changes)
    assert [(run['project'], run['name'], run['resume']) for run in started] == [('denoising', 'followed', 'never')]
    assert 'Use wandb logger with id=abc' in log_of(workplace, 'followed')
    path = option_file(workplace, image_folder, **LITTLE, **changes)
    for module, message in ((wandb, 'logger:wandb: No API key'), (None, "pip install 'ne-basicsr[wandb]'")):
        logged_in[0] = False
        monkeypatch.setitem(sys.modules, 'wandb', module)
        assert main(['train', '-opt', str(path)]) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]


def test_validation_in_tiles_is_validation_of_whole_images(workplace, image_folder):
    from ne_basicsr.options import load_options

    seen = []
    for tile in (96, None):
        path = option_file(workplace, image_folder, **{'val:tile': tile})
        model = DenoisingModel(load_options(path, is_train=True) | {'dist': False, 'rank': 0})
        model.net_g.load_state_dict(build_network(model.opt['network_g']).state_dict() if not seen else seen[0][0])
        sides: list[int] = []
        model.net_g.backbone.register_forward_pre_hook(lambda _, x, sides=sides: sides.append(max(x[0].shape[-2:])))
        y = torch.linspace(0.1, 0.9, 64 * 200).view(1, 1, 64, 200)
        with model.evaluating():
            output = model.denoise(y)
        seen.append((model.net_g.state_dict(), output, max(sides[-2:])))
    (_, tiled, largest), (_, whole, full) = seen
    assert (largest <= 96, full) == (True, 200)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)  # float32; the statistics are those of the image


def test_tiles_without_room_for_the_windows_of_a_network_are_one_line(workplace, image_folder, capsys):
    windows = {'type': 'WNE', 'size_multiple': 36, 'backbone': PLAIN}
    for network, tile, message in (
        (PLAIN, 31, 'val:tile: '),
        (windows, 35, 'val:tile: must be at least 36 pixels for this network'),
    ):
        path = option_file(workplace, image_folder, **{'network_g': network, 'val:tile': tile})
        assert main(['train', '-opt', str(path)]) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (workplace / 'experiments').exists()
    assert trained(workplace, image_folder, 'room', **{'val:tile': 32})


def test_training_noise_depends_on_the_seed_of_the_run_and_the_number_of_the_sample():
    options = {'type': 'DenoisingDataset', 'noise': {'type': 'gaussian', 'sigma255': 25}}
    opt = {'datasets': {'train': options}}
    clean = torch.zeros(2, 1, 8, 8)

    def noise(seed, *numbers):
        noise = TrainingNoise.from_options(options)
        model = SimpleNamespace(noise=noise, progression=None, opt=opt, device='cpu', seed=seed)
        DenoisingModel.feed_data(model, {'gt': clean, 'number': torch.tensor(numbers)})
        assert torch.equal(model.gt, clean)
        return model.lq

    first = noise(0, 7, 8)
    assert torch.equal(first, noise(0, 7, 8))
    assert torch.equal(first.flip(0), noise(0, 8, 7))
    for other in (noise(1, 7, 8), noise(0, 9, 10)):
        assert (first != other).all(dim=3).all()


def test_what_is_tested_is_in_eval_mode_and_trains_on_as_before():
    for training in (True, False):
        net = torch.nn.Dropout().train(training)
        model = SimpleNamespace(_test_net=lambda net=net: net, _training_options=dict, opt={'dist': False})
        with DenoisingModel.evaluating(model):
            assert not net.training and not torch.is_grad_enabled()
        assert net.training == training


def test_memory_of_a_step_is_known_before_and_asking_changes_nothing(
    workplace, image_folder, monkeypatch, capsys, caplog
):
    path = option_file(workplace, image_folder, **{'network_g': {'type': 'DnCNNWNE', 'num_feat': 32, 'num_layers': 6}})
    opt = load_options(path, is_train=True)
    model = build_model(opt)
    before = {key: value.clone() for key, value in model.net_g.state_dict().items()}, torch.get_rng_state()
    shape = (8, 1, 64)
    needed = model.step_memory(shape)
    assert all(torch.equal(before[0][key], value) for key, value in model.net_g.state_dict().items())
    assert torch.equal(before[1], torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.net_g.parameters())
    moments = 8 * sum(parameter.numel() for parameter in model.net_g.parameters())
    model.lq = model.gt = torch.rand(8, 1, 64, 64)
    assert needed - moments == pytest.approx(peak_memory(model.accumulate), rel=0.2)

    count = opt['datasets']['train']['batch_size_per_gpu']
    needed = model.step_memory((count, 1, 16))
    monkeypatch.setattr(pipeline, 'SCATTERED', 0)  # the allocator of the tests stays as it is
    for free, code in ((10 * needed, 0), (needed, 0), (0.7 * needed, 2)):
        monkeypatch.setattr(pipeline.trial, 'memory', lambda num_gpu, free=False, value=free: value if free else 2**40)
        assert main(['train', '-opt', str(path), '--force_yml', f'name=run{code}', 'train:total_iter=1']) == code
        said = capsys.readouterr().err + caplog.text
        caplog.clear()
        assert ('16x16 need about' in said) == (free <= needed)
        assert code or (f'batch_size_per_gpu: {count // 2}, train:accumulate: 2' in said) == (free <= needed)
