"""Reads the parts of ISIC challenges whose ground truth is one-hot (2018 Task 3 and 2019)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import pandas as pd

from lesion_exp.dataset.findings import record_finding
from lesion_exp.dataset.source_files import SourceFiles
from lesion_exp.dataset.table import map_labels, one_hot_label, require_columns
from lesion_exp.errors import ConfigError, did_you_mean
from lesion_exp.image_ids import plain_ids
from lesion_exp.text_table import read_csv

PART_NAMES: Final = {"train": "Training", "val": "Validation", "test": "Test"}
"""Part -> its name in the file names of the challenges."""


def check_parts(parts: Sequence[str], known: Sequence[str], name: str) -> tuple[str, ...]:
    """Returns `parts` in the order train, val, test.

    Raises:
        ConfigError: the list is empty, or the data set `name` does not have one of the parts.
    """
    asked = [parts] if isinstance(parts, str) else list(parts)
    for part in asked:
        if part not in known:
            raise ConfigError(
                f"expected dataset.parts to be a list out of {', '.join(known)} for {name}, got {part!r}"
                f"{did_you_mean(str(part), known)}"
            )
    if not asked:
        raise ConfigError(f"expected at least one of {', '.join(known)} in dataset.parts for {name}, got an empty list")
    return tuple(part for part in PART_NAMES if part in asked)


def counts_of_parts(counts: Mapping[str, Mapping[str, int]]) -> Callable[..., dict[str, int]]:
    """Returns a function from a reader's argument `parts` to images per class; `counts` has the images of each part."""

    def published(parts: Sequence[str] = ("train",), **_: object) -> dict[str, int]:
        several = [counts[part] for part in ([parts] if isinstance(parts, str) else parts)]
        codes = sorted({code for part in several for code in part})
        return {code: sum(part.get(code, 0) for part in several) for code in codes}

    return published


def ground_truth_name(challenge: str, part: str) -> str:
    """Returns the file name of the ground truth of `part`, without ending (`ISIC2018_Task3_Test_GroundTruth`)."""
    return f"{challenge}_{PART_NAMES[part]}_GroundTruth"


def read_one_hot(
    files: SourceFiles, challenge: str, part: str, codes: Mapping[str, str], unscored: frozenset[str] = frozenset()
) -> pd.DataFrame:
    """Reads the ground truth of one part: `image_id`, `label`, `raw_label` and `official_split`.

    Images to which the organisers' scorer gives weight zero are left out, and the log says so.

    Args:
        files: the files of the data set.
        challenge: prefix of the challenge's file names.
        part: `train`, `val` or `test`.
        codes: column of the ground truth -> class.
        unscored: images of weight zero, in addition to those with 0 in the column `score_weight`.

    Raises:
        DataError: the file or a column is missing, or a row is not one-hot.
    """
    locator = files.require(f"{ground_truth_name(challenge, part)}.csv")
    frame = read_csv(locator)
    require_columns(frame, ["image", *codes], files.shorten(locator))
    frame["image"] = plain_ids(frame["image"])
    zero = frame["image"].isin(unscored)
    if "score_weight" in frame.columns:
        zero |= pd.to_numeric(frame["score_weight"], errors="coerce") == 0
    if zero.any():
        record_finding(
            f"{zero.sum():,} images of {challenge}, {part}, are left out, since the scorer gives them weight zero"
        )
        frame = frame[~zero]
    raw = one_hot_label(frame, codes, files.shorten(locator))
    labelled = map_labels(pd.DataFrame({"image_id": frame["image"], "raw": raw}), "raw", codes)
    return labelled.drop(columns="raw").assign(official_split=part)
