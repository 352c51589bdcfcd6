"""Whole batches with torch against image after image with OpenCV: the same draws, nearly the same pixels."""

from __future__ import annotations

import albumentations
import cv2
import numpy as np
import pytest
import torch

from lesion_exp.augmentation.on_device import Plan, _to_hsv, _to_rgb, apply_plan, on_canvas
from lesion_exp.augmentation.pipeline import AugmentationPipeline
from lesion_exp.augmentation.random_fit_crop import RandomFitCrop
from lesion_exp.errors import ConfigError

SIDE = 48


def pipeline(transforms, fit="crop", crop_share=1.0):
    return AugmentationPipeline(
        SIDE, fit, None, transforms, None, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), crop_share=crop_share,
        device="gpu",
    )  # fmt: skip


def smooth(seed, height, width):
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def both_ways(made, seeds, sizes=((60, 80), (64, 60), (55, 70))):
    images = [smooth(seed, *sizes[seed % len(sizes)]) for seed in seeds]
    drawn = [made.plan(image, (9, seed)) for image, seed in zip(images, seeds, strict=True)]
    canvases = torch.stack([torch.from_numpy(on_canvas(image, 64, 80)).permute(2, 0, 1) for image, _ in drawn])
    plan = Plan(*(torch.stack(column) for column in zip(*(plan for _, plan in drawn), strict=True)))
    on_device = apply_plan(canvases, plan, SIDE).permute(0, 2, 3, 1).numpy()
    one_by_one = np.stack([made.train(image, None, (9, seed))[0] for image, seed in zip(images, seeds, strict=True)])
    return on_device, one_by_one


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("border_mode", [cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE, cv2.BORDER_REFLECT_101])
def test_a_warped_batch_shows_what_the_images_show_one_by_one(fit, border_mode):
    affine = albumentations.Affine(rotate=(-60, 60), scale=(0.7, 1.2), border_mode=border_mode, fill=40, p=0.8)
    made = pipeline({"crop": RandomFitCrop(SIDE, fit), "flip": albumentations.D4(p=1), "affine": affine}, fit)
    on_device, one_by_one = both_ways(made, range(24))
    difference = np.abs(on_device.astype(int) - one_by_one)
    assert difference.mean() < 0.8
    assert (difference > 12).mean() < 0.01


@pytest.mark.parametrize("crop_share", [1.0, 0.8])
@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_a_recipe_without_a_crop_begins_with_the_frame_of_evaluation(fit, crop_share):
    turn = albumentations.Rotate((-30, 30), border_mode=cv2.BORDER_REPLICATE, p=0.5)
    made = pipeline({"flip": albumentations.D4(p=1), "turn": turn}, fit, crop_share)
    on_device, one_by_one = both_ways(made, range(24))
    difference = np.abs(on_device.astype(int) - one_by_one)
    assert difference.mean() < 1.5
    assert (difference > 12).mean() < 0.02


def test_colours_of_a_batch_are_those_of_the_images_one_by_one():
    transforms = {
        "crop": RandomFitCrop(SIDE),
        "light": albumentations.RandomBrightnessContrast(p=0.7),
        "hue": albumentations.HueSaturationValue(20, 30, 30, p=0.7),
        "gamma": albumentations.RandomGamma(p=0.5),
    }
    on_device, one_by_one = both_ways(pipeline(transforms), range(40))
    assert np.abs(on_device.astype(int) - one_by_one).mean() < 1.5


def test_every_colour_goes_to_hsv_and_back_as_with_opencv():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    expected = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    found = _to_hsv(torch.from_numpy(image).permute(2, 0, 1)[None].float())[0].permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() <= 1
    back = _to_rgb(torch.from_numpy(expected).permute(2, 0, 1)[None].float())[0].permute(1, 2, 0).numpy()
    assert np.abs(back - cv2.cvtColor(expected, cv2.COLOR_HSV2RGB)).max() <= 1


def test_an_image_that_shrinks_much_is_averaged_and_not_picked_from():
    made = pipeline({"crop": RandomFitCrop(SIDE, scale=(1.0, 1.0), ratio=(1.0, 1.0))})
    noise = np.random.default_rng(0).integers(0, 256, (4 * SIDE, 4 * SIDE, 3), dtype=np.uint8)
    _, plan = made.plan(noise, (0,))
    canvas = torch.from_numpy(noise).permute(2, 0, 1)[None]
    shown = apply_plan(canvas, Plan(*(tensor[None] for tensor in plan)), SIDE)
    assert shown.float().std() < 30  # a picked pixel has 74, a mean of sixteen 18


@pytest.mark.parametrize("recipe", ["light", "standard"])
def test_the_usual_recipes_can_be_used(load, recipe):
    assert load(recipe, "augmentation.device=gpu").trains_on_device


@pytest.mark.parametrize("recipe", ["heavy", "isic2020", "autoaugment", "none"])
def test_a_recipe_that_needs_the_cpu_is_refused_with_what_does(load, recipe):
    with pytest.raises(ConfigError, match=r"augmentation\.device=cpu"):
        load(recipe, "augmentation.device=gpu")
