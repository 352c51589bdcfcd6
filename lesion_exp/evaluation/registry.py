"""The registry of metrics: the name, title and direction of each, where it is shown, and whether MLflow stores it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

Direction = Literal["maximize", "minimize"]
Place = Literal["epoch", "headline", "tracked", "report", "compare", "sweep", "shortcuts"]
"""Where a metric is shown:

- `epoch`: logged after each validation;
- `headline`: shown as a summary of a run, in its description, in notebooks and in comparisons of jobs;
- `tracked`: stored in MLflow as a metric, with the ends of its interval, for each part that is evaluated;
- `report`: shown in the table of overall results on a run's page;
- `compare`: tested between jobs;
- `sweep`: a column and a chart of sweeps, if their cells evaluate the test part;
- `shortcuts`: computed for the shallow models and for the changed images of the shortcut check.
"""

AUROC_MACRO: Final = "auroc_macro"
KNN_BALANCED_ACCURACY: Final = "knn_balanced_accuracy"
KNN_ACCURACY: Final = "knn_accuracy"
LOSS: Final = "loss"
"""The name of the training objective, and in MLflow also that of the log loss `nll` of the test part."""
HIGHER: Final = "higher is better"
LOWER: Final = "lower is better"


@dataclass(frozen=True)
class Metric:
    """The entry of a metric."""

    name: str
    """As in `val/NAME`, or for a metric of each class as in `test/NAME/CLASS`."""
    words: str
    """The title in headings and tables."""
    short: str = ""
    """The title within a sentence and where there is little room; if empty, `words` in lower case."""
    higher_is_better: bool = True
    highest: float = 1.0
    """The largest possible value."""
    lowest: float = 0.0
    """The smallest possible value."""
    shown: frozenset[Place] = frozenset()
    habits: tuple[str, ...] = ()
    """Names in other frameworks, for hints at misspelt names."""
    same_as: str = ""
    """A call of scikit-learn that returns the same number for true and predicted classes, or for true classes and
    probabilities if the metric is one of those; a test compares the two. Empty if there is none."""

    @property
    def in_a_sentence(self) -> str:
        """The title within a sentence."""
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
        Metric("ece_of_calibrated", "Calibration error of a calibrated model, by chance", higher_is_better=False),
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
        Metric("fpr_at_95_tpr", "Unknown images accepted as known, with 95% of known ones", higher_is_better=False),
        # of a body that is pretrained without labels: the votes of the nearest training images
        Metric(KNN_BALANCED_ACCURACY, "Balanced accuracy of nearest neighbours", habits=("knn", "knn_bacc")),
        Metric(KNN_ACCURACY, "Accuracy of nearest neighbours", habits=("knn_acc", "knn_top1")),
        # of images that are changed where it should not matter
        Metric("flip_rate", "Share of predictions that change", higher_is_better=False),
        Metric("excess", "Flip rate minus that of the control", higher_is_better=False, lowest=-1.0),
        # of the training's speed
        Metric("images_per_second", "Images per second", highest=math.inf),
        Metric("epoch_seconds", "Seconds per epoch", higher_is_better=False, highest=math.inf),
    )
}  # fmt: skip
"""The entries by their names, in the order in which they are shown."""
ENDS: Final = ("_low", "_high")
"""Suffixes of the names of interval ends. No metric has a name with one of these suffixes."""
WATCHED: Final = "balanced_accuracy"
WATCHED_METRIC: Final = f"val/{WATCHED}"
"""The metric that decides which epoch is best."""
PROBED: Final = (KNN_BALANCED_ACCURACY, KNN_ACCURACY)
"""The metrics of a validation in self-supervised pretraining."""
PROBE_METRIC: Final = f"val/{KNN_BALANCED_ACCURACY}"
"""The metric that decides which epoch of a pretraining is best, where there are labels."""
_NAMES_BEFORE: Final[Mapping[str, int]] = {
    "best": 1, "train": 1, "val": 1, "test": 1, "time": 1, "isic": 1, "calibrated": 1, "unknown": 1,
    "shortcuts": 2, "evaluation": 2, "conformal": 2, "operating": 3,
}  # fmt: skip
"""First part of a full name -> the number of parts before the name of the metric."""


def shown_in(place: Place) -> tuple[str, ...]:
    """Returns the names of the metrics that are shown at `place`, in the order of `METRICS`."""
    return tuple(name for name, metric in METRICS.items() if place in metric.shown)


def entry_of(name: str) -> Metric | None:
    """Returns the entry of a metric by any of its full names, such as `best/val/loss`, `test/recall/mel`, `brier_low`.

    The result is None for metrics that a config adds, and for names of no metric.
    """
    parts = name.split("/")
    while len(parts) > 1 and parts[0] in _NAMES_BEFORE and parts[0] not in METRICS:
        parts = parts[min(_NAMES_BEFORE[parts[0]], len(parts) - 1) :]
    family = parts[0]
    return METRICS.get(family) or METRICS.get(family.removesuffix("_low").removesuffix("_high"))


def is_added(name: str) -> bool:
    """Returns whether `name`, without a stage, can be a metric that a config adds: it has no entry and no class, and
    is not the end of an interval."""
    return bool(name) and "/" not in name and not name.endswith(ENDS) and entry_of(name) is None


def added_among(names: Iterable[str], stage: str) -> list[str]:
    """Returns the added metrics among `names`, without the prefix `stage` (such as `test/`)."""
    found = [name.removeprefix(stage) for name in names if name.startswith(stage)]
    return [name for name in found if is_added(name)]


def is_lower_better(name: str) -> bool:
    """Returns whether lower values of the metric `name` (see `entry_of`) are better; False without an entry."""
    found = entry_of(name)
    return found is not None and not found.higher_is_better


def is_better(name: str, value: float, than: float) -> bool:
    """Returns whether `value` of the metric `name` is better than another."""
    return value < than if is_lower_better(name) else value > than


def mode_of(name: str) -> Literal["min", "max"]:
    """Returns the direction of the metric `name` in the words of schedulers and callbacks."""
    return "min" if is_lower_better(name) else "max"


def direction_of(name: str) -> Direction:
    """Returns the direction of the metric `name` in the words of searches."""
    return "minimize" if is_lower_better(name) else "maximize"


def is_share(name: str) -> bool:
    """Returns whether all values of the metric `name` lie between 0 and 1; False without an entry."""
    found = entry_of(name)
    return found is not None and found.lowest >= 0 and found.highest <= 1


def words_of(name: str) -> str:
    """Returns the title of the metric `name`, without a stage: that of `recall/mel` is `Sensitivity, mel`."""
    family, _, of = name.partition("/")
    words = METRICS[family].words if family in METRICS else family.replace("_", " ")
    return f"{words}, {of}" if of else words


def short_of(name: str) -> str:
    """Returns the title of the metric `name`, without a stage, within a sentence: `sensitivity, mel`."""
    family, _, of = name.partition("/")
    words = METRICS[family].in_a_sentence if family in METRICS else family.replace("_", " ")
    return f"{words}, {of}" if of else words


OF_A_CLASS: Final = ("precision", "recall", "specificity", "f1", "auroc")
"""The headline results of each class."""
HEADLINE: Final = tuple(name for name in shown_in("tracked") if name not in {LOSS, *OF_A_CLASS})
"""The headline results of a whole part."""
SECTIONS: Final = ("isic", "calibrated", "conformal", "operating")
"""The first parts of the names of further results, which MLflow does not store as metrics."""
TEST: Final = "test"
FOLDER: Final = "evaluation"
"""The folder of a run's evaluations, and the first part of the names of metrics on data other than its own parts."""
_OF_A_PART: Final = (LOSS, *HEADLINE)
OF_SEVERAL_RUNS: Final = tuple(f"best/val/{name}" for name in (LOSS, *shown_in("epoch"), *PROBED)) + tuple(
    f"{TEST}/{name}" for name in _OF_A_PART
)
"""The results whose means over several runs are metrics of the run that summarises them."""
_OF_AN_EPOCH: Final = frozenset((LOSS, *shown_in("epoch"), *PROBED))


def is_metric(name: str) -> bool:
    """Returns whether MLflow stores a result as a metric.

    These are `best/...`, the metrics `val/...` of every epoch, `test/...` and `evaluation/DATA/...` for `HEADLINE` and
    the loss, `test/...` for `OF_A_CLASS` of each class, and the metrics that a config adds, with each of these
    prefixes. All of them except those of a class and of an epoch also have `_low` and `_high`.
    """
    first, _, rest = name.partition("/")
    if first == "best":
        return True
    if first == "val":
        return rest in _OF_AN_EPOCH or rest.startswith("recall/") or is_added(rest)
    if first == TEST:
        return _is_of_a_part(rest) or ("/" in rest and rest.partition("/")[0] in OF_A_CLASS)
    return first == FOLDER and _is_of_a_part(rest.partition("/")[2])


def _is_of_a_part(name: str) -> bool:
    return any(plain in _OF_A_PART or is_added(plain) for plain in (name, *map(name.removesuffix, ENDS)))


def only_metrics(results: Mapping[str, float]) -> dict[str, float]:
    """Returns those of `results` that MLflow stores as metrics."""
    return {name: value for name, value in results.items() if is_metric(name)}
