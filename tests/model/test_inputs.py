"""What a job's config says of the inputs of its network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lesion_exp.augmentation.pipeline import AugmentationPipeline
from lesion_exp.data.lesion_dataset import LesionDataset, Preparation, SampleOptions
from lesion_exp.data.store import open_or_build
from lesion_exp.data.store_builder import StoreRequest
from lesion_exp.model.inputs import store_request


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("auto", StoreRequest(80)),
        (100, StoreRequest(100)),
        ("none", StoreRequest(80, from_files=True)),
    ],
)
def test_the_store_has_what_the_config_asks_for(size, expected):
    node = {"store_size": size, "mask": "none", "view": "dermoscopic"}
    assert store_request({"dataset": node, "image_size": 64}) == expected


@pytest.mark.parametrize("from_files", [False, True])
def test_a_file_is_prepared_as_the_images_of_training_are(tmp_path, from_files):
    coarse = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    path = str(tmp_path / "a.jpg")
    Image.fromarray(coarse).resize((600, 450), Image.Resampling.BICUBIC).save(path, quality=95)
    pipeline = AugmentationPipeline(64, "crop", None, None, None, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    table = pd.DataFrame({"image_id": ["a"], "image_path": [path], "label": ["nevus"]})
    store = open_or_build(table, StoreRequest(80, from_files=from_files), tmp_path / "cache")
    options = SampleOptions()
    trained = LesionDataset(table, store, pipeline, ("nevus",), options, training=False)[(0, 0)]["image"]
    preparation, other = (Preparation(pipeline, options, 80, reduced=way) for way in (from_files, not from_files))
    assert torch.equal(preparation.from_files(path)["image"], trained)
    assert torch.equal(preparation.from_bytes(Path(path).read_bytes(), "a.jpg")["image"], trained)
    assert not torch.equal(other.from_files(path)["image"], trained)
