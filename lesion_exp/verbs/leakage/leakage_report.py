"""What the leak meter shows: as plain values, as metrics, in words."""

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
"""Share of images without lesion and patient above which the reading is doubted."""
POPULAR_ACCURACY: Final = {"ham10000": 0.92}
"""The accuracy, by data set, of popular notebooks that oversample every class to the size of the largest before they
split."""


@dataclass(frozen=True)
class Arm:
    """One way to split, and what the network trained on it scores."""

    way: str
    run_id: str
    train_rows: int
    test_rows: int
    """Of its own test part."""
    test_lesions: int
    image_in_train: float
    """Share of the own test rows whose identical image is trained on."""
    lesion_in_train: float
    """Share of the own test rows whose lesion is trained on."""
    scores: Mapping[str, Inflation]
    against_grouped: Mapping[str, Estimate]
    """On the clean part: this network less the one that was trained on the grouped split, on the same draws."""


@dataclass(frozen=True)
class LeakageReport:
    """The leak meter's reading."""

    run_id: str
    """Of the sweep's run, which keeps it."""
    sweep_id: str
    title: str
    dataset: str
    clean_images: int
    clean_lesions: int
    epochs: int
    batches: int
    """Batches an epoch on each device, the same for every way."""
    batch_size: int
    draws: int
    unnamed: float
    """Share of the images that name neither lesion nor patient."""
    arms: tuple[Arm, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        body = asdict(self)
        for arm, found in zip(body["arms"], self.arms, strict=True):
            arm["scores"] = {
                name: {part: getattr(score, part)._asdict() for part in ("own", "clean", "inflation")}
                for name, score in found.scores.items()
            }
            arm["against_grouped"] = {name: value._asdict() for name, value in found.against_grouped.items()}
        return {**body, "popular_accuracy": self.reference().get("accuracy"), "remarks": self.remarks()}

    def metrics(self) -> dict[str, float]:
        """What is logged, by names such as `leakage/by_image/balanced_accuracy/inflation`."""
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
        """For the figure: by metric, then by a way in words."""
        return {name: {_label(arm): arm.scores[name] for arm in self.arms if name in arm.scores} for name in METRICS}

    def reference(self) -> dict[str, float]:
        """The popular accuracy on this data set, where there is one."""
        popular = POPULAR_ACCURACY.get(self.dataset)
        return {} if popular is None else {"accuracy": popular}

    def remarks(self) -> list[str]:
        """What the numbers say, a sentence each."""
        found = []
        for arm in self.arms:
            score = arm.scores.get("balanced_accuracy")
            if score is not None:
                found.append(_inflated(arm, score.inflation))
            if arm.way != CONTROL and "balanced_accuracy" in arm.against_grouped:
                found.append(_trained(arm.way, arm.against_grouped["balanced_accuracy"]))
        if self.unnamed > MOST_UNNAMED:
            found.append(
                f"{self.unnamed:.0%} of the images name neither lesion nor patient: their siblings cannot be told. "
                f"The clean part may hold some of what was trained on; read the figures as lower bounds"
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
        """How the numbers were made."""
        return (
            f"Leak meter: {self.title}. Each way: {self.epochs} epochs of {self.batches:,} batches of "
            f"{self.batch_size}; clean part: {self.clean_images:,} images of {self.clean_lesions:,} lesions that no "
            f"network has seen, nor a sibling or near-duplicate of them."
        )

    def as_markdown(self) -> str:
        """The tables and remarks, for the run's description."""
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
    """The cells of an arm's line in a table."""
    return (
        arm.way,
        f"{arm.image_in_train:.1%}",
        f"{arm.lesion_in_train:.1%}",
        f"{score.own.value:.3f}",
        f"{score.clean.value:.3f}",
        f"{score.inflation.value:+.3f}",
        f"{score.inflation.low:+.3f} to {score.inflation.high:+.3f}",
    )


def _inflated(arm: Arm, found: Estimate) -> str:
    amount = f"{found.value:+.3f} of balanced accuracy (95% interval {found.low:+.3f} to {found.high:+.3f})"
    sure = found.low > 0 or found.high < 0
    if arm.way == CONTROL:
        if sure:
            return (
                f"grouped, the control: {amount}, though nothing leaks: so much does the draw of a test part do by "
                f"itself here; another split.seed draws others"
            )
        return f"grouped, the control: {amount}, not distinguishable from nothing, as it should be"
    if found.low > 0:
        return f"{arm.way} inflates its own score: {amount}"
    if sure:
        return f"{arm.way}: {amount}; its own test part is the harder one"
    return f"{arm.way}: {amount}, not distinguishable from nothing with these images"


def _trained(way: str, against: Estimate) -> str:
    """What training on the other rows did to the network, which has nothing to do with the test."""
    amount = f"{against.value:+.3f} ({against.low:+.3f} to {against.high:+.3f})"
    return f"on the clean part, the same images for both, {way} differs from grouped by {amount} of balanced accuracy"


def _label(arm: Arm) -> str:
    return f"{arm.way}\nin train: image {arm.image_in_train:.0%}, lesion {arm.lesion_in_train:.0%}"


_WIDEST: Final = 100


def show_report(report: LeakageReport, console: Console) -> None:
    """Prints a table for each metric, and what they say."""
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
