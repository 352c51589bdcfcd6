from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from lesion_exp.errors import ConfigError, DataError
from lesion_exp.evaluation.comparison import Difference, Pair
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.stored_run import download_artifact
from lesion_exp.verbs.compare.compare import compare
from lesion_exp.verbs.compare.comparison_report import ComparisonReport, disagreement
from lesion_exp.verbs.compare.jobs import ComparedJob
from lesion_exp.verbs.compare.paper_table import paper_table
from lesion_exp.verbs.compare.tables import show_report

Plant = Callable[..., str]
Predicted = Callable[..., pd.DataFrame]


def test_two_runs_and_what_is_kept_of_them(store: Store, plant: Plant, predicted: Predicted) -> None:
    good, bad = predicted(3.0), predicted(0.5, seed=1)
    ids = [plant("loss=focal", test=good), plant(test=bad)]
    result = compare(store, ids, draws=200)
    body = result.report.to_dict()
    assert (body["part"], body["images"], body["lesions"]) == ("test", 120, 60)
    assert [job["runs"] for job in body["jobs"]] == [[run_id] for run_id in ids]
    accuracy = body["pairs"][0]["differences"]["accuracy"]
    assert accuracy["first"] - accuracy["second"] == pytest.approx(metrics(good)["accuracy"] - metrics(bad)["accuracy"])
    assert accuracy["distinguishable"]
    always = {"interval", "p_corrected", "interval_and_p"}
    assert set(body["methods"]) == {"McNemar", "DeLong", "permuted", "one seed"} | always
    assert 0 < accuracy["low"] < accuracy["difference"] < accuracy["high"]
    run = find_run(store, result.run_id)
    assert (run.status, run.tags["kind"], run.tags["compared_runs"]) == ("FINISHED", "comparison", ",".join(ids))
    assert store.client.get_experiment(run.experiment_id).name == "study"
    assert "A is ahead in accuracy" in run.tags["mlflow.note.content"]
    kept = json.loads(download_artifact(run, "compare/comparison.json").read_text("utf-8"))
    assert kept == json.loads(json.dumps(body | {"run_id": run.run_id}))
    text = download_artifact(run, "compare/comparison.txt").read_text("utf-8")
    assert max(map(len, text.splitlines())) <= 120
    assert result.figure.read_bytes().startswith(b"\x89PNG")
    assert find_run(store, "latest").run_id == ids[1]  # not the comparison, which has no model


def test_runs_that_were_evaluated_over_patients_are_compared_over_patients(
    store: Store, plant: Plant, predicted: Predicted
) -> None:
    patients = [f"pat{place // 4}" for place in range(120)]
    tables = [table.assign(lesion_id=None, patient_id=patients) for table in (predicted(3.0), predicted(0.5, seed=1))]
    ids = [plant("loss=focal", test=tables[0]), plant(test=tables[1])]
    report = compare(store, ids, draws=40).report
    assert report.comparison.num_lesions == 120
    assert any("120 images of 30 patients are unknown" in note for note in report.notes)
    RunWriter.of(find_run(store, ids[1])).log_json({"unit": "patient"}, "evaluation/test/metrics.json")
    report = compare(store, ids, draws=40).report
    assert (report.comparison.unit, report.comparison.num_lesions, report.to_dict()["unit"]) == (
        "patient",
        30,
        "patient",
    )
    assert not [note for note in report.notes if "too narrow" in note]
    assert "lesion" not in json.dumps(report.to_dict()["methods"])
    assert "images of 30 patients" in paper_table(report).markdown()
    assert compare(store, ids, draws=40, unit="lesion").report.comparison.num_lesions == 120


def test_metrics_that_a_job_adds_are_compared(store: Store, plant: Plant, predicted: Predicted) -> None:
    kappa = "+metrics.kappa={_target_: torchmetrics.classification.MulticlassCohenKappa}"
    ids = [plant("loss=focal", kappa, test=predicted(3.0)), plant(test=predicted(0.5, seed=1))]
    result = compare(store, ids, draws=40)
    body = result.report.to_dict()
    assert body["added_metrics"] == {"kappa": {"higher_is_better": True}}
    found = body["pairs"][0]["differences"]["kappa"]
    assert found["first"] > found["second"]
    assert found["low"] < found["difference"] < found["high"]
    assert found["test"] == "permuted"
    kept = download_artifact(find_run(store, result.run_id), "compare/comparison.txt").read_text("utf-8")
    row = next(line for line in kept.splitlines() if line.split()[:2] == ["kappa", f"{found['first']:.3f}"])
    assert f"{found['low']:+.3f} to {found['high']:+.3f}" in row
    assert sum(line.split()[:2] == ["kappa", "A"] for line in kept.splitlines()) == 1, "among the metrics of each job"


NAMES = [
    ("ham10000 resnet18 focal s1", "ham10000 resnet18 focal, seeds 1, 2"),
    ("loss=focal optimizer.lr=0.003 seed=1", "loss=focal optimizer.lr=0.003, seeds 1, 2"),
    ("seed=1 loss=focal", "loss=focal, seeds 1, 2"),
    ("seed=1", "seed=1, seeds 1, 2"),
    ("loss=focal seed=11", "loss=focal seed=11, seeds 1, 2"),
]


@pytest.mark.parametrize(("name", "title"), NAMES)
def test_a_job_of_several_seeds_is_not_called_after_the_first(name: str, title: str) -> None:
    runs = tuple(SimpleNamespace(name=name.replace("1", str(seed)), tags={}) for seed in (1, 2))
    job = ComparedJob("A", runs, ("1", "2"), {})  # type: ignore[arg-type]
    assert job.title == title


def test_a_seed_that_the_name_says_is_not_said_twice() -> None:
    run = SimpleNamespace(name="loss=focal seed=1", tags={})
    assert ComparedJob("A", (run,), ("1",), {}).title == "loss=focal seed=1"  # type: ignore[arg-type]
    assert ComparedJob("A", (run,), ("3",), {}).title == "loss=focal seed=1, seed 3"  # type: ignore[arg-type]


def test_long_names_and_notes_are_indented_on_a_narrow_terminal(
    store: Store, plant: Plant, predicted: Predicted
) -> None:
    ids = [plant(f"loss={loss}", test=predicted(1.0), dataset="a data set with a very long name " * 3) for loss in
           ("focal", "ldam")]  # fmt: skip
    report = replace(compare(store, ids, draws=20).report, notes=("a note of many words " * 8,))
    console = Console(width=80)
    with console.capture() as capture:
        show_report(report, console)
    head = capture.get().split("Metrics of each job")[0].rstrip().split("\n")[1:]
    assert len(head) > 6, "names and note take several lines"
    assert all(line.startswith("  ") for line in head), head


def test_what_differs_in_the_configs(store: Store, plant: Plant, predicted: Predicted) -> None:
    table = predicted(1.0)
    unimportant = ["loader.num_workers=1", "evaluation.bootstrap_seed=1", "test=false"]
    ids = [plant("loss=focal", *unimportant, test=table), plant("optimizer.lr=0.5", test=table)]
    differences = compare(store, ids, draws=20).report.config_differences
    assert set(differences) == {"loss._target_", "loss.gamma", "loss.label_smoothing", "optimizer.lr"}
    assert differences["loss.gamma"] == {"A": "2.0", "B": None}
    assert differences["optimizer.lr"]["B"] == "0.5"


def test_a_job_without_a_network_differs_in_no_key_of_its_config(
    store: Store, plant: Plant, predicted: Predicted, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [plant(f"seed={seed}", test=predicted(2.0, seed), split_hash=f"s{seed}") for seed in (1, 2)]
    monkeypatch.setattr(ComparedJob, "has_network", property(lambda job: job.letter == "A"))
    report = compare(store, ids, draws=20).report
    assert report.config_differences == {"tag split_hash": {"A": "s1", "B": "s2"}}  # the seeds differ, too
    shown = io.StringIO()
    show_report(report, Console(file=shown, width=100))
    assert "B has no config of a network." in shown.getvalue()


def test_seeds_of_a_job_are_one(store: Store, plant: Plant, predicted: Predicted) -> None:
    tables = [predicted(2.0, seed) for seed in range(4)]
    choices = [("focal", 1), ("cross_entropy", 1), ("focal", 2), ("cross_entropy", 2)]
    ids = [plant(f"loss={choices[k][0]}", f"seed={choices[k][1]}", test=tables[k]) for k in range(4)]
    body = compare(store, ids, draws=100).report.to_dict()
    assert [job["runs"] for job in body["jobs"]] == [[ids[0], ids[2]], [ids[1], ids[3]]]
    assert [job["seeds"] for job in body["jobs"]] == [["1", "2"], ["1", "2"]]
    values = [metrics(tables[place])["balanced_accuracy"] for place in (0, 2)]
    found = body["jobs"][0]["metrics"]["balanced_accuracy"]
    assert found["by_run"] == pytest.approx(values)
    assert (found["mean"], found["sd"]) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert "seed" not in body["config_differences"]
    (pair,) = body["pairs"]
    assert pair["differences"]["balanced_accuracy"]["test"] == "seeds"
    assert set(body["methods"]) == {"interval", "seeds", "p_corrected", "interval_and_p"}


def test_seeds_of_the_only_job_are_compared_one_by_one(store: Store, plant: Plant, predicted: Predicted) -> None:
    ids = [plant(f"seed={seed}", test=predicted(2.0, seed)) for seed in (1, 2, 3)]
    body = compare(store, ids, draws=50).report.to_dict()
    assert [(pair["first"], pair["second"]) for pair in body["pairs"]] == [("A", "B"), ("A", "C"), ("B", "C")]
    assert body["config_differences"] == {"seed": {"A": "1", "B": "2", "C": "3"}}
    (pooled,) = body["pooled"]
    assert pooled["metrics"]["accuracy"]["by_run"] == [job["metrics"]["accuracy"]["mean"] for job in body["jobs"]]


def test_a_repetition_with_the_same_seed_is_no_seed(store: Store, plant: Plant, predicted: Predicted) -> None:
    ids = [plant(f"seed={seed}", test=predicted(2.0)) for seed in (1, 2, 1)]
    jobs = compare(store, ids, draws=20).report.jobs
    assert [[run.run_id for run in job.runs] for job in jobs] == [ids[:2], ids[2:]]


def test_one_config_on_other_data_is_another_job(store: Store, plant: Plant, predicted: Predicted) -> None:
    ids = [plant(f"seed={seed}", test=predicted(2.0), split_hash=f"s{seed}") for seed in (1, 2)]
    report = compare(store, ids, draws=20).report
    assert len(report.jobs) == 2
    assert set(report.config_differences) == {"seed", "tag split_hash"}
    assert any("have different splits" in note for note in report.notes)


def test_against_one(store: Store, plant: Plant, predicted: Predicted) -> None:
    ids = [plant(f"loss.label_smoothing=0.{k}", test=predicted(1 + k, k)) for k in range(4)]
    body = compare(store, ids[1:], against=ids[0], draws=50).report.to_dict()
    assert [(pair["first"], pair["second"]) for pair in body["pairs"]] == [("A", "D"), ("B", "D"), ("C", "D")]
    assert body["jobs"][3]["runs"] == [ids[0]]
    assert all(pair["differences"]["accuracy"]["difference"] > 0 for pair in body["pairs"])


def test_validation_where_a_run_has_no_test_part(store: Store, plant: Plant, predicted: Predicted) -> None:
    ids = [
        plant("loss=focal", test=predicted(1.0), val=predicted(2.0, first=200)),
        plant(val=predicted(1.0, 1, first=200)),
    ]
    report = compare(store, ids, draws=20).report
    assert report.part == "val"
    assert any(ids[1][:8] in note and "test part" in note for note in report.notes)
    with pytest.raises(DataError, match=rf"without predictions/test.parquet: {ids[1][:8]}"):
        compare(store, ids, part="test", draws=20)


def test_runs_without_a_part_in_common_are_refused(store: Store, plant: Plant, predicted: Predicted) -> None:
    ids = [plant("loss=focal", test=predicted(1.0)), plant(val=predicted(1.0))]
    with pytest.raises(DataError, match="have all stored their predictions of one part"):
        compare(store, ids)


def test_runs_on_other_images_are_refused_and_nothing_is_kept(store: Store, plant: Plant, predicted: Predicted) -> None:
    ids = [plant("loss=focal", test=predicted(1.0)), plant(test=predicted(1.0, first=60))]
    with pytest.raises(DataError, match="share 60") as caught:
        compare(store, ids)
    assert all(run_id[:8] in str(caught.value) for run_id in ids)
    assert len(store.client.search_runs(store.experiment_ids())) == 2


def test_what_spoils_a_comparison_is_said(store: Store, plant: Plant, predicted: Predicted) -> None:
    ids = [plant("loss=focal", test=predicted(1.0), leaky="true"), plant(test=predicted(1.0), status="KILLED")]
    notes = compare(store, ids, draws=10).report.notes
    assert any(note.startswith("leaky") and ids[0][:8] in note for note in notes)
    assert any(f"{ids[1][:8]} (run s0) is KILLED" in note for note in notes)
    assert any("with 10 draws no p-value except that of accuracy" in note for note in notes)


def test_a_run_without_a_job_file_stands_for_itself(store: Store, plant: Plant, predicted: Predicted) -> None:
    ids = [plant(test=predicted(1.0, seed), with_job=False) for seed in range(2)]
    assert len(compare(store, ids, draws=20).report.jobs) == 2


@pytest.mark.parametrize("specs", [["latest"], ["latest", "latest"]])
def test_fewer_than_two_runs_are_refused(store: Store, plant: Plant, predicted: Predicted, specs: list[str]) -> None:
    plant(test=predicted(1.0))
    with pytest.raises(ConfigError, match=r"expected (at least 2|different) runs"):
        compare(store, specs)


def test_an_unknown_part_is_refused(store: Store, plant: Plant, predicted: Predicted) -> None:
    ids = [plant("loss=focal", test=predicted(1.0)), plant(test=predicted(1.0))]
    with pytest.raises(ConfigError, match=r"split\.part to be one of test, val, got 'train'"):
        compare(store, ids, part="train")


def shown_at(report: ComparisonReport, width: int) -> str:
    text = io.StringIO()
    show_report(report, Console(file=text, width=width))
    return text.getvalue()


def test_the_interval_of_a_mean_over_seeds_says_that_it_rests_on_few_lesions(
    store: Store, plant: Plant, predicted: Predicted
) -> None:
    few = [plant(f"seed={seed}", test=predicted(2.0, seed, size=30)) for seed in (1, 2)]
    report = compare(store, few, draws=50).report
    assert (
        "every result here rests on 15 lesions, too few to evaluate a network; at least 20 are needed" in report.notes
    )
    for width in (80, 120):
        table = shown_at(report, width).partition("Metrics of each job")[2].partition("A - B: ")[0]
        rows = [line for line in table.splitlines() if " to " in line]
        assert sum(line.split()[0] == "ALL" or line.split()[1] == "ALL" for line in rows) > 2
        assert all(line.rstrip().endswith(", too few (n=15)") for line in rows)
        assert max(map(len, table.splitlines())) <= width
    (pooled,) = report.to_dict()["pooled"]
    assert pooled["metrics"]["accuracy"]["too_few"] == "too few (n=15)"
    enough = [plant(f"seed={seed}", "loss=focal", test=predicted(2.0, seed)) for seed in (1, 2)]
    report = compare(store, enough, draws=50).report
    assert "too few" not in shown_at(report, 120).partition("Metrics of each job")[2].partition("A - B: ")[0]
    (pooled,) = report.to_dict()["pooled"]
    assert "too_few" not in pooled["metrics"]["accuracy"]


def test_intervals_and_p_values_that_disagree_are_explained_and_only_these(
    store: Store, plant: Plant, predicted: Predicted
) -> None:
    ids = [plant("loss=focal", test=predicted(3.0)), plant(test=predicted(0.5, seed=1))]
    report = compare(store, ids, draws=1000).report
    found = report.comparison.pairs[0]
    agreeing = {name: one for name, one in found.differences.items() if one.excludes_zero == one.significant}
    report = with_differences(report, agreeing)
    assert disagreement(report.comparison.pairs) is None
    assert "intervals and p: " not in shown_at(report, 100)
    apart = {**agreeing, "accuracy": replace(agreeing["accuracy"], low=0.01, high=0.2, p_corrected=0.07)}
    report = with_differences(report, apart)
    said = " ".join(shown_at(report, 100).split())
    assert (
        "intervals and p: the interval of accuracy (A - B) excludes 0 although p is not below 0.05: an interval" in said
    )
    assert disagreement(report.comparison.pairs) in " ".join(paper_table(report).caption)


def with_differences(report: ComparisonReport, differences: dict[str, Difference]) -> ComparisonReport:
    pair = replace(report.comparison.pairs[0], differences=differences)
    return replace(report, comparison=replace(report.comparison, pairs=(pair,)))


def test_few_of_many_differences_are_named_and_the_others_counted() -> None:
    open_question = Difference(0.5, 0.4, 0.1, 0.01, 0.2, 0.02, "McNemar", 700, 0.3)
    pair = Pair("A", "B", dict.fromkeys(("a", "b", "c", "d", "e"), open_question), 1, 1, 1)
    said = disagreement([pair])
    assert said is not None
    assert said.startswith("the interval of a (A - B), b (A - B), c (A - B) and 2 more excludes 0 although p is not")
    certain = replace(open_question, low=-0.1, p_corrected=0.01)
    said = disagreement([replace(pair, differences={"a": certain})])
    assert said is not None
    assert said.startswith("the interval of a (A - B) contains 0 although p is below 0.05: ")
