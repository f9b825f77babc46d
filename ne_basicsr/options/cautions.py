"""Choices that are legal and probably not meant: one line each, which a run logs once, at its start."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from ne_basicsr.utils.instructions import has_bf16
from ne_basicsr.utils.words import shown

WHITE = 255


def cautions(opt: Mapping[str, Any]) -> list[str]:
    """What is odd about complete options: key, what follows from its value, what may have been meant."""
    lines = [*_of_data(opt)]
    if opt['is_train']:
        lines += _of_training(opt)
    elif not any(file for key, file in opt['path'].items() if key.startswith('pretrain_network')):
        lines += ['path:pretrain_network_g is not set: the weights are random, and so are the results of this test']
    return lines


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
            if max(levels) == 0 and key != 'sigma255':
                yield f'{place} adds no noise'


def _of_training(opt: Mapping[str, Any]) -> Iterator[str]:
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
