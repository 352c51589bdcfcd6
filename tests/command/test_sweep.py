from types import SimpleNamespace

import pytest

import lesion_exp
from lesion_exp.command.arguments import Arguments
from lesion_exp.command.sweep import launcher_node
from lesion_exp.errors import ConfigError

SLURM = {
    "_target_": "some.Launcher",
    "minutes": 240,
    "memory_gb": None,
    "poll_seconds": 15.0,
    "setup": [],
    "fail_fast": False,
}


def test_a_sweep_goes_on_with_new_settings_of_its_launcher():
    words = ["launcher.minutes=500", "launcher.memory_gb=12.5", "launcher.setup=[module load cuda]"]
    given = Arguments([*words, "launcher.poll_seconds=3", "launcher.fail_fast=true"]).take_below("launcher")
    changed = launcher_node(SLURM, given)
    assert changed == {
        "_target_": "some.Launcher", "minutes": 500, "memory_gb": 12.5, "poll_seconds": 3,
        "setup": ["module load cuda"], "fail_fast": True,
    }  # fmt: skip
    assert launcher_node(SLURM, {"launcher.poll_seconds": "1.5e1"})["poll_seconds"] == 15.0
    assert launcher_node(SLURM, {}) == SLURM


@pytest.mark.parametrize("name", ["007", "no", "1e5", "1.10"])
def test_the_name_of_a_partition_stays_as_it_was_written(name):
    for before in (None, "gpu"):
        assert launcher_node({**SLURM, "partition": before}, {"launcher.partition": name})["partition"] == name


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("launcher.workers=2", "launcher.minutes"),
        ("launcher.minuts=2", "did you mean 'minutes'"),
        ("launcher._target_=os.system", "cannot be changed"),
        ("launcher.minutes=two", "a value like 240"),
        ("launcher.minutes=2.5", "a value like 240"),
        ("launcher.minutes=true", "a value like 240"),
        ("launcher.minutes=", "a value like 240"),
        ("launcher.fail_fast=1", "a value like False"),
    ],
)
def test_a_setting_that_the_launcher_does_not_have_is_refused(override, words):
    with pytest.raises(ConfigError, match=words):
        launcher_node(SLURM, dict([override.split("=")]))


def test_folds_of_a_sweep_from_python_are_evaluated_as_one_like_those_of_the_command(
    monkeypatch, tmp_path, own_process
):
    project = SimpleNamespace(store="the store", sweeps=tmp_path)
    plan = SimpleNamespace(
        first_cell=SimpleNamespace(config={}, project=project), facts=SimpleNamespace(launcher={}), cells=(),
        check=lambda: None,
    )  # fmt: skip
    launcher = SimpleNamespace(warm_up=lambda: None)
    summary, evaluated = SimpleNamespace(sweep="the sweep"), []
    for place, stub in {
        "sweeps.plan.plan_sweep": lambda *_, **__: plan, "config.places.check_places": lambda config: None,
        "command.sweep.announce": lambda *_: None, "sweeps.driver.make_launcher": lambda node: launcher,
        "sweeps.ledger.create_sweep": lambda *_: "the sweep", "command.sweep.drive_to_end": lambda *_: summary,
        "command.sweep._read_meter": lambda *_: None,
        "command.sweep._join_folds": lambda *given: evaluated.append(given),
    }.items():  # fmt: skip
        monkeypatch.setattr(f"lesion_exp.{place}", stub)
    assert lesion_exp.sweep("split.fold=0,1").summary is summary
    assert evaluated == [(summary, "the store")]
