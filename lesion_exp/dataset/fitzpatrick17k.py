"""Reads Fitzpatrick17k: 16,577 clinical photographs from two atlases of dermatology, with the Fitzpatrick skin type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, get_args

import pandas as pd

from lesion_exp.dataset.image_files import locate_images
from lesion_exp.dataset.source_files import SourceFiles
from lesion_exp.dataset.table import DatasetInfo, map_labels, named_columns, standardize
from lesion_exp.errors import check_choice
from lesion_exp.image_ids import plain_ids
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

COUNTS: Final = {
    "three": {"benign": 2234, "malignant": 2263, "non_neoplastic": 12_080},
    "nine": {
        "benign_dermal": 1067, "benign_epidermal": 931, "benign_melanocyte": 236, "genodermatoses": 1194,
        "inflammatory": 10_886, "malignant_cutaneous_lymphoma": 182, "malignant_dermal": 156,
        "malignant_epidermal": 1352, "malignant_melanoma": 573,
    },
}  # fmt: skip
"""`partition` -> photographs per class."""

INFO: Final = DatasetInfo(
    name="fitzpatrick17k",
    title="Fitzpatrick17k",
    view="clinical",
    citation=(
        "Groh et al., Evaluating deep neural networks trained on clinical images in dermatology with the Fitzpatrick "
        "17k dataset, CVPR Workshops 2021"
    ),
    licence="CC BY-NC-SA 3.0 (annotations); the photographs belong to the atlases",
    where="https://github.com/mattgroh/fitzpatrick17k: fitzpatrick17k.csv, and the images named <md5hash>.jpg",
    published_counts=COUNTS["three"],
    published_for=lambda partition="three", **_: COUNTS[partition],
)


def read_fitzpatrick17k(root: str, partition: Partition = "three", ignore: Sequence[str] = ()) -> pd.DataFrame:
    """Returns the table of Fitzpatrick17k.

    Own columns: `skin_tone` (Fitzpatrick type, 1 to 6; NaN if the set gives -1), `fitzpatrick_centaur` (another
    rating), `qc` (a dermatologist's remark on some images), and `leaks_condition` and the partitions, each of which
    reveals the label. Known duplicates stay in the table; the split finds them by their content.

    Args:
        root: folder with the table and the images.
        partition: classes: `three` or `nine` groups of conditions.
        ignore: patterns of files that are not read.

    Raises:
        DataError: the table is missing or is not in the published format.
        ConfigError: there is no such partition.
    """
    check_choice("dataset.partition", partition, get_args(Partition))
    files = SourceFiles(root, INFO.title, ignore)
    locator = files.require("fitzpatrick17k.csv")
    frame = named_columns(read_csv(locator), files.shorten(locator), COLUMNS)
    frame = map_labels(frame, f"leaks_{partition}_partition_label", THREE if partition == "three" else NINE)
    frame = frame.drop(columns=["url", "url_alphanum"], errors="ignore")
    for rating in ("skin_tone", "fitzpatrick_centaur"):
        frame[rating] = pd.to_numeric(frame[rating], errors="coerce").where(lambda tone: tone.between(1, 6))
    frame["image_id"] = plain_ids(frame["image_id"])
    frame["image_path"] = locate_images(frame["image_id"], files)
    return standardize(frame, INFO.name)
