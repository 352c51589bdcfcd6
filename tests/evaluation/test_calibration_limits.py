from __future__ import annotations

import numpy as np
import pytest

from lesion_exp.evaluation.calibration import calibration_metrics
from lesion_exp.evaluation.limits import Limits


def limits_of(rng: np.random.Generator, images: int, excess: float) -> Limits:
    """The limits of the error of a model of two classes that is right less often than it says by `excess`."""
    confidence = rng.uniform(0.6, 1.0, images)
    is_right = rng.random(images) < confidence - excess
    probs = np.stack([confidence, 1 - confidence], axis=1)
    found = calibration_metrics(probs, np.where(is_right, 0, 1), np.arange(images), images)
    return found.limits["ece"]()


@pytest.mark.parametrize("excess", [0.0, 0.05, 0.2])
def test_the_true_error_is_held(excess: float) -> None:
    """Also 0, that of a calibrated model, which draws of a bootstrap never hold."""
    rng = np.random.default_rng(0)
    found = [limits_of(rng, 300, excess) for _ in range(60)]
    assert np.mean([each.low <= excess <= each.high for each in found]) >= 0.88
    assert all(each.low <= each.value <= each.high for each in found)
    if excess == 0:
        assert np.mean([each.low == 0 for each in found]) >= 0.9
        assert min(each.value for each in found) > 0
    if excess == 0.2:
        assert all(each.low > 0.08 for each in found)


def test_the_expected_error_of_a_calibrated_model_is_what_calibrated_models_show() -> None:
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.5, 1.0, 400)
    probs = np.stack([confidence, 1 - confidence], axis=1)
    shown, expected = [], []
    for _ in range(100):
        true = np.where(rng.random(400) < confidence, 0, 1)
        values = calibration_metrics(probs, true, np.arange(400), 400)(np.ones((400, 1)))
        shown.append(values["ece"][0])
        expected.append(values["ece_of_calibrated"][0])
    assert np.mean(shown) == pytest.approx(expected[0], rel=0.05)
    assert len(set(expected)) == 1  # a function of the confidences alone
