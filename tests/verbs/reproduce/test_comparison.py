import math
from types import SimpleNamespace

import pytest

from lesion_exp.config.registered import TRUST_VARIABLE
from lesion_exp.tracking.environment import SourceState, environment
from lesion_exp.tracking.stored_run import Point
from lesion_exp.verbs.reproduce.comparison import (
    EPOCH_CLOCK,
    compare_runs,
    conditions,
    data_conditions,
    differences,
    is_untrusted,
    package_of,
)
from lesion_exp.verbs.reproduce.reproduce import Checked, check
from lesion_exp.verbs.reproduce.reproduction_report import as_json, condition_lines

SAME = ("aa", "aa")
RESOLVED = {"trainer.precision": "32-true", "trainer.devices": 1}


def history(**changes):
    """Two epochs of two steps; `changes` maps a metric (with _ for /) to its (step, value) pairs."""
    points = {
        "train/loss": [(1, 1.5), (3, 1.25)],
        "val/accuracy": [(1, 0.5), (3, 0.75)],
        "test/loss": [(4, 20.0)],
        EPOCH_CLOCK: [(2, 9.0), (4, 8.0)],
    }
    points |= {name.replace("_", "/", 1): values for name, values in changes.items()}
    return {name: [Point(step, value, 0) for step, value in values] for name, values in points.items() if values}


def test_equal_runs_are_identical_whatever_their_times_and_later_evaluations():
    then, now = history(evaluation_ph2=[(4, 0.5)]), history(time_epoch_seconds=[(2, 1.0)], system_memory=[(0, 5.0)])
    now["train/loss"] = [point._replace(timestamp=99) for point in now["train/loss"]]
    verdict = compare_runs(then, now, SAME)
    assert verdict.kind == "identical"
    assert (verdict.num_metrics, verdict.num_points) == (3, 5)
    assert verdict.first is verdict.largest is None


@pytest.mark.parametrize("name", ["explanation_grad_cam/share_inside", "shortcuts_metadata/auroc_macro"])
def test_what_explain_and_shortcuts_added_to_the_first_run_is_not_compared(name):
    verdict = compare_runs(history(**{name: [(4, 0.5)]}), history(), SAME)
    assert (verdict.kind, verdict.num_metrics) == ("identical", 3)


def test_the_test_part_evaluated_again_is_not_compared():
    again = history(test_loss=[(4, 20.0), (5, 21.0)])
    assert compare_runs(again, history(), SAME).kind == "identical"
    assert compare_runs(history(), again, SAME).kind == "identical"
    assert compare_runs(history(test_loss=[(4, 19.0), (5, 20.0)]), history(), SAME).kind == "diverged"


def test_nan_equals_nan_and_nothing_else():
    nan = history(val_accuracy=[(1, math.nan), (3, 0.75)])
    assert compare_runs(nan, nan, SAME).kind == "identical"
    assert compare_runs(nan, history(), SAME, tolerance=1e9).kind == "diverged"


def test_other_weights_with_equal_metrics_are_not_identical():
    assert compare_runs(history(), history(), ("aa", "bb")).kind == "within tolerance"
    assert compare_runs(history(), history(), ("aa", None)).kind == "within tolerance"


def test_small_differences_are_within_tolerance_and_the_largest_is_named():
    now = history(train_loss=[(1, 1.5), (3, 1.2501)], val_accuracy=[(1, 0.505), (3, 0.75)])
    verdict = compare_runs(history(), now, ("aa", "bb"))
    assert verdict.kind == "within tolerance"
    assert (verdict.largest.metric, verdict.largest.epoch) == ("val/accuracy", 1)
    assert verdict.largest.size == pytest.approx(0.005)
    assert compare_runs(history(), now, ("aa", "bb"), tolerance=0.001).kind == "diverged"


def test_large_values_are_compared_by_their_size():
    now = history(test_loss=[(4, 20.1)])
    assert compare_runs(history(), now, SAME).largest.size == pytest.approx(0.005)


def test_the_first_epoch_and_metric_of_a_divergence():
    now = history(train_loss=[(1, 1.5), (3, 1.4)], val_accuracy=[(1, 0.501), (3, 0.1)], test_loss=[(4, 90.0)])
    verdict = compare_runs(history(), now, ("aa", "bb"))
    assert verdict.kind == "diverged"
    assert (verdict.first.metric, verdict.first.epoch, verdict.first.step) == ("train/loss", 2, 3)
    assert verdict.largest.metric == "test/loss"
    assert str(verdict.first) == "train/loss in epoch 2 (step 3): 1.25 then, 1.4 now"


def test_what_comes_at_the_end_counts_to_the_last_epoch():
    assert compare_runs(history(), history(test_loss=[(4, 30.0)]), SAME).first.epoch == 2


@pytest.mark.parametrize("changed", [{"val_accuracy": [(1, 0.5)]}, {"val_f1": [(1, 0.5)]}, {"test_loss": []}])
def test_a_missing_or_further_point_is_a_divergence(changed):
    verdict = compare_runs(history(), history(**changed), SAME, tolerance=1e9)
    assert verdict.kind == "diverged"
    assert "absent" in str(verdict.first)


def test_several_values_at_a_step_are_compared_each():
    then, now = history(val_accuracy=[(1, 0.5), (1, 0.6)]), history(val_accuracy=[(1, 0.6), (1, 0.5)])
    assert compare_runs(then, now, SAME).kind == "identical"
    assert compare_runs(then, history(val_accuracy=[(1, 0.5)]), SAME).kind == "diverged"


def state(commit="c" * 40, dirty=False, patch=None, threads=2, packages=None, fingerprint="data", split="split"):
    files = environment(SourceState(commit, dirty, patch), threads)
    if packages is not None:
        files["packages.txt"] = packages
    return conditions(files, fingerprint, split, RESOLVED)


def differing(then, now):
    return {difference.name: (difference.then, difference.now) for difference in differences(then, now)}


def test_the_same_state_has_no_difference():
    assert differences(state(), state()) == []


@pytest.mark.parametrize(
    ("planted", "name", "states"),
    [
        ({"fingerprint": "other"}, "data", ("data", "other")),
        ({"fingerprint": None}, "data", ("data", None)),
        ({"split": "other"}, "split", ("split", "other")),
        ({"commit": "d" * 40}, "code commit", ("c" * 40, "d" * 40)),
        ({"dirty": True}, "uncommitted changes", (None, "not kept")),
        ({"threads": 7}, "threads", ("2", "7")),
    ],
)
def test_each_planted_difference_is_named(planted, name, states):
    assert differing(state(), state(**planted)) == {name: states}


def test_another_patch_on_the_same_commit_is_named():
    found = differing(state(dirty=True, patch="one\n"), state(dirty=True, patch="two\n"))
    assert list(found) == ["uncommitted changes"]


def test_packages_that_changed_came_or_went_are_named():
    then = state(packages="Torch==2.14\nnumpy==2.1\nMy_Own.Package==1\n")
    now = state(packages="torch==2.15\nnumpy==2.1\nmy-own-package==1\nextra==3\n")
    assert differing(then, now) == {"package torch": ("2.14", "2.15"), "package extra": (None, "3")}


def test_what_auto_became_is_compared():
    now = {**state(), "trainer.precision": "bf16-mixed"}
    assert differing(state(), now) == {"trainer.precision": ("32-true", "bf16-mixed")}


def test_a_run_that_recorded_nothing_differs_in_everything():
    now = state(packages="torch==2.15\n")
    assert {difference.name for difference in differences({}, now)} == set(now)


def test_the_part_of_the_data_that_differs_is_named():
    then = {**state(), **data_conditions({"images": "1", "labels": "1", "masks": "1"})}
    now = {**state(fingerprint="other"), **data_conditions({"images": "1", "labels": "2", "masks": "1"})}
    assert differing(then, now) == {"data": ("data", "other"), "data (labels)": ("1", "2")}


def test_a_file_of_the_user_is_compared_only_if_its_package_is_trusted():
    names = ["your code my_package/losses.py", "your code my_losses.py", "package torch", "data"]
    assert [package_of(name) for name in names] == ["my_package", "my_losses", None, None]
    assert package_of("your code clinic/losses/focal.py", ["clinic.nets", "clinic.losses.focal", "clinic.losses"]) == (
        "clinic.losses"
    )
    for trusted, left in (((), names[:2]), (("my_package",), names[1:2]), (("my_package.losses", "my_losses"), [])):
        assert [name for name in names if is_untrusted(name, trusted)] == left


def test_files_of_packages_that_are_not_trusted_are_said_to_be_left_out_with_the_flags_to_add():
    files = ("your code my_package/losses.py", "your code my_package/nets.py", "your code other.py")
    checked = Checked(7, [], None, untrusted=files, packages=("my_package", "other"))
    assert list(condition_lines(checked)) == [
        "not compared, because the code of my_package, other is not trusted: your code my_package/losses.py, your code "
        "my_package/nets.py, your code other.py; to compare it, add --trust my_package --trust other",
        "conditions: all 7 are the same",
    ]
    assert as_json("run", "hash", checked)["not_compared"] == list(files)


def test_a_part_of_a_package_is_named_as_it_was_trusted_and_compared_alone(monkeypatch):
    focal, other = "your code clinic/losses/focal.py", "your code clinic/nets.py"
    then, now = {"data": "1", focal: "a"}, {"data": "1"}
    monkeypatch.setattr("lesion_exp.verbs.reproduce.reproduce.recorded_conditions", lambda *_: then)
    monkeypatch.setattr("lesion_exp.verbs.reproduce.reproduce.present_conditions", lambda *_: now)
    run = SimpleNamespace(tags={"own_code.clinic.losses": "digest"})
    monkeypatch.delenv(TRUST_VARIABLE, raising=False)
    checked = check(run, None)
    assert (checked.untrusted, checked.packages, checked.differences) == ((focal,), ("clinic.losses",), [])
    assert next(condition_lines(checked)).endswith("add --trust clinic.losses")
    now |= {focal: "a", other: "b"}
    monkeypatch.setenv(TRUST_VARIABLE, "clinic")
    assert check(run, None).differences == []
    now |= {focal: "c", "your code clinic/losses/new.py": "d"}
    assert [found.now for found in check(run, None).differences] == ["c", "d"]
