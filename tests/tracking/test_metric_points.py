import logging

import pytest

from lesion_exp.tracking.metric_points import MetricPoints

CLASSES = ("bcc (-)", "bcc [-]", "mel", "nv=typical")


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
