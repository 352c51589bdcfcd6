import io
import os
import shutil
import socket
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.config.instantiate import instantiate
from lesion_exp.data.metadata import MetadataEncoder
from lesion_exp.evaluation.calibrator import Calibrator, TemperatureScaling
from lesion_exp.evaluation.conformal import ConformalSets
from lesion_exp.model.checkpoint_file import read_checkpoint, weights_hash
from lesion_exp.model.classifier import make_classifier
from lesion_exp.model.network import make_network
from lesion_exp.model.predictor import Predictor
from lesion_exp.model.restore import restore
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.store import open_store
from lesion_exp.verbs.serve.application import make_application
from lesion_exp.verbs.serve.examples import draw_examples
from lesion_exp.verbs.serve.monitoring import Monitoring
from lesion_exp.verbs.serve.prediction import Prediction
from lesion_exp.verbs.serve.served_model import ServedModel
from lesion_exp.verbs.serve.settings import Settings
from tests.tiny import TINY
from tests.verbs.report.conftest import CLASSES, put_data, put_evaluation

TEMPERATURE = 0.25
CARD = {"classes": [{"code": name} for name in CLASSES], "metadata": None}


def frozen(root, *overrides):
    return freeze(compose([*TINY, "backbone=small_cnn", *overrides], root=root))


def put_checkpoint(path, config, encoder=None):
    """Weights that nobody trained."""
    torch.manual_seed(0)
    card = {"classes": list(CLASSES), "metadata": encoder.to_dict() if encoder else None}
    network = make_network(config, len(CLASSES), encoder)
    pipeline = instantiate(config["augmentation"], "augmentation")
    classifier = make_classifier(config, network, pipeline, card, [1] * len(CLASSES))
    with torch.no_grad():
        classifier.backbone.head.weight.mul_(20)  # else all classes are equally likely
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": classifier.state_dict(), "lesion_exp": card}, path)


@pytest.fixture(scope="session")
def predictor_of(tmp_path_factory):
    """The predictor of an untrained network."""

    def make(*overrides, encoder=None):
        folder = tmp_path_factory.mktemp("untrained")
        config = frozen(folder, *overrides).config
        put_checkpoint(folder / "a.ckpt", config, encoder)
        return Predictor(restore(config, folder / "a.ckpt"))

    return make


@pytest.fixture(scope="session")
def model(predictor_of):
    return served(predictor_of())


@pytest.fixture(scope="session")
def model_with_metadata(predictor_of):
    encoder = MetadataEncoder(("female", "male"), ("back", "face"))
    return served(predictor_of("backbone.metadata=concat", encoder=encoder))


def served(predictor):
    calibrator = Calibrator(TemperatureScaling(TEMPERATURE), CLASSES, 90, 45)
    return ServedModel(predictor, calibrator, ConformalSets("aps", 0.1, 0.5, CLASSES, 45))


@pytest.fixture(scope="session")
def examples():
    return draw_examples()


@contextmanager
def serving(model, examples, **settings):
    """A client of an application with these settings."""
    chosen, monitoring = Settings(**settings), Monitoring("r")
    prediction = Prediction(model, "r", chosen, monitoring, num_decoders=2)
    app = make_application(prediction, CARD, examples, chosen, monitoring)
    with TestClient(app, "http://localhost:8000", raise_server_exceptions=False) as client:
        client.prediction = prediction
        yield client


@pytest.fixture(scope="module")
def client(model, examples):
    with serving(model, examples) as made:
        yield made


def picture(kind="png", size=(80, 60), mode="RGB", seed=0, **options):
    """An encoded picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def files(*contents):
    return [("file", (f"{number}.png", content, "image/png")) for number, content in enumerate(contents)]


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """A project whose store has one run that was never trained, with all that a finished one keeps; and its id."""
    root = tmp_path_factory.mktemp("served") / "project"
    store = open_store(f"sqlite:///{root}/mlruns/mlflow.db", root)
    run_id = store.client.create_run(
        store.experiment_id("study"), run_name="a run", tags={"job_hash": "abc"}
    ).info.run_id
    run = find_run(store, run_id)
    folder = store.artifact_dir(run.artifact_uri)
    job = frozen(root)
    job.write(folder / "config" / "job.yaml")
    put_evaluation(folder)
    put_data(folder)
    best = folder / "checkpoints" / "best.ckpt"
    put_checkpoint(best, job.config)
    store.client.set_tag(run_id, "weights_hash", weights_hash(best))
    store.client.set_terminated(run_id, "FINISHED")
    yield root, find_run(store, run_id)
    shutil.rmtree(root)


@pytest.fixture
def file_of(project, tmp_path):
    """A checkpoint of the run outside its artifacts, with its best weights or changed ones."""
    _, run = project

    def make(*, changed):
        content = read_checkpoint(run.fetch("checkpoints/best.ckpt"))
        content["lesion_exp"]["run_id"] = run.run_id
        content["state_dict"]["backbone.head.weight"].add_(0.01 * changed)
        torch.save(content, tmp_path / "epoch3.ckpt")
        return tmp_path / "epoch3.ckpt"

    return make


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


CHROMIUM = os.environ.get("LESION_EXP_CHROMIUM", "/usr/bin/chromium")
