"""Joined transforms and the same one after the other: the same draws, the same image up to one interpolation."""

from __future__ import annotations

import albumentations
import cv2
import numpy as np
import pytest

from lesion_exp.augmentation.fused import FusedColours
from lesion_exp.augmentation.geometry import FusedGeometry
from lesion_exp.augmentation.pipeline import AugmentationPipeline
from lesion_exp.augmentation.random_fit_crop import RandomFitCrop

SIDE = 64
MOVES = {
    "d4": albumentations.D4(p=1),
    "sometimes d4": albumentations.D4(p=0.5),
    "across": albumentations.HorizontalFlip(p=0.5),
    "down": albumentations.VerticalFlip(p=0.5),
    "transpose": albumentations.Transpose(p=0.5),
    "quarters": albumentations.RandomRotate90(p=0.7),
    "rotate": albumentations.Rotate(limit=45, border_mode=cv2.BORDER_REFLECT_101, p=0.7),
    "rotate on black": albumentations.Rotate(limit=90, border_mode=cv2.BORDER_CONSTANT, fill=20, p=1),
    "affine": albumentations.Affine(
        rotate=(-45, 45), shear=(-10, 10), scale=(0.8, 1.2), translate_percent=(-0.1, 0.1), border_mode=4, p=0.8
    ),
    "affine without": albumentations.Affine(scale={"x": (0.5, 1.5), "y": (1, 1)}, p=1),
}
TINTS = {
    "light": albumentations.RandomBrightnessContrast(brightness_limit=0.4, contrast_limit=0.4, p=0.75),
    "hue": albumentations.HueSaturationValue(hue_shift_limit=40, sat_shift_limit=40, val_shift_limit=40, p=0.8),
    "gamma": albumentations.RandomGamma(gamma_limit=(60, 160), p=0.5),
}


def both(transforms, **options):
    shared = {
        "image_size": SIDE,
        "fit": "crop",
        "preprocess": None,
        "transforms": transforms,
        "mix": None,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        **options,
    }
    return AugmentationPipeline(**shared), AugmentationPipeline(**shared, join=False)


def smooth(seed=0, height=70, width=90):
    """An image of slow changes, on which one interpolation more is hardly seen, and a mask."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, (width // 2, height // 2), (width // 3, height // 4), 20, 0, 360, 255, -1)
    return image, mask


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("name", MOVES)
def test_one_warp_shows_what_the_moves_show_one_after_the_other(name, fit):
    crop = RandomFitCrop(size=SIDE, fit=fit)
    joined, plain = both({"crop": crop, "flip": MOVES["across"], "move": MOVES[name]}, fit=fit)
    assert [type(step) for _, step in joined._training] == [FusedGeometry]
    for index in range(30):
        image, mask = smooth(index)
        shown, shown_mask = joined.train(image, mask, (1, 0, index))
        expected, expected_mask = plain.train(image, mask, (1, 0, index))
        inside = np.abs(shown.astype(int) - expected)[2:-2, 2:-2]
        assert inside.mean() < 1.5
        assert (shown_mask != expected_mask).mean() < 0.03
        assert set(np.unique(shown_mask)) <= {0, 255}


@pytest.mark.parametrize("name", ["d4", "across", "down", "transpose", "quarters"])
def test_symmetries_move_pixels_and_change_none(name):
    joined, plain = both({"crop": RandomFitCrop(size=SIDE), "a": MOVES[name], "b": MOVES["d4"], "c": MOVES["quarters"]})
    for index in range(60):
        image, mask = smooth(index)
        pairs = zip(joined.train(image, mask, (2, index)), plain.train(image, mask, (2, index)), strict=True)
        assert all(np.array_equal(shown, expected) for shown, expected in pairs)


def test_the_order_of_a_symmetry_and_a_warp_matters_and_is_kept():
    for moves in (("d4", "rotate"), ("rotate", "d4"), ("quarters", "affine"), ("affine", "transpose")):
        joined, plain = both({"crop": RandomFitCrop(size=SIDE), **{name: MOVES[name] for name in moves}})
        for index in range(30):
            image = smooth(index)[0]
            shown, expected = (p.train(image, None, (3, index))[0].astype(int) for p in (joined, plain))
            assert np.abs(shown - expected)[2:-2, 2:-2].mean() < 1.5


def test_a_box_much_larger_than_the_result_is_averaged_before_it_is_warped():
    joined, plain = both({"crop": RandomFitCrop(size=SIDE, scale=(0.9, 1.0)), "rotate": MOVES["rotate on black"]})
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    shown, expected = (p.train(noise, None, (4,))[0].astype(int) for p in (joined, plain))
    assert np.abs(shown - expected).mean() < 1.5


@pytest.mark.parametrize(
    "names", [("light",), ("hue",), ("gamma",), ("light", "gamma", "hue"), ("hue", "light", "light")]
)
def test_changes_of_colour_are_the_same_bit_for_bit(names):
    transforms = {f"{name}{place}": TINTS[name] for place, name in enumerate(names)}
    joined, plain = both({"crop": RandomFitCrop(size=SIDE), **transforms})
    assert [type(step) for _, step in joined._training] == [FusedGeometry, FusedColours]
    for index in range(60):
        image = np.random.default_rng(index).integers(0, 256, (70, 90, 3), dtype=np.uint8)
        assert np.array_equal(joined.train(image, None, (5, index))[0], plain.train(image, None, (5, index))[0])


def test_what_cannot_be_joined_is_applied_as_it_is_and_everything_draws_the_same():
    transforms = {
        "crop": RandomFitCrop(size=SIDE),
        "flip": MOVES["d4"],
        "blur": albumentations.GaussianBlur(p=0.5),
        "light": TINTS["light"],
        "noise": albumentations.GaussNoise(p=0.5),
        "down": MOVES["down"],
    }
    joined, plain = both(transforms)
    kinds = [type(step) for _, step in joined._training]
    assert kinds == [FusedGeometry, albumentations.GaussianBlur, FusedColours, albumentations.GaussNoise, FusedGeometry]
    for index in range(40):
        image = smooth(index)[0]
        assert np.array_equal(joined.train(image, None, (6, index))[0], plain.train(image, None, (6, index))[0])


def test_a_second_warp_and_a_transform_that_needs_the_image_stay_apart():
    twice, _ = both({"crop": RandomFitCrop(size=SIDE), "one": MOVES["rotate"], "two": MOVES["affine"]})
    assert [len(step.moves) for _, step in twice._training] == [1, 1]
    by_mean = albumentations.RandomBrightnessContrast(brightness_by_max=False, p=1)
    foreign, _ = both({"crop": albumentations.CenterCrop(40, 40, p=1), "flip": MOVES["d4"], "light": by_mean})
    assert [type(step).__name__ for _, step in foreign._training] == ["CenterCrop", "D4", "RandomBrightnessContrast"]


@pytest.mark.parametrize("recipe", ["light", "standard", "heavy", "isic2020", "artefacts", "autoaugment"])
def test_the_recipes_draw_the_same_distribution_either_way(load, recipe):
    joined = load(recipe)
    plain = load(recipe, "augmentation.join=false")
    means = []
    for pipeline in (joined, plain):
        drawn = [pipeline.train(smooth(index % 5)[0], None, (7, index))[0] for index in range(200)]
        means.append(np.stack([image.reshape(-1, 3).astype(float).mean(0) for image in drawn]))
    assert np.abs(means[0] - means[1]).mean() < 1.5
    assert np.abs(means[0].std(0) / means[1].std(0) - 1).max() < 0.05
