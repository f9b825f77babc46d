"""The networks of a comparison, from what a command line says: checkpoints, option files, the identity."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from ne_basicsr.archs.backbone import build_arch
from ne_basicsr.archs.network_inputs import GRAY_OR_COLOUR, channels_of, is_non_blind
from ne_basicsr.inference.loading import Loaded, any_size, load_described, wrap_zero_shot
from ne_basicsr.ops.noise import TrainingNoise
from ne_basicsr.options import read_yaml
from ne_basicsr.utils.errors import InputError
from ne_basicsr.utils.file_names import printable
from ne_basicsr.weights import checkpoint

IDENTITY = 'identity'
"""Label of the built-in network that leaves the image as it is."""


class Entry(NamedTuple):
    """A network that was compared.

    Args:
        label: its name in tables and figures, unique.
        source: what the command line said.
        description: what the file was recognised as, in a line; empty for the identity.
        parameters: their number.
        training_levels255: the noise of its training, in 8-bit units: one level, several, or the two ends of a range;
            empty where it is not known.
    """

    label: str
    source: str
    description: str = ''
    parameters: int = 0
    training_levels255: tuple[float, ...] = ()


class Spec(NamedTuple):
    """What one argument asks for: a file, wrapped or not, and where given the 8-bit noise level of its training and its
    type.
    """

    source: str
    file: str
    sigma255: float | None
    wrap: bool
    type: str | None = None

    @property
    def options(self) -> dict[str, str]:
        """As ``ne_basicsr.load`` takes them."""
        return {} if self.type is None else {'type': self.type}


class Denoiser(NamedTuple):
    """A network that is ready to be compared.

    Args:
        call: (noisy (N, C, H, W), noise levels of the N images on their scale, or None) to (N, C, H, W).
        channels: that it takes; None: any number, which only the identity does.
        digest: equal for equal weights, architecture and wrapping, and only for them.
    """

    entry: Entry
    network: nn.Module
    call: Callable[[Tensor, Tensor | None], Tensor]
    channels: int | None
    needs_sigma: bool
    digest: str

    @property
    def is_identity(self) -> bool:
        return self.channels is None


def parse_spec(text: str) -> Spec:
    """``FILE[=TYPE][@SIGMA255][+wne]``, or ``identity``.

    Raises:
        InputError: for a level that is no positive number.
    """
    if text == IDENTITY or Path(text).exists():
        return Spec(text, text, None, False)
    match = re.fullmatch(r'(?P<file>.+?)(=(?P<type>\w+))?(@(?P<sigma>[^@+/]*))?(?P<wrap>\+wne)?', text)
    assert match, 'the pattern takes any text'
    sigma = None
    if match['sigma'] is not None:
        try:
            sigma = float(match['sigma'])
        except ValueError:
            sigma = -1.0
        if not 0 < sigma < float('inf'):
            raise InputError(
                f'{text}: the noise level of the training follows @, as in net.pth@25; got {match["sigma"]!r}'
            )
    return Spec(text, match['file'], sigma, match['wrap'] is not None, match['type'])


def labels_of(specs: Sequence[Spec], given: Sequence[str] = ()) -> list[str]:
    """A unique label for each network: those given, then the file's name, with its run or folder where two are alike.

    Raises:
        InputError: for more labels than networks, or two that are equal.
    """
    if len(given) > len(specs):
        raise InputError(f'--label: {len(given)} labels for {len(specs)} networks; give at most one for each, in order')
    stems = Counter((Path(spec.file).stem, spec.wrap) for spec in specs)
    labels = []
    for spec in specs[len(given) :]:
        path = Path(spec.file)
        is_alone = stems[path.stem, spec.wrap] == 1
        folder = path.parent.parent if path.parent.name == 'models' else path.parent  # experiments/RUN/models/net.pth
        labels.append((path.stem if is_alone else f'{folder.name}/{path.stem}') + ('+wne' if spec.wrap else ''))
    labels = [printable(label) for label in (*given, *labels)]
    if twice := [label for label, count in Counter([*labels, IDENTITY]).items() if count > 1]:
        raise InputError(f'two networks would both be called {twice[0]!r}; name them with --label')
    return labels


def open_denoiser(spec: Spec, label: str, only: Sequence[int] = GRAY_OR_COLOUR) -> Denoiser:
    """The network that ``spec`` asks for.

    Args:
        only: how many channels can be used; any number where empty.

    Raises:
        InputError: for files that cannot be used, with the reason.
    """
    if Path(spec.file).suffix in ('.yml', '.yaml'):
        if spec.type is not None:
            raise InputError(f'{spec.source}: an option file says its type itself; leave ={spec.type} out')
        loaded = _from_option_file(spec)
    else:
        sigma = None if spec.sigma255 is None else spec.sigma255 / 255
        loaded = load_described(spec.file, 'wne' if spec.wrap else None, sigma=sigma, options=spec.options)
    network = loaded.network.eval()
    levels = (spec.sigma255,) if spec.sigma255 is not None else _levels255(loaded.noise)
    description = loaded.description + (', wrapped without training' if spec.wrap else '')
    parameters = sum(parameter.numel() for parameter in network.parameters())
    entry = Entry(label, printable(spec.source), printable(description), parameters, levels)
    needs_sigma = is_non_blind(network)
    channels = channels_of(network, needs_sigma, spec.file, only)
    return Denoiser(entry, network, _call(network, needs_sigma), channels, needs_sigma, _digest(network))


def open_denoisers(texts: Sequence[str], labels: Sequence[str] = ()) -> tuple[list[Denoiser], list[str]]:
    """The networks of a command line that can be used, and a line for each that cannot.

    Args:
        labels: of the networks, in order; the rest are named after their files.

    Raises:
        InputError: where there are networks and none can be used, or labels do not fit.
    """
    specs = [parse_spec(text) for text in texts]
    denoisers, failures = [], []
    for spec, label in zip(specs, labels_of(specs, labels), strict=True):
        try:
            denoisers.append(open_denoiser(spec, label))
        except InputError as error:
            failures.append(str(error))
    if failures and not denoisers:
        raise InputError(failures[0])
    return denoisers, failures


def common_channels(denoisers: Sequence[Denoiser]) -> int:
    """How many channels they take; 1 where any number will do.

    Raises:
        InputError: where they differ.
    """
    by_channels: dict[int, str] = {}
    for each in denoisers:
        if each.channels is not None:
            by_channels.setdefault(each.channels, each.entry.label)
    if len(by_channels) > 1:
        takers = ' and '.join(f'{label} takes {count}' for count, label in sorted(by_channels.items()))
        raise InputError(f'networks that are compared take the same number of channels: {takers}; run them apart')
    return next(iter(by_channels), 1)


def identity() -> Denoiser:
    """The network that leaves the image as it is."""
    entry = Entry(IDENTITY, IDENTITY)
    return Denoiser(entry, nn.Identity(), lambda noisy, _: noisy, None, False, IDENTITY)


def _from_option_file(spec: Spec) -> Loaded:
    options = read_yaml(spec.file)
    if not isinstance(options.get('network_g'), dict):
        raise InputError(f'{spec.file}: network_g is missing, which says what network this is')
    weights = (options.get('path') or {}).get('pretrain_network_g')
    if not weights:
        raise InputError(f'{spec.file}: path:pretrain_network_g is missing, the file of the weights')
    try:
        network = build_arch(options['network_g'])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f'{spec.file}: network_g: {error.args[0] if error.args else error}') from error
    checkpoint.load_network(network, weights, param_key=(options.get('path') or {}).get('param_key_g', 'params'))
    train_set = (options.get('datasets') or {}).get('train') or {}
    noise = TrainingNoise.from_options(train_set) if train_set.get('noise') else None
    if spec.wrap:
        network = wrap_zero_shot(network, None if spec.sigma255 is None else spec.sigma255 / 255)
    return Loaded(any_size(network), f'network_g of {Path(spec.file).name}, weights {Path(weights).name}', noise)


def _levels255(noise: TrainingNoise | None) -> tuple[float, ...]:
    # converted to the unit interval and back: what was 25 is 25 again
    return tuple(round(255 * sigma, 6) for sigma in noise.sigmas) if noise else ()


def _call(network: nn.Module, needs_sigma: bool) -> Callable[[Tensor, Tensor | None], Tensor]:
    def call(noisy: Tensor, sigma: Tensor | None) -> Tensor:
        output = network(noisy, sigma=sigma) if needs_sigma else network(noisy)
        if output.shape != noisy.shape:
            got, wanted = (tuple(x.shape[1:]) for x in (output, noisy))
            raise InputError(f'a denoiser returns images of the shape it is given; {wanted} became {got}')
        return output

    return call


def _digest(network: nn.Module) -> str:
    """Of weights, buffers, architecture and settings: what ``repr`` shows and every plain attribute of every module."""
    settings = [repr(network)]
    for name, module in network.named_modules():
        plain = {k: v for k, v in vars(module).items() if isinstance(v, (int, float, str, bool, tuple))}
        settings.append(repr((name, sorted(plain.items()))))
    return checkpoint.digest(network.state_dict(), ''.join(settings))
