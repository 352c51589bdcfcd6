"""Every shipped YAML: it composes, it is bound to the code, and it works on any image."""

from __future__ import annotations

import importlib
import inspect
import pickle
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

CONF_DIR = Path(__file__).parents[2] / "conf"
FOLDER = CONF_DIR / "augmentation"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
RANDOM_RECIPES = [name for name in RECIPES if name != "none"]
SHAPES = [(300, 17), (17, 300), (450, 600), (30, 40), (64, 64), (8, 8)]


def target_of(path):
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def nodes(value):
    if isinstance(value, dict):
        if "_target_" in value:
            yield value
        for inner in value.values():
            yield from nodes(inner)


def test_the_named_recipes_are_there():
    assert {"none", "light", "standard", "heavy", "isic2020", "autoaugment", "colour_constancy"} <= set(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_key_is_an_argument_and_no_argument_is_missing(recipe):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        node = compose(overrides=[f"+augmentation={recipe}", "+image_size=64"]).augmentation
    found = list(nodes(OmegaConf.to_container(node, resolve=True)))
    assert found
    for part in found:
        target = target_of(part["_target_"])
        parameters = inspect.signature(target).parameters
        keys = set(part) - {"_target_"}
        assert keys <= set(parameters), part["_target_"]
        required = {name for name, parameter in parameters.items() if parameter.default is parameter.empty}
        assert required <= keys, part["_target_"]
        if part["_target_"].startswith("lesion_exp."):
            assert keys == set(parameters), f"{part['_target_']}: every key a user can change stands in the YAML"


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.yaml")), ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_value_has_a_comment_and_every_file_a_head(path):
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    values = [line for line in lines if not line.lstrip().startswith(("#", "-"))]
    names = ("defaults:", "_target_:")
    for line in values:
        key, _, value = line.strip().partition(":")
        if not value.strip() or line.strip().startswith(names):
            continue
        assert "  # " in line or " # " in line, f"{key} has no comment"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("recipe", RECIPES)
def test_any_image_becomes_a_square(load, lesion, recipe, shape):
    pipeline = load(recipe)
    image, mask = lesion(*shape)
    grey = np.repeat(image[:, :, :1], 3, axis=2)
    before = image.copy(), mask.copy()
    for index in range(4):
        for picture in (image, grey):
            augmented, moved = pipeline.train(picture, mask, (0, 0, index))
            assert augmented.shape == (64, 64, 3)
            assert augmented.dtype == np.uint8
            assert moved.shape == (64, 64)
            assert moved.dtype == np.uint8
            assert set(np.unique(moved)) <= {0, 255}
    shown, kept = pipeline.evaluate(image, mask)
    assert shown.shape == (64, 64, 3)
    assert set(np.unique(kept)) <= {0, 255}
    assert np.array_equal(image, before[0]), "the stored image was changed in place"
    assert np.array_equal(mask, before[1])


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_mask_changes_nothing_for_the_image(load, lesion, recipe):
    pipeline = load(recipe)
    image, mask = lesion()
    for index in range(6):
        with_mask, _ = pipeline.train(image, mask, (1, 2, index))
        without, nothing = pipeline.train(image, None, (1, 2, index))
        assert nothing is None
        assert np.array_equal(with_mask, without)


@pytest.mark.parametrize("recipe", RANDOM_RECIPES)
def test_epochs_and_positions_differ(load, lesion, recipe):
    pipeline = load(recipe)
    image, _ = lesion()
    seeds = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0, 1)]
    drawn = {pipeline.train(image, None, seed)[0].tobytes() for seed in seeds}
    assert len(drawn) == len(seeds)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_same_seed_gives_the_same_pixels_in_any_order_and_after_pickling(load, lesion, recipe):
    pipeline = load(recipe)
    image, mask = lesion()
    seeds = [(7, epoch, index) for epoch in range(3) for index in range(4)]
    first = {seed: pipeline.train(image, mask, seed) for seed in seeds}
    copy = pickle.loads(pickle.dumps(pipeline))
    for other in (pipeline, copy, load(recipe)):
        for seed in reversed(seeds):
            again = other.train(image, mask, seed)
            assert np.array_equal(first[seed][0], again[0])
            assert np.array_equal(first[seed][1], again[1])


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_alone_is_random(load, lesion, recipe):
    pipeline = load(recipe)
    image, mask = lesion()
    before = pipeline.evaluate(image, mask)[0]
    pipeline.train(image, mask, (0, 0, 5))
    assert np.array_equal(before, pipeline.evaluate(image, mask)[0])


def test_none_trains_on_what_evaluation_shows(load, lesion):
    pipeline = load("none")
    image, mask = lesion()
    for trained, shown in zip(pipeline.train(image, mask, (0, 0, 0)), pipeline.evaluate(image, mask), strict=True):
        assert np.array_equal(trained, shown)


def test_a_user_changes_switches_off_and_adds(load):
    changed = load("standard", "augmentation.transforms.rotate.p=0.3", "augmentation.transforms.flip=null")
    steps = "\n".join(changed.describe())
    assert "rotate: Rotate" in steps
    assert "p=0.3" in steps
    assert "flip" not in steps
    added = load(
        "standard",
        "+augmentation/transform@augmentation.preprocess.colour=shades_of_gray",
        "+augmentation/transform@augmentation.preprocess.border=border_crop",
        "+augmentation/transform@augmentation.transforms.hair=hair",
        "+augmentation/transform@augmentation.transforms.dark_corner=dark_corner",
        "augmentation.preprocess.colour.power=4",
    )
    steps = added.describe()
    assert steps[0] == "colour: ShadesOfGray(power=4, p=1) (also in evaluation)"
    assert steps[1].startswith("border: BorderCrop")
    assert any(step.startswith("hair: SyntheticHair") for step in steps)
    assert any(step.startswith("dark_corner: SyntheticDarkCorner") for step in steps)


def test_one_choice_of_several_can_be_left_out(load):
    steps = "\n".join(load("heavy", "augmentation.transforms.distort.transforms.elastic=null").describe())
    assert "GridDistortion" in steps
    assert "Elastic" not in steps


@pytest.mark.parametrize(
    ("override", "alphas"),
    [
        ("augmentation/mix=none", (0, 0)),
        ("augmentation/mix=mixup", (0.8, 0)),
        ("augmentation/mix=cutmix", (0, 1)),
        ("augmentation/mix=both", (0.8, 1)),
        ("augmentation.mix.mixup_alpha=0.4", (0.4, 0)),
    ],
)
@pytest.mark.parametrize("recipe", ["none", "standard", "colour_constancy"])
def test_mixing_is_chosen_beside_any_recipe(load, recipe, override, alphas):
    mix = load(recipe, override).mix
    assert (mix.mixup_alpha, mix.cutmix_alpha) == alphas
    assert mix.is_active == any(alphas)
