"""What a run keeps as files, and the data it was made from."""

from __future__ import annotations

import json
import logging
import math
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Literal

import pandas as pd

from lesion_exp.privacy import redacted
from lesion_exp.tracking.find import Run, fetch_artifact
from lesion_exp.tracking.params import allowed_name
from lesion_exp.tracking.store import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

log = logging.getLogger(__name__)


class MetricPoints:
    """Decides what of the metrics of a step becomes a point: a metric has one value a step, and steps only grow.

    `reached` holds the last step of each metric that a resumed run has already. Safe for several threads.
    """

    def __init__(self, reached: Mapping[str, int] | None = None) -> None:
        self._reached = dict(reached or {})
        self._reported: set[str] = set()
        self._mutex = threading.Lock()

    def new(self, values: Mapping[str, float], step: int) -> dict[str, float]:
        """The metrics under names that MLflow takes, without those that have a value at this step or a later one.

        A resumed run repeats the steps after its last checkpoint; the values of the first time stay.
        """
        points = {}
        self._report(values)
        with self._mutex:
            for key, value in values.items():
                name = allowed_name(key)
                if step > self._reached.get(name, -1):
                    points[name] = float(value)
                    self._reached[name] = step
        return points

    def _report(self, names: Iterable[str]) -> None:
        """Says once for each odd name, such as a class's, how it is written in the names of all its metrics."""
        odd = {_from_first_odd_part(key) for key in names if allowed_name(key) != key}
        new = {name: allowed_name(name) for name in sorted(odd - self._reported)}
        if new:
            self._reported |= new.keys()
            written = ", ".join(f"{name!r} as {spelled!r}" for name, spelled in new.items())
            log.warning("MLflow takes no such characters in the names of metrics, so it shows %s.", written)


def _from_first_odd_part(key: str) -> str:
    """The end of a metric's name, from the first part between slashes that MLflow refuses: all of a class `../x`.

    The whole name where it is only too long.
    """
    parts = key.split("/")
    first = next((place for place, part in enumerate(parts) if allowed_name(part) != part), 0)
    return "/".join(parts[first:])


def last_steps(client: MlflowClient, run_id: str) -> dict[str, int]:
    """The last step of each metric in the store."""
    return {name: max(known_steps(client, run_id, name)) for name in client.get_run(run_id).data.metrics}


def known_steps(client: MlflowClient, run_id: str, name: str) -> set[int]:
    """The steps at which a metric of a run has a value in the store."""
    return {int(point.step) for point in client.get_metric_history(run_id, name)}


_LONGEST_DIGEST: Final = 36
_METRICS_IN_A_CALL: Final = 1000
_PICTURE_DPI: Final = 150
_FOOTER_SIZE: Final = 6.5
_FOOTER_GAP: Final = 0.05
"""Between a figure and its footer, inches."""
_FOOTER_COLOUR: Final = "#5F6871"
_COLUMN_TYPES: Final = {"b": "boolean", "i": "long", "u": "long", "f": "double", "M": "datetime"}


class RunWriter:
    """The artifacts and data set inputs of a run; paths are relative, with `/`, such as `curves/roc_test.png`."""

    def __init__(self, store: Store, run_id: str, artifact_uri: str) -> None:
        self.store = store
        self.run_id = run_id
        self.artifact_uri = artifact_uri

    @staticmethod
    def of(run: Run) -> RunWriter:
        """What adds to a run that was made before."""
        return RunWriter(run.store, run.run_id, run.artifact_uri)

    def log_file(self, path: Path, artifact_path: str) -> None:
        """Keeps a copy of a file."""
        parts = PurePosixPath(artifact_path).parts
        assert not {"/", ".."} & set(parts), f"not a path below the run: {artifact_path}"
        self._put_file(path, artifact_path)

    def log_again(self, path: Path, known_path: str, artifact_path: str) -> None:
        """Keeps a file that is kept as `known_path` at `artifact_path`, too: on a disk as a second name of the same."""
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
        """A path to write to; the file is kept as `artifact_path` when the block ends without error."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / PurePosixPath(artifact_path).name
            yield path
            self.log_file(path, artifact_path)

    def log_text(self, text: str, artifact_path: str) -> None:
        """Keeps a text (UTF-8)."""
        with self.new_file(artifact_path) as path:
            path.write_text(redacted(text), encoding="utf-8")

    def log_json(self, content: Any, artifact_path: str) -> None:
        """Keeps lists, mappings, numbers and texts as indented JSON."""
        self.log_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", artifact_path)

    def log_table(self, table: pd.DataFrame, artifact_path: str) -> None:
        """Keeps a table as parquet, without its index."""
        assert artifact_path.endswith(".parquet"), f"tables are parquet: {artifact_path}"
        with self.new_file(artifact_path) as path:
            table.to_parquet(path, index=False)

    @cached_property
    def name(self) -> str:
        """The run's name in MLflow."""
        return str(self.store.client.get_run(self.run_id).info.run_name or "")

    def footer(self, about: str) -> str:
        """What a picture says of its origin: the run's name, the beginning of its id, and what the picture is about."""
        return f"run {self.name} ({self.run_id[:8]}), {about}"

    def log_figure(self, figure: Figure, artifact_path: str, about: str) -> None:
        """Keeps a figure as a picture of 150 dots an inch, whose footer names the run and what the figure is about.

        Args:
            figure: any figure.
            artifact_path: ends with `.png`.
            about: the part, such as "test part", or what else it shows.
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
        """Records a table of images as an MLflow data set input.

        `fingerprint` identifies the data (MLflow keeps 36 characters of it), `source` is where they came from;
        `profile` adds facts such as counts a class to the number of rows.
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
        """Records metrics of a run that has ended, at the last step of what it has of them, so that they count.

        A value that the run has already is not recorded again; where it has another one, the new value stands a step
        later, so that a metric has one value a step.
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
        """A text kept before, None where the run has none of that name."""
        path = fetch_artifact(self.store, self.run_id, self.artifact_uri, artifact_path)
        return path.read_text(encoding="utf-8") if path else None

    def _put_file(self, path: Path, artifact_path: str) -> None:
        self.store.put_artifact(self.run_id, self.artifact_uri, path, artifact_path)

    def _put_dataset(self, dataset: dict[str, str], context: str) -> None:
        self.store.client.log_inputs(self.run_id, datasets=[dataset_input(dataset, context)])


def _same(value: float, known: float | None) -> bool:
    return known is not None and (value == known or (math.isnan(value) and math.isnan(known)))


def save_figure(figure: Figure, path: Path, footer: str) -> None:
    """Saves a figure as a picture of 150 dots an inch with the line `footer` below all that it shows."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the layout is made: what follows moves nothing
    for legend in figure.legends:  # would otherwise follow the edge of the picture, down to the footer
        legend.set_bbox_to_anchor((0, 0, 1, 1), figure.transFigure)
    below = (min(figure.get_tightbbox().y0, 0.0) - _FOOTER_GAP) / figure.get_figheight()
    figure.text(0.005, below, redacted(footer), fontsize=_FOOTER_SIZE, color=_FOOTER_COLOUR, va="top", parse_math=False)
    figure.savefig(path, dpi=_PICTURE_DPI, bbox_inches="tight")


def dataset_input(dataset: Mapping[str, str], context: str) -> DatasetInput:
    """The data set of a run as MLflow wants it; `context` says what the run did with it."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    return DatasetInput(Dataset(**dataset), [InputTag("mlflow.data.context", context)])
