from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from lesion_exp.backbone.preprocessing import IMAGENET
from lesion_exp.config.instantiate import instantiate
from lesion_exp.config.preprocessing import fill_augmentation

CONF_DIR = Path(__file__).parents[2] / "conf"


@lru_cache
def composed(*overrides):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose(overrides=list(overrides))
    OmegaConf.set_struct(config, False)
    fill_augmentation(config.augmentation, IMAGENET)
    return OmegaConf.to_container(config.augmentation, resolve=True)


@pytest.fixture
def load():
    """Builds the pipeline of a recipe with overrides, as a job does."""

    def build(recipe, *overrides, image_size=64):
        return instantiate(composed(f"+augmentation={recipe}", f"+image_size={image_size}", *overrides), "augmentation")

    return build


@pytest.fixture
def lesion():
    """Makes skin with a dark lesion near the middle, and its mask."""

    def make(height=90, width=120):
        noise = np.random.default_rng(3).normal(0, 3, (height, width, 1))
        image = np.clip(np.full((height, width, 3), (215, 170, 150)) + noise, 0, 255).astype(np.uint8)
        mask = np.zeros((height, width), np.uint8)
        short = min(height, width)
        axes = (max(round(0.3 * short), 2), max(round(0.18 * short), 2))
        cv2.ellipse(mask, (round(0.53 * width), round(0.46 * height)), axes, 25, 0, 360, 255, cv2.FILLED)
        image[mask > 0] = (70, 40, 30)
        return image, mask

    return make
