"""The results that the functions of the Python interface return, with a text and an HTML page for notebooks."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
from markupsafe import Markup
from rich.console import Console

from lesion_exp.data.store import ImageStore
from lesion_exp.evaluation.figures.confusion_matrix import confusion_matrix
from lesion_exp.evaluation.intervals import Estimate
from lesion_exp.split.audit import Audit
from lesion_exp.sweeps.summary import Summary as SweepSummary
from lesion_exp.sweeps.summary import as_frame, as_html, as_table
from lesion_exp.verbs.compare.compare import Compared
from lesion_exp.verbs.compare.comparison_report import ComparisonReport
from lesion_exp.verbs.compare.tables import show_report
from lesion_exp.verbs.evaluate.evaluation_report import as_text
from lesion_exp.verbs.evaluate.run_evaluation import RunEvaluation
from lesion_exp.verbs.report.shown_result import number_table, page, picture

if TYPE_CHECKING:  # imports torch, which predictions of a file do not need
    from lesion_exp.verbs.plan.plan import Plan
    from lesion_exp.verbs.predict.predict import PredictionSummary
    from lesion_exp.verbs.prepare import PreparedData

_WIDTH: Final = 100
"""The largest number of characters in a line of text."""


@dataclass(frozen=True, repr=False)
class ShownData:
    """The result of `lesion_exp.prepare`: a data set that was read, split and audited."""

    prepared: PreparedData

    @property
    def table(self) -> pd.DataFrame:
        """A row for each image, with its `split`."""
        return self.prepared.split.table

    @property
    def audit(self) -> Audit:
        """The audit of the split for leakage between its parts."""
        return self.prepared.split.audit

    @property
    def store(self) -> ImageStore:
        """The decoded images."""
        return self.prepared.split.loaded.store

    @property
    def summary(self) -> Mapping[str, Any]:
        """The output of `prepare --json`: counts by class and part, faults, differences from the published counts."""
        return self.prepared.summary

    def __repr__(self) -> str:
        """The output of `lesion-exp prepare`."""
        from lesion_exp.verbs.prepare import show

        console = _console()
        show(self.prepared.summary, console)
        return _text(console)

    def _repr_html_(self) -> str:
        counts = pd.DataFrame(self.summary["classes"]).T.rename_axis("class")
        audit = Markup("<pre>{}</pre>").format(self.summary["audit_in_words"])
        return page(str(self.summary["dataset"]), self.summary["fingerprint"], [Markup(counts.to_html()), audit])


@dataclass(frozen=True, repr=False)
class ShownPlan:
    """The result of `lesion_exp.plan`: a preset, and what it follows from."""

    plan: Plan

    @property
    def folder(self) -> Path:
        """The folder of configs that holds the preset."""
        return self.plan.folder

    @property
    def summary(self) -> Mapping[str, Any]:
        """The output of `plan --json`: facts, measured speeds, choices with their reasons, expected time."""
        return self.plan.to_dict()

    @property
    def table(self) -> pd.DataFrame:
        """A row for each choice: `key`, `value`, `reason`."""
        return pd.DataFrame(self.summary["choices"])

    def __repr__(self) -> str:
        """The preset."""
        return self.plan.text

    def _repr_html_(self) -> str:
        from lesion_exp.verbs.plan.plan import time_in_words

        expected = Markup("<p>{}</p>").format(time_in_words(self.plan.decision))
        return page("plan", self.plan.command, [expected, Markup(self.table.to_html(index=False))])


@dataclass(frozen=True, repr=False)
class ShownEvaluation:
    """The result of `lesion_exp.evaluate`: the evaluation of a run, or of several runs as one."""

    evaluation: RunEvaluation

    @property
    def run_id(self) -> str:
        """The id of the run that stores the results."""
        return self.evaluation.run_id

    @property
    def metrics(self) -> Mapping[str, Estimate]:
        """The value and the 95% interval of each metric, by name."""
        return self.evaluation.result.estimates

    @property
    def table(self) -> pd.DataFrame:
        """The predictions table."""
        return self.evaluation.result.whole

    def __repr__(self) -> str:
        """The output of `lesion-exp evaluate`."""
        return as_text(self.evaluation)

    def _repr_html_(self) -> str:
        found = self.evaluation
        values = {name: estimate.value for name, estimate in self.metrics.items()}
        for name, estimate in self.metrics.items():
            values[f"{name}_low"], values[f"{name}_high"] = estimate.interval
        figure = confusion_matrix(found.result.table, found.title)
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png")
        image = picture(drawn.getvalue(), "confusion matrix")
        return page(f"{found.run_name}: {found.title}", found.run_id, [number_table(values, {"": found.name}), image])


@dataclass(frozen=True, repr=False)
class ShownPredictions:
    """The result of `lesion_exp.predict`: predictions for images without labels."""

    summary: PredictionSummary

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row for each image: `image`, `prediction`, a column `p_<class>` for each class, `error`."""
        from lesion_exp.verbs.predict.results import read_output

        return read_output(Path(self.summary.output))

    def __repr__(self) -> str:
        """The number of predicted images and the path of the table."""
        found = self.summary
        done = found.images - found.errors
        lines = [f"{done:,} images predicted by run {found.run_id}, {found.errors:,} without a prediction"]
        lines += [f"  {name}: {count:,}" for name, count in found.predictions.items() if count]
        lines += [f"calibration: {found.calibration}, test-time augmentation: {found.tta}", f"table: {found.output}"]
        return "\n".join([*lines, *(f"warning: {text}" for text in found.warnings)])

    def _repr_html_(self) -> str:
        text = Markup("<pre>{}</pre>").format(repr(self))
        return page("predictions", self.summary.run_id, [text, Markup(self.table.head(10).to_html(index=False))])


@dataclass(frozen=True, repr=False)
class ShownComparison:
    """The result of `lesion_exp.compare`: runs compared on the same images."""

    compared: Compared

    @property
    def run_id(self) -> str:
        """The id of the run that stores the comparison."""
        return self.compared.run_id

    @property
    def report(self) -> ComparisonReport:
        """The pairs with their differences, intervals and p-values; `to_dict()` returns plain values."""
        return self.compared.report

    def __repr__(self) -> str:
        """The output of `lesion-exp compare`."""
        console = _console()
        show_report(self.report, console)
        return _text(console)

    def _repr_html_(self) -> str:
        image = picture(self.compared.figure.read_bytes(), "differences with intervals")
        return page("comparison", self.run_id, [Markup("<pre>{}</pre>").format(repr(self)), image])


@dataclass(frozen=True, repr=False)
class ShownSweep:
    """The result of `lesion_exp.sweep`: a sweep whose cells were run."""

    summary: SweepSummary

    @property
    def sweep_id(self) -> str:
        """The id of the sweep, as `lesion-exp sweep status` takes it."""
        return self.summary.sweep.facts.sweep_id

    @property
    def run_id(self) -> str | None:
        """The id of the parent run of the cells in MLflow."""
        return self.summary.sweep.facts.parent_run_id

    @property
    def table(self) -> pd.DataFrame:
        """A row for each cell: its overrides, status, metrics and run id."""
        return as_frame(self.summary)

    def __repr__(self) -> str:
        """The output of `lesion-exp sweep status`."""
        console = _console()
        console.print(as_table(self.summary))
        return _text(console)

    def _repr_html_(self) -> str:
        return page(f"sweep {self.sweep_id}", str(self.run_id), [Markup(as_html(self.summary))])


def _console() -> Console:
    return Console(file=io.StringIO(), width=_WIDTH, highlight=False, color_system=None)


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO), "it was made so"
    return console.file.getvalue().rstrip("\n")
