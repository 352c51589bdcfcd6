import io
import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from sklearn.metrics import confusion_matrix as reference

from lesion_exp.evaluation.classification_report import classification_report, confusion_counts, confusion_matrix_data
from lesion_exp.evaluation.figures.class_distribution import class_distribution
from lesion_exp.evaluation.figures.confusion_matrix import confusion_matrix
from lesion_exp.evaluation.figures.curves import precision_recall_curves, reliability_diagram, roc_curves
from lesion_exp.evaluation.figures.gallery import COLUMNS, TILE, gallery, image_batch
from lesion_exp.evaluation.predictions import predictions_table


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
KINDS = ("Pigmented benign keratosis", "squamous cell carcinoma in situ", "Melanocytic naevus")
MANY = tuple(
    f"{kind} of the {place}" for kind in KINDS for place in ("face", "trunk", "upper limb", "lower limb", "back")
)


@pytest.mark.parametrize("classes", [*SETS, MANY], ids=len)
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


def test_the_report_says_which_class_was_never_predicted():
    table = predictions(("mel", "nv", "bkl"))
    table["prediction"] = "nv"
    said = [line for line in classification_report(table)[0].splitlines() if "never predicted" in line]
    assert said == ["never predicted, so that precision and F1 are 0 by definition: mel, bkl"]
    assert "never predicted" not in classification_report(predictions(("mel", "nv")))[0]
    without = table[table["label"] != "bkl"]
    said = [line for line in classification_report(without)[0].splitlines() if "never predicted" in line]
    assert said == ["never predicted, so that precision and F1 are 0 by definition: mel"], "bkl has neither"


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


@pytest.mark.parametrize("classes", [tuple("abcdefg"), MANY], ids=len)
def test_a_confusion_matrix_fits_a_page_and_names_every_class(classes):
    figure = confusion_matrix(predictions(classes, 400))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert len(set(names)) == len(classes)
    assert figure.get_tightbbox().width < 13
    columns = [label.get_text() for label in axes.get_xticklabels()]
    if len(classes) > 12:
        assert columns[: len(classes)] == [str(number) for number in range(1, len(classes) + 1)]
        assert all(name.endswith(f"  {number}") for number, name in zip(columns, names, strict=False))
    key = figure.axes[-1]
    assert key.get_ylabel() == "share of the true class"
    assert key.get_yticklabels()[-1].get_text() == "100%"


def luminance(colour):
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize("count", [30, 300, 3000])
def test_digits_of_a_confusion_matrix_stand_out_from_their_cells(count):
    figure = confusion_matrix(predictions(tuple("abcdefg"), count))
    for axes in figure.axes[:2]:
        (image,) = axes.images
        for text in axes.texts:
            column, row = text.get_position()
            cell = image.cmap(image.norm(image.get_array()[int(row), int(column)]))
            light, dark = sorted([luminance(cell[:3]), luminance(text.get_color())], reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, text.get_text()


def test_titles_of_a_batch_do_not_overprint():
    figure = image_batch(np.zeros((15, 8, 8, 3), np.uint8), MANY)
    figure.draw_without_rendering()
    titles = [axes.title for axes in figure.axes if axes.images]
    assert len({title.get_text() for title in titles}) == len(MANY)
    boxes = [title.get_window_extent() for title in titles]
    assert not any(one.overlaps(other) for number, one in enumerate(boxes) for other in boxes[number + 1 :])


def test_a_line_above_a_gallery_that_is_too_long_keeps_its_end():
    images = np.zeros((1, 6, 6, 3), np.uint8)
    ends = [np.asarray(gallery(images, [f"{'pigmented benign keratosis ' * 4}{end}"])) for end in ("0.97", "0.12")]
    assert (ends[0] != ends[1]).any()
    assert gallery(images, ["a\n→ b\n0.9"]).height > gallery(images, ["a 0.9"]).height


@pytest.mark.parametrize("num_classes", [3, 25, 60])
def test_the_class_distribution_shows_its_counts(num_classes):
    rng = np.random.default_rng(0)
    names = [f"class {number:02d}" for number in range(num_classes)]
    table = pd.DataFrame({"label": rng.choice(names, 900), "split": rng.choice(["train", "val", "test"], 900)})
    counts = pd.crosstab(table["label"], table["split"])[["train", "val", "test"]]
    figure = class_distribution(table)
    left, right = figure.axes
    for number, part in enumerate(counts):
        drawn = left.collections[number].get_offsets()[:, 0]
        if num_classes <= 12:
            shares = [bar.get_width() for bar in right.containers[number]]
        else:
            shares = right.collections[number].get_offsets()[:, 0]
        assert list(drawn) == counts[part][counts[part] > 0].tolist()
        assert np.allclose(shares, counts[part] / counts[part].sum())
    if num_classes > 12:
        texts = [label.get_text() for label in left.get_yticklabels()]
        assert texts[0] == "class 00   " + " / ".join(map(str, counts.iloc[0]))
    assert figure.get_figheight() < 17


def test_dollar_signs_in_class_names_are_text():
    names = ("$5 \\bad{ $", "$x_{$")
    figure = confusion_matrix(predictions(names, 20))
    figure.savefig(io.BytesIO())
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert all(any(label.startswith(name) for label in labels) for name in names)
    table = pd.DataFrame({"label": [names[0]] * 3 + [names[1]] * 30, "split": "train"})
    drawn = class_distribution(table)
    drawn.savefig(io.BytesIO())
    assert not any("mathdefault" in text.get_text() for text in drawn.findobj(Text))
