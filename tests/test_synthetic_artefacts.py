from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from lesion_exp.synthetic_artefacts import EDGES, Edge, draw_dark_corner, draw_hair, draw_ink, draw_ruler

Draw = Callable[[np.ndarray, np.random.Generator], np.ndarray]
ALL: list[Draw] = [draw_hair, draw_ruler, draw_ink, draw_dark_corner]
SKIN = (222, 178, 158)


def _skin(height: int = 150, width: int = 200) -> np.ndarray:
    return np.full((height, width, 3), SKIN, dtype=np.uint8)


def _changed(image: np.ndarray) -> np.ndarray:
    return (image != np.asarray(SKIN, dtype=np.uint8)).any(axis=2)


@pytest.mark.parametrize("draw", ALL)
@pytest.mark.parametrize("shape", [(150, 200), (224, 224), (450, 300)])
def test_a_new_image_of_the_same_shape_that_depends_on_the_seed_alone(draw: Draw, shape: tuple[int, int]) -> None:
    image = _skin(*shape)
    first, again, other = (draw(image, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first.dtype == np.uint8
    assert first.shape == image.shape
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not _changed(image).any()
    assert _changed(first).any()


@pytest.mark.parametrize("draw", ALL)
def test_edges_are_anti_aliased(draw: Draw) -> None:
    """Between skin and artefact there are many shades; a hard drawing would have two."""
    assert len(np.unique(draw(_skin(), np.random.default_rng(0))[:, :, 0])) > 15


@pytest.mark.parametrize("draw", ALL)
def test_lengths_go_with_the_image(draw: Draw) -> None:
    """The same artefact at three times the resolution covers the same places."""
    small = draw(_skin(150, 200), np.random.default_rng(5)).astype(float)
    large = draw(_skin(450, 600), np.random.default_rng(5))
    reduced = cv2.resize(large, (200, 150), interpolation=cv2.INTER_AREA).astype(float)
    changed = np.abs(small - np.asarray(SKIN)).sum()
    assert np.abs(reduced - small).sum() < 0.3 * changed


def test_count_zero_draws_nothing_and_more_draws_more() -> None:
    covered = [_changed(draw_hair(_skin(), np.random.default_rng(1), count=count)).sum() for count in (0, 3, 30)]
    assert covered[0] == 0
    assert covered[0] < covered[1] < covered[2]


def test_hair_has_the_colour_asked_for_and_is_thin() -> None:
    image = draw_hair(_skin(450, 600), np.random.default_rng(2), count=5, colour=(10, 200, 10))
    darkest = image[image[:, :, 0] < 60]
    assert len(darkest)
    assert (darkest[:, 1] > 150).all()
    solid = (image[:, :, 0] < 100).astype(np.uint8)
    assert not cv2.erode(solid, np.ones((13, 13), np.uint8)).any()


@pytest.mark.parametrize("edge", EDGES)
def test_a_ruler_lies_along_its_edge_only(edge: Edge) -> None:
    changed = _changed(draw_ruler(_skin(200, 300), np.random.default_rng(0), edge=edge))
    border = {"bottom": changed[-1], "top": changed[0], "left": changed[:, 0], "right": changed[:, -1]}
    ticks = {name: int(np.diff(line.astype(int)).clip(0).sum()) for name, line in border.items()}
    assert ticks[edge] > 8
    inner = {"bottom": changed[:120], "top": changed[80:], "left": changed[:, 80:], "right": changed[:, :-80]}
    assert not inner[edge].any()


def test_ink_is_violet_and_leaves_the_middle_free() -> None:
    for seed in range(20):
        image = draw_ink(_skin(), np.random.default_rng(seed))
        inked = image[_changed(image)].astype(int)
        assert (inked[:, 2] >= inked[:, 1]).mean() > 0.5, seed  # skin has less blue than green
        assert not _changed(image)[65:85, 90:110].any(), seed


def test_a_dark_corner_is_black_outside_and_clear_inside_its_radius() -> None:
    image = draw_dark_corner(_skin(), np.random.default_rng(0), radius=0.5)
    assert image[0, 0].max() < 15
    assert image[-1, -1].max() < 15
    assert not _changed(image)[60:90, 80:120].any()
    darkening = image[75, :75, 0].astype(int)
    assert (np.diff(darkening) >= 0).all()  # no ripples from edge to middle
    small, large = (draw_dark_corner(_skin(), np.random.default_rng(0), radius=r).sum() for r in (0.4, 0.7))
    assert small < large


def test_other_images_are_refused() -> None:
    with pytest.raises(AssertionError, match="uint8"):
        draw_hair(np.zeros((8, 8, 3)), np.random.default_rng(0))  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="H, W, 3"):
        draw_ink(np.zeros((8, 8), np.uint8), np.random.default_rng(0))
