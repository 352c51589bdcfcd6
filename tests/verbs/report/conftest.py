import json
import shutil
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Metric
from PIL import Image

from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.evaluation.evaluation_result import EvaluationOptions, evaluate_table
from lesion_exp.evaluation.posthoc import fit_on_validation
from lesion_exp.evaluation.predictions import predictions_table
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.store import open_store
from lesion_exp.training.part_evaluation import log_evaluation, log_posthoc_models

CLASSES = ("bkl", "mel", "nv")
DRAWS = 30


def predicted(seed, size=180):
    """Predictions of a fair network on `size` images, two of each lesion."""
    rng = np.random.default_rng(seed)
    true = rng.choice(3, size, p=[0.3, 0.2, 0.5])
    logits = rng.normal(size=(size, 3)) + 1.5 * np.eye(3)[true]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = [f"img{seed}_{place}" for place in range(size)]
    rows = {
        "image_id": names,
        "row_id": names,
        "lesion_id": [f"les{place // 2}" for place in range(size)],
        "patient_id": None,
        "label": [CLASSES[place] for place in true],
        "age": rng.choice([25.0, 50.0, 70.0], size),
        "sex": rng.choice(["female", "male"], size),
        "site": "back",
        "source": "generated",
    }
    return predictions_table(pd.DataFrame(rows), probs, CLASSES)


class Outline(HTMLParser):
    """What the tests look at in a page."""

    def __init__(self, text):
        super().__init__()
        self.headings, self.ids, self.links, self.images, self.outside, self.heads = [], [], [], [], [], []
        self.words, self._skipped = [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if tag == "a" else []
        self.images += [(found["src"], found.get("alt"))] if tag == "img" else []
        self.heads += [found.get("scope")] if tag == "th" else []
        self.outside += [tag] if tag in ("script", "link", "iframe", "object", "embed") else []
        self._skipped += tag == "style"

    def handle_endtag(self, tag):
        self._skipped -= tag == "style"

    def handle_data(self, data):
        if not self._skipped:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="session")
def outline():
    """Takes a page apart."""
    return Outline


@pytest.fixture(scope="session")
def shared_store(empty_root, tmp_path_factory):
    """A store for tests that look at nothing but runs of their own."""
    return open_store(None, shutil.copytree(empty_root, tmp_path_factory.mktemp("shared") / "project"))


@pytest.fixture
def bare_run(store):
    """Makes a run that keeps nothing; `tags` are its own."""

    def make(name="a run", status="FINISHED", metrics=(), **tags):
        run_id = store.client.create_run(store.experiment_id("study"), tags=tags, run_name=name).info.run_id
        if metrics:
            store.client.log_batch(run_id, metrics=[Metric(key, value, 1, step) for key, value, step in metrics])
        store.client.set_terminated(run_id, status)
        return find_run(store, run_id)

    return make


def history():
    """Five epochs of ten steps; the fourth is the best."""
    found = []
    for epoch, score in enumerate([0.3, 0.4, 0.5, 0.7, 0.6]):
        step = 10 * epoch + 9
        found += [("train/loss", 2.0 - 0.3 * epoch, step), ("val/loss", 2.1 - 0.2 * epoch, step)]
        found += [("val/balanced_accuracy", score, step), ("train/lr", 0.01 / (epoch + 1), 10 * epoch)]
    return found


@pytest.fixture(scope="session")
def kept_files(tmp_path_factory):
    """What a run on validation and test keeps, without training: a folder of its artifacts."""
    folder = tmp_path_factory.mktemp("kept")
    job = freeze(compose(["dataset=synthetic", "backbone=small_cnn", "dataset.root=/secret/place"], root=folder))
    job.write(folder / "config" / "job.yaml")
    put_evaluation(folder)
    put_data(folder)
    return folder


class Folder(RunWriter):
    """Keeps what is logged below a folder."""

    def __init__(self, folder):
        self.folder = folder

    def _put_file(self, path, artifact_path):
        (self.folder / artifact_path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, self.folder / artifact_path)

    def log_figure(self, figure, artifact_path, about):
        """Not drawn: the page makes its own."""


def put_evaluation(folder):
    val, test = predicted(1), predicted(2)
    fitted = fit_on_validation(val)
    options = EvaluationOptions(DRAWS, calibration="temperature")
    log_evaluation(Folder(folder), "val", evaluate_table(val, None, options))
    log_evaluation(Folder(folder), "test", evaluate_table(test, fitted, options))
    log_posthoc_models(Folder(folder), fitted)
    (folder / "dataset").mkdir()
    Image.new("RGB", (2000, 400), "brown").save(folder / "dataset" / "batch.png")


def put_data(folder):
    counts = {"bkl": 60, "mel": 30, "nv": 90}
    part = {"images": 180, "lesions": 90, "patients": 0, "groups": 90, "counts": counts}
    crossings = {kind: {"count": 0, "cases": []} for kind in ("lesions", "identical_images")}
    audit = {
        "passed": True,
        "parts": dict.fromkeys(("train", "val", "test"), part),
        "crossings": crossings,
        "warnings": [],
    }
    steps = [{"step": "read", "images": 600, "lesions": 300, "patients": 0}, {"step": "filter: age > 20", "images": 540,
              "lesions": 270, "patients": 0}]  # fmt: skip
    identity = {"title": "Generated set", "citation": "Nobody 2020", "licence": "MIT", "where": "nowhere"}
    left_out = [{"image_id": "img7", "reason": "/secret/place/img7.jpg cannot be decoded"}]
    flow = {"identity": identity, "steps": steps, "left_out": left_out, "differs_from_published": {"nv": [90, 91]}}
    of_part = {"images": 180, "age": {"median": 50.0, "lower": 40.0, "upper": 60.0, "unknown": 3},
               "sex": {"female": 100, "male": 80}, "site": {"back": 180}, "source": {"generated": 180}}  # fmt: skip
    for name, content in (
        ("split/audit.json", audit),
        ("dataset/flow.json", flow),
        ("dataset/characteristics.json", dict.fromkeys(("train", "val", "test"), of_part)),
        ("environment/python.json", {"python": "3.11.7", "platform": "Linux", "torch_num_threads": 2}),
        ("environment/hardware.json", {"cpu": "a cpu", "usable_cores": 2, "memory_gib": 4, "gpus": []}),
    ):
        Folder(folder).log_json(content, name)
    Folder(folder).log_text("numpy==2.4.0\ntorch==2.15.0\n", "environment/packages.txt")


@pytest.fixture
def full_run(bare_run, kept_files):
    """Makes a run that keeps all a page asks for; `change` may edit the folder of its artifacts first."""

    def make(change=None, **options):
        tags = {"kind": "train", "dataset": "synthetic", "backbone": "small_cnn", "sampler": "shuffle",
                "loss": "cross_entropy", "leaky": "false", "test_readings": "3", "job_hash": "j0b"}  # fmt: skip
        run = bare_run(**{"metrics": history(), **tags, **options})
        with tempfile.TemporaryDirectory() as name:
            folder = shutil.copytree(kept_files, Path(name) / "kept")
            if change:
                change(folder)
            for path in folder.rglob("*.*"):
                run.store.put_artifact(run.run_id, run.artifact_uri, path, path.relative_to(folder).as_posix())
        return run

    return make


@pytest.fixture
def own_process(own_process, root, monkeypatch):
    """Runs commands in the project, too."""
    monkeypatch.chdir(root)


@pytest.fixture
def edited():
    """Writes JSON into the folder of a run's artifacts, in place of what is there."""

    def change(name, content):
        return lambda folder: (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))

    return change
