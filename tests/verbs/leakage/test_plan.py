from dataclasses import replace

import pytest

from lesion_exp.choices import WAYS_TO_SPLIT as WAYS
from lesion_exp.config.instantiate import instantiate
from lesion_exp.data.batches import TrainingBatches
from lesion_exp.errors import ConfigError
from lesion_exp.sweeps.ledger import create_sweep
from lesion_exp.sweeps.plan import plan_sweep
from lesion_exp.training.data import load_data, split_data
from lesion_exp.verbs.leakage.plan import find_meter, plan_meter, same_meter
from tests.verbs.leakage.conftest import FEW


def test_the_trainings_differ_in_the_split_alone_and_fill_the_same_steps(plan):
    configs = [job.config for job, _ in plan.cells]
    assert [config["split"]["way"] for config in configs] == list(WAYS)
    assert all(config["test"] is True and config["split"]["allow_leakage"] for config in configs)
    for config in configs:
        config["split"] = {**config["split"], "way": "any"}
    assert configs[0] == configs[1] == configs[2]


def test_no_way_has_fewer_batches_than_it_is_given(plan):
    loaded = load_data(plan.first_cell.config)
    found = []
    for way in WAYS:
        config = {**plan.first_cell.config, "split": {**plan.first_cell.config["split"], "way": way}}
        table = split_data(config, loaded).table
        rows = table[table["split"] == "train"].reset_index(drop=True)
        batches = TrainingBatches(instantiate(config["sampler"], "sampler"), rows, 8, 0, (0, 1), lambda: (0, 0))
        found.append(len(batches))
    assert plan.first_cell.config["trainer"]["limit_train_batches"] == min(found)
    assert found[2] > 2 * min(found)  # resampling makes more rows: without a limit its budget would be larger


def test_a_smaller_budget_can_be_asked_for(plan, project):
    whole = plan.first_cell.config["trainer"]["limit_train_batches"]
    assert whole > 3
    for asked, expected in (("1", 1), ("0.5", whole // 2)):
        smaller = plan_meter([*FEW, "loader.batch_size=8", f"trainer.limit_train_batches={asked}"], root=project)
        assert smaller.first_cell.config["trainer"]["limit_train_batches"] == expected


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("split=grouped", "trains with split.way="),
        ("split.way=by_image", "all three"),
        ("test=false", "test part of every training"),
        ("search=random", "always has the same"),
        ("trainer.early_stopping.patience=3", "equal numbers of steps"),
        ("trainer.find_batch_size=true", "equal numbers of steps"),
        ("seed=1,2", "several"),
    ],
)
def test_what_would_spoil_the_comparison_is_refused(project, override, said):
    with pytest.raises(ConfigError, match=said):
        plan_meter([*FEW, override], root=project)


def test_the_same_command_finds_the_meter_that_it_began(plan, project, tmp_path):
    assert same_meter(tmp_path, plan) is None
    sweep = create_sweep(tmp_path, plan.facts, plan.cells, [])
    assert same_meter(tmp_path, plan) == sweep
    assert find_meter(tmp_path, "latest") == sweep
    elsewhere = replace(plan.facts, launcher={**plan.facts.launcher, "_target_": "another.Launcher"})
    assert same_meter(tmp_path, replace(plan, facts=elsewhere)) is None
    other = plan_sweep([*FEW, "split=held_out", "split.way=by_image,grouped", "split.allow_leakage=true"], root=project)
    create_sweep(tmp_path, replace(other.facts, sweep_id="3000"), other.cells, [])
    assert same_meter(tmp_path, plan) == sweep
    with pytest.raises(ConfigError, match=r"expected a leak meter, got .*, a sweep of split.way"):
        find_meter(tmp_path, "latest")
