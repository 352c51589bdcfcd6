"""The scores of the ISIC challenges, as their organisers define and name them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from lesion_exp.evaluation.confusion import nan_mean
from lesion_exp.evaluation.limits import Limits, combined_limits, mean_limits, overlap_limits, proportion_limits
from lesion_exp.evaluation.malignant_view import MALIGNANT, malignant_view
from lesion_exp.evaluation.predictions import (
    BoolArray,
    FloatArray,
    IntArray,
    classes_of,
    has_labels_only,
    is_rescaled,
    probabilities,
    true_classes,
)
from lesion_exp.evaluation.ranking import AUC_SENS_80, PAUC_2024, ranking_metrics, ranking_of_classes
from lesion_exp.evaluation.registry import METRICS
from lesion_exp.evaluation.weighted import NOTHING, Bounds, LimitsOf, Weighted, defined, merged

_AT_HALF: Final = ("accuracy", "sensitivity", "specificity", "dice", "ppv", "npv")
_RANKED: Final = {"auc": "auroc", "ap": "average_precision", AUC_SENS_80: AUC_SENS_80, PAUC_2024: PAUC_2024}
_MACRO: Final = (*_AT_HALF, "auc", "ap", AUC_SENS_80)
MACRO: Final = "macro"
_MACRO_OF_DRAWS: Final = ("ap", AUC_SENS_80)
"""Means with intervals from bootstrap draws; those of the other means are combined from the limits of the classes."""
_THRESHOLD: Final = 0.5
WITH_UNK: Final = "balanced_accuracy_with_unk"
_UNK: Final = "unk"
_ISIC_2019: Final = frozenset({"ak", "bcc", "bkl", "df", "mel", "nv", "scc", "vasc"})


def weighted_isic_metrics(
    table: pd.DataFrame, group: IntArray, num_groups: int, ranked: Sequence[Weighted] | None = None
) -> Weighted:
    """Returns the scores of the challenges as a function of the weights of groups of images.

    - `balanced_accuracy`, the score of ISIC 2018 Task 3: the mean recall over the classes present. An image whose
      highest probability is shared by several classes counts as wrong;
    - `balanced_accuracy_with_unk`, the score of ISIC 2019, only for its classes: the same mean with UNK, the class of a
      fifth of its test images, as one more class. The recall of UNK is 0 for a network without an output for it, so the
      score is the sum of the eight other recalls over nine;
    - for each class, from the prediction "probability above 0.5": `accuracy/mel`, `sensitivity/mel`, `specificity/mel`,
      `dice/mel`, `ppv/mel`, `npv/mel`, each 1 if its denominator is 0;
    - for each class, from the order of the images: `auc/mel`, `ap/mel`, `auc_sens_80/mel`, `pauc_2024/mel` (see
      `ranking`);
    - `<score>/macro`: the mean over classes of each of these except the last (see `mean_name`);
    - `auc/malignant` and `pauc_2024/malignant`, the score of ISIC 2024, also for a table with several diagnoses.

    A table with rescaled confidences has the balanced accuracies alone, since a challenge ranks the confidences.

    Source: github.com/ImageMarkup/isic-challenge-scoring (`metrics.py`, `classification.py`), and the code that
    kaggle.com/competitions/isic-2024-challenge publishes as its metric.

    Args:
        table: predictions table.
        group: int (N,), the group of each image, in 0..G-1.
        num_groups: G.
        ranked: `ranking_of_classes` of the table, if the caller also uses it elsewhere; None computes it.
    """
    classes, true, probs = classes_of(table), true_classes(table), probabilities(table)
    of_highest = _recall_without_ties(true, probs, group, num_groups, is_isic_2019(classes))
    if is_rescaled(table):
        return of_highest
    ranked = ranked or ranking_of_classes(probs, true, group, num_groups)
    of_classes = []
    for position, (name, of_ranks) in enumerate(zip(classes, ranked, strict=True)):
        at_half = _at_half(probs[:, position], true == position, group, num_groups)
        of_classes.append(at_half.renamed({family: f"{family}/{name}" for family in _AT_HALF}))
        of_classes.append(of_ranks.renamed({family: f"{own}/{name}" for own, family in _RANKED.items()}))
    rarest = min(len(np.unique(group[true == position])) for position in np.unique(true))
    parts = [of_highest, _with_macro(of_classes, classes, rarest)]
    malignant = _malignant(table, classes, group, num_groups)
    found = merged(("", part) for part in (*parts, *([malignant] if malignant else [])))
    if not has_labels_only(table):
        return found
    names = defined(found, num_groups)
    return found.only(name for name in names if name.partition("/")[0] not in _RANKED)


def _with_macro(of_classes: Sequence[Weighted], classes: Sequence[str], rarest: int) -> Weighted:
    """Returns the metrics of the classes, and for each family in `_MACRO` the mean over the classes for which it is
    defined.

    `rarest` is the number of lesions of the rarest class.
    """
    found, mean = merged(("", part) for part in of_classes), mean_name(classes)

    def at(of: Weighted, families: Sequence[str], weights: FloatArray) -> dict[str, FloatArray]:
        values = of(weights)
        for family in families:
            values[f"{family}/{mean}"] = nan_mean(np.stack([values[f"{family}/{name}"] for name in classes]))
        return values

    def limits(family: str) -> Limits:
        parts = [found.limits[f"{family}/{name}"]() for name in classes]
        return mean_limits([part for part in parts if not np.isnan(part.value)])

    of_images = [family for family in _MACRO if family not in _MACRO_OF_DRAWS]
    means: dict[str, LimitsOf] = {f"{family}/{mean}": partial(limits, family) for family in of_images}
    bounds = {f"{family}/{mean}": Bounds(rarest) for family in _MACRO_OF_DRAWS}
    drawn = Weighted(partial(at, found.drawn(), _MACRO_OF_DRAWS))
    return Weighted(partial(at, found, _MACRO), {**found.limits, **means}, {**found.bounds, **bounds}, drawn)


def titles(classes: Sequence[str]) -> dict[str, str]:
    """Returns the titles of the headline scores of the challenges, by the names of the metrics."""
    of_2019 = {f"isic/{WITH_UNK}": "ISIC 2019: balanced accuracy with UNK, ties are wrong"}
    return {
        "isic/balanced_accuracy": "ISIC 2018: balanced accuracy, ties are wrong",
        **(of_2019 if is_isic_2019(classes) else {}),
        f"isic/{AUC_SENS_80}/{mean_name(classes)}": f"ISIC 2019: {METRICS[AUC_SENS_80].words}, mean",
        f"isic/{PAUC_2024}/{MALIGNANT}": f"ISIC 2024: {METRICS[PAUC_2024].words}",
    }


def is_isic_2019(classes: Sequence[str]) -> bool:
    """Returns whether `classes` are the diagnoses of ISIC 2019, with or without UNK."""
    return set(classes) - {_UNK} == _ISIC_2019


def note_on_unk(classes: Sequence[str]) -> str:
    """Returns an explanation of the score of ISIC 2019 for networks of its classes without UNK; else an empty text."""
    if not is_isic_2019(classes) or _UNK in classes:
        return ""
    return (
        "ISIC 2019 averages nine recalls; the ninth is that of UNK (none of the others). This network has no output "
        "for UNK, so its recall of UNK is 0, and its official score is the sum of the eight other recalls over nine: "
        "8/9 of the balanced accuracy above."
    )


def mean_name(classes: Sequence[str]) -> str:
    """Returns the name of the mean over `classes`: `macro`, or `macro mean` if a class is called `macro`."""
    return MACRO if MACRO not in classes else f"{MACRO} mean"


def _malignant(table: pd.DataFrame, classes: Sequence[str], group: IntArray, num_groups: int) -> Weighted | None:
    view = None if MALIGNANT in classes else malignant_view(table)
    if view is None:
        return None
    positive = (view["label"] == MALIGNANT).to_numpy()
    scores = view[f"p_{MALIGNANT}"].to_numpy(dtype=np.float64)
    found = ranking_metrics(scores, positive, group, num_groups, ("auroc", PAUC_2024))
    return found.renamed({"auroc": f"auc/{MALIGNANT}", PAUC_2024: f"{PAUC_2024}/{MALIGNANT}"})


def _recall_without_ties(
    true: IntArray, probs: FloatArray, group: IntArray, num_groups: int, with_unk: bool
) -> Weighted:
    """Returns `balanced_accuracy`, and if `with_unk` also `balanced_accuracy_with_unk`."""
    is_highest = probs == probs.max(axis=1, keepdims=True)
    hit = (is_highest.sum(axis=1) == 1) & is_highest[np.arange(len(true)), true]
    shape = (probs.shape[1], num_groups)
    hits = csr_array((hit.astype(np.float64), (true, group)), shape=shape)
    images = csr_array((np.ones(len(true)), (true, group)), shape=shape)

    without_output = int(with_unk and probs.shape[1] == len(_ISIC_2019))

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        recalls = _ratio(hits @ weights, images @ weights, np.nan)
        found = {"balanced_accuracy": nan_mean(recalls)}
        if with_unk:
            recall_of_unk = np.zeros((without_output, recalls.shape[1]))
            found[WITH_UNK] = nan_mean(np.concatenate([recalls, recall_of_unk]))
        return found

    def limits(further: int) -> Limits:
        classes = zip(hits.toarray(), images.toarray(), strict=True)
        parts = [proportion_limits(part, whole) for part, whole in classes if whole.any()]
        return combined_limits([1 / (len(parts) + further)] * len(parts), parts)

    found: dict[str, LimitsOf] = {"balanced_accuracy": partial(limits, 0)}
    found |= {WITH_UNK: partial(limits, without_output)} if with_unk else {}
    return Weighted(at, found, without_limits=NOTHING)


def _at_half(scores: FloatArray, positive: BoolArray, group: IntArray, num_groups: int) -> Weighted:
    """Returns the metrics of `_AT_HALF` of one class."""
    predicted = scores > _THRESHOLD
    cells = 2 * positive.astype(np.int64) + predicted
    counting = csr_array((np.ones(len(cells)), (cells, group)), shape=(4, num_groups))

    def at(weights: FloatArray) -> dict[str, FloatArray]:
        tn, fp, fn, tp = counting @ weights
        return {
            "accuracy": _ratio(tp + tn, tn + fp + fn + tp),
            "sensitivity": _ratio(tp, tp + fn),
            "specificity": _ratio(tn, tn + fp),
            "dice": _ratio(2 * tp, 2 * tp + fp + fn),
            "ppv": _ratio(tp, tp + fp),
            "npv": _ratio(tn, tn + fn),
        }

    def limits(family: str) -> Limits:
        tn, fp, fn, tp = counting.toarray()
        if family == "dice":
            return overlap_limits(tp, tp + fp + fn, otherwise=1.0)
        wholes = {"accuracy": tn + fp + fn + tp, "sensitivity": tp + fn, "specificity": tn + fp}
        wholes |= {"ppv": tp + fp, "npv": tn + fn}
        parts = {"accuracy": tn + tp, "specificity": tn, "npv": tn}
        return proportion_limits(parts.get(family, tp), wholes[family], otherwise=1.0)

    return Weighted(at, {family: partial(limits, family) for family in _AT_HALF}, without_limits=NOTHING)


def _ratio(part: FloatArray, whole: FloatArray, otherwise: float = 1.0) -> FloatArray:
    ratios: FloatArray = np.divide(part, whole, out=np.full(np.shape(part), otherwise), where=whole > 0)
    return ratios
