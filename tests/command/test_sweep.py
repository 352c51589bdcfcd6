from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import lesion_exp
from lesion_exp.cli import main
from lesion_exp.command.arguments import Arguments
from lesion_exp.command.sweep import launcher_node
from lesion_exp.config.compose import compose
from lesion_exp.errors import ConfigError

SLURM = yaml.safe_load((Path(__file__).parents[2] / "conf" / "launcher" / "slurm.yaml").read_text("utf-8"))
RAY = yaml.safe_load((Path(__file__).parents[2] / "conf" / "launcher" / "ray.yaml").read_text("utf-8"))


def test_a_sweep_goes_on_with_new_settings_of_its_launcher():
    words = ["launcher.minutes=500", "launcher.memory_gb=12.5", "launcher.setup=[module load cuda]"]
    given = Arguments([*words, "launcher.poll_seconds=1.5", "launcher.fail_fast=true"]).take_below("launcher")
    changed = launcher_node(SLURM, given)
    assert changed == {
        **SLURM, "minutes": 500, "memory_gb": 12.5, "poll_seconds": 1.5,
        "setup": ["module load cuda"], "fail_fast": True,
    }  # fmt: skip
    assert launcher_node(SLURM, {"launcher.poll_seconds": "1.5e1"})["poll_seconds"] == 15.0
    assert launcher_node(SLURM, {}) == SLURM


def test_a_setting_may_have_each_value_that_a_new_sweep_may_give_it():
    words = ["launcher.gpus_per_job=0.5", "launcher.cpus_per_job=2", "launcher.memory_gb=null"]
    given = Arguments([*words, "+launcher.resources.a100=1"]).take_below("launcher")
    changed = launcher_node({**RAY, "gpus_per_job": 1, "memory_gb": 8}, given)
    assert changed == {**RAY, "gpus_per_job": 0.5, "cpus_per_job": 2, "memory_gb": None, "resources": {"a100": 1}}
    begun = {**SLURM, "partition": "gpu", "sbatch": {"account": "lab", "qos": "low"}}
    for plus in ("", "+", "++"):
        given = Arguments(["launcher.partition=null", f"{plus}launcher.sbatch.account=lab2"]).take_below("launcher")
        changed = launcher_node(begun, given)
        assert changed == {**begun, "partition": None, "sbatch": {"account": "lab2", "qos": "low"}}
    with pytest.raises(ConfigError, match=r"expected launcher\.sbatch\.qos= once"):
        Arguments(["launcher.sbatch.qos=a", "+launcher.sbatch.qos=b"]).take_below("launcher")


@pytest.mark.parametrize("text", ["16:00", "0123", "on", "@night", "%x", "*gpu", "'a,b: c'", "1_000", "2", "true"])
def test_a_setting_means_the_same_as_in_a_new_sweep(text):
    changed = launcher_node(SLURM, {"launcher.sbatch.comment": text})["sbatch"]
    begun = compose(["launcher=slurm", f"+launcher.sbatch.comment={text}"], root=Path("/project"))
    assert changed == begun.launcher["sbatch"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b", r"one value for launcher\.sbatch\.comment, got several \(a,b\); quote a text that contains commas"),
        ("a(b", "expected overrides in Hydra's grammar, got launcher.sbatch.comment=a"),
    ],
)
def test_a_setting_that_is_no_value_of_an_override_is_refused(text, words):
    with pytest.raises(ConfigError, match=words):
        launcher_node(SLURM, {"launcher.sbatch.comment": text})


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
        ("launcher.minutes=two", "launcher.minutes to be a whole number"),
        ("launcher.minutes=2.5", "launcher.minutes to be a whole number"),
        ("launcher.minutes=true", "launcher.minutes to be a whole number"),
        ("launcher.minutes=", "launcher.minutes to be a whole number"),
        ("launcher.memory_gb=16G", "to be a number or null, got '16G'; for example launcher.memory_gb=1.5"),
        ("launcher.setup=module", "to be a list"),
        ("launcher.sbatch=account", "to be keys with values"),
        ("launcher.minutes.account=lab", "got launcher.minutes.account"),
        ("launcher.fail_fast=1", "to be true or false, got 1; for example launcher.fail_fast=true"),
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
        first_cell=SimpleNamespace(config={"dataset": {}}, project=project), facts=SimpleNamespace(launcher={}),
        cells=(), tried=(), check=lambda: None,
    )  # fmt: skip
    launcher = SimpleNamespace(warm_up=lambda: None, close=lambda: None)
    summary, evaluated = SimpleNamespace(sweep="the sweep"), []
    for place, stub in {
        "sweeps.plan.plan_sweep": lambda *_, **__: plan, "config.places.check_places": lambda config: None,
        "sweeps.plan.runs_here": lambda node: False,
        "command.sweep.announce": lambda *_: None, "sweeps.launcher.launcher.make_launcher": lambda node: launcher,
        "sweeps.ledger.create_sweep": lambda *_: "the sweep", "command.sweep.drive_to_end": lambda *_: summary,
        "command.sweep._read_meter": lambda *_: None,
        "command.sweep._join_folds": lambda *given: evaluated.append(given),
    }.items():  # fmt: skip
        monkeypatch.setattr(f"lesion_exp.{place}", stub)
    assert lesion_exp.sweep("split.fold=0,1").summary is summary
    assert evaluated == [(summary, "the store")]


@pytest.fixture
def listed(monkeypatch, tmp_path, own_process, capsys):
    """Gives the command `train -m --cfg job` in an empty folder; returns its code and what it says."""
    monkeypatch.chdir(tmp_path)

    def command(*words):
        code = main(["train", "-m", "--cfg", "job", "dataset=synthetic", *words])
        said = capsys.readouterr()
        assert list(tmp_path.iterdir()) == [], "nothing is written"
        return code, said.out, said.err

    return command


def test_the_cells_of_a_sweep_are_listed_and_one_of_them_is_shown(listed):
    keys = ("loss=focal,cross_entropy", "seed=1,2")
    code, out, err = listed(*keys)
    assert code == 0
    assert out.splitlines() == [
        "cell 0: loss=focal seed=1",
        "cell 1: loss=focal seed=2",
        "cell 2: loss=cross_entropy seed=1",
        "cell 3: loss=cross_entropy seed=2",
    ]
    assert err == "4 cells of a sweep over loss, seed; add cell=0 to print the config of cell 0\n"
    for number, loss, seed in ((0, "Focal", 1), (3, "CrossEntropy", 2)):
        code, out, _ = listed(*keys, f"cell={number}")
        config = yaml.safe_load(out)
        assert (code, config["loss"]["_target_"].rpartition(".")[2], config["seed"]) == (0, loss, seed)
    code, out, err = listed(*keys, "cell=4")
    assert (code, out) == (2, "")
    assert "expected cell= to be from 0 to 3, got 4" in err


def test_of_a_search_the_values_are_listed_from_which_it_chooses(listed):
    pytest.importorskip("optuna")
    search = ("search=optuna", "search.num_cells=7", "loss=focal,cross_entropy")
    code, out, err = listed(*search, "optimizer.lr=tag(log,interval(1e-4,1e-1))")
    assert code == 0
    assert out.splitlines() == [
        "loss: focal, cross_entropy", "optimizer.lr: numbers from 0.0001 to 0.1, logarithmically",
    ]  # fmt: skip
    assert "chooses its cells, 7 at most, one after another" in err
    _, out, _ = listed(*search, "optimizer.lr=tag(log,interval(1e-4,1e-1))", "cell=0")
    assert yaml.safe_load(out)["optimizer"]["lr"] == 1e-4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "seed=1,2", "cell=1"], "expected --cfg job beside cell=1"),
        (["cell=1", "--cfg", "job"], "expected -m beside cell=1"),
    ],
)
def test_a_cell_is_shown_only_of_a_sweep_that_is_listed(monkeypatch, tmp_path, own_process, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "dataset=synthetic", *words]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["launcher.fail_fast=no"], "launcher.fail_fast to be true or false, got 'no'; for example"),
        (["launcher.workers=two"], "launcher.workers to be a whole number, got 'two'; for example launcher.workers=1"),
        (["launcher.workers=null"], "launcher.workers to be a whole number, got None"),
        (["launcher.workers=1.5"], "launcher.workers to be a whole number, got 1.5"),
        (["launcher.gpus_per_job=0.5"], "launcher.gpus_per_job to be a whole number, got 0.5"),
        (["search=random", "search.num_cells=ten"], "search.num_cells to be a whole number, got 'ten'"),
        (["search=random", "search.num_cells=2.5"], "search.num_cells to be a whole number, got 2.5"),
        (["search.metric=7"], "search.metric to be text or a list, got 7; correct the value"),
    ],
)
def test_values_that_a_launcher_or_a_search_cannot_take_are_refused_before_a_sweep_begins(
    monkeypatch, tmp_path, own_process, capsys, words, said
):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "-m", "dataset=synthetic", "seed=1,2", *words]) == 2
    assert f"expected {said}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
