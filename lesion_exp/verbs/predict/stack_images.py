"""The images of a request for the networks of a stacked ensemble, which may see different photographs of a lesion."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import pandas as pd

from lesion_exp.errors import DataError
from lesion_exp.verbs.predict.request import PredictionRequest
from lesion_exp.verbs.predict.requested_images import RequestedImages, requested_images

log = logging.getLogger(__name__)

NO_CLINICAL: Final = "it has no clinical photograph, which dataset.view=clinical needs"
_CLINICAL: Final = "clinical"
_CLINICAL_PATH: Final = "clinical_path"


def stack_images(
    request: PredictionRequest, needed: Mapping[str, Sequence[str]], configs: Mapping[str, Mapping[str, Any]]
) -> tuple[RequestedImages, dict[str, pd.DataFrame]]:
    """Returns the images of `request`, and the table with the same rows that each network reads, by its run.

    In a csv, a network that was trained with `dataset.view=clinical`, beside another that was not, reads the column
    `clinical_path` as its image; an image without it has an error in the table of this network.

    Args:
        request: what is predicted.
        needed: the columns that each network reads beside the image, by its run.
        configs: the config of each network, by its run, with the paths of this machine.

    Raises:
        ConfigError, DataError: photographs that a network reads are missing, or see `requested_images`.
    """
    by_view: dict[str, list[str]] = {}
    for name, config in configs.items():
        by_view.setdefault(str(config["dataset"]["view"]), []).append(name)
    shown = next((view for view in by_view if view != _CLINICAL), _CLINICAL)
    if request.dataset is None:
        columns = [column for each in needed.values() for column in each]
        columns += [_CLINICAL_PATH] if shown != _CLINICAL and _CLINICAL in by_view else []
        found = requested_images(request, tuple(dict.fromkeys(columns)), configs[by_view[shown][0]])
        images = dict.fromkeys(by_view, found)
        if shown != _CLINICAL and _CLINICAL in by_view:
            images[_CLINICAL] = _with_clinical(found, by_view[_CLINICAL][0], request.shown_source)
    else:
        images = {view: _of_view(request, needed, configs, names) for view, names in by_view.items()}
        images = _of_all_views(images, request.shown_source)
        if shown != _CLINICAL and _CLINICAL in by_view:
            pairs = images[shown].table.assign(**{_CLINICAL_PATH: images[_CLINICAL].table["image_path"]})
            images[shown] = replace(images[shown], table=pairs)
    return images[shown], {name: images[view].table for view, names in by_view.items() for name in names}


def _with_clinical(images: RequestedImages, run_id: str, source: str) -> RequestedImages:
    """`images` of a csv with the clinical photographs in place of the others."""
    found = images.table[_CLINICAL_PATH]
    if found.isna().all():
        raise DataError(
            f"expected clinical photographs in the column {_CLINICAL_PATH} of {source}, since run {run_id} of the "
            f"stacked ensemble was trained on them, beside others of dermoscopic images, but no file of these names "
            f"was found; correct the column, or predict with another run of the ensemble"
        )
    errors = ["" if isinstance(locator, str) else NO_CLINICAL for locator in found]
    texts = pd.Series(errors, index=found.index, dtype=object)
    return replace(images, table=images.table.assign(image_path=found.where(found.notna(), None), error=texts))


def _of_view(
    request: PredictionRequest,
    needed: Mapping[str, Sequence[str]],
    configs: Mapping[str, Mapping[str, Any]],
    names: Sequence[str],
) -> RequestedImages:
    """The images of a data set for networks of one `dataset.view`."""
    columns = dict.fromkeys(column for name in names for column in needed[name])
    return requested_images(request, tuple(columns), configs[names[0]])


def _of_all_views(images: Mapping[str, RequestedImages], source: str) -> dict[str, RequestedImages]:
    """The images of a data set that have the photographs of all views; dataset.on_bad_image=skip leaves others out."""
    shared = set.intersection(*(set(found.table["image"]) for found in images.values()))
    if not shared:
        raise DataError(
            f"expected images with the photographs that all networks of the stacked ensemble read (dataset.view="
            f"{', '.join(images)}), got none in {source}; name other images, or predict with a run of the ensemble"
        )
    if lacking := max(len(found.table) for found in images.values()) - len(shared):
        log.warning("%s images are left out, since a network of the ensemble reads photographs that they do not have",
                    f"{lacking:,}")  # fmt: skip
    return {view: _kept(found, shared) for view, found in images.items()}


def _kept(images: RequestedImages, names: set[str]) -> RequestedImages:
    rows = images.table["image"].isin(names).to_numpy()
    table, known = (frame[rows].reset_index(drop=True) for frame in (images.table, images.known))
    return replace(images, table=table, known=known)
