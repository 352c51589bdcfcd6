import html
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from sklearn.metrics import balanced_accuracy_score

from lesion_exp.errors import ConfigError, DataError
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.tracking.stored_run import IMPORTED, read_predictions
from lesion_exp.trained_runs import statements
from lesion_exp.trained_runs.trained_run import stored_calibrators
from lesion_exp.verbs.report.page import render
from lesion_exp.verbs.report.run_report import SECTIONS, run_page

LARGEST = 5_000_000


@pytest.fixture
def store(shared_store):
    return shared_store


@pytest.fixture
def page_of(outline):
    def make(run):
        text = render(run_page(run))
        return text, outline(text)

    return make


def test_a_page_needs_nothing_but_itself(full_run, page_of):
    text, page = page_of(full_run())
    assert page.outside == []
    assert all(source.startswith("data:image/") and alt for source, alt in page.images)
    assert len(page.images) == 1
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)|url\(|@import", text)
    assert "default-src 'none'" in text
    assert len(text.encode()) < LARGEST


def test_a_page_can_be_found_ones_way_about_in(full_run, page_of):
    _, page = page_of(full_run())
    assert page.headings[0] == "h1"
    assert set(page.headings[1:]) == {"h2"}
    assert len(page.ids) == len(set(page.ids))
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert set(page.heads) == {"col", "row"}
    keys = [place for place in page.ids if f"{place}-title" in page.ids]
    assert " ".join(keys) == (
        "question data split training results confusion curves calibration subgroups galleries failures config "
        "environment reproduce checklists"
    )
    assert len(keys) == len(SECTIONS) + 1


def test_a_page_says_what_the_run_came_to(full_run, page_of):
    run = full_run()
    _, page = page_of(run)
    table = read_predictions(run, "test")
    found = metrics(table)
    lesions = table["lesion_id"].nunique()
    assert f"On {len(table)} images of {lesions} lesions never seen in training, balanced accuracy was " \
           f"{found['balanced_accuracy']:.3f} (95% interval " in page.text  # fmt: skip
    shares = table["label"].value_counts(normalize=True)
    assert f"always predicting {shares.index[0]} has an accuracy of {shares.iloc[0]:.3f}" in page.text
    wrong = int((table["label"] != table["prediction"]).sum())
    assert f"{wrong} predictions ({100 * wrong / len(table):.1f}%) wrong" in page.text
    worst = table[table["label"] != table["prediction"]]
    worst = worst.iloc[np.argmax(worst[["p_bkl", "p_mel", "p_nv"]].max(axis=1))]
    assert worst["image_id"] in page.text
    assert "Runs of its store had read this test part 3 times, this run included." in page.text
    assert "best in epoch 4, 0.700" in page.text
    assert "filter: age > 20 540 -60 270" in page.text
    assert "nv 90 instead of 91" in page.text


def test_a_page_says_which_numbers_scikit_learn_gives(full_run, page_of):
    run = full_run()
    source, page = page_of(run)
    assert (
        "scikit-learn gives the same number for balanced accuracy, <code>balanced_accuracy_score()</code>; " in source
    )
    table = read_predictions(run, "test")
    value = balanced_accuracy_score(table["label"], table["prediction"])
    assert f"Balanced accuracy {value:.3f}" in page.text


def test_imported_classes_without_probabilities_have_no_curves_and_no_job(full_run, page_of):
    def change(folder):
        path = folder / "predictions" / "test.parquet"
        table = pd.read_parquet(path).assign(labels_only=True)
        for name in ("bkl", "mel", "nv"):
            table[f"p_{name}"] = (table["prediction"] == name).astype("float32")
        table.to_parquet(path)
        (folder / "config" / "job.yaml").unlink()

    run = full_run(change, kind=IMPORTED, dataset="truth.csv")
    source, page = page_of(run)
    table = read_predictions(run, "test")
    wrong = table[table["label"] != table["prediction"]]
    assert len(wrong) > 20
    rows = wrong.iloc[:20][["image_id", "label", "prediction"]].agg(" ".join, axis=1)
    words = f"The first of {len(wrong)} wrong predictions"
    assert f"{words}, in the order of the table of predictions." in page.text
    assert f"{words} image true predicted {' '.join(rows)}" in page.text
    for key in ("curves", "calibration"):
        section = source.partition(f'id="{key}"')[2].partition("</section>")[0]
        assert "Not stored by this run: probabilities." in section
        assert "<svg" not in section
    assert "lesion-exp reproduce" not in page.text
    mel = table["label"] == "mel"
    found = int((mel & (table["prediction"] == "mel")).sum())
    rule = f"where the predicted class is a malignant one (mel); {found} of the {mel.sum()} malignant images are"
    assert rule in page.text
    assert "add up to more than 0.5" not in page.text
    assert "No image was generated" not in page.text


def test_malignant_or_not_says_its_rule_its_count_and_why_the_matrix_differs(full_run, page_of):
    run = full_run()
    _, page = page_of(run)
    table = read_predictions(run, "test")
    mel = table["label"] == "mel"
    found, leading = int((mel & (table["p_mel"] > 0.5)).sum()), int((mel & (table["prediction"] == "mel")).sum())
    assert found != leading
    assert f"malignant or not {mel.sum()} {found / mel.sum():.3f}" in page.text
    assert (
        "predicted malignant where the probabilities of the malignant classes (mel) add up to more than 0.5"
        in page.text
    )
    assert f"By this rule {found} of the {mel.sum()} malignant images are detected" in page.text
    assert f"which is a malignant one for {leading} of them." in page.text


def test_a_balanced_accuracy_over_fewer_classes_is_marked(full_run, page_of, edited):
    whole = {"value": 0.5, "low": 0.4, "high": 0.6}
    cell = {"attribute": "age", "images": 50, "lesions": 40, "metrics": {"balanced_accuracy": whole}}
    cells = [
        cell | {"group": "30-44", "classes": ["bkl", "nv"]},
        cell | {"group": "45-59", "classes": ["bkl", "mel", "nv"]},
    ]
    content = {"classes": ["bkl", "mel", "nv"], "overall": {"balanced_accuracy": whole}, "cells": cells}
    text, page = page_of(full_run(edited("evaluation/test/subgroups.json", content)))
    assert "means over the 3 classes of the whole part" in page.text
    assert page.text.count("age: 30-44 50 40 * 0.500") == 1
    assert "age: 45-59 50 40 0.500" in page.text
    assert "because the two cannot be compared: age: 30-44 without mel." in page.text
    rows = {row.split("<")[0]: row for row in text.split('<th scope="row" role="rowheader">')}
    assert 'class="reference"' in rows["age: 45-59"]
    assert 'class="reference"' not in rows["age: 30-44"]


def test_no_place_of_a_machine_stands_on_a_page(full_run, page_of):
    text, page = page_of(full_run())
    assert "/secret/place" not in text
    assert "dataset.root=DIR" in page.text
    assert "1 image left out as unusable (1 cannot be decoded): img7." in page.text


def test_a_run_on_several_data_sets_is_reproduced_with_the_folder_of_each(full_run, page_of):
    def change(folder):
        path = folder / "config" / "job.yaml"
        body = yaml.safe_load(path.read_text())
        sets = {"ham10000": "/secret/place", "mine": {"set": "csv", "root": "/secret/place", "table": "t.csv"}}
        body["config"]["dataset"] = {"_target_": "lesion_exp.dataset.combined.read_combined", "sets": sets}
        body["overrides"] = ["dataset=combined"]
        path.write_text(yaml.safe_dump(body))

    run = full_run(change)
    _, page = page_of(run)
    folders = "dataset.sets.ham10000=DIR dataset.sets.mine=DIR"
    assert f"lesion-exp reproduce run={run.run_id[:8]} {folders}" in page.text
    assert "dataset.root=DIR" not in page.text
    assert "each DIR is the folder of one of the data sets on your machine" in page.text


def test_commands_name_the_store_and_the_users_own_options(full_run, bare_run, page_of):
    typed = ["loss=mine", "paths.root=/secret/place", "tracking.uri=sqlite:////secret/place/x.db"]

    def change(folder):
        path = folder / "config" / "job.yaml"
        body = yaml.safe_load(path.read_text()) | {"overrides": typed}
        body["config"]["loss"]["_target_"] = "clinic_losses.margin"
        body["config"]["dataset"]["_target_"] = "lesion_exp.dataset.ham10000.read_ham10000"  # files, not drawn
        path.write_text(yaml.safe_dump(body))
        (folder / "evaluation" / "test" / "subgroups.json").unlink()

    run = full_run(change)
    text, page = page_of(run)
    assert "/secret/place" not in text
    place, trust = "paths.root=ROOT tracking.uri=URI", "--trust clinic_losses"
    assert f"lesion-exp reproduce run={run.run_id[:8]} dataset.root=DIR {place} {trust}" in page.text
    assert f"lesion-exp reproduce job=config/job.yaml dataset.root=DIR {trust}" in page.text
    assert "DIR is the folder of the data set on your machine; ROOT is the folder of the project" in page.text
    assert f"lesion-exp train loss=mine {place} --config-dir DIR {trust}" in page.text
    assert f"lesion-exp evaluate run={run.run_id[:8]} {place} {trust} adds them." in page.text
    ensemble = bare_run(kind="ensemble", ensemble="mean", members=f"{run.run_id},{'f' * 32}")
    _, page = page_of(ensemble)
    assert f"lesion-exp evaluate 'run=[{run.run_id[:8]},ffffffff]' ensemble=mean {place} {trust}" in page.text


def test_whatever_is_missing_is_said(bare_run, page_of):
    _, page = page_of(bare_run())
    assert page.text.count("Not stored by this run:") >= 14
    assert "0.0" not in page.text


BREAKABLE = ("split/audit.json", "dataset/flow.json", "evaluation/test/metrics.json", "evaluation/test/subgroups.json",
             "operating_points/points.json", "config/job.yaml")  # fmt: skip


def test_what_cannot_be_read_is_named_and_spoils_nothing_else(full_run, page_of):
    def change(folder):
        for name in BREAKABLE:
            (folder / name).write_text("{")

    _, page = page_of(full_run(change))
    assert [name for name in BREAKABLE if f"{name} cannot be read" not in page.text] == []
    assert "never seen in training, balanced accuracy was" in page.text


def test_what_is_of_another_kind_counts_as_absent(full_run, page_of):
    def change(folder):
        for name in (*BREAKABLE, "predictions/test.parquet"):
            (folder / name).write_text("[3]")

    _, page = page_of(full_run(change))
    assert "Not stored by this run: split/audit.json." in page.text
    assert "predictions/test.parquet cannot be read" in page.text
    assert "of the validation part, on which the best epoch was chosen, balanced accuracy was" in page.text


def test_pseudo_labels_and_a_teacher_are_told(full_run, page_of):
    facts = {
        "file": "p.csv", "sha256": "ab12", "weight": 0.5, "in_file": 40, "images": 30, "counts": {"mel": 10, "nv": 20},
        "run_id": ["f" * 32], "weights_hash": ["w"], "calibration": ["temperature"], "thresholds": {"mel": 0.95},
        "mean_confidence": {"mel": 0.97}, "left_out": {"the image has a label": 10},
    }  # fmt: skip

    def change(folder):
        audit = json.loads((folder / "split/audit.json").read_text())
        audit["pseudo_labels"] = facts
        audit["passed"] = False
        audit["crossings"]["seen_by_teacher"] = {"count": 7, "cases": ["a", "b"]}
        (folder / "split/audit.json").write_text(json.dumps(audit))
        job = yaml.safe_load((folder / "config/job.yaml").read_text())
        job["config"]["loss"] |= {"teacher": "c" * 32, "teacher_weights": "d" * 16, "temperature": 4.0}
        (folder / "config/job.yaml").write_text(yaml.safe_dump(job))

    _, page = page_of(full_run(change))
    assert "30 further training images with a weight of 0.5 in the loss, of 40 in p.csv" in page.text
    assert "Left out of the training part: 10, since the image has a label." in page.text
    assert "there are 7 images of validation or test that the teacher was trained on" in page.text
    assert "0.950" in page.text
    assert "c" * 32 in page.text


def test_a_run_that_read_no_test_part_is_told_by_its_validation(full_run, page_of):
    def without_test(folder):
        for path in [*folder.rglob("*test*")]:
            if path.is_file():
                path.unlink()

    _, page = page_of(full_run(without_test))
    assert "of the validation part, on which the best epoch was chosen" in page.text
    assert "The test part was not read by this run." in page.text
    assert "never seen in training" not in page.text


def test_nothing_is_claimed_of_what_imported_predictions_have_seen(full_run, page_of):
    run = full_run(kind="imported")
    _, page = page_of(run)
    assert f"How well do the imported predictions '{run.name}' distinguish" in page.text
    assert "lesions of which it is not known whether the network was trained on them, balanced accuracy" in page.text
    assert "never seen in training" not in page.text
    assert "random weights, distinguish" not in page.text


def test_a_leak_is_said_first(full_run, page_of):
    _, page = page_of(full_run(leaky="true"))
    assert "LEAKY: parts of the training data reappear" in page.text
    assert "never seen in training" not in page.text


def test_a_run_that_failed_says_so(bare_run, page_of):
    _, page = page_of(bare_run(status="FAILED", error="ValueError: no more room"))
    assert "This run has not finished (FAILED): ValueError: no more room." in page.text


def test_names_are_text_and_never_html(full_run, page_of, edited):
    evil = "<script>alert(1)</script>"
    flow = {"steps": [{"step": evil, "images": 1, "lesions": 1}], "left_out": [{"image_id": evil, "reason": evil}]}

    def change(folder):
        edited("dataset/flow.json", flow)(folder)
        path = folder / "predictions" / "test.parquet"
        pd.read_parquet(path).assign(image_id=evil).to_parquet(path)

    text, page = page_of(full_run(change, name=evil, question=evil))
    assert "<script" not in text
    assert page.text.count(evil) >= 5


def test_the_author_can_ask_in_words_of_their_own(full_run, page_of):
    assert "Does it work?" in page_of(full_run(question="Does it work?"))[1].text


def test_evaluations_on_other_data_are_shown(full_run, page_of):
    def add(folder):
        (folder / "evaluation" / "ph2").mkdir()
        (folder / "evaluation" / "ph2" / "metrics.json").write_text(
            '{"images": 200, "balanced_accuracy": {"value": 0.4567, "low": 0.4, "high": 0.5}}'
        )

    _, page = page_of(full_run(add))
    assert "ph2 200 0.457 0.400 to 0.500" in page.text
    assert "ph2: balanced accuracy 0.457 (0.400 to 0.500)." in page.text


def test_what_other_verbs_kept_is_shown(full_run, page_of):
    def add(folder):
        verdicts = [{"check": "rim_and_file", "level": "warning", "words": "The rim says too much."}]
        for name, content in (
            ("shortcuts/report.json", json.dumps({"verdicts": verdicts})),
            ("explanations/grad_cam/mel.png", ""),
        ):
            (folder / name).parent.mkdir(parents=True)
            (folder / name).write_text(content)
        Image.new("RGB", (8, 8)).save(folder / "explanations" / "grad_cam" / "mel.png")
        (folder / "explanations" / "grad_cam-val").mkdir()
        for number in range(9):
            Image.new("RGB", (8, 8)).save(folder / "explanations" / "grad_cam-val" / f"a{number}.png")

    measured = [("explanation/grad_cam/pointing_game", 0.75, 1), ("explanation/grad_cam/pointing_game_low", 0.5, 1)]
    measured.append(("explanation/grad_cam/pointing_game_high", 0.875, 1))
    _, page = page_of(full_run(add, metrics=measured))
    assert "rim and file warning The rim says too much." in page.text
    assert "checks for shortcuts: 1 warning." in page.text
    assert "grad cam, test part highest point inside the lesion 0.750 0.500 to 0.875" in page.text
    maps = [alt for _, alt in page.images if str(alt).startswith("Saliency maps")]
    assert maps[:2] == ["Saliency maps: grad cam, test part, mel", "Saliency maps: grad cam, validation part, a0"]
    assert "2 further pictures in explanations/" in page.text
    assert "Saliency maps: grad cam, test part; grad cam, validation part." in page.text


def test_joined_runs_name_their_members(bare_run, page_of):
    _, page = page_of(bare_run(kind="ensemble", members="a" * 32 + "," + "b" * 32, ensemble="rank"))
    assert "combines the runs aaaaaaaa and bbbbbbbb" in page.text
    assert "run=[aaaaaaaa,bbbbbbbb]' ensemble=rank" in page.text


def test_runs_are_combined_again_on_the_same_images_in_the_same_way(full_run, page_of):
    def on_validation(folder):
        shutil.rmtree(folder / "evaluation" / "test")
        (folder / "predictions" / "test.parquet").unlink()

    def elsewhere(folder):
        (folder / "ensemble").mkdir()
        words = ["dataset=ph2", "dataset.root=DIR", "evaluation.tta=flips8"]
        (folder / "ensemble" / "overrides.json").write_text(json.dumps(words))

    tags = {"kind": "ensemble", "ensemble": "mean", "members": f"{'a' * 32},{'b' * 32}"}
    command = "lesion-exp evaluate 'run=[aaaaaaaa,bbbbbbbb]' ensemble=mean"
    _, page = page_of(full_run(on_validation, **tags))
    assert f"{command} split.part=val" in page.text
    _, page = page_of(full_run(elsewhere, **tags))
    assert f"{command} dataset=ph2 dataset.root=DIR evaluation.tta=flips8" in page.text
    assert "DIR is the folder of the data set on your machine" in page.text


@pytest.mark.parametrize(("kind", "message"), [("sweep", "use sweep="), ("comparison", "of kind comparison")])
def test_runs_without_results_of_their_own_are_refused(bare_run, kind, message):
    with pytest.raises(ConfigError, match=message):
        run_page(bare_run(kind=kind))


@pytest.mark.parametrize(
    ("changes", "question", "training"),
    [
        ({"tune": "full", "weights": "imagenet"}, "fine-tuned from the weights imagenet", "learning rate"),
        (
            {"tune": "full", "weights": "imagenet", "metadata": "concat"},
            "fine-tuned from the weights imagenet, with age, sex and site, distinguish",
            "learning rate",
        ),
        ({"tune": "head", "weights": "imagenet"}, "frozen at the weights imagenet, with a trained head", "in a batch"),
        (
            {"tune": "head", "head": "knn", "weights": "imagenet"},
            "with the votes of its nearest training images",
            "no weights are trained: the 20 nearest training images vote (cosine, temperature 0.07)",
        ),
        ({"tune": "lora", "weights": "none"}, "in part (backbone.tune=lora) from random weights", "learning rate"),
    ],
)
def test_a_page_says_which_weights_were_trained(full_run, page_of, changes, question, training):
    def change(folder):
        path = folder / "config" / "job.yaml"
        job = yaml.safe_load(path.read_text(encoding="utf-8"))
        job["config"]["backbone"] |= changes
        path.write_text(yaml.safe_dump(job, sort_keys=False), encoding="utf-8")

    text, _ = page_of(full_run(change))
    words = " ".join(html.unescape(re.sub("<[^>]+>", " ", text)).split())
    assert question in words
    assert training in words


def test_damaged_predictions_are_a_message(full_run):
    def change(folder, write):
        write(folder / "predictions" / "test.parquet")

    cut = full_run(lambda folder: change(folder, lambda path: path.write_bytes(path.read_bytes()[:100])))
    said = rf"(?s)expected predictions/test.parquet of run {cut.run_id} .* lesion-exp reproduce run={cut.run_id}"
    for read in (
        statements.tested_predictions,
        lambda run: read_predictions(run, "test"),
        lambda run: statements.calibration_warning(run, "vector"),
    ):
        with pytest.raises(DataError, match=said):
            read(cut)
    other = full_run(lambda folder: change(folder, pd.DataFrame({"a": [1]}).to_parquet))
    with pytest.raises(DataError, match="expected"):
        statements.tested_predictions(other)


def test_a_damaged_calibration_is_a_message(full_run):
    run = full_run(lambda folder: (folder / "calibration" / "temperature.json").write_text("{"))
    with pytest.raises(DataError, match=r"expected calibration/temperature.json of run .* cannot be read"):
        stored_calibrators(run)
