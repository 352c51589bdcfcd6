import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lesion_exp
from lesion_exp.cli import main
from lesion_exp.errors import DataError
from lesion_exp.evaluation.challenge_format import FORMATS
from lesion_exp.evaluation.predictions import probabilities
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.stored_run import download_artifact, read_predictions
from lesion_exp.verbs.evaluate.true_classes import of_file
from tests.refusal import assert_refused

ISIC = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
NUMBER = 70
FAST = "evaluation.bootstrap_draws=100"

pytestmark = pytest.mark.usefixtures("no_saved_pictures")


@pytest.fixture
def files(store, monkeypatch):
    """In the folder of a store: a ground truth and a submission in the layout of ISIC 2018, with one unscored image."""
    monkeypatch.chdir(store.root)
    names = [f"ISIC_{number:07d}" for number in range(NUMBER)]
    names[7] = "ISIC_0035068"
    true = np.arange(NUMBER) % 7
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(NUMBER, 7)) + 2 * np.eye(7)[true]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = pd.DataFrame(np.eye(7)[true], columns=list(ISIC))
    truth.insert(0, "image", names)
    submission = pd.DataFrame(probs, columns=list(ISIC))
    submission.insert(0, "image", names)
    truth.to_csv("truth.csv", index=False)
    submission.to_csv("submission.csv", index=False)
    return truth, submission


def imported(capsys, *words):
    assert main(["import", "truth=truth.csv", FAST, "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_submission_and_its_ground_truth_become_a_run(files, store, own_process, capsys):
    truth, submission = files
    found = imported(capsys, "predictions=submission.csv", "name=theirs")
    scored = truth["image"] != "ISIC_0035068"  # the scorer of the challenge gives it weight zero
    right = submission[list(ISIC)].to_numpy().argmax(axis=1) == truth[list(ISIC)].to_numpy().argmax(axis=1)
    assert found["images"] == NUMBER - 1
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(right[scored].mean())
    run = find_run(store, found["run_id"])
    assert (run.name, run.status, run.tags["kind"]) == ("theirs", "FINISHED", "imported")
    assert run.metrics["test/accuracy"] == pytest.approx(right[scored].mean())
    kept = read_predictions(run, "test").set_index("image_id")
    assert [name for name in kept if name.startswith("p_")] == sorted(f"p_{name.lower()}" for name in ISIC)
    given = submission.set_index("image").loc[kept.index, "MEL"]
    np.testing.assert_allclose(kept["p_mel"], given, atol=1e-6)
    facts = json.loads(download_artifact(run, "import/facts.json").read_text())
    assert facts["format"] == "isic2018"
    assert facts["left_out"] == {"predictions of images to which the challenge gives weight zero": 1}


def test_all_that_needs_no_network_works_and_the_rest_is_refused(files, store, own_process, capsys):
    one = imported(capsys, "predictions=submission.csv")["run_id"]
    files[1].assign(**{name: files[1][name] for name in ISIC}).rename(
        columns={"image": "id", **{name: f"prob_{name.lower()}" for name in ISIC}}
    ).to_csv("same.csv", index=False)
    two = imported(capsys, "predictions=same.csv")["run_id"]
    assert main(["evaluate", f"run={one}", FAST, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == NUMBER - 1
    assert main(["compare", one, two, FAST, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert any("it is not known what" in note for note in told["notes"])
    assert main(["evaluate", f"run=[{one},{two}]", "ensemble=mean", FAST, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == NUMBER - 1
    assert_refused(capsys, ["evaluate", f"run=[{one},{two}]", "ensemble=stacked", FAST], "import those of validation")
    assert main(["report", f"run={one}", "output=page.html"]) == 0
    capsys.readouterr()
    for words in (
        ["predict", "input=.", "output=new.csv"],
        ["explain"],
        ["register", "name=theirs"],
        ["export", "format=onnx", "output=theirs.onnx"],
        ["resume"],
        ["reproduce"],
        ["evaluate", "tta=flips8"],
        ["evaluate", "dataset=synthetic"],
    ):
        assert_refused(capsys, [words[0], f"run={one}", *words[1:]], "which has predictions that were imported")
    assert_refused(capsys, ["evaluate", f"run={one}", "calibration=temperature"], "leave calibration= out")


def test_the_images_of_a_run_are_paired_and_its_validation_part_calibrates(files, store, own_process, capsys):
    parts = ["val" if number % 2 else "test" for number in range(NUMBER)]
    files[1].assign(split=parts).to_csv("parts.csv", index=False)
    first = imported(capsys, "predictions=parts.csv")
    assert "conformal/lac/coverage" in first["metrics"]
    own = find_run(store, first["run_id"])
    assert len(read_predictions(own, "val")) + len(read_predictions(own, "test")) == NUMBER - 1
    # logits of fewer classes, ids with endings in another case, and images that the run does not evaluate
    logits = np.log(files[1][list(ISIC)]).rename(columns=str.lower)
    ids = [f"images/{name.lower()}.JPG" for name in files[1]["image"]]
    more = pd.concat([logits.assign(image_id=ids), logits[:1].assign(image_id="elsewhere.jpg")])
    more.drop(columns="vasc").to_csv("logits.csv", index=False)
    found = lesion_exp.import_predictions("logits.csv", FAST, like=first["run_id"], values="logits")
    run = find_run(store, found.run_id)
    kept = read_predictions(run, "test")
    assert kept["row_id"].tolist() == read_predictions(own, "test")["row_id"].tolist()
    assert (kept["p_vasc"] == 0).all()
    np.testing.assert_allclose(probabilities(kept).sum(axis=1), 1, atol=1e-6)
    facts = json.loads(download_artifact(run, "import/facts.json").read_text())
    assert facts["left_out"] == {"predictions of images that are not evaluated": 2}
    assert main(["compare", found.run_id, first["run_id"], FAST, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["part"] == "test"


def test_intervals_of_validation_are_renewed_where_the_run_has_them(files, store, own_process, capsys):
    parts = ["val" if number % 2 else "test" for number in range(NUMBER)]
    files[1].assign(split=parts).to_csv("parts.csv", index=False)
    run = find_run(store, imported(capsys, "predictions=parts.csv")["run_id"])
    table = read_predictions(run, "val")
    patients = [f"pat{place // 3}" for place in range(len(table))]
    RunWriter.of(run).log_table(table.assign(patient_id=patients), "predictions/val.parquet")
    words = ["evaluate", f"run={run.run_id}", "split.part=val", FAST, "--json"]
    assert main([*words, "evaluation.bootstrap_unit=patient"]) == 0
    found = json.loads(capsys.readouterr().out)["metrics"]["balanced_accuracy"]
    renewed = find_run(store, run.run_id).metrics
    low, high = (renewed[f"best/val/balanced_accuracy_{end}"] for end in ("low", "high"))
    assert (low, high) == pytest.approx((found["low"], found["high"]))
    assert low != run.metrics["best/val/balanced_accuracy_low"]
    assert renewed.keys() == run.metrics.keys()
    assert main(words) == 0
    assert find_run(store, run.run_id).metrics == run.metrics


def test_a_file_may_have_the_test_images_of_a_run_alone(files, store, own_process, capsys):
    parts = np.array(["val" if number % 2 else "test" for number in range(NUMBER)])
    files[1].assign(split=parts).to_csv("parts.csv", index=False)
    first = imported(capsys, "predictions=parts.csv")["run_id"]
    files[1][parts == "test"].to_csv("theirs.csv", index=False)
    found = lesion_exp.import_predictions("theirs.csv", FAST, like=first)
    run = find_run(store, found.run_id)
    assert read_predictions(run, "test")["row_id"].tolist() == (
        read_predictions(find_run(store, first), "test")["row_id"].tolist()
    )
    facts = json.loads(download_artifact(run, "import/facts.json").read_text())
    assert facts["left_out"] == {"images of the validation part, of which the file has no prediction": NUMBER // 2 - 1}
    files[1].assign(split=np.where(parts == "val", "test", "val")).to_csv("theirs.csv", index=False)
    said = "69 images differ:\n  - ISIC_0000001: test in the file, val in the run"
    assert_refused(capsys, ["import", "predictions=theirs.csv", f"like={first}", FAST], said)
    files[1].assign(image="x" + files[1]["image"]).to_csv("theirs.csv", index=False)
    assert_refused(capsys, ["import", "predictions=theirs.csv", f"like={first}", FAST], "is among its 69 images")
    assert_refused(capsys, ["predict", "run=latest", "input=.", "output=new.csv"], "it has none yet")


def test_a_class_that_the_run_does_not_know_may_be_one_of_the_predictions(files, store, own_process, capsys):
    known = files[1].drop(columns=["VASC", "DF"])
    known.to_csv("five.csv", index=False)
    five = imported(capsys, "predictions=five.csv", "rescale=true")
    assert five["unknown_images"] == {"df": NUMBER // 7, "vasc": NUMBER // 7}
    seven = lesion_exp.import_predictions("submission.csv", FAST, like=five["run_id"])
    table = read_predictions(find_run(store, seven.run_id), "test", with_unknown=True)
    assert len(table) == NUMBER - 1
    assert "is_unknown" not in table
    assert {"df", "vasc"} < set(table["label"])


def test_one_logit_is_that_of_a_sigmoid(files, store, own_process, capsys):
    names, malignant = files[1]["image"], np.arange(NUMBER) % 2
    pd.DataFrame({"isic_id": names, "target": malignant}).to_csv("truth.csv", index=False)
    logits = np.linspace(0.1, 0.9, NUMBER)  # which might be probabilities, too
    pd.DataFrame({"isic_id": names, "target": logits}).to_csv("logits.csv", index=False)
    run = find_run(store, imported(capsys, "predictions=logits.csv", "values=logits")["run_id"])
    np.testing.assert_allclose(read_predictions(run, "test")["p_malignant"], 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_tables_of_spreadsheets_and_of_the_archive_are_read(files, store, own_process, capsys):
    graded = imported(capsys, "predictions=submission.csv")["metrics"]
    files[1].rename(columns=str.lower).to_csv("commas.csv", index=False, sep=";", decimal=",", encoding="utf-8-sig")
    assert imported(capsys, "predictions=commas.csv")["metrics"] == graded
    labels = files[0][list(ISIC)].idxmax(axis=1)
    pd.DataFrame(
        {"isic_id": np.arange(NUMBER), "image_name": files[0]["image"], "dx": labels, "Split": "Testing"}
        | {"anatom_site_general": "torso", "anatom_site_general_challenge": "anterior torso"}
    ).to_csv("truth.csv", index=False)
    found = imported(capsys, "predictions=submission.csv")
    assert found["images"] == NUMBER
    kept = read_predictions(find_run(store, found["run_id"]), "test")
    assert set(kept["site"]) == {"torso"}
    for change, said in (
        (lambda table: table.assign(Split="holdout"), "got 'holdout'"),
        (lambda table: table.assign(DX="nv"), "several that are called dx"),
    ):
        change(pd.read_csv("truth.csv")).to_csv("changed.csv", index=False)
        assert_refused(capsys, ["import", "predictions=submission.csv", "truth=changed.csv", FAST], said)


def test_predicted_classes_alone_by_any_name_of_the_taxonomy(files, store, own_process, capsys):
    names = {"MEL": "Melanoma", "NV": "melanocytic nevi", "AKIEC": "akiec"}
    predicted = [names.get(name, name) for name in files[1][list(ISIC)].idxmax(axis=1)]
    pd.DataFrame({"photo": files[1]["image"], "dx": predicted}).to_csv("labels.csv", index=False)
    found = imported(capsys, "predictions=labels.csv", "columns={image_id: photo, prediction: dx}")
    assert "accuracy" in found["metrics"]
    assert "auroc_macro" not in found["metrics"]
    graded = imported(capsys, "predictions=submission.csv")
    assert found["metrics"]["accuracy"] == graded["metrics"]["accuracy"]
    assert main(["compare", found["run_id"], graded["run_id"], FAST, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert any("without probabilities" in note for note in told["notes"])
    files = store.artifact_dir(find_run(store, found["run_id"]).artifact_uri)
    assert main(["report", f"run={found['run_id']}"]) == 0
    assert (files / "report.html").is_file()


def test_a_data_set_needs_no_image_files(files, store, own_process, capsys):
    frame = pd.DataFrame({"image_id": files[1]["image"], "label": ["common nevus", "melanoma"] * (NUMBER // 2)})
    (store.root / "clinic").mkdir()
    frame.to_csv("clinic/cases.csv", index=False)
    files[1].to_csv("p.csv", index=False)
    words = ["dataset=csv", "dataset.root=clinic", "dataset.table=cases.csv", FAST, "--json"]
    assert main(["import", "predictions=p.csv", *words]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["class_mapping"]["mapped"] == {"mel": {"melanoma": 35}, "nv": {"common nevus": 35}}
    assert found["class_mapping"]["absent"] == ["akiec", "bcc", "bkl", "df", "vasc"]


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        (lambda s: s[:-3], [], "3 images have none"),
        (lambda s: s[:-3], ["on_unmatched=skip"], None),
        (lambda s: pd.concat([s, s[:1].assign(image="ISIC_9")]), [], "1 ids are unknown there"),
        (lambda s: pd.concat([s, s[:2].assign(image=s["image"] + ".jpg")]), [], "2 rows repeat one"),
        (lambda s: s.assign(MEL=2 * s["MEL"]), [], "rescale=true divides"),
        (lambda s: s.assign(MEL=2 * s["MEL"]), ["rescale=true"], None),
        (lambda s: s.assign(MEL=s["MEL"] - 1), ["rescale=true"], "values=logits if"),
        (lambda s: s.assign(MEL=s["MEL"].where(s.index != 4)), [], "1 of 70 rows hold others:\n  - ISIC_0000004"),
        (lambda s: s.assign(MEL=s["MEL"].astype(object).where(s.index != 4, "high")), [], "'high' in MEL"),
        (lambda s: s.assign(image=s["image"].where(s.index != 4)), [], "row 6"),
        (lambda s: s.assign(image="x" + s["image"]), [], "is among its 69 images"),
        (lambda s: s.rename(columns={"image": "photo"}), [], "columns='{image_id: COLUMN}'"),
        (lambda s: s[["image"]], [], "columns='{prediction: COLUMN}'"),
        (lambda s: s, ["columns={image_id: img}"], "got img; did you mean 'image'?"),
        (lambda s: s[["image"]].assign(prediction="melanom"), [], "got 'melanom'"),
        (lambda s: s.assign(split="holdout"), [], "got 'holdout'"),
        (lambda s: s, ["columns={image_id: image, mel: MEL, melanoma: NV}"], "got mel twice"),
        (lambda s: s, ["columns={image_id: image, mel: NV, nv: NV}"], "got the column NV twice"),
        (lambda s: s, ["values=logits", "rescale=true"], "beside values=logits"),
        (lambda s: s, ["values=labels", "columns={mel: MEL}"], "columns='{prediction: COLUMN}'"),
        (lambda s: s[["image"]].assign(prediction="mel"), ["values=logits"], "expected a column for each class"),
        (lambda s: s[:0], [], "got a header without any row"),
        (lambda s: s, ["like=latest"], "got truth= and like="),
        (lambda s: s, ["evaluation.calibration=temperature"], "in a column split of the file"),
        (lambda s: s, ["backbone=resnet18"], "expected keys that an import reads"),
    ],
)
def test_faults_are_told_with_a_remedy(change, words, said, files, own_process, capsys):
    change(files[1]).to_csv("changed.csv", index=False)
    command = ["import", "predictions=changed.csv", "truth=truth.csv", FAST, "--json", *words]
    if said is None:
        assert main(command) == 0
    else:
        assert_refused(capsys, command, said)


def test_the_layouts_of_lesions_and_of_one_score_are_read(files, store, own_process, capsys):
    names = files[1]["image"]
    malignant = pd.Series(np.arange(NUMBER) % 2)
    pd.DataFrame({"isic_id": names, "target": malignant, "patient_id": "p1"}).to_csv("truth.csv", index=False)
    pd.DataFrame({"isic_id": names, "target": 0.2 + 0.6 * malignant}).to_csv("scores.csv", index=False)
    found = imported(capsys, "predictions=scores.csv")
    assert (found["classes"], found["metrics"]["accuracy"]["value"]) == (["benign", "malignant"], 1.0)
    classes = ("AKIEC", "BCC", "BEN_OTH", "BKL", "DF", "INF", "MAL_OTH", "MEL", "NV", "SCCKA", "VASC")
    hot = pd.DataFrame(np.eye(11)[np.arange(44) % 11], columns=list(classes))
    hot.insert(0, "lesion_id", [f"IL_{number}" for number in range(44)])
    hot.to_csv("truth.csv", index=False)
    hot.to_csv("entry.csv", index=False)
    found = imported(capsys, "predictions=entry.csv")
    assert (found["images"], found["metrics"]["accuracy"]["value"]) == (44, 1.0)


def test_validation_images_of_other_classes_are_left_out_and_counted(files, store, own_process, capsys):
    truth = files[0].set_index("image").idxmax(axis=1).str.lower()
    labels = truth.where(np.arange(NUMBER) % 10 != 3, "scc")
    pd.DataFrame({"image_id": labels.index, "label": labels}).to_csv("truth.csv", index=False)
    files[1].assign(split=np.where(np.arange(NUMBER) % 2, "val", "test")).to_csv("theirs.csv", index=False)
    found = imported(capsys, "predictions=theirs.csv")
    run = find_run(store, found["run_id"])
    assert (read_predictions(run, "val", with_unknown=True)["label"] == "scc").sum() == NUMBER // 10
    assert download_artifact(run, "calibration/temperature.json").is_file()
    assert main(["evaluate", f"run={run.run_id}", FAST, "--json"]) == 0


def test_a_validation_part_of_other_classes_alone_is_refused(files, own_process, capsys):
    truth = files[0].set_index("image").idxmax(axis=1).str.lower()
    in_val = np.arange(NUMBER) % 2 == 1
    labels = truth.where(~in_val, "scc")
    pd.DataFrame({"image_id": labels.index, "label": labels}).to_csv("truth.csv", index=False)
    files[1].assign(split=np.where(in_val, "val", "test")).to_csv("theirs.csv", index=False)
    words = ["import", "predictions=theirs.csv", "truth=truth.csv", FAST]
    assert_refused(capsys, words, "expected validation images of the classes that are predicted")


def test_predicted_classes_that_are_finer_than_the_true_ones_are_mapped_and_named(files, store, own_process, capsys):
    """Where the data set has akiec alone, a network with ak and scc is right if it predicts one of these."""
    true = files[0][list(ISIC)].idxmax(axis=1)
    finer = {"AKIEC": ["AK", "SCC"], "NV": ["common nevus", "atypical nevus"]}
    predicted = [finer[name][place % 2] if name in finer else name for place, name in enumerate(true)]
    pd.DataFrame({"image_id": files[0]["image"], "prediction": predicted}).to_csv("labels.csv", index=False)
    assert main(["import", "truth=truth.csv", FAST, "--json", "predictions=labels.csv"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["metrics"]["accuracy"]["value"] == 1
    assert found["classes"] == sorted(name.lower() for name in ISIC)
    said = "AK (5 predictions) is akiec, SCC (5 predictions) is akiec, atypical nevus (5 predictions) is nv"
    assert said in " ".join(shown.err.split())
    run = find_run(store, found["run_id"])
    assert said in run.tags["mlflow.note.content"]
    assert said in found["notes"][0]


def test_a_score_without_a_class_is_answered_with_its_class(files, store, own_process, capsys):
    names = files[1]["image"]
    pd.DataFrame({"isic_id": names, "target": np.arange(NUMBER) % 2}).to_csv("truth.csv", index=False)
    pd.DataFrame({"isic_id": names, "pred": np.linspace(0.1, 0.9, NUMBER).round(3)}).to_csv("kaggle.csv", index=False)
    command = ["import", "predictions=kaggle.csv", "truth=truth.csv", FAST]
    remedy = "columns='{malignant: pred}'"
    assert_refused(capsys, command, remedy)
    assert main([*command, remedy.replace("'", "")]) == 0
    capsys.readouterr()
    pd.DataFrame({"isic_id": names, "pred": np.linspace(-3, 3, NUMBER).round(3)}).to_csv("kaggle.csv", index=False)
    assert_refused(capsys, command, f"values=logits {remedy}")


def test_true_classes_in_parquet_are_read(files, store, own_process, capsys):
    names, malignant = files[1]["image"], np.arange(NUMBER) % 2
    pd.DataFrame({"isic_id": names, "target": 0.2 + 0.6 * malignant}).to_csv("scores.csv", index=False)
    for values in (malignant, malignant.astype(bool), pd.Series(malignant).astype("category")):
        pd.DataFrame({"isic_id": names, "target": values}).to_parquet("truth.parquet")
        assert len(of_file(Path("truth.parquet")).table) == NUMBER
    found = lesion_exp.import_predictions("scores.csv", FAST, truth="truth.parquet")
    assert found.metrics["accuracy"].value == 1


def test_rescaled_confidences_keep_the_predicted_classes_alone_and_it_is_said(files, store, own_process, capsys):
    files[1].assign(**{name: files[1][name] * np.linspace(0.5, 1.5, NUMBER) for name in ISIC}).to_csv(
        "raw.csv", index=False
    )
    run = find_run(store, imported(capsys, "predictions=raw.csv", "rescale=true")["run_id"])
    assert main(["evaluate", f"run={run.run_id}", FAST]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "divided by their sums (rescale=true), which changes the order of the images" in shown
    assert "divided by their sums" in run.tags["mlflow.note.content"]
    graded = imported(capsys, "predictions=submission.csv")
    assert main(["evaluate", f"run={run.run_id}", FAST, "--json"]) == 0
    rescaled = json.loads(capsys.readouterr().out)["metrics"]
    assert {name for name in rescaled if name.startswith("isic/")} == {"isic/balanced_accuracy"}
    assert rescaled["isic/balanced_accuracy"] == graded["metrics"]["isic/balanced_accuracy"]
    assert main(["compare", run.run_id, graded["run_id"], FAST, "--json"]) == 0
    assert any("had confidences that were divided" in note for note in json.loads(capsys.readouterr().out)["notes"])
    other = lesion_exp.import_predictions("submission.csv", FAST, like=run.run_id)
    assert "isic/auc/mel" in other.metrics  # not rescaled, although the run of like= is


def test_probabilities_for_the_images_of_a_run_of_labels_have_areas(files, store, own_process, capsys):
    labels = pd.DataFrame({"image_id": files[1]["image"], "prediction": files[1][list(ISIC)].idxmax(axis=1)})
    labels.to_csv("labels.csv", index=False)
    like = imported(capsys, "predictions=labels.csv")["run_id"]
    assert "auroc_macro" in lesion_exp.import_predictions("submission.csv", FAST, like=like).metrics


EIGHT = ("ak", "bcc", "bkl", "df", "mel", "nv", "scc", "vasc")
KAGGLE = {
    "AKIEC": "Actinic keratoses", "BCC": "Basal cell carcinoma", "BKL": "Benign keratosis-like lesions",
    "DF": "Dermatofibroma", "MEL": "Melanoma", "NV": "Melanocytic nevi", "VASC": "Vascular lesions",
}  # fmt: skip
"""The names of the classes of HAM10000 in most notebooks."""


@pytest.fixture
def eight(store, monkeypatch, own_process, capsys):
    """A run with the eight classes of ISIC 2019, its images and its probabilities."""
    monkeypatch.chdir(store.root)
    names = [f"ISIC_{number:07d}" for number in range(NUMBER)]
    probs = np.random.default_rng(0).dirichlet(np.ones(len(EIGHT)), NUMBER)
    pd.DataFrame({"image_id": names, "label": np.resize(EIGHT, NUMBER)}).to_csv("truth.csv", index=False)
    own = pd.DataFrame(probs, columns=[f"p_{name}" for name in EIGHT])
    own.assign(image_id=names).to_csv("own.csv", index=False)
    return imported(capsys, "predictions=own.csv")["run_id"], names, probs


def like(capsys, run_id, *words):
    assert main(["import", f"like={run_id}", FAST, "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def comparable(capsys, *runs):
    assert main(["compare", *runs, FAST, "--json"]) == 0
    assert main(["evaluate", f"run=[{','.join(runs)}]", "ensemble=mean", FAST, "--json"]) == 0
    capsys.readouterr()
    return True


def test_an_entry_to_a_challenge_is_compared_with_the_run_that_wrote_it(eight, store, capsys):
    run_id, names, probs = eight
    FORMATS["isic2019"].submission(names, probs, EIGHT).to_csv("entry.csv", index=False)
    found = like(capsys, run_id, "predictions=entry.csv")
    assert found["classes"] == list(EIGHT)
    assert "unk left out: not among the classes of run" in found["notes"][-1]
    kept = read_predictions(find_run(store, found["run_id"]), "test").set_index("image_id")
    np.testing.assert_allclose(probabilities(kept.loc[names]), probs, atol=1e-6)
    assert comparable(capsys, found["run_id"], run_id)


def test_a_class_with_probability_that_the_run_lacks_is_told_with_the_options_that_leave_it_out(eight, store, capsys):
    run_id, names, probs = eight
    entry = FORMATS["isic2019"].submission(names, 0.9 * probs, EIGHT).assign(UNK=0.1)
    entry.to_csv("entry.csv", index=False)
    found = like(capsys, run_id, "predictions=entry.csv")
    assert "unk" in found["classes"]
    assert "does not know unk, so compare and ensembles refuse" in found["notes"][-1]
    typed = shlex.split(found["notes"][-1].partition("; ")[2].removesuffix(" reads the classes of that run alone"))
    assert typed[-1] == "rescale=true"
    assert comparable(capsys, like(capsys, run_id, "predictions=entry.csv", *typed)["run_id"], run_id)


@pytest.mark.parametrize("names", [KAGGLE, {"AKIEC": "AK"}])
def test_probabilities_of_finer_classes_count_for_the_true_class(names, files, store, own_process, capsys):
    """As predicted labels do: where the truth has akiec alone, P(akiec) is P(ak), or P(ak) and P(scc) together."""
    own = imported(capsys, "predictions=submission.csv")
    theirs = files[1].rename(columns=names)
    if names != KAGGLE:
        theirs = theirs.assign(AK=0.75 * theirs["AK"], SCC=0.25 * theirs["AK"])
    theirs.to_csv("theirs.csv", index=False)
    found = imported(capsys, "predictions=theirs.csv")
    assert found["classes"] == own["classes"]
    assert found["metrics"]["auroc_macro"]["value"] == pytest.approx(own["metrics"]["auroc_macro"]["value"])
    assert "ak is akiec" in found["notes"][0]
    assert comparable(capsys, like(capsys, own["run_id"], "predictions=theirs.csv")["run_id"], own["run_id"])


def test_the_classes_of_a_run_keep_their_spelling(files, store, own_process, capsys):
    """A run that was trained on folders has the names of the folders as classes."""
    (store.root / "clinic").mkdir()
    labels = ["nevus", "melanoma"] * (NUMBER // 2)
    pd.DataFrame({"image_id": files[1]["image"], "label": labels}).to_csv("clinic/cases.csv", index=False)
    theirs = pd.DataFrame({"image_id": files[1]["image"], "melanoma": np.linspace(0.1, 0.9, NUMBER)})
    theirs = theirs.assign(nevus=1 - theirs["melanoma"])
    theirs.to_csv("own.csv", index=False)
    words = ["dataset=csv", "dataset.root=clinic", "dataset.table=cases.csv", FAST, "--json"]
    assert main(["import", "predictions=own.csv", *words]) == 0
    own = json.loads(capsys.readouterr().out)
    assert own["classes"] == ["melanoma", "nevus"]
    theirs.rename(columns={"melanoma": "p_mel", "nevus": "p_nv"}).to_csv("theirs.csv", index=False)
    found = like(capsys, own["run_id"], "predictions=theirs.csv")
    assert found["classes"] == ["melanoma", "nevus"]
    assert comparable(capsys, found["run_id"], own["run_id"])


@pytest.mark.parametrize("values", [[0, 1], [0.0, 1.0], ["false", "True"]])
def test_the_ground_truth_of_isic_2024_is_read_as_the_archive_publishes_it(values, files, store):
    truth = pd.DataFrame({"isic_id": files[1]["image"], "malignant": np.resize(np.array(values, dtype=object), NUMBER)})
    truth.to_csv("archive.csv", index=False)
    found = of_file(Path("archive.csv")).table
    assert found["label"].tolist() == ["benign", "malignant"] * (NUMBER // 2)
    truth.assign(label="nv").to_csv("archive.csv", index=False)
    assert set(of_file(Path("archive.csv")).table["label"]) == {"nv"}


def test_other_true_classes_beside_malignant_are_refused_unless_they_say_the_same(files, store, own_process, capsys):
    hot = pd.DataFrame(np.eye(3, dtype=int)[np.arange(NUMBER) % 3], columns=["Benign", "malignant", "melanosis"])
    hot.insert(0, "image_id", files[1]["image"])
    two = hot.drop(columns="melanosis").assign(Benign=1 - hot["malignant"], target=hot["malignant"], fold=1)
    two.to_csv("archive.csv", index=False)
    assert (of_file(Path("archive.csv")).table["label"] == "malignant").tolist() == hot["malignant"].eq(1).tolist()
    for changed, named in ((two.assign(target=0), "target"), (hot, "Benign, melanosis")):
        changed.to_csv("archive.csv", index=False)
        with pytest.raises(DataError, match=f"got malignant beside {named}") as error:
            of_file(Path("archive.csv"))
    two.assign(**{"class": "nv"}).drop(columns="target").to_csv("archive.csv", index=False)
    with pytest.raises(DataError, match=r"beside class; keep one of them, and call a column .* label$"):
        of_file(Path("archive.csv"))
    hot.to_csv("archive.csv", index=False)
    predicted = hot.rename(columns={name: f"p_{name.lower()}" for name in hot.columns[1:]})
    predicted.to_csv("theirs.csv", index=False)
    read = shlex.split(str(error.value).partition("dataset=csv and ")[2])
    words = ["import", "predictions=theirs.csv", "dataset=csv", "dataset.root=.", "dataset.table=archive.csv", *read]
    assert main([*words, FAST, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["accuracy"]["value"] == 1


def test_a_sum_of_float32_may_be_slightly_above_1(files, store, own_process, capsys):
    names = files[1]["image"]
    pd.DataFrame({"isic_id": names, "target": np.arange(NUMBER) % 2}).to_csv("truth.csv", index=False)
    scores = pd.DataFrame({"isic_id": names, "target": np.linspace(0, 1.0000001, NUMBER)})
    scores.to_csv("sums.csv", index=False)
    run = find_run(store, imported(capsys, "predictions=sums.csv")["run_id"])
    assert read_predictions(run, "test")["p_malignant"].max() == 1
    scores.assign(target=scores["target"] * 1.0012345).to_csv("sums.csv", index=False)
    said = "ISIC_0000069: 1.0012346"
    assert_refused(capsys, ["import", "predictions=sums.csv", "truth=truth.csv", FAST], said)
