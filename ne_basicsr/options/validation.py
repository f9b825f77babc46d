"""A whole option file against its schema, the registries, the sources of the classes it names, and the disk."""

import inspect
import math
import re
from collections.abc import Collection, Mapping
from typing import Any, TypeVar, get_args

import torch
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY
from pydantic import BaseModel, ValidationError

from ne_basicsr.archs.backbone import BackboneHolder
from ne_basicsr.options import data_schema, paths, schema, trial
from ne_basicsr.options import sections as checks
from ne_basicsr.options.sections import OptionError, Path, hint, nearest, one_of
from ne_basicsr.options.source import Reads, option_reads
from ne_basicsr.options.values import shown

Model = TypeVar('Model', bound=BaseModel)

# network_d, optim_e, pretrain_network_d ...: families that BasicSR's models extend by a letter or a word
FAMILY = re.compile(r'^(network|optim|pretrain_network|strict_load|param_key)_[a-z][a-z0-9_]*$')
NEAR = 0.8  # similarity from which an unknown key counts as a misspelt known one
DERIVED = frozenset({'is_train', 'dist', 'rank', 'world_size', 'root_path', 'auto_resume', 'val'})  # not the file's
OWN_MODELS = ('DenoisingModel', 'PairedDenoisingModel')  # all that these read is known
OWN_SETS: dict[str, tuple[type[BaseModel], type[BaseModel]]] = {  # for training, for testing
    'DenoisingDataset': (data_schema.DenoisingTrainSet, data_schema.DenoisingTestSet),
    'SIDDDataset': (data_schema.SIDDTrainSet, data_schema.SIDDSet),
}
OF_DENOISING = ('calculate_psnr_float', 'calculate_ssim_float', 'calculate_ne_defect', 'calculate_mismatch')
CONSTANT_RATE = {'type': 'MultiStepLR', 'milestones': []}
# of results, beside metrics
COLUMNS = ('image', 'degradation', 'level', 'unit', 'draw', 'psnr_in', 'psnr_out', 'psnr_clamped')
INPUT_CHANNELS = ('num_in_ch', 'in_chans', 'inp_channels')  # as BasicSR, SwinIR and Restormer call them


def validate(given: Mapping[str, Any], is_train: bool, here: bool = True) -> dict[str, Any]:
    """A checked copy of an option file's content, defaults filled in.

    Args:
        here: whether it is to run on this machine: its files and GPUs must be there.

    Raises:
        OptionError: the first wrong option.
    """
    _check_numbers(given, ())
    strict = given.get('model_type') in OWN_MODELS
    sections = _parsed(schema.Options if strict else schema.ForeignOptions, given, ())
    model = checks.lookup(checks.registered(MODEL_REGISTRY), sections.model_type, ('model_type',), 'model')
    if not strict:
        reads = option_reads(model, is_train)
        _check_extras(sections, (), reads)
        for key in ('path', 'train', 'val'):
            _check_extras(getattr(sections, key), (key,), reads, closed=key != 'train')
    opt = sections.model_dump()
    if strict and opt['scale'] != 1:
        raise OptionError(('scale',), f'1 is needed: {model.__name__} keeps the size of images; got {opt["scale"]}')
    if here:
        opt['num_gpu'] = _gpus(opt['num_gpu'])
    _check_set_names(opt['datasets'])
    _complete(opt, is_train)
    opt['datasets'] = {key: _checked_set(key, section, opt['scale']) for key, section in opt['datasets'].items()}
    for key, section in opt['datasets'].items():
        if here and (is_train or key != 'train'):
            paths.check_data(section, ('datasets', key))
    _check_pairing(opt)
    for key, section in opt.items():
        if key.startswith('network_') and section is not None:
            checks.check_network(section, (key,), ARCH_REGISTRY)
            if here:
                paths.check_network_files(section, (key,))
    if opt['train'] is not None:
        _check_train(opt['train'], model)
    if opt['val'] is not None:
        # this package's models crop nothing unless told; BasicSR's models leave it to the option file
        _check_val(opt['val'], opt['datasets'], optional=('crop_border',) if strict else ())
    _check_channels(opt)
    _check_crops(opt)
    _check_reads(opt, model, (), is_train)
    if here:
        paths.check_start(opt['path'], is_train)
    if strict:
        trial.check(opt, is_train, here)
    return {key: section for key, section in opt.items() if section is not None or key == 'manual_seed'}


def _check_numbers(value: Any, path: Path) -> None:
    """No option is infinite, or needs more than 64 bits."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_numbers(item, (*path, str(key)))
    elif isinstance(value, list):
        for item in value:
            _check_numbers(item, path)
    elif isinstance(value, float) and not math.isfinite(value):
        raise OptionError(path, f'a finite number is needed (1e308 is the largest); got {value}')
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise OptionError(path, f'a number of at most 18 digits is needed; got {shown(value)}')


def _parsed(cls: type[Model], section: Any, path: Path) -> Model:
    try:
        return cls.model_validate(section)
    except ValidationError as error:
        # a misspelt key explains the missing one, so it comes first
        problems = sorted(error.errors(), key=lambda problem: problem['type'] != 'extra_forbidden')
        raise _as_option_error(problems[0], cls, path) from None


def _as_option_error(problem: Any, cls: type[BaseModel], path: Path) -> OptionError:
    """Pydantic's report in this package's words."""
    kind, value, context = problem['type'], problem['input'], problem.get('ctx', {})
    place = tuple(str(part) for part in problem['loc'])
    key = (*path, *place)
    if kind == 'extra_forbidden':
        return OptionError(key, f'unknown option; {hint(place[-1], _fields_at(cls, place[:-1]))}')
    if kind == 'missing':
        known = _fields_at(cls, place[:-1])
        near = nearest(place[-1], [name for name in value if name not in known])
        if near:
            return OptionError((*key[:-1], near), f'unknown option; did you mean {place[-1]!r}?')
        return OptionError(key, f'missing: {known[place[-1]].description}')
    if kind == 'literal_error':
        choices = re.findall(r"'?([^', ]+?)'?(?:, | or |$)", context['expected'])
        return OptionError(key, one_of(choices, value))
    bounds = {
        'greater_than': ('more than', 'gt'),
        'greater_than_equal': ('at least', 'ge'),
        'less_than': ('less than', 'lt'),
        'less_than_equal': ('at most', 'le'),
    }
    if kind in bounds:
        relation, bound = bounds[kind]
        return OptionError(key, f'{relation} {context[bound]:.10g} is needed; got {shown(value)}')
    if kind in ('dict_type', 'model_type', 'model_attributes_type'):
        return OptionError(key, f'a section (lines of key: value) is needed; got {shown(value)}')
    return OptionError((*key, context['key']) if context.get('key') else key, problem['msg'])


def _fields_at(cls: type[BaseModel], place: Path) -> dict[str, Any]:
    """The fields of the section at ``place`` inside ``cls``."""
    for name in place:
        field = cls.model_fields.get(name)
        if field is not None:  # else a label in a mapping of sections, e.g. val:metrics:psnr
            cls = next(part for part in _types(field.annotation) if issubclass(part, BaseModel))
    return dict(cls.model_fields)


def _types(annotation: Any) -> list[type]:
    inner = [part for argument in get_args(annotation) for part in _types(argument)]
    return [*([annotation] if inspect.isclass(annotation) else []), *inner]


def _check_extras(
    section: BaseModel | None, path: Path, reads: Reads, closed: bool = False, inside: Path | None = None
) -> None:
    """Refuse unknown keys that look like a known one, and in ``closed`` sections all that the class does not read.

    A null sets nothing and passes.

    Args:
        inside: where the class finds this section in what it is given, if that is not ``path``.
    """
    if section is None:
        return
    inside = path if inside is None else inside
    known = {key[len(inside)] for key in reads.known if len(key) > len(inside) and key[: len(inside)] == inside}
    known |= set(type(section).model_fields)
    for key, value in (section.model_extra or {}).items():
        if value is None or key in known or key in reads.texts or FAMILY.match(key):
            continue
        if closed or nearest(key, known, NEAR):
            raise OptionError((*path, key), f'unknown option; {hint(key, known)}')


def _check_reads(section: Mapping[str, Any], cls: type, path: Path, training: bool) -> None:
    """Refuse a section without a key that ``cls`` is sure to read."""
    reads = option_reads(cls, training)
    for key in sorted(reads.required):
        inner: Any = section
        for name in key[:-1]:
            inner = inner.get(name) if isinstance(inner, Mapping) else None
        if isinstance(inner, Mapping) and key[-1] not in inner and key[-1] not in DERIVED:
            near = nearest(key[-1], [name for name in inner if (*key[:-1], name) not in reads.known], NEAR)
            misspelt = f'; did you misspell it as {near!r}?' if near else ''
            raise OptionError((*path, *key), f'missing, and {cls.__name__} needs it{misspelt}')


def _gpus(asked: int | str) -> int:
    there = torch.cuda.device_count()
    if asked == 'auto':
        return there
    if int(asked) > there:
        raise OptionError(('num_gpu',), f'{asked} asked for, {there} available; set num_gpu: 0 (CPU) or auto')
    return int(asked)


def _complete(opt: dict[str, Any], is_train: bool) -> None:
    """Sections that must be there, and those that have a default."""
    if opt['logger'] is None:
        opt['logger'] = schema.LoggerOptions().model_dump()
    if is_train:
        if opt['train'] is None:
            raise OptionError(('train',), 'missing: total_iter, optim_g, a loss such as pixel_opt')
        if 'train' not in opt['datasets']:
            raise OptionError(('datasets', 'train'), 'missing: the data to train on')
    else:
        if opt['val'] is None:
            opt['val'] = schema.ValOptions().model_dump()
        if not set(opt['datasets']) - {'train'}:
            raise OptionError(('datasets',), 'no data to test on; add a set called val, test or test_1')
    if opt['train'] is not None and opt['train']['scheduler'] is None:
        opt['train']['scheduler'] = dict(CONSTANT_RATE)


def _check_set_names(sets: Mapping[str, Mapping[str, Any]]) -> None:
    """``train``, ``val``, ``test_1`` ... as keys, and a name of its own for each set that has results."""
    names: dict[str, str] = {}
    for key, section in sets.items():
        phase, _, label = key.partition('_')
        if phase not in ('train', 'val', 'test') or (phase == 'train' and label):
            near = nearest(phase, ('train', 'val', 'test'))
            way_out = f'; did you mean {near!r}?' if near else ''
            raise OptionError(('datasets', key), f'data sets are called train, val, test, val_1, test_1 ...{way_out}')
        name = section.get('name')
        if key != 'train' and isinstance(name, str) and names.setdefault(name, key) != key:
            problem = (
                f'{name!r} is the name of datasets:{names[name]} too; results are kept by name, so each needs its own'
            )
            raise OptionError(('datasets', key, 'name'), problem)


def _checked_set(key: str, section: Mapping[str, Any], scale: int) -> dict[str, Any]:
    path = ('datasets', key)
    phase = key.partition('_')[0]
    kind, cls = checks.find(DATASET_REGISTRY, section, path, 'data set')
    training = phase == 'train'
    if kind in OWN_SETS:
        of_training, of_testing = OWN_SETS[kind]
        own = _parsed(of_training if training else of_testing, section, path)
        checked = own.model_dump(exclude_none=True)
    else:
        foreign = _parsed(data_schema.ForeignTrainSet if training else data_schema.ForeignSet, section, path)
        _check_extras(foreign, path, option_reads(cls, training), inside=())
        checked = {**section, **foreign.model_dump(exclude_none=True)}
    for name, value in checked.items():
        if name.startswith('dataroot_') and not isinstance(value, str | None):
            raise OptionError((*path, name), f'a folder is needed; got {shown(value)}')
    checked |= {'phase': phase, 'scale': scale}
    if kind not in OWN_SETS:
        _check_reads(checked, cls, path, training)
    return checked


def _check_train(train: dict[str, Any], model: type) -> None:
    path: Path = ('train',)
    optimizer = checks.check_optimizer(train['optim_g'], (*path, 'optim_g'), model)
    for key, section in train.items():
        if key.startswith('optim_') and key != 'optim_g' and section is not None:
            checks.check_optimizer(section, (*path, key), model)
        elif key.endswith('_opt') and section is not None:
            checks.check_loss(section, (*path, key), LOSS_REGISTRY)
    train['scheduler'] = checks.check_scheduler(
        train['scheduler'], (*path, 'scheduler'), optimizer, train['total_iter']
    )
    # gradients are averaged over the parts of a batch
    if train.get('accumulate', 1) > 1 and (train['pixel_opt'] or {}).get('reduction') == 'sum':
        raise OptionError((*path, 'accumulate'), 'needs pixel_opt:reduction: mean, the loss of a part; got sum')
    needs_one = 'Both pixel and perceptual losses are None.' in option_reads(model, True).texts
    if (needs_one or model.__name__ in OWN_MODELS) and not (train['pixel_opt'] or train['perceptual_opt']):
        raise OptionError((*path, 'pixel_opt'), 'missing: a loss, e.g. pixel_opt: {type: L1Loss} (or perceptual_opt)')


def _check_val(val: Mapping[str, Any], sets: Mapping[str, Mapping[str, Any]], optional: Collection[str]) -> None:
    metrics = val['metrics'] or {}
    for label, section in metrics.items():
        if label in COLUMNS or '/' in label:
            problem = f"a name without '/' that is none of {', '.join(COLUMNS)} is needed; got {shown(label)}"
            raise OptionError(('val', 'metrics', label), problem)
        checks.check_metric(section, ('val', 'metrics', label), METRIC_REGISTRY, optional)
    if val['save_best'] is None:
        return
    names = [section['name'] for key, section in sets.items() if key != 'train']
    if not names:
        problem = f'needs data to validate on, e.g. datasets:val; got {shown(val["save_best"])} and none'
        raise OptionError(('val', 'save_best'), problem)
    known = {*metrics, *(f'{name}/{label}' for name in names for label in metrics)}
    if val['save_best'] not in known:
        problem = f'no metric is called {shown(val["save_best"])}; {hint(val["save_best"], known)}'
        raise OptionError(('val', 'save_best'), problem)


def _check_pairing(opt: Mapping[str, Any]) -> None:
    """``DenoisingModel`` makes the noise for ``DenoisingDataset``; others read pairs, BasicSR's see 8-bit images."""
    model, is_own = opt['model_type'], opt['model_type'] in OWN_MODELS
    for name, section in opt['datasets'].items():
        kind, wanted = section['type'], ''
        if model == 'DenoisingModel' and kind != 'DenoisingDataset':
            wanted = 'DenoisingDataset, to which it adds the noise'
        elif model != 'DenoisingModel' and kind == 'DenoisingDataset':
            wanted = 'pairs, e.g. PairedImageDataset'
        elif not is_own and kind in OWN_SETS:
            wanted = 'PairedImageDataset; SIDDDataset goes with PairedDenoisingModel'
        if wanted:
            problem = f'{kind} does not go with model_type {model}, which needs {wanted}'
            raise OptionError(('datasets', name, 'type'), problem)
    for label, metric in ((opt['val'] or {}).get('metrics') or {}).items():
        if not is_own and metric['type'] in OF_DENOISING:
            problem = f'{metric["type"]} needs model_type DenoisingModel; {model} hands over 8-bit images'
            raise OptionError(('val', 'metrics', label, 'type'), problem)
        if model == 'PairedDenoisingModel' and metric['type'] == 'calculate_mismatch':
            problem = f'{metric["type"]} needs model_type DenoisingModel; the noise of pairs has no levels'
            raise OptionError(('val', 'metrics', label, 'type'), problem)


def _check_channels(opt: Mapping[str, Any]) -> None:
    """``in_ch`` of the data against the input channels of the network, where it names them as others do."""
    network = opt['network_g']
    while isinstance(network.get('backbone'), Mapping):
        network = network['backbone']
    parameters = checks.named_parameters(checks.registered(ARCH_REGISTRY)[network['type']])
    key = next((name for name in INPUT_CHANNELS if name in parameters), None)
    if key is None:
        return
    channels = network.get(key, parameters[key].default)
    for name, section in opt['datasets'].items():
        if section['type'] in OWN_SETS and section['in_ch'] != channels:
            problem = f'{section["in_ch"]}, but network_g has {key}: {channels}; the two must agree'
            raise OptionError(('datasets', name, 'in_ch'), problem)


def _check_crops(opt: Mapping[str, Any]) -> None:
    """Training crops against the windows of a bare windowed network; wrapped ones pad."""
    train, network = opt['datasets'].get('train', {}), opt['network_g']
    cls = checks.registered(ARCH_REGISTRY)[network['type']]
    parameter = checks.named_parameters(cls).get('window_size')
    if parameter is None or issubclass(cls, BackboneHolder) or train.get('type') not in OWN_SETS:
        return
    window = max(1, network.get('window_size', parameter.default))  # less is refused with the network
    for key, sizes in (('gt_size', [train['gt_size']]), ('gt_sizes', train.get('gt_sizes') or [])):
        for size in sizes:
            if size % window:
                near = max(window, size - size % window)
                way_out = f'use {near}, or its WNE, which pads'
                problem = f"{size} is not a multiple of {network['type']}'s window_size: {window}; {way_out}"
                raise OptionError(('datasets', 'train', key), problem)
