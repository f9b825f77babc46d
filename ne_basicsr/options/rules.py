"""What joins several options: pairs of keys that exclude or need each other, in one section or across the file."""

from collections.abc import Mapping
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY

from ne_basicsr.archs.backbone import BackboneHolder
from ne_basicsr.data.noisy_dataset import LEVEL_TARGETS
from ne_basicsr.ops.degradations import check_level
from ne_basicsr.options.schema import OWN_SETS, Section
from ne_basicsr.options.sections import OF_DENOISING, registered, section_of
from ne_basicsr.utils.errors import InputError, Key, OptionError
from ne_basicsr.utils.words import hint, shown

# columns of results, beside metrics
COLUMNS = ('image', 'degradation', 'level', 'unit', 'draw', 'psnr_in', 'psnr_out', 'psnr_clamped')
TAKES = {  # the key that a kind of noise needs, and those that it may have; others need sigma255
    'jpeg': ('quality',),
    'mixture': ('of',),
    'poisson_gaussian': ('photons', 'sigma255', 'quality'),
    'correlated': ('sigma255', 'kernel', 'quality'),
}
INPUT_CHANNELS = ('num_in_ch', 'in_chans', 'inp_channels')  # as BasicSR, SwinIR and Restormer call them
NOISY_TARGETS = ('neighbor2neighbor', *LEVEL_TARGETS)  # from noisy images alone
DEPENDENT = ('correlated', 'demosaicked', 'jpeg')  # noise that is not independent from pixel to pixel


def check_pairing(model: str, sets: Mapping[str, Any], own: bool) -> None:
    """``DenoisingModel`` makes the noise for ``DenoisingDataset``; others read pairs. Both train on ``NoisyDataset``.

    Raises:
        OptionError: for a data set that does not go with the model.
    """
    for key, section in sets.items():
        kind, wanted = section['type'], ''
        if own and kind == 'NoisyDataset':
            if key != 'train':
                problem = 'NoisyDataset has no images to compare with; validate on NoisyPairDataset'
                raise OptionError(('datasets', key, 'type'), problem)
        elif model == 'DenoisingModel' and kind != 'DenoisingDataset':
            wanted = 'DenoisingDataset, to which it adds the noise'
        elif model != 'DenoisingModel' and kind == 'DenoisingDataset':
            wanted = 'pairs, e.g. PairedImageDataset'
        elif not own and kind in OWN_SETS:
            wanted = f'PairedImageDataset; {kind} goes with PairedDenoisingModel'
        if wanted:
            problem = f'{kind} does not go with model_type {model}, which needs {wanted}'
            raise OptionError(('datasets', key, 'type'), problem)


def check(opt: Mapping[str, Any], own: bool) -> None:
    """Complete options whose keys are right one by one.

    Args:
        own: whether the model is one of this package.

    Raises:
        OptionError: the first rule that does not hold.
    """
    if own and opt['scale'] != 1:
        raise OptionError(('scale',), f'1 is needed: {opt["model_type"]} keeps the size of images; got {opt["scale"]}')
    logger = opt['logger']
    if (logger['wandb'] or {}).get('project') is not None and not logger['use_tb_logger']:
        raise OptionError(('logger', 'use_tb_logger'), 'wandb needs use_tb_logger: true; got false')
    names: dict[str, str] = {}
    for key, section in opt['datasets'].items():
        name = section['name']
        if key != 'train' and names.setdefault(name, key) != key:
            shared = f'{name!r} is the name of datasets:{names[name]} too'
            raise OptionError(('datasets', key, 'name'), f'{shared}; results are kept by name, so each needs its own')
        at = ('datasets', key)
        if section.get('prefetch_mode') == 'cuda' and section.get('pin_memory') is False:
            raise _wrong(section, at, 'pin_memory', 'prefetch_mode cuda needs pin_memory: true')
        if section.get('persistent_workers') and section['num_worker_per_gpu'] == 0:
            raise _wrong(section, at, 'num_worker_per_gpu', 'persistent_workers needs at least 1')
        if key == 'train' and section['type'] in OWN_SETS:
            described = OWN_SETS[section['type']][0]['properties']
            _check_phases(section, at, described)
            if section['type'] == 'DenoisingDataset':
                _check_noise(section, at, described)
            if section['target'] in NOISY_TARGETS:
                _check_target(section, at, opt['train'] or {})
        elif section['type'] == 'DenoisingDataset':
            _check_test_noise(section, at)
    train = opt['train'] or {}
    # gradients are averaged over the parts of a batch
    if train.get('accumulate', 1) > 1 and (train['pixel_opt'] or {}).get('reduction') == 'sum':
        raise OptionError(('train', 'accumulate'), 'needs pixel_opt:reduction: mean, the loss of a part; got sum')
    if opt['val'] is not None:
        _check_val(opt, own)
    _check_channels(opt)
    _check_crops(opt)


def _wrong(section: Mapping[str, Any], key: Key, name: str, rule: str) -> OptionError:
    """An error about the option ``name``, such as ``noise:sigma255``, of the section at ``key``."""
    value: Any = section
    for part in name.split(':'):
        value = (value or {}).get(part)
    return OptionError((*key, *name.split(':')), f'{rule}; got {shown(value)}')


def _check_phases(section: Mapping[str, Any], key: Key, described: Mapping[str, Section]) -> None:
    """Progressive patch sizes: three lists of the same length; the section's own sizes are the largest."""
    phases = {name: section.get(name) for name in ('iters', 'gt_sizes', 'mini_batch_sizes')}
    for name, value in phases.items() if any(each is not None for each in phases.values()) else ():
        if value is None:
            raise OptionError((*key, name), f'missing: {described[name]["description"]}')
        if len(value) != len(phases['iters'] or []) or not value:
            raise _wrong(section, key, name, 'one number per phase, as many as iters, is needed')
        limit = {'gt_sizes': 'gt_size', 'mini_batch_sizes': 'batch_size_per_gpu'}.get(name)
        if limit and max(value) > section[limit]:
            raise _wrong(section, key, name, f'at most {limit}: {section[limit]} is possible')


def _check_noise(section: Mapping[str, Any], key: Key, described: Mapping[str, Section]) -> None:
    """The noise of a training set, in this package's section or in Restormer's two keys."""
    noise, name, rule = section.get('noise'), '', ''
    if noise is None and 'sigma_range' not in section:
        name, rule = 'noise', 'a section such as {type: gaussian, sigma255: 25} (8-bit units) is needed'
    elif noise is None:
        name, rule = 'sigma_range', _level_problem(section.get('sigma_type', 'constant'), section['sigma_range'])
    elif given := [each for each in ('sigma_range', 'sigma_type') if each in section]:
        name, rule = given[0], "Restormer's key beside noise; keep one of the two"
    else:
        keys = described['noise']['properties']
        parts = [({'noise': each}, (*key, 'noise', 'of')) for each in noise.get('of', ())]
        for part, at in [(section, (*key, 'noise')), *parts]:
            _check_kind(part['noise'], at, keys, section['in_ch'])
            if section['target'] == 'noise2noise' and 'quality' in part['noise']:
                name, rule = 'target', 'two noisy copies need noise, and JPEG is none'
    if rule:
        raise _wrong(section, key, name, rule)


def _check_kind(noise: Mapping[str, Any], key: Key, described: Mapping[str, Section], channels: int) -> None:
    """One noise, or one of a mixture, at ``key``: what its type needs and takes."""
    kind = noise['type']
    needed, *more = TAKES.get(kind, ('sigma255', 'quality'))
    for name in ('sigma255', 'photons', 'kernel', 'quality', 'of'):
        if name in noise and name not in (needed, *more):
            raise _wrong(noise, key, name, f'type {kind} has no {name}')
    if noise.get(needed, []) == []:
        raise OptionError((*key, needed), f'missing: {described[needed]["description"]}')
    photons, levels, kernel = noise.get('photons'), noise.get('sigma255'), noise.get('kernel')
    if rule := '' if levels is None else _level_problem(noise['sigma_type'], levels):
        raise _wrong(noise, key, 'sigma255', rule)
    if isinstance(photons, list) and photons[0] > photons[1]:
        raise _wrong(noise, key, 'photons', '[low, high] is needed')
    _check_correlation(noise, key, kernel, channels)


def _check_correlation(noise: Mapping[str, Any], key: Key, kernel: Any, channels: int) -> None:
    if isinstance(kernel, list) and (len({len(row) for row in kernel}) > 1 or not any(map(any, kernel))):
        raise _wrong(noise, key, 'kernel', 'rows of one length are needed, not all of them 0')
    if noise['type'] == 'demosaicked' and channels != 3:
        raise OptionError((*key, 'type'), f'demosaicked needs in_ch: 3, colour images; got in_ch: {channels}')


def _check_test_noise(section: Mapping[str, Any], key: Key) -> None:
    """The kind of noise of a validation set, and its levels in the unit of this kind."""
    noise, levels = section['noise'], section['sigma_test']
    kind, at = noise['type'], (*key, 'noise')
    for name, kinds in (('sigma255', ('poisson_gaussian', 'jpeg')), ('kernel', ('correlated',))):
        if name in noise and kind not in kinds:
            raise _wrong(noise, at, name, f'type {kind} has no {name}')
    _check_correlation(noise, at, noise.get('kernel'), section['in_ch'])
    try:
        for level in levels if isinstance(levels, list) else [levels]:
            check_level(kind, level)
    except InputError as error:
        raise OptionError((*key, 'sigma_test'), f'of {kind}, {error}') from None


def _check_target(section: Mapping[str, Any], key: Key, train: Mapping[str, Any]) -> None:
    """A target that learns from noisy images alone: its loss, its noise and its crops."""
    target, noise = section['target'], section.get('noise') or {}
    kind, parts = noise.get('type', 'gaussian'), [noise, *noise.get('of', ())]
    loss = train.get('pixel_opt') or {}
    if train and (loss.get('type') != 'MSELoss' or loss.get('reduction', 'mean') != 'mean'):
        problem = f'target: {target} needs the mean square, {{type: MSELoss}} with reduction: mean'
        raise OptionError(('train', 'pixel_opt'), f'{problem}; got {shown(loss)}')
    varies = 'varying' in (noise.get('sigma_type'), section.get('sigma_type'))
    if target in LEVEL_TARGETS and (kind != 'gaussian' or 'quality' in noise or varies):
        other = 'varying noise' if varies else 'noise before JPEG' if kind == 'gaussian' else kind
        raise _wrong(section, key, 'target', f'white Gaussian noise is needed, and {other} is other noise')
    if target == 'neighbor2neighbor':
        if dependent := [part for part in parts if part.get('type') in DEPENDENT or 'quality' in part]:
            what = dependent[0]['type'] + (', compressed' if 'quality' in dependent[0] else '')
            raise _wrong(section, key, 'target', f'noise that is independent from pixel to pixel is needed, not {what}')
        for name in ('gt_size', 'gt_sizes'):
            sizes = section.get(name) or []
            if any(size % 2 or size < 4 for size in ([sizes] if isinstance(sizes, int) else sizes)):
                raise _wrong(section, key, name, 'neighbor2neighbor halves the crops: even sizes from 4 are needed')


def _level_problem(sigma_type: str, levels: Any) -> str:
    """A number for ``constant``, [low, high] for ``random`` and ``varying``, a list for ``choice``."""
    if sigma_type == 'constant' and isinstance(levels, list):
        return 'sigma_type constant takes one number (random takes [low, high], choice a list)'
    is_span = isinstance(levels, list) and len(levels) == 2 and levels[0] <= levels[1]
    if sigma_type in ('random', 'varying') and not is_span:
        return f'sigma_type {sigma_type} takes [low, high]'
    return 'sigma_type choice takes a list' if sigma_type == 'choice' and not isinstance(levels, list) else ''


def _check_val(opt: Mapping[str, Any], own: bool) -> None:
    val, model = opt['val'], opt['model_type']
    metrics = val['metrics'] or {}
    for label, metric in metrics.items():
        key, problem = ('val', 'metrics', label), ''
        if label in COLUMNS or '/' in label:
            problem = f"a name without '/' that is none of {', '.join(COLUMNS)} is needed; got {shown(label)}"
            raise OptionError(key, problem)
        if not own and metric['type'] in OF_DENOISING:
            problem = f'{model} hands over 8-bit images'
        elif model == 'PairedDenoisingModel' and metric['type'] == 'calculate_mismatch':
            problem = 'the noise of pairs has no levels'
        if problem:
            raise OptionError((*key, 'type'), f'{metric["type"]} needs model_type DenoisingModel; {problem}')
        metric.setdefault('better', 'higher')
    best = val['save_best']
    sets = [section['name'] for key, section in opt['datasets'].items() if key != 'train']
    if best is not None and not sets:
        problem = f'needs data to validate on, e.g. datasets:val; got {shown(best)} and none'
        raise OptionError(('val', 'save_best'), problem)
    known = {*metrics, *(f'{name}/{label}' for name in sets for label in metrics)}
    if best is not None and best not in known:
        raise OptionError(('val', 'save_best'), f'no metric is called {shown(best)}; {hint(best, known)}')


def _check_channels(opt: Mapping[str, Any]) -> None:
    """``in_ch`` of the data against the input channels of the network, where it names them as others do."""
    network = opt['network_g']
    while isinstance(network.get('backbone'), Mapping):
        network = network['backbone']
    known = section_of('networks', network['type'])['properties']
    key = next((name for name in INPUT_CHANNELS if name in known), None)
    if key is None:
        return
    channels = network.get(key, known[key].get('default'))
    for name, section in opt['datasets'].items():
        if section['type'] in OWN_SETS and section['in_ch'] != channels:
            problem = f'{section["in_ch"]}, but network_g has {key}: {channels}; the two must agree'
            raise OptionError(('datasets', name, 'in_ch'), problem)


def _check_crops(opt: Mapping[str, Any]) -> None:
    """Training crops against the windows of a bare windowed network; wrapped ones pad."""
    train, network = opt['datasets'].get('train', {}), opt['network_g']
    known = section_of('networks', network['type'])['properties']
    wraps = issubclass(registered(ARCH_REGISTRY)[network['type']], BackboneHolder)
    if 'window_size' not in known or wraps or train.get('type') not in OWN_SETS:
        return
    window = max(1, network.get('window_size', known['window_size'].get('default')))  # less is refused with the network
    for key in ('gt_size', 'gt_sizes'):
        sizes = train.get(key, [])
        cells = 2 if train['target'] == 'neighbor2neighbor' else 1  # it halves the crops
        for size in sizes if isinstance(sizes, list) else [sizes]:
            if size % (cells * window):
                way_out = f'use {max(cells * window, size - size % (cells * window))}, or its WNE, which pads'
                what = f"{'twice ' * (cells - 1)}{network['type']}'s window_size: {window}"
                problem = f'{size} is not a multiple of {what}; {way_out}'
                raise OptionError(('datasets', 'train', key), problem)
