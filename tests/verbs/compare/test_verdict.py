from __future__ import annotations

import pytest

from lesion_exp.evaluation.comparison import Comparison, Difference, Pair
from lesion_exp.verbs.compare import comparison_report
from lesion_exp.verbs.compare.comparison_report import p_text


def pair_of(to_change: int | None = 40, only: int | None = 9, **differences: tuple[float, float]) -> Pair:
    """A pair from metric=(difference, corrected p-value)."""
    found = {
        name.replace("__", "/"): Difference(0.5, 0.5, value, -1, 1, p, "McNemar", 700, p)
        for name, (value, p) in differences.items()
    }
    return Pair("A", "B", found, only, only, to_change)


def verdict(pair: Pair, num_lesions: int, **added: bool | None) -> str:
    return comparison_report.verdict(pair, Comparison(num_lesions, num_lesions, {}, (), (pair,), added))


def test_not_distinguishable() -> None:
    text = verdict(pair_of(accuracy=(-0.01, 0.4)), 700)
    assert text == (
        "not distinguishable in accuracy (p = 0.400): the predictions of 40 lesions of 700 would have to change to "
        "alter this (B right instead of wrong). No other metric is distinguishable."
    )


def test_ahead() -> None:
    text = verdict(pair_of(1, accuracy=(0.1, 0.0001)), 700)
    assert (
        "A is ahead in accuracy (p <0.001): the predictions of 1 lesion of 700 would have to change to "
        "undo this (A wrong instead of right)" in text
    )


def test_no_change_turns_it() -> None:
    assert "no number of changed predictions of A" in verdict(pair_of(None, accuracy=(0.1, 0.4)), 3)


def test_too_few_lesions_have_no_verdict() -> None:
    found = {"accuracy": Difference(1.0, 0.0, 1.0, 0.8, 1.0, None, "too few", 19)}
    pair = Pair("A", "B", found, 38, 0, None)
    assert verdict(pair, 19) == "too few (19 lesions) to compare: at least 20 are needed."


def test_pooled_runs_change_in_the_mean() -> None:
    assert "in the mean of its seeds" in verdict(pair_of(only=None, accuracy=(0.1, 0.4)), 30)


def test_others_say_who_is_better_also_where_less_is_better() -> None:
    pair = pair_of(
        accuracy=(0.1, 0.4), brier=(0.1, 0.01), auroc_macro=(0.1, 0.01), nll=(-0.1, 0.2), recall__mel=(-0.2, 0.03)
    )
    assert verdict(pair, 700).endswith("Better: A in auroc_macro; B in brier. By class: B in recall/mel.")


def test_metrics_that_a_config_adds_are_better_as_their_class_says() -> None:
    pair = pair_of(accuracy=(0.1, 0.4), kappa=(0.1, 0.01), hinge=(0.2, 0.01), spec=(-0.1, 0.01), mcc=(0.1, 0.2))
    text = verdict(pair, 700, kappa=True, hinge=False, spec=None, mcc=True)
    assert text.endswith("Better: A in kappa; B in hinge. Higher: B in spec.")


@pytest.mark.parametrize(("p_value", "text"), [(None, "-"), (0.0004, "<0.001"), (0.001, "0.001"), (1.0, "1.000")])
def test_p_values_have_three_digits(p_value: float | None, text: str) -> None:
    assert p_text(p_value) == text
