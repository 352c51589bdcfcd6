import math
import shutil

import pytest
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric

from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.store import open_store
from lesion_exp.verbs.bundle.export import export_runs

POINTS = [
    ("val/accuracy", 0.1 + 0.2, 0),
    ("val/accuracy", 0.5, 1),
    ("val/auroc/mel", math.nan, 1),
    ("train/loss", -0.0, 1),
]


@pytest.fixture
def stores(empty_root, tmp_path):
    """Two empty stores."""
    return [open_store(None, shutil.copytree(empty_root, tmp_path / name)) for name in ("a", "b")]


@pytest.fixture(scope="session")
def make_run():
    """Makes runs without training."""

    def make(store, name="a run", status="FINISHED", **tags):
        """A run with metrics (two of them odd), parameters, an input and two artifacts."""
        client = store.client
        run_id = client.create_run(store.experiment_id("study"), start_time=1_000, tags=tags, run_name=name).info.run_id
        metrics = [Metric(key, value, 2_000 + step, step) for key, value, step in POINTS]
        client.log_batch(run_id, metrics=metrics, synchronous=True)
        client.log_param(run_id, "optimizer.lr", "0.003")
        data = Dataset("ham train", "abc", "local", "{}", schema="{}", profile='{"num_rows": 3}')
        client.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])
        for path, content in (("config/job.yaml", b"format: 1\n"), ("checkpoints/best.ckpt", bytes(range(256)) * 50)):
            source = store.root / "source"
            source.write_bytes(content)
            store.put_artifact(run_id, client.get_run(run_id).info.artifact_uri, source, path)
        if status != "RUNNING":
            client.set_terminated(run_id, status, end_time=9_000)
        return find_run(store, run_id)

    return make


@pytest.fixture(scope="session")
def whole_bundle(empty_root, make_run, tmp_path_factory):
    """The bytes of a bundle of one run, and the run's id."""
    folder = tmp_path_factory.mktemp("bundle")
    run = make_run(open_store(None, shutil.copytree(empty_root, folder / "store")))
    export_runs([run], folder / "run.zip")
    return (folder / "run.zip").read_bytes(), run.run_id
