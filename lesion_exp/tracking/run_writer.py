"""Writes to a run: artifacts, data set inputs, late metrics, and the log of the process while the run is active."""

from __future__ import annotations

import json
import logging
import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Literal

import pandas as pd

from lesion_exp.privacy import redacted
from lesion_exp.tracking.mlflow_values import allowed_name, known_steps
from lesion_exp.tracking.spool import LOCK_FILE, SPOOL_DIR
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.stored_run import Run, fetch_artifact

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities import DatasetInput

log = logging.getLogger(__name__)
_LONGEST_DIGEST: Final = 36
_METRICS_IN_A_CALL: Final = 1000
_PICTURE_DPI: Final = 150
_FOOTER: Final = "footer"
"""The id of the footer in a figure."""
_FOOTER_SIZE: Final = 6.5
_FOOTER_GAP: Final = 0.05
"""Distance between a figure and its footer, inches."""
_FOOTER_COLOUR: Final = "#5F6871"
_MARGIN: Final = 0.1
"""Around the picture, inches."""
_COLUMN_TYPES: Final = {"b": "boolean", "i": "long", "u": "long", "f": "double", "M": "datetime"}
_OWN_HANDLERS: Final = ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "mlflow")
"""Loggers that may not propagate to the root logger."""


class RunWriter:
    """Writes to a run, which may have ended; artifact paths are relative, such as `curves/roc_test.png`."""

    def __init__(self, store: Store, run_id: str, artifact_uri: str) -> None:
        self.store = store
        self.run_id = run_id
        self.artifact_uri = artifact_uri

    @staticmethod
    def of(run: Run) -> RunWriter:
        """Returns a writer for an existing run."""
        return RunWriter(run.store, run.run_id, run.artifact_uri)

    def log_file(self, path: Path, artifact_path: str) -> None:
        """Saves a copy of a file."""
        parts = PurePosixPath(artifact_path).parts
        assert not {"/", ".."} & set(parts), f"not a path below the run: {artifact_path}"
        self._put_file(path, artifact_path)

    def log_again(self, path: Path, known_path: str, artifact_path: str) -> None:
        """Saves a file, which the run has as `known_path`, as `artifact_path` too; on a disk as a hard link."""
        folder = self.store.artifact_dir(self.artifact_uri)
        if folder is not None:
            target = folder / artifact_path
            target.parent.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):  # a file system without links, or an earlier file of that name
                target.hardlink_to(folder / known_path)
                return
        self.log_file(path, artifact_path)

    @contextmanager
    def new_file(self, artifact_path: str) -> Iterator[Path]:
        """Yields a path to write to; the file is saved as `artifact_path` when the block ends without error."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / PurePosixPath(artifact_path).name
            yield path
            self.log_file(path, artifact_path)

    def log_text(self, text: str, artifact_path: str) -> None:
        """Saves a text (UTF-8), without secrets."""
        with self.new_file(artifact_path) as path:
            path.write_text(redacted(text), encoding="utf-8")

    def log_json(self, content: Any, artifact_path: str) -> None:
        """Saves lists, mappings, numbers and texts as indented JSON."""
        self.log_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", artifact_path)

    def log_table(self, table: pd.DataFrame, artifact_path: str) -> None:
        """Saves a table as parquet, without its index."""
        assert artifact_path.endswith(".parquet"), f"tables are parquet: {artifact_path}"
        with self.new_file(artifact_path) as path:
            table.to_parquet(path, index=False)

    @cached_property
    def name(self) -> str:
        """The run's name in MLflow."""
        return str(self.store.client.get_run(self.run_id).info.run_name or "")

    def footer(self, about: str) -> str:
        """Returns the footer of a picture: the run's name, the beginning of its id, and what the picture is about."""
        return f"run {self.name} ({self.run_id[:8]}), {about}"

    def log_figure(self, figure: Figure, artifact_path: str, about: str) -> None:
        """Saves a figure as a picture of 150 dots per inch, whose footer names the run and what the figure is about.

        Args:
            figure: any figure.
            artifact_path: a path that ends with `.png`.
            about: what the figure shows, such as "test part".
        """
        with self.new_file(artifact_path) as path:
            save_figure(figure, path, self.footer(about))

    def log_dataset(
        self,
        table: pd.DataFrame,
        name: str,
        *,
        fingerprint: str,
        source: str,
        context: Literal["training", "validation", "testing"],
        profile: Mapping[str, object] | None = None,
    ) -> None:
        """Logs a table of images as an MLflow data set input.

        Args:
            table: a row for each image.
            name: name of the data set.
            fingerprint: digest of the data, of which MLflow stores 36 characters.
            source: the place from which the data come.
            context: how the run uses the data.
            profile: further facts, such as the number of images per class.
        """
        columns = [
            {"name": str(column), "type": _COLUMN_TYPES.get(table[column].dtype.kind, "string"), "required": False}
            for column in table.columns
        ]
        profile_text = json.dumps({"num_rows": len(table), "num_elements": int(table.size), **(profile or {})})
        dataset = {
            "name": name,
            "digest": fingerprint[:_LONGEST_DIGEST],
            "source_type": "local",
            "source": json.dumps({"uri": source}),
            "schema": json.dumps({"mlflow_colspec": columns}),
            "profile": profile_text,
        }
        self._put_dataset(redacted(dataset), context)

    def log_late_metrics(self, values: Mapping[str, float]) -> None:
        """Logs metrics of a run that has ended, at the last step of its metrics, so that they are the current values.

        A value that the run has already is not logged again. A value that differs is logged one step later, so that a
        metric has one value per step.
        """
        from mlflow.entities import Metric

        client = self.store.client
        known = client.get_run(self.run_id).data.metrics
        named = {allowed_name(key): float(value) for key, value in values.items()}
        new = {name: value for name, value in named.items() if not _same(value, known.get(name))}
        like = next((name for name in named if name in known), None)
        last = 0 if like is None else max(known_steps(client, self.run_id, like))
        steps = {name: max(known_steps(client, self.run_id, name)) + 1 if name in known else last for name in new}
        now = int(time.time() * 1000)
        points = [Metric(name, value, now, steps[name]) for name, value in new.items()]
        for begin in range(0, len(points), _METRICS_IN_A_CALL):
            batch = points[begin : begin + _METRICS_IN_A_CALL]
            self.store.client.log_batch(self.run_id, metrics=batch, synchronous=True)

    def read_text(self, artifact_path: str) -> str | None:
        """Returns a text among the artifacts of the run; None if there is no such artifact."""
        path = fetch_artifact(self.store, self.run_id, self.artifact_uri, artifact_path)
        return path.read_text(encoding="utf-8") if path else None

    def _put_file(self, path: Path, artifact_path: str) -> None:
        self.store.put_artifact(self.run_id, self.artifact_uri, path, artifact_path)

    def _put_dataset(self, dataset: dict[str, str], context: str) -> None:
        self.store.client.log_inputs(self.run_id, datasets=[dataset_input(dataset, context)])


def _same(value: float, known: float | None) -> bool:
    return known is not None and (value == known or (math.isnan(value) and math.isnan(known)))


def save_figure(figure: Figure, path: Path, footer: str) -> None:
    """Saves a figure as a picture of 150 dots per inch, with the line `footer` below it.

    The figure is laid out and drawn once. `savefig(bbox_inches="tight")` would draw it twice, and a drawing before that
    to find the place of the footer a third time.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    from lesion_exp.evaluation.figures.gallery import PNG_LEVEL

    for earlier in [text for text in figure.texts if text.get_gid() == _FOOTER]:  # of another format
        earlier.remove()
    FigureCanvasAgg(figure)
    layout = figure.get_layout_engine()
    if layout is not None:
        layout.execute(figure)
    figure.set_layout_engine(None)  # keeps the layout; with a placeholder ("none"), savefig would draw everything twice
    for legend in figure.legends:  # otherwise they would move with the edge of the picture, down to the footer
        legend.set_bbox_to_anchor((0, 0, 1, 1), figure.transFigure)
    drawn = figure.get_tightbbox()
    below = (min(drawn.y0, 0.0) - _FOOTER_GAP) / figure.get_figheight()
    line = figure.text(
        0.005, below, redacted(footer), fontsize=_FOOTER_SIZE, color=_FOOTER_COLOUR, va="top", parse_math=False,
        gid=_FOOTER,
    )  # fmt: skip
    written = line.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
    frame = Bbox.union([drawn, written]).padded(_MARGIN)
    of_png: dict[str, Any] = {"pil_kwargs": {"compress_level": PNG_LEVEL}} if path.suffix == ".png" else {}
    figure.savefig(path, dpi=_PICTURE_DPI, bbox_inches=frame, **of_png)


def dataset_input(dataset: Mapping[str, str], context: str) -> DatasetInput:
    """Returns the data set of a run as an entity of MLflow; `context` says how the run used it."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    return DatasetInput(Dataset(**dataset), [InputTag("mlflow.data.context", context)])


class RedactingFormatter(logging.Formatter):
    """Formats a record with its traceback, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record as a text."""
        return redacted(super().format(record))


class RunLog:
    """Writes the log records of the process to `path`, and saves the file as the run's `log.txt` when it is closed.

    A resumed run continues its log, also on a machine that does not have the file.
    """

    def __init__(self, run: RunWriter, path: Path) -> None:
        self._run = run
        self._path = path
        self._handler: logging.Handler | None = None
        self._loggers = [logging.getLogger()]

    def open(self) -> None:
        """Starts to record."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if not self._path.exists() and (before := self._run.read_text(self._path.name)):
            self._path.write_text(before, encoding="utf-8")
        self._handler = logging.FileHandler(self._path, encoding="utf-8")
        self._handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._loggers += [logger for name in _OWN_HANDLERS if not (logger := logging.getLogger(name)).propagate]
        for logger in self._loggers:
            logger.addHandler(self._handler)

    def write(self, text: str) -> None:
        """Appends a text as it is, such as a traceback."""
        assert self._handler is not None, "the log is not open"
        self._handler.flush()
        with self._path.open("a", encoding="utf-8") as file:
            file.write(redacted(text))

    def close(self) -> None:
        """Stops recording and saves the log with the run."""
        assert self._handler is not None, "the log is not open"
        for logger in self._loggers:
            logger.removeHandler(self._handler)
        self._handler.close()
        self._run.log_file(self._path, self._path.name)

    def remove_if_alone(self) -> None:
        """Removes the file, which was saved with the run, unless there is a checkpoint beside it."""
        if {path.name for path in self._path.parent.glob("*")} <= {self._path.name, SPOOL_DIR, LOCK_FILE}:
            self._path.unlink(missing_ok=True)
