"""Stacked ensembles of trained runs; the runs are those of `test_evaluate`'s fixtures, by other seeds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.config.project import Project
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.evaluation.calibrator import read_calibrator
from lesion_exp.evaluation.ensemble import ensemble
from lesion_exp.evaluation.predictions import probabilities
from lesion_exp.evaluation.stacking import Stacking, StackOptions, fit_stacking
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.stored_run import download_artifact, read_predictions
from lesion_exp.training.run import train
from lesion_exp.verbs.compare.compare import compare
from lesion_exp.verbs.evaluate.evaluate import evaluate
from lesion_exp.verbs.evaluate.evaluation_report import as_json, as_text
from lesion_exp.verbs.evaluate.request import EvaluationRequest
from lesion_exp.verbs.predict.loop import predict_plan
from lesion_exp.verbs.predict.predict import predict
from lesion_exp.verbs.predict.request import PredictionRequest
from tests.pictures import without_pictures

pytestmark = pytest.mark.slow
TINY = (
    "experiment=demo", "image_size=32", "dataset.num_lesions=150", "dataset.image_height=48", "dataset.image_width=64",
    "dataset.filter=\"label in ['bkl', 'mel', 'nv']\"", "trainer=cpu", "trainer.max_epochs=1",
    "trainer.precision=32-true", "loader.num_workers=0", "evaluation.bootstrap_draws=100", "print_config=false",
)  # fmt: skip
LOG_FIGURE = RunWriter.log_figure
FOLDS = ("split=kfold", "split.num_folds=2")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with the two folds of a cross-validation, and two runs with one split."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunWriter, "log_figure", lambda *_: None)  # drawing takes longer than all else
        config = compose(TINY, root=root).config
        with without_pictures():
            words = (("seed=0",), ("seed=1", "evaluation.tta=flips8"))
            runs = [train(freeze(compose([*TINY, *each], root=root))).run_id for each in words]
            folds = [train(freeze(compose([*TINY, *FOLDS, f"split.fold={fold}"], root=root))).run_id for fold in (0, 1)]
        yield Project.from_config(config).store, config, runs, folds


@pytest.fixture
def stack_of(project):
    store, config, _, _ = project

    def run(*runs, part="test", dataset=None, ensemble="stacked", **stack):
        options = {**config["evaluation"], "ensemble": ensemble}
        request = EvaluationRequest(part, options, frozenset({"ensemble"}), dataset, {}, False, StackOptions(**stack))
        return evaluate([find_run(store, run) for run in runs], request, Project.from_config(config))

    return run


def stored(store, run_id):
    return json.loads(download_artifact(find_run(store, run_id), artifacts.STACKING).read_text())


def test_runs_with_one_split_are_stacked_on_validation(project, stack_of):
    store, _, ids, _ = project
    evaluated = stack_of(*ids, stack="hgb")
    run = find_run(store, evaluated.run_id)
    assert (run.status, run.tags["kind"], run.tags["ensemble"]) == ("FINISHED", "ensemble", "stacked")
    tables = {part: [read_predictions(find_run(store, run_id), part) for run_id in ids] for part in ("val", "test")}
    fitted = fit_stacking(tables["val"], StackOptions("hgb"))
    pd.testing.assert_frame_equal(read_predictions(run, "val"), fitted.table, check_dtype=False)
    expected = fitted.stacking.apply(tables["test"])
    pd.testing.assert_frame_equal(read_predictions(run, "test"), expected, check_dtype=False)
    again = Stacking.from_dict(stored(store, run.run_id))
    pd.testing.assert_frame_equal(again.apply(tables["test"]), expected)
    assert run.metrics["test/accuracy"] == evaluated.result.metrics["accuracy"]
    assert {"isic/balanced_accuracy", "calibrated/ece", "test/balanced_accuracy_low"} <= set(run.results())
    assert set(evaluated.against) == {"the mean of the members", "member 1", "member 2"}
    mean = ensemble("mean", tables["test"])
    right = [(table["prediction"] == table["label"]).mean() for table in (expected, mean)]
    less = evaluated.against["the mean of the members"]["accuracy"]
    assert less.difference == pytest.approx(right[0] - right[1])


def test_a_result_is_shown_and_compared_like_any_other(project, stack_of, monkeypatch):
    store, _, ids, _ = project
    evaluated = stack_of(*ids, stack="logistic")
    text = as_text(evaluated)
    assert "stacked (logistic), less" in text
    assert "the mean of the members" in text
    assert f"{evaluated.importance[0]['source']} " in text
    assert "ISIC 2024" in text
    plain = json.loads(json.dumps(as_json(evaluated), allow_nan=False))
    assert plain["evaluation"]["stack"] == "logistic"
    less = evaluated.against["member 1"]["accuracy"].difference
    assert plain["against"]["member 1"]["accuracy"]["difference"] == less
    assert {one["group"] for one in plain["importance"]} >= {"predictions", "metadata"}
    monkeypatch.setattr(RunWriter, "log_figure", LOG_FIGURE)
    found = compare(store, [evaluated.run_id, ids[0]]).report.comparison
    (pair,) = found.pairs
    assert pair.differences["accuracy"].difference == pytest.approx(less)


def test_folds_are_stacked_on_their_held_out_predictions(project, stack_of):
    store, _, _, folds = project
    evaluated = stack_of(*folds, stack="hgb")
    run = find_run(store, evaluated.run_id)
    pooled = pd.concat([read_predictions(find_run(store, fold), "test") for fold in folds], ignore_index=True)
    expected = fit_stacking([pooled], StackOptions("hgb")).table
    pd.testing.assert_frame_equal(read_predictions(run, "test"), expected, check_dtype=False)
    assert stored(store, run.run_id)["predicts"] == [folds]
    assert evaluated.posthoc is None
    assert set(evaluated.against) == {"the member alone"}
    assert evaluated.members == tuple(folds)


def csv_of(store, run, config, folder):
    """The images of the test part of a run as a csv with the patients, lesions and metadata, in another order."""
    files = {path.stem: path for path in Path(config["dataset"]["root"]).rglob("*.jpg")}
    rows = read_predictions(find_run(store, run), "test").iloc[::-1]
    columns = ["image_id", "lesion_id", "patient_id", "age", "sex", "site"]
    table = rows[columns].assign(image_path=[files[name] for name in rows["image_id"]])
    table.to_csv(folder / "new.csv", index=False)
    return table


def predicted(store, run, config, source, output, **options):
    request = PredictionRequest(source=str(source), output=output, **options)
    return predict(find_run(store, run), request, Project.from_config(config))


@pytest.mark.parametrize("stack", ["logistic", "hgb"])
def test_predictions_of_new_images_are_those_of_the_evaluation(project, stack_of, tmp_path, stack):
    store, config, ids, _ = project
    run = find_run(store, stack_of(*ids, stack=stack).run_id)
    kept = read_predictions(run, "test").iloc[::-1].reset_index(drop=True)
    rows = csv_of(store, run.run_id, config, tmp_path)
    made = predicted(store, run.run_id, config, tmp_path / "new.csv", tmp_path / "p.parquet", top=2, rank="entropy")
    table = pd.read_parquet(tmp_path / "p.parquet")
    np.testing.assert_allclose(probabilities(table), probabilities(kept), atol=1e-5)
    assert table["prediction"].tolist() == kept["prediction"].tolist() == table["top1"].tolist()
    assert (made.images, made.errors) == (len(kept), 0)
    assert pd.read_csv(made.to_label)["prediction"].isin(kept["prediction"]).all()
    assert not (tmp_path / "p.parquet.part").exists()
    facts = json.loads((tmp_path / "p_facts.json").read_text())
    assert facts["networks"] == {name: find_run(store, name).tags["weights_hash"] for name in ids}
    assert (facts["tta"], list(facts["tta_by_network"].values())) == ("none, flips8", ["none", "flips8"])
    with pytest.raises(ConfigError, match="force=true"):
        predicted(store, run.run_id, config, tmp_path / "new.csv", tmp_path / "p.parquet")
    calibrated = predicted(
        store, run.run_id, config, tmp_path / "new.csv", tmp_path / "p.parquet", force=True, calibration="temperature"
    )
    fitted = json.loads(download_artifact(run, "calibration/temperature.json").read_text())
    expected = read_calibrator(fitted).apply(probabilities(kept).astype(np.float64))
    np.testing.assert_allclose(probabilities(pd.read_parquet(calibrated.output)), expected, atol=1e-5)
    rows.drop(columns="patient_id").to_csv(tmp_path / "new.csv", index=False)
    alone = predicted(store, run.run_id, config, tmp_path / "new.csv", tmp_path / "alone.csv")
    assert any("no image has a patient_id" in text for text in alone.warnings)
    rows.drop(columns="sex").to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(DataError, match=r"with the columns sex, since this stacked .* without values is enough"):
        predicted(store, run.run_id, config, tmp_path / "new.csv", tmp_path / "lacking.csv")


def test_a_stopped_prediction_of_a_stack_goes_on_and_a_broken_image_is_no_context(
    project, stack_of, tmp_path, monkeypatch
):
    store, config, ids, folds = project
    run = stack_of(*folds, features=("predictions", "context")).run_id
    rows = csv_of(store, ids[0], config, tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no image")
    broken = rows.tail(1).assign(image_id="broken", image_path="broken.png")
    pd.concat([broken, rows]).to_csv(tmp_path / "new.csv", index=False)
    calls = []

    def fails_at_the_second(folder, *place):
        calls.append(folder.name)
        if len(calls) == 2:
            raise RuntimeError
        predict_plan(folder, *place)

    monkeypatch.setattr("lesion_exp.verbs.predict.network.predict_plan", fails_at_the_second)
    given = (store, run, config, tmp_path / "new.csv", tmp_path / "p.csv")
    with pytest.raises(RuntimeError):
        predicted(*given)
    found = predicted(*given)
    assert calls == [folds[0], folds[1], folds[1]]
    assert found.errors == 1
    table = pd.read_csv(tmp_path / "p.csv")
    means = pd.DataFrame()
    for fold in folds:
        predicted(store, fold, config, tmp_path / "new.csv", tmp_path / f"{fold}.parquet")
        one = pd.read_parquet(tmp_path / f"{fold}.parquet")[1:].filter(regex="^p_").reset_index(drop=True)
        means = one / 2 if means.empty else means + one / 2
    stacking = Stacking.from_dict(stored(store, run))
    columns = rows[["lesion_id", "patient_id", *stacking.features.numbers, *stacking.features.texts]].reset_index(
        drop=True
    )
    expected = stacking.probabilities([pd.concat([columns, means], axis=1)])
    np.testing.assert_allclose(probabilities(table[1:]), expected, atol=1e-5)


@pytest.mark.parametrize("options", [{"heat_maps": Path("maps")}, {"rank": "coreset"}, {"checkpoint": "last"}])
def test_what_needs_one_network_is_refused_for_a_stack(project, stack_of, tmp_path, options):
    store, config, ids, _ = project
    run = stack_of(*ids, features=("predictions",)).run_id
    with pytest.raises(ConfigError, match="for a stacked ensemble"):
        predicted(store, run, config, tmp_path / "new.csv", tmp_path / "p.csv", **options)


def test_another_kind_of_ensemble_predicts_by_its_members_only(project, stack_of, tmp_path):
    store, config, ids, _ = project
    run = stack_of(*ids, ensemble="mean").run_id
    with pytest.raises(ConfigError, match=rf"no new images by itself.*run={ids[0][:8]}, or .*ensemble=mean"):
        predicted(store, run, config, tmp_path, tmp_path / "predictions.csv")


def test_a_single_run_is_stacked_with_its_context(project, stack_of):
    _, _, ids, _ = project
    assert stack_of(ids[0], features=("context",)).members == (ids[0],)


def test_another_data_set_is_predicted_by_the_mean_of_the_folds(project, stack_of):
    store, config, _, folds = project
    others = {**config["dataset"], "drawing_seed": 9, "name": "others"}
    evaluated = stack_of(*folds, dataset=others, features=("predictions", "context"))
    alone = stack_of(*folds, dataset=others, ensemble="mean").result.table
    expected = Stacking.from_dict(stored(store, evaluated.run_id)).apply([alone])
    np.testing.assert_allclose(probabilities(evaluated.result.table), probabilities(expected), atol=1e-5)
    assert evaluated.name == "others"


def test_what_cannot_be_stacked_is_refused(project, stack_of):
    store, _, ids, folds = project
    with pytest.raises(ConfigError, match=r"got both: [0-9a-f]+ is no fold; leave it out"):
        stack_of(*folds, ids[0])
    with pytest.raises(ConfigError, match=r"leave split\.part out"):
        stack_of(*folds, part="val")
    with pytest.raises(ConfigError, match=r"leave split\.part out"):
        stack_of(*folds, part="val", ensemble="pooled")
    for columns, said in ((("label",), "an id, a label or"), (("sax",), "got sax, did you mean 'sex'")):
        with pytest.raises(ConfigError, match=said):
            stack_of(*ids, columns=columns)
    store.client.set_tag(ids[1], "split_hash", "other")
    try:
        with pytest.raises(ConfigError, match="got runs with different splits: no images were held out from all"):
            stack_of(*ids)
    finally:
        store.client.set_tag(ids[1], "split_hash", find_run(store, ids[0]).tags["split_hash"])


def test_folds_that_do_not_cover_all_images_are_refused(project, stack_of):
    """A third run of the cross-validation that is fold 0 again, and a fold whose other folds are missing."""
    _, config, _, folds = project
    root = config["paths"]["root"]
    words = [*TINY, *FOLDS, "seed=5"]
    other = [train(freeze(compose([*words, f"split.fold={fold}"], root=root))).run_id for fold in (0, 1)]
    with pytest.raises(ConfigError, match=r"each of the 2 folds .* got no fold 1 of (?s:.)*run=folds:"):
        stack_of(*folds, other[0])
    both = stack_of(*folds, *other, features=("predictions",))
    assert set(both.against) == {"the mean of the members", "member 1", "member 2"}
