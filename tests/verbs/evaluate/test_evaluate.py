import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lesion_exp.cli import main
from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.config.project import Project
from lesion_exp.errors import ConfigError, DataError, LeakageError
from lesion_exp.evaluation.calibrator import read_calibrator
from lesion_exp.evaluation.ensemble import ensemble
from lesion_exp.evaluation.predictions import probabilities
from lesion_exp.model.checkpoint_file import read_checkpoint
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.stored_run import PARENT_TAG, download_artifact, read_predictions, unit_of
from lesion_exp.training.run import train
from lesion_exp.verbs.evaluate.evaluate import evaluate, evaluate_folds
from lesion_exp.verbs.evaluate.evaluated_runs import evaluated_runs, fold_runs
from lesion_exp.verbs.evaluate.evaluation_report import as_json, as_text
from lesion_exp.verbs.evaluate.request import EvaluationRequest
from tests.pictures import without_pictures

pytestmark = pytest.mark.slow
TINY = (
    "experiment=demo", "image_size=32", "dataset.num_lesions=90", "dataset.image_height=48", "dataset.image_width=64",
    "trainer=cpu", "trainer.max_epochs=1", "trainer.precision=32-true", "loader.num_workers=0",
    "evaluation.bootstrap_draws=100", "print_config=false",
)  # fmt: skip
FOLDS = ("split=kfold", "split.num_folds=2", "dataset.filter=\"label in ['bkl', 'mel', 'nv']\"")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with two runs that differ in their seed."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunWriter, "log_figure", lambda *_: None)  # drawing takes longer than all else
        config = compose(TINY, root=root).config
        with without_pictures():
            ids = [train(freeze(compose([*TINY, f"seed={seed}"], root=root))).run_id for seed in (0, 1)]
        yield Project.from_config(config).store, config, ids


@pytest.fixture(scope="module")
def folds(project):
    _, config, _ = project
    root = config["paths"]["root"]
    with without_pictures():
        return [train(freeze(compose([*TINY, *FOLDS, f"split.fold={fold}"], root=root))).run_id for fold in (0, 1)]


@pytest.fixture
def evaluation_of(project):
    """Judges runs by overrides of the node `evaluation`."""
    store, config, _ = project

    def run(*runs, part="test", dataset=None, allow_leakage=False, **chosen):
        options = {**config["evaluation"], **chosen}
        request = EvaluationRequest(part, options, frozenset(chosen), dataset, {}, allow_leakage)
        return evaluate([find_run(store, run) for run in runs], request, Project.from_config(config))

    return run


def member_of(store, run_id, config):
    return evaluated_runs(
        [find_run(store, run_id)], EvaluationRequest("test", config["evaluation"]), Project.from_config(config)
    )[0]


def other_set(config, drawing_seed):
    return {**config["dataset"], "drawing_seed": drawing_seed, "name": "others"}


def metrics_of(store, run_id):
    return store.client.get_run(run_id).data.metrics


def test_a_run_judged_again_has_the_metrics_of_its_training(project, evaluation_of):
    store, _, (run_id, _) = project
    before, first = metrics_of(store, run_id), find_run(store, run_id).result("calibrated/ece")
    evaluated = evaluation_of(run_id, calibration="isotonic")
    assert (evaluated.run_id, evaluated.name) == (run_id, "test")
    assert {f"test/{name}": evaluated.result.metrics[name] for name in ("accuracy", "ece")}.items() <= before.items()
    run = find_run(store, run_id)
    assert run.metrics == before
    assert run.result("calibrated/ece") == evaluated.result.estimates["calibrated/ece"].value != first
    kept = json.loads(download_artifact(run, "evaluation/test/calibrated.json").read_text())
    assert kept["calibration"] == "isotonic"
    saved = read_calibrator(json.loads(download_artifact(run, "calibration/isotonic.json").read_text()))
    pd.testing.assert_frame_equal(saved.calibrate(read_predictions(run, "test")), evaluated.result.calibrated)


def test_intervals_over_patients_replace_those_over_lesions_everywhere(project, evaluation_of, monkeypatch):
    store, _, (_, run_id) = project
    drawn = {}
    monkeypatch.setattr(RunWriter, "log_figure", lambda _, figure, path, about: drawn.update({path: figure}))
    monkeypatch.setattr("lesion_exp.training.part_evaluation.reliability_diagram", lambda table, title, unit: unit)
    before = metrics_of(store, run_id)
    evaluated = evaluation_of(run_id, bootstrap_unit="patient")
    low = evaluated.result.estimates["accuracy"].low
    assert metrics_of(store, run_id)["test/accuracy_low"] == low != before["test/accuracy_low"]
    run = find_run(store, run_id)
    report = json.loads(download_artifact(run, "classification_report/test.json").read_text())
    assert report["intervals_95"]["accuracy"][0] == low
    assert "over patients" in download_artifact(run, "classification_report/test.txt").read_text()
    assert unit_of(run, "test") == "patient"
    assert unit_of(run, "val") == "lesion"
    assert drawn["curves/reliability_test.png"] == "patient"
    evaluation_of(run_id)
    assert metrics_of(store, run_id) == before
    assert drawn["curves/reliability_test.png"] == "lesion"
    evaluation_of(run_id, part="val", bootstrap_unit="patient")
    assert drawn["curves/reliability_val.png"] == "patient"
    evaluation_of(run_id, part="val")


def test_the_report_says_what_the_plain_values_say(project, evaluation_of):
    evaluated = evaluation_of(project[2][0])
    plain = json.loads(json.dumps(as_json(evaluated), allow_nan=False))
    text = as_text(evaluated)
    for name in ("isic/balanced_accuracy", "conformal/lac/coverage", "calibrated/ece"):
        found = plain["metrics"][name]
        assert f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})" in text
    assert max(map(len, text.splitlines())) <= 120
    challenges = [line for line in text.splitlines() if line.startswith("ISIC")]
    assert len(challenges) > 2
    assert all(len(line) <= 80 or "(" not in line for line in challenges), "no interval is broken on 80 columns"


def test_a_checkpoint_gives_the_very_predictions_that_were_kept(project):
    store, config, (run_id, _) = project
    member = member_of(store, run_id, config)
    split = member.data()
    found = member.network().predict(split.table[split.table["split"] == "test"], split.loaded.store)
    pd.testing.assert_frame_equal(found, read_predictions(member.run, "test"), check_dtype=False)


def test_another_augmentation_predicts_anew_and_stands_apart(project, evaluation_of):
    store, _, (run_id, _) = project
    before = metrics_of(store, run_id)
    evaluated = evaluation_of(run_id, tta="flips8")
    assert evaluated.name == "test-flips8"
    run = find_run(store, run_id)
    table = pd.read_parquet(download_artifact(run, "evaluation/test-flips8/predictions.parquet"))
    kept = read_predictions(run, "test")
    assert list(table["row_id"]) == list(kept["row_id"])
    assert 0 < np.abs(probabilities(table) - probabilities(kept)).max() < 0.9
    after = metrics_of(store, run_id)
    assert after["evaluation/test-flips8/accuracy"] == evaluated.result.metrics["accuracy"]
    assert before.items() <= after.items()


def test_the_validation_part_is_judged_without_what_is_fitted_on_it(project, evaluation_of):
    evaluated = evaluation_of(project[2][0], part="val")
    assert evaluated.posthoc is None
    assert "fitted on validation" not in as_text(evaluated)
    with pytest.raises(ConfigError, match="cannot be evaluated on it"):
        evaluation_of(project[2][0], part="val", calibration="temperature")


def test_another_data_set_is_judged_by_what_validation_fitted(project, evaluation_of):
    store, config, (run_id, _) = project
    evaluated = evaluation_of(run_id, dataset=other_set(config, 9))
    assert (evaluated.name, evaluated.leaky) == ("others", False)
    assert len(evaluated.result.table) > 90
    own = json.loads(download_artifact(find_run(store, run_id), "conformal/lac.json").read_text())
    assert evaluated.posthoc.conformal["lac"].to_dict() == own
    run = find_run(store, run_id)
    assert run.metrics["evaluation/others/accuracy"] == evaluated.result.metrics["accuracy"]
    coverage = "conformal/lac/coverage"
    assert run.result(f"evaluation/others/{coverage}") == evaluated.result.estimates[coverage].value


def test_images_that_the_run_was_trained_on_are_noticed(project, evaluation_of):
    _, config, (run_id, _) = project
    same = other_set(config, config["dataset"]["drawing_seed"])
    with pytest.raises(LeakageError, match=r"split\.allow_leakage=true"):
        evaluation_of(run_id, dataset=same)
    evaluated = evaluation_of(run_id, dataset=same, allow_leakage=True)
    assert evaluated.leaky
    assert as_text(evaluated).startswith("LEAKY")


def test_labels_that_the_network_does_not_know_are_listed(project, evaluation_of):
    _, config, (run_id, _) = project
    store = project[0]
    small = {**other_set(config, 9), "filter": "label in ['mel', 'nv']"}
    assert set(evaluation_of(run_id, dataset=small).result.table["label"]) == {"mel", "nv"}
    member = member_of(store, run_id, config)
    rows = pd.DataFrame({"label": ["mel", "scc", "scc"], "split": "test"})
    with pytest.raises(DataError, match=r"scc: 2 images(?s:.)*dataset\.filter"):
        member.network().data(rows, None)


@pytest.mark.parametrize("way", ["mean", "rank"])
def test_an_ensemble_is_a_run_with_joined_predictions(project, evaluation_of, way):
    store, _, ids = project
    evaluated = evaluation_of(*ids, ensemble=way)
    run = find_run(store, evaluated.run_id)
    assert (run.status, run.tags["kind"], run.tags["ensemble"]) == ("FINISHED", "ensemble", way)
    assert run.tags["members"] == ",".join(ids)
    assert run.tags["split_hash"] == find_run(store, ids[0]).tags["split_hash"]
    tables = {part: [read_predictions(find_run(store, run_id), part) for run_id in ids] for part in ("val", "test")}
    for part in ("val", "test"):
        expected = ensemble(way, tables[part])
        pd.testing.assert_frame_equal(read_predictions(run, part), expected, check_dtype=False)
    assert run.metrics["test/accuracy"] == evaluated.result.metrics["accuracy"]
    assert {"test/recall/mel", "best/val/balanced_accuracy", "best/val/loss"} <= set(run.metrics)
    assert {"isic/balanced_accuracy", "calibrated/ece"} <= set(run.results())
    assert "best/val/ece" not in run.metrics


def test_an_ensemble_is_judged_again_like_any_run_but_predicts_nothing_new(project, evaluation_of):
    joined = evaluation_of(*project[2], ensemble="mean")
    again = evaluation_of(joined.run_id, calibration="vector")
    assert again.result.metrics == joined.result.metrics
    with pytest.raises(ConfigError, match=r"run=\[A,B\]"):
        evaluation_of(joined.run_id, tta="flips8")


def test_a_soup_is_a_run_with_a_network(project, evaluation_of):
    store, config, ids = project
    before = pd.DataFrame({"image_id": ["I1"], "run_id": ["an earlier run"]})
    RunWriter.of(find_run(store, ids[1])).log_table(before, "split/seen_before.parquet")
    store.client.set_tag(ids[1], "seen_before", "1 of 9 test images without labels")
    evaluated = evaluation_of(*ids, ensemble="soup")
    store.client.delete_tag(ids[1], "seen_before")
    made = find_run(store, evaluated.run_id)
    assert made.tags["seen_before"] == "1 of 9 test images without labels"
    pd.testing.assert_frame_equal(pd.read_parquet(made.fetch("split/seen_before.parquet")), before)
    member = member_of(store, evaluated.run_id, config)
    assert (member.run.tags["kind"], member.config["seed"]) == ("soup", 0)
    card = read_checkpoint(download_artifact(member.run, "checkpoints/best.ckpt"))["lesion_exp"]
    assert card["run_id"] == evaluated.run_id, "not that of a run it was made of"
    assert card["calibration"]["temperature"] == evaluated.posthoc.calibrators["temperature"].to_dict()
    split = member.data()
    found = member.network().predict(split.table[split.table["split"] == "test"], split.loaded.store)
    pd.testing.assert_frame_equal(found, evaluated.result.table, check_dtype=False)


def test_folds_are_pooled_each_image_once(project, folds, evaluation_of):
    store, _, _ = project
    found = fold_runs(find_run(store, folds[1]))
    assert [run.run_id for run in found] == folds
    evaluated = evaluation_of(*folds)
    assert evaluated.members == tuple(folds)
    assert evaluated.options["ensemble"] == "pooled"
    manifest = pd.read_parquet(download_artifact(find_run(store, folds[0]), "split/manifest.parquet"))
    assert sorted(evaluated.result.table["row_id"]) == sorted(manifest["row_id"])
    assert evaluated.posthoc is None
    with pytest.raises(ConfigError, match=r"dataset=NAME"):
        evaluation_of(*folds, ensemble="mean")


def test_the_folds_of_a_sweep_become_one_result_on_its_own_run(project, folds, evaluation_of, caplog):
    store, config, _ = project
    experiment = find_run(store, folds[0]).experiment_id
    parent = store.client.create_run(experiment, tags={"kind": "sweep", "sweep_id": "s"}).info.run_id
    store.client.set_tag(folds[0], PARENT_TAG, parent)
    assert evaluate_folds(store, parent, Project.from_config(config)) == []
    assert "no finished run of fold 1" in caplog.text
    store.client.set_tag(folds[1], PARENT_TAG, parent)
    (evaluated,) = evaluate_folds(store, parent, Project.from_config(config))
    assert (evaluated.run_id, evaluated.members) == (parent, tuple(folds))
    run = find_run(store, parent)
    assert run.metrics["test/balanced_accuracy"] == pytest.approx(evaluated.result.metrics["balanced_accuracy"])
    assert len(read_predictions(run, "test")) == sum(
        len(read_predictions(find_run(store, fold), "test")) for fold in folds
    )
    assert evaluate_folds(store, parent, Project.from_config(config)) == [], "it was evaluated before"
    other = store.client.create_run(experiment, tags={"kind": "train", PARENT_TAG: parent}).info.run_id
    store.client.delete_tag(parent, "members")
    below = evaluation_of(*folds)
    assert below.run_id not in {parent, other}, "the sweep has other cells, too"
    assert evaluate_folds(store, parent, Project.from_config(config)) == [], "it was evaluated before, on a run below"
    store.client.set_terminated(below.run_id, "KILLED")
    (anew,) = evaluate_folds(store, parent, Project.from_config(config))
    assert anew.run_id not in {below.run_id, parent}, "what ended half-way counts for nothing"
    store.client.delete_run(anew.run_id)
    assert find_run(store, below.run_id).tags[PARENT_TAG] == parent
    for fold in folds:
        store.client.delete_tag(fold, PARENT_TAG)
    store.client.delete_run(other)


def test_labels_of_another_data_set_are_mapped_by_the_taxonomy(project, evaluation_of, tmp_path):
    store, config, (run_id, _) = project
    images = sorted(Path(config["dataset"]["root"]).rglob("*.jpg"))[:30]
    labels = ["Melanoma", "common nevus", "psoriasis"] * 10
    rows = {"image_id": [f"new{number}" for number in range(30)], "image_path": images, "label": labels}
    pd.DataFrame(rows).to_csv(tmp_path / "cases.csv", index=False)
    node = compose(["dataset=csv", f"dataset.root={tmp_path}", "dataset.table=cases.csv"], root=tmp_path).config[
        "dataset"
    ]
    found = evaluation_of(run_id, dataset=node, allow_leakage=True)
    assert len(found.result.table) == 20
    assert found.result.table["label"].value_counts().to_dict() == {"mel": 10, "nv": 10}
    assert "psoriasis (10 images)" in as_text(found).replace("\n", " ")
    told = as_json(found)["class_mapping"]
    assert told["mapped"] == {"mel": {"melanoma": 10}, "nv": {"common nevus": 10}}
    assert told["left_out"] == {"psoriasis": 10}
    assert set(told["absent"]) == set(as_json(found)["classes"]) - {"mel", "nv"}
    assert told["predicted_absent"] == int(found.result.table["prediction"].isin(told["absent"]).sum())
    kept = download_artifact(find_run(store, run_id), f"evaluation/{found.name}/class_mapping.json")
    assert json.loads(kept.read_text()) == told


def test_folds_together_judge_another_data_set(project, folds, evaluation_of):
    others = {**other_set(project[1], 9), "filter": "label in ['bkl', 'mel', 'nv']"}
    evaluated = evaluation_of(*folds, ensemble="mean", dataset=others)
    assert (evaluated.name, evaluated.posthoc) == ("others", None)
    alone = [evaluation_of(fold, dataset=others).result.table for fold in folds]
    np.testing.assert_allclose(
        probabilities(evaluated.result.table), np.mean([probabilities(table) for table in alone], axis=0), atol=1e-6
    )


def test_runs_that_do_not_go_together_are_refused(project, folds, evaluation_of):
    store, _, ids = project
    with pytest.raises(ConfigError, match="twice"):
        evaluation_of(ids[0], ids[0])
    with pytest.raises(ConfigError, match="at least two runs"):
        evaluation_of(ids[0], ensemble="mean")
    with pytest.raises(ConfigError, match="cross-validation"):
        evaluation_of(*ids, ensemble="pooled")
    with pytest.raises(ConfigError, match="run of a cross-validation"):
        fold_runs(find_run(store, ids[0]))
    with pytest.raises(ConfigError, match="same split for ensemble=soup"):
        evaluation_of(*folds, ensemble="soup")
    store.client.set_tag(folds[0], "dataset_fingerprint", "0" * 16)
    with pytest.raises(DataError, match="they differ in: data"):
        evaluation_of(folds[0], tta="multicrop")


def test_the_command_prints_one_json_object(project, capsys, monkeypatch):
    _, config, ids = project
    monkeypatch.chdir(config["paths"]["root"])
    assert (
        main(
            [
                "evaluate",
                f"run=[{ids[0][:8]},{ids[1]}]",
                "ensemble=rank",
                "--json",
                "evaluation.bootstrap_draws=100",
                "split.part=val",
            ]
        )
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["members"] == ids
    assert found["evaluation"]["ensemble"] == "rank"
    kept = download_artifact(find_run(project[0], found["run_id"]), "ensemble/overrides.json")
    assert json.loads(kept.read_text()) == ["evaluation.bootstrap_draws=100", "split.part=val"]
    assert found["metrics"]["balanced_accuracy"]["low"] <= found["metrics"]["balanced_accuracy"]["high"]
