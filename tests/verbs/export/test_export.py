import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lesion_exp.cli import main
from lesion_exp.config.project import Project
from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.predictions import probabilities
from lesion_exp.image_file import read_image
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.stored_run import download_artifact
from lesion_exp.trained_runs.backfill import best_network
from lesion_exp.trained_runs.trained_run import trained_run
from lesion_exp.verbs.export import export as room
from lesion_exp.verbs.export.check import Check, RealImages, check, drawn
from lesion_exp.verbs.export.export import as_text, export
from lesion_exp.verbs.export.file_format import FORMATS
from lesion_exp.verbs.export.request import ExportRequest
from tests import own_process
from tests.untrained_run import CLASSES, untrained_run

SCRIPT = Path(__file__).parents[3] / "scripts" / "edge_predict.py"


@pytest.fixture(scope="module", autouse=True)
def quick():
    """The speed of these networks is of no interest."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_SECONDS", 0.0), ("_STRETCH", 0.01), ("_FEWEST_CALLS", 1)):
            patch.setattr(f"lesion_exp.verbs.export.check.{name}", value)
        yield


def fresh(run):
    return find_run(run.store, run.run_id)


def written(project, folder, kind, **options):
    run, config, *_ = project
    return export(
        fresh(run),
        ExportRequest(kind, folder, check_images=6, calibration_images=8, **options),
        Project.from_config(config),
    )


@pytest.fixture(scope="module")
def kept(project, tmp_path_factory):
    """Writes a file, or gives the one that another test wrote."""
    folder, done = tmp_path_factory.mktemp("kept"), {}

    def make(kind, preprocessing="inside"):
        key = kind, preprocessing
        if key not in done:
            done[key] = written(project, folder / preprocessing, kind, preprocessing=preprocessing)
        return done[key]

    return make


def expected(run, config, images, **options):
    """What `predict` says of images, a row each."""
    return (
        trained_run(run, Project.from_config(config))
        .predictor(**options)
        .predict_files([path.read_bytes() for path in images], images)
    )


@pytest.mark.parametrize("preprocessing", ["inside", "outside"])
@pytest.mark.parametrize("kind", ["onnx", "torch_export", "torchscript"])
def test_a_file_says_what_the_original_says_in_batches_of_any_size(project, kept, kind, preprocessing):
    done = kept(kind, preprocessing)
    assert done.check.failure is None
    assert done.check.largest_difference < 1e-4
    assert done.check.accuracy[0] == done.check.accuracy[1]
    run, config, split, _ = project
    restored, _ = best_network(fresh(run), Project.from_config(config))
    rows = drawn(split.table, "train", 5)
    images = RealImages(restored, None, rows, inside=preprocessing == "inside")
    runner = FORMATS[kind].open(done.path)
    for count in (1, 5):
        found = runner(images.inputs(range(count)))
        np.testing.assert_allclose(found, images.original(images.samples(range(count))), atol=1e-5)
    facts = json.loads(Path(f"{done.path}.json").read_text())
    assert facts["classes"] == list(CLASSES)
    assert facts["run_id"] == run.run_id
    assert "research use only" in facts["use"]
    assert facts["inputs"]["images"]["dtype"] == {"inside": "uint8", "outside": "float32"}[preprocessing]


def test_int8_is_smaller_near_and_its_ranges_come_from_the_training_part_alone(project, kept, monkeypatch):
    asked = []

    def noted(table, part, count):
        asked.append((part, count))
        return drawn(table, part, count)

    monkeypatch.setattr(room, "drawn", noted)
    floats, small = kept("onnx"), kept("onnx_int8")
    assert asked[-2:] == [("val", 6), ("train", 8)], "this run has not read its test part"
    assert small.path.stat().st_size < 0.6 * floats.path.stat().st_size
    assert 0 < small.check.largest_difference < 0.1
    assert small.check.same_class > 0.5
    checks = json.loads(download_artifact(project[0], "export/check.json").read_text())
    assert {"onnx, inside", "onnx_int8, inside"} <= set(checks)
    assert "## onnx_int8, preprocessing inside" in download_artifact(project[0], "export/check.md").read_text()


def test_calibration_and_tta_are_in_the_file_and_a_calibration_of_other_views_is_warned_of(project, tmp_path, caplog):
    run, config, split, _ = project
    done = written(project, tmp_path, "onnx", calibration="vector", tta="flips8")
    said = "calibration=vector was fitted on predictions with tta=none"
    assert said in caplog.text
    paths = [Path(path) for path in drawn(split.table, "val", 3)["image_path"]]
    table = expected(fresh(run), config, paths, calibration="vector", tta="flips8")
    runner = FORMATS["onnx"].open(done.path)
    found = [runner({"images": read_image(str(path))[None]})[0] for path in paths]
    np.testing.assert_allclose(np.stack(found), probabilities(table), atol=1e-5)
    facts = json.loads(Path(f"{done.path}.json").read_text())
    assert [text for text in facts["warnings"] if said in text]
    assert "tta=none has the views" in facts["warnings"][-1]
    caplog.clear()
    written(project, tmp_path / "own", "onnx", calibration="vector")
    assert "tta=" not in caplog.text


def test_photographs_that_are_reduced_while_they_are_decoded_are_prepared_outside(project, tmp_path):
    run, config, *_ = project
    root = Project.from_config(config).root
    reduced, changed = untrained_run(root, "image_size=16", "dataset.store_size=none", name="from files")
    for name in ("split_hash", "dataset_fingerprint"):
        run.store.client.set_tag(reduced.run_id, name, fresh(run).tags[name])
    whole = Project.from_config(changed)
    with pytest.raises(ConfigError, match=r"dataset\.store_size=none.*set preprocessing=outside"):
        export(fresh(reduced), ExportRequest("onnx", tmp_path, check_images=6), whole)
    done = export(fresh(reduced), ExportRequest("onnx", tmp_path, "outside", check_images=6), whole)
    assert done.check.failure is None
    facts = json.loads(Path(f"{done.path}.json").read_text())
    assert "decoded at a half" in facts["preprocessing"]["decoding"]


def test_metadata_are_an_input_of_their_own(project, tmp_path):
    _, config, split, run = project
    request = ExportRequest("onnx", tmp_path, check_images=6)
    done = export(fresh(run), request, Project.from_config(config))
    assert done.check.failure is None
    facts = json.loads(Path(f"{done.path}.json").read_text())
    restored, _ = best_network(fresh(run), Project.from_config(config))
    assert len(facts["inputs"]["metadata"]["is"]) == restored.encoder.width
    images = RealImages(restored, None, drawn(split.table, "val", 2), inside=True)
    given = dict(images.inputs([0]))
    runner = FORMATS["onnx"].open(done.path)
    other = runner({**given, "metadata": 1 - given["metadata"]})
    assert np.abs(other - runner(given)).max() > 1e-3


def test_the_edge_needs_no_torch(project, kept, tmp_path):
    run, config, split, _ = project
    done = kept("onnx")
    paths = [Path(path) for path in drawn(split.table, "val", 2)["image_path"]]
    forbidden = "import sys, runpy; sys.modules |= dict.fromkeys(('torch', 'lesion_exp', 'cv2')); "
    code = f"{forbidden}sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, str(SCRIPT), str(done.path), *map(str, paths)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "research use only" in ended.stderr
    found = pd.DataFrame([json.loads(line) for line in ended.stdout.splitlines()])
    table = expected(fresh(run), config, paths)
    np.testing.assert_allclose(probabilities(found), probabilities(table), atol=1e-5)
    assert found["prediction"].tolist() == table["prediction"].tolist()
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    deep = [tmp_path / name for name in ("grey16.png", "colour12.png", "colour12.tiff", "float.tiff")]
    values = np.full((40, 40), 3000, dtype=np.uint16)
    Image.fromarray(values).save(deep[0])
    for path in deep[1:3]:
        assert cv2.imwrite(str(path), np.dstack([values] * 3))
    Image.fromarray((values / 4095).astype(np.float32)).save(deep[3])
    script = tmp_path / "photo.jpg"
    script.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    os.mkfifo(tmp_path / "pipe.jpg")
    odd = [broken, script, tmp_path / "pipe.jpg"]
    ended = subprocess.run([*command[:5], *map(str, (*odd, *deep))], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0
    errors = [json.loads(line)["error"] for line in ended.stdout.splitlines()]
    assert all("cannot identify" in error for error in errors[:2])
    assert "regular file" in errors[2]
    assert all("8 bits" in error for error in errors[3:]), "a black photograph would get a wrong prediction"
    statements = [line for line in SCRIPT.read_text().split('"""')[2].splitlines() if line.strip()]
    assert len(statements) <= 36


def test_the_command_shows_the_check_and_ends_with_1_where_it_fails(project, tmp_path, capsys, monkeypatch):
    run, config, *_ = project
    monkeypatch.chdir(config["paths"]["root"])

    def call(*more):
        given = ["export", f"run={run.run_id}", "format=torch_export", f"output={tmp_path}", "check_images=4", *more]
        with own_process.restored():
            code = main(given)
        return code, capsys.readouterr()

    code, shown = call("--json")
    assert code == 0
    assert json.loads(shown.out)["check"]["images"] == 4
    code, shown = call()
    assert code == 2
    assert "force=true" in shown.err
    network = room.ExportedNetwork
    monkeypatch.setattr(room, "ExportedNetwork", lambda *given: Changed(network(*given)))
    code, shown = call("force=true")
    assert code == 1
    assert "FAILED: a probability differs" in shown.out
    assert "the exported file differs from the original" in shown.err


class Changed(torch.nn.Module):
    """A network that went wrong on its way."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.others, self.backbone, self.photograph = network.others, network.backbone, network.photograph

    def forward(self, images):
        return self.network(images).roll(1, dims=1)


def test_what_is_compared_is_what_is_said(project):
    """Against arithmetic by hand: a runner that swaps two classes for one image."""
    run, config, split, _ = project
    restored, _ = best_network(fresh(run), Project.from_config(config))
    images = RealImages(restored, None, drawn(split.table, "val", 4), inside=False)
    original = images.original(images.samples(range(4)))
    changed = original.copy()
    changed[0] = np.roll(original[0], 1)
    answers = iter([changed])

    def runner(arrays):
        return next(answers, changed[: len(arrays["images"])]).astype(np.float32)

    request = ExportRequest("onnx", Path("x"), "outside")
    found = check(images, runner, request, "val", (2.0, 1.0), 1024)
    assert found.largest_difference == pytest.approx(np.abs(changed - original).max(), abs=1e-6)
    assert found.same_class == pytest.approx((changed.argmax(1) == original.argmax(1)).mean())
    predicted = [CLASSES[position] for position in original.argmax(1)]
    assert found.accuracy[0] == pytest.approx(np.mean(images.rows["label"] == predicted))
    assert "tolerance=0.001" in found.failure
    assert isinstance(found, Check)
    assert "FAILED" in as_text(found.to_dict())
    assert "The original computes in float32 here" in as_text(found.to_dict())
    assert "averaged down first" not in as_text(found.to_dict())
    assert "averaged down first" in as_text({**found.to_dict(), "preprocessing": "inside"})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "onx"}, "did you mean 'onnx'"),
        ({"kind": "onnx", "preprocessing": "in"}, "preprocessing"),
        ({"kind": "onnx", "calibration": "isotonic"}, "calibration"),
        ({"kind": "onnx", "tta": "all"}, "tta"),
        ({"kind": "executorch", "preprocessing": "inside"}, "preprocessing=outside"),
    ],
)
def test_a_value_that_is_none_is_refused(tmp_path, options, said):
    with pytest.raises(ConfigError, match=said):
        ExportRequest(output=tmp_path, **options)


@pytest.mark.parametrize(
    ("changed", "others", "said"),
    [
        ({"fit": "pad"}, (), "fit=pad"),
        ({"steps": ["colour"]}, (), "colour"),
        ({"mask": "crop"}, (), "mask=crop"),
        ({"short_side": 48}, (), "store_size=48"),
        ({}, ("clinical",), "second photograph"),
    ],
)
def test_what_no_graph_can_do_is_refused_inside_and_taken_outside(tmp_path, changed, others, said):
    prepared = {"fit": "crop", "steps": [], "mask": "none", "short_side": 40, "image_size": 32, **changed}
    with pytest.raises(ConfigError, match=said):
        ExportRequest("onnx", tmp_path).check_preparation(prepared, others)
    ExportRequest("onnx", tmp_path, "outside").check_preparation(prepared, others)


def test_a_missing_package_is_one_message(project, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"lesion-exp\[export\]"):
        FORMATS["onnx"].check_installed()


@pytest.mark.parametrize("argument", ["check_images=0", "tolerance=-1", "tolerance=x", "force=yes", "seed=1"])
def test_a_mistake_in_the_command_is_2(tmp_path, capsys, monkeypatch, argument):
    monkeypatch.chdir(tmp_path)
    with own_process.restored():
        assert main(["export", "run=latest", "format=onnx", f"output={tmp_path}", argument]) == 2
    assert argument.partition("=")[0] in capsys.readouterr().err


def test_executorch_on_a_phone(project, tmp_path):
    pytest.importorskip("executorch")
    done = written(project, tmp_path, "executorch", preprocessing="outside")
    assert done.check.failure is None
    assert done.check.largest_difference < 1e-4
