import logging

import pytest

from lesion_exp.data.data_fingerprint import DataFingerprint
from lesion_exp.errors import DataError
from lesion_exp.tracking.stored_run import Run
from lesion_exp.verbs.evaluate import evaluated_runs

PARTS = {"images": "1", "labels": "1", "ids": "1", "metadata": "1"}


def run_with(tags):
    return Run(None, "r" * 32, "name", "FINISHED", "0", "", 0.0, {}, {}, tags)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({}, None), ({"labels": "2"}, "in: labels."), ({"ids": "2", "images": "2"}, "in: images; ids of lesions")],
)
def test_kept_predictions_on_other_data_are_judged_with_a_warning(monkeypatch, caplog, changes, said):
    monkeypatch.setattr(
        evaluated_runs, "present_fingerprint", lambda config: DataFingerprint({**PARTS, **changes}, "b")
    )
    evaluated_runs.warn_of_changed_data(run_with(DataFingerprint(PARTS, "b").tags()), {})
    assert len(caplog.records) == (0 if said is None else 1)
    assert (said or "") in caplog.text


def test_data_that_cannot_be_read_or_would_have_to_be_decoded_stop_nothing(monkeypatch, caplog):
    def absent(config):
        raise DataError("expected the images in DIR, but it is not there")

    with caplog.at_level(logging.INFO):
        monkeypatch.setattr(evaluated_runs, "present_fingerprint", lambda config: None)
        evaluated_runs.warn_of_changed_data(run_with({}), {})
        assert not caplog.records
        monkeypatch.setattr(evaluated_runs, "present_fingerprint", absent)
        evaluated_runs.warn_of_changed_data(run_with({}), {})
    assert "cannot be compared" in caplog.text
    assert [record.levelname for record in caplog.records] == ["INFO"]
