from types import SimpleNamespace

import pandas as pd
import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.intervals import Estimate
from lesion_exp.training.part_evaluation import check_evaluation, part_results
from lesion_exp.training.results import end_in_words


def config(unit):
    return {"evaluation": {"bootstrap_unit": unit}}


def test_intervals_over_patients_need_patients_in_every_part():
    table = pd.DataFrame({"split": ["val", "test"], "lesion_id": ["a", "b"], "patient_id": ["p", None]})
    check_evaluation(config("lesion"), SimpleNamespace(table=table))
    check_evaluation(config("patient"), SimpleNamespace(table=table.assign(patient_id=["p", "q"])))
    with pytest.raises(ConfigError, match=r"evaluation\.bootstrap_unit=lesion"):
        check_evaluation(config("patient"), SimpleNamespace(table=table))


def test_the_log_loss_is_logged_as_loss_with_its_interval():
    evaluated = SimpleNamespace(
        metrics={"nll": 0.5, "ece": 0.1}, unknown={}, estimates={"nll": Estimate(0.5, 0.4, 0.6)}
    )
    assert part_results("test", evaluated) == {
        "test/loss": 0.5, "test/loss_low": 0.4, "test/loss_high": 0.6, "test/ece": 0.1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ({"max_epochs": 20}, "20 epochs"),
        ({"max_epochs": 1, "max_steps": 9}, "1 epoch, at most 9 steps"),
        ({"max_epochs": None, "max_steps": 9}, "at most 9 steps"),
        ({"max_epochs": -1, "max_steps": -1}, "trained until early stopping"),
    ],
)
def test_the_end_of_a_training_is_said_in_words(trainer, words):
    assert end_in_words(trainer) == words
