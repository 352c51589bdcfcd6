"""A name such as `latest` means one run in all cells of a sweep, also in cells that are made after others ended."""

import pytest

from lesion_exp.config.compose import config_folders
from lesion_exp.sweeps.adaptive import SearchSession
from lesion_exp.sweeps.ledger import create_sweep, read_sweep
from lesion_exp.sweeps.plan import CellMaker, plan_sweep
from tests.sweeps.conftest import TINY
from tests.untrained_run import untrained_run

SEARCH = ("search=optuna", "search.num_cells=3")


@pytest.fixture
def train_another(root):
    """Makes a finished run, which is the latest of the project from then on, and returns its id."""

    def make():
        run, _ = untrained_run(root)
        run.store.client.set_tag(run.run_id, "weights_hash", run.run_id[:16])
        return run.run_id

    return make


def named(job):
    """The teacher that a job names, in its config and its overrides, and the run of its initial weights likewise."""
    texts = dict(text.split("=", 1) for text in job.overrides if text.startswith(("loss.teacher", "backbone.weights")))
    return {
        job.config["loss"]["teacher"],
        job.config["backbone"]["weights_run"],
        *(text.removeprefix("run:") for text in texts.values()),
    }


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (("loss.teacher=latest", "backbone.weights=run:latest", "optimizer.lr=0.1,0.01"), "the same in all cells"),
        (("loss.teacher=latest,LATEST", "backbone.weights=run:latest,'run:LATEST'"), "values to try"),
        (("backbone=mine", "loss=mine", "optimizer.lr=0.1,0.01"), "files of the user"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_all_cells_name_the_run_that_the_name_meant_at_first(root, train_another, monkeypatch, words, where):
    first = train_another()
    words = [word.replace("LATEST", first[:8]) for word in words]
    own = root / "own"
    for option in ("backbone/mine", "loss/mine"):
        (own / option).parent.mkdir(parents=True)
    (own / "backbone/mine.yaml").write_text("defaults: [small_cnn, _self_]\nweights: run:latest\n")
    (own / "loss/mine.yaml").write_text("defaults: [distill, _self_]\nteacher: latest\n")
    later, real = [], CellMaker.freeze

    def freeze(maker, suggestion):
        job = real(maker, suggestion)
        later.extend([] if later else [train_another()])  # another run ends while the sweep is planned
        return job

    monkeypatch.setattr(CellMaker, "freeze", freeze)
    chosen = words if where == "files of the user" else ["backbone=small_cnn", "loss=distill", *words]
    plan = plan_sweep([*TINY, *chosen, *SEARCH], root=root, config_dirs=[own])
    sweep = create_sweep(root / "sweeps", plan.facts, plan.cells, config_folders([own]))
    added = SearchSession.of(read_sweep(sweep.folder)).next_cell().job()
    assert later
    assert len(plan.tried) > 1
    assert all(named(job) == {first} for job in [added, *(job for job, _ in plan.tried)])
