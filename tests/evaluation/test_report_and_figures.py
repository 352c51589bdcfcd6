import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix as reference

from lesion_exp.evaluation.figures.class_distribution import class_distribution
from lesion_exp.evaluation.figures.confusion_matrix import confusion_matrix
from lesion_exp.evaluation.figures.curves import precision_recall_curves, roc_curves
from lesion_exp.evaluation.figures.gallery import COLUMNS, TILE, gallery
from lesion_exp.evaluation.figures.image_batch import image_batch
from lesion_exp.evaluation.figures.reliability import reliability_diagram
from lesion_exp.evaluation.predictions import predictions_table
from lesion_exp.evaluation.report import classification_report, confusion_counts, confusion_matrix_data


def predictions(classes, count=200, absent=()):
    rng = np.random.default_rng(0)
    present = [name for name in classes if name not in absent]
    label = rng.choice(present, count)
    logits = rng.normal(size=(count, len(classes)))
    logits[np.arange(count), [classes.index(name) for name in label]] += 1.5
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    ids = [f"i{number}" for number in range(count)]
    rows = pd.DataFrame({"image_id": ids, "row_id": ids, "lesion_id": ids, "patient_id": None, "label": label})
    return predictions_table(rows.assign(age=50.0, sex="male", site="back", source="x"), probs, classes)


SETS = [("benign", "malignant"), tuple("abcdefg"), tuple("abcdefghijkl")]


@pytest.mark.parametrize("classes", SETS, ids=len)
def test_every_figure_can_be_drawn(classes, tmp_path):
    table = predictions(classes)
    for name, figure in {
        "confusion": confusion_matrix(table, "test"),
        "roc": roc_curves(table),
        "pr": precision_recall_curves(table),
        "reliability": reliability_diagram(table),
    }.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 5000


def test_a_class_without_images_breaks_no_figure():
    table = predictions(tuple("abcd"), absent=("b",))
    legend = [text.get_text() for text in roc_curves(table).axes[1].get_legend().get_texts()]
    assert len(legend) == 3
    assert not any(text.startswith("b ") for text in legend)
    confusion_matrix(table)
    precision_recall_curves(table)


def test_the_distribution_and_the_batch_can_be_drawn():
    table = pd.DataFrame({"label": list("aab") * 10, "split": ["train", "val", "test"] * 10})
    assert len(class_distribution(table).axes) == 2
    pixels = np.zeros((9, 8, 8, 3), np.uint8)
    assert sum(bool(axes.images) for axes in image_batch(pixels, list("abcdefghi")).axes) == 9


def test_the_counts_are_scikit_learns():
    table = predictions(tuple("abcdefg"))
    assert np.array_equal(
        confusion_counts(table), reference(table["label"], table["prediction"], labels=list("abcdefg"))
    )
    assert confusion_matrix_data(table)["counts"] == confusion_counts(table).tolist()


@pytest.mark.parametrize("classes", SETS, ids=len)
def test_the_report_fits_a_terminal_and_json(classes):
    text, data = classification_report(predictions(classes), {"accuracy": (0.1, 0.9)}, {"a": "A disease"})
    assert max(map(len, text.splitlines())) <= 80
    assert "95% interval 0.100 to 0.900" in text
    assert json.loads(json.dumps(data))["intervals_95"]["accuracy"] == [0.1, 0.9]
    assert sum(row["images"] for row in data["classes"].values()) == 200


LONG = ("ak", "basal cell carcinoma", "pigmented benign keratosis", "pigmented benign keratosis of the face", "nv")


def test_the_report_of_classes_with_long_names_fits_a_terminal_too():
    text, data = classification_report(predictions(LONG), {"balanced_accuracy": (0.1, 0.9)})
    assert max(map(len, text.splitlines())) <= 80
    assert "pigmented benign keratosis  " in text
    assert "pigmented benign keratosi…" in text
    assert list(data["classes"]) == list(LONG)


@pytest.mark.parametrize("draw", [roc_curves, precision_recall_curves])
@pytest.mark.parametrize("classes", [*SETS, LONG], ids=len)
def test_the_legend_of_curves_leaves_the_plot_its_size_and_is_not_cut(draw, classes):
    figure = draw(predictions(classes))
    figure.draw_without_rendering()
    plot, legend = figure.axes[0].get_window_extent(), figure.axes[1].get_legend().get_window_extent()
    assert plot.width == pytest.approx(plot.height, rel=0.01)
    assert plot.width > 3.4 * figure.dpi
    assert legend.x0 > plot.x1
    assert legend.x1 <= figure.bbox.x1
    assert figure.dpi == 150


def test_shares_below_one_half_percent_are_not_shown_as_zero():
    table = pd.concat([predictions(("a", "b"), 199).assign(label="a", prediction="a")] * 2, ignore_index=True)
    table.loc[0, "prediction"] = "b"
    texts = [text.get_text() for text in confusion_matrix(table).axes[1].texts]
    assert texts == ["100", "<1", "–", "–"]


@pytest.mark.parametrize("count", [1, COLUMNS, COLUMNS + 1])
def test_a_gallery_shows_each_image_in_its_place(count):
    colours = np.array([[20 * place, 0, 255 - 20 * place] for place in range(count)], np.uint8)
    images = np.broadcast_to(colours[:, None, None, :], (count, 6, 6, 3))
    sheet = np.asarray(gallery(np.ascontiguousarray(images), ["a title " * 30] * count))
    assert sheet.shape[1] > min(count, COLUMNS) * TILE
    assert sheet.shape[0] > -(-count // COLUMNS) * TILE
    for colour in colours:
        assert (sheet == colour).all(axis=2).sum() == TILE**2
