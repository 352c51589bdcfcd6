"""The images of a request, and what its csv or data set knows of them beside the pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from lesion_exp.config.registered import check_registered
from lesion_exp.dataset.id_origin import has_ids_of_a_folder, with_id_origin
from lesion_exp.dataset.loading import Flow, require_any_mask
from lesion_exp.errors import ConfigError
from lesion_exp.model.inputs import SAMPLE_KEYS
from lesion_exp.split.seen_before import named_ids, same_ids_elsewhere
from lesion_exp.text_table import read_csv
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.stored_run import Run
from lesion_exp.training.data import read_table
from lesion_exp.training.photographs import as_in_training, view_elsewhere
from lesion_exp.training.seen_before import rows_of
from lesion_exp.verbs.predict.images import TABLE_SUFFIXES, images_of
from lesion_exp.verbs.predict.request import PICTURES, PredictionRequest


@dataclass(frozen=True)
class RequestedImages:
    """The images to predict."""

    table: pd.DataFrame
    """What a network reads, see `images`."""
    known: pd.DataFrame
    """`image_id` and all other columns of the csv or of the data set, a row for each image in the same order. The
    cells of a csv are texts, as they stand there. Labels are no part of it."""
    has_ids: bool = False
    """Whether a csv has a column `image_id`; otherwise, for files, it is the path without its ending."""


def requested_images(request: PredictionRequest, needed: Sequence[str], config: Mapping[str, Any]) -> RequestedImages:
    """Returns the images of `request`.

    Args:
        request: what is predicted.
        needed: columns that the networks read beside the image.
        config: that of the run, with the paths of this machine.

    Raises:
        ConfigError, DataError: see `images_of` and `read_table`.
    """
    if request.dataset is not None:
        return _of_data_set(request.dataset, needed, config, request.view)
    assert request.source is not None, "the request checks that it has images"
    images = images_of(request.source, needed, request.columns)
    return RequestedImages(images, *_of_source(images, request.source, request.columns))


def _of_data_set(
    node: Mapping[str, Any], needed: Sequence[str], config: Mapping[str, Any], view: str | None
) -> RequestedImages:
    """All images of the table, whether they have a label or not; `view` is the one that the user set."""
    if node.get("pseudo_labels"):
        raise ConfigError(
            "expected a data set without dataset.pseudo_labels, since labels play no part here; leave the key out"
        )
    own = config["dataset"]
    kept = {**{key: own[key] for key in SAMPLE_KEYS}, "view": view_elsewhere(own, node, view)}
    config = {**config, "dataset": {**node, **kept}}
    check_registered(config)
    with as_in_training():
        table = read_table(config, Flow(), needs_labels=False).drop(columns="label")
        if "mask_path" in needed:
            require_any_mask(table, str(own["mask"]))
    images = table[["image_id", "image_path"]].rename(columns={"image_id": "image"}).assign(error="").astype(object)
    read = {name: table[name] for name in needed if name in table}
    pictures = {name: values.astype(object) for name, values in read.items() if name in PICTURES}
    return RequestedImages(images.assign(**read | pictures), table)


def _of_source(images: pd.DataFrame, source: str, columns: Mapping[str, str]) -> tuple[pd.DataFrame, bool]:
    """The columns of a csv, by the names that they have here, and whether it has ids; else an id of each image, its
    name without the ending."""
    found = pd.DataFrame({"image_id": images["image"].astype(str).map(_id_of)})
    path = Path(source).expanduser()
    if path.suffix.lower() not in TABLE_SUFFIXES or not path.is_file():
        return found, False
    raw = read_csv(str(path)).set_axis(images.index)
    raw = raw.assign(**{name: raw[column] for name, column in columns.items()})
    has_ids = "image_id" in raw
    ids = raw["image_id"].where(raw["image_id"].notna(), found["image_id"]) if has_ids else found["image_id"]
    return raw.assign(image_id=ids).drop(columns="label", errors="ignore"), has_ids


def _id_of(name: str) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    return str(path.with_suffix("")) if path.name else name  # of a blank cell


def seen_images(runs: Sequence[Run], images: RequestedImages, request: PredictionRequest) -> tuple[str, ...]:
    """Sentences about the images of a data set whose ids those have that the `runs` were trained or chosen with, in the
    same data or in those of another folder, if there are any; none for files without a data set.
    """
    if request.dataset is None:
        return ()
    known = with_id_origin(images.known, request.dataset)
    own = named_ids(known, "image_id")
    seen, elsewhere = np.zeros(len(own), dtype=bool), np.zeros(len(own), dtype=bool)
    for run in runs:
        if run.fetch(artifacts.MANIFEST) is not None:
            rows = rows_of(run, ("train", "val"))
            seen |= own.isin(named_ids(rows, "image_id")).to_numpy()
            elsewhere |= same_ids_elsewhere(known, rows, ["image_id"]).to_numpy()
    elsewhere &= ~seen & has_ids_of_a_folder(request.dataset)
    sentences = []
    if seen.any():
        sentences.append(
            f"{np.count_nonzero(seen):,} of {len(seen):,} images have the ids of images in the training or validation "
            f"part of the run, which is surer of those than of new ones; leave them out with dataset.filter"
        )
    if elsewhere.any():
        sentences.append(
            f"{np.count_nonzero(elsewhere):,} of {len(seen):,} images have the ids of images that the run has seen in "
            f"data of another folder; it is not known whether they are the same images, of which the run is surer than "
            f"of new ones; if they are, leave them out with dataset.filter"
        )
    return tuple(sentences)
