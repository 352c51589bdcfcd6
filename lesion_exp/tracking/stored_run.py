"""A run as the store records it: its artifacts, predictions, metric histories, and results in metrics and in files."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pandas as pd

from lesion_exp.errors import ConfigError, DataError, did_you_mean
from lesion_exp.evaluation.intervals import Unit
from lesion_exp.evaluation.predictions import known_rows
from lesion_exp.evaluation.registry import FOLDER, LOSS, SECTIONS, TEST, is_metric
from lesion_exp.next_command import next_command
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.mlflow_values import given_name

if TYPE_CHECKING:
    from lesion_exp.tracking.store import Store

PRETRAINING: Final = "pretrain"
"""Value of the tag `kind` of a run that pretrains without labels."""
IMPORTED: Final = "imported"
"""Value of the tag `kind` of a run whose predictions were imported from a file."""
TRAINING_KINDS: Final = ("train", PRETRAINING)
"""Values of the tag `kind` of runs that train by a job."""
PRETRAINING_TAG: Final = "pretraining"
"""Tag of a pretraining with the name of its method."""
SEEN_TAG: Final = "seen_before"
"""Tag of a run whose initial weights have seen images of its validation or test part, with a text about them."""
PARENT_TAG: Final = "mlflow.parentRunId"
"""Tag with the id of the run below which MLflow shows a run: for the cells of a sweep, the sweep's run."""
MODES_TAG: Final = "metric_modes"
"""Tag with the better direction of each metric that the config adds, as JSON: `max`, `min`, or null if unknown."""
MEMBERS_TAG: Final = "members"
"""Tag of a run that combines others, with their ids in order."""
Fetch = Callable[[str], Path | None]
"""A function from the path of an artifact to its file on this machine, or None if the run has no such artifact."""
_PARTS: Final = ("val", TEST)
_PLAIN: Final = "metrics"
_ENDS: Final = ("low", "high")


@dataclass(frozen=True)
class Run:
    """A run as the store records it."""

    store: Store
    run_id: str
    name: str
    status: str
    experiment_id: str
    artifact_uri: str
    started: float
    """Seconds since 1970."""
    params: dict[str, str]
    metrics: dict[str, float]
    """The last value of each metric, by its name in MLflow (see `mlflow_values.allowed_name`)."""
    tags: dict[str, str]

    def results(self) -> dict[str, float]:
        """Returns the results of the run, `best/...` and `test/...`, with class names as in the data set.

        Results that are not metrics in MLflow are read from the files of its evaluation (see `result_in_files`).
        """
        given = {given_name(name): value for name, value in self.metrics.items()}
        metrics = {name: value for name, value in given.items() if name.startswith(("best/", "test/"))}
        return {**results_of_test_part(self.fetch), **metrics}

    def result(self, name: str) -> float | None:
        """Returns the value of the metric `name`, or of a result in a file; None if the run has neither.

        For results that newer runs store in files only, the file takes precedence over a metric of an older run, since
        later verbs may have updated the file.
        """
        return stored_result(self.fetch, name, self.metrics.get(name))

    def fetch(self, path: str) -> Path | None:
        """Returns the path on this machine of the artifact `path`, a file or folder; None if the run does not have
        it.
        """
        return fetch_artifact(self.store, self.run_id, self.artifact_uri, path)

    @property
    def members(self) -> list[str]:
        """The ids of the runs that this run combines; empty for a run that was trained."""
        return members_of(self.tags.get(MEMBERS_TAG, ""))

    @property
    def live_dir(self) -> Path:
        """The folder of the checkpoints of a run that has not finished."""
        return self.store.live / self.run_id


def members_of(text: str) -> list[str]:
    """Returns the ids in the text of the tag `MEMBERS_TAG`."""
    return [name for name in text.split(",") if name]


class Point(NamedTuple):
    """A value of a metric."""

    step: int
    value: float
    timestamp: int
    """Milliseconds since 1970."""


History = dict[str, list[Point]]
"""The points of each metric, sorted by step and time."""


def download_artifact(run: Run, path: str) -> Path:
    """Returns the path on this machine of the artifact `path`, which is downloaded from a server.

    Raises:
        DataError: the run has no artifact of that name.
    """
    found = fetch_artifact(run.store, run.run_id, run.artifact_uri, path)
    if found is None:
        raise DataError(
            f"expected {path} among the artifacts of run {run.run_id} ({run.status}), but it is not there"
            f"{did_you_mean(path, artifact_names(run))}\n{_why_absent(run, path)}"
        )
    return found


def _why_absent(run: Run, path: str) -> str:
    if run.status != "FINISHED":
        resume = next_command("resume", f"run={run.run_id}")
        return f"A run that did not finish lacks the files that are written at its end; {resume} continues it."
    if path.startswith("predictions/test"):
        return (
            "A cell of a sweep evaluates the test part only with test=true; split.part=val reads the validation part."
        )
    return "The run finished, so the file was removed, or the run was made without it."


def fetch_artifact(store: Store, run_id: str, artifact_uri: str, path: str) -> Path | None:
    """Returns the result of `download_artifact`; None if the run has no such artifact."""
    folder = store.artifact_dir(artifact_uri)
    if folder is not None:
        return folder / path if (folder / path).exists() else None
    from mlflow.exceptions import MlflowException

    parent = path.rpartition("/")[0] or None
    try:
        if path not in {entry.path for entry in store.client.list_artifacts(run_id, parent)}:
            return None
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    fetched = store.root / "mlruns" / "fetched" / run_id
    fetched.mkdir(parents=True, exist_ok=True)
    return Path(store.client.download_artifacts(run_id, path, str(fetched)))


def read_stored_table(run: Run, name: str, columns: Sequence[str] | None = None) -> pd.DataFrame | None:
    """Returns the table in the parquet artifact `name` of `run`; None if the run has no such artifact.

    Raises:
        DataError: the file is damaged, or lacks one of `columns`.
    """
    path = run.fetch(name)
    if path is None:
        return None
    try:
        return pd.read_parquet(path, columns=None if columns is None else list(columns))
    except (OSError, ValueError) as error:  # pyarrow's errors are both
        raise _damaged(run, name, error) from error


def read_stored_json(run: Run, name: str) -> Any:
    """Returns the content of the JSON artifact `name` of `run`; None if the run has no such artifact.

    Raises:
        DataError: the file is damaged.
    """
    path = run.fetch(name)
    try:
        return None if path is None else json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # JSON that cannot be parsed, or bytes that are no UTF-8
        raise _damaged(run, name, error) from error


def _damaged(run: Run, name: str, error: Exception) -> DataError:
    return DataError(
        f"expected {name} of run {run.run_id} as the run stored it, but it cannot be read: {error}; put the file of a "
        f"copy of the run in its place, or train again: "
        f"{next_command('reproduce', f'run={run.run_id}')}"
    )


def artifact_names(run: Run) -> set[str]:
    """Returns the paths of all artifacts of `run`, without partial files that are being written."""
    folder = run.store.artifact_dir(run.artifact_uri)
    if folder is not None:
        return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if _is_kept(file)}
    names: set[str] = set()
    waiting: list[str | None] = [None]
    while waiting:
        for entry in run.store.client.list_artifacts(run.run_id, waiting.pop()):
            waiting.append(entry.path) if entry.is_dir else names.add(entry.path)
    return names


def _is_kept(file: Path) -> bool:
    return file.is_file() and not (file.name.startswith(".") and file.suffix == ".part")


def read_predictions(run: Run, part: str, *, with_unknown: bool = False) -> pd.DataFrame:
    """Returns the predictions table of the run on `part` (`val` or `test`).

    Images of classes that the network does not know are left out unless `with_unknown` is set.

    Raises:
        DataError: the run has no predictions of that part, or they are damaged.
        ConfigError: the run has not trained a classifier.
    """
    check_classifies(run, "predictions")
    download_artifact(run, artifacts.predictions(part))
    table = read_stored_table(run, artifacts.predictions(part))
    assert table is not None, "it was fetched just now"
    return table if with_unknown else known_rows(table).reset_index(drop=True)


def check_classifies(run: Run, wanted_for: str) -> None:
    """Checks that `run` has trained a classifier.

    Raises:
        ConfigError: the run is a pretraining, whose network has no head.
    """
    if run.tags.get("kind") == PRETRAINING:
        raise ConfigError(
            f"expected a run that has trained a classifier, for {wanted_for}, got {run.run_id} ({run.name}), a "
            f"pretraining by {run.tags.get(PRETRAINING_TAG)} without labels; train a classifier that starts from its "
            f"weights: lesion-exp train {_same_network(run)} backbone.weights=run:{run.run_id}"
        )


def _same_network(run: Run) -> str:
    """Returns the overrides of `run` about data, image size and network, as words of a command."""
    kept = run.fetch(artifacts.OVERRIDES)
    given = [] if kept is None else kept.read_text(encoding="utf-8").splitlines()
    words = [text for text in given if text.split("=")[0].split(".")[0] in ("dataset", "backbone")]
    words = [text for text in words if not text.startswith("backbone.weights")]
    if not any(text.startswith("backbone=") for text in words):
        words.append(f"backbone={run.tags.get('backbone')}")
    if size := run.params.get("image_size"):
        words.append(f"image_size={size}")
    return " ".join(map(shlex.quote, words))


def read_history(run: Run, names: Collection[str] | None = None) -> History:
    """Returns the history of each metric of `run`, or of the metrics in `names`."""
    return {
        name: sorted(
            Point(point.step, point.value, point.timestamp)
            for point in run.store.client.get_metric_history(run.run_id, name)
        )
        for name in sorted(run.metrics)
        if names is None or name in names
    }


def may_be_in_files(name: str) -> bool:
    """Returns whether `name` can be the name of a result in a file of an evaluation."""
    return _place(name) is not None


def is_in_files_alone(name: str) -> bool:
    """Returns whether newer runs store the result `name` in a file only, while older runs have a metric."""
    return not is_metric(name) and may_be_in_files(name)


def stored_result(fetch: Fetch, name: str, metric: float | None) -> float | None:
    """Returns what `Run.result` does, of a run with the files that `fetch` returns and the value `metric` in MLflow."""
    if metric is not None and not is_in_files_alone(given_name(name)):
        return metric
    found = result_in_files(fetch, given_name(name))
    return metric if found is None else found


def result_in_files(fetch: Fetch, name: str) -> float | None:
    """Returns the result `name`, such as `isic/balanced_accuracy` or `test/average_precision/mel`; None if absent."""
    place = _place(name)
    if place is None:
        return None
    folder, section, key = place
    return _read(fetch, folder, section).get(key)


def results_of_test_part(fetch: Fetch) -> dict[str, float]:
    """Returns all results of the test part by name, including those of sections such as `isic`."""
    found = {f"{TEST}/{key}": value for key, value in _read(fetch, TEST, _PLAIN).items()}
    for section in SECTIONS:
        found |= {f"{section}/{key}": value for key, value in _read(fetch, TEST, section).items()}
    return found


def unit_of_any(runs: Iterable[Run], part: str) -> Unit:
    """Returns `patient` if the intervals of any of the runs on a part are over patients, else `lesion`."""
    return "patient" if any(unit_of(run, part) == "patient" for run in runs) else "lesion"


def unit_of(run: Run, part: str) -> Unit:
    """Returns what the intervals of a run on a part are over: that of its files, else of the config of an older run."""
    found = (read_stored_json(run, f"{FOLDER}/{part}/{_PLAIN}.json") or {}).get("unit")
    return "patient" if (found or run.params.get("evaluation.bootstrap_unit")) == "patient" else "lesion"


def unit_of_result(run: Run, name: str) -> Unit:
    """Returns what the interval of the result `name` of a run is over; `lesion` for results of no evaluation."""
    place = _place(name)
    return "lesion" if place is None else unit_of(run, place[0])


def _place(name: str) -> tuple[str, str, str] | None:
    """Returns the folder below `evaluation`, the file name without its ending, and the key of the result `name`."""
    first, _, rest = name.partition("/")
    if first in SECTIONS:
        return TEST, first, rest
    folder = first
    if first == FOLDER:
        folder, _, rest = rest.partition("/")
    elif first not in _PARTS:
        return None
    section, _, inner = rest.partition("/")
    return (folder, section, inner) if section in SECTIONS else (folder, _PLAIN, rest)


def _read(fetch: Fetch, folder: str, section: str) -> dict[str, float]:
    """Returns the values of a file by key, with the ends of their intervals as `KEY_low` and `KEY_high`."""
    path = fetch(f"{FOLDER}/{folder}/{section}.json")
    if path is None:
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    values: dict[str, float] = {}
    ends: dict[str, float] = {}
    for key, entry in content.items():
        if isinstance(entry, dict) and isinstance(entry.get("value"), (int, float)):
            name = LOSS if section == _PLAIN and key == "nll" else key
            values[name] = float(entry["value"])
            ends |= {f"{name}_{end}": float(entry[end]) for end in _ENDS if isinstance(entry.get(end), (int, float))}
    return {**ends, **values}  # the metric of a class may happen to have the name of an end
