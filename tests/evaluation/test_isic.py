"""The organisers' definitions, on cases that can be worked out by hand, and against their formulas on random tables."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from lesion_exp.evaluation.intervals import lesion_of
from lesion_exp.evaluation.isic import note_on_unk, titles, weighted_isic_metrics
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.predictions import classes_of, predictions_table, probabilities, true_classes
from tests.isic_scores import isic_metrics

MakeTable = Callable[..., pd.DataFrame]
RowsOf = Callable[..., pd.DataFrame]


def binary(rows_of: RowsOf, labels: str, scores: list[float]) -> pd.DataFrame:
    """`+` is malignant, `-` benign; the scores are probabilities of malignancy."""
    names = ["malignant" if sign == "+" else "benign" for sign in labels]
    probs = np.array([[1 - score, score] for score in scores])
    return predictions_table(rows_of(names), probs, ["benign", "malignant"])


def test_a_tie_counts_as_wrong_even_where_the_first_class_is_right(rows_of: RowsOf) -> None:
    """bkl: 1 of 2 (the tie is undecided), mel: 1 of 1; scikit-learn's argmax gives bkl the tie."""
    probs = np.float32([[0.5, 0.5, 0.0], [0.6, 0.4, 0.0], [0.1, 0.8, 0.1]])
    table = predictions_table(rows_of(["bkl", "bkl", "mel"]), probs, ["bkl", "mel", "nv"])
    assert isic_metrics(table)["balanced_accuracy"] == pytest.approx((0.5 + 1.0) / 2)
    assert metrics(table)["balanced_accuracy"] == 1.0


def test_a_tie_below_the_highest_is_none(rows_of: RowsOf) -> None:
    table = predictions_table(rows_of(["a"]), np.float32([[0.4, 0.3, 0.3]]), ["a", "b", "c"])
    assert isic_metrics(table)["balanced_accuracy"] == 1.0


def test_exactly_one_half_is_not_predicted(rows_of: RowsOf) -> None:
    found = isic_metrics(binary(rows_of, "++--", [0.9, 0.5, 0.5, 0.1]))
    assert found["sensitivity/malignant"] == 0.5  # TP 1, FN 1, FP 0, TN 2
    assert found["specificity/malignant"] == 1.0
    assert found["ppv/malignant"] == 1.0
    assert found["npv/malignant"] == pytest.approx(2 / 3)
    assert found["dice/malignant"] == pytest.approx(2 / 3)
    assert found["accuracy/malignant"] == 0.75


def test_nothing_predicted_has_a_precision_of_one(rows_of: RowsOf) -> None:
    """The organisers' "freebie", where scikit-learn says 0."""
    table = binary(rows_of, "+-", [0.4, 0.2])
    assert isic_metrics(table)["ppv/malignant"] == 1.0
    assert metrics(table)["precision/malignant"] == 0.0


@pytest.mark.parametrize(
    ("labels", "scores", "sens_80", "pauc_2024"),
    [
        ("+++++--", [0.9, 0.8, 0.7, 0.6, 0.55, 0.2, 0.1], 1.0, 0.2),  # perfect: the whole square, all that is above
        ("--+++++", [0.9, 0.8, 0.2, 0.2, 0.2, 0.2, 0.2], 0.0, 0.0),  # all wrong: 0.8 is reached at FPR 1
        ("+++++--", [0.9, 0.8, 0.7, 0.6, 0.2, 0.3, 0.1], 0.5 * 0.8 + 0.5, 0.5 * 0.2),  # one negative above the last
        ("+-", [0.3, 0.3], (0.8 + 1) / 2 * 0.2, 0.2 * 0.2 / 2),  # the diagonal: trapezium and triangle right of 0.8
    ],
)
def test_both_partial_areas_by_hand(
    rows_of: RowsOf, labels: str, scores: list[float], sens_80: float, pauc_2024: float
) -> None:
    found = isic_metrics(binary(rows_of, labels, scores))
    assert found["auc_sens_80/malignant"] == pytest.approx(sens_80)
    assert found["pauc_2024/malignant"] == pytest.approx(pauc_2024)


def published_auc_sens_80(positive: np.ndarray, scores: np.ndarray) -> float:
    """From the first point with a sensitivity of 0.8, joined by a straight line to the point before it."""
    false, true, _ = reference.roc_curve(positive, scores, drop_intermediate=False)
    first = int(np.argmax(true >= 0.8 - 1e-12))
    start = np.interp(0.8, true[first - 1 : first + 1], false[first - 1 : first + 1])
    return float(reference.auc([start, *false[first:]], [0.8, *true[first:]]))


def published_pauc_2024(positive: np.ndarray, scores: np.ndarray) -> float:
    """Classes and scores turned round, the area left of a false positive rate of 0.2."""
    corrected = reference.roc_auc_score(~positive, -scores, max_fpr=0.2)  # McClish: undone here
    least, most = 0.5 * 0.2**2, 0.2
    return float(least + (2 * corrected - 1) * (most - least))


@pytest.mark.parametrize("decimals", [None, 1, 0], ids=["no ties", "some ties", "many ties"])
@pytest.mark.parametrize("seed", range(3))
def test_random_tables_have_the_published_scores(make_table: MakeTable, decimals: int | None, seed: int) -> None:
    table = make_table(300, skill=1.0, decimals=decimals, seed=seed)
    found, true, probs = isic_metrics(table), true_classes(table), probabilities(table)
    for position, name in enumerate(classes_of(table)):
        positive, scores = true == position, probs[:, position]
        assert found[f"auc_sens_80/{name}"] == pytest.approx(published_auc_sens_80(positive, scores), abs=1e-9)
        assert found[f"pauc_2024/{name}"] == pytest.approx(published_pauc_2024(positive, scores), abs=1e-9)
        assert found[f"auc/{name}"] == pytest.approx(reference.roc_auc_score(positive, scores))
        assert found[f"ap/{name}"] == pytest.approx(reference.average_precision_score(positive, scores))
    malignant = table["label"].isin(["akiec", "bcc", "mel"]).to_numpy()
    score = probs[:, [classes_of(table).index(name) for name in ("akiec", "bcc", "mel")]].sum(axis=1)
    assert found["pauc_2024/malignant"] == pytest.approx(published_pauc_2024(malignant, score), abs=1e-9)
    assert found["auc/macro"] == pytest.approx(np.mean([found[f"auc/{name}"] for name in classes_of(table)]))


def test_every_draw_is_the_score_of_the_drawn_lesions(make_table: MakeTable) -> None:
    table = make_table(80, {"bkl": 1, "mel": 1, "nv": 2}, decimals=0, skill=0.5)
    lesion, num_lesions = lesion_of(table)
    at = weighted_isic_metrics(table, lesion, num_lesions)
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, num_lesions, (10, num_lesions))
    weights = np.stack([np.bincount(row, minlength=num_lesions) for row in drawn], axis=1).astype(float)
    values = at(weights)
    for draw, row in enumerate(drawn):
        expected = isic_metrics(table.iloc[np.concatenate([np.flatnonzero(lesion == index) for index in row])])
        for name, value in expected.items():
            assert values[name][draw] == pytest.approx(value, abs=1e-9), name


ISIC_2019 = ["ak", "bcc", "bkl", "df", "mel", "nv", "scc", "vasc"]


def organisers_balanced_accuracy(true: np.ndarray, probs: np.ndarray, classes: list[str]) -> float:
    """The mean over all categories of the truth's file of right images / images; a tie is right for none."""
    predicted = np.where((probs == probs.max(axis=1, keepdims=True)).sum(axis=1) == 1, probs.argmax(axis=1), -1)
    return float(np.mean([(predicted[true == place] == place).mean() for place in range(len(classes))]))


def test_isic_2019_counts_unk_as_a_ninth_class_whatever_the_network_knows(make_table: MakeTable) -> None:
    """Eight outputs: 8/9 of the mean recall, as the organisers compute it on a part with UNK. Nine outputs: theirs."""
    table = make_table(300, dict.fromkeys(ISIC_2019, 1.0), decimals=0)
    found = isic_metrics(table)
    assert found["balanced_accuracy_with_unk"] == pytest.approx(8 / 9 * found["balanced_accuracy"])
    true = np.r_[true_classes(table), np.full(40, 8)]
    probs = np.c_[probabilities(table), np.zeros(len(table))]
    probs = np.r_[probs, np.tile(probs[:1], (40, 1))]
    expected = organisers_balanced_accuracy(true, probs, [*ISIC_2019, "unk"])
    assert found["balanced_accuracy_with_unk"] == pytest.approx(expected)
    low, high = intervals_of(table, "balanced_accuracy_with_unk")
    plain = intervals_of(table, "balanced_accuracy")
    assert (low, high) == pytest.approx((plain[0] * 8 / 9, plain[1] * 8 / 9))
    assert note_on_unk(ISIC_2019)
    assert note_on_unk([*ISIC_2019, "unk"]) == note_on_unk(["mel", "nv"]) == ""

    nine = make_table(300, dict.fromkeys([*ISIC_2019, "unk"], 1.0))
    found, expected = (
        isic_metrics(nine),
        organisers_balanced_accuracy(true_classes(nine), probabilities(nine), sorted([*ISIC_2019, "unk"])),
    )
    assert found["balanced_accuracy_with_unk"] == found["balanced_accuracy"] == pytest.approx(expected)
    assert "balanced_accuracy_with_unk" not in isic_metrics(make_table(50))


def intervals_of(table: pd.DataFrame, name: str) -> tuple[float, float]:
    limits = weighted_isic_metrics(table, *lesion_of(table)).limits[name]()
    return limits.low, limits.high


@pytest.mark.parametrize("names", [{}, {"bkl": "macro"}])
def test_every_title_is_that_of_a_score(make_table: MakeTable, names: dict[str, str]) -> None:
    table = make_table(200)
    table = table.rename(columns={f"p_{old}": f"p_{new}" for old, new in names.items()})
    table = table.replace({"label": names, "prediction": names})
    scores = {f"isic/{name}" for name in isic_metrics(table)}
    needed = {name for name in titles(classes_of(table)) if not (names and name.endswith("/malignant"))}
    assert needed <= scores  # the taxonomy does not know whether a class called macro is malignant


def test_the_partial_areas_have_one_wording() -> None:
    words = [title for name, title in titles(["mel", "nv"]).items() if "auc" in name]
    assert [text.partition(" area ")[2].removesuffix(", mean") for text in words] == [
        "from sensitivity 0.8 on, down to 0",
        "from sensitivity 0.8 on, down to 0.8",
    ]
    assert all(len(text) <= 61 for text in words)  # what the intervals beside them leave of 80 columns or so
