import pytest

from lesion_exp.tracking.environment import SourceState, environment
from lesion_exp.verbs.reproduce.conditions import conditions, data_conditions, differences

RESOLVED = {"trainer.precision": "32-true", "trainer.devices": 1}


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
