from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.evaluation import intervals as module
from lesion_exp.evaluation.intervals import intervals, lesion_draws, lesion_of, units_of
from lesion_exp.evaluation.isic import weighted_isic_metrics
from lesion_exp.evaluation.metrics import metric_names, metrics, weighted_metrics
from lesion_exp.evaluation.posthoc import fit_on_validation, operating_point_metrics
from lesion_exp.evaluation.predictions import classes_of
from lesion_exp.evaluation.weighted import merged

MakeTable = Callable[..., pd.DataFrame]
NAMES = ("brier", "nll", "average_precision/mel")
"""Metrics whose intervals come from bootstrap draws."""


@pytest.mark.parametrize("decimals", [None, 0], ids=["no ties", "ties"])
def test_every_draw_is_the_metrics_of_the_table_with_the_drawn_lesions(
    make_table: MakeTable, decimals: int | None
) -> None:
    table = make_table(120, decimals=decimals, skill=1.0)
    lesion, num_lesions = lesion_of(table)
    names = metric_names(classes_of(table))
    names.remove("ece_equal_mass")  # its bins are those of the whole table in every draw
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, num_lesions, (15, num_lesions))
    weights = np.stack([np.bincount(row, minlength=num_lesions) for row in drawn], axis=1).astype(float)
    values = weighted_metrics(table, lesion, num_lesions, names)(weights)
    num_undetermined = 0
    for draw, row in enumerate(drawn):
        rows = np.concatenate([np.flatnonzero(lesion == index) for index in row])
        expected = metrics(table.iloc[rows])
        for name in names:
            if name in expected:
                assert values[name][draw] == pytest.approx(expected[name], abs=1e-9), name
            else:
                num_undetermined += 1
                assert np.isnan(values[name][draw]), name
    assert num_undetermined > 0  # rare classes miss in some draws, which is tested too


def test_an_interval_holds_its_estimate_and_is_narrow_for_many_images(make_table: MakeTable) -> None:
    table = make_table(2000)
    estimate, found = metrics(table), intervals(table, draws=300)
    assert list(found) == metric_names(classes_of(table))
    for name, (low, high) in found.items():
        assert low <= high, name
        assert low <= estimate[name] <= high, name
    for name in ("accuracy", "balanced_accuracy", "f1_macro", "auroc_macro", "recall/mel", "auroc/malignant"):
        low, high = found[name]
        assert low < estimate[name] < high
        assert 0.001 < high - low < 0.2


def test_accuracy_of_single_image_lesions_has_the_binomial_interval(make_table: MakeTable) -> None:
    table = make_table(400).assign(lesion_id=None)
    share = metrics(table)["accuracy"]
    low, high = intervals(table, ["accuracy"], draws=4000)["accuracy"]
    half = 1.96 * (share * (1 - share) / 400) ** 0.5
    assert (low, high) == pytest.approx((share - half, share + half), abs=0.008)


def test_images_of_a_lesion_are_drawn_together(make_table: MakeTable) -> None:
    """Four copies of every image carry no more evidence than one: the interval stays as wide."""
    table = make_table(200).assign(lesion_id=[f"les{i}" for i in range(200)])
    copies = pd.concat([table.assign(row_id=table["row_id"] + f"#{copy}") for copy in range(4)])
    alone = intervals(table, ["accuracy", "auroc/nv"], draws=200)
    together = intervals(copies, ["accuracy", "auroc/nv"], draws=200)
    np.testing.assert_allclose(list(together.values()), list(alone.values()))
    low, high = intervals(copies.assign(lesion_id=None), ["accuracy"], draws=200)["accuracy"]
    assert high - low < 0.7 * (alone["accuracy"][1] - alone["accuracy"][0])


def test_images_without_lesion_id_are_lesions_of_their_own() -> None:
    table = pd.DataFrame({"lesion_id": ["b", None, "a", "b", float("nan")]})
    lesion, num_lesions = lesion_of(table)
    assert list(lesion) == [0, 2, 1, 0, 3]
    assert num_lesions == 4


def test_the_seed_decides_and_the_size_of_the_blocks_does_not(
    table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = intervals(table, NAMES, draws=50, seed=1)
    assert intervals(table, NAMES, draws=50, seed=1) == first
    assert intervals(table, NAMES, draws=50, seed=2) != first
    monkeypatch.setattr(module, "_MAX_CELLS", 7 * 250)
    np.testing.assert_allclose(list(intervals(table, NAMES, draws=50, seed=1).values()), list(first.values()))


def test_metrics_that_the_table_does_not_determine_are_left_out(make_table: MakeTable) -> None:
    table = make_table(300).query("label == 'mel'")
    assert set(intervals(table, ["accuracy", "auroc_macro", "recall/df"], draws=10)) == {"accuracy"}


def test_an_unknown_name_names_the_nearest(table: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'balanced_accuracy'"):
        intervals(table, ["balanced_acuracy"])


def test_no_draws_are_refused(table: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="at least 1 bootstrap draw"):
        intervals(table, draws=0)


def test_lesions_of_a_patient_are_drawn_together(make_table: MakeTable) -> None:
    """As many patients as lesions give the lesions' intervals; four lesions a patient give wider ones."""
    table = make_table(400).assign(lesion_id=[f"les{i}" for i in range(400)], label="nv")
    table = table.assign(prediction=np.where(np.arange(400) % 8 < 4, "nv", "mel"))  # patients right or wrong as a whole
    alone = intervals(table, ["accuracy"], draws=500)["accuracy"]
    single = table.assign(patient_id=table["lesion_id"])
    assert intervals(single, ["accuracy"], draws=500, unit="patient")["accuracy"] == alone
    shared = table.assign(patient_id=[f"pat{i // 4}" for i in range(400)])
    low, high = intervals(shared, ["accuracy"], draws=500, unit="patient")["accuracy"]
    assert high - low == pytest.approx(2 * (alone[1] - alone[0]), rel=0.15)  # a quarter of the units: twice as wide


def test_without_a_patient_a_lesion_stays_together() -> None:
    table = pd.DataFrame({"lesion_id": ["a", "b", "c", "c", None], "patient_id": ["p", "p", None, None, None]})
    unit, num_units = units_of(table, "patient")
    assert list(unit) == [0, 0, 1, 1, 2]
    assert num_units == 3


def test_patients_that_nobody_knows_are_refused(table: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="bootstrap_unit=lesion for images without patient_id"):
        intervals(table, ["accuracy"], draws=10, unit="patient")


@pytest.mark.parametrize("draws", [1, 7])
def test_what_draws_are_needed_for_is_the_same_without_the_rest(make_table: MakeTable, draws: int) -> None:
    validation, table = make_table(300, seed=1), make_table(200, seed=2)
    posthoc = fit_on_validation(validation)
    group, num_groups = units_of(table)
    parts = {
        "": weighted_metrics(table, group, num_groups),
        "isic/": weighted_isic_metrics(table, group, num_groups),
        "operating/": operating_point_metrics(table, posthoc.points, group, num_groups),
        "areas/": weighted_metrics(table, group, num_groups, ["auroc_macro", "accuracy"]),
    }
    whole = merged(parts.items())
    weights = next(lesion_draws(num_groups, draws, seed=0))
    expected, found = whole(weights), whole.drawn()(weights)
    assert set(found) >= set(expected) - set(whole.limits), "nothing that needs draws is missing"
    assert set(found) < set(expected), "something is saved"
    assert not [name for name in found if name.startswith(("operating/", "areas/"))]
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
