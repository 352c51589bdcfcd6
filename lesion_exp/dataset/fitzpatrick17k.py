"""Fitzpatrick17k: 16,577 clinical photographs from two atlases of dermatology, with the skin's Fitzpatrick type."""

from __future__ import annotations

from typing import Final, Literal, get_args

import pandas as pd

from lesion_exp.dataset.info import DatasetInfo
from lesion_exp.dataset.source_files import SourceFiles
from lesion_exp.dataset.table import locate, map_labels, named_columns, standardize
from lesion_exp.errors import ConfigError, did_you_mean
from lesion_exp.text_table import read_csv

Partition = Literal["three", "nine"]

COLUMNS: Final = {
    "md5hash": "image_id",
    "fitzpatrick_scale": "skin_tone",
    "fitzpatrick_centaur": "fitzpatrick_centaur",
    "label": "leaks_condition",
    "nine_partition_label": "leaks_nine_partition_label",
    "three_partition_label": "leaks_three_partition_label",
}
"""Columns of the published table -> their names in the table."""
THREE: Final = {"benign": "benign", "malignant": "malignant", "non-neoplastic": "non_neoplastic"}
NINE: Final = {
    name: name.replace(" ", "_")
    for name in (
        "benign dermal",
        "benign epidermal",
        "benign melanocyte",
        "genodermatoses",
        "inflammatory",
        "malignant cutaneous lymphoma",
        "malignant dermal",
        "malignant epidermal",
        "malignant melanoma",
    )
}

INFO: Final = DatasetInfo(
    name="fitzpatrick17k",
    title="Fitzpatrick17k",
    citation=(
        "Groh et al., Evaluating deep neural networks trained on clinical images in dermatology with the Fitzpatrick "
        "17k dataset, CVPR Workshops 2021"
    ),
    licence="CC BY-NC-SA 3.0 (annotations); the photographs belong to the atlases",
    where="https://github.com/mattgroh/fitzpatrick17k: fitzpatrick17k.csv, and the images named <md5hash>.jpg",
    published_counts={"benign": 2234, "malignant": 2263, "non_neoplastic": 12080},
)


def read_fitzpatrick17k(root: str, partition: Partition = "three") -> pd.DataFrame:
    """The table of Fitzpatrick17k, labelled by its `three` or its `nine` groups of conditions.

    Own columns: `skin_tone` (Fitzpatrick type, 1 to 6; NaN where the set says -1), `fitzpatrick_centaur` (another
    rating), `qc` (a dermatologist's remark on some images), and `leaks_condition` and the partitions not used, each of
    which tells the label. Known duplicates are in it: their groups are found by content.

    Raises:
        DataError: the table is missing or is not in the published format.
        ConfigError: another partition.
    """
    if partition not in get_args(Partition):
        raise ConfigError(
            f"expected dataset.partition to be three or nine, got {partition!r}"
            f"{did_you_mean(str(partition), get_args(Partition))}"
        )
    files = SourceFiles(root, INFO.title)
    locator = files.require("fitzpatrick17k.csv")
    frame = named_columns(read_csv(locator), files.shorten(locator), COLUMNS)
    frame = map_labels(frame, f"leaks_{partition}_partition_label", THREE if partition == "three" else NINE)
    frame = frame.drop(columns=["url", "url_alphanum"], errors="ignore")
    for rating in ("skin_tone", "fitzpatrick_centaur"):
        frame[rating] = pd.to_numeric(frame[rating], errors="coerce").where(lambda tone: tone.between(1, 6))
    frame["image_path"] = locate(frame["image_id"], files.by_stem("*.jpg", "*.jpeg", "*.png"))
    return standardize(frame, INFO.name)
