"""Load networks from checkpoints with a known layout."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from ne_basicsr.archs import own_networks
from ne_basicsr.archs.backbone import BackboneHolder, backbone_of, build_arch
from ne_basicsr.archs.network_inputs import GRAY_OR_COLOUR, REFUSALS, is_non_blind
from ne_basicsr.archs.wne_arch import WNE
from ne_basicsr.archs.zero_shot_arch import ZeroShot
from ne_basicsr.inference.denoiser import Denoiser
from ne_basicsr.inference.training_level import training_levels
from ne_basicsr.ops.noise import LevelRange, TrainingNoise
from ne_basicsr.ops.noise_kinds import QUANTILE, TRAITS
from ne_basicsr.utils.errors import InputError, first_line, one_line
from ne_basicsr.utils.file_names import printable
from ne_basicsr.weights import checkpoint, formats, matching
from ne_basicsr.weights.formats import Layout
from ne_basicsr.weights.formats.paper_run import find_run
from ne_basicsr.weights.spandrel_arch import find_layout, with_weights


def load_checkpoint(
    path: Path | str,
    wrap: bool = False,
    sigma: float | None = None,
    allow: Sequence[type] = (),
    param_key: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Denoiser:
    """The denoiser of a checkpoint, on the CPU; arguments and errors as for ``opening.load``."""
    content = checkpoint.read(path, allow)
    chosen = dict(options or {})
    layout = layout_of(path, content, param_key, chosen.pop('type', None))
    try:
        network = restore(layout, chosen)
        noise = training_noise(content)
        logging.getLogger('basicsr').info(f'{path}: recognised {layout}.')
        levels = levels255(noise)
        if wrap:
            network, levels = wrap_zero_shot(network, sigma, noise, str(path))
    except InputError as error:
        raise InputError(f'{path}: {one_line(error)}') from error
    description = f'{layout}{as_wrapped(network, levels, sigma is None and noise is None)}' if wrap else str(layout)
    return Denoiser(
        network.eval(),
        label=Path(path).stem,
        source=printable(str(path)),
        description=printable(description),
        training_levels255=levels,
        knows=_known(content, noise),
    )


def layout_of(path: Path | str, content: Any, param_key: str | None = None, kind: str | None = None) -> Layout:
    """The layout of a checkpoint's ``content``.

    Args:
        kind: type of the network; default: from the file.

    Raises:
        InputError: for an unknown layout, or an unknown wrapper; the message contains ``path``.
    """
    try:
        weights, key = checkpoint.select_weights(content, param_key or 'params_ema')
        layout = checkpoint.described(content, weights) or formats.recognise(weights, key) or find_layout(weights)
        if layout is None:
            raise InputError(formats.explain_unknown(weights))
        if layout.is_complete:
            own_networks.check_imported(layout.options, content[checkpoint.METADATA].get(own_networks.IMPORTS))
            matching.check_description(layout.options, weights)
        if kind is not None:
            return retyped(layout, kind)
        return _from_its_run(path, layout) if layout.wrapper_is_unknown else layout
    except InputError as error:
        raise InputError(f'{path}: {one_line(error)}') from error


def retyped(layout: Layout, kind: str) -> Layout:
    """The same weights for another type: another wrapper, no wrapper, or another class with the same keys.

    Raises:
        InputError: for a type that is not a registered image-to-image network.
    """
    matching.check_type(kind)
    arch = ARCH_REGISTRY.get(kind)
    if kind == layout.options['type'] and not layout.wrapper_is_unknown:
        return layout
    held = backbone_of(layout.options)
    weights = layout.weights
    if held is not None:
        weights = {key.removeprefix('backbone.'): value for key, value in weights.items()}
    plain = layout._replace(options=dict(held or layout.options), weights=weights)
    if not issubclass(arch, BackboneHolder):
        note = plain.note if kind == plain.options['type'] else ''  # it is about the type that was assumed
        return plain._replace(options={**plain.options, 'type': kind}, wrapper_is_unknown=False, note=note)
    wrapper = matching.wrapper_of(arch)
    wrapped = (
        formats.as_trained(plain, wrapper) if layout.wrapper_is_unknown else formats.in_wrapper(plain, str(wrapper))
    )
    if kind == wrapper:
        return wrapped
    options = {key: value for key, value in wrapped.options.items() if key != 'backbone'}
    return wrapped._replace(options={**plain.options, **options, 'type': kind})  # DnCNNWNE


def _from_its_run(path: Path | str, layout: Layout) -> Layout:
    """The layout of a file of the WNE paper's code, with the wrapper from its run's config.json."""
    plain, run = layout.options['type'], find_run(path)
    if run is None:
        raise InputError(
            f'{layout.name}, whose files do not record whether the network is plain (runs b_*, se_*, ne_*), in WNE'
            f" (wne_*) or in InputNorm (wnei_*): pass options={{'type': '{plain}'}}, 'WNE' or 'InputNorm', or on the"
            f" command line FILE={plain}, FILE=WNE or FILE=InputNorm; or put the run's config.json beside the file"
        )
    if run.wrapper is None and run.prediction not in (None, 'direct'):
        raise InputError(f'its config.json has pred_mode {run.prediction!r}, which plain networks do not support here')
    if plain == 'FDnCNN' and run.mode is not None:
        layout = layout._replace(options={**layout.options, 'mode': run.mode}, note='')
    return formats.as_trained(layout, run.wrapper, run.prediction)


def restore(layout: Layout, options: Mapping[str, Any]) -> nn.Module:
    """The network of a layout, with some of its options replaced.

    Raises:
        InputError: if the network cannot be built, is larger than the weights, or does not fit them.
    """
    chosen = {**layout.options, **options}
    if layout.is_complete:
        matching.check_description(layout.options, layout.weights)
    try:
        with matching.no_larger_than(layout.weights):
            network = build_arch(with_weights(chosen, layout.weights))
    except InputError:
        raise
    except (*REFUSALS, AttributeError, MemoryError) as error:
        reason = error.args[0] if error.args else error
        raise InputError(f'cannot build {formats.describe(chosen)}: {reason}') from error
    weights = matching.fit(network, layout.weights)
    if problem := matching.explain_misfit(network, weights):
        raise InputError(f'recognised {layout.name}, but {problem}')
    network.load_state_dict(weights)
    return network


def training_noise(content: Any) -> TrainingNoise | None:
    """The training noise recorded in a checkpoint of this package; None if there is none."""
    metadata = content.get(checkpoint.METADATA) if isinstance(content, Mapping) else None
    noise = metadata.get('noise') if isinstance(metadata, Mapping) else None
    try:
        return TrainingNoise.from_options(noise) if noise else None
    except (*REFUSALS, AttributeError) as error:
        raise InputError(f'its record of the training noise is invalid: {first_line(error)}') from error


def _known(content: Any, noise: TrainingNoise | None) -> frozenset[str]:
    """Of ``TRAITS``, what the network learned of the noise in its training."""
    metadata = content.get(checkpoint.METADATA) if isinstance(content, Mapping) else None
    recorded = metadata.get(checkpoint.KNOWS) if isinstance(metadata, Mapping) else None
    known = recorded if isinstance(recorded, list) else []
    return noise.traits if noise else frozenset(trait for trait in TRAITS if trait in known)


def levels255(noise: TrainingNoise | None) -> tuple[float, ...]:
    """Training noise levels in 8-bit units, as a ``LevelRange`` if all between two; empty if unknown or not white."""
    if noise and (noise.kind not in QUANTILE or noise.qualities):
        return ()
    # rounded, since conversion to [0, 1] and back can change the last digits
    levels = tuple(round(255 * sigma, 6) for sigma in noise.sigmas) if noise else ()
    return LevelRange(*levels) if noise and noise.sigma_type in ('random', 'varying') else levels


def wrap_zero_shot(
    network: nn.Module, sigma: float | None = None, noise: TrainingNoise | None = None, name: str = 'the network'
) -> tuple[nn.Module, tuple[float, ...]]:
    """Make a network that was trained without the wrapper exactly normalization-equivariant, without training.

    A network of one training level is wrapped in ``ZeroShot``, which brings every image to this level. One of several
    levels is wrapped in ``WNE``, with a target that maps normalized images to the value range of photographs.

    Args:
        network: a denoiser, (N, C, H, W) to (N, C, H, W).
        sigma: the single noise level of its training, on the [0, 1] scale.
        noise: of its training, if it is recorded. If neither is given, a blind network is measured on photographs, see
            ``training_level``.
        name: of the network, in the log.

    Returns:
        (network, training noise in 8-bit units, see ``levels255``)

    Raises:
        InputError: for what does not return images of the size it takes, and needs more than images and a noise level.
    """
    if isinstance(network, BackboneHolder):
        kind = type(network).__name__
        raise InputError(f'the file already holds a wrapped network ({kind}): leave out +wne or --wne (wrap in Python)')
    if sigma is not None and is_non_blind(network):
        raise InputError(
            'the single training noise level, @25 or --training-sigma255 (sigma in Python), is for blind networks;'
            ' this one is non-blind: leave the level out'
        )
    _check_denoiser(network)
    levels = levels255(noise)
    if sigma is not None:
        levels = (255 * sigma,)
    elif noise is None and not is_non_blind(network):
        levels = _found_levels(network, name)
    if len(levels) == 1 and not is_non_blind(network):
        return ZeroShot(network, sigma255=levels[0]), levels
    # normalized noise is at most at the target's scale, which stays within the levels of the training
    scale = min(0.25, max(levels, default=255) / 255)
    return WNE(network, target={'mean': 0.45, 'scale': scale}), levels


def _check_denoiser(network: nn.Module) -> None:
    denoiser = Denoiser(network.eval(), source='it')
    try:
        denoiser.require_image_to_image(())
    except InputError as error:
        if error.__cause__ is None or isinstance(error.__cause__, TypeError):  # not: other sizes than it was tried with
            reason, way_out = str(error).removeprefix('it: '), 'open it without wrapping, or give a denoiser'
            raise InputError(f'+wne, wrap and --wne are for denoisers: {reason}; {way_out}') from None


def as_wrapped(network: nn.Module, levels: tuple[float, ...], is_measured: bool) -> str:
    """How ``wrap_zero_shot`` wrapped a network, with the ``levels`` that it returned, for the network's description."""
    about = ', wrapped without training'
    if not is_measured or is_non_blind(network):  # which is told the level of each image, and not measured
        return about
    found = f'in {type(network).__name__}, trained at noise {_words(levels)} of 255 as measured on photographs'
    return f'{about} {found if levels else "in WNE: the noise level of its training is unknown"}'


def settle(network: nn.Module, path: Path | str) -> float | None:
    """The level of a ``ZeroShot`` with ``sigma255: auto``, set to what the file of its weights says, else measured.

    Returns:
        The level in 8-bit units; None for other networks.

    Raises:
        InputError: where that is not one level.
    """
    if not isinstance(network, ZeroShot) or network.sigma is not None:
        return None
    content = checkpoint.read(path)
    layout = checkpoint.described(content, {})
    held = layout.options.get('sigma255') if layout and layout.options['type'] == 'ZeroShot' else None
    levels = (held,) if isinstance(held, int | float) else levels255(training_noise(content))
    levels = levels or _measured_levels(network.backbone)
    if len(levels) != 1:
        found = _words(levels) or 'none is recorded, none found on photographs'
        raise InputError(f'{path}: sigma255: auto needs weights of one training level ({found}): name it, or take WNE')
    network.sigma = levels[0] / 255
    return levels[0]


def _found_levels(network: nn.Module, name: str) -> tuple[float, ...]:
    """The noise levels of the training, measured and logged."""
    levels, logger = _measured_levels(network), logging.getLogger('basicsr')
    if not levels:
        logger.warning(
            f'{name}: the noise level of its training is not recorded and cannot be measured on photographs, so the'
            ' wrapper is WNE, which suits trainings at many levels. If it was trained at one level, name it, as in'
            ' net.pth@25+wne or sigma=25/255.'
        )
    else:
        is_single = len(levels) == 1
        kind, wrapper = ('level', 'ZeroShot') if is_single else ('levels', 'WNE')
        logger.info(
            f'{name}: trained at noise {kind} {_words(levels)} of 255, as measured on'
            f' photographs; wrapped in {wrapper}.'
        )
    return levels


def _measured_levels(network: nn.Module) -> tuple[float, ...]:
    """See ``training_level``; nothing for what takes other images."""
    denoiser = Denoiser(network.eval())
    try:
        return training_levels(denoiser) if denoiser.channels in GRAY_OR_COLOUR else ()
    except REFUSALS:  # of images of these sizes
        return ()


def _words(levels: tuple[float, ...]) -> str:
    return ' to '.join(f'{level:.3g}' for level in levels)
