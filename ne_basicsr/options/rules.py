"""What joins several options: ``check`` refuses what cannot be together, ``cautions`` names what is hardly meant."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from ne_basicsr.archs.network_inputs import REFUSALS, facts_of
from ne_basicsr.data.denoising_dataset import LEVEL_TARGETS
from ne_basicsr.ops.degradations import check_level
from ne_basicsr.ops.noise_kinds import DEPENDENT
from ne_basicsr.options.schema import OWN_SETS, Section
from ne_basicsr.utils.errors import InputError, Key, OptionError
from ne_basicsr.utils.machine import has_bf16
from ne_basicsr.utils.words import hint, shown

# columns of results, beside metrics
COLUMNS = ('image', 'degradation', 'level', 'unit', 'draw', 'psnr_in', 'psnr_out', 'psnr_clamped')
TAKES = {  # the key that a kind of noise needs, and those that it may have; others need sigma255
    'jpeg': ('quality',),
    'mixture': ('of',),
    'poisson_gaussian': ('photons', 'sigma255', 'quality'),
    'correlated': ('sigma255', 'kernel', 'quality'),
}
TAKES_IN_TESTS = {'poisson_gaussian': ('sigma255',), 'jpeg': ('sigma255',), 'correlated': ('kernel',)}
NOISY_TARGETS = ('neighbor2neighbor', *LEVEL_TARGETS)  # from noisy images alone
WHITE = 255


def check(opt: Mapping[str, Any]) -> None:
    """An ``OptionError`` for complete options whose keys are right one by one, beside the rules of ``schema.yml``."""
    names: dict[str, str] = {}
    for key, section in opt['datasets'].items():
        name, at = section['name'], ('datasets', key)
        if key != 'train' and names.setdefault(name, key) != key:
            shared = f'{name!r} is the name of datasets:{names[name]} too'
            raise OptionError((*at, 'name'), f'{shared}; results are kept by name, so each needs its own')
        if section['type'] in OWN_SETS:
            described = OWN_SETS[section['type']][0]['properties']
            _check_phases(section, at, described)
            if section['type'] == 'DenoisingDataset':
                (_check_noise if key == 'train' else _check_test_noise)(section, at, described)
            if key == 'train' and section.get('dataroot_lq') and section['dataroot_lq'] == section.get('dataroot_gt'):
                rule = 'is also dataroot_lq, and the network would learn to copy; name the folder of the other shots'
                raise OptionError((*at, 'dataroot_gt'), f'{section["dataroot_gt"]!r} {rule}')
            if key == 'train' and section['target'] in NOISY_TARGETS:
                _check_target(section, at, opt['train'] or {})
            _check_network(section, at, opt['network_g'])
    if opt['val'] is not None:
        _check_val(opt)


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
    noise = section.get('noise')
    if noise is None:
        if 'sigma_range' not in section:
            rule = 'a section such as {type: gaussian, sigma255: 25} (8-bit units) is needed'
            raise _wrong(section, key, 'noise', rule)
        _check_levels(section, key, 'sigma_range')
        return
    if given := [each for each in ('sigma_range', 'sigma_type') if each in section]:
        raise _wrong(section, key, given[0], "Restormer's key beside noise; keep one of the two")
    keys = described['noise']['properties']
    for part, at in [(noise, (*key, 'noise')), *((each, (*key, 'noise', 'of')) for each in noise.get('of', ()))]:
        takes, photons = TAKES.get(part['type'], ('sigma255', 'quality')), part.get('photons')
        _check_kind(part, at, section['in_ch'], takes)
        for name in (takes[0], 'quality'):
            if part.get(name, [] if name == takes[0] else None) == []:
                raise OptionError((*at, name), f'missing: {keys[name]["description"]}')
        if 'sigma255' in part:
            _check_levels(part, at, 'sigma255')
        if isinstance(photons, list) and photons[0] > photons[1]:
            raise _wrong(part, at, 'photons', '[low, high] is needed')
        if section['target'] == 'noise2noise' and 'quality' in part:
            raise _wrong(section, key, 'target', 'two noisy copies need noise, and JPEG is none')


def _check_test_noise(section: Mapping[str, Any], key: Key, _: Mapping[str, Section]) -> None:
    """The kind of noise of a validation set, and its levels in the unit of this kind."""
    kind, levels = section['noise']['type'], section['sigma_test']
    _check_kind(section['noise'], (*key, 'noise'), section['in_ch'], TAKES_IN_TESTS.get(kind, ()))
    try:
        for level in levels if isinstance(levels, list) else [levels]:
            check_level(kind, level)
    except InputError as error:
        raise OptionError((*key, 'sigma_test'), f'of {kind}, {error}') from None


def _check_kind(noise: Mapping[str, Any], key: Key, channels: int, takes: tuple[str, ...]) -> None:
    """One noise, or one of a mixture: keys that its type does not have, and images and kernels that it cannot have."""
    kind, kernel = noise['type'], noise.get('kernel')
    if excess := [name for name in noise if name not in ('type', 'sigma_type', 'weight', *takes)]:
        raise _wrong(noise, key, excess[0], f'type {kind} has no {excess[0]}')
    if isinstance(kernel, list) and (len({len(row) for row in kernel}) > 1 or not any(map(any, kernel))):
        raise _wrong(noise, key, 'kernel', 'rows of one length are needed, not all of them 0')
    if kind == 'demosaicked' and channels != 3:
        raise OptionError((*key, 'type'), f'demosaicked needs in_ch: 3, colour images; got in_ch: {channels}')


def _check_levels(noise: Mapping[str, Any], key: Key, name: str) -> None:
    """A number for ``constant``, [low, high] for ``random`` and ``varying``, a list for ``choice``."""
    kind, levels = noise.get('sigma_type', 'constant'), noise[name]
    if kind == 'constant':
        rule = 'takes one number (random takes [low, high], choice a list)' if isinstance(levels, list) else ''
    elif kind == 'choice':
        rule = '' if isinstance(levels, list) else 'takes a list'
    else:
        is_span = isinstance(levels, list) and len(levels) == 2 and levels[0] <= levels[1]
        rule = '' if is_span else 'takes [low, high]'
    if rule:
        raise _wrong(noise, key, name, f'sigma_type {kind} {rule}')


def _check_target(section: Mapping[str, Any], key: Key, train: Mapping[str, Any]) -> None:
    """A target that learns from noisy images alone: its loss, its noise and its crops."""
    target, noise, loss = section['target'], section.get('noise') or {}, train.get('pixel_opt') or {}
    if train and (loss.get('type') != 'MSELoss' or loss.get('reduction', 'mean') != 'mean'):
        problem = f'target: {target} needs the mean square, {{type: MSELoss}} with reduction: mean'
        raise OptionError(('train', 'pixel_opt'), f'{problem}; got {shown(loss)}')
    if target in LEVEL_TARGETS:
        kind = noise.get('type', 'gaussian')
        varies = 'varying' in (noise.get('sigma_type'), section.get('sigma_type'))
        other = 'varying noise' if varies else 'noise before JPEG' if 'quality' in noise else kind
        if other != 'gaussian':
            raise _wrong(section, key, 'target', f'white Gaussian noise is needed, and {other} is other noise')
        return
    for part in (noise, *noise.get('of', ())):
        if part.get('type') == 'rayleigh':
            raise _wrong(section, key, 'target', 'noise of mean 0 is needed, and rayleigh brightens the image')
        if part.get('type') in DEPENDENT or 'quality' in part:
            what = part['type'] + (', compressed' if 'quality' in part else '')
            raise _wrong(section, key, 'target', f'noise that is independent from pixel to pixel is needed, not {what}')
    for name in ('gt_size', 'gt_sizes'):
        if any(size % 2 or size < 4 for size in _listed(section.get(name))):
            raise _wrong(section, key, name, 'neighbor2neighbor halves the crops: even sizes from 4 are needed')


def _check_network(section: Mapping[str, Any], key: Key, network: Mapping[str, Any]) -> None:
    """Channels of the images, and crops for a network that does not pad, as ``facts_of`` tells them."""
    try:
        facts = facts_of(network)
    except REFUSALS:  # what is wrong with it is seen when it is built
        return
    if facts.in_channels not in (None, section['in_ch']):
        problem = f'{section["in_ch"]}, but network_g takes {facts.in_channels}; the two must agree'
        raise OptionError((*key, 'in_ch'), problem)
    cells = 2 if section.get('target') == 'neighbor2neighbor' else 1  # it halves the crops
    multiple = cells * max(1, facts.size_multiple)  # less is refused with the network
    for name in ('gt_size', 'gt_sizes'):
        if wrong := [size for size in _listed(section.get(name)) if size % multiple]:
            way_out = f'use {max(multiple, wrong[0] - wrong[0] % multiple)}, or its WNE, which pads'
            what = f'{"twice " * (cells - 1)}{multiple // cells}, which {network["type"]} needs'
            raise OptionError((*key, name), f'{wrong[0]} is not a multiple of {what}; {way_out}')


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _check_val(opt: Mapping[str, Any]) -> None:
    val = opt['val']
    metrics = val['metrics'] or {}
    for label, metric in metrics.items():
        if label in COLUMNS or '/' in label:
            problem = f"a name without '/' that is none of {', '.join(COLUMNS)} is needed; got {shown(label)}"
            raise OptionError(('val', 'metrics', label), problem)
        metric.setdefault('better', 'higher')
    sets = [section['name'] for key, section in opt['datasets'].items() if key != 'train']
    known = {*metrics, *(f'{name}/{label}' for name in sets for label in metrics)}
    best = val['save_best']
    if best is not None and not (sets and best in known):
        unknown = f'no metric is called {shown(best)}; {hint(best, known)}'
        alone = f'needs data to validate on, e.g. datasets:val; got {shown(best)} and none'
        raise OptionError(('val', 'save_best'), unknown if sets else alone)


def cautions(opt: Mapping[str, Any]) -> list[str]:
    """What is odd about complete options: key, what follows from its value, what may have been meant."""
    return [*_of_data(opt), *_of_run(opt)]


def _of_data(opt: Mapping[str, Any]) -> Iterator[str]:
    used = ((name, section) for name, section in opt['datasets'].items() if name != 'train' or opt['is_train'])
    for name, section in used:
        noise = section.get('noise') or {}
        of_noise = [('noise:sigma255', each.get('sigma255')) for each in (noise, *noise.get('of', ()))]
        for key, value in (*of_noise, *((key, section.get(key)) for key in ('sigma255', 'sigma_range', 'sigma_test'))):
            if value is None:
                continue
            levels, place = value if isinstance(value, list) else [value], f'datasets:{name}:{key}: {shown(value)}'
            if key == 'sigma_test' and len(set(levels)) < len(levels):
                yield f'{place} has a level twice; it counts twice in every mean'
            if key == 'sigma_test' and noise.get('type') in ('poisson_gaussian', 'jpeg'):
                continue  # photons, or quality factors
            if small := [level for level in levels if 0 < level < 1]:
                yield f'{place} is in 8-bit units, where white is {WHITE}; is {small[0] * WHITE:g} meant?'
            if max(levels) > WHITE:
                yield f'{place} is in 8-bit units; {max(levels):g} is more than white, {WHITE}'
            if max(levels) == 0:
                yield f'{place} {"says that there is no noise to learn from" if key == "sigma255" else "adds no noise"}'


def _of_run(opt: Mapping[str, Any]) -> Iterator[str]:
    if not opt['is_train']:
        if not any(file for key, file in opt['path'].items() if key.startswith('pretrain_network')):
            yield 'path:pretrain_network_g is not set: the weights are random, and so are the results of this test'
        return
    train, total = opt['train'], opt['train']['total_iter']
    schedule, rate = train['scheduler'], train['optim_g']['lr']
    for key in ('milestones', 'restarts'):
        iterations = schedule.get(key) or []
        if late := [each for each in iterations if each > total]:  # at the end is how files say never
            yield f'train:scheduler:{key}: {shown(iterations)}: {late[0]} has no effect before total_iter: {total}'
        if iterations != sorted(set(iterations)):
            yield f'train:scheduler:{key}: {shown(iterations)} does not rise; each has its effect when it is reached'
    if schedule['type'] in ('CosineAnnealingLR', 'TrueCosineAnnealingLR') and schedule['T_max'] < total:
        yield f'train:scheduler:T_max: {schedule["T_max"]} is before total_iter: {total}; then the rate rises again'
    if not 0 < schedule.get('gamma', 1) <= 1:
        yield f'train:scheduler:gamma: {schedule["gamma"]} is not between 0 and 1, so the rate does not fall'
    if train['warmup_iter'] >= total:
        yield f'train:warmup_iter: {train["warmup_iter"]} is not before total_iter: {total}; lr is never reached'
    if not 0 < rate <= 1:
        effect = 'trains nothing' if rate == 0 else 'is large, training will diverge'
        yield f'train:optim_g:lr: {rate} {effect}; 1e-4 is common'
    if train.get('amp') == 'bf16' and not opt['num_gpu'] and not has_bf16('cpu'):
        yield 'train:amp: bf16: this processor has no instructions for it and is up to 20 times slower; use amp: null'
    has_sets = len(opt['datasets']) > 1
    if has_sets != ('val' in opt):
        there, missing = ('data', 'val section') if has_sets else ('a val section', 'data set such as datasets:val')
        yield f'val: there is {there} but no {missing}, so nothing is validated'
    workers, cores = opt['datasets']['train']['num_worker_per_gpu'] * max(1, opt['num_gpu']), os.cpu_count() or 1
    if workers > 4 * max(cores, 4):
        yield f'datasets:train:num_worker_per_gpu: {workers} processes on {cores} cores; one for each core is enough'
