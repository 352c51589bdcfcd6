"""What MLflow imports to serve a run's network: a table of images in, the table of `lesion-exp predict` out."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from lesion_exp.data.lesion_dataset import Sample
from lesion_exp.dataset.table import standardize
from lesion_exp.errors import ConfigError, DataError, UserError
from lesion_exp.evaluation.calibrator import Calibrator, known_method, read_calibrator
from lesion_exp.job.mlflow_model import WEIGHTS
from lesion_exp.job.restore import Restored, restore_file
from lesion_exp.predict.predictor import METADATA_COLUMNS, Predictor, collate

_INPUTS = ("image", "content")


class ServedModel:
    """A run's network behind MLflow's interface.

    A row of the input has `image`, the path of a file on the machine that serves, or `content`, an encoded file (in
    JSON: base64), beside which `image` is only its name; and the columns that the network reads beside the image.
    """

    def __init__(self, restored: Restored) -> None:
        self.restored = restored
        loader = restored.config["loader"]
        self.batch_size = int(loader["evaluation_batch_size"] or 2 * loader["batch_size"])
        self.predictor = functools.cache(self._predictor)

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """`image`, `prediction`, `p_<class>`, `top1`... and `error`, a row for each of the input.

        `params` may hold `calibration` (none, temperature, vector or isotonic) and `top` (number of columns).

        Raises:
            ConfigError: a value of `params` that is none.
            DataError: columns that the network reads are missing.
        """
        given = dict(params or {})
        predictor = self.predictor(str(given.get("calibration", "none")), int(given.get("top", 0)))
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
        known_method(method)
        kept = self.restored.card["calibration"]
        if method not in kept:
            raise ConfigError(f"expected calibration=none, got {method}: none was kept with this network")
        return read_calibrator(kept[method])

    def _check(self, predictor: Predictor, table: pd.DataFrame) -> None:
        lacking = [name for name in predictor.needed_columns if name not in table]
        if lacking or table.empty or not set(_INPUTS) & set(table):
            wanted = ", ".join(lacking) or "image (paths) or content (encoded files)"
            raise DataError(
                f"expected a row an image with the columns {wanted}, got {len(table)} rows of "
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
        given = {str(key): value for key, value in row.items() if not pd.isna(value)}
        names.append(str(given.get("image", f"image {table.index[position] + 1}")))
        sample = _sample(predictor, given, names[-1])
        if metadata is not None and not isinstance(sample, str):
            sample["metadata"] = metadata[position]
        samples.append(sample)
    return predictor.predict(collate(names, samples)).table


def _sample(predictor: Predictor, row: Mapping[str, Any], name: str) -> Sample | str:
    """The sample of a row, or why there is none."""
    companions = predictor.preparation.companions
    try:
        if "content" in row:
            if companions:
                raise DataError(
                    f"expected image, a path, since this network reads {', '.join(companions)}, got content"
                )
            return predictor.preparation.from_bytes(bytes(row["content"]), name)
        if "image" not in row:
            raise DataError("expected image, a path, or content, an encoded file, got neither")
        return predictor.preparation.from_files(row["image"], **{key: row.get(key) for key in companions})
    except UserError as error:
        return str(error)
