"""Layouts of other toolboxes: recognised by the keys of a state dict, and converted to a network of this package.

``LAYOUTS`` has for each a pattern that all of its keys match, and a function from the state dict to a ``Layout``: the
options of a registered network that computes the same images, and its weights. Networks that return the noise become
``DnCNN``, which subtracts it. ``note`` says what keys and shapes do not tell. To add a layout, write its function in a
module beside this one, and its line in ``LAYOUTS``.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ne_basicsr.utils.errors import InputError
from ne_basicsr.weights.formats import networks, stacks
from ne_basicsr.weights.formats.layout import Layout, StateDict, describe, first_few

__all__ = ['LAYOUTS', 'Layout', 'as_trained', 'describe', 'explain_unknown', 'first_few', 'in_wrapper', 'recognise']

_BATCH_NORM = r'(weight|bias|running_mean|running_var|num_batches_tracked)'
_SWIN_BLOCK = (
    r'(attn_mask|norm[12]\.\w+|mlp\.fc[12]\.\w+'
    r'|attn\.(relative_position_bias_table|relative_position_index|qkv\.\w+|proj\.\w+))'
)
# name -> (what every key looks like, the function)
LAYOUTS: dict[str, tuple[str, Callable[[StateDict], Layout]]] = {
    'KAIR DnCNN, FDnCNN, FFDNet and IRCNN': (rf'model\.\d+\.{_BATCH_NORM}', stacks.kair_dncnn),
    'DnCNN-PyTorch': (rf'(dncnn\.)?dncnn\.\d+\.{_BATCH_NORM}', stacks.dncnn_pytorch),
    "the WNE paper's DnCNN and Mohan et al.'s BF-DnCNN": (
        rf'(first_layer|hidden_layer_list\.\d+|bn_layer_list\.\d+|last_layer)\.{_BATCH_NORM}',
        stacks.dncnn_lists,
    ),
    "Kadkhodaie and Simoncelli's BF-CNN": (r'conv_layers\.\d+\.weight|(running_sd|gammas)\.\d+', stacks.bf_cnn),
    "Mohan et al.'s recurrent and dense CNN": (
        r'cnn(_list\.\d+)?\.(first_layer|hidden_layer_list\.\d+|last_layer)\.(weight|bias)',
        networks.mohan_stages,
    ),
    "Mohan et al.'s U-Net": (r'conv[1-9]\.(weight|bias)', networks.mohan_unet),
    'ADNet': (rf'conv1_\d+\.(\d\.)?{_BATCH_NORM}|conv3\.(weight|bias)', networks.adnet),
    'FDnCNN': (r'fdncnn\.\d+\.(weight|bias)', stacks.fdncnn),
    'DRUNet': (
        r'm_(head|tail|(down|up)\.\d\.\d+|body\.\d+)(\.m_res\.\d|\.conv1x1)?\.(weight|bias)|.*\bsum\.alpha|res\.\d\.alpha',
        networks.drunet,
    ),
    'KAIR DRUNet': (r'm_(head|tail|(down|up)\d\.\d+|body\.\d+)(\.res\.\d)?\.(weight|bias)', networks.kair_drunet),
    'Restormer': (
        r'(patch_embed\.proj|(encoder|decoder)_level\d\.\d+|latent\.\d+|refinement\.\d+|(down|up)\d_\d\.body'
        r'|reduce_chan_level\d|skip_conv|output)\..*',
        networks.restormer,
    ),
    'SwinIR': (
        rf'layers\.\d+\.(conv(\.\d)?\.\w+|residual_group\.blocks\.\d+\.{_SWIN_BLOCK})|absolute_pos_embed'
        r'|(conv_first|patch_embed\.norm|norm|conv_(after_body|before_upsample|up\d|hr|last)|upsample)(\.\d)?\.\w+',
        networks.swinir,
    ),
}

# what other networks are that have such a key, followed by a colon and its number of dimensions
OTHERS = {
    'a diffusion model (it needs a time step)': r'(^|\.)(t(ime(step)?)?_?emb\w*|time_(mlp|proj))\.',
    'a super-resolution network': r'(^|\.)(conv_up\d|upsampler?|upconv\d|HRconv|conv_hr)\.',
    'a classifier': r'(^|\.)((fc|classifier(\.\d+)?|heads\.head)\.(weight|bias):|head\.weight:2)',
}


def recognise(weights: Mapping[str, Tensor], container: str | None = None) -> Layout | None:
    """The layout whose keys these are, None where no layout has them all.

    Args:
        weights: a state dict, without ``module.`` prefixes.
        container: its key in the checkpoint. Below ``state_dict`` the prefix ``model.`` is that of a framework,
            elsewhere of the WNE paper's code, all of whose networks are inside a wrapper, or the identity.
    """
    for prefix in ('backbone.', 'model.'):
        if weights and all(key.startswith(prefix) for key in weights):
            plain = recognise({key.removeprefix(prefix): value for key, value in weights.items()})
            if plain is not None and prefix == 'backbone.':
                return in_wrapper(plain, 'WNE')
            if plain is not None:
                code = f"{plain.name} in the WNE paper's code"
                return plain if container == 'state_dict' else plain._replace(name=code, wrapper_is_unknown=True)
    for name, (pattern, function) in LAYOUTS.items():
        if weights and all(re.fullmatch(pattern, key) for key in weights):
            try:
                return function(dict(weights))
            except KeyError as error:
                raise InputError(f'the keys are those of {name}, but {error.args[0]} is missing') from error
            except (ValueError, IndexError, RuntimeError, ZeroDivisionError) as error:
                raise InputError(f'the keys are those of {name}, but the shapes are not: {error}') from error
    return None


def explain_unknown(weights: Mapping[str, Tensor]) -> str:
    """Why a state dict was not recognised: what it seems to be, the nearest layout, or the known ones."""
    for what, pattern in OTHERS.items():
        if any(re.search(pattern, f'{key}:{value.dim()}') for key, value in weights.items()):
            keys = first_few(list(weights))
            way_out = 'if it is a denoiser, name its network in an option file, net.yml'
            return f'unknown layout with keys {keys}: it seems to be {what}, and denoisers are needed; {way_out}'
    strangers = {
        name: [key for key in weights if not re.fullmatch(pattern, key)] for name, (pattern, _) in LAYOUTS.items()
    }
    nearest = min(strangers, key=lambda name: len(strangers[name]))
    if len(own := strangers[nearest]) <= len(weights) / 2:
        few = first_few(own)
        return f'unknown layout; the nearest is {nearest}, which does not have {len(own)} of its keys ({few})'
    return (
        f'unknown layout with keys {first_few(list(weights))}; known are {", ".join(LAYOUTS)}, and with spandrel'
        " (pip install 'ne-basicsr[spandrel]') forty more"
    )


def in_wrapper(plain: Layout, wrapper: str, **options: Any) -> Layout:
    """A plain network inside ``wrapper``, a class that takes a ``backbone``, with its ``options``."""
    weights = {f'backbone.{key}': value for key, value in plain.weights.items()}
    options = {'type': wrapper, **options, 'backbone': plain.options}
    return Layout(f'{plain.name}, wrapped', options, weights, plain.note)


def as_trained(plain: Layout, wrapper: str | None, prediction: str | None = None) -> Layout:
    """A network of the WNE paper's code in the wrapper of its training; deviations divide by n - 1 in that code."""
    plain = plain._replace(wrapper_is_unknown=False)
    if wrapper is None:
        return plain
    options = {} if prediction in (None, 'direct') else {'prediction': prediction}
    return in_wrapper(plain, wrapper, **options, **({'correction': 1} if wrapper in ('WNE', 'InputNorm') else {}))
