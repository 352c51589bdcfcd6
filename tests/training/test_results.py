import json
from types import SimpleNamespace
from unittest.mock import MagicMock

import pandas as pd
import pytest
from torch import nn

from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.intervals import Estimate
from lesion_exp.training import started_run
from lesion_exp.training.build import make_datamodule
from lesion_exp.training.data import load_data, split_data
from lesion_exp.training.part_evaluation import check_evaluation, part_results
from lesion_exp.training.results import end_in_words
from lesion_exp.training.run_context import RunContext


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


@pytest.mark.parametrize("states", [{}, {"my_losses.py": "0123 and 4567"}])
def test_a_run_that_extends_another_keeps_the_digests_of_all_states_of_the_users_code(states, tiny_job, monkeypatch):
    job = tiny_job("tracking.log_images=false")
    split = split_data(job.config, load_data(job.config))
    run, started = MagicMock(tags_at_start={}), MagicMock()
    started.__enter__.return_value = run
    monkeypatch.setattr(started_run, "start_run", lambda *_, **__: started)
    monkeypatch.setattr(started_run, "seen_by_lineage", lambda *_: None)
    monkeypatch.setattr(started_run, "log_inherited", lambda *_: None)
    task, findings = SimpleNamespace(backbone=nn.Linear(1, 1), sign=print), started_run.Findings(split, None, "")
    data = make_datamodule(job.config, split)
    with started_run.started_run(object(), job, RunContext(own_code=states), findings, task, data):
        files = {call.args[1]: call.args[0] for call in run.log_text.call_args_list}
    assert "environment/packages.txt" in files
    assert json.loads(files.get("environment/own_code.json", "{}")) == states
