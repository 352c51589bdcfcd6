"""The facts about a run for its page and its model card, read from its artifacts."""

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
from lesion_exp.dataset.display_name import is_own
from lesion_exp.errors import DataError
from lesion_exp.evaluation.lesion_counts import knows_lesions
from lesion_exp.evaluation.predictions import check, classes_of, known_rows
from lesion_exp.evaluation.registry import OF_A_CLASS
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.stored_run import IMPORTED, Run, artifact_names, download_artifact
from lesion_exp.trained_runs.wording import Value, as_value


class RunArtifacts:
    """The artifacts of a run; `broken` maps those that exist but cannot be read to the reason."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.names = frozenset(artifact_names(run))
        self.broken: dict[str, str] = {}

    def path(self, name: str) -> Path | None:
        """Returns the path of the artifact on this machine; None if there is none."""
        return download_artifact(self._run, name) if name in self.names else None

    def text(self, name: str) -> str | None:
        """Returns a text (UTF-8); None if there is none."""
        path = self.path(name)
        try:
            return None if path is None else path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self.broken[name] = str(error)
            return None

    def json(self, name: str) -> Any:
        """Returns the content of a JSON file; None if there is none."""
        text = self.text(name)
        try:
            return None if text is None else json.loads(text)
        except json.JSONDecodeError as error:
            self.broken[name] = str(error)
            return None

    def mapping(self, name: str) -> Mapping[str, Any]:
        """Returns the object in a JSON file; empty if there is none."""
        found = self.json(name)
        return found if isinstance(found, dict) else {}

    def entries(self, name: str) -> list[Mapping[str, Any]]:
        """Returns the objects of the list in a JSON file; empty if there is none."""
        found = self.json(name)
        return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []

    def table(self, name: str) -> pd.DataFrame | None:
        """Returns the table in a parquet file; None if there is none."""
        path = self.path(name)
        try:
            return None if path is None else pd.read_parquet(path)
        except (OSError, ValueError) as error:  # pyarrow's errors are both
            self.broken[name] = str(error)
            return None

    def below(self, folder: str, ending: str = "") -> list[str]:
        """Returns the names of all artifacts below `folder`, sorted."""
        return sorted(name for name in self.names if name.startswith(f"{folder}/") and name.endswith(ending))


EvaluatedPart = Literal["test", "val"]
JOB: Final = artifacts.JOB
AUDIT: Final = artifacts.AUDIT
FLOW: Final = artifacts.FLOW


@dataclass(frozen=True)
class RunSummary:
    """The facts about a run. What the run did not store is None or empty."""

    run: Run
    kept: RunArtifacts

    @cached_property
    def job(self) -> Mapping[str, Any]:
        """The content of the frozen job, also of one that this version cannot run."""
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
        """Returns the value of a key of the config, such as `backbone.weights`; None if there is none."""
        node: Any = self.config
        for part in name.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        return node

    def option(self, group: str) -> str | None:
        """Returns the option of a config group, from the run's tag or from its job."""
        if group in self.run.tags:
            return self.run.tags[group]
        return chosen_options(self.job).get(group)

    @cached_property
    def audit(self) -> Mapping[str, Any]:
        """The audit of the split."""
        return self.kept.mapping(AUDIT)

    @cached_property
    def parts(self) -> Mapping[str, Mapping[str, Any]]:
        """The composition of each part: `images`, `lesions`, `patients`, `counts`."""
        found = self.audit.get("parts")
        return found if isinstance(found, dict) else {}

    @cached_property
    def flow(self) -> Mapping[str, Any]:
        """The numbers of images after each filter, and the images that were left out."""
        return self.kept.mapping(FLOW)

    @cached_property
    def part(self) -> EvaluatedPart | None:
        """The part whose results are shown: test if the run has predicted it, else validation."""
        return next((part for part in ("test", "val") if self._predictions(part) is not None), None)

    @cached_property
    def predictions(self) -> pd.DataFrame | None:
        """The predictions of that part, without images of unknown classes."""
        return None if self.part is None else self._predictions(self.part)

    @property
    def counts_lesions(self) -> bool:
        """Whether numbers of lesions say anything: without known lesions each image counts as one.

        Without predictions the numbers are taken as they are.
        """
        return self.predictions is None or knows_lesions(self.predictions)

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
        """The metrics of the part by name, with intervals if the run has them."""
        found = {name: value for name, entry in self.evaluation_file("metrics").items() if (value := as_value(entry))}
        return found or self._reported()

    def evaluation_file(self, name: str) -> Mapping[str, Any]:
        """Returns the content of a file of the part's evaluation, such as `subgroups`; empty if there is none."""
        return self.kept.mapping(artifacts.evaluation(f"{self.part}/{name}.json"))

    def _reported(self) -> Mapping[str, Value]:
        """The metrics of the classification report, the only ones of older runs."""
        report = self.kept.mapping(artifacts.classification_report(str(self.part), ".json"))
        intervals = report.get("intervals_95", {})
        plain = dict(report.get("overall", {}))
        for class_name, metrics in report.get("classes", {}).items():
            plain |= {f"{family}/{class_name}": value for family, value in metrics.items() if family in OF_A_CLASS}
        return {name: Value(float(value), *intervals.get(name, ())) for name, value in plain.items()}

    @property
    def has_own_data(self) -> bool:
        """Whether the data are the user's own, or several sets, whose origin and kind of photograph are not known."""
        node = self.config.get("dataset")
        return isinstance(node, dict) and is_own(node)

    @property
    def identity(self) -> Mapping[str, str]:
        """Title, citation, licence and address of a published data set; empty for others, of which none is known."""
        known = self.flow.get("identity")
        return known if isinstance(known, dict) and not self.has_own_data else {}

    @property
    def data_name(self) -> str | None:
        """The title of the data set, or its option."""
        return self.identity.get("title") or self.option("dataset")

    @property
    def is_leaky(self) -> bool:
        """Whether images of the training part reappear in the evaluated data."""
        return self.run.tags.get("leaky") == "true"

    @property
    def is_imported(self) -> bool:
        """Whether its predictions come from a file, so that nobody knows what was trained on which images."""
        return self.run.tags.get("kind") == IMPORTED

    @property
    def members(self) -> list[str]:
        """The ids of the runs of an ensemble; empty for a run that was trained."""
        return self.run.members

    @property
    def class_meanings(self) -> dict[str, str]:
        """The classes whose name is a code, with the name in words."""
        names = {name: self.full_name(name) for name in self.classes}
        return {name: words for name, words in names.items() if words.lower() != name.lower()}

    def full_name(self, class_name: str) -> str:
        """Returns a class's name in words."""
        return taxonomy.full_name(class_name)
