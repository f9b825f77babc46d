"""A denoiser: a network or function that is ready to call, with the facts that callers need."""

import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ne_basicsr.archs.backbone import BackboneHolder
from ne_basicsr.archs.network_inputs import GRAY_OR_COLOUR, REFUSALS, Facts, facts_of, is_non_blind
from ne_basicsr.archs.zero_shot_arch import ZeroShot
from ne_basicsr.ops.equivariance import ne_defect
from ne_basicsr.ops.noise import LevelRange
from ne_basicsr.ops.padding import crop, pad_to_multiple
from ne_basicsr.utils.errors import InputError, first_line
from ne_basicsr.utils.words import shown
from ne_basicsr.weights import checkpoint

SIDE = 64  # pixels per side of the images for measuring facts; every backbone of this package accepts them
EQUIVARIANT = 1e-3  # relative defect; rounding is far below, also in bfloat16, and plain networks are above
_SIGMA = 0.1  # noise level passed to non-blind networks for this

Level = TypeVar('Level')


class Entry(NamedTuple):
    """A denoiser in tables, figures and JSON."""

    label: str  # name, unique in a comparison
    source: str  # the command-line argument that named it
    description: str = ''  # the network and the layout of its file; empty for the identity
    parameters: int = 0  # number of parameters
    # training noise in 8-bit units: one level, several, or a ``LevelRange``; empty if unknown
    training_levels255: tuple[float, ...] = ()


class Denoiser(nn.Module):
    """A network that is ready to call. It maps images y (N, C, H, W) of any height and width to (N, C', rH, rW).

    Called with a numpy array (H, W) or (H, W, C), it returns an array; the arguments are those of
    ``ne_basicsr.denoise``. Its parameters and its state dict are those of ``network``.

    Args:
        network: a module, or a function of y, and also of ``sigma`` if it is non-blind.
        label: name in tables; default: the name of the function or class.
        source: the file or argument that it was opened from.
        description: description of the network for people.
        training_levels255: training noise in 8-bit units: one level, several, or an ``ops.noise.LevelRange``.
        knows: of ``ops.noise_kinds.TRAITS``, what its training noise had: such noise is left to it.
        needs_sigma: whether the network is non-blind. None: true if the network has ``blind = False`` or a ``sigma``
            argument without default.
        digest: identifies a function; equal only for equal functions. For networks it is computed.
        dtype: the only number type that a function accepts; None: any.
        shape: the N, C, H and W that it accepts; None stands for any value.

    Attributes:
        takes_sigma: whether it accepts a noise level. Non-blind networks need one; zero-shot networks estimate it if it
            is not given.
        size_multiple: the network needs height and width to be multiples of this. Images of other sizes are
            reflect-padded on the right and bottom, and the result is cropped.
    """

    def __init__(
        self,
        network: nn.Module | Callable[..., Tensor],
        *,
        label: str = '',
        source: str = '',
        description: str = '',
        training_levels255: Sequence[float] = (),
        knows: Collection[str] = (),
        needs_sigma: bool | None = None,
        digest: str | None = None,
        dtype: torch.dtype | None = None,
        shape: Sequence[int | None] = (None,) * 4,
    ) -> None:
        super().__init__()
        if not callable(network) or isinstance(network, type):
            way_out = (
                'ne_basicsr.load opens files and shipped models' if isinstance(network, str) else 'make an instance'
            )
            got = f'{network!r}: {way_out}' if isinstance(network, str | type) else repr(network)
            raise InputError(f'a denoiser is made of a network or a function of images; got {got}')
        self.network: Any = network
        self.label = label or getattr(network, '__name__', type(network).__name__)
        self.source, self.description = source or self.label, description
        is_range = isinstance(training_levels255, LevelRange)  # which is a tuple already
        self.training_levels255 = tuple(training_levels255) if not is_range else LevelRange(*training_levels255)
        self.knows = frozenset(knows)
        self._digest, self.dtype = digest, dtype
        self.shape = tuple(shape)
        self._found: dict[str, tuple[Any, Any]] = {}
        takes, needs = _sigma_of(network)
        self.needs_sigma = needs if needs_sigma is None else needs_sigma
        self.takes_sigma = takes or self.needs_sigma
        self.size_multiple = int(getattr(network, 'size_multiple', 1))
        self.training = getattr(network, 'training', False)
        self._register_state_dict_hook(_without_prefix)
        self.register_load_state_dict_pre_hook(_with_prefix)

    @classmethod
    def of_arrays(cls, function: Callable[..., Any], **named: Any) -> 'Denoiser':
        """A function of one array, (H, W) or (H, W, C) on [0, 1], to an array of the same shape, as a denoiser.

        Args:
            function: may have an argument ``sigma``, the noise level on [0, 1].
            named: as for the class.
        """
        takes, needs = _sigma_of(function)

        def network(y: Tensor, sigma: Tensor | None = None) -> Tensor:
            outputs = []
            for number, image in enumerate(y.detach().cpu().movedim(1, -1).numpy()):
                given = {'sigma': float(sigma[number])} if takes and sigma is not None else {}
                output = np.asarray(function(image[..., 0] if image.shape[-1] == 1 else image, **given))
                outputs.append(torch.from_numpy(output.reshape(image.shape).copy()).movedim(-1, 0))
            return torch.stack(outputs).to(y)

        named = {'label': getattr(function, '__name__', ''), 'needs_sigma': needs} | named
        return cls(network, **named)

    def __call__(self, y: Any, *arguments: Any, **named: Any) -> Any:
        if isinstance(y, np.ndarray):
            from ne_basicsr.inference.pixels import denoise  # which imports this module

            return denoise(self, y, *arguments, **{'noise' if key == 'sigma' else key: v for key, v in named.items()})
        return super().__call__(y, *arguments, **named)

    def __repr__(self) -> str:
        entry, like = self.entry, self.like
        type_, told = str(like.dtype).removeprefix('torch.'), 'non-blind' if self.needs_sigma else 'blind'
        about = entry.description or type(self.network).__name__
        return f'Denoiser({self.source}: {about}, {told}, {entry.parameters:,} parameters, {type_}, {like.device})'

    def forward(self, y: Tensor, sigma: float | Sequence[float] | Tensor | None = None) -> Tensor:
        """Restore y.

        Args:
            y: (N, C, H, W), any value range, finite.
            sigma: noise level on the scale of y, one value or N.

        Raises:
            InputError: for what is no floating-point tensor (N, C, H, W); images of a type, device or channel count
                that the network refuses; a noise level that is missing, not accepted, negative, larger than every value
                of y, or neither one value nor N.
        """
        if not isinstance(y, Tensor) or y.dim() != 4 or not y.is_floating_point():
            raise InputError(_no_images(y))
        try:
            return self._run(y, sigma)
        except REFUSALS as error:  # looked into only here, so that no call pays for it
            if reason := None if isinstance(error, InputError) else self._reason(y):
                raise InputError(f'{self.source}: {reason}') from error
            raise

    def _run(self, y: Tensor, sigma: float | Sequence[float] | Tensor | None = None) -> Tensor:
        if any(side not in (None, own) for side, own in zip(self.shape, y.shape, strict=False)):
            wanted, got = ('x'.join('any' if side is None else str(side) for side in s) for s in (self.shape, y.shape))
            raise InputError(f'{self.source}: takes images {wanted}; got {got}')
        given = {} if sigma is None and not self.needs_sigma else {'sigma': self._levels(sigma, y)}
        padded, (height, width) = pad_to_multiple(y, self.size_multiple)
        output = self.network(padded if self.dtype is None else padded.to(self.dtype), **given)
        if self.dtype is not None:
            output = output.to(y)
        if self.size_multiple == 1:
            return output
        ratio = output.shape[-1] // padded.shape[-1]
        return crop(output, height * ratio, width * ratio)

    def denoise(self, y: Tensor, sigma: float | Sequence[float] | Tensor | None = None) -> Tensor:
        """As calling it, for images that must keep their shape.

        Raises:
            InputError: if they do not.
        """
        output = self(y, sigma)
        if output.shape != y.shape:
            given, got = tuple(y.shape[1:]), tuple(output.shape[1:])
            raise InputError(f'a denoiser must keep the shape of its images; {given} became {got}')
        return output

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Within it the network is in eval mode; then its modules are as they were."""
        training = [module for module in self.modules() if module.training]
        self.eval()
        try:
            yield
        finally:
            for module in training:
                module.training = True

    def needed(self, sigma: Level) -> Level | None:
        """``sigma`` if the network needs a noise level, else None."""
        return sigma if self.needs_sigma else None

    def check_level(self, sigma: Any, y: Any = None) -> None:
        """Raise InputError for a noise level that the network does not accept, or that is not finite and above 0.

        Args:
            y: images, array or tensor. A level above 1 that is larger than all their values is refused as well: it is
                in 8-bit units.
        """
        if sigma is None:
            return
        if not self.takes_sigma:
            raise InputError('this network is blind and takes no noise level; leave it out')
        if not isinstance(sigma, int | float | np.number) or not 0 < sigma < float('inf'):
            raise InputError(f'the noise level must be one number, finite and above 0; got {shown(sigma)}')
        if y is not None and sigma > 1 and 0 < (largest := float(abs(y).max())) < sigma:
            raise InputError(
                f'the noise level is on the scale of the images, whose largest value is {largest:.3g}; got'
                f' {float(sigma):g}: divide it by 255'
            )

    # -- facts ---------------------------------------------------------------------------------------------------------

    @property
    def entry(self) -> Entry:
        count = sum(parameter.numel() for parameter in self.parameters())
        return Entry(self.label, self.source, self.description, count, self.training_levels255)

    @property
    def is_identity(self) -> bool:
        """Whether it returns every image unchanged, with any number of channels."""
        return isinstance(self.network, nn.Identity)

    @property
    def like(self) -> Tensor:
        """An empty tensor with the network's number type and device."""
        return next(self.parameters(), torch.empty(0, dtype=self.dtype))

    @cached_property
    def facts(self) -> Facts:
        """Channels, scale and other facts: declared by the network or, for channels and scale, measured once.

        To measure them, the network is run on an image of 64x64 pixels with the channels of its first convolution, or 1
        or 3.

        Raises:
            InputError: if the network runs with none of these channel counts.
        """
        said = facts_of(self.network) if isinstance(self.network, nn.Module) else Facts()
        said = replace(said, needs_sigma=self.needs_sigma)
        if said.in_channels is not None:
            return said
        modules = self.network.modules() if isinstance(self.network, nn.Module) else ()
        first = [module.in_channels for module in modules if isinstance(module, nn.Conv2d)][:1]
        problems: list[Exception] = []
        candidates = [self.shape[1]] if self.shape[1] else list(dict.fromkeys([*first, *GRAY_OR_COLOUR]))
        for channels in candidates:
            image = self._image(channels)
            try:
                with torch.no_grad(), self.evaluating():
                    output = self._run(image, self.needed(_SIGMA))
            except REFUSALS as error:
                problems.append(error)
            else:
                if not isinstance(output, Tensor) or output.dim() != 4:
                    got = tuple(output.shape) if isinstance(output, Tensor) else f'a {type(output).__name__}'
                    raise InputError(f'{self.source}: returns no images but {got}: a classifier, or several results?')
                scale = output.shape[-1] // image.shape[-1]
                return replace(said, in_channels=channels, out_channels=output.shape[1], scale=scale)
        counts, size = ', '.join(map(str, candidates)), 'x'.join(map(str, image.shape[2:]))
        raise InputError(
            f'{self.source}: does not run on images of {counts} channels and {size} pixels: {first_line(problems[0])}'
        ) from problems[0]

    @property
    def channels(self) -> int:
        """Number of channels C of its input images; 1 for the identity."""
        channels = self.facts.in_channels
        assert channels is not None, 'measured if not declared'
        return channels

    @property
    def is_equivariant(self) -> bool:
        """Whether f(a y + b) = a f(y) + b holds without a given noise level, measured on one image with two (a, b)."""
        if self.needs_sigma:
            return False

        def measured() -> bool:
            with torch.no_grad(), self.evaluating():
                return bool(ne_defect(self, self._image(self.channels), samples=2).max() < EQUIVARIANT)

        return self._known('is_equivariant', measured)

    @property
    def digest(self) -> str:
        """Hash of weights, architecture and wrapper: equal only if all of them are."""
        return self._digest or self._known('digest', self._own_digest)

    def _own_digest(self) -> str:
        settings = [repr(self.network), *(repr(m.network) for m in self.network.modules() if isinstance(m, Denoiser))]
        for name, module in self.network.named_modules():
            plain = {k: v for k, v in vars(module).items() if isinstance(v, (int, float, str, bool, tuple))}
            settings.append(repr((name, sorted(plain.items()))))
        return checkpoint.digest(self.network.state_dict(), ''.join(settings))

    def _known(self, name: str, find: Callable[[], Level]) -> Level:
        """What ``find`` returns; kept as long as the weights stay what they are."""
        state = (self.like.dtype, *(tensor._version for tensor in chain(self.parameters(), self.buffers())))
        if self._found.get(name, (None, None))[0] != state:
            self._found[name] = state, find()
        return self._found[name][1]

    def require_image_to_image(self, only: Sequence[int] = GRAY_OR_COLOUR) -> None:
        """Raise InputError unless images keep their shape and the channel count is in ``only`` (empty: any)."""
        if self.is_identity:
            return
        channels, facts = self.channels, self.facts
        if only and channels not in only:
            counts = ' or '.join(map(str, only))
            raise InputError(f'{self.source}: takes images of {channels} channels; this needs {counts}')
        if (facts.out_channels, facts.scale) != (channels, 1):
            how = f'enlarges them {facts.scale} times' if facts.scale > 1 else 'changes their size'
            how = f'returns {facts.out_channels} channels for {channels}' if facts.scale == 1 else how
            raise InputError(f'{self.source}: a denoiser must keep the shape of its images; this network {how}')

    def _image(self, channels: int) -> Tensor:
        batch, _, height, width = (
            side or default for side, default in zip(self.shape, (1, 1, SIDE, SIDE), strict=True)
        )
        generator = torch.Generator().manual_seed(0)
        return torch.rand(batch or 1, channels, height or SIDE, width or SIDE, generator=generator).to(self.like)

    def _levels(self, sigma: float | Sequence[float] | Tensor | None, y: Tensor) -> Tensor:
        """(N,)"""
        if sigma is None:
            raise InputError('this network is non-blind and needs the noise level; call denoiser(y, sigma)')
        if not self.takes_sigma:
            raise InputError('this network is blind and takes no noise level; leave sigma out')
        if not isinstance(sigma, Tensor):  # reading a tensor's values would wait for a GPU
            for level in np.ravel(np.asarray(sigma)).tolist():
                if level != 0:  # as for constant images
                    self.check_level(level, y)
        levels = torch.as_tensor(sigma, dtype=self.dtype or y.dtype, device=y.device).flatten()
        if levels.shape[0] not in (1, y.shape[0]):  # not len(), which would become a constant in an exported graph
            raise InputError(f'sigma must be one value or one for each of the {len(y)} images; got {len(levels)}')
        return levels.expand(y.shape[0])

    def _reason(self, y: Tensor) -> str:
        """Why the network refuses images (N, C, H, W), where that is known; else empty."""
        like, shape = self.like, tuple(y.shape)
        if 0 in shape:
            return f'images need pixels, and a batch an image; got shape {shape}'
        if y.device != like.device:
            return f'the network is on {like.device}, the images on {y.device}: y.to({str(like.device)!r})'
        try:
            channels = self.channels
        except InputError:
            return ''  # it runs on no image
        if shape[1] != channels:
            is_colour = (shape[1], channels) == (3, 1)
            way_out = '; ne_basicsr.denoise takes colour images for gray networks' if is_colour else ''
            return f'takes images of {channels} channel(s); got shape {shape}{way_out}'
        types = [str(dtype).removeprefix('torch.') for dtype in (like.dtype, y.dtype)]
        problem = f'the network computes in {types[0]}; got {types[1]}: y.to(torch.{types[0]})'
        return problem if y.dtype != like.dtype else ''


def as_denoiser(network: nn.Module | Callable[..., Tensor]) -> Denoiser:
    """``network`` itself if it is a ``Denoiser``, otherwise a ``Denoiser`` around it."""
    return network if isinstance(network, Denoiser) else Denoiser(network)


def _no_images(y: object) -> str:
    rule = 'a denoiser takes floating-point tensors (N, C, H, W), or arrays (H, W) or (H, W, C) of numpy'
    if not isinstance(y, Tensor):
        return f'{rule}; got {type(y).__name__}'
    if not y.is_floating_point():
        return f'{rule}; got {str(y.dtype).removeprefix("torch.")}: divide by its largest number, y / 255 for 8 bits'
    way_out = {2: ': y[None, None]', 3: ': y[None] if it is one image (C, H, W)'}.get(y.dim(), '')
    return f'{rule}; got shape {tuple(y.shape)}{way_out}'


def _without_prefix(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let the state dict have the keys of the network."""
    for key in [key for key in state_dict if key.startswith(f'{prefix}network.')]:
        state_dict[prefix + key.removeprefix(f'{prefix}network.')] = state_dict.pop(key)


def _with_prefix(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    for key in [key for key in state_dict if key.startswith(prefix)]:
        state_dict[f'{prefix}network.{key.removeprefix(prefix)}'] = state_dict.pop(key)


def _sigma_of(network: nn.Module | Callable[..., Tensor]) -> tuple[bool, bool]:
    """(whether a network accepts a noise level, whether it needs one)"""
    if isinstance(network, BackboneHolder):
        takes, needs = _sigma_of(network.backbone)
        estimates = getattr(network, 'estimates_noise', False)
        return takes or isinstance(network, ZeroShot), needs and not estimates
    if isinstance(inner := getattr(network, 'denoiser', network), Denoiser):  # Tiled
        return inner.takes_sigma, inner.needs_sigma
    if isinstance(network, nn.Module) and hasattr(network, 'blind'):
        return not network.blind, not network.blind
    try:
        called = network.forward if isinstance(network, nn.Module) else network
        sigma = inspect.signature(called).parameters.get('sigma')
    except (TypeError, ValueError):  # a builtin
        sigma = None
    needs = sigma is not None and sigma.default is sigma.empty
    needs = needs or (isinstance(network, nn.Module) and is_non_blind(network))
    return sigma is not None or needs, needs
