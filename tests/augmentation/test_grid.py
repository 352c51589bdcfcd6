from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from lesion_exp.verbs.preview import preview_grid


def test_a_row_an_image_with_the_original_first(lesion):
    images = [lesion(60, 80)[0], lesion(80, 60)[0]]
    draws = [[image[:32, :32] for _ in range(3)] for image in images]
    figure = preview_grid(images, draws, ["mel", "nv"])
    assert isinstance(figure, Figure)
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert len(shown) == 2 * 4
    assert np.array_equal(shown[0], images[0])
    assert np.array_equal(shown[4], images[1])
    assert np.array_equal(shown[5], draws[1][0])
    assert [figure.axes[row * 4].get_ylabel() for row in range(2)] == ["mel", "nv"]
    written = io.BytesIO()
    figure.savefig(written, format="png")
    assert written.getvalue().startswith(b"\x89PNG")


def test_rows_of_different_length_are_our_own_mistake(lesion):
    image = lesion()[0]
    with pytest.raises(AssertionError):
        preview_grid([image, image], [[image], [image, image]], ["a", "b"])
