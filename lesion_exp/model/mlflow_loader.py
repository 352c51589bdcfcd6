"""The module that MLflow imports to serve a network: it turns a table of images into that of `lesion-exp predict`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd
import torch

from lesion_exp.data.lesion_dataset import Sample
from lesion_exp.dataset.table import standardize
from lesion_exp.errors import ConfigError, DataError, UserError, check_choice
from lesion_exp.evaluation.calibrator import DEFAULT_CALIBRATION, METHODS, Calibrator, read_calibrator
from lesion_exp.image_file import check_image_file
from lesion_exp.model.mlflow_model import WEIGHTS
from lesion_exp.model.predictor import METADATA_COLUMNS, Predictor, collate
from lesion_exp.model.restore import Restored, restore_file

_INPUTS = ("image", "content")
MAX_BYTES: Final = 256 * 2**20
"""Largest image that is read, in bytes: requests need not come from the owner of the machine."""


class ServedModel:
    """A trained network with the interface of an MLflow model.

    Each row of the input has `image`, the path of an image file on the serving machine (not one in a zip), or
    `content`, an encoded file (in JSON: base64), for which `image` is only a name; and the further columns that the
    network needs. Only image files are read, and no answer repeats the content of a file.
    """

    def __init__(self, restored: Restored) -> None:
        self.restored = restored
        loader = restored.config["loader"]
        self.batch_size = int(loader["evaluation_batch_size"] or 2 * loader["batch_size"])
        self.predictor = functools.cache(self._predictor)

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Returns `image`, `prediction`, `p_<class>`, `top1`... and `error`, a row for each row of the input.

        `params` may contain `calibration` (none, temperature, vector or isotonic) and `top` (number of columns).

        Raises:
            ConfigError: a value of `params` is not allowed.
            DataError: columns that the network needs are missing.
        """
        given = dict(params or {})
        predictor = self.predictor(str(given.get("calibration", DEFAULT_CALIBRATION)), int(given.get("top", 0)))
        self._check(predictor, model_input)
        table = model_input.reset_index(drop=True)
        batches = [table.iloc[begin : begin + self.batch_size] for begin in range(0, len(table), self.batch_size)]
        found = pd.concat([_predict(predictor, batch) for batch in batches], ignore_index=True)
        texts = found.astype({name: object for name in found if found[name].dtype.kind != "f" or found[name].hasnans})
        return texts.where(texts.notna(), None)  # null in JSON, which knows no NaN

    def _predictor(self, calibration: str, top: int) -> Predictor:
        return Predictor(self.restored, self._calibrator(calibration), top=top)

    def _calibrator(self, method: str) -> Calibrator | None:
        if method == "none":
            return None
        check_choice("calibration", method, METHODS)
        kept = self.restored.card["calibration"]
        if method not in kept:
            names = " or ".join(["none", *sorted(kept)])
            raise ConfigError(f"expected calibration={names}, which this model contains, got {method}")
        return read_calibrator(kept[method])

    def _check(self, predictor: Predictor, table: pd.DataFrame) -> None:
        lacking = [name for name in predictor.needed_columns if name not in table]
        if lacking or table.empty or not set(_INPUTS) & set(table):
            wanted = ", ".join(lacking) or "image (paths) or content (encoded files)"
            raise DataError(
                f"expected a row for each image, with the columns {wanted}, got {len(table)} rows with the columns "
                f"{', '.join(map(str, table.columns))}"
            )


def _load_pyfunc(path: str) -> ServedModel:
    """The model in a folder; called by MLflow."""
    return ServedModel(restore_file(Path(path) / WEIGHTS))


def _predict(predictor: Predictor, table: pd.DataFrame) -> pd.DataFrame:
    metadata = None
    if predictor.encoder is not None:
        values = standardize(table[list(METADATA_COLUMNS)].assign(image_id="", label=None), "the input")
        metadata = torch.from_numpy(predictor.encoder.encode(values))
    names: list[str] = []
    samples: list[Sample | str] = []
    for position, row in enumerate(table.to_dict("records")):
        given = {str(key): value for key, value in row.items() if not _is_missing(value)}
        names.append(str(given.get("image", f"image {table.index[position] + 1}")))
        sample = _sample(predictor, given, names[-1])
        if metadata is not None and not isinstance(sample, str):
            sample["metadata"] = metadata[position]
        samples.append(sample)
    return predictor.predict(collate(names, samples)).table


def _sample(predictor: Predictor, row: Mapping[str, Any], name: str) -> Sample | str:
    """The sample of a row, or the reason why there is none."""
    companions = predictor.preparation.companions
    try:
        if "content" in row:
            if companions:
                raise DataError(
                    f"expected image, a path, since this network reads {', '.join(companions)}, got content"
                )
            return predictor.preparation.from_bytes(_encoded(row["content"]), name)
        if "image" not in row:
            raise DataError("expected image, a path, or content, an encoded file, got neither")
        paths = [_path(row, "image"), *(_path(row, key) if key in row else None for key in companions)]
        return predictor.preparation.from_files(str(paths[0]), **dict(zip(companions, paths[1:], strict=True)))
    except UserError as error:
        return str(error)


def _encoded(content: object) -> bytes:
    content = bytes(content) if isinstance(content, bytearray | memoryview) else content
    if isinstance(content, bytes) and len(content) <= MAX_BYTES:
        return content
    found = f"{len(content):,} bytes" if isinstance(content, bytes) else type(content).__name__
    raise DataError(
        f"expected content to be an encoded image of at most {MAX_BYTES:,} bytes (in JSON as base64), got {found}"
    )


def _path(row: Mapping[str, Any], key: str) -> str:
    path = row[key]
    if not isinstance(path, str):
        raise DataError(f"expected {key} to be a path, got {type(path).__name__}")
    check_image_file(path, MAX_BYTES)
    return path


def _is_missing(value: object) -> bool:
    found: Any = value
    return bool(pd.api.types.is_scalar(found) and pd.isna(found))
