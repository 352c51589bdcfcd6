"""The results of a prediction: a small file for each batch, a growing csv, and at the end one complete file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lesion_exp.evaluation.predictions import PREFIX
from lesion_exp.model.predictor import Predicted
from lesion_exp.text_table import unescaped, write_csv
from lesion_exp.verbs.predict.plan import DONE_FILE, PLAN_FILE, PredictionPlan

METADATA_KEY: Final = "lesion_exp"
"""Entry in the metadata of a parquet file with the plan's facts as JSON."""
HEAD: Final = ("features", "logits")
"""What is stored of the head beside the predictions, if it is asked for; fields of `Predicted`."""
FloatArray = npt.NDArray[np.float32]


class Results:
    """The batches of a plan in its folder. A batch's file appears complete, so that a process may die at any time."""

    def __init__(self, folder: Path, plan: PredictionPlan, num_images: int) -> None:
        self.folder = folder
        self.plan = plan
        self.total = num_images
        self.num_batches = -(-num_images // plan.batch_size)

    @property
    def are_whole(self) -> bool:
        """Whether the output is complete, so that only this folder must be removed."""
        return (self.folder / DONE_FILE).is_file()

    def missing(self) -> list[int]:
        """The batches that have not been predicted."""
        return [number for number in range(self.num_batches) if not self.path(number).exists()]

    def num_images(self, numbers: Sequence[int]) -> int:
        """The number of images in these batches."""
        size = self.plan.batch_size
        return sum(min(size, self.total - number * size) for number in numbers)

    def add(self, number: int, predicted: Predicted) -> None:
        """Stores a batch."""
        for name in HEAD:
            values = getattr(predicted, name)
            if values is not None:
                np.save(self._array_path(number, name), values, allow_pickle=False)
        table = pa.Table.from_pandas(predicted.table, schema=_schema(predicted.table), preserve_index=False)
        partial = self.path(number).with_suffix(".part")
        pq.write_table(table, partial)
        partial.replace(self.path(number))

    def tables(self) -> Iterator[pd.DataFrame]:
        """The batches in their order, one after the other."""
        return (pq.read_table(self.path(number)).to_pandas() for number in range(self.num_batches))

    def of_head(self, name: str) -> FloatArray:
        """Inputs (`features`, float32 (N, F)) or outputs (`logits`, (N, C)) of the head; NaN without a prediction."""
        paths = [self._array_path(number, name) for number in range(self.num_batches)]
        return np.concatenate([np.load(path, allow_pickle=False) for path in paths])

    def join(self) -> pd.DataFrame:
        """Writes the complete output at once and returns its table."""
        table = pd.concat(list(self.tables()), ignore_index=True)
        write_output(table, Path(self.plan.output), self.plan.facts)
        return table

    def read(self) -> pd.DataFrame:
        """The table of a complete output."""
        return read_output(Path(self.plan.output))

    def clear(self) -> None:
        """Removes the folder; the plan is removed first, so that an incomplete folder is never continued."""
        (self.folder / PLAN_FILE).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def finish(self) -> None:
        """Removes the folder of a plan whose output is complete.

        The plan is renamed first and removed last, so that a command that is killed meanwhile is known to be complete.
        """
        plan, done = self.folder / PLAN_FILE, self.folder / DONE_FILE
        if plan.exists():
            plan.replace(done)
        for path in self.folder.iterdir():
            if path != done:
                path.unlink()
        done.unlink(missing_ok=True)
        self.folder.rmdir()

    def path(self, number: int) -> Path:
        """The file of a batch."""
        return self.folder / f"{number:08d}.parquet"

    def _array_path(self, number: int, name: str) -> Path:
        return self.folder / f"{number:08d}_{name}.npy"


class GrowingCsv:
    """Writes results into the csv while others are still computed: the first rows, up to the first missing batch."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.path = Path(results.plan.output)
        self.is_csv = self.path.suffix.lower() == ".csv"
        self._next = 0
        if self.is_csv:
            self.path.write_text("", encoding="utf-8")

    def grow(self) -> None:
        """Adds the batches that have been predicted, by any process, since the last call."""
        while self.is_csv and self._next < self.results.num_batches and self.results.path(self._next).exists():
            table = pq.read_table(self.results.path(self._next)).to_pandas()
            write_csv(table, self.path, mode="a", header=self._next == 0)
            self._next += 1


def read_output(output: Path) -> pd.DataFrame:
    """Reads the table that `write_output` or `GrowingCsv` wrote to a csv or parquet file.

    Every column but the probabilities has texts, since an image may be called 007, and a class 1 or NA.
    """
    if output.suffix.lower() != ".csv":
        table: pd.DataFrame = pq.read_table(output).to_pandas()
        return table
    names = [str(name) for name in pd.read_csv(output, nrows=0)]
    texts = dict.fromkeys((name for name in names if not name.startswith(PREFIX)), str)
    table = pd.read_csv(output, keep_default_na=False, na_values=[""], dtype=texts)
    for name in texts:
        table[name] = table[name].map(unescaped, na_action="ignore")
    return table.rename(columns=unescaped)


def write_output(table: pd.DataFrame, output: Path, facts: Mapping[str, Any]) -> None:
    """Writes the predictions to a csv or parquet file, which appears complete; parquet has the `facts` with it."""
    partial = output.with_name(f".{output.name}.part")
    if output.suffix.lower() == ".csv":
        write_csv(table, partial)
    else:
        written = pa.Table.from_pandas(table, schema=_schema(table), preserve_index=False)
        known = {METADATA_KEY: json.dumps(dict(facts))}
        pq.write_table(written.replace_schema_metadata({**(written.schema.metadata or {}), **known}), partial)
    partial.replace(output)


def write_of_head(path: Path, table: pd.DataFrame, of_head: Mapping[str, FloatArray], classes: Sequence[str]) -> None:
    """Writes features and logits of all images, in the order of the predictions; the file appears complete.

    An .npz file has the arrays `image` (N,), `features` (N, F), `logits` (N, C) and `classes` (C,), none of them
    pickled; a .parquet file has the columns `image`, `logit_CLASS` and `f0`, `f1` and so on.

    Args:
        path: the file.
        table: the predictions, of which the column `image` is written.
        of_head: the arrays by the names in `HEAD`.
        classes: the names of the C classes.
    """
    partial = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    names = table["image"].astype(str)
    if path.suffix.lower() == ".npz":
        with partial.open("wb") as file:
            np.savez(
                file,
                image=np.array(names, dtype=str),
                classes=np.array(classes, dtype=str),
                features=of_head["features"],
                logits=of_head["logits"],
            )
    else:
        logits = {f"logit_{name}": of_head["logits"][:, place] for place, name in enumerate(classes)}
        features = {f"f{place}": values for place, values in enumerate(of_head["features"].T)}
        pq.write_table(pa.table({"image": list(names), **logits, **features}), partial)
    partial.replace(path)


def _schema(table: pd.DataFrame) -> pa.Schema:
    """The schema of a table: the same for every batch, also if no image or every image has a prediction."""
    kinds = {"f": pa.float32()}
    return pa.schema([(str(name), kinds.get(values.dtype.kind, pa.string())) for name, values in table.items()])
