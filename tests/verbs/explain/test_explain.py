import json

import numpy as np
import pandas as pd
import pytest
import torch

from lesion_exp.cli import main
from lesion_exp.command.arguments import Arguments
from lesion_exp.command.chosen_run import chosen_weights
from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.config.project import Project
from lesion_exp.errors import ConfigError
from lesion_exp.explanation.explainer import Explainer
from lesion_exp.explanation.grad_cam import GradCam
from lesion_exp.model.checkpoint_file import read_checkpoint
from lesion_exp.tracking.find import READS_TAG, find_run
from lesion_exp.tracking.stored_run import artifact_names, download_artifact, read_predictions
from lesion_exp.training.run import train
from lesion_exp.verbs.explain.explain import explain
from lesion_exp.verbs.explain.explanation_report import as_json, as_text
from lesion_exp.verbs.explain.request import ExplanationRequest
from tests.pictures import without_pictures
from tests.tiny import TINY

pytestmark = pytest.mark.slow
FEW = "dataset.filter=\"label in ['bkl', 'mel', 'nv']\""


class Dark(Explainer):
    """Evidence lies where the image is darker than its mean."""

    passes = 1

    def attribute(self, network, images, targets):
        grey = images.mean(dim=1)
        return grey.mean(dim=(1, 2), keepdim=True) - grey


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    with without_pictures():
        config = compose([*TINY, FEW, "dataset.num_lesions=60"], root=root).config
        run_id = train(freeze(compose([*TINY, FEW, "dataset.num_lesions=60"], root=root))).run_id
    return Project.from_config(config).store, config, run_id


@pytest.fixture
def explained(project):
    store, config, run_id = project

    def run(method, explainer, **options):
        (found,) = explain(
            find_run(store, run_id), ExplanationRequest({method: explainer}, **options), Project.from_config(config)
        )
        return found, find_run(store, run_id)

    return run


def test_galleries_table_and_metrics_are_kept(explained):
    found, run = explained("grad_cam", GradCam("features.2"), count=2)
    assert (found.name, found.part) == ("grad_cam", "test")
    predictions = read_predictions(run, "test")
    labels = sorted(predictions["label"].unique())
    assert set(found.galleries) == {f"explanations/grad_cam/{label}.png" for label in labels} <= artifact_names(run)
    table = pd.read_csv(download_artifact(run, "explanations/grad_cam/evidence.csv"))
    assert table["image_id"].tolist() == predictions["image_id"].tolist(), "all of them, and each has a mask"
    assert (table["prediction"] == predictions["prediction"]).all()
    kept = json.loads(download_artifact(run, "explanations/grad_cam/evidence.json").read_text())
    assert kept["options"] == {"layer": "features.2"}
    for measure in ("pointing_game", "share_inside", "mask_share"):
        mean = table[measure].mean()
        assert 0 <= mean <= 1
        assert kept["groups"]["all"][measure]["value"] == pytest.approx(mean)
        metrics = [run.metrics[f"explanation/grad_cam/{measure}{end}"] for end in ("_low", "", "_high")]
        assert metrics == sorted(metrics)
        assert metrics[1] == pytest.approx(mean)
    assert abs(run.metrics["explanation/grad_cam/random_weights_correlation"]) < 1


def test_lesions_are_where_the_masks_are(explained):
    """Generated lesions are darker than the skin: what points at the dark hits them, wherever the mask was moved to."""
    found, _ = explained("dark", Dark(), log_images=False)
    means = found.estimates["all"]
    assert means["share_inside"].value > 2 * means["mask_share"].value
    assert found.correlation == pytest.approx(1), "random weights change nothing"
    assert "explanations/dark" not in str(found.galleries)


def test_what_differs_from_the_best_weights_on_the_test_part_is_in_the_name(explained):
    found, run = explained("dark", Dark(), part="val", checkpoint="last", images=3, log_images=False)
    assert (found.name, found.num_images) == ("dark-val-last", 3)
    assert "explanation/dark-val-last/share_inside" in run.metrics
    assert not any(name.endswith(".png") for name in artifact_names(run) if "dark" in name)


def test_a_run_named_by_a_checkpoint_is_explained_by_the_weights_in_it(explained, tmp_path):
    options = {"part": "val", "images": 3, "log_images": False}
    best, run = explained("grad_cam", GradCam("features.2"), **options)
    file = download_artifact(run, "checkpoints/best.ckpt")
    weights = chosen_weights(Arguments([]), ExplanationRequest, str(file))
    found, _ = explained("grad_cam", GradCam("features.2"), **options, **weights)
    assert found.name == best.name == "grad_cam-val"
    pd.testing.assert_frame_equal(found.table, best.table)
    other = read_checkpoint(file)
    other["state_dict"]["backbone.head.weight"].mul_(-1)
    torch.save(other, tmp_path / "epoch3.ckpt")
    found, _ = explained("grad_cam", GradCam("features.2"), **options, checkpoint=tmp_path / "epoch3.ckpt")
    assert found.name == "grad_cam-val-file"
    assert not (found.table["probability"] == best.table["probability"]).any()
    with pytest.raises(ConfigError, match="expected checkpoint= only with the id of a run"):
        chosen_weights(Arguments(["checkpoint=best"]), ExplanationRequest, str(file))


def test_a_first_look_at_the_test_part_is_counted(project, explained):
    store, _, run_id = project
    before = store.client.get_run(run_id).data.tags[READS_TAG]
    assert before == "1"
    store.client.delete_tag(run_id, READS_TAG)
    found, run = explained("dark", Dark(), log_images=False)
    assert found.part == "val", "a run that has not read its test part does not do so unasked"
    assert READS_TAG not in run.tags
    found, run = explained("dark", Dark(), part="test", log_images=False)
    assert (found.part, run.tags[READS_TAG]) == ("test", "1")


def test_the_report_says_what_the_plain_values_say(explained):
    found, _ = explained("dark", Dark(), log_images=False)
    plain = json.loads(json.dumps(as_json(found), allow_nan=False))
    text = as_text([found])
    for means in plain["groups"]["all"].values():
        assert f"{means['value']:.3f} ({means['low']:.3f} to {means['high']:.3f})" in text
    assert max(map(len, text.splitlines())) <= 110
    assert plain["images_with_mask"] == len(found.table)


def test_the_command_prints_one_object(project, monkeypatch, capsys):
    _, config, run_id = project
    monkeypatch.chdir(config["paths"]["root"])
    method = ["method=grad_cam,occlusion", "occlusion.window=0.5", "occlusion.stride=1", "images=4"]
    assert main(["explain", f"run={run_id}", *method, "tracking.log_images=false", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["run_id"] == run_id
    assert [found["images"] for found in shown["methods"].values()] == [4, 4]
    assert all(np.isfinite(found["groups"]["all"]["mask_share"]["value"]) for found in shown["methods"].values())


def test_a_run_that_trained_nothing_is_refused(project, tmp_path):
    store, config, run_id = project
    run = find_run(store, run_id)
    without_job = type(run)(**{**vars(run), "artifact_uri": str(tmp_path)})
    with pytest.raises(ConfigError, match="trained"):
        explain(without_job, ExplanationRequest({"dark": Dark()}), Project.from_config(config))
