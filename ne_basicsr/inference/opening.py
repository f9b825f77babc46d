"""Open denoisers by name: checkpoints, option files, exported graphs, shipped and registered networks."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from ne_basicsr.archs.backbone import build_arch
from ne_basicsr.archs.network_inputs import GRAY_OR_COLOUR, REFUSALS
from ne_basicsr.archs.own_networks import IMPORTS, import_own
from ne_basicsr.inference import exported_graphs
from ne_basicsr.inference.denoiser import Denoiser
from ne_basicsr.inference.ensemble import Ensemble
from ne_basicsr.inference.loading import as_wrapped, levels255, load_checkpoint, settle, wrap_zero_shot
from ne_basicsr.ops.noise import TrainingNoise
from ne_basicsr.options import read_yaml
from ne_basicsr.options.paths import check_network_files
from ne_basicsr.options.reader import parse_literal
from ne_basicsr.options.sections import registered, suggestion
from ne_basicsr.utils.errors import InputError, OptionError, first_line
from ne_basicsr.utils.file_names import printable
from ne_basicsr.utils.words import hint
from ne_basicsr.weights import checkpoint, shipped_models

IDENTITY = 'identity'
"""Label of the built-in network that returns the image unchanged."""

OPTION_FILES = ('.yml', '.yaml')


class Spec(NamedTuple):
    """A parsed argument ``FILE[=TYPE][@SIGMA255][+wne][+x8]``."""

    source: str  # the argument itself
    file: str  # a checkpoint, option file or graph, the name of a shipped or registered network, or ``{type: ...}``
    sigma255: float | None  # training noise level in 8-bit units, if given
    wrap: bool  # whether to make the network equivariant without training
    type: str | None = None  # type of the network, for checkpoints that do not record it
    ensemble: bool = False  # whether to average over rotations and mirror images, see ``ensemble``

    @property
    def options(self) -> dict[str, str]:
        """The ``options`` for ``ne_basicsr.load``."""
        return {} if self.type is None else {'type': self.type}

    @property
    def suffix(self) -> str:
        """Suffix of the file in lower case; empty for ``{type: ...}``."""
        return '' if self.is_inline else Path(self.file).suffix.lower()

    @property
    def sigma(self) -> float | None:
        """The training noise level on the [0, 1] scale."""
        return None if self.sigma255 is None else self.sigma255 / 255

    @property
    def kind(self) -> str:
        """``identity``, ``graph``, ``option file`` or, for all other text, ``checkpoint``."""
        if self.file == IDENTITY and not Path(self.file).exists():
            return 'identity'
        kinds = dict.fromkeys(exported_graphs.SUFFIXES, 'graph') | dict.fromkeys(OPTION_FILES, 'option file')
        return kinds.get(self.suffix, 'checkpoint')

    @property
    def is_inline(self) -> bool:
        return self.file.lstrip().startswith('{')

    @property
    def is_description(self) -> bool:
        """Whether it describes a network to build, instead of naming a checkpoint or graph."""
        is_name = not (self.suffix or self.type or Path(self.file).exists() or self.file in shipped_models.MODELS)
        return self.is_inline or self.suffix in OPTION_FILES or is_name


def parse_spec(text: str) -> Spec:
    """Parse ``FILE[=TYPE][@SIGMA255][+wne][+x8]``; an ``InputError`` for a level that is not a positive number."""
    if text == IDENTITY or Path(text).exists():
        return Spec(text, text, None, False)
    match = re.fullmatch(
        r'(?P<file>\s*\{.*\}|.+?)(=(?P<type>\w+))?(@(?P<sigma>[^@+/]*))?(?P<wrap>\+wne)?(?P<x8>\+x8)?', text, re.DOTALL
    )
    if match is None:
        raise InputError(f'cannot parse the network {text!r}; write net.pth or net.pth@25+wne')
    sigma = None
    if match['sigma'] is not None:
        try:
            sigma = float(match['sigma'])
        except ValueError:
            sigma = -1.0
        if not 0 < sigma < float('inf'):
            raise InputError(
                f'{text}: @ must be followed by the training noise level, as in net.pth@25; got {match["sigma"]!r}'
            )
    return Spec(text, match['file'], sigma, match['wrap'] is not None, match['type'], match['x8'] is not None)


def load(
    path: Path | str,
    wrap: str | None = None,
    device: torch.device | str | None = None,
    *,
    sigma: float | None = None,
    allow: Sequence[type] = (),
    param_key: str | None = None,
    options: Mapping[str, Any] | None = None,
    trusted: bool = False,
    imports: str | Path | Sequence[str | Path] = (),
) -> Denoiser:
    """Load a network in eval mode. It maps (N, C, H, W) to (N, C', rH, rW), any height and width.

    Checkpoints of this package describe their network. For other files, the layout is recognised by the keys
    (``ne_basicsr.weights.formats``), and the arguments of the network by keys and shapes; the result is logged.

    Args:
        path: the file, or other text that commands take: ``net.pth@25+wne``, ``gray``, ``net.yml``, ``net.onnx``.
        wrap: ``wne`` makes a network that was trained without the wrapper normalization-equivariant, see
            ``wrap_zero_shot``.
        device: device of the network; default: the CPU.
        sigma: with ``wrap``, the single noise level of the training on the [0, 1] scale; default: the level recorded in
            the checkpoint, else the level or range that is measured on photographs.
        allow: classes that the file may contain besides weights and ``argparse.Namespace``; reading them may run code.
        param_key: which weights of a BasicSR checkpoint to use; default: ``params_ema`` if present, else ``params``.
        options: arguments of the network that the file does not record, such as FDnCNN's ``mode``, and its ``type``.
            Files of the WNE paper's code do not record the wrapper: ``{'type': 'DnCNN'}`` stands for a plain network,
            ``{'type': 'WNE'}`` and ``{'type': 'InputNorm'}`` name the wrapper. By default, it is read from the run's
            ``config.json`` beside the file or in the folder above.
        trusted: whether a ``.pt2`` file may be read, which can run code.
        imports: files (``my_networks.py``) and modules that register networks of your own, to import first.

    Returns:
        A ``Denoiser``, which also accepts arrays; its attribute ``network`` is the network itself. Call non-blind
        networks with ``sigma``, the noise level on the scale of the images.

    Raises:
        InputError: for an unreadable file, an unknown layout, a description that contradicts the weights, an unknown
            wrapper of a file of the WNE paper's code, or weights that do not fit or are not finite.
    """
    import_own(imports)
    if wrap not in (None, 'wne'):
        raise ValueError(f"wrap must be None or 'wne'; got {wrap!r}.")
    if sigma is not None and not 0 < sigma <= 1:
        raise InputError(f'sigma, the training noise level, is on the [0, 1] scale; got {sigma:g}: divide by 255')
    if not isinstance(path, str | Path):
        way_out = ': ne_basicsr.Denoiser(network)' if isinstance(path, nn.Module) else ''
        raise InputError(f'load takes a file, or a name as commands do; got {type(path).__name__}{way_out}')
    spec = parse_spec(str(path))
    level = spec.sigma255 if sigma is None else 255 * sigma
    spec = spec._replace(wrap=spec.wrap or wrap is not None, sigma255=level)
    further: dict[str, Any] = {'allow': allow, 'param_key': param_key, 'options': {**spec.options, **(options or {})}}
    denoiser = open_denoiser(spec, only=None, device=str(device or 'cpu'), trusted=trusted, **further)
    return denoiser.to(device or 'cpu')


def open_denoiser(
    spec: Spec | str,
    label: str = '',
    *,
    only: Sequence[int] | None = GRAY_OR_COLOUR,
    untrained: bool = False,
    device: str = 'cpu',
    trusted: bool = False,
    **further: Any,
) -> Denoiser:
    """Open the denoiser that ``spec`` names, in eval mode on the CPU; a graph where it runs.

    Args:
        spec: as on the command line, such as ``net.pth@25+wne``; see ``basicsr mismatch --help``.
        label: name in tables; default: from the file's name.
        only: accepted channel counts, any if empty. None also accepts networks that change the size of images.
        untrained: whether to accept a description without weights. The weights are then random but always the same,
            including biases and running statistics: zeros could make a plain network look scale-equivariant.
        device: where an exported graph runs; the caller moves networks.
        trusted: whether ``.pt2`` files may be read, which can run code.
        further: for checkpoints, arguments of ``load_checkpoint``.

    Raises:
        InputError: for networks that cannot be opened or used, with the reason.
    """
    spec = parse_spec(spec) if isinstance(spec, str) else spec
    if spec.kind == 'identity':
        denoiser = identity()
    elif spec.kind == 'graph':
        if spec.wrap:
            raise InputError(
                f'{spec.source}: an exported network cannot be wrapped; wrap the checkpoint it was made from'
            )
        denoiser = exported_graphs.open_exported(Path(spec.file), device, trusted)
    elif spec.kind == 'option file' or (untrained and spec.is_description):
        denoiser = _described(spec, untrained)
    else:
        denoiser = load_checkpoint(spec.file, spec.wrap, spec.sigma, **{'options': spec.options, **further})
    if spec.ensemble:
        about = f'{denoiser.description}, mean over rotations and mirror images'.removeprefix(', ')
        levels = denoiser.training_levels255
        denoiser = Denoiser(Ensemble(denoiser), description=about, training_levels255=levels, knows=denoiser.knows)
    denoiser.label = label or _name(spec)
    denoiser.source = printable(spec.source)
    if spec.sigma255 is not None:
        denoiser.training_levels255 = (spec.sigma255,)
    if only is not None:
        denoiser.require_image_to_image(only)
    return denoiser


def open_denoisers(texts: Sequence[str], labels: Sequence[str] = (), **how: Any) -> tuple[list[Denoiser], list[str]]:
    """The denoisers that can be opened, and one error line for each that cannot.

    ``labels`` are those of the first denoisers, in order; the others are named after their files. ``how`` are arguments
    of ``open_denoiser``. An ``InputError`` if there are texts but none can be opened, or for labels that do not fit.
    """
    specs = [parse_spec(text) for text in texts]
    denoisers, failures = [], []
    for spec, label in zip(specs, labels_of(specs, labels), strict=True):
        try:
            denoisers.append(open_denoiser(spec, label, **how))
        except InputError as error:
            failures.append(str(error))
    if failures and not denoisers:
        raise InputError(failures[0])
    return denoisers, failures


def identity() -> Denoiser:
    """The network that returns the image unchanged."""
    return Denoiser(nn.Identity(), label=IDENTITY, digest=IDENTITY)


def labels_of(specs: Sequence[Spec], given: Sequence[str] = ()) -> list[str]:
    """A unique label for each network: the given one, or the file's name, with its run or folder if two are equal.

    An ``InputError`` for more labels than networks, or for two equal labels.
    """
    if len(given) > len(specs):
        raise InputError(f'--label: {len(given)} labels for {len(specs)} networks; give at most one for each, in order')
    names = Counter(map(_name, specs))
    labels = []
    for spec in specs[len(given) :]:
        path = Path(spec.file)
        folder = path.parent.parent if path.parent.name == 'models' else path.parent  # experiments/RUN/models/net.pth
        labels.append('/'.join(filter(None, [folder.name if names[_name(spec)] > 1 else '', _name(spec)])))
    labels = [printable(label) for label in (*given, *labels)]
    if twice := [label for label, count in Counter([*labels, IDENTITY]).items() if count > 1]:
        raise InputError(f'two networks have the label {twice[0]!r}; choose labels with --label')
    return labels


def common_channels(denoisers: Sequence[Denoiser]) -> int:
    """Their common number of channels, 1 if all accept any number; an ``InputError`` if they differ."""
    by_channels: dict[int, str] = {}
    for each in denoisers:
        if not each.is_identity:
            by_channels.setdefault(each.channels, each.label)
    if len(by_channels) > 1:
        takers = ' and '.join(f'{label} takes {count}' for count, label in sorted(by_channels.items()))
        raise InputError(f'compared networks must take the same number of channels: {takers}; run them separately')
    return next(iter(by_channels), 1)


def read_description(text: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """(name, options of the network, the option file's content) of the description of a network to build.

    Args:
        text: an option file with a ``network_g``; a mapping, ``'{type: DnCNNWNE, num_layers: 20}'``; or the name of a
            registered network. An ``InputError`` if it is missing, unknown, or does not have these options.
    """
    path: tuple[str, ...] = ()
    content: dict[str, Any] = {}
    name, where, options = text, text, {'type': text}  # type: str, str, Any
    if text.lstrip().startswith('{'):
        try:
            options = parse_literal(text)
        except ValueError as error:
            raise InputError(f'{error}') from None
        name = text.strip().strip('{}').removeprefix('type:').strip()
    elif Path(text).suffix in OPTION_FILES or '/' in text:
        name, path, content = Path(text).stem, ('network_g',), read_yaml(text)
        import_own(content.get(IMPORTS) or [])
        if 'network_g' not in content:
            raise InputError(f'{text}: network_g is missing; {hint("network_g", content)}')
        options = content['network_g']
    elif text not in registered(ARCH_REGISTRY):
        known = suggestion(text, {*registered(ARCH_REGISTRY), *shipped_models.MODELS})
        raise InputError(f'{text}: not a file, {{type: ...}} or a registered network (your own need --import); {known}')
    try:
        from ne_basicsr.options.validation import check_network  # jsonschema takes 0.1 s

        check_network(options, path)
        check_network_files(options, path)
    except OptionError as error:
        raise InputError(': '.join(filter(None, (where, ':'.join(error.key), error.problem)))) from None
    return name, options, content


@torch.no_grad()
def randomize(network: nn.Module) -> None:
    """Randomize weights and running statistics that the constructor set to constants, such as zero biases."""
    for parameter in network.parameters():
        if parameter.numel() and (parameter == parameter.flatten()[0]).all():
            parameter.add_(0.1 * torch.randn_like(parameter))
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is not None:
            assert module.running_var is not None
            module.running_mean.add_(0.1 * torch.randn_like(module.running_mean))
            module.running_var.mul_((0.1 * torch.randn_like(module.running_var)).exp())


def _described(spec: Spec, untrained: bool) -> Denoiser:
    """A described network with the weights named in its option file, or with random weights."""
    if spec.type is not None:
        raise InputError(f'{spec.source}: an option file already contains the type; leave out ={spec.type}')
    name, options, content = read_description(spec.file)
    paths: Any = content.get('path') if isinstance(content.get('path'), Mapping) else {}
    weights = paths.get('pretrain_network_g')
    if not isinstance(weights, str | None):
        raise InputError(f'{spec.file}: path:pretrain_network_g must be a file name; got {weights!r}')
    if not weights and not untrained:
        raise InputError(f'{spec.file}: path:pretrain_network_g, the file with the weights, is missing')
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(0)
        try:
            network = build_arch(options)
        except REFUSALS as error:
            raise InputError(f'{spec.file}: cannot be built: {first_line(error)}') from error
        if not weights:
            randomize(network)
    description = ''
    if weights:
        path = Path(weights).expanduser()
        strict, key = paths.get('strict_load_g', True), paths.get('param_key_g', 'params')
        checkpoint.load_network(network, path, strict=strict, param_key=key)
        settle(network, path)
        description = f'network_g of {Path(spec.file).name}, weights {path.name}'
    datasets: Any = content.get('datasets') if isinstance(content.get('datasets'), Mapping) else {}
    train_set: Any = datasets.get('train') if isinstance(datasets.get('train'), Mapping) else {}
    try:
        noise = TrainingNoise.from_options(train_set) if train_set.get('noise') else None
    except (*REFUSALS, AttributeError) as error:
        raise InputError(f'{spec.file}: datasets:train:noise: {first_line(error)}') from error
    levels = levels255(noise)
    if spec.wrap:
        network, levels = wrap_zero_shot(network, spec.sigma, noise, spec.file)
        description += as_wrapped(network, levels, spec.sigma is None and noise is None) if description else ''
    return Denoiser(network.eval(), label=name, description=printable(description), training_levels255=levels)


def _name(spec: Spec) -> str:
    stem = spec.file.strip().strip('{}').removeprefix('type:').strip() if spec.is_inline else Path(spec.file).stem
    return stem + ('+wne' if spec.wrap else '') + ('+x8' if spec.ensemble else '')
