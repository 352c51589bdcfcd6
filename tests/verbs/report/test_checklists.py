from pathlib import Path

import pytest

from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.trained_runs.run_summary import RunArtifacts, RunSummary
from lesion_exp.verbs.report.run_report import SECTIONS
from lesion_exp.verbs.report.sections.checklists import ANSWERS, NAMES, fill, read_checklist


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
