import io
import json
import os
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file

from lesion_exp.cli import main
from lesion_exp.config.project import Project
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.evaluation.predictions import probabilities
from lesion_exp.model import mlflow_loader
from lesion_exp.model.checkpoint_file import read_weights
from lesion_exp.model.mlflow_loader import _load_pyfunc
from lesion_exp.model.mlflow_model import has_model
from lesion_exp.model.restore import restore, restore_file
from lesion_exp.model.save_model import keep_model
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.stored_run import artifact_names, download_artifact
from lesion_exp.trained_runs.backfill import best_network, ensure_model
from lesion_exp.trained_runs.trained_run import trained_run
from tests import own_process
from tests.untrained_run import CLASSES, encoder, untrained_run


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with a run that is given its model late; returns run and config."""
    root = tmp_path_factory.mktemp("project")
    run, config = untrained_run(root)
    ensure_model(run, Project.from_config(config))
    return run, config


@pytest.fixture
def call(project, capsys, monkeypatch):
    """Calls the command in the project's folder; returns what it prints."""
    monkeypatch.chdir(project[1]["paths"]["root"])

    def command(*arguments, code=0):
        with own_process.restored():
            assert main(list(arguments)) == code
        shown = capsys.readouterr()
        return shown.err if code else shown.out.strip()

    return command


def encoded(seed=0, kind="png"):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def test_one_file_says_all_that_inference_needs(project):
    run, config = project
    _, card = read_weights(download_artifact(run, "checkpoints/best.safetensors"))
    assert card["run_id"] == run.run_id
    assert card["classes"] == list(CLASSES)
    assert card["class_names"]["mel"] == "melanoma"
    assert card["dataset"].keys() == {"name", "licence"}
    assert set(card["calibration"]) == {"temperature", "vector", "isotonic"}
    prepared = card["preprocessing"]
    assert (prepared["image_size"], prepared["short_side"], prepared["fit"]) == (32, 40, "crop")
    assert prepared["mean"] == config["augmentation"]["mean"]
    assert str(config["paths"]["root"]) not in json.dumps(card), "no folder of this machine is in it"


def test_the_three_kinds_of_weights_are_the_same(project):
    run, config = project
    checkpoint = download_artifact(run, "checkpoints/best.ckpt")
    original = restore(config, checkpoint).classifier.backbone.state_dict()
    from_file = restore_file(download_artifact(run, "model/best.safetensors")).classifier.backbone.state_dict()
    plain = torch.load(download_artifact(run, "checkpoints/best.state_dict.pt"), weights_only=True)
    assert len(plain) == len(original) == len(from_file)
    for name, tensor in original.items():
        assert torch.equal(tensor, from_file[name])
        own = name.removeprefix("body.network.").replace("head.", "classifier.")
        assert torch.equal(tensor, plain[own])


@pytest.mark.parametrize("lost", ["conda.yaml", "python_env.yaml", "requirements.txt", "best.safetensors", "MLmodel"])
def test_a_model_that_was_not_wholly_kept_is_completed(project, call, lost):
    run, _ = project
    whole = {name for name in artifact_names(run) if name.startswith("model/")}
    assert f"model/{lost}" in whole
    download_artifact(run, f"model/{lost}").unlink()
    assert not has_model(run)
    call("register", f"run={run.run_id}", "name=completed")
    assert has_model(run)
    assert whole <= artifact_names(run)


def test_the_file_by_which_mlflow_knows_a_model_is_kept_last(project, monkeypatch):
    run, config = project
    kept = []
    monkeypatch.setattr(RunWriter, "log_file", lambda self, path, name: kept.append(name))
    monkeypatch.setattr(RunWriter, "log_again", lambda self, path, known, name: kept.append(name))
    restored, content = best_network(run, Project.from_config(config))
    keep_model(RunWriter.of(run), restored.classifier.backbone, content)
    assert kept[-1] == "model/MLmodel"
    assert {"model/conda.yaml", "model/requirements.txt", "model/best.safetensors"} <= set(kept)


def test_a_plain_state_dict_fits_the_librarys_own_network(tmp_path):
    run, config = untrained_run(tmp_path, "backbone=resnet18")
    ensure_model(run, Project.from_config(config))
    network = torchvision.models.resnet18(num_classes=len(CLASSES))
    network.load_state_dict(torch.load(download_artifact(run, "checkpoints/best.state_dict.pt"), weights_only=True))
    restored, _ = best_network(run, Project.from_config(config))
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(network.eval()(images), restored.classifier.backbone.eval()(images))
    kept = load_file(str(download_artifact(run, "checkpoints/best.safetensors")))
    assert {name.split(".")[0] for name in kept} == {"backbone"}, "backbone.weights=FILE takes it"


def test_the_model_gives_the_table_of_predict(project, tmp_path):
    run, config = project
    model = _load_pyfunc(str(download_artifact(run, "model")))
    contents = [encoded(seed) for seed in range(3)]
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    names = [str(path) for path in paths]
    for method in ("none", "temperature", "isotonic"):
        expected = trained_run(run, Project.from_config(config)).predictor(method, top=2).predict_files(contents, names)
        params = {"calibration": method, "top": 2}
        by_path = model.predict(pd.DataFrame({"image": names}), params)
        by_content = model.predict(pd.DataFrame({"image": names, "content": contents}), params)
        for table in (by_path, by_content):
            assert list(table) == list(expected)
            assert table["prediction"].tolist() == expected["prediction"].tolist()
            np.testing.assert_allclose(probabilities(table), probabilities(expected), atol=1e-7)


def test_a_broken_image_is_a_row_with_its_reason_and_is_json(project):
    model = _load_pyfunc(str(download_artifact(project[0], "model")))
    given = pd.DataFrame({"content": [encoded(), b"no image", None]})
    table = model.predict(given)
    assert table["image"].tolist() == ["image 1", "image 2", "image 3"]
    assert [error is None for error in table["error"]] == [True, False, False]
    assert "got neither" in table["error"][2]
    json.dumps(table.to_dict("records"), allow_nan=False, default=float)
    assert table["p_mel"][0] > 0


def test_metadata_count_and_are_needed(tmp_path):
    run, config = untrained_run(tmp_path, "backbone.metadata=concat", encoder=encoder())
    ensure_model(run, Project.from_config(config))
    model = _load_pyfunc(str(download_artifact(run, "model")))
    given = pd.DataFrame({"content": [encoded()] * 2, "age": [20, 80], "sex": ["female", "male"], "site": ["back", ""]})
    table = model.predict(given)
    assert (probabilities(table)[0] != probabilities(table)[1]).all()
    with pytest.raises(DataError, match="columns site"):
        model.predict(given.drop(columns="site"))
    names = torch.load(download_artifact(run, "checkpoints/best.state_dict.pt"), weights_only=True)
    assert all(name.startswith("backbone.") for name in names), "no network of a library reads metadata"


def test_wrong_parameters_and_empty_tables_are_refused(project):
    model = _load_pyfunc(str(download_artifact(project[0], "model")))
    with pytest.raises(ConfigError, match="calibration"):
        model.predict(pd.DataFrame({"content": [encoded()]}), {"calibration": "platt"})
    with pytest.raises(DataError, match=r"image \(paths\) or content"):
        model.predict(pd.DataFrame({"picture": [encoded()]}))
    with pytest.raises(DataError, match="got 0 rows"):
        model.predict(pd.DataFrame({"content": []}))


def test_mlflow_loads_it_by_alias_and_checks_the_columns(project, call, monkeypatch):
    import mlflow

    run, _ = project
    assert call("register", f"run={run.run_id}", "alias=champion") == "models:/study@champion"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", run.store.uri)
    model = mlflow.pyfunc.load_model("models:/study@champion")
    table = model.predict(pd.DataFrame({"content": [encoded()]}), params={"top": 1})
    assert table["top1"].tolist() == table["prediction"].tolist()
    assert model.predict(model.input_example)["error"].isna().all()
    assert [column["name"] for column in model.metadata.signature.inputs.to_dict()] == ["image", "content"]
    assert model.metadata.metadata["classes"] == list(CLASSES)
    with pytest.raises(mlflow.exceptions.MlflowException, match="Invalid parameters"):
        model.predict(pd.DataFrame({"content": [encoded()]}), params={"top": "many"})


def test_an_alias_is_a_run_and_moves(project, call, capsys):
    run, config = project
    other, _ = untrained_run(config["paths"]["root"], "seed=1", name="other")
    first = json.loads(call("register", f"run={run.run_id}", "alias=best-one", "--json"))
    again = json.loads(call("register", "run=best-one", "alias=best-one", "--json"))
    assert (again["version"], again["is_new"]) == (first["version"], False)
    moved = json.loads(call("register", f"run={other.run_id}", "alias=best-one", "--json"))
    assert (moved["is_new"], moved["before"], moved["name"]) == (True, first["version"], "study")
    assert find_run(run.store, "study@best-one").run_id == other.run_id
    with own_process.restored():
        assert main(["register", f"run={run.run_id}", "name=second", "alias=best-one"]) == 0
    assert "run=second@best-one now names this run" in capsys.readouterr().err
    assert "run=second@best-one" in call("register", "run=best-one", code=2)
    run.store.client.delete_registered_model_alias("second", "best-one")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["alias=latest"], "means nothing else"),
        (["alias=cafe"], "means nothing else"),
        (["alias=a b"], "letters, digits"),
        (["name=a/b"], "without / : and @"),
        (["seed=1"], "seed=1"),
    ],
)
def test_a_name_that_cannot_be_is_refused(project, call, arguments, said):
    assert said in call("register", f"run={project[0].run_id}", *arguments, code=2)


def test_a_run_without_a_network_is_refused(project):
    run, config = project
    client = run.store.client
    run_id = client.create_run(run.experiment_id).info.run_id
    with pytest.raises(ConfigError, match="has finished"):
        ensure_model(find_run(run.store, run_id), Project.from_config(config))
    client.set_terminated(run_id, "FINISHED")
    with pytest.raises(ConfigError, match="predictions only"):
        ensure_model(find_run(run.store, run_id), Project.from_config(config))


def test_safetensors_of_somebody_else_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, str(tmp_path / "a.safetensors"))
    (tmp_path / "b.safetensors").write_bytes(b"nothing")
    for name, said in (
        ("a", "weights without a card"),
        ("b", "but the file cannot be read"),
        ("c", "but the file cannot be read"),
    ):
        with pytest.raises(DataError, match=said):
            restore_file(tmp_path / f"{name}.safetensors")


def test_a_prediction_of_nothing_writes_its_table_and_ends_with_1(call, project, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"no image at all")
    (folder / "b.png").touch()
    given = ("predict", f"run={project[0].run_id}", f"input={folder}", "loader.num_workers=0")
    told = call(*given, f"output={tmp_path}/none.csv", "rank=coreset", code=1)
    assert f"no image has a prediction; the first error is {folder}/a.png: expected an image" in told
    assert pd.read_csv(tmp_path / "none.csv")["error"].notna().all()
    (folder / "c.png").write_bytes(encoded())
    call(*given, f"output={tmp_path}/some.csv", code=0)
    assert pd.read_csv(tmp_path / "some.csv")["error"].notna().tolist() == [True, True, False]


def test_the_model_reads_image_files_and_nothing_else(project, tmp_path, monkeypatch):
    model = _load_pyfunc(str(download_artifact(project[0], "model")))
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "secret.txt").write_text("root:topsecret")
    (tmp_path / "secret.jpg").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "script.jpg").write_bytes(b"%!PS-Adobe-3.0 topsecret")
    (tmp_path / "whole.png").write_bytes(encoded())
    (tmp_path / "large.png").write_bytes(encoded() + bytes(50_000))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", encoded())
    monkeypatch.setattr(mlflow_loader, "MAX_BYTES", 50_000)
    wrong = [
        *(str(tmp_path / name) for name in ("pipe.jpg", "secret.jpg", "script.jpg", "absent.jpg", "large.png", ".")),
        f"{tmp_path}/a.zip!/a.png", "/dev/zero", "/etc/shadow", "/etc/passwd", "/proc/self/environ", "a\x00.png", "",
    ]  # fmt: skip
    table = model.predict(pd.DataFrame({"image": [*wrong, str(tmp_path / "whole.png")]}))
    errors = table["error"].tolist()
    assert errors.pop() is None
    for path, error in zip(wrong, errors, strict=True):
        assert (
            error == f"expected the path of a JPEG, PNG, WEBP, BMP or TIFF file of at most 50,000 bytes, got {path!r}"
        )
    odd = [7, 10**12, "text", ["a"], encoded() + bytes(50_000)]
    table = model.predict(pd.DataFrame({"content": pd.Series(odd, dtype=object)}))
    assert all("expected content to be an encoded image" in error for error in table["error"])
    table = model.predict(pd.DataFrame({"image": pd.Series([7, ["a"], {"a": 1}], dtype=object)}))
    assert all("expected image to be a path" in error for error in table["error"])
