from dataclasses import replace

import pytest

from lesion_exp.evaluation.flips import Flips
from lesion_exp.evaluation.intervals import Estimate
from lesion_exp.verbs.shortcuts.perturbations import INSERTIONS
from lesion_exp.verbs.shortcuts.shortcut_report import (
    MAJORITY,
    NETWORK,
    SHALLOW,
    ShortcutReport,
    as_text,
    verdict_on_flips,
    verdict_without_lesion,
    worst,
)


def estimate(value, width=0.02):
    return Estimate(value, value - width, value + width)


def flipped(rate, excess, width=0.02):
    scores = dict.fromkeys(("accuracy", "balanced_accuracy", "auroc_macro"), estimate(0.75))
    return Flips(500, estimate(rate), estimate(excess, width), scores, scores, "mel", 0.8)


@pytest.mark.parametrize(
    ("score", "own", "level", "said"),
    [
        (estimate(0.51), 0.9, "ok", "not above chance"),
        (estimate(0.54), 0.9, "ok", "10% of the network's distance from chance (0.900)"),
        (estimate(0.62), 0.9, "look", "30% of the network"),
        (estimate(0.71), 0.9, "warning", "52% of the network"),
        (estimate(0.60, 0.2), 0.9, "look", "too few images to rule out 75%"),
        (estimate(0.60), 0.5, "look", "although the network (0.500) is not"),
        (estimate(0.50), 0.5, "ok", "nor is the network"),
    ],
)
def test_what_is_reached_without_a_lesion_is_held_against_the_network(score, own, level, said):
    found = verdict_without_lesion("rim", "border pixels", score, own)
    assert found.level == level
    assert said in found.words


@pytest.mark.parametrize(
    ("flip", "level", "said"),
    [
        (flipped(0.10, 0.01), "ok", "not more than when the image is mirrored"),
        (flipped(0.10, 0.04), "ok", "4.0 points more"),
        (flipped(0.10, 0.06), "look", "6.0 points more than when the image is mirrored (4.0 to 8.0)"),
        (flipped(0.30, 0.20), "warning", "80% of them to mel"),
        (flipped(0.30, 0.10, width=0.2), "look", "too few images to rule out 30 points"),
    ],
)
def test_flips_are_held_against_those_of_the_control(flip, level, said):
    found = verdict_on_flips("ruler", "a ruler", flip)
    assert found.level == level
    assert said in found.words


def report(**changes):
    score = {"accuracy": estimate(0.6), "balanced_accuracy": estimate(0.15), "auroc_macro": estimate(0.51)}
    scores = dict.fromkeys((NETWORK, MAJORITY, *SHALLOW), score)
    scores[NETWORK] = {"accuracy": estimate(0.8), "balanced_accuracy": estimate(0.7), "auroc_macro": estimate(0.9)}
    inserted = {name: flipped(0.02, 0.0) for name in INSERTIONS}
    made = ShortcutReport("0" * 32, "a run", "test", 500, 400, scores, flipped(0.02, 0.0), inserted, None, None)
    return replace(made, **changes)


def test_the_worst_verdict_is_that_of_the_run():
    assert report().level == "ok"
    inked = {**report().inserted, "ink": flipped(0.4, 0.3)}
    assert report(inserted=inked).level == "warning"
    assert worst(report(inserted=inked).verdicts()) == "warning"
    assert report(painted=flipped(0.5, 0.5), painted_own=estimate(0.9)).level == "warning"  # 0.75 without any lesion


def test_the_text_fits_and_says_what_was_not_checked():
    text = as_text(report())
    assert max(map(len, text.splitlines())) <= 80
    assert "painted_out: no image of this part has a lesion mask" in text
    whole = as_text(report(painted=flipped(0.5, 0.5), painted_own=estimate(0.9)))
    assert max(map(len, whole.splitlines())) <= 80
    assert "warning  painted_out: the network with the lesion painted out (500 images" in whole
    noted = as_text(report(notes=("masks are squashed, " * 8,)))
    assert max(map(len, noted.splitlines())) <= 80
    assert "note     painted_out: masks are squashed, masks" in noted
    assert report(notes=("a", "b")).to_dict()["notes"] == ["a", "b"]


def test_a_network_of_two_photographs_is_told_which_were_changed():
    both = report(two_photographs=True, painted=flipped(0.5, 0.5), painted_own=estimate(0.9))
    text = as_text(both)
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.split())
    assert "Each change is made to the dermoscopic and to the clinical photograph of a lesion" in words
    assert "lesion painted out and one colour in place of the clinical photograph (500 images with masks)" in words
    assert both.to_dict()["two_photographs"]
    assert "clinical" not in as_text(report())


def test_metrics_have_intervals():
    found = report().metrics()
    assert found["ruler/flip_rate_low"] < found["ruler/flip_rate"] < found["ruler/flip_rate_high"]
    assert found["metadata/balanced_accuracy"] == 0.15
    assert {name for name in found if name.startswith("mirrored/")} >= {"mirrored/flip_rate", "mirrored/accuracy"}
