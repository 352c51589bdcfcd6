"""What the page draws, measured on its SVG, is the number that stands beside it."""

import re
from pathlib import Path

import numpy as np
import pytest

from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.trained_runs.run_summary import RunArtifacts, RunSummary
from lesion_exp.verbs.report.sections.calibration import calibration
from lesion_exp.verbs.report.sections.curves import curves
from lesion_exp.verbs.report.sections.results import confusion, results
from lesion_exp.verbs.report.sections.subgroups import subgroups
from lesion_exp.verbs.report.sections.training import training

PIXEL = 1 / 200
"""A drawing is rounded to a tenth of a pixel; its axes have some 250."""


@pytest.fixture
def store(shared_store):
    return shared_store


@pytest.fixture
def facts(full_run):
    run = full_run()
    return RunSummary(run, RunArtifacts(run))


def figures(section):
    return [figure for block in section.blocks if block.kind == "figures" for figure in block.figures]


def table(section, words):
    return next(block for block in section.blocks if block.kind == "table" and words in block.caption)


def scale(places, texts):
    """From pixels to the numbers that the marks of the axis say."""
    known = np.array([[float(place), float(text.replace(",", ""))] for place, text in zip(places, texts, strict=True)])
    slope = (known[-1, 1] - known[0, 1]) / (known[-1, 0] - known[0, 0])
    return lambda pixels: known[0, 1] + slope * (pixels - known[0, 0])


def drawn(svg, looks):
    """The points of each path of a class, by the axes' marks, (points, 2)."""
    tick = r'<text class="tick" x="([-\d.]+)" y="([-\d.]+)" text-anchor="(\w+)">([^<]+)</text>'
    found = re.findall(tick, svg)
    xs = [(x, text) for x, _, anchor, text in found if anchor == "middle"]
    ys = [(float(y) - 4, text) for _, y, anchor, text in found if anchor == "end"]
    to_x, to_y = scale(*zip(*xs, strict=True)), scale(*zip(*ys, strict=True))
    paths = re.findall(rf'<path class="{looks}" d="M([^"Z]+)Z?"/>', svg)
    points = [np.array([pair.split() for pair in path.split("L")], dtype=float) for path in paths]
    return [np.stack([to_x(found[:, 0]), to_y(found[:, 1])], axis=1) for found in points]


def test_the_page_names_the_epoch_of_the_metric_that_was_monitored(full_run):
    job = freeze(compose(["dataset=synthetic", "trainer.monitor=val/loss"], root=Path("/project")))
    run = full_run(lambda folder: job.write(folder / "config" / "job.yaml"))
    assert "part's loss was best in epoch 5, 1.300;" in training(RunSummary(run, RunArtifacts(run))).blocks[0].text


def test_the_area_under_each_curve_stands_in_its_legend(facts):
    for figure in figures(curves(facts))[:2]:
        lines = drawn(figure.drawing, r"line s\d+(?: dashed)?")
        assert len(lines) == len(figure.legend) == 3
        for points, entry in zip(lines, figure.legend, strict=True):
            name, printed = entry.name.split()[:2]
            assert np.trapezoid(points[:, 1], points[:, 0]) == pytest.approx(float(printed), abs=PIXEL), name


def test_the_decision_curve_has_the_net_benefits_of_the_file(facts):
    figure = figures(curves(facts))[2]
    found = facts.evaluation_file("decision_curve")
    (model,) = drawn(figure.drawing, "line s0")
    (band,) = drawn(figure.drawing, "band f0")
    expected = np.array([[x, entry["value"]] for x, entry in zip(found["thresholds"], found["model"], strict=True)])
    for x, y in model:
        nearest = np.abs(expected[:, 0] - x).argmin()
        assert y == pytest.approx(expected[nearest, 1], abs=PIXEL)
    lows, highs = (np.array([entry[end] for entry in found["model"]]) for end in ("low", "high"))
    assert band[:, 1].min() == pytest.approx(lows.min(), abs=PIXEL)
    assert band[:, 1].max() == pytest.approx(highs.max(), abs=PIXEL)


def test_the_gaps_of_the_reliability_diagram_are_its_error(facts):
    figure = figures(calibration(facts))[0]
    (points,) = drawn(figure.drawing, "line s0")
    probs = facts.predictions[[f"p_{name}" for name in facts.classes]].to_numpy(float).max(axis=1)
    counts = np.bincount(np.clip(np.ceil(probs * 15).astype(int) - 1, 0, 14), minlength=15)
    error = (np.abs(points[:, 0] - points[:, 1]) * counts[counts > 0]).sum() / counts.sum()
    assert error == pytest.approx(metrics(facts.predictions)["ece"], abs=PIXEL)
    assert f"{metrics(facts.predictions)['ece']:.3f}" in figure.legend[0].name


def bar(cell):
    """Value and ends that a bar shows, 0 to 1, and its reference line."""
    value = re.search(r'class="point" cx="([\d.]+)"', cell)
    ends = re.search(r'class="interval" d="M([\d.]+) 8H([\d.]+)"', cell)
    line = re.search(r'class="reference" d="M([\d.]+) ', cell)
    return [None if place is None else (float(place) - 4) / 112
            for place in (value[1], *(ends.groups() if ends else (None, None)), line[1] if line else None)]  # fmt: skip


def test_the_bars_beside_the_metrics_and_subgroups_are_their_numbers(facts):
    shown = 0
    for name, printed, interval, cell in table(results(facts), "All classes together").rows:
        if cell:
            value, low, high, _ = bar(cell)
            ends = [float(end) for end in interval.split(" to ")]
            assert [value, low, high] == pytest.approx([float(printed), *ends], abs=PIXEL), name
            shown += 1
    assert shown >= 5
    overall = facts.evaluation_file("subgroups")["overall"]["balanced_accuracy"]["value"]
    cells = {
        f"{cell['attribute']}: {cell['group']}": cell["metrics"] for cell in facts.evaluation_file("subgroups")["cells"]
    }
    for name, _, _, cell, *_ in table(subgroups(facts), "Subgroups").rows:
        found = cells[name]["balanced_accuracy"]
        if cell:
            value, low, high, line = bar(cell)
            assert [value, low, high] == pytest.approx([found["value"], found["low"], found["high"]], abs=PIXEL), name
            assert line is None or line == pytest.approx(overall, abs=PIXEL)


def test_the_confusion_matrix_has_the_counts_of_the_predictions(facts):
    (matrix,) = [block for block in confusion(facts).blocks if block.kind == "matrix"]
    for row, true in enumerate(facts.classes):
        for column, predicted in enumerate(facts.classes):
            kept = (facts.predictions["label"] == true) & (facts.predictions["prediction"] == predicted)
            assert matrix.counts[row][column] == kept.sum()


def test_the_curves_of_training_are_the_metrics_of_the_epochs(facts):
    losses, scores, _ = figures(training(facts))
    (train, val), (score,) = (drawn(figure.drawing, r"line s\d+") for figure in (losses, scores))
    assert train[:, 1] == pytest.approx([2.0 - 0.3 * epoch for epoch in range(5)], abs=2 * PIXEL)
    assert val[:, 1] == pytest.approx([2.1 - 0.2 * epoch for epoch in range(5)], abs=2 * PIXEL)
    assert score[:, 1] == pytest.approx([0.3, 0.4, 0.5, 0.7, 0.6], abs=PIXEL)
    assert score[:, 0] == pytest.approx([1, 2, 3, 4, 5], abs=0.03)
