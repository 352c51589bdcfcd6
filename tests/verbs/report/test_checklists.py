import importlib
import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.tracking.stored_run import IMPORTED
from lesion_exp.trained_runs.run_summary import RunArtifacts, RunSummary
from lesion_exp.training.results import identity
from lesion_exp.verbs.report.page import render
from lesion_exp.verbs.report.run_report import SECTIONS, run_page
from lesion_exp.verbs.report.sections.checklists import ANSWERS, NAMES, fill, read_checklist
from lesion_exp.verbs.report.sections.galleries import maps_in_words


@pytest.fixture
def store(shared_store):
    return shared_store


@pytest.mark.parametrize(("name", "count"), [("clear_derm", 25), ("tripod_ai", 52), ("claim", 44)])
def test_a_list_has_every_item_once(name, count):
    items = read_checklist(name).items
    assert len({item.item for item in items}) == len(items) == count


@pytest.mark.parametrize("name", NAMES)
def test_items_point_at_answers_and_sections_that_exist(name, bare_run):
    run = bare_run()
    keys = {make(RunSummary(run, RunArtifacts(run))).key for make in SECTIONS}
    for item in read_checklist(name).items:
        assert item.answer or item.author
        assert item.answer is None or item.answer in ANSWERS
        assert (item.section in keys) == (item.answer is not None)


def test_no_answer_is_never_asked_for():
    assert {item.answer for name in NAMES for item in read_checklist(name).items} - {None} == set(ANSWERS)


@pytest.mark.parametrize("name", NAMES)
def test_every_item_is_filled_or_marked(name, bare_run, full_run):
    for run, answered in ((bare_run(), False), (full_run(), True)):
        filled = fill(read_checklist(name), RunSummary(run, RunArtifacts(run)))
        assert all(entry.answer or entry.left for entry in filled)
        assert all(entry.left for entry in filled if entry.item.author)
        assert (sum(bool(entry.answer) for entry in filled) > len(filled) / 2) == answered


def test_answers_say_what_the_run_stored(full_run):
    run = full_run()
    facts = RunSummary(run, RunArtifacts(run))
    assert ANSWERS["sizes"](facts).startswith("training: 180 images of 90 lesions")
    assert ANSWERS["characteristics"](facts) == (
        "Median age: training 50, validation 50, test 50 years. Sex: female 55.6%, male 44.4% of 540 images."
    )
    assert ANSWERS["exclusions"](facts) == "No filter; 1 image left out as unusable."
    assert "Nobody 2020; licence MIT" in ANSWERS["source"](facts)
    assert ANSWERS["generated"](facts) == "All images are generated (synthetic)."
    assert ANSWERS["external"](facts) is None


@pytest.mark.parametrize(
    ("monitor", "words"),
    [("val/balanced_accuracy", "highest balanced accuracy"), ("val/loss", "lowest loss")],
)
def test_the_best_epoch_is_said_to_be_that_of_the_monitored_metric(full_run, monitor, words):
    job = freeze(compose(["dataset=synthetic", f"trainer.monitor={monitor}"], root=Path("/project")))
    run = full_run(lambda folder: job.write(folder / "config" / "job.yaml"))
    said = ANSWERS["selection"](RunSummary(run, RunArtifacts(run)))
    assert said == f"The epoch with the {words} on the validation part; the test part was not used."


def test_answers_on_results_say_what_they_are_of_and_how_they_were_made(full_run):
    run = full_run()
    facts = RunSummary(run, RunArtifacts(run))
    intervals = ANSWERS["uncertainty"](facts)
    assert intervals.startswith("Intervals: 95%, over lesions, each with all its images: Wilson's for proportions")
    assert "30 bootstrap draws for the rest" in intervals
    assert "Percentile" not in intervals
    assert ANSWERS["subgroups"](facts)


def test_subgroups_that_are_too_small_to_be_compared_are_still_reported(full_run, monkeypatch):
    run = full_run()
    facts = RunSummary(run, RunArtifacts(run))
    cells = [
        {"attribute": name, "group": "x", "images": 4, "lesions": 2, "metrics": {"accuracy": "too few"}}
        for name in ("sex", "skin_tone")
    ]
    monkeypatch.setattr(RunSummary, "evaluation_file", lambda _, name: {"cells": cells} if name == "subgroups" else {})
    few = ANSWERS["subgroups"](facts)
    assert few == "No subgroup by sex and skin tone has enough lesions for a metric."
    cells[0]["metrics"] = {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}}
    assert ANSWERS["subgroups"](facts) == (
        "The table of subgroups has the metrics by sex and skin tone. No two subgroups have 20 lesions of one class, "
        "so none are compared."
    )
    assert ANSWERS["skin_tone"](facts) == "Images of the test part by skin tone: x: 4."


def with_dataset(**changes):
    """Edits the kept files as if the run had read another data set: keys of its config, and `identity` of its card."""

    def change(folder):
        job, flow = folder / "config" / "job.yaml", folder / "dataset" / "flow.json"
        body = yaml.safe_load(job.read_text())
        body["config"]["dataset"] |= {key: value for key, value in changes.items() if key != "identity"}
        job.write_text(yaml.safe_dump(body))
        flow.write_text(json.dumps(json.loads(flow.read_text()) | {"identity": changes["identity"]}))

    return change


@pytest.mark.parametrize("name", ["csv", "folder", "combined"])
def test_nothing_is_claimed_of_data_of_the_users_own(full_run, name):
    module = importlib.import_module(f"lesion_exp.dataset.{name}")
    change = with_dataset(name=name, _target_=f"{module.__name__}.read_{name}", identity=identity(module.INFO))
    run = full_run(change, dataset=f"{name}-3f2a")
    facts = RunSummary(run, RunArtifacts(run))
    for unknown in ("images", "source", "generated"):
        assert ANSWERS[unknown](facts) is None, unknown
    for checklist in NAMES:
        left = {entry.item.answer: entry.left for entry in fill(read_checklist(checklist), facts)}
        assert all(left[key] for key in ("images", "source", "generated") if key in left)
        assert left.get("source", "(not stored by this run)").count("(not stored by this run)") == 1
    assert ANSWERS["title"](facts) == f"Development and evaluation of a deep network (small_cnn) on {name}-3f2a."
    page = render(run_page(run))
    assert "view:" not in page.partition('id="checklists"')[2]
    for claim in ("table of images", "one sub-folder", "several data sets as one", "No image was generated",
                  module.INFO.citation, module.INFO.where):  # fmt: skip
        assert claim not in page, claim
    assert "of these data are not known here: the author has to add them" in page


def test_a_view_that_the_user_chose_is_said_of_any_data(full_run):
    run = full_run(with_dataset(_target_="lesion_exp.dataset.csv.read_csv", view="clinical", identity=None))
    assert ANSWERS["images"](RunSummary(run, RunArtifacts(run))) == "view: clinical"


@pytest.mark.parametrize(
    ("name", "view", "said"),
    [
        ("ham10000", "dermoscopic", "HAM10000; view: dermoscopic"),
        ("ddi", "dermoscopic", "DDI (Diverse Dermatology Images); view: clinical"),
        ("derm7pt", "both", "derm7pt; view: both"),
        ("derm7pt", "dermoscopic", "derm7pt; view: dermoscopic"),
        ("synthetic", "dermoscopic", "generated lesions"),
    ],
)
def test_the_view_of_a_published_set_is_that_of_its_photographs(full_run, name, view, said):
    info = importlib.import_module(f"lesion_exp.dataset.{name}").INFO
    target = f"lesion_exp.dataset.{name}.read_{name}"
    run = full_run(with_dataset(_target_=target, view=view, identity=identity(info)), dataset=name)
    facts = RunSummary(run, RunArtifacts(run))
    assert ANSWERS["images"](facts) == said
    assert (ANSWERS["generated"](facts) == "No image was generated.") == (name != "synthetic")


def test_images_whose_lesions_are_not_known_are_not_said_to_be_of_lesions(full_run):
    def change(folder):
        path = folder / "predictions" / "test.parquet"
        pd.read_parquet(path).assign(lesion_id=None).to_parquet(path)

    run = full_run(change)
    said = ANSWERS["sizes"](RunSummary(run, RunArtifacts(run)))
    assert said.startswith("training: 180 images; ")
    assert said.endswith("Which images show the same lesion is not known.")
    facts = RunSummary(run, RunArtifacts(run))
    assert ANSWERS["headline"](facts).startswith("On 180 images never seen in training, balanced accuracy was ")


def test_nobody_knows_how_many_models_made_imported_predictions(full_run):
    run = full_run(kind=IMPORTED)
    assert ANSWERS["ensemble"](RunSummary(run, RunArtifacts(run))) is None


def with_config(**changes):
    """Edits the kept job: `dataset__mask` is the key `dataset.mask`."""

    def change(folder):
        job = folder / "config" / "job.yaml"
        body = yaml.safe_load(job.read_text())
        for name, value in changes.items():
            group, key = name.split("__")
            body["config"][group][key] = value
        job.write_text(yaml.safe_dump(body))

    return change


@pytest.mark.parametrize(
    ("changes", "inputs", "architecture"),
    [
        ({}, "The image alone.", "its input is an RGB image of 96 x 96 pixels, its output"),
        (
            {"dataset__mask": "channel"},
            "The image, and its lesion mask (dataset.mask=channel).",
            "its input is an RGB image of 96 x 96 pixels with the lesion mask as its fourth channel, its output",
        ),
        (
            {"dataset__view": "both", "backbone__metadata": "concat"},
            "The dermoscopic and the clinical photograph, and age, sex and site (concat).",
            "two RGB images of 96 x 96 pixels, a dermoscopic and a clinical one, with age, sex and site (concat)",
        ),
    ],
)
def test_every_input_of_the_network_is_named(full_run, changes, inputs, architecture):
    run = full_run(with_config(**changes))
    facts = RunSummary(run, RunArtifacts(run))
    assert ANSWERS["inputs"](facts) == inputs
    size = facts.key("image_size")
    assert architecture.replace("96 x 96", f"{size} x {size}") in ANSWERS["architecture"](facts)


@pytest.mark.parametrize(
    ("fit", "said"),
    [
        ("crop", "The largest square in the middle of the image, resized to"),
        ("squash", "The whole image, stretched to a square, resized to"),
        ("pad", "The whole image, with a border that makes it a square, resized to"),
    ],
)
def test_the_preprocessing_says_which_part_of_the_image_is_used(full_run, fit, said):
    run = full_run(with_config(augmentation__fit=fit))
    words = ANSWERS["preprocessing"](RunSummary(run, RunArtifacts(run)))
    assert words.startswith(said)
    assert "cut" not in words


def test_resampled_parts_are_not_said_to_have_natural_frequencies(full_run):
    run = full_run()
    assert "natural class frequencies." in ANSWERS["imbalance"](RunSummary(run, RunArtifacts(run)))
    run = full_run(split="resample_then_split")
    said = ANSWERS["imbalance"](RunSummary(run, RunArtifacts(run)))
    assert said.endswith("so that no part has its natural class frequencies.")


def test_predictions_without_probabilities_are_not_said_to_have_some(full_run, edited):
    run = full_run()
    facts = RunSummary(run, RunArtifacts(run))
    assert "Thresholds of operating points are chosen on the validation part alone." in ANSWERS["output"](facts)
    assert "a reliability diagram" in ANSWERS["measures"](facts)

    def labels_only(folder):
        path = folder / "predictions" / "test.parquet"
        pd.read_parquet(path).assign(labels_only=True).to_parquet(path)

    run = full_run(labels_only)
    facts = RunSummary(run, RunArtifacts(run))
    assert ANSWERS["output"](facts) == "A class, without probabilities; no threshold is chosen."
    assert "reliability" not in ANSWERS["measures"](facts)
    run = full_run(edited("operating_points/points.json", []))
    assert "Thresholds" not in ANSWERS["output"](RunSummary(run, RunArtifacts(run)))


def test_the_reason_of_a_failed_audit_is_said(full_run):
    def failed(**counts):
        def change(folder):
            path = folder / "split" / "audit.json"
            audit = json.loads(path.read_text()) | {"passed": False}
            audit["crossings"] |= {kind: {"count": count, "cases": []} for kind, count in counts.items()}
            path.write_text(json.dumps(audit))

        run = full_run(change)
        return ANSWERS["disjoint"](RunSummary(run, RunArtifacts(run)))

    taught = "there are 3 images of validation or test that the teacher was trained on"
    assert failed(seen_by_teacher=3) == f"The audit failed: {taught}."
    assert failed(lesions=2) == "The audit failed: parts share patients, lesions or images."
    assert failed(lesions=2, seen_by_teacher=3) == (
        f"The audit failed: parts share patients, lesions or images and {taught}."
    )


def test_maps_of_another_checkpoint_file_are_named_as_such():
    assert maps_in_words("grad_cam-val-file") == "grad cam, validation part, weights of another file"
    assert maps_in_words("grad_cam-last") == "grad cam, test part, weights of the last epoch"
    assert maps_in_words("grad_cam") == "grad cam, test part"
