"""Predictions of a stacked ensemble whose networks, which were never trained, see different images."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lesion_exp.config.project import Project
from lesion_exp.evaluation.predictions import probabilities
from lesion_exp.evaluation.stacking import StackOptions, fit_stacking
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.trained_runs.trained_run import trained_run
from lesion_exp.verbs.predict.predict import predict
from lesion_exp.verbs.predict.request import PredictionRequest
from lesion_exp.verbs.predict.stacked import open_stack
from tests.untrained_run import untrained_run, validation_table

NUM_IMAGES = 4


@pytest.fixture(scope="module")
def networks(tmp_path_factory, empty_root):
    """A project with a run of dermoscopic images, and one of clinical photographs that was evaluated with flips8."""
    root = tmp_path_factory.mktemp("project")
    first, config = untrained_run(root, "seed=0")
    second, _ = untrained_run(root, "seed=1", "dataset.view=clinical", "evaluation.tta=flips8")
    return Project.from_config(config), first, second


@pytest.fixture
def table(tmp_path):
    """A csv with pairs of photographs and the source of each."""
    rng = np.random.default_rng(0)
    for number in range(2 * NUM_IMAGES):
        pixels = np.full((48, 64, 3), 20 * number + 10) + rng.integers(0, 60, (48, 64, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{number}.png")
    numbers = range(NUM_IMAGES)
    rows = {
        "image_path": [f"{number}.png" for number in numbers],
        "clinical_path": [f"{number + NUM_IMAGES}.png" for number in numbers],
        "source": ["clinic_a", "clinic_b", "", "elsewhere"],
    }
    pd.DataFrame(rows).to_csv(tmp_path / "new.csv", index=False)
    return tmp_path / "new.csv"


def stack_of(networks, tta, by_network=(), features=("predictions",), columns=()):
    """The run of an ensemble that was fitted on predictions at random, and the ensemble."""
    project, *members = networks
    sources = np.where(np.arange(140) % 3, "clinic_a", "clinic_b")
    tables = [validation_table(seed).assign(source=sources) for seed, _ in enumerate(members)]
    stacking = fit_stacking(tables, StackOptions(features=features, columns=columns)).stacking
    predicts = [[run.run_id[:20]] for run in members]  # an imported ensemble has the ids of another store, too
    content = {**stacking.to_dict(), "predicts": predicts}
    if by_network:
        content["tta"] = [[each] for each in by_network]
    tags = {"kind": "ensemble", "ensemble": "stacked"}
    params = {"evaluation": {"tta": tta}}
    with TrackedRun.start(project.store, "study", "stack", tags, params, system_metrics_seconds=0) as run:
        run.log_json(content, artifacts.STACKING)
    return find_run(project.store, run.run_id), stacking


def opened(networks, run, table, **options):
    project = networks[0]
    request = PredictionRequest(output=table.with_name("p.parquet"), source=str(table), **options)
    return open_stack(trained_run(run, project), request, project)


def test_each_network_predicts_its_own_photographs_with_its_own_augmentation(networks, table):
    project, first, second = networks
    run, stacking = stack_of(networks, "none, flips8", ("none", "flips8"))
    made = predict(run, PredictionRequest(output=table.with_name("p.parquet"), source=str(table)), project)
    listed = pd.read_csv(table)

    def alone(member, column, tta):
        source, output = table.with_name(f"{column}.csv"), table.with_name(f"{column}_{tta}.parquet")
        pd.DataFrame({"image_path": listed[column]}).to_csv(source, index=False)
        predict(member, PredictionRequest(output=output, source=str(source), tta=tta), project)
        return pd.read_parquet(output)

    tables = [alone(first, "image_path", "none"), alone(second, "clinical_path", "flips8")]
    expected = stacking.probabilities(tables)
    np.testing.assert_allclose(probabilities(pd.read_parquet(made.output)), expected, atol=1e-6)
    for column, tta in (("image_path", "flips8"), ("clinical_path", "none")):
        other = stacking.probabilities([tables[0], alone(second, column, tta)])
        assert np.abs(other - expected).max() > 1e-5, "the other photographs, or views, would be told apart"
    facts = json.loads(table.with_name("p_facts.json").read_text())
    assert (facts["tta"], made.tta) == ("none, flips8", "none, flips8")
    assert facts["tta_by_network"] == {first.run_id: "none", second.run_id: "flips8"}
    assert made.warnings == ()


@pytest.mark.parametrize(
    ("of_stack", "recorded", "used"),
    [
        ("none", (), ["none", "flips8"]),  # kept before the augmentation of each network was
        ("multicrop", (), ["multicrop", "multicrop"]),  # chosen for all
        ("flips8", ("flips8", "flips8"), ["flips8", "flips8"]),
    ],
)
def test_the_augmentation_is_that_of_the_predictions_of_the_fit(networks, table, of_stack, recorded, used):
    run, _ = stack_of(networks, of_stack, recorded)
    assert list(opened(networks, run, table).facts["tta_by_network"].values()) == used


def test_another_augmentation_than_that_of_the_fit_is_used_and_told(networks, table):
    first, second = networks[1:]
    run, _ = stack_of(networks, "none, flips8", ("none", "flips8"))
    stack = opened(networks, run, table, tta="flips8")
    assert set(stack.facts["tta_by_network"].values()) == {"flips8"}
    (warning,) = stack.warnings
    assert f"{first.run_id[:8]} none, {second.run_id[:8]} flips8" in warning
    assert warning.endswith("leave tta= out to get the same")
    same, _ = stack_of(networks, "flips8", ("flips8", "flips8"))
    assert opened(networks, same, table, tta="flips8").warnings == ()


def test_the_source_of_an_image_is_that_of_the_csv(networks, table):
    run, stacking = stack_of(networks, "none", features=("predictions", "metadata"), columns=("source",))
    assert stacking.features.texts == {"source": ("clinic_a", "clinic_b")}
    stack = opened(networks, run, table)
    assert stack.columns["source"].tolist() == ["clinic_a", "clinic_b", "unknown", "elsewhere"]
    assert stack.warnings == ("source is missing, or unknown to the ensemble, in 2 of 4 images",)
