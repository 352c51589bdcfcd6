"""What is said, and refused, of the parts that a data set was published with."""

import re
import shlex

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lesion_exp.config.compose import compose
from lesion_exp.errors import DataError
from lesion_exp.training.data import _other_split, load_data, split_data


def pictures(root, *folders, count=6):
    """Pictures of noise, each different, in `folders` below `root`."""
    rng = np.random.default_rng(0)
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((48, 48), Image.Resampling.NEAREST).save(root / folder / f"{number}.png")


def split_of(root, data, *overrides):
    words = ["dataset=folder", f"dataset.root={data}", "image_size=32", *overrides]
    config = compose(words, root=root).config
    return split_data(config, load_data(config))


@pytest.mark.parametrize(("test", "val"), [("test", "val"), ("Test Set", "validation_data")])
def test_training_on_the_published_parts_is_said_with_the_remedy(tmp_path, test, val):
    data = tmp_path / "data"
    pictures(data, *(f"{part}/{name}" for part in ("train", test, val) for name in ("mel", "nv")))
    mixed = split_of(tmp_path, data)
    assert mixed.classes == ("mel", "nv")
    for part in ("test", "val"):
        trained = mixed.table[(mixed.table["official_split"] == part) & (mixed.table["split"] == "train")]
        said = [text for text in mixed.audit.warnings if f"the data set's own {part} part" in text]
        assert len(said) == 1
        assert said[0].startswith(f"{len(trained)} images")
        assert "split=official" in said[0]
    kept = split_of(tmp_path, data, "split=official")
    assert not any("own" in text for text in kept.audit.warnings)
    assert (kept.table["official_split"] == kept.table["split"]).all()


@pytest.mark.parametrize("chosen", [None, "label != 'x'"])
def test_a_class_that_is_never_trained_on_is_left_out_as_the_message_says(tmp_path, chosen):
    data = tmp_path / "data"
    folders = [f"{part}/{name}" for part in ("train", "val", "test") for name in ("mel", "nv")]
    pictures(data, *folders, "val/it's b", count=3)
    filters = [f'dataset.filter="{chosen}"'] if chosen else []
    with pytest.raises(DataError, match="it's b: 3 images in val") as caught:
        split_of(tmp_path, data, "split=official", *filters)
    (typed,) = shlex.split(re.search(r"leave them out with (.*)", str(caught.value))[1])
    assert typed.startswith("dataset.filter=")
    assert split_of(tmp_path, data, "split=official", typed).classes == ("mel", "nv")


def test_a_class_of_one_lesion_is_tested_by_a_fold_and_the_message_names_a_split_that_trains_on_it(tmp_path):
    data = tmp_path / "data"
    pictures(data, "mel", "nv")
    pictures(data, "bcc", count=1)
    refused = []
    for fold in range(3):
        try:
            split_of(tmp_path, data, "split=kfold", "split.num_folds=3", f"split.fold={fold}")
        except DataError as error:
            refused.append(str(error))
    assert len(refused) == 1
    assert "bcc: 1 images in test" in refused[0]
    assert "split.ratios" not in refused[0]
    assert "split.seed" not in refused[0]
    assert "use split=grouped" in refused[0]
    assert split_of(tmp_path, data, "split=grouped").classes == ("bcc", "mel", "nv")


@pytest.mark.parametrize(
    ("node", "keys"),
    [
        ({"ratios": {}, "seed": 0}, "split.ratios or split.seed"),
        ({"num_folds": 5, "val_ratio": 0.2, "seed": 0}, "split.num_folds or split.val_ratio or split.seed"),
        ({"path": "FILE"}, ""),
    ],
)
def test_the_keys_that_may_help_are_those_of_the_split(node, keys):
    absent = pd.DataFrame({"label": ["bcc", "bcc"], "group": ["a", "b"]})
    assert _other_split(absent, node) == (f", or use another {keys}" if keys else "")


def test_a_class_of_one_lesion_is_trained_on_whatever_the_shares(tmp_path):
    data = tmp_path / "data"
    pictures(data, "mel", "nv", count=8)
    pictures(data, "bcc", count=1)
    found = split_of(tmp_path, data, "split.ratios={train: 0.3, val: 0.2, test: 0.5}")
    assert found.table.loc[found.table["label"] == "bcc", "split"].tolist() == ["train"]
