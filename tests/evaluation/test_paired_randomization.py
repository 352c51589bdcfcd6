from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.paired_randomization import exchanged_differences, family_p, randomization_p
from lesion_exp.evaluation.paired_tests import mcnemar_p

MakeTable = Callable[..., pd.DataFrame]
NAMES = ("accuracy", "f1_macro", "precision/mel", "brier", "auroc/mel", "auroc_macro")


def other_model(table: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """The predictions with a share of the images answered as other images are."""
    rng = np.random.default_rng(seed)
    rows = np.where(rng.random(len(table)) < share, rng.permutation(len(table)), np.arange(len(table)))
    columns = [name for name in table.columns if name.startswith("p_")] + ["prediction"]
    return table.assign(**{name: table[name].to_numpy()[rows] for name in columns})


def test_each_draw_is_the_difference_of_two_tables_with_answers_exchanged(make_table: MakeTable) -> None:
    first = make_table(60, {"mel": 0.4, "nv": 0.6}, lesion_ids=[f"les{place}" for place in range(60)])
    second = other_model(first, 0.5, 1)
    exchanged = exchanged_differences(first, second, ["f1/mel", "brier"], draws=3, seed=5)
    kept = np.random.default_rng([5, 0xE]).integers(0, 2, (3, 60)).astype(bool)
    for draw, keeps in enumerate(kept):
        one = pd.concat([first[keeps], second[~keeps]])
        two = pd.concat([second[keeps], first[~keeps]])
        for name, values in exchanged.items():
            assert values[draw] == pytest.approx(metrics(one)[name] - metrics(two)[name])


def test_of_accuracy_it_is_mcnemars_test(make_table: MakeTable) -> None:
    first = make_table(120, {"mel": 0.4, "nv": 0.6}, lesion_ids=[f"les{place}" for place in range(120)])
    second = other_model(first, 0.3, 2)
    right = [(table["prediction"] == table["label"]).to_numpy().astype(int) for table in (first, second)]
    exchanged = exchanged_differences(first, second, ["accuracy"], draws=4000)["accuracy"]
    difference = metrics(first)["accuracy"] - metrics(second)["accuracy"]
    assert randomization_p(difference, exchanged) == pytest.approx(mcnemar_p(right[0] - right[1]), abs=0.02)


def test_three_images_can_never_be_significant(make_table: MakeTable) -> None:
    """One model reads all three rare images and the other none: of 8 exchanges, 2 are as far from 0."""
    table = make_table(300, {"mel": 0.3, "nv": 0.7}, lesion_ids=[f"les{place}" for place in range(300)], skill=9.0)
    rare = table.index < 3
    labels = table["label"].where(~rare, "df")
    table = table.assign(label=labels, p_df=np.float32(0.0))
    first, second = (table.assign(prediction=table["prediction"].where(~rare, answer)) for answer in ("df", "nv"))
    exchanged = exchanged_differences(first, second, ["f1/df", "recall/df"], draws=2000)
    for name, draws in exchanged.items():
        assert randomization_p(metrics(first)[name] - metrics(second)[name], draws) == pytest.approx(0.25, abs=0.04)


def test_equally_good_models_are_rarely_told_apart(make_table: MakeTable) -> None:
    rejected = of_any = 0
    for seed in range(60):
        table = make_table(200, {"df": 0.1, "mel": 0.3, "nv": 0.6}, seed=seed, skill=1.0)
        first, second = other_model(table, 0.3, 2 * seed + 100), other_model(table, 0.3, 2 * seed + 101)
        exchanged = exchanged_differences(first, second, NAMES, draws=200, seed=seed)
        values = metrics(first), metrics(second)
        found = {name: values[0][name] - values[1][name] for name in NAMES}
        rejected += sum(randomization_p(value, exchanged[name]) < 0.05 for name, value in found.items())
        of_any += min(family_p(found, exchanged).values()) < 0.05
    assert rejected / 60 / len(NAMES) <= 0.08
    assert of_any / 60 <= 0.12


def test_metrics_that_say_the_same_cost_nothing_and_others_do() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(size=2000)
    at_2_percent = float(np.quantile(np.abs(draws), 0.98))
    same = family_p({"a": at_2_percent, "b": at_2_percent}, {"a": draws, "b": draws})
    assert same["a"] == pytest.approx(0.02, abs=0.002)
    others = {str(number): rng.normal(size=2000) for number in range(20)}
    corrected = family_p({name: float(np.quantile(np.abs(found), 0.99)) for name, found in others.items()}, others)
    assert corrected["0"] == pytest.approx(1 - 0.99**20, abs=0.04)
    assert family_p({}, {}) == {}


def test_few_draws_do_not_make_the_family_reject_more_often() -> None:
    """Ten independent metrics without any difference, 39 draws: the smallest p-value alone would be below 5% in 22%."""
    rng, rejected = np.random.default_rng(1), 0
    for _ in range(400):
        exchanged = {str(number): rng.normal(size=39) for number in range(10)}
        rejected += min(family_p({name: float(rng.normal()) for name in exchanged}, exchanged).values()) < 0.05
    assert rejected / 400 <= 0.075
