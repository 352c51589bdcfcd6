from __future__ import annotations

import random

import numpy as np
import pytest

from lesion_exp.augmentation.policy import OPERATIONS, RandomPolicy
from lesion_exp.errors import ConfigError


def run(policy, image, seed):
    policy.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return policy(image=image)["image"]


@pytest.mark.parametrize("strength", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_works_at_every_strength(name, strength, lesion):
    image, _ = lesion(48, 48)
    policy = RandomPolicy([name], strength=strength)
    made = [run(policy, image, seed) for seed in range(6)]
    assert all(drawn.shape == image.shape and drawn.dtype == np.uint8 for drawn in made)
    changed = any(not np.array_equal(drawn, image) for drawn in made)
    assert changed == (name != "identity")


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "gamma", "zoom", "blur", "hue", "posterize"])
def test_strength_makes_an_operation_stronger(name, lesion):
    image, _ = lesion(48, 48)

    def change(strength):
        policy = RandomPolicy([name], strength=strength)
        return np.mean([np.abs(run(policy, image, seed).astype(int) - image).mean() for seed in range(12)])

    assert change(0.4) < change(1.6)


def test_the_number_of_operations_is_the_users(lesion):
    image, _ = lesion(48, 48)
    one, three = RandomPolicy(["blur"]), RandomPolicy(["blur"], num_operations=3)

    def sharpness(policy):
        return np.mean([np.abs(np.diff(run(policy, image, seed).astype(int), axis=0)).mean() for seed in range(10)])

    assert sharpness(three) < sharpness(one)


def test_every_operation_is_drawn(lesion):
    image = np.full((16, 16, 3), 100, np.uint8)
    policy = RandomPolicy(["brightness", "identity"])
    unchanged = sum(np.array_equal(run(policy, image, seed), image) for seed in range(200))
    assert 70 < unchanged < 130


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"operations": ["rotat"]}, "'rotate'"),
        ({"operations": []}, "at least one"),
        ({"operations": ["hue"], "num_operations": 0}, "num_operations=0"),
        ({"operations": ["hue"], "strength": 0}, "strength"),
        ({"operations": ["hue"], "strength": 9}, "strength"),
    ],
)
def test_impossible_values_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        RandomPolicy(**arguments)
