import json
import logging
import signal
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import lesion_exp
from lesion_exp.cli import main
from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.data.store import open_or_build
from lesion_exp.data.store_builder import StoreRequest
from lesion_exp.errors import ConfigError
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.stored_run import artifact_names
from lesion_exp.trained_runs.trained_run import trained_run
from lesion_exp.training.build import build
from lesion_exp.training.data import load_data, split_data
from lesion_exp.training.tracked import start_run
from lesion_exp.verbs.shortcuts.check import _Changed, _drawn, check_shortcuts
from lesion_exp.verbs.shortcuts.perturbations import CONTROL, INSERTIONS, PAINTED
from lesion_exp.verbs.shortcuts.shortcut_report import MAJORITY, NETWORK, SHALLOW
from tests.tiny import TINY


def untrained(job):
    """A finished run of the job with the network that it begins with: the store, the run and its split."""
    store = job.project.store
    split = split_data(job.config, load_data(job.config))
    network = build(job.config, split).classifier
    with start_run(store, job, split, kind="train") as run:
        with run.new_file("checkpoints/best.ckpt") as path:
            torch.save({"state_dict": network.state_dict(), "lesion_exp": dict(network.options.card)}, path)
        run.finish("FINISHED")
    return store, run.run_id, split


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project with a run whose network was never trained: what is checked does not depend on its skill."""
    root = tmp_path_factory.mktemp("checked")
    store, run_id, split = untrained(freeze(compose(TINY, root=root)))
    return root, store, run_id, int((split.table["split"] == "test").sum())


@pytest.fixture
def command(monkeypatch, finished):
    """Calls the verb in the project, and undoes what a command sets for its process."""
    root, _, run_id, _ = finished
    monkeypatch.chdir(root)
    top, own = logging.getLogger(), logging.getLogger("lesion_exp")
    handlers, levels, handler = list(top.handlers), (top.level, own.level), signal.getsignal(signal.SIGTERM)
    with warnings.catch_warnings():
        yield lambda *words: main(
            ["shortcuts", f"run={run_id}", f"paths.root={root}", "evaluation.bootstrap_draws=100", *words]
        )
    logging.captureWarnings(False)
    top.handlers = handlers
    top.setLevel(levels[0])
    own.setLevel(levels[1])
    signal.signal(signal.SIGTERM, handler)


def test_a_run_is_checked_and_keeps_what_was_found(command, finished, capsys):
    _, store, run_id, size = finished
    assert command("--json") == 0
    body = json.loads(capsys.readouterr().out)
    assert body["images"] == size
    assert set(body["scores"]) == {NETWORK, MAJORITY, *SHALLOW}
    assert list(body["changes"]) == [CONTROL, *INSERTIONS, PAINTED]
    assert [verdict["check"] for verdict in body["verdicts"]] == [*SHALLOW, PAINTED, *INSERTIONS]
    run = find_run(store, run_id)
    names = {f"shortcuts/{name}" for name in ("report.json", "report.txt", "flips.png", "examples.png")}
    assert names <= artifact_names(run)
    assert run.metrics["shortcuts/ruler/flip_rate"] == pytest.approx(body["changes"]["ruler"]["flip_rate"]["value"])
    assert run.tags["shortcuts"] == body["level"]
    assert run.status == "FINISHED"


def test_fewer_images_of_the_validation_part_can_be_checked(command, finished, capsys):
    _, store, run_id, _ = finished
    assert command("split.part=val", "images=6") == 0
    shown = capsys.readouterr().out
    assert "validation part" in shown
    body = json.loads((open_artifact(store, run_id, "shortcuts/val/report.json")).read_text())
    assert 1 <= body["images"] <= 6


def test_all_models_are_scored_on_the_images_that_were_drawn(command, finished, capsys):
    _, _, run_id, size = finished
    trained = lesion_exp.open_run(run_id)
    table = trained.data().table
    drawn = _drawn(table[table["split"] == "test"], 12, int(trained.evaluation["bootstrap_seed"]))
    assert len(drawn) < size
    majority = table.loc[table["split"] == "train", "label"].value_counts().index[0]
    assert command("images=12", "--json") == 0
    body = json.loads(capsys.readouterr().out)
    assert body["images"] == len(drawn)
    assert body["scores"][MAJORITY]["accuracy"]["value"] == pytest.approx((drawn["label"] == majority).mean())


def open_artifact(store, run_id, path):
    run = find_run(store, run_id)
    return store.artifact_dir(run.artifact_uri) / path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["images=0"], "whole number of at least 1"),
        (["images=1"], "at least two classes"),
        (["split.part=train"], "val or test"),
        (["seed=1"], "trained with"),
    ],
)
def test_a_mistake_is_one_message_and_2(command, capsys, words, said):
    assert command(*words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert ConfigError.__name__ not in shown.err


def test_a_network_of_two_photographs_is_checked_with_both(tmp_path):
    """The border of the clinical photograph alone tells the class."""
    rows = []
    rng = np.random.default_rng(0)
    mask = np.zeros((40, 40), np.uint8)
    mask[12:28, 12:28] = 255
    for number in range(60):
        paths = {kind: f"{kind}{number}.png" for kind in ("image_path", "clinical_path", "mask_path")}
        for kind, path in paths.items():
            image = rng.integers(60, 200, (40, 40, 3), dtype=np.uint8)
            if kind == "clinical_path":
                image[:4] = 240 if number % 2 else 20
            Image.fromarray(mask if kind == "mask_path" else image).save(tmp_path / path)
        rows.append({**paths, "label": "mel" if number % 2 else "nv", "lesion_id": f"l{number}"})
    pd.DataFrame(rows).to_csv(tmp_path / "table.csv", index=False)
    words = (
        *("dataset=csv", f"dataset.root={tmp_path}", "dataset.table=table.csv", "dataset.view=both", "image_size=32"),
        *("backbone=small_cnn", "augmentation=none", "trainer=cpu", "loader.num_workers=0", "print_config=false"),
        *("trainer.precision=32-true", "evaluation.bootstrap_draws=100"),
    )
    job = freeze(compose(words, root=tmp_path))
    store, run_id, _ = untrained(job)
    report = check_shortcuts(trained_run(find_run(store, run_id), job.project), "test").report
    assert report.two_photographs
    assert report.painted is not None
    assert report.scores["rim"]["auroc_macro"].value == 1


def test_images_whose_mask_cannot_be_used_are_not_painted_over(tmp_path, caplog):
    masks = {name: np.zeros((48, 64), np.uint8) for name in "ab"} | {"c": np.full((64, 48), 255, np.uint8)}
    masks["a"][16:32, 16:32] = 255
    for name, mask in masks.items():
        Image.new("RGB", (64, 48), (200, 170, 150)).save(tmp_path / f"{name}.png")
        Image.fromarray(mask).save(tmp_path / f"{name}_mask.png")
    rows = pd.DataFrame(
        [(name, str(tmp_path / f"{name}.png"), str(tmp_path / f"{name}_mask.png")) for name in masks],
        columns=["image_id", "image_path", "mask_path"],
    )
    store = open_or_build(rows, StoreRequest(48), tmp_path / "cache")
    pipeline = SimpleNamespace(fit="squash", crop_share=1.0)
    network = SimpleNamespace(pipeline=pipeline, config={"evaluation": {"bootstrap_seed": 0}})
    changed = _Changed(network, store, rows, rows)
    assert changed.with_masks()["image_id"].tolist() == ["a"]
    assert changed.images(PAINTED).read(0).shape == (48, 64, 3)
    assert "2 of 3 lesion masks cannot be used" in caplog.text
