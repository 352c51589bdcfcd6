"""The searches as sweepers of an application of Hydra's own, which knows nothing of this project."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze

APP = """
import hydra


@hydra.main(version_base=None, config_path=".", config_name="config")
def main(config):
    print("cell", config.rate, config.size, config.word)
    if config.word == "bad":
        raise RuntimeError("no luck")
    return config.rate * config.size


if __name__ == "__main__":
    main()
"""
CONFIG = """
defaults:
  - override hydra/sweeper: lesion_exp_{kind}
  - _self_
rate: 0.0
size: 0
word: ""
hydra:
  sweep: {{dir: out}}
  sweeper: {{direction: maximize, space: {{size: [1, 2]}}}}
"""
CASES = {
    "grid": (4, "rate=0.5,0.6"),
    "random": (3, "rate=interval(0.5,1)", "hydra.sweeper.num_cells=3"),
    "optuna": (4, "rate=interval(0.5,1)", "hydra.sweeper.num_cells=4", "hydra.sweeper.startup_cells=2"),
}


def run(folder, kind, *more):
    (folder / "app.py").write_text(APP)
    (folder / "config.yaml").write_text(CONFIG.format(kind=kind))
    command = [sys.executable, "app.py", "-m", "word=good", *CASES[kind][1:], *more]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done, [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("cell ")]


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(CASES))
def test_it_sweeps_an_application_of_hydras_own(tmp_path, kind):
    done, cells = run(tmp_path, kind)
    assert done.returncode == 0, done.stderr
    assert len(cells) == CASES[kind][0], done.stderr
    assert len({tuple(cell) for cell in cells}) == len(cells)
    assert all(0.5 <= float(rate) <= 1 and size in "12" and word == "good" for rate, size, word in cells)
    written = [(tmp_path / "out" / str(number) / ".hydra" / "config.yaml").read_text() for number in range(len(cells))]
    assert all(f"rate: {cell[0]}\n" in text for cell, text in zip(cells, written, strict=True))


JOBS = """
import hydra
from hydra.core.hydra_config import HydraConfig
from pathlib import Path

from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.config.shipped_conf import conf_dir


@hydra.main(version_base=None, config_path=str(conf_dir()), config_name="config")
def main(config):
    job = freeze(compose(HydraConfig.get().overrides.task, root=Path.cwd()))
    print("cell", job.config["seed"], job.job_hash)


if __name__ == "__main__":
    main()
"""
JOB = ("backbone=small_cnn", "loss=focal", "metrics=agreement", "~metrics.mcc", "test=false")


def test_a_job_is_a_task_of_an_application_of_hydras_own(tmp_path):
    """As CONTRIBUTING shows it, with the job's hash in place of the training."""
    (tmp_path / "app.py").write_text(JOBS)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "app.py", "-m", *JOB, "seed=1,2", "hydra/launcher=basic"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cells = {line.split()[1]: line.split()[2] for line in done.stdout.splitlines() if line.startswith("cell ")}
    own = {str(seed): freeze(compose([*JOB, f"seed={seed}"], root=tmp_path)).job_hash for seed in (1, 2)}
    assert cells == own


@pytest.mark.slow
def test_a_task_that_fails_ends_the_sweep_and_the_study_goes_on(tmp_path):
    done, cells = run(tmp_path, "optuna", "word=bad")
    assert (done.returncode, len(cells)) == (1, 1)
    assert "no luck" in done.stderr
    done, cells = run(tmp_path, "optuna", "word=good")
    assert (done.returncode, len(cells)) == (0, 3), done.stderr
    done, cells = run(tmp_path, "optuna")
    assert (done.returncode, cells) == (0, []), done.stderr
