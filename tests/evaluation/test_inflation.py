import numpy as np
import pandas as pd
import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.figures.forest_plots import inflation_figure
from lesion_exp.evaluation.inflation import inflation
from lesion_exp.evaluation.intervals import intervals
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.paired_tests import paired_differences
from lesion_exp.evaluation.predictions import predictions_table

NAMES = ("accuracy", "balanced_accuracy")


def predicted(num_right, size=100, copies=1, prefix="a"):
    """Predictions of `size` images of lesions of their own, of which the first `num_right` are right."""
    labels = np.array(["mel", "nv"])[np.arange(size) % 2]
    right = np.arange(size) < num_right
    probs = np.where((labels == "mel") == right, 0.9, 0.1)
    rows = pd.DataFrame(
        {
            "image_id": [f"{prefix}{place}" for place in range(size)],
            "lesion_id": [f"{prefix}L{place}" for place in range(size)],
            "patient_id": None,
            "label": labels,
            "age": 50.0,
            "sex": "female",
            "site": "back",
            "source": "made",
        }
    )
    table = pd.concat([rows.assign(p=probs, row_id=rows["image_id"] + f"#{copy}") for copy in range(copies)])
    p = table.pop("p").to_numpy()
    return predictions_table(table, np.stack([p, 1 - p], axis=1), ("mel", "nv"))


def test_it_is_the_difference_of_the_two_scores_with_their_own_intervals():
    own, clean = predicted(90), predicted(60, size=120, prefix="b")
    found = inflation(own, clean, NAMES, draws=500, seed=3)
    for name in NAMES:
        assert found[name].own.value == pytest.approx(metrics(own)[name])
        assert found[name].clean.value == pytest.approx(metrics(clean)[name])
        assert found[name].inflation.value == pytest.approx(metrics(own)[name] - metrics(clean)[name])
        assert found[name].own.interval == intervals(own, [name], draws=500, seed=3)[name]
        assert found[name].clean.interval == intervals(clean, [name], draws=500, seed=3)[name]
    assert found == inflation(own, clean, NAMES, draws=500, seed=3)


def test_the_interval_of_the_difference_is_that_of_two_independent_samples():
    found = inflation(predicted(90, 400), predicted(200, 400, prefix="b"), ["accuracy"], draws=4000)["accuracy"]
    sd = np.sqrt(0.225 * 0.775 / 400 + 0.5 * 0.5 / 400)
    assert found.inflation.high - found.inflation.low == pytest.approx(2 * 1.96 * sd, rel=0.06)


def test_copies_of_an_image_do_not_make_the_interval_narrower():
    once, often = (inflation(predicted(80, copies=n), predicted(60, prefix="b"), NAMES) for n in (1, 20))
    assert often["accuracy"].own == pytest.approx(once["accuracy"].own)


def test_paired_differences_of_a_table_with_itself_are_nothing():
    table = predicted(70)
    for found in paired_differences(table, table, NAMES, draws=50).values():
        assert found.value == 0
        assert -0.03 < found.low <= 0 <= found.high < 0.03


def test_no_draws_are_refused():
    with pytest.raises(ConfigError, match="at least 1 bootstrap draw"):
        inflation(predicted(80), predicted(60, prefix="b"), NAMES, draws=0)


def test_the_figure_has_a_panel_a_metric_with_the_inflation_of_each_way():
    found = inflation(predicted(90), predicted(60, prefix="b"), NAMES, draws=100)
    panels = {name: {"grouped": found[name], "by_image\nleaks": found[name]} for name in NAMES}
    figure = inflation_figure(panels, "a study", {"accuracy": 0.92})
    axes = figure.axes
    assert [one.get_title(loc="left") for one in axes] == ["accuracy", "balanced accuracy"]
    assert [text.get_text() for text in axes[0].get_yticklabels()] == ["grouped", "by_image\nleaks"]
    shown = [text.get_text() for text in axes[0].texts]
    assert any(text.startswith(f"inflation {found['accuracy'].inflation.value:+.3f}") for text in shown)
    assert any("reported 92%" in text for text in shown)
    assert not any("reported" in text.get_text() for text in axes[1].texts)
    for panel, name in zip(axes, NAMES, strict=True):
        drawn = {tuple(line.get_xdata()) for line in panel.lines if line.get_zorder() > 1}
        both = (found[name].own, found[name].clean)
        assert drawn == {(one.value,) for one in both} | {(one.low, one.high) for one in both}, name
    assert axes[0].lines[-1].get_xdata()[0] == 0.92
