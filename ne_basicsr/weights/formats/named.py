"""Networks of other authors that are registered here under their own names, with their keys."""

from ne_basicsr.weights.formats.layout import Layout, StateDict, length


def mohan_stages(weights: StateDict) -> Layout:
    """Mohan et al.'s recurrent CNN, ``cnn``, and simplified DenseNet, ``cnn_list``."""
    stages = length(weights, 'cnn_list') if any(key.startswith('cnn_list.') for key in weights) else 0
    first, last = ('cnn_list.0', f'cnn_list.{stages - 1}') if stages else ('cnn', 'cnn')
    options = {
        'type': 'SDenseNet' if stages else 'RecurrentCNN',
        'num_in_ch': weights[f'{last}.last_layer.weight'].shape[0],
        'num_feat': weights[f'{first}.first_layer.weight'].shape[0],
        'num_hidden': length(weights, f'{first}.hidden_layer_list'),
        'bias': f'{first}.first_layer.bias' in weights,
    }
    if stages:
        return Layout("Mohan et al.'s DenseNet", {**options, 'stages': stages}, weights)
    note = 'the number of stages, 4 by default, has no key'
    return Layout("Mohan et al.'s recurrent CNN", options, weights, note)


def mohan_unet(weights: StateDict) -> Layout:
    """Mohan et al.'s U-Net."""
    note = 'residual, off by default, has no key'
    options = {'type': 'MohanUNet', 'num_in_ch': weights['conv1.weight'].shape[1], 'bias': 'conv1.bias' in weights}
    return Layout("Mohan et al.'s U-Net", options, weights, note)


def adnet(weights: StateDict) -> Layout:
    """Tian et al.'s ADNet."""
    features, channels = weights['conv1_1.0.weight'].shape[:2]
    return Layout('ADNet', {'type': 'ADNet', 'num_in_ch': channels, 'num_feat': features}, weights)
