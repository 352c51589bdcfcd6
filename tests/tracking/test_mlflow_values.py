import logging
import random

import pytest

from lesion_exp.tracking.mlflow_values import MetricPoints, allowed_name, flat_params, given_name

CLASSES = ("bcc (-)", "bcc [-]", "mel", "nv=typical")


def test_nested_config_is_flat_and_texts_read_as_in_yaml() -> None:
    config = {
        "seed": 1,
        "loss": {"_target_": "a.Loss", "weights": None, "smoothing": 0.1},
        "split": {"ratios": [0.7, 0.15], "leak": False, "none": {}},
    }
    assert flat_params(config) == {
        "seed": "1",
        "loss._target_": "a.Loss",
        "loss.weights": "null",
        "loss.smoothing": "0.1",
        "split.ratios": "[0.7, 0.15]",
        "split.leak": "false",
        "split.none": "{}",
    }


def test_mapping_with_keys_that_mlflow_refuses_is_one_text() -> None:
    assert flat_params({"labels": {"nevus (typical)": "nv", "melanoma": "mel"}}) == {
        "labels": '{"nevus (typical)": "nv", "melanoma": "mel"}'
    }


ODD_NAMES = [
    ("val/balanced_accuracy", "val/balanced_accuracy"),
    ("test/recall/mélanome a:b-1", "test/recall/mélanome a:b-1"),
    ("test/recall/dys_low", "test/recall/dys_low"),
    ("test/recall/bcc (-)", "test/recall/bcc _x28_-_x29_"),
    ("test/recall/bcc [-]", "test/recall/bcc _x5b_-_x5d_"),
    ("test/recall/bcc _x28_-_x29_", "test/recall/bcc _x5f_x28_-_x5f_x29_"),
    ("test/recall/bcc __-_", "test/recall/bcc __-_"),
    ("test/recall/a/b", "test/recall/a/b"),
    ("test/recall//x", "test/recall_x2f_/x"),
    ("test/recall/x/", "test/recall/x_x2f_"),
    ("test/recall/.", "test/recall/_x2e_"),
    ("test/recall/..", "test/recall/_x2e__x2e_"),
    ("test/recall/...", "test/recall/..."),
    ("test/recall/.a", "test/recall/.a"),
    ("../x", "_x2e__x2e_/x"),
    ("/", "_x2f_"),
    ("test/recall/\N{COLLISION SYMBOL}=cmd|'x'\n", "test/recall/_x1f4a5__x3d_cmd_x7c__x27_x_x27__xa_"),
]


@pytest.mark.parametrize(("name", "allowed"), ODD_NAMES)
def test_names_are_what_mlflow_allows_and_tell_what_they_were(name: str, allowed: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    assert allowed_name(name) == allowed
    assert given_name(allowed) == name
    _validate_metric_name(allowed)


def test_no_two_names_become_one() -> None:
    from mlflow.utils.validation import _validate_metric_name

    draw = random.Random(0)
    names = {"".join(draw.choices("_x25f8./( )[]~:", k=draw.randrange(1, 9))) for _ in range(20_000)}
    names |= {f"test/recall/{'long ' * 50}{number}" for number in range(9)} | {f"test/{'(' * 90}{n}" for n in range(9)}
    allowed = {allowed_name(name) for name in names}
    assert len(allowed) == len(names)
    for name in allowed:
        _validate_metric_name(name)
        assert len(name) <= 250


def test_odd_classes_keep_metrics_of_their_own_and_are_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    points = MetricPoints()
    with caplog.at_level(logging.WARNING):
        for step in range(3):
            values = {f"val/{family}/{name}": 0.5 for family in ("recall", "f1") for name in CLASSES}
            assert len(points.new({"val/loss": 1.0, **values}, step)) == 1 + len(values)
        points.new({f"test/{family}/{name}": 0.5 for family in ("recall", "auroc") for name in CLASSES}, 3)
    (said,) = caplog.messages
    assert all(name in said for name in CLASSES if name != "mel")
    assert "'mel'" not in said


def test_the_name_of_a_class_with_slashes_is_told_whole(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        MetricPoints().new({f"val/recall/{name}": 0.5 for name in ("../x", "=a /b", "c/d")}, 0)
    (said,) = caplog.messages
    assert "'../x' as '_x2e__x2e_/x'" in said
    assert "'=a /b' as '_x3d_a /b'" in said
    assert said.count(" as ") == 2


def test_a_resumed_run_knows_odd_metrics_by_the_names_in_the_store() -> None:
    points = MetricPoints({"val/recall/bcc _x28_-_x29_": 4})
    assert points.new({"val/recall/bcc (-)": 0.1}, 3) == {}
    assert points.new({"val/recall/bcc (-)": 0.1}, 5) == {"val/recall/bcc _x28_-_x29_": 0.1}
