from pathlib import Path
from types import SimpleNamespace

import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.verbs.predict import thresholds
from lesion_exp.verbs.predict.request import PredictionRequest
from lesion_exp.verbs.predict.thresholds import decision_thresholds, few_lesions
from tests.evaluation.conftest import make_table


def test_a_rule_whose_threshold_every_image_reaches_is_refused(monkeypatch):
    """A head that votes gives some melanomas the probability 0; then any sensitivity of 1 has the threshold 0."""
    points = [
        {"target": "mel", "rule": rule, "threshold": limit}
        for rule, limit in (("youden", 0.4), ("sensitivity_95", 0.0))
    ]
    monkeypatch.setattr(thresholds, "RunArtifacts", lambda run: SimpleNamespace(entries=lambda path: points))
    run = SimpleNamespace(run_id="a" * 32, params={})

    def found(rule):
        asked = PredictionRequest(output=Path("new.csv"), source="photos", thresholds={"mel": rule})
        return decision_thresholds(asked, run, ["mel", "nv"])

    assert found("youden") == {"mel": 0.4}
    with pytest.raises(ConfigError, match=r"a threshold above 0 by sensitivity_95 of mel .*, got 0, .* \{mel: 0.3\}"):
        found("sensitivity_95")


def test_a_rule_that_was_fitted_on_few_lesions_is_told(monkeypatch):
    run = SimpleNamespace(fetch=lambda path: Path(path))

    def told(shares, **given):
        table = make_table(200, shares)
        monkeypatch.setattr(thresholds, "read_predictions", lambda run, part: {"val": table}[part])
        return few_lesions(PredictionRequest(output=Path("new.csv"), source="photos", thresholds=given), run)

    (text,) = told({"mel": 0.03, "nv": 0.97}, mel="sensitivity_90")
    assert text.startswith("the threshold of mel by sensitivity_90 was fitted on ")
    assert "at least 20 of both are needed" in text
    assert told({"mel": 0.5, "nv": 0.5}, mel="sensitivity_90") == ()
    assert told({"mel": 0.03, "nv": 0.97}, mel=0.3) == ()
