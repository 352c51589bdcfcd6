"""Our folds are no farther from equal shares than scikit-learn's, on the same tables."""

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "split_deviation.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("split_deviation", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_worst_class_is_no_farther_off_than_with_stratified_group_k_fold(script):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")
        found = {name: script.compared(make, seeds=2) for name, make in script.TABLES.items() if name != "lesions"}
    for name, rows in found.items():
        assert (rows["ours"] <= rows["scikit_learn"] + 1e-9).all(), name
        assert (rows["ours_all"] <= rows["scikit_learn_all"] + 1e-9).all(), name
    assert (found["few_patients"]["ours"] < found["few_patients"]["scikit_learn"]).all()


def test_deviations_are_distances_from_a_fifth(script):
    table = script.lesions(np.random.default_rng(0)).head(10).assign(label=["a", "b"] * 5)
    assert script.deviations(table, np.arange(10) // 2) == pytest.approx((0.0, 0.0))
    worst, overall = script.deviations(table, np.zeros(10, int))
    assert (worst, overall) == pytest.approx((0.8, 0.8))
