"""Padding: defined for any size, copies pixels only, differentiable, and free where nothing is missing."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ne_basicsr.ops.padding import border_sources, crop, pad, pad_to_multiple

MODES = ['reflect', 'replicate', 'circular']


def line(n: int) -> Tensor:
    """One row of the pixels 0 ... n - 1, (1, 1, 1, n)."""
    return torch.arange(float(n)).view(1, 1, 1, n)


@pytest.mark.parametrize(
    ('mode', 'n', 'before', 'after', 'expected'),
    [
        ('reflect', 4, 2, 3, [2, 1, 0, 1, 2, 3, 2, 1, 0]),
        ('reflect', 3, 0, 6, [0, 1, 2, 1, 0, 1, 2, 1, 0]),  # more than the image is long: reflections repeat
        ('reflect', 2, 3, 3, [1, 0, 1, 0, 1, 0, 1, 0]),
        ('reflect', 1, 2, 3, [0, 0, 0, 0, 0, 0]),  # a single pixel is its own reflection
        ('replicate', 3, 2, 4, [0, 0, 0, 1, 2, 2, 2, 2, 2]),
        ('circular', 3, 1, 5, [2, 0, 1, 2, 0, 1, 2, 0, 1]),
    ],
)
def test_pad_takes_pixels_from_where_the_formulas_say(
    mode: str, n: int, before: int, after: int, expected: list[int]
) -> None:
    assert pad(line(n), (before, after, 0, 0), mode).flatten().tolist() == expected
    assert pad(line(n).mT, (0, 0, before, after), mode).flatten().tolist() == expected
    copies = dict(border_sources(n, before, after, mode))
    inner = [before + i for i in range(n)]
    assert [expected[copies.get(i, i)] for i in range(len(expected))] == expected
    assert set(copies.values()) <= set(inner) and not set(copies) & set(inner)


@pytest.mark.parametrize('mode', MODES)
def test_pad_agrees_with_torch_where_torch_can(mode: str) -> None:
    x = torch.rand(2, 3, 6, 7)
    assert torch.equal(pad(x, (1, 5, 2, 3), mode), F.pad(x, (1, 5, 2, 3), mode=mode))


@pytest.mark.parametrize('size', [(16, 24), (17, 23), (5, 3), (1, 9), (2, 1), (1, 1)])
@pytest.mark.parametrize('mode', MODES)
def test_pad_to_multiple_reaches_the_next_multiple_from_any_size(size: tuple[int, int], mode: str) -> None:
    x = torch.rand(2, 1, *size)
    padded, (height, width) = pad_to_multiple(x, 8, mode)
    assert (height, width) == size
    assert padded.shape[-2:] == tuple(-(-n // 8) * 8 for n in size)
    assert torch.equal(crop(padded, height, width), x)
    assert set(padded.flatten().tolist()) <= set(x.flatten().tolist())


def test_pad_to_multiple_returns_the_images_themselves_where_nothing_is_missing() -> None:
    x = torch.rand(2, 1, 16, 24)
    assert pad_to_multiple(x, 8)[0] is x
    assert pad_to_multiple(x, 1)[0] is x
    assert pad_to_multiple(x, 8, 'mean')[0] is x


@pytest.mark.parametrize('size', [(5, 6), (3, 1)])
def test_gradients_pass_through_padding(size: tuple[int, int]) -> None:
    x = torch.rand(1, 1, *size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: pad_to_multiple(x, 4)[0], (x,))
    assert torch.autograd.gradcheck(lambda x: pad_to_multiple(x, 4, 'mean')[0], (x,))


def test_mean_padding_uses_each_image_its_own_mean(images: Tensor) -> None:
    y = torch.cat([images, images.flip(2)], dim=1)  # (4, 2, 19, 23)
    padded, (height, width) = pad_to_multiple(y, 8, 'mean')
    assert padded.shape == (4, 2, 24, 24) and (height, width) == (19, 23)
    assert torch.equal(crop(padded, height, width), y)
    for image, original in zip(padded, y, strict=True):
        border = torch.cat([image[:, 19:].flatten(), image[:, :, 23:].flatten()])
        assert border.unique().numel() == 1
        torch.testing.assert_close(border[0], original.mean())


def test_padding_commutes_with_affine_maps_and_zero_padding_does_not(images: Tensor) -> None:
    a, b = 1.7, -0.4
    ways = [lambda y, m=mode: pad_to_multiple(y, 8, m)[0] for mode in ('mean', *MODES)]
    for way in ways:
        torch.testing.assert_close(way(a * images + b), a * way(images) + b, rtol=1e-14, atol=1e-14)
    padded, shifted = F.pad(images, (0, 1, 0, 5)), F.pad(a * images + b, (0, 1, 0, 5))
    assert (shifted - (a * padded + b)).abs().max() > 0.1


def test_zero_padding_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match=r"'reflect', 'replicate' or 'circular' \(zero padding is not.*; got 'zeros'"):
        pad_to_multiple(torch.rand(1, 1, 9, 9), 8, 'zeros')
    with pytest.raises(ValueError, match="got 'mirror'"):
        pad(torch.rand(1, 1, 9, 9), (1, 1, 1, 1), 'mirror')
