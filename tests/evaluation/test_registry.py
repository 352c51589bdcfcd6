"""The registry of metrics, and that nothing of it is said a second time in the package."""

import ast
from pathlib import Path

import pytest

import lesion_exp
from lesion_exp.evaluation.metrics import OF_A_CLASS, OVERALL, metrics
from lesion_exp.evaluation.registry import (
    AUROC_MACRO,
    HIGHER,
    LOWER,
    METRICS,
    WATCHED,
    direction_of,
    entry_of,
    is_better,
    is_lower_better,
    is_share,
    mode_of,
    short_of,
    shown_in,
    words_of,
)

PACKAGE = Path(lesion_exp.__file__).parent
REGISTRY = PACKAGE / "evaluation" / "registry.py"
OWN_WORDS = {metric.words for metric in METRICS.values() if " " in metric.words} | {
    metric.short for metric in METRICS.values() if " " in metric.short
}


def texts(path):
    """The texts in a module that are no docstrings, those in f-strings included."""
    tree = ast.parse(path.read_text("utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {id(node.value) for body in ast.walk(tree) if hasattr(body, "body") and isinstance(body, documented)
                  for node in body.body if isinstance(node, ast.Expr)}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def modules_with(is_said):
    found = {path for path in PACKAGE.rglob("*.py") if any(is_said(text) for text in texts(path))}
    return {path.relative_to(PACKAGE).as_posix() for path in found - {REGISTRY}}


def test_the_mean_auroc_is_named_in_one_module():
    assert modules_with(lambda text: AUROC_MACRO in text) == set()
    assert AUROC_MACRO in set(texts(REGISTRY)), "the search finds what is there"


def test_which_direction_is_better_is_said_in_one_module():
    assert modules_with(lambda text: text in {HIGHER, LOWER} or HIGHER in text or LOWER in text) == set()


def test_the_words_of_a_metric_stand_in_one_module():
    assert modules_with(lambda text: any(words in text for words in OWN_WORDS)) == set()


def test_every_computed_metric_has_an_entry(make_table):
    assert set(OVERALL) | set(OF_A_CLASS) <= set(METRICS)
    for name in metrics(make_table()):
        assert entry_of(f"test/{name}") is not None


@pytest.mark.parametrize(
    ("name", "lower"),
    [
        ("val/loss", True), ("train/loss", True), ("best/val/loss", True), ("test/loss_low", True),
        ("test/brier", True), ("calibrated/ece_classwise", True), ("time/epoch_seconds", True),
        ("test/unknown/fpr_at_95_tpr/energy", True), ("evaluation/ph2/ece", True), ("conformal/lac/set_size", True),
        ("evaluation/test/calibrated/nll", True), ("shortcuts/ruler/flip_rate", True),
        ("val/balanced_accuracy", False), ("test/recall/mel", False), ("test/recall/loss", False),
        ("test/recall/ece", False), ("isic/auc/malignant", False), ("operating/malignant/youden/ppv", False),
        ("operating/loss/youden/npv", False), ("evaluation/loss/accuracy", False), ("val/kappa", False),
        ("time/images_per_second", False), ("test/unknown/auroc/energy", False),
    ],
)  # fmt: skip
def test_a_metric_is_found_by_the_name_that_it_has_anywhere(name, lower):
    assert is_lower_better(name) is lower
    assert (mode_of(name), direction_of(name)) == (("min", "minimize") if lower else ("max", "maximize"))
    assert is_better(name, 0.1, 0.2) is lower


def test_of_a_metric_that_a_config_adds_only_the_name_is_known():
    assert entry_of("val/kappa") is None
    assert words_of("quadratic_kappa") == short_of("quadratic_kappa") == "quadratic kappa"
    assert not is_share("val/kappa")


def test_what_can_be_negative_is_no_share():
    assert all(metric.lowest < metric.highest for metric in METRICS.values())
    assert is_share("val/accuracy")
    assert not is_share("shortcuts/ruler/excess")
    assert not is_share("val/loss")


def test_words_fit_into_a_sentence():
    assert words_of("recall/mel") == "Sensitivity, mel"
    assert short_of("recall/mel") == "sensitivity, mel"
    assert short_of(WATCHED) == "balanced accuracy"
    assert (short_of("brier"), short_of("auroc/mel"), short_of("nll")) == ("Brier score", "AUROC, mel", "log loss")


def test_the_watched_metric_comes_first_everywhere():
    for place in ("epoch", "headline", "tracked", "report", "compare", "sweep", "shortcuts"):
        assert shown_in(place)[0] == WATCHED
    assert set(shown_in("epoch")) <= set(shown_in("tracked"))
