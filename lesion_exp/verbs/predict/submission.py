"""Writes predictions as a submission to an ISIC challenge."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from lesion_exp.errors import DataError, first_cases
from lesion_exp.evaluation.challenge_format import FORMATS
from lesion_exp.evaluation.predictions import PREFIX
from lesion_exp.image_ids import clean_name, without_suffix
from lesion_exp.text_table import write_csv
from lesion_exp.verbs.predict.output_files import submission_path
from lesion_exp.verbs.predict.request import PredictionRequest
from lesion_exp.verbs.predict.requested_images import RequestedImages

log = logging.getLogger(__name__)


def submission_ids(images: RequestedImages, request: PredictionRequest) -> list[str]:
    """Returns the id of each row of the submission that `request` asks for: that of the image, or of its lesion.

    An image's id is that in the column `image_id` of the csv, else its file name, both without the ending. The id of a
    lesion is that in the column `lesion_id` of the csv, else the name of the folder of its image.

    Raises:
        DataError: several images have the same id, or a lesion has no id.
    """
    assert request.challenge is not None, "the caller asks for a submission"
    paths = [PurePosixPath(clean_name(name)) for name in images.table["image"]]
    of_lesions = FORMATS[request.challenge].of_lesions
    if not of_lesions:
        given = images.known["image_id"] if images.has_ids else images.table["image"]
        ids = [without_suffix(PurePosixPath(clean_name(name)).name) for name in given]
    elif "lesion_id" in images.known:
        ids = ["" if pd.isna(name) else str(name) for name in images.known["lesion_id"]]
    else:
        ids = [path.parent.name for path in paths]
    unnamed = [str(path) for path, name in zip(paths, ids, strict=True) if not name]
    if unnamed:
        raise DataError(
            f"expected the lesion of each image for format={request.challenge}, but {len(unnamed):,} have none:\n"
            f"{first_cases(unnamed)}\nname it in a column lesion_id of a csv, or lay each lesion's image into a folder "
            f"of its name"
        )
    doubled = sorted({name for name, twice in zip(ids, pd.Series(ids).duplicated(), strict=True) if twice})
    if doubled:
        what, remedy = "image name", "correct the column image_id" if images.has_ids else "rename the files"
        if of_lesions:
            what, remedy = (
                "lesion",
                (
                    "name one image of each, for example the dermoscopic one, in a csv with the columns image_path and "
                    "lesion_id"
                ),
            )
        raise DataError(
            f"expected each {what} once for format={request.challenge}, but {len(doubled):,} occur several times:\n"
            f"{first_cases(doubled)}\n{remedy}"
        )
    return ids


def write_submission(
    table: pd.DataFrame, ids: Sequence[str], classes: Sequence[str], request: PredictionRequest
) -> Path:
    """Writes the submission beside the output of `request` and returns its path; images with an error are left out.

    Args:
        table: the predictions, with a row for each image.
        ids: of `submission_ids`, in the same order.
        classes: the classes of the network.
        request: what was predicted.
    """
    assert request.challenge is not None, "the caller asks for a submission"
    layout = FORMATS[request.challenge]
    has = table["prediction"].notna().to_numpy()
    probs = table.loc[has, [f"{PREFIX}{name}" for name in classes]].to_numpy(np.float64)
    path = submission_path(request.output.expanduser().absolute(), request.challenge)
    partial = path.with_name(f".{path.name}.part")
    write_csv(layout.submission([name for name, good in zip(ids, has, strict=True) if good], probs, classes), partial)
    partial.replace(path)
    places = layout.places(classes)
    empty = [column for column in layout.columns if column not in places]
    if empty:
        log.warning("no class of the network belongs to %s: 0 in all rows of the submission", ", ".join(empty))
    undecided = layout.undecided(classes)
    if undecided:
        log.warning(
            "warning: %s may be malignant or benign, and count as not malignant in the submission",
            ", ".join(undecided),
        )
    if not has.all():
        log.warning(
            "warning: %d of %d images have no prediction and no row in the submission, which a challenge may refuse",
            int((~has).sum()), len(has),
        )  # fmt: skip
    return path
