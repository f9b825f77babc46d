import pytest
import torch

from ne_basicsr.archs.dncnn_arch import DnCNN


@pytest.mark.parametrize('act_mode', ['BR', 'R'])
def test_dncnn_matches_kair(act_mode, golden):
    reference = golden(f'dncnn_kair_{act_mode}')
    names = ('num_in_ch', 'num_feat', 'num_layers', 'act_mode')
    arguments = {k: v for k, v in reference.meta.items() if k in names}
    net = DnCNN(**{'act_mode': act_mode, 'num_feat': 8, 'num_layers': 6} | arguments).double().eval()
    net.load_state_dict(reference.weights)
    with torch.no_grad():
        torch.testing.assert_close(net(reference.input), reference.output, rtol=0, atol=1e-10)


def test_the_paper_s_dncnn_has_668_thousand_parameters():
    # 20 layers, 64 features: 640 + 18 (36928 + 128) + 577
    assert sum(p.numel() for p in DnCNN().parameters()) == 668_225


def test_training_starts_near_the_identity():
    y = torch.rand(2, 1, 32, 32)
    for act_mode in ('BR', 'R'):
        net = DnCNN(act_mode=act_mode, num_layers=8, num_feat=32)
        assert 0 < (net(y) - y).norm() / y.norm() < 0.3


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'act_mode': 'BRL'}, "got 'BRL'"),
        ({'num_in_ch': 3}, 'equal; got 3 and 1'),
        ({'num_layers': 1}, 'at least 2'),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DnCNN(**options)
