"""What a page says of a run, read once from what the run keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import pandas as pd
import yaml

from lesion_exp import taxonomy
from lesion_exp.config.freeze import chosen_options
from lesion_exp.errors import DataError
from lesion_exp.evaluation.predictions import check, classes_of, known_rows
from lesion_exp.evaluation.registry import OF_A_CLASS
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import Run, artifact_names, download_artifact
from lesion_exp.trained_runs.wording import Value, as_value


class RunArtifacts:
    """The artifacts of a run; `broken` says which of those that were asked for are there and cannot be read."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.names = frozenset(artifact_names(run))
        self.broken: dict[str, str] = {}

    def path(self, name: str) -> Path | None:
        """Where the artifact lies on this machine."""
        return download_artifact(self._run, name) if name in self.names else None

    def text(self, name: str) -> str | None:
        """A text (UTF-8)."""
        path = self.path(name)
        try:
            return None if path is None else path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self.broken[name] = str(error)
            return None

    def json(self, name: str) -> Any:
        """Whatever a JSON file holds."""
        text = self.text(name)
        try:
            return None if text is None else json.loads(text)
        except json.JSONDecodeError as error:
            self.broken[name] = str(error)
            return None

    def mapping(self, name: str) -> Mapping[str, Any]:
        """The object that a JSON file holds; empty where there is none."""
        found = self.json(name)
        return found if isinstance(found, dict) else {}

    def entries(self, name: str) -> list[Mapping[str, Any]]:
        """The list of objects that a JSON file holds; empty where there is none."""
        found = self.json(name)
        return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []

    def table(self, name: str) -> pd.DataFrame | None:
        """A table of a parquet file."""
        path = self.path(name)
        try:
            return None if path is None else pd.read_parquet(path)
        except (OSError, ValueError) as error:  # pyarrow's errors are both
            self.broken[name] = str(error)
            return None

    def below(self, folder: str, ending: str = "") -> list[str]:
        """The names of all artifacts below `folder`, sorted."""
        return sorted(name for name in self.names if name.startswith(f"{folder}/") and name.endswith(ending))


EvaluatedPart = Literal["test", "val"]
JOB: Final = artifacts.JOB
AUDIT: Final = artifacts.AUDIT
FLOW: Final = artifacts.FLOW


@dataclass(frozen=True)
class RunSummary:
    """A run for its page. Whatever it did not store is None or empty."""

    run: Run
    kept: RunArtifacts

    @cached_property
    def job(self) -> Mapping[str, Any]:
        """The body of the frozen job, also of one that this version could not run."""
        text = self.kept.text(JOB)
        try:
            body = None if text is None else yaml.safe_load(text)
        except yaml.YAMLError as error:
            self.kept.broken[JOB] = str(error)
            body = None
        return body if isinstance(body, dict) else {}

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The resolved config."""
        found = self.job.get("config")
        return found if isinstance(found, dict) else {}

    def key(self, name: str) -> Any:
        """The value of a key of the config such as `backbone.weights`; None where there is none."""
        node: Any = self.config
        for part in name.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        return node

    def option(self, group: str) -> str | None:
        """The option of a config group: by its tag, else as the job names it."""
        if group in self.run.tags:
            return self.run.tags[group]
        return chosen_options(self.job).get(group)

    @cached_property
    def audit(self) -> Mapping[str, Any]:
        """The certificate of the split."""
        return self.kept.mapping(AUDIT)

    @cached_property
    def parts(self) -> Mapping[str, Mapping[str, Any]]:
        """The make-up of each part: `images`, `lesions`, `patients`, `counts`."""
        found = self.audit.get("parts")
        return found if isinstance(found, dict) else {}

    @cached_property
    def flow(self) -> Mapping[str, Any]:
        """The images after each filter, and which were left out."""
        return self.kept.mapping(FLOW)

    @cached_property
    def part(self) -> EvaluatedPart | None:
        """The part that the page's results are of: test where the run has read it, else validation."""
        return next((part for part in ("test", "val") if self._predictions(part) is not None), None)

    @cached_property
    def predictions(self) -> pd.DataFrame | None:
        """The predictions of that part, without images of unknown classes."""
        return None if self.part is None else self._predictions(self.part)

    def _predictions(self, part: str) -> pd.DataFrame | None:
        name = artifacts.predictions(part)
        table = self.kept.table(name)
        try:
            if table is not None:
                check(table)
                table = known_rows(table).reset_index(drop=True)
        except DataError as error:
            self.kept.broken[name] = str(error)
            return None
        return table

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The class names, in class order."""
        if self.predictions is not None:
            return classes_of(self.predictions)
        return tuple(sorted({name for part in self.parts.values() for name in part.get("counts", {})}))

    @cached_property
    def values(self) -> Mapping[str, Value]:
        """The metrics of the part by their plain names, with intervals where the run has them."""
        found = {name: value for name, entry in self.evaluation_file("metrics").items() if (value := as_value(entry))}
        return found or self._reported()

    def evaluation_file(self, name: str) -> Mapping[str, Any]:
        """A file of the part's evaluation, such as `subgroups`."""
        return self.kept.mapping(artifacts.evaluation(f"{self.part}/{name}.json"))

    def _reported(self) -> Mapping[str, Value]:
        """The metrics of the classification report, which older runs have alone."""
        report = self.kept.mapping(artifacts.classification_report(str(self.part), ".json"))
        intervals = report.get("intervals_95", {})
        plain = dict(report.get("overall", {}))
        for class_name, metrics in report.get("classes", {}).items():
            plain |= {f"{family}/{class_name}": value for family, value in metrics.items() if family in OF_A_CLASS}
        return {name: Value(float(value), *intervals.get(name, ())) for name, value in plain.items()}

    @property
    def data_name(self) -> str | None:
        """The name of the data set as its readers know it."""
        known = self.flow.get("identity")
        return str(known["title"]) if isinstance(known, dict) else self.option("dataset")

    @property
    def is_leaky(self) -> bool:
        """Whether something of the training part reappears in what was judged."""
        return self.run.tags.get("leaky") == "true"

    @property
    def members(self) -> list[str]:
        """The ids of the runs that this one joins; none for one that was trained."""
        return [member for member in self.run.tags.get("members", "").split(",") if member]

    @property
    def class_meanings(self) -> dict[str, str]:
        """The classes whose name is a code, with the name in words."""
        names = {name: self.full_name(name) for name in self.classes}
        return {name: words for name, words in names.items() if words.lower() != name.lower()}

    def full_name(self, class_name: str) -> str:
        """A class's name in words."""
        return taxonomy.full_name(class_name)
