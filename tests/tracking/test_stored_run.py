import json
from pathlib import Path

import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.stored_run import result_in_files, results_of_test_part


def entry(value: float, spread: float = 0.1) -> dict[str, float]:
    return {"value": value, "low": value - spread, "high": value + spread}


FILES = {
    "evaluation/test/metrics.json": {
        "images": 20, "interval": "95%", "nll": entry(0.5), "average_precision/mel": entry(0.75),
        "recall/dys": entry(0.5), "recall/dys_low": entry(0.9), "unknown_images": {"images": 2, "classes": {"x": 2}},
    },
    "evaluation/test/isic.json": {"images": 20, "balanced_accuracy": entry(0.6)},
    "evaluation/val/metrics.json": {"brier": {"value": 0.3}},
    "evaluation/ph2/metrics.json": {"recall/mel": entry(0.8)},
    "evaluation/ph2/calibrated.json": {"calibration": "temperature", "ece": entry(0.2)},
}  # fmt: skip
RESULTS = {
    "test/loss": 0.5, "test/average_precision/mel": 0.75, "test/average_precision/mel_low": 0.65,
    "isic/balanced_accuracy": 0.6, "isic/balanced_accuracy_high": 0.7, "val/brier": 0.3, "test/recall/dys_low": 0.9,
    "evaluation/ph2/recall/mel": 0.8, "evaluation/ph2/calibrated/ece": 0.2,
    "test/images": None, "isic/unheard_of": None, "train/loss": None, "conformal/lac/coverage": None,
    "unheard_of": None,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize("name", RESULTS)
def test_result_is_found_by_the_name_of_its_metric(folder: Path, name: str) -> None:
    def fetch(path: str) -> Path | None:
        return folder / path if (folder / path).is_file() else None

    found = result_in_files(fetch, name)
    assert found == (None if RESULTS[name] is None else pytest.approx(RESULTS[name]))
    of_test = results_of_test_part(fetch)
    if name.startswith(("test/", "isic/")):
        assert of_test.get(name) == found


def make_run(store: Store, isic: float, metrics: dict[str, float], **tags: str) -> str:
    """A finished run with a score of ISIC in its file."""
    experiment = store.experiment_id("tests")
    info = store.client.create_run(experiment, tags=tags).info
    written = RunWriter(store, info.run_id, info.artifact_uri)
    written.log_json({"images": 9, "balanced_accuracy": entry(isic), "auc/a(b)": entry(isic)}, FILE)
    for name, value in metrics.items():
        store.client.log_metric(info.run_id, name, value)
    store.client.set_terminated(info.run_id)
    return str(info.run_id)


FILE = "evaluation/test/isic.json"


def test_best_finds_results_in_files_beside_metrics_of_older_runs(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    new = make_run(store, 0.7, {"test/accuracy": 0.4})
    old = make_run(store, 0.9, {"isic/balanced_accuracy": 0.6, "test/accuracy": 0.5})
    experiment = store.experiment_id("tests")
    older = store.client.create_run(experiment).info.run_id
    store.client.log_metric(older, "isic/balanced_accuracy", 0.8)
    store.client.set_terminated(older)
    assert find_run(store, "best:isic/balanced_accuracy").run_id == old, "its file is newer than its metric"
    assert find_run(store, "best:test/accuracy").run_id == old
    assert find_run(store, "best:isic/auc/a(b)").run_id == old
    leaky = make_run(store, 0.95, {}, leaky="true")
    assert find_run(store, "best:isic/balanced_accuracy").run_id == old
    assert leaky in caplog.text
    assert find_run(store, new).results()["isic/balanced_accuracy_low"] == pytest.approx(0.6)
    with pytest.raises(ConfigError, match="isic/balanced_accuracy"):
        find_run(store, "best:isic/balanced_acuracy")
