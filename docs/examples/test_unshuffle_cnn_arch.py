import pytest
from basicsr.archs import build_network

from ne_basicsr.ops.equivariance import ne_defect

SMALL = {'num_feat': 8, 'num_layers': 4}


def test_the_wrapped_network_commutes_with_affine_maps(images):
    net = build_network({'type': 'UnshuffleCNNWNE', **SMALL}).double().eval()
    assert ne_defect(net, images).max() < 1e-12


def test_the_plain_network_does_not(images):
    net = build_network({'type': 'UnshuffleCNN', **SMALL}).double().eval()
    assert ne_defect(net, images[..., :18, :22]).min() > 1e-4


def test_the_wrapper_brings_odd_sizes_to_a_multiple_of_two(images):
    net = build_network({'type': 'UnshuffleCNNWNE', **SMALL}).double().eval()
    assert net(images).shape == images.shape == (4, 1, 19, 23)
    with pytest.raises(RuntimeError, match='divisible'):
        net.backbone(images)


@pytest.mark.parametrize(
    ('options', 'message'), [({'num_in_ch': 3}, 'equal; got 3 and 1'), ({'num_layers': 1}, 'at least 2')]
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build_network({'type': 'UnshuffleCNN', **options})
