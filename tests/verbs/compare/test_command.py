from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from lesion_exp.cli import main
from lesion_exp.evaluation.figures import forest_plots
from lesion_exp.verbs.figures import comparison_figure

Plant = Callable[..., str]
Predicted = Callable[..., pd.DataFrame]
pytestmark = pytest.mark.usefixtures("own_process")


@pytest.fixture
def project(planted: tuple[Path, list[str]]) -> Path:
    return planted[0]


@pytest.fixture
def ids(planted: tuple[Path, list[str]]) -> list[str]:
    return planted[1]


def options(root: Path) -> list[str]:
    return [f"paths.root={root}", "evaluation.bootstrap_draws=100"]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("num_runs", [2, 4])
def test_the_tables_fit(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    project: Path,
    ids: list[str],
    columns: int,
    num_runs: int,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["compare", *ids[:num_runs], *options(project)]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert max(map(len, lines)) <= columns
    assert "Comparison on the test part: 120 images of 60 lesions" in lines
    assert "…" not in shown.out  # nothing is cut
    assert not any(re.match(r"\s*to [+-]?\d", line) for line in lines)  # no interval is broken
    assert "A - B: " in shown.out
    assert ("compare/comparison.txt" in shown.out) == (num_runs == 4)
    assert "loss._target_" in shown.out
    assert "LDAM" in shown.out or num_runs == 2
    assert ("p alone" in shown.out) == (columns == 120 and num_runs == 2)
    assert "differences.png" in shown.err


@pytest.mark.parametrize("name", ["latex", "markdown"])
def test_a_table_for_a_paper_has_the_numbers_of_the_json(
    capsys: pytest.CaptureFixture[str], project: Path, ids: list[str], name: str
) -> None:
    assert main(["compare", *ids[:2], *options(project), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert main(["compare", *ids[:2], *options(project), f"format={name}"]) == 0
    shown = capsys.readouterr().out
    (pair,) = told["pairs"]
    for one in pair["differences"]["accuracy"], pair["differences"]["balanced_accuracy"]:
        text = f"{one['difference']:+.3f}"
        bold = f"\\textbf{{{text}}}" if name == "latex" else f"**{text}**"
        assert (bold in shown) == one["distinguishable"]
        assert f"({one['low']:+.3f} to {one['high']:+.3f})" in shown
    for job in told["jobs"]:
        assert f"{job['metrics']['accuracy']['mean']:.3f}" in shown
    assert "120 images of 60 lesions of the test part" in shown
    assert ("\\begin{tabular}{lrr" in shown) == (name == "latex")


def test_json_is_one_object_on_standard_output(
    capsys: pytest.CaptureFixture[str], project: Path, ids: list[str]
) -> None:
    assert main(["compare", ids[0][:10], "latest", "--json", *options(project)]) == 0
    body = json.loads(capsys.readouterr().out)
    assert [job["runs"] for job in body["jobs"]] == [[ids[0]], [ids[3]]]
    assert body["bootstrap_draws"] == 100
    assert body["pairs"][0]["verdict"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected the runs to compare"),
        (["latest"], "at least 2 runs"),
        (["latest", "none at all"], "expected a run id"),
        (["latest", "abcd", "loss=focal"], "keys that a comparison reads"),
        (["latest", "abcd", "--jsn"], "--json"),
    ],
)
def test_mistakes_are_one_message_and_2(
    capsys: pytest.CaptureFixture[str], project: Path, ids: list[str], arguments: list[str], said: str
) -> None:
    assert main(["compare", *arguments, f"paths.root={project}"]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.out == ""


def test_other_images_are_a_mistake(
    capsys: pytest.CaptureFixture[str], root: Path, plant: Plant, predicted: Predicted
) -> None:
    ids = [plant("loss=focal", test=predicted(1.0)), plant(test=predicted(1.0, first=500))]
    assert main(["compare", *ids, f"paths.root={root}"]) == 2
    shown = capsys.readouterr()
    assert "expected runs on the same images" in shown.err
    assert "share 0" in shown.err
    assert shown.out == ""


def test_the_unit_can_be_chosen(capsys: pytest.CaptureFixture[str], project: Path, ids: list[str]) -> None:
    words = ["compare", *ids[:2], *options(project)]
    assert main([*words, "evaluation.bootstrap_unit=patient"]) == 2
    assert "for images without patient_id, got patient" in capsys.readouterr().err
    assert main([*words, "evaluation.bootstrap_unit=lesion"]) == 0
    assert "120 images of 60 lesions" in capsys.readouterr().out


@pytest.mark.parametrize("num_runs", [2, 4])
def test_the_figure_of_a_comparison_is_drawn_again_from_its_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, project: Path, ids: list[str], num_runs: int
) -> None:
    drawn: list[tuple[Any, ...]] = []
    draw = forest_plots.differences_figure

    def noted(*given: Any) -> Figure:
        drawn.append(given)
        return draw(*given)

    monkeypatch.setattr(forest_plots, "differences_figure", noted)
    monkeypatch.setattr(comparison_figure, "differences_figure", noted)
    assert main(["compare", *ids[:num_runs], *options(project), "--json"]) == 0
    run_id = json.loads(capsys.readouterr().out)["run_id"]
    words = ["figures", f"run={run_id}", "format=pdf,svg", "output=drawn", f"paths.root={project}"]
    assert main(words) == 0
    assert capsys.readouterr().out.split() == ["drawn/differences_test.pdf", "drawn/differences_test.svg"]
    assert Path("drawn/differences_test.pdf").read_bytes().startswith(b"%PDF")
    (first, *others), (again, *same) = drawn
    assert others == same
    assert (again.pairs, again.class_images, again.unit) == (first.pairs, first.class_images, first.unit)
    assert (again.num_images, again.num_lesions, again.added) == (first.num_images, first.num_lesions, first.added)
