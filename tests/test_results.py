"""The table of results has what its runs were measured at, and trains only what the store lacks."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

import lesion_exp
from tests.tiny import TINY

SCRIPT = Path(__file__).parents[1] / "scripts" / "results.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("results", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["results"] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["results"]


def test_each_row_composes_and_is_compared_with_a_row_above_it(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [row.name for row in script.ROWS]
    assert len(set(names)) == len(names)
    hashes = set()
    for place, row in enumerate(script.ROWS):
        assert row.against in ("", *names[:place])
        assert row.teacher in ("", *names[:place])
        assert row.mean_of in ("", *names[:place])
        assert bool(row.overrides) is not (bool(row.mean_of) or row is script.LARGEST)
        words = script.job_overrides(row, tmp_path, 0)
        assert (words is None) is bool(row.teacher), "a student waits for its teacher"
        if row.overrides and words is not None:
            hashes.add(script.job_hash(words))
    others = [row for row in script.ROWS if row.teacher or not row.overrides]
    assert len(hashes) == len(names) - len(others), "two rows are the same job"


def test_a_student_learns_from_the_run_of_its_teachers_row(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    teacher = script.Row("teacher", "a teacher", TINY)
    student = script.Row("student", "a student", ("experiment=demo", "loss=distill"), "teacher", teacher="teacher")
    monkeypatch.setattr(script, "ROWS", (script.LARGEST, teacher, student))
    monkeypatch.setattr(script, "finished", lambda words: {"run_id": "0" * 32} if "loss=distill" not in words else None)
    assert script.job_overrides(student, tmp_path, 3)[-1] == f"loss.teacher={'0' * 32}"
    assert script._commands(student).endswith("loss=distill dataset.root=DIR loss.teacher=RUN")


def test_a_difference_is_the_row_less_the_other_one(script):
    found = {"difference": 0.1, "low": -0.05, "high": 0.3, "p_corrected": 0.2}
    pair = {"first": "A", "second": "B", "differences": {"balanced_accuracy": found}}
    assert script.signed(pair, "A") == found
    assert script.signed(pair, "B") == {"difference": -0.1, "low": -0.3, "high": 0.05, "p_corrected": 0.2}


def test_the_page_has_the_marks_between_which_the_script_writes(script):
    text = script.PAGE.read_text()
    assert "new part" in script.written_into(text, "new part")
    with pytest.raises(ValueError, match="without them"):
        script.written_into(text.replace(script.MARKS[1], ""), "new part")


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_the_page_says_what_the_runs_were_measured_at(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    one = script.Row("one", "one epoch", (*TINY, "trainer.max_epochs=1"))
    never = script.Row("never", "two epochs", TINY, "one")
    monkeypatch.setattr(script, "ROWS", (script.LARGEST, one, never))
    trained = []
    monkeypatch.setattr(script, "train", lambda overrides, *flags: trained.append(lesion_exp.run(*overrides).run_id))
    (tmp_path / "data").mkdir()
    (tmp_path / "results.md").write_text(f"before\n{''.join(script.MARKS)}after\n")
    words = [f"root={tmp_path / 'data'}", "--output", str(tmp_path / "results.md")]

    with pytest.raises(SystemExit, match="2"):
        script.main([*words, "--table"])
    assert "finished runs" in capsys.readouterr().err
    assert not trained
    script.main([*words, "--rows", "one"])
    script.main([*words, "--rows", "one"])
    assert len(trained) == 1, "a finished run is not trained again"

    text = (tmp_path / "results.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert text.count("### Commands") == 1
    run = lesion_exp.open_run(trained[0])
    lines = {line.split(" | ")[0]: line for line in text.splitlines() if line.startswith("| ")}
    low, value, high = (run.metrics[f"test/balanced_accuracy{end}"] for end in ("_low", "", "_high"))
    assert f"{value:.3f} ({low:.3f} to {high:.3f})" in lines["| `one`: one epoch"]
    report = lesion_exp.compare(trained[0], script.largest_class(trained[0]), part="test").report.to_dict()
    assert f"{script.signed(report['pairs'][0], 'A')['difference']:+z.3f} (" in lines["| `one`: one epoch"]
    largest = run.predictions("val")["label"].mode()[0]
    share = (run.predictions("test")["label"] == largest).mean()
    assert f"| {share:.3f} (" in lines["| `largest_class`: always the largest class, nv"]
    assert run.run.tags["split_hash"] in text
    assert "not trained for this page: never." in text
    assert "two epochs" not in text
    hardware = json.loads((run.artifact("environment") / "hardware.json").read_text())
    assert hardware["cpu"] in text


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_an_ensemble_is_the_mean_of_the_runs_of_another_row(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = script.Row("one", "one epoch", (*TINY, "trainer.max_epochs=1"))
    both = script.Row("both", "the mean of two", (), "one", mean_of="one")
    monkeypatch.setattr(script, "ROWS", (script.LARGEST, one, both))
    monkeypatch.setattr(script, "MEMBERS", 2)
    trained = []
    monkeypatch.setattr(script, "train", lambda overrides, *flags: trained.append(lesion_exp.run(*overrides).run_id))
    (tmp_path / "data").mkdir()
    (tmp_path / "results.md").write_text("".join(script.MARKS))
    words = [f"root={tmp_path / 'data'}", "--rows", "both", "--output", str(tmp_path / "results.md")]

    script.main(words)
    script.main(words)
    assert len(trained) == 2
    ensemble = script.finished_run(both, tmp_path / "data", 0)
    members = lesion_exp.open_run(ensemble)
    assert members.run.members == trained
    probabilities = [lesion_exp.open_run(run).predictions("test").filter(like="prob_").to_numpy() for run in trained]
    found = members.predictions("test").filter(like="prob_").to_numpy()
    assert found == pytest.approx(sum(probabilities) / 2, abs=1e-6)
    text = (tmp_path / "results.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("| `both`"))
    value = members.metrics["test/balanced_accuracy"]
    assert f"| {value:.3f} (" in line
    assert ", from one |" in line
    assert "lesion-exp evaluate 'run=[A,B]' ensemble=mean" in text

    script.main([*words, "--seeds", "2"])
    assert len(trained) == 2
    lines = (tmp_path / "results.md").read_text().splitlines()
    cells = [cell.strip() for cell in next(line for line in lines if line.startswith("| `one`")).split("|")]
    mean = sum(lesion_exp.open_run(run).metrics["test/auroc_macro"] for run in trained) / 2
    assert cells[7].startswith(f"{mean:.3f} ("), "the row of imports has no probabilities to compare, but these runs do"
    assert all(cells[1:11])
