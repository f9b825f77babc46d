"""The parameter-free wrappers: z = (y - shift) / scale, then scale g(z) + shift, or y - scale h(z).

``WNE``, ``WSE`` and ``InputNorm`` are this one formula with different statistics and with or without the way back;
every registered image-to-image network X is also reachable, wrapped, as ``XWNE``.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from ne_basicsr.archs.backbone import BackboneHolder
from ne_basicsr.archs.network_inputs import is_non_blind
from ne_basicsr.ops import equivariance
from ne_basicsr.ops.equivariance import Statistics, denormalize, normalize
from ne_basicsr.ops.magnitude import nonzero
from ne_basicsr.ops.noise_level import noise_level
from ne_basicsr.ops.padding import pad_to_multiple


class Target(NamedTuple):
    """Where normalized images are moved to: z' = scale z + mean. (0, 1) leaves them normalized."""

    mean: float = 0.0
    scale: float = 1.0


class Measured(NamedTuple):
    """Of whole images: what they are normalized by, ``target`` included in the scale, and the estimated level, (N,)."""

    pair: Statistics
    level: Tensor | None


class Wrapper(BackboneHolder):
    """A network between its input's normalization and the way back.

    Args:
        backbone: maps (N, C, H, W) to (N, C', rH, rW); a module, or the options of a registered network with its
            ``type``.
        prediction: what ``backbone`` returns as it stands: ``direct``, the image, or ``residual``, the noise. DnCNN and
            SwinIR contain their own input skip and are ``direct``.
        statistics: name of the (shift, scale) pair, one of ``STATISTICS``.
        correction: 0, the standard deviation of the paper's formula, or 1, the one of the paper's code (``mean_std``).
        target: ``{mean: 0.45, scale: 0.25}`` moves normalized images into the range that pretrained weights know; with
            ``mean_noise`` ``{mean: 0.45, sigma255: 25}``, the noise to the level that they were trained at.
        size_multiple: what the backbone needs height and width to be a multiple of, where its class does not say so.
        estimate: whether a non-blind backbone is told the estimated noise level (``noise_level``) where none is given.
            It can then be trained and used as a blind one, and still be told.

    Input: (N, C, H, W), nominally in [0, 1], not clipped, any height and width. Statistics join C, H and W, one pair
    per image, in float32 or better whatever the autocast type; the result has the input's type.

    Raises:
        ValueError: for an unknown prediction, statistics or target, or an estimate for a blind backbone, at
            construction; for an input that is not 4-D, or a residual of another shape than the input.

    Reference: Saied and Fleuret, ICML 2026, eq. (7). No epsilon: a constant image maps to itself, exactly.
    """

    STATISTICS: ClassVar[dict[str, Callable[..., Statistics]]]
    returns_to_input_range = True

    def __init__(
        self,
        backbone: nn.Module | Mapping[str, Any],
        prediction: str = 'direct',
        statistics: str | None = None,
        correction: int = 0,
        target: Mapping[str, float] | None = None,
        size_multiple: int | None = None,
        estimate: bool = False,
    ) -> None:
        super().__init__(backbone, size_multiple)
        name, inner = type(self).__name__, getattr(self.backbone, 'network', self.backbone)  # a Denoiser's
        if isinstance(inner, Wrapper) and inner.returns_to_input_range:
            raise ValueError(f'the network is already wrapped in {type(inner).__name__}: leave {name} out.')
        self.statistics = next(iter(self.STATISTICS)) if statistics is None else statistics
        if self.statistics not in self.STATISTICS:
            raise ValueError(f'{name} needs statistics {" or ".join(self.STATISTICS)}; got {statistics!r}.')
        self._function = self.STATISTICS[self.statistics]  # the compiler of torch 2.6 reads no mapping of a class
        if prediction not in ('direct', 'residual'):
            raise ValueError(f"prediction must be 'direct' or 'residual'; got {prediction!r}.")
        if correction not in (0, 1) or (correction == 1 and self.statistics != 'mean_std'):
            raise ValueError(f'correction must be 0, or 1 with statistics mean_std; got {correction!r}.')
        if estimate and not is_non_blind(self.backbone):
            raise ValueError('estimate: true is for backbones with blind: false, which are told the noise level.')
        self.prediction = prediction
        self.estimates_noise = estimate
        self.correction = correction
        self.target = _parse_target(target, self.statistics)

    def measure(self, y: Tensor, sigma: float | Tensor | None = None, *_: object) -> Measured:
        """Measure the images y (N, C, H, W); the level only with ``estimate`` and without ``sigma``."""
        function = self._function
        pair = function(y, self.correction) if self.statistics == 'mean_std' else function(y)
        level = noise_level(y).flatten() if self.estimates_noise and sigma is None else None
        return Measured(Statistics(pair.shift, pair.scale / self.target.scale), level)

    def forward(self, y: Tensor, sigma: float | Tensor | None = None) -> Tensor:
        """Restore y; ``sigma``, on y's scale, reaches non-blind backbones on the scale that they see."""
        if not isinstance(y, Tensor) or y.dim() != 4 or not y.is_floating_point():
            got = f'{y.dtype} of shape {tuple(y.shape)}' if isinstance(y, Tensor) else type(y).__name__
            raise ValueError(f'{type(self).__name__} needs floating-point tensors (N, C, H, W); got {got}.')
        return self.restore(y, self.measure(y, sigma), sigma)

    def restore(self, y: Tensor, measured: Measured, sigma: float | Tensor | None = None) -> Tensor:
        """As ``forward`` of y (N, C, H, W) with given statistics: those of whole images, where y are parts of them."""
        pair, level = measured
        sigma = level if sigma is None else sigma
        z = normalize(y, pair)
        if self.target.mean:
            z = z + self.target.mean
        # after the statistics, which padding would change
        z, (height, width) = pad_to_multiple(z.to(y.dtype), self.pad_to)
        if sigma is None:
            output = self.backbone(z)
        else:
            sigma = torch.as_tensor(sigma, dtype=pair.scale.dtype, device=y.device)
            output = self.backbone(z, sigma=(sigma / nonzero(pair.scale).flatten()).to(y.dtype))
        ratio = output.shape[-1] // z.shape[-1]
        output = output[..., : height * ratio, : width * ratio]
        return self._way_back(y, output, pair).to(y.dtype)

    def _way_back(self, y: Tensor, output: Tensor, pair: Statistics) -> Tensor:
        if self.prediction == 'direct':
            if self.returns_to_input_range:
                return denormalize(output - self.target.mean if self.target.mean else output, pair)
            return output
        if output.shape != y.shape:
            raise ValueError(
                f"prediction 'residual' needs a backbone that returns the input's shape {tuple(y.shape)}; it returned"
                f" {tuple(output.shape)}: use prediction 'direct'."
            )
        if self.returns_to_input_range:
            return torch.addcmul(y.to(pair.scale.dtype), output.to(pair.scale.dtype), pair.scale, value=-1)
        return y - output

    def extra_repr(self) -> str:
        return f'prediction={self.prediction}, statistics={self.statistics}, correction={self.correction}'


@ARCH_REGISTRY.register()
class WNE(Wrapper):
    """Normalization-equivariant wrapper: f(a y + b) = a f(y) + b for a > 0. Arguments as ``Wrapper``."""

    STATISTICS: ClassVar = {
        'mean_std': equivariance.mean_std,
        'min_max': equivariance.min_max,
        'mean_noise': equivariance.mean_noise,
    }


@ARCH_REGISTRY.register()
class WSE(Wrapper):
    """Scale-equivariant wrapper: f(a y) = a f(y) for a > 0, no shift. Arguments as ``Wrapper``."""

    STATISTICS: ClassVar = {'root_mean_square': equivariance.root_mean_square}


@ARCH_REGISTRY.register()
class InputNorm(Wrapper):
    """Input-only ablation: g(z), or y - h(z), without the way back; not equivariant. Arguments as ``Wrapper``."""

    STATISTICS: ClassVar = {'mean_std': equivariance.mean_std, 'min_max': equivariance.min_max}
    returns_to_input_range = False


def register_wrapped_archs() -> None:
    """Register ``XWNE`` for every image-to-image network X, those registered from now on included."""
    for name, arch in list(ARCH_REGISTRY):
        _register_wrapped(name, arch)
    register = ARCH_REGISTRY._do_register

    def register_both(name: str, obj: Any, suffix: str | None = None) -> None:
        register(name, obj, suffix)
        _register_wrapped(name, obj)

    ARCH_REGISTRY._do_register = register_both


def is_image_to_image(name: str) -> bool:
    """Whether a registered network takes images to images: those have a wrapped one beside them, or are wrapped."""
    arch = ARCH_REGISTRY.get(name)
    is_wrapped = inspect.isclass(arch) and issubclass(arch, BackboneHolder)
    return is_wrapped or name.removesuffix('_basicsr') + 'WNE' in ARCH_REGISTRY


# BasicSR's networks that take one tensor and are no image-to-image networks: they map to scores, or from videos
_OTHER_TASKS = ('Discriminator', 'FeatureExtractor', 'StyleGAN2', 'EDVR', 'VSR', 'TOFlow', 'DUF')


def _register_wrapped(name: str, arch: Any) -> None:
    name = name.removesuffix('_basicsr') + 'WNE'
    if name in ARCH_REGISTRY or not inspect.isclass(arch) or not issubclass(arch, nn.Module):
        return
    required = [p for p in _parameters(arch.forward)[1:] if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if issubclass(arch, BackboneHolder) or len(required) != 1 or any(word in name for word in _OTHER_TASKS):
        return
    wrapped = _wrapped_class(name, arch)
    globals()[name] = wrapped  # so that networks can be pickled
    ARCH_REGISTRY._obj_map[name] = wrapped


def _wrapped_class(name: str, arch: type[nn.Module]) -> type[WNE]:
    own = {parameter.name: parameter for parameter in _parameters(WNE.__init__)[2:]}  # without self and backbone

    def __init__(self: WNE, **options: Any) -> None:  # noqa: N807 - becomes the class's own
        wrapper_options = {key: options.pop(key) for key in own if key in options}
        WNE.__init__(self, arch(**options), **wrapper_options)

    of_backbone = [p for p in _parameters(arch.__init__) if p.kind is not p.VAR_KEYWORD and p.name not in own]
    keyword_only = [p.replace(kind=p.KEYWORD_ONLY) for p in (*of_backbone[1:], *own.values())]
    __init__.__signature__ = inspect.Signature([of_backbone[0], *keyword_only])  # type: ignore[attr-defined]
    doc = f'``WNE`` around ``{arch.__name__}``, with the options of both in one place.'
    return type(name, (WNE,), {'__init__': __init__, '__doc__': doc, '__module__': __name__})


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


def _parse_target(target: Mapping[str, float] | None, statistics: str) -> Target:
    given = dict(target or {})
    scale = 'sigma255' if statistics == 'mean_noise' else 'scale'
    if unknown := set(given) - {'mean', scale}:
        got = ', '.join(sorted(unknown))
        raise ValueError(f'target takes mean and {scale} with statistics {statistics}; got {got}.')
    value = given.get('sigma255', 255) / 255 if scale == 'sigma255' else given.get('scale', 1)
    if not value > 0:
        raise ValueError(f'target {scale} must be positive; got {given[scale]}.')
    return Target(given.get('mean', 0), value)


register_wrapped_archs()
