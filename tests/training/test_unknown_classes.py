"""Classes that only the published or given test part has: from the split to every reader of the predictions."""

import json
import shlex

import pandas as pd
import pytest

from lesion_exp.cli import main
from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.errors import DataError
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.predictions import known_rows, unknown_counts
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.stored_run import download_artifact, read_predictions
from lesion_exp.training.data import load_data, split_data
from lesion_exp.training.run import train
from tests.tiny import TINY

UNKNOWN = "vasc"
DATA = ("dataset.class_shares={bkl: 0.2, mel: 0.3, nv: 0.35, vasc: 0.15}",)


def classes_of(config):
    return split_data(config, load_data(config)).classes


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder, its data as split by this package, and a way to write another split of them."""
    root = tmp_path_factory.mktemp("project")
    config = compose([*TINY, *DATA], root=root).config
    table = split_data(config, load_data(config)).table[["image_id", "label", "group", "split"]]

    def given(name, change):
        path = root / f"{name}.csv"
        table.assign(split=change(table)).to_csv(path, index=False)
        return [*TINY, *DATA, "split=file", f"split.path={path}"]

    return root, given


def moved(table, rows, part):
    """The parts of `table` with the groups of `rows` in `part`."""
    return table["split"].mask(table["group"].isin(table.loc[rows, "group"]), part)


def only_tested(table):
    return moved(table, table["label"] == UNKNOWN, "test")


def composed(project, name, change, *more):
    root, given = project
    return compose([*given(name, change), *more], root=root).config


def test_a_class_of_the_given_test_part_alone_is_unknown(project):
    config = composed(project, "tested", only_tested)
    split = split_data(config, load_data(config))
    assert split.classes == ("bkl", "mel", "nv")
    unknown = split.table[split.table["is_unknown"]]
    assert set(unknown["label"]) == {UNKNOWN}
    assert set(unknown["split"]) == {"test"}
    assert split.audit.unknown == {UNKNOWN: len(unknown)}
    assert f"({UNKNOWN} {len(unknown)})" in " ".join(split.audit.summary().split())
    assert split.audit.to_dict()["unknown"] == {UNKNOWN: len(unknown)}
    assert not any(UNKNOWN in warning for warning in split.audit.warnings)
    assert UNKNOWN not in split.audit.prevalence_shift["test"]


def test_a_class_that_validates_without_being_trained_on_is_refused_and_the_remedy_works(project):
    def change(table):
        return moved(table, table["label"] == UNKNOWN, "val")

    config = composed(project, "validated", change)
    with pytest.raises(DataError, match=f"{UNKNOWN}: [0-9]+ images in val") as refused:
        classes_of(config)
    assert "split.ratios" not in str(refused.value)
    (remedy,) = shlex.split(str(refused.value).rpartition("with ")[2])
    assert classes_of(composed(project, "validated", change, remedy)) == ("bkl", "mel", "nv")


def test_a_dealt_test_part_has_no_unknown_classes(project):
    """A class that was dealt out of training has too few groups: contract, exit 2."""
    root, _ = project
    config = compose([*TINY, *DATA, "split=kfold", "split.num_folds=2"], root=root).config
    loaded = load_data(config)
    one = loaded.table["label"] == UNKNOWN
    same = loaded.table["lesion_id"].mask(one, "the only one")
    loaded = type(loaded)(**{**vars(loaded), "table": loaded.table.assign(lesion_id=same)})
    outcomes = []
    for fold in (0, 1):
        config["split"]["fold"] = fold
        try:
            outcomes.append(split_data(config, loaded).classes)
        except DataError as error:
            outcomes.append(str(error))
    assert ("bkl", "mel", "nv", UNKNOWN) in outcomes
    assert any("images in test" in str(outcome) and "use split=grouped" in str(outcome) for outcome in outcomes)
    remedy = compose([*TINY, *DATA, "split=grouped"], root=root).config
    assert split_data(remedy, loaded).classes == ("bkl", "mel", "nv", UNKNOWN)


def test_one_trained_class_is_too_few(project):
    config = composed(project, "one", lambda table: moved(table, table["label"] != "nv", "test"))
    with pytest.raises(DataError, match="at least two classes to tell apart in the training part, got \\['nv'\\]"):
        classes_of(config)


@pytest.fixture(scope="module")
def runs(project):
    root, given = project
    words = given("tested", only_tested)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunWriter, "log_figure", lambda *_: None)  # drawing takes longer than all else
        ids = [train(freeze(compose([*words, f"seed={seed}"], root=root))).run_id for seed in (0, 1)]
    return root, compose(words, root=root).project.store, ids


def said(words, root, capsys):
    assert main([*words, f"paths.root={root}"]) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_a_run_keeps_them_apart(runs):
    _, store, ids = runs
    run = find_run(store, ids[0])
    whole = read_predictions(run, "test", with_unknown=True)
    table = read_predictions(run, "test")
    counts = unknown_counts(whole)
    assert counts == {UNKNOWN: len(whole) - len(table)}
    assert whole["energy"].notna().all()
    assert [column for column in whole if column.startswith("p_")] == ["p_bkl", "p_mel", "p_nv"]
    assert "is_unknown" not in read_predictions(run, "val", with_unknown=True)
    assert run.metrics["test/balanced_accuracy"] == pytest.approx(metrics(known_rows(whole))["balanced_accuracy"])
    content = json.loads(download_artifact(run, "evaluation/test/metrics.json").read_text())
    assert content["images"] == len(table)
    assert content["unknown_images"] == {"images": counts[UNKNOWN], "classes": counts}
    for score in ("max_probability", "energy", "set_size_lac", "set_size_aps"):
        for family in ("auroc", "fpr_at_95_tpr"):
            value = content[f"unknown/{family}/{score}"]
            logged = [run.result(f"test/unknown/{family}/{score}{end}") for end in ("_low", "", "_high")]
            assert logged == pytest.approx([value["low"], value["value"], value["high"]])
            assert 0 <= logged[0] <= logged[1] <= logged[2] <= 1
    manifest = pd.read_parquet(download_artifact(run, "split/manifest.parquet"))
    assert (manifest["is_unknown"] == (manifest["label"] == UNKNOWN)).all()
    confusion = json.loads(download_artifact(run, "confusion_matrix/test.json").read_text())
    assert sum(map(sum, confusion["counts"])) == len(table)
    assert "left out of all closed-set metrics" in download_artifact(run, "classification_report/test.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("evaluation.tta=flips8",)], ids=["kept", "anew"])
def test_evaluate_counts_and_scores_them(runs, more, capsys):
    root, store, ids = runs
    words = ["evaluate", f"run={ids[0]}", "evaluation.bootstrap_draws=100", *more]
    counts = unknown_counts(read_predictions(find_run(store, ids[0]), "test", with_unknown=True))
    text = said(words, root, capsys)
    assert f"{counts[UNKNOWN]} images of classes that the training part does not have" in text
    assert "energy           AUROC 0." in text
    found = json.loads(said([*words, "--json"], root, capsys))
    assert found["unknown_images"] == counts
    assert found["images"] == len(read_predictions(find_run(store, ids[0]), "test"))
    assert 0 <= found["metrics"]["unknown/auroc/energy"]["value"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("way", ["mean", "rank", "soup"])
def test_ensembles_keep_them_apart(runs, way, capsys):
    root, store, ids = runs
    words = ["evaluate", f"run=[{','.join(ids)}]", f"ensemble={way}", "evaluation.bootstrap_draws=100", "--json"]
    found = json.loads(said(words, root, capsys))
    assert found["unknown_images"] == unknown_counts(
        read_predictions(find_run(store, ids[0]), "test", with_unknown=True)
    )
    assert ("unknown/auroc/energy" in found["metrics"]) == (way != "rank")
    joined = read_predictions(find_run(store, found["run_id"]), "test", with_unknown=True)
    assert unknown_counts(joined) == found["unknown_images"]


@pytest.mark.slow
def test_compare_report_label_errors_and_explain_leave_them_out(runs, capsys, tmp_path):
    root, store, ids = runs
    images = len(read_predictions(find_run(store, ids[0]), "test"))
    compared = json.loads(said(["compare", *ids, "--json", "evaluation.bootstrap_draws=100"], root, capsys))
    assert any("left out of all closed-set metrics" in note for note in compared["notes"])
    page = tmp_path / "page.html"
    said(["report", f"run={ids[0]}", f"output={page}"], root, capsys)
    text = page.read_text(encoding="utf-8")
    assert "Detection of images of unknown classes by scores" in text
    assert f"On {images} images" in text
    words = ["label-errors", f"run={ids[0]}", "part=test", "min_balanced_accuracy=0", f"output={tmp_path / 's.csv'}"]
    suspected = said([*words, "--json"], root, capsys)
    assert json.loads(suspected)["images"] == images
    explained = said(["explain", f"run={ids[0]}", "method=grad_cam", "images=4", "--json"], root, capsys)
    assert json.loads(explained)


@pytest.mark.slow
def test_shortcuts_are_checked_without_them(runs, capsys):
    root, store, ids = runs
    images = len(read_predictions(find_run(store, ids[0]), "test"))
    found = json.loads(said(["shortcuts", f"run={ids[0]}", "--json", "evaluation.bootstrap_draws=100"], root, capsys))
    assert found["images"] == images
