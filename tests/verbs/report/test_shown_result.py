import json

from PIL import Image

from lesion_exp.verbs.report.shown_result import ShownResult


def put_picture(folder):
    Image.new("RGB", (20, 20), "white").save(folder / "confusion_matrix" / "test.png")


def test_a_notebook_shows_numbers_curves_and_confusion_matrix(full_run, root, own_process):
    run = full_run(put_picture)
    metrics = {"test/balanced_accuracy": 0.7, "test/balanced_accuracy_low": 0.6, "test/balanced_accuracy_high": 0.8,
               "best/val/balanced_accuracy": 0.65}  # fmt: skip
    config = {
        "tracking": {"uri": run.store.uri, "experiment": "e"},
        "paths": {"root": str(root), "live": str(root / "live")},
    }
    result = ShownResult(run.run_id, metrics, config=config)
    assert repr(result) == (
        f"run {run.run_id}\n  test/balanced_accuracy 0.700 (0.600 to 0.800)\n  best/val/balanced_accuracy 0.650"
    )
    page = result._repr_html_()
    assert "<td>balanced accuracy</td><td>0.700</td><td>0.600 to 0.800</td>" in page
    kept = json.loads(run.fetch("evaluation/val/metrics.json").read_text())["balanced_accuracy"]
    assert f"<td>0.650</td><td>{kept['low']:.3f} to {kept['high']:.3f}</td>" in page
    assert page.count("<svg") == 2
    assert "train/loss solid, val/loss dashed" in page
    assert "data:image/png;base64," in page
    assert run.run_id in page


def test_numbers_are_shown_without_a_store(tmp_path, own_process):
    (tmp_path / "file").write_text("no folder")
    paths = {"root": str(tmp_path), "live": str(tmp_path / "live")}
    config = {"tracking": {"uri": f"sqlite:///{tmp_path}/file/mlflow.db", "experiment": "e"}, "paths": paths}
    page = ShownResult("abc", {"test/accuracy": 0.5}, config=config)._repr_html_()
    assert "0.500" in page
    assert "<svg" not in page
