import cv2
import numpy as np
import pytest

from lesion_exp.fingerprint import _area_means, fingerprint


@pytest.mark.parametrize("size", [(450, 600), (600, 450), (128, 129), (1024, 1024), (767, 1022)])
def test_areas_are_averaged_as_opencv_averages_them(size: tuple[int, int]) -> None:
    image = np.random.default_rng(3).integers(0, 256, (*size, 3), dtype=np.uint8)
    ours = np.rint(_area_means(image))
    theirs = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)
    assert np.abs(ours - theirs).max() <= 1  # half a grey level may be rounded either way
    assert (ours != theirs).mean() < 0.001


@pytest.mark.parametrize("side", [1600, 1700])
def test_large_bright_images_do_not_overflow(side: int) -> None:
    assert fingerprint(np.full((side, side, 3), 255, np.uint8))[1] == bytes([255]) * 256
