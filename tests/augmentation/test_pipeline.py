from __future__ import annotations

import multiprocessing
import pickle

import albumentations
import cv2
import numpy as np
import pytest

from lesion_exp.augmentation.one_of import OneOf
from lesion_exp.augmentation.pipeline import AugmentationPipeline
from lesion_exp.errors import ConfigError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
COLOUR_STEPS = (
    "brightness_contrast",
    "hue_saturation_value",
    "clahe",
    "blur_noise",
    "cut_out",
    "hair",
    "dark_corner",
    "brightness",
    "contrast",
)


def pipeline(transforms=None, preprocess=None, fit="crop", image_size=32, mix=None, mean=MEAN, std=STD):
    return AugmentationPipeline(image_size, fit, preprocess, transforms, mix, mean, std)


def gradient(height=40, width=60):
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 4, columns * 3, (rows + columns) * 2], axis=2).astype(np.uint8)


def draw(arguments):
    pickled, seeds = arguments
    copy = pickle.loads(pickled)
    return [copy.train(gradient(90, 120), None, seed)[0].tobytes() for seed in seeds]


# randomness


def test_processes_that_share_nothing_draw_the_same(load):
    heavy = load("heavy")
    seeds = [(3, epoch, index) for epoch in range(2) for index in range(5)]
    here = draw((pickle.dumps(heavy), seeds))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.map(draw, [(pickle.dumps(heavy), seeds[::-1])])[0]
    assert here == there[::-1]


def test_the_global_generators_neither_matter_nor_move(load, lesion):
    import random

    heavy, (image, _) = load("heavy"), lesion()
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = heavy.train(image, None, (0, 0, 0))[0]
    after = random.random(), np.random.random()  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert after == (random.random(), np.random.random())  # noqa: NPY002
    assert np.array_equal(first, heavy.train(image, None, (0, 0, 0))[0])


def test_transforms_draw_independently_of_one_another():
    flips = pipeline(
        {"horizontal": albumentations.HorizontalFlip(p=0.5), "vertical": albumentations.VerticalFlip(p=0.5)},
        image_size=8,
    )
    image = np.zeros((8, 8, 3), np.uint8)
    image[0, 0] = 255
    places = [
        tuple(np.argwhere(flips.train(image, None, (0, 0, index))[0][:, :, 0])[0].tolist()) for index in range(400)
    ]
    counts = [places.count(corner) for corner in ((0, 0), (0, 7), (7, 0), (7, 7))]
    assert sum(counts) == 400
    assert min(counts) > 60, "each of the four ought to come about 100 times"


def test_nested_choices_are_seeded_too():
    nested = pipeline(
        {
            "outer": OneOf(
                {
                    "inner": OneOf({"noise": albumentations.GaussNoise(p=1), "blur": albumentations.Blur(p=1)}, p=1),
                    "shift": albumentations.RGBShift(p=1),
                },
                p=0.9,
            )
        }
    )
    first = [nested.train(gradient(), None, (5, index))[0].tobytes() for index in range(20)]
    assert first == [nested.train(gradient(), None, (5, index))[0].tobytes() for index in range(20)]
    assert len(set(first)) > 10


def test_preprocessing_is_the_same_in_training_and_evaluation():
    shifted = pipeline(preprocess={"shift": albumentations.RGBShift(p=1), "noise": albumentations.GaussNoise(p=1)})
    shown = shifted.evaluate(gradient(), None)[0]
    assert not np.array_equal(shown, pipeline().evaluate(gradient(), None)[0])
    for index in range(3):
        assert np.array_equal(shown, shifted.train(gradient(), None, (0, 0, index))[0])


# geometry


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("recipe", ["light", "standard", "heavy", "isic2020", "autoaugment", "artefacts"])
def test_the_mask_moves_with_the_image(load, lesion, recipe, fit):
    steps = load(recipe).describe()
    names = [step.partition(":")[0] for step in steps]
    overrides = [f"augmentation.transforms.{name}=null" for name in names if name in COLOUR_STEPS]
    if recipe == "autoaugment":
        overrides.append("augmentation.transforms.policy.operations=[rotate,shear_x,translate_y,zoom]")
    geometry = load(recipe, *overrides, f"augmentation.fit={fit}", image_size=128)
    _, mask = lesion(180, 240)
    image = np.where(mask[:, :, None] > 0, np.uint8(250), np.full((180, 240, 3), 20, np.uint8))
    for index in range(12):
        moved_image, moved_mask = geometry.train(image, mask, (0, 0, index))
        bright = (moved_image.min(axis=2) > 135) if fit != "pad" else (moved_image.min(axis=2) > 180)
        marked = moved_mask > 0
        assert marked.any()
        overlap = (bright & marked).sum() / (bright | marked).sum()
        assert overlap > 0.85, f"draw {index}: overlap {overlap:.2f}"


def test_crop_shows_the_middle_in_true_proportions():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 20:60] = 200  # the largest centred square
    shown, _ = pipeline(fit="crop").evaluate(image, None)
    assert (shown == 200).all()


def test_squash_shows_all_of_the_image():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, :40] = 200
    shown, _ = pipeline(fit="squash").evaluate(image, None)
    assert (shown[:, :15] == 200).all()
    assert (shown[:, 17:] == 0).all()


def test_pad_adds_the_mean_colour_and_no_mask():
    image = np.full((40, 80, 3), 200, np.uint8)
    mask = np.full((40, 80), 255, np.uint8)
    shown, kept = pipeline(fit="pad").evaluate(image, mask)
    assert shown[0, 0].tolist() == [round(255 * value) for value in MEAN]
    assert shown[16, 0].tolist() == [200, 200, 200]
    assert kept[0].max() == 0
    assert kept[16].min() == 255
    assert abs(int((kept > 0).sum()) - 32 * 16) <= 32


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_a_square_of_the_right_size_is_not_resampled(fit):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert np.array_equal(pipeline(fit=fit).evaluate(image, None)[0], image)


def test_training_starts_from_the_fitted_square_unless_a_transform_sets_the_size():
    image = gradient(48, 64)
    plain = pipeline({"none": albumentations.NoOp(p=1)})
    assert np.array_equal(plain.train(image, None, (0,))[0], plain.evaluate(image, None)[0])
    corner = pipeline({"crop": albumentations.Crop(0, 0, 32, 32, p=1)})
    assert np.array_equal(corner.train(image, None, (0,))[0], image[:32, :32])


def test_a_transform_that_leaves_another_size_is_fitted_afterwards():
    image = gradient(48, 64)
    odd = pipeline({"crop": albumentations.CenterCrop(40, 20, p=0.5)})
    for index in range(8):
        assert odd.train(image, np.zeros((48, 64), np.uint8), (0, index))[0].shape == (32, 32, 3)


def test_masks_stay_binary_whatever_interpolation_was_asked_for():
    smooth = pipeline(
        {
            "choice": OneOf(
                {"rotate": albumentations.Rotate(45, mask_interpolation=cv2.INTER_CUBIC, crop_border=False, p=1)}, p=1
            )
        }
    )
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 15:45] = 255
    for index in range(5):
        assert set(np.unique(smooth.train(gradient(), mask, (0, index))[1])) <= {0, 255}


# mistakes


def test_a_wrong_argument_is_an_error_that_names_the_nearest():
    with pytest.warns(UserWarning, match="not valid"):
        turned = albumentations.Rotate(limt=30)
    with pytest.raises(ConfigError, match=r"augmentation\.transforms\.turn\.limt.*'limit'"):
        pipeline({"turn": turned})


def test_a_wrong_argument_inside_a_choice_is_found_too():
    with pytest.warns(UserWarning, match="not valid"):
        cut = albumentations.CoarseDropout(max_holes=3)
    nested = albumentations.Sequential([albumentations.OneOf([cut, albumentations.NoOp()])])
    with pytest.raises(ConfigError, match=r"transforms\.cut\.transforms\.0\.transforms\.0\.max_holes"):
        pipeline({"cut": nested})


def test_a_wrong_argument_in_the_config_is_refused_with_the_nearest(load):
    with pytest.raises(ConfigError, match="'limit'"):
        load("standard", "+augmentation.transforms.rotate.limits=30")


def test_a_random_transform_cannot_preprocess():
    with pytest.raises(ConfigError, match=r"augmentation\.preprocess\.flip\.p=0\.5.*p=1"):
        pipeline(preprocess={"flip": albumentations.HorizontalFlip(p=0.5)})


def test_normalising_in_a_recipe_is_refused():
    with pytest.raises(ConfigError, match=r"uint8 RGB.*augmentation\.transforms\.normalize=null"):
        pipeline({"normalize": albumentations.Normalize()})


def test_a_transform_that_fails_is_named_before_training():
    with pytest.raises(ConfigError, match=r"augmentation\.transforms\.crop \(RandomCrop\).*600 x 450"):
        pipeline({"crop": albumentations.RandomCrop(2000, 2000)})


def test_a_transform_that_fails_on_a_small_image_is_named():
    small = pipeline({"crop": albumentations.RandomCrop(64, 64)})
    with pytest.raises(ConfigError, match=r"transforms\.crop.*60 x 40"):
        small.train(gradient(), None, (0,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fit": "croup"}, r"augmentation\.fit.*'crop'"),
        ({"image_size": 4}, "image_size"),
        ({"mean": (123.7, 116.3, 103.5)}, r"augmentation\.mean.*0 to 1"),
        ({"std": (0.2, 0.2)}, r"augmentation\.std"),
        ({"std": (0.2, 0.2, 0.0)}, r"augmentation\.std"),
        ({"transforms": {"crop": {"p": 1}}}, r"augmentation\.transforms\.crop.*_target_"),
        ({"preprocess": {"crop": 3}}, r"augmentation\.preprocess\.crop.*null"),
    ],
)
def test_impossible_values_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        pipeline(**arguments)


def test_a_step_that_is_null_is_left_out():
    assert pipeline({"flip": None}, {"crop": None}).describe() == ["fit: crop to 32 x 32"]


def test_the_description_names_each_step_in_order(load):
    steps = load("heavy", "augmentation/mix=mixup").describe()
    assert [step.partition(":")[0] for step in steps] == [
        "crop",
        "flip",
        "affine",
        "distort",
        "brightness_contrast",
        "hue_saturation_value",
        "clahe",
        "blur_noise",
        "cut_out",
        "fit",
        "mix",
    ]
    assert steps[-1] == "mix: Mix(mixup_alpha=0.8, cutmix_alpha=0, probability=1, switch_probability=0.5)"
