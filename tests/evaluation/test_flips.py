import numpy as np
import pandas as pd
import pytest

from lesion_exp.evaluation.figures.forest_plots import flips_figure
from lesion_exp.evaluation.flips import flips
from lesion_exp.evaluation.predictions import predictions_table

CLASSES = ("bkl", "mel", "nv")


def predicted(predictions, labels, lesions=None):
    names = [f"img{place}" for place in range(len(labels))]
    common = {"patient_id": None, "age": 50.0, "sex": "female", "site": "back", "source": "made"}
    rows = pd.DataFrame({"image_id": names, "row_id": names, "lesion_id": lesions or names, "label": labels, **common})
    return predictions_table(rows, np.eye(3)[[CLASSES.index(name) for name in predictions]], CLASSES)


LABELS = ["nv"] * 6 + ["mel"] * 4
PLAIN = predicted(["nv"] * 6 + ["mel"] * 4, LABELS)
CHANGED = predicted(["bkl", "bkl", "mel", "nv", "nv", "nv", "mel", "mel", "mel", "mel"], LABELS)
CONTROL = predicted(["mel", *["nv"] * 5, *["mel"] * 4], LABELS)


def test_changed_predictions_are_counted_beside_those_of_the_control():
    found = flips(PLAIN, CHANGED, CONTROL, draws=500)
    assert found.images == 10
    assert found.flip_rate.value == pytest.approx(0.3)
    assert found.excess.value == pytest.approx(0.2)
    assert found.flip_rate.low < 0.3 < found.flip_rate.high
    assert found.scores["accuracy"].value == pytest.approx(0.7)
    assert found.scores["balanced_accuracy"].value == pytest.approx(0.75)
    assert found.drops["balanced_accuracy"].value == pytest.approx(0.25)
    assert found.scores["auroc_macro"].value < 1 == found.scores["auroc_macro"].value + found.drops["auroc_macro"].value
    assert (found.mostly_to, found.share_to) == ("bkl", pytest.approx(2 / 3))


def test_what_changes_nothing_flips_nothing():
    found = flips(PLAIN, PLAIN, PLAIN, draws=50)
    assert found.flip_rate.value == found.excess.value == found.drops["accuracy"].value == 0
    assert (found.flip_rate.low, found.flip_rate.high) == (0, pytest.approx(0.2775, abs=1e-4))  # Wilson, 0 of 10
    assert (found.mostly_to, found.share_to) == (None, 0)


def test_photographs_of_one_lesion_count_as_one_observation():
    rng = np.random.default_rng(0)
    flipped = rng.random(60) < 0.3
    labels = ["nv" if place % 2 else "mel" for place in range(60)]
    tables = [
        [predicted(np.repeat(names, copies), np.repeat(labels, copies), list(np.repeat(range(60), copies).astype(str)))
         for names in (labels, np.where(flipped, "bkl", labels))]
        for copies in (1, 9)
    ]  # fmt: skip
    once, often = (flips(plain, changed, plain, draws=1000) for plain, changed in tables)
    assert often.flip_rate == pytest.approx(once.flip_rate)


def test_the_figure_has_a_row_a_change_and_the_control_first():
    changes = {
        "mirrored": flips(PLAIN, CONTROL, CONTROL, draws=50),
        "dark_corner": flips(PLAIN, CHANGED, CONTROL, draws=50),
    }
    left, middle, right = flips_figure(changes, "a run").axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["mirrored", "dark corner"]
    assert [axes.get_title(loc="left") for axes in (middle, right)] == ["accuracy", "balanced accuracy"]
    control = changes["mirrored"]
    expected = {left: "flip_rate", middle: "accuracy", right: "balanced_accuracy"}
    for axes, name in expected.items():
        found = [one.flip_rate if name == "flip_rate" else one.scores[name] for one in changes.values()]
        drawn = {tuple(line.get_xdata()) for line in axes.lines if line.get_zorder() > 1}
        assert drawn == {(one.value,) for one in found} | {(one.low, one.high) for one in found}, name
        (line,) = (line.get_xdata()[0] for line in axes.lines if line.get_zorder() == 1)
        reference = (
            control.flip_rate.value if name == "flip_rate" else (control.scores[name].value + control.drops[name].value)
        )
        assert line == pytest.approx(reference), name
