"""The report of the leak meter: as plain values, as metrics, and as text."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from lesion_exp.evaluation.inflation import Inflation
from lesion_exp.evaluation.intervals import Estimate
from lesion_exp.fitted_table import FittedTable

METRICS: Final = ("balanced_accuracy", "accuracy")
CONTROL: Final = "grouped"
RESAMPLED: Final = "resample_then_split"
MOST_UNNAMED: Final = 0.05
"""The share of images without lesion and patient above which the report has a warning."""
POPULAR_ACCURACY: Final = {"ham10000": 0.92}
"""The accuracy, by data set, of popular notebooks that oversample every class to the size of the largest one before
splitting."""


@dataclass(frozen=True)
class Arm:
    """A way of splitting, and the scores of the network trained on that split."""

    way: str
    run_id: str
    train_rows: int
    test_rows: int
    """The number of rows of its own test part."""
    test_lesions: int
    image_in_train: float
    """The share of its own test rows whose identical image is in the training part."""
    lesion_in_train: float
    """The share of its own test rows whose lesion is in the training part."""
    scores: Mapping[str, Inflation]
    """The scores and their inflation, by metric."""
    against_grouped: Mapping[str, Estimate]
    """On the clean part, the metrics of this network minus those of the control, on the same draws."""


@dataclass(frozen=True)
class LeakageReport:
    """The results of the leak meter."""

    run_id: str
    """The run of the sweep, which stores the report."""
    sweep_id: str
    title: str
    dataset: str
    clean_images: int
    clean_lesions: int
    epochs: int
    batches: int
    """The number of batches in an epoch on each device, which is the same for every way of splitting."""
    batch_size: int
    draws: int
    unnamed: float
    """The share of images with neither lesion nor patient."""
    arms: tuple[Arm, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, for JSON."""
        body = asdict(self)
        for arm, found in zip(body["arms"], self.arms, strict=True):
            arm["scores"] = {
                name: {part: getattr(score, part)._asdict() for part in ("own", "clean", "inflation")}
                for name, score in found.scores.items()
            }
            arm["against_grouped"] = {name: value._asdict() for name, value in found.against_grouped.items()}
        return {**body, "popular_accuracy": self.reference().get("accuracy"), "remarks": self.remarks()}

    def metrics(self) -> dict[str, float]:
        """Returns the metrics to log, by names such as `leakage/by_image/balanced_accuracy/inflation`."""
        found = {}
        for arm in self.arms:
            found[f"leakage/{arm.way}/image_in_train"] = arm.image_in_train
            found[f"leakage/{arm.way}/lesion_in_train"] = arm.lesion_in_train
            for name, score in arm.scores.items():
                for part in ("own", "clean", "inflation"):
                    estimate: Estimate = getattr(score, part)
                    key = f"leakage/{arm.way}/{name}/{part}"
                    found |= {key: estimate.value, f"{key}_low": estimate.low, f"{key}_high": estimate.high}
        return found

    def panels(self) -> dict[str, dict[str, Inflation]]:
        """Returns the panels of the figure: the inflation by metric and by the label of the way of splitting."""
        return {name: {_label(arm): arm.scores[name] for arm in self.arms if name in arm.scores} for name in METRICS}

    def reference(self) -> dict[str, float]:
        """Returns the popular accuracy on this data set, if there is one."""
        popular = POPULAR_ACCURACY.get(self.dataset)
        return {} if popular is None else {"accuracy": popular}

    def remarks(self) -> list[str]:
        """Returns the conclusions, one sentence each."""
        found = []
        for arm in self.arms:
            score = arm.scores.get("balanced_accuracy")
            if score is not None:
                found.append(_inflated(arm, score.inflation))
            if arm.way != CONTROL and "balanced_accuracy" in arm.against_grouped:
                found.append(_trained(arm.way, arm.against_grouped["balanced_accuracy"]))
        if self.unnamed > MOST_UNNAMED:
            found.append(
                f"{self.unnamed:.0%} of the images have neither lesion nor patient, so images of the same lesion "
                f"cannot be recognised. The clean part may contain lesions of the training parts, and the inflation is "
                f"a lower bound"
            )
        popular = self.reference().get("accuracy")
        resampled = next((arm for arm in self.arms if arm.way == RESAMPLED and "accuracy" in arm.scores), None)
        if popular is not None and resampled is not None:
            score = resampled.scores["accuracy"]
            found.append(
                f"the popular {popular:.0%} accuracy on {self.dataset} comes from oversampling before splitting. Here "
                f"{resampled.image_in_train:.1%} of the test rows of {RESAMPLED} have their identical image in train, "
                f"{resampled.lesion_in_train:.1%} their lesion; its accuracy is {score.own.value:.3f} on them and "
                f"{score.clean.value:.3f} on the clean part"
            )
        return found

    def heading(self) -> str:
        """Returns a description of the trainings and of the clean part."""
        return (
            f"Leak meter: {self.title}. Each way: {self.epochs} epochs of {self.batches:,} batches of "
            f"{self.batch_size}; clean part: {self.clean_images:,} images of {self.clean_lesions:,} lesions. No "
            f"network has seen them, other images of their lesions, or near-duplicates."
        )

    def as_markdown(self) -> str:
        """Returns the tables and remarks for the description of the run."""
        header = [
            "way",
            "image in train",
            "lesion in train",
            "own test part",
            "clean part",
            "inflation",
            "95% interval",
        ]
        blocks = [self.heading()]
        for name in METRICS:
            lines = [header, ["---"] * len(header)]
            lines += [list(row_of(arm, arm.scores[name])) for arm in self.arms if name in arm.scores]
            text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
            blocks.append(f"**{name.replace('_', ' ')}**\n\n{text}")
        return "\n\n".join([*blocks, "\n".join(f"- {remark}" for remark in self.remarks())])


def row_of(arm: Arm, score: Inflation) -> tuple[str, ...]:
    """Returns the cells of the row of an arm in a table."""
    return (
        arm.way,
        f"{arm.image_in_train:.1%}",
        f"{arm.lesion_in_train:.1%}",
        f"{score.own.value:.3f}",
        f"{score.clean.value:.3f}",
        f"{score.inflation.value:+z.3f}",
        f"{score.inflation.low:+z.3f} to {score.inflation.high:+z.3f}",
    )


def _inflated(arm: Arm, found: Estimate) -> str:
    amount = f"{found.value:+z.3f} of balanced accuracy (95% interval {found.low:+z.3f} to {found.high:+z.3f})"
    differs = found.low > 0 or found.high < 0
    if arm.way == CONTROL:
        if differs:
            return (
                f"grouped, the control: {amount}, although nothing leaks: this is the effect of the random choice of "
                f"the test part; another split.seed chooses other parts"
            )
        return f"grouped, the control: {amount}, not distinguishable from 0, as expected"
    if found.low > 0:
        return f"{arm.way} inflates its own score: {amount}"
    if differs:
        return f"{arm.way}: {amount}; its own test part is harder than the clean part"
    return f"{arm.way}: {amount}, not distinguishable from 0 with these images"


def _trained(way: str, against: Estimate) -> str:
    """The effect of the other training rows on the network, which does not depend on its test part."""
    amount = f"{against.value:+z.3f} ({against.low:+z.3f} to {against.high:+z.3f})"
    return f"on the clean part, which is the same for both, {way} differs from grouped by {amount} of balanced accuracy"


def _label(arm: Arm) -> str:
    return f"{arm.way}\nin train: image {arm.image_in_train:.0%}, lesion {arm.lesion_in_train:.0%}"


_WIDEST: Final = 100


def show_report(report: LeakageReport, console: Console) -> None:
    """Prints the heading, a table for each metric, and the remarks."""
    width = min(console.width, _WIDEST)
    console.print(Text(textwrap.fill(report.heading(), width)))
    for name in METRICS:
        console.print()
        console.print(_table(report, name))
    console.print()
    for remark in report.remarks():
        console.print(Text(textwrap.fill(f"- {remark}", width, subsequent_indent="  ")))


def _table(report: LeakageReport, name: str) -> FittedTable:
    heads = ("image\nin train", "lesion\nin train", "own\ntest", "clean\ntest", "inflation", "95% interval")
    table = FittedTable("split", *(f">{head}" for head in heads), title=name.replace("_", " "))
    for arm in report.arms:
        if name in arm.scores:
            table.add_row(*row_of(arm, arm.scores[name]))
    return table
