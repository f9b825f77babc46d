"""Half-size copies for training: fine colour where JPEG has none."""

import cv2
import numpy as np
import pytest
from half_size_copies import main, stronger  # of scripts/, see conftest.py


def test_gray_stays_and_colour_is_multiplied_about_the_mean():
    gray = np.full((2, 3, 3), 77, np.uint8)
    assert np.array_equal(stronger(gray, 3), gray)
    assert stronger(np.array([[[90, 100, 110]]], np.uint8), 2).tolist() == [[[80, 100, 120]]]
    assert stronger(np.array([[[0, 100, 200]]], np.uint8), 2).tolist() == [[[0, 100, 255]]]  # clipped


def test_copies_of_a_jpeg_have_finer_colour_than_it(workplace, monkeypatch):
    random = np.random.default_rng(0)
    image = cv2.resize(random.integers(0, 256, (60, 90, 3), np.uint8), (180, 120), interpolation=cv2.INTER_CUBIC)
    (workplace / 'photos').mkdir()
    cv2.imwrite('photos/a.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 98])  # 4:2:0
    monkeypatch.setattr('sys.argv', ['half_size_copies.py', 'photos', 'copies/half'])
    main()
    copy, photo = cv2.imread('copies/half/a_half.png'), cv2.imread('photos/a.jpg')
    assert copy.shape == (60, 90, 3)

    def fine(pixels):
        """The share of a colour difference that is in differences of neighbours."""
        colour = pixels[..., 2].astype(float) - pixels[..., 1]
        return np.diff(colour, axis=1).std() / colour.std()

    assert fine(copy) > 1.5 * fine(photo)
    with pytest.raises(FileExistsError):
        main()
