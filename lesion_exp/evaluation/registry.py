"""The one entry of each metric: name, words, direction, where it is shown, and whether MLflow has it as a metric."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

Place = Literal["epoch", "headline", "tracked", "report", "compare", "sweep", "shortcuts"]
"""Where a metric is shown:

- `epoch`: logged after each validation;
- `headline`: the few numbers that stand for a run, in its description, in notebooks and where jobs are compared;
- `tracked`: a metric in MLflow, with the ends of its interval, for each part that is evaluated;
- `report`: the table of overall results of a run's page;
- `compare`: tested between jobs;
- `sweep`: a column and a chart of sweeps, where cells read the test part;
- `shortcuts`: of the models that see no lesion, and of changed images.
"""

AUROC_MACRO: Final = "auroc_macro"
LOSS: Final = "loss"
"""What the training objective is called, and in MLflow also the log loss `nll` of the test part."""
HIGHER: Final = "higher is better"
LOWER: Final = "lower is better"


@dataclass(frozen=True)
class Metric:
    """An entry."""

    name: str
    """As in `val/NAME`; of a metric of each class as in `test/NAME/CLASS`."""
    words: str
    """What it is called in headings and tables."""
    short: str = ""
    """What it is called within a sentence and where there is little room; as `words`, in lower case, if empty."""
    higher_is_better: bool = True
    highest: float = 1.0
    """Its largest value."""
    lowest: float = 0.0
    """Its smallest value."""
    shown: frozenset[Place] = frozenset()
    habits: tuple[str, ...] = ()
    """What users of other frameworks call it."""
    same_as: str = ""
    """A call of scikit-learn that gives the same number of true and predicted classes (of true classes and
    probabilities, if the metric is one of those); a test compares the two. Empty where there is none."""

    @property
    def in_a_sentence(self) -> str:
        """Its words within a sentence."""
        return self.short or f"{self.words[:1].lower()}{self.words[1:]}"


def _shown(places: str) -> frozenset[Place]:
    return frozenset(places.split())  # type: ignore[arg-type]


_EVERYWHERE: Final = "epoch headline tracked report compare"
METRICS: Final[Mapping[str, Metric]] = {
    metric.name: metric
    for metric in (
        # of all classes together
        Metric("balanced_accuracy", "Balanced accuracy", shown=_shown(f"{_EVERYWHERE} sweep shortcuts"),
               habits=("bacc", "bal_acc", "balanced_acc", "balanced_accuracy_score"),
               same_as="balanced_accuracy_score()"),
        Metric("accuracy", "Accuracy", shown=_shown(f"{_EVERYWHERE} sweep shortcuts"), habits=("acc", "top1"),
               same_as="accuracy_score()"),
        Metric(AUROC_MACRO, "AUROC, mean of classes", "macro AUROC", shown=_shown(f"{_EVERYWHERE} sweep shortcuts"),
               habits=("auc", "auroc", "roc_auc")),
        Metric("f1_macro", "F1, mean of classes present", "macro F1", shown=_shown(_EVERYWHERE),
               habits=("f1", "macro_f1", "f1_score")),
        Metric("f1_macro_sklearn", "F1, mean of classes present or predicted (scikit-learn)",
               same_as="f1_score(average='macro', zero_division=0)"),
        # of the probabilities
        Metric("brier", "Brier score", "Brier score", higher_is_better=False, highest=2.0,
               shown=_shown("tracked report compare")),
        Metric("nll", "Log loss", higher_is_better=False, highest=math.inf, shown=_shown("report compare")),
        Metric(LOSS, "Loss", higher_is_better=False, highest=math.inf, shown=_shown("tracked")),
        Metric("ece", "Expected calibration error", higher_is_better=False, shown=_shown("tracked report compare")),
        Metric("ece_equal_mass", "Calibration error, bins of equal size", higher_is_better=False),
        Metric("ece_classwise", "Calibration error, mean of classes", higher_is_better=False),
        Metric("ece_of_calibrated", "Calibration error that chance gives a calibrated model", higher_is_better=False),
        # of a class
        Metric("recall", "Sensitivity", shown=_shown("tracked")),
        Metric("precision", "Precision", shown=_shown("tracked")),
        Metric("specificity", "Specificity", shown=_shown("tracked")),
        Metric("f1", "F1", "F1", shown=_shown("tracked")),
        Metric("auroc", "AUROC", "AUROC", shown=_shown("tracked")),
        Metric("average_precision", "Average precision"),
        Metric("sensitivity_at_90_specificity", "Sensitivity at 90% specificity"),
        Metric("sensitivity_at_95_specificity", "Sensitivity at 95% specificity"),
        Metric("specificity_at_90_sensitivity", "Specificity at 90% sensitivity"),
        Metric("specificity_at_95_sensitivity", "Specificity at 95% sensitivity"),
        # by the rules of the ISIC challenges
        Metric("balanced_accuracy_with_unk", "Balanced accuracy with UNK"),
        Metric("auc", "AUROC", "AUROC"),
        Metric("auc_sens_80", *2 * ("ROC area from sensitivity 0.8 on, down to 0",)),
        Metric("pauc_2024", *2 * ("ROC area from sensitivity 0.8 on, down to 0.8",), highest=0.2),
        Metric("ap", "Average precision"),
        Metric("dice", "F1", "F1"),
        # at an operating point
        Metric("sensitivity", "Sensitivity"),
        Metric("ppv", "Positive predictive value"),
        Metric("npv", "Negative predictive value"),
        # of conformal sets
        Metric("coverage", "Coverage"),
        Metric("set_size", "Mean number of classes in a set", higher_is_better=False, highest=math.inf),
        Metric("singletons", "Share of sets of one class"),
        # of images of unknown classes
        Metric("fpr_at_95_tpr", "Unknown images taken for known ones, at 95% of the known", higher_is_better=False),
        # of images that are changed where it should not matter
        Metric("flip_rate", "Share of predictions that flip", higher_is_better=False),
        Metric("excess", "Flip rate less that of the control", higher_is_better=False, lowest=-1.0),
        # of the training's speed
        Metric("images_per_second", "Images a second", highest=math.inf),
        Metric("epoch_seconds", "Seconds an epoch", higher_is_better=False, highest=math.inf),
    )
}  # fmt: skip
"""The entries by their names, in the order in which they are shown."""
WATCHED: Final = "balanced_accuracy"
WATCHED_METRIC: Final = f"val/{WATCHED}"
"""The metric that decides which epoch is best."""
_NAMES_BEFORE: Final[Mapping[str, int]] = {
    "best": 1, "train": 1, "val": 1, "test": 1, "time": 1, "isic": 1, "calibrated": 1, "unknown": 1,
    "shortcuts": 2, "evaluation": 2, "conformal": 2, "operating": 3,
}  # fmt: skip
"""What stands before the name of a metric, and how many parts of the whole name are not its own then."""


def shown_in(place: Place) -> tuple[str, ...]:
    """The names of the metrics that are shown there, in order."""
    return tuple(name for name, metric in METRICS.items() if place in metric.shown)


def entry_of(name: str) -> Metric | None:
    """The entry of a metric by the name that it has anywhere: `best/val/loss`, `test/recall/mel`, `brier_low`.

    None for the name of a metric that a config adds, or of none.
    """
    parts = name.split("/")
    while len(parts) > 1 and parts[0] in _NAMES_BEFORE and parts[0] not in METRICS:
        parts = parts[min(_NAMES_BEFORE[parts[0]], len(parts) - 1) :]
    family = parts[0]
    return METRICS.get(family) or METRICS.get(family.removesuffix("_low").removesuffix("_high"))


def is_added(name: str) -> bool:
    """Whether `name`, without a stage, can be that of a metric that a config adds: it has no entry and no class."""
    return bool(name) and "/" not in name and entry_of(name) is None


def added_among(names: Iterable[str], stage: str) -> list[str]:
    """The names, without `stage` (such as `test/`), of the added metrics among `names`."""
    found = [name.removeprefix(stage) for name in names if name.startswith(stage)]
    return [name for name in found if is_added(name)]


def is_lower_better(name: str) -> bool:
    """Whether lower values of the metric `name` (see `entry_of`) are better; of one without an entry they are not."""
    found = entry_of(name)
    return found is not None and not found.higher_is_better


def is_better(name: str, value: float, than: float) -> bool:
    """Whether `value` of the metric `name` is better than another."""
    return value < than if is_lower_better(name) else value > than


def mode_of(name: str) -> Literal["min", "max"]:
    """Which values of the metric `name` are better, as schedulers and callbacks say it."""
    return "min" if is_lower_better(name) else "max"


def direction_of(name: str) -> Literal["minimize", "maximize"]:
    """Which values of the metric `name` are better, as searches say it."""
    return "minimize" if is_lower_better(name) else "maximize"


def is_share(name: str) -> bool:
    """Whether all values of the metric `name` lie between 0 and 1; False where nothing is known of it."""
    found = entry_of(name)
    return found is not None and found.lowest >= 0 and found.highest <= 1


def words_of(name: str) -> str:
    """The metric `name`, without a stage, in words: `recall/mel` is `Sensitivity, mel`."""
    family, _, of = name.partition("/")
    words = METRICS[family].words if family in METRICS else family.replace("_", " ")
    return f"{words}, {of}" if of else words


def short_of(name: str) -> str:
    """The metric `name`, without a stage, in words that fit into a sentence: `recall/mel` is `sensitivity, mel`."""
    family, _, of = name.partition("/")
    words = METRICS[family].in_a_sentence if family in METRICS else family.replace("_", " ")
    return f"{words}, {of}" if of else words


OF_A_CLASS: Final = ("precision", "recall", "specificity", "f1", "auroc")
"""Results of a class that a reader looks for first."""
HEADLINE: Final = tuple(name for name in shown_in("tracked") if name not in {LOSS, *OF_A_CLASS})
"""Results of a whole part that a reader looks for first, by the names of the registry of metrics."""
SECTIONS: Final = ("isic", "calibrated", "conformal", "operating")
"""What stands before the names of results that are not plain ones; no such result is a metric."""
TEST: Final = "test"
FOLDER: Final = "evaluation"
"""Folder of a run's evaluations, and what the names of metrics of other data than its own parts begin with."""
_ENDS: Final = ("_low", "_high")
_OF_A_PART: Final = (LOSS, *HEADLINE)
OF_SEVERAL_RUNS: Final = tuple(f"best/val/{name}" for name in (LOSS, *shown_in("epoch"))) + tuple(
    f"{TEST}/{name}" for name in _OF_A_PART
)
"""Results whose mean over several runs is a metric of the run that stands for them."""
_OF_AN_EPOCH: Final = frozenset((LOSS, *shown_in("epoch")))


def is_metric(name: str) -> bool:
    """Whether a result is a metric in MLflow.

    These are: `best/...`; `val/...` as every epoch has it; `test/...` for `HEADLINE` and the loss, with `_low` and
    `_high`, and for `OF_A_CLASS` of each class; `evaluation/DATA/...` for `HEADLINE` and the loss, with both ends;
    and the metrics that a config adds, in each of these places.
    """
    first, _, rest = name.partition("/")
    if first == "best":
        return True
    if first == "val":
        return rest in _OF_AN_EPOCH or rest.startswith("recall/") or is_added(rest)
    if first == TEST:
        return _is_headline(rest) or ("/" in rest and rest.partition("/")[0] in OF_A_CLASS) or is_added(rest)
    of_data = rest.partition("/")[2]
    return first == FOLDER and (_is_headline(of_data) or is_added(of_data))


def _is_headline(name: str) -> bool:
    return name in _OF_A_PART or any(name.removesuffix(end) in _OF_A_PART for end in _ENDS)


def only_metrics(results: Mapping[str, float]) -> dict[str, float]:
    """Those of `results` that are metrics in MLflow."""
    return {name: value for name, value in results.items() if is_metric(name)}
