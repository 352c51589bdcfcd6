import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lesion_exp.cli import main
from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.config.project import Project
from lesion_exp.evaluation.calibrator import read_calibrator
from lesion_exp.evaluation.predictions import probabilities
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.stored_run import download_artifact, read_predictions
from lesion_exp.trained_runs.trained_run import trained_run
from lesion_exp.training.run import train
from tests.pictures import without_pictures
from tests.tiny import TINY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with a trained run, and one with the images of its test part."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunWriter, "log_figure", lambda *_: None)  # drawing takes longer than all else
        patch.chdir(root)
        composed = compose([*TINY, "trainer.max_epochs=1", "trainer.precision=bf16-mixed"], root=root)
        config = composed.config
        with without_pictures():
            run_id = train(freeze(composed)).run_id
        store = Project.from_config(config).store
        run = find_run(store, run_id)
        kept = read_predictions(run, "test")
        files = {path.stem: path for path in Path(config["dataset"]["root"]).rglob("*.jpg")}
        (root / "images").mkdir()
        for image_id in kept["image_id"]:
            shutil.copy(files[image_id], root / "images")
        yield run, config, kept


@pytest.fixture
def command(project, capsys, monkeypatch):
    """Calls `predict` in the project's folder; returns its table and the summary."""
    monkeypatch.chdir(project[1]["paths"]["root"])

    def call(output, *arguments, code=0):
        given = ["predict", "run=latest", "input=images", f"output={output}", *arguments]
        assert main([*given, "--json"]) == code
        shown = capsys.readouterr()
        if code:
            return shown.err
        summary = json.loads(shown.out)
        assert "research use only" in shown.err
        read = pd.read_csv if output.endswith(".csv") else pd.read_parquet
        return read(output), summary

    return call


def test_predictions_are_those_that_the_run_keeps_of_the_same_images(project, command):
    table, summary = command("a.csv", "loader.num_workers=1", "loader.batch_size=5")
    kept = project[2].set_index("image_id").loc[[Path(name).stem for name in table["image"]]]
    np.testing.assert_allclose(probabilities(table), probabilities(kept), atol=1e-5)
    assert table["prediction"].tolist() == kept["prediction"].tolist()
    assert list(table) == ["image", "prediction", *(name for name in kept if name.startswith("p_")), "error"]
    assert (summary["images"], summary["errors"], summary["resumed"]) == (len(kept), 0, 0)
    assert not list(Path().glob("*a.csv.*")), "nothing is left beside the output"


def test_the_same_batches_give_the_very_probabilities_that_were_evaluated_and_a_file_says_how(project, command, capsys):
    kept = project[2]
    paths = [str(Path("images") / f"{image_id}.jpg") for image_id in kept["image_id"]]
    pd.DataFrame({"image_path": paths}).to_csv("in_order.csv", index=False)
    assert main(["predict", "run=latest", "input=in_order.csv", "output=exact.parquet"]) == 0
    np.testing.assert_array_equal(probabilities(pd.read_parquet("exact.parquet")), probabilities(kept))
    capsys.readouterr()
    said = json.loads(Path("exact_facts.json").read_text())
    assert (said["calibration"], said["precision"], said["images"]) == ("none", "bf16-mixed", len(kept))
    assert main(["predict", "run=latest", "input=in_order.csv", "output=exact.csv"]) == 0
    told = "exact_facts.json now says how exact.csv was made, and no longer how exact.parquet was"
    assert told in " ".join(capsys.readouterr().err.split())
    _, summary = command("isotonic.csv", "calibration=isotonic")
    said = json.loads(Path(summary["facts"]).read_text())
    assert said["calibration"] == summary["calibration"] == "isotonic"
    assert said["warnings"] == summary["warnings"]
    assert not any("tta=" in text for text in summary["warnings"])
    assert not any("no longer how" in text for text in summary["warnings"])
    _, summary = command("views.csv", "calibration=temperature", "tta=flips8")
    assert any("with tta=none, and is applied to predictions with tta=flips8" in text for text in summary["warnings"])


def test_thresholds_are_given_or_those_of_the_evaluation_and_features_lie_beside(project, command, tmp_path):
    run, _, _ = project
    points = json.loads(download_artifact(run, "operating_points/points.json").read_text())
    fitted = {point["rule"]: point["threshold"] for point in points if point["target"] == "mel"}
    file = tmp_path / "features.npz"
    table, summary = command("t.csv", "thresholds={mel: sensitivity_90, bcc: 0.9}", f"output_features={file}")
    assert json.loads(Path(summary["facts"]).read_text())["thresholds"] == {
        "mel": fitted["sensitivity_90"], "bcc": 0.9
    }  # fmt: skip
    assert set(table["prediction"][table["p_mel"] > fitted["sensitivity_90"] + 1e-6]) <= {"mel"}
    assert not (table["prediction"] == "mel")[table["p_mel"] < fitted["sensitivity_90"] - 1e-6].any()
    assert np.load(file)["image"].tolist() == table["image"].tolist()
    for given, said in (
        ("thresholds={melanoma: 0.3}", "mel"),
        (f"thresholds={{{', '.join(f'{name[2:]}: 0.3' for name in table if name.startswith('p_'))}}}", "leave out"),
    ):
        assert said in command("u.csv", given, code=2)
    said = command("u.csv", "thresholds={mel: youden}", "calibration=temperature", code=2)
    assert "leave calibration= out" in said
    assert "force=true" in command("u.csv", f"output_features={file}", code=2)


def test_calibrated_ranked_and_with_the_likeliest_classes(project, command):
    run, _, kept = project
    table, summary = command("b.parquet", "calibration=temperature", "top=2", "rank=entropy", "count=3")
    fitted = read_calibrator(json.loads(download_artifact(run, "calibration/temperature.json").read_text()))
    expected = fitted.calibrate(kept.set_index("image_id").loc[[Path(name).stem for name in table["image"]]])
    np.testing.assert_allclose(probabilities(table), probabilities(expected), atol=1e-5)
    assert table["top1"].tolist() == table["prediction"].tolist()
    chosen = pd.read_csv(summary["to_label"])
    assert len(chosen) == 3
    assert set(chosen["image"]) <= set(table["image"])


def test_two_devices_write_what_one_writes(command):
    one, _ = command("one.csv", "loader.batch_size=4")
    two, _ = command("two.csv", "loader.batch_size=4", "trainer.devices=2", "trainer.accelerator=cpu")
    pd.testing.assert_frame_equal(one, two)


def test_a_result_is_only_replaced_on_request(command):
    first, _ = command("c.csv")
    assert "force=true" in command("c.csv", "tta=flips8", code=2)
    again, _ = command("c.csv", "tta=flips8", "force=true")
    assert np.abs(probabilities(first) - probabilities(again)).max() > 1e-4


def test_a_stopped_prediction_goes_on_with_the_same_command_only(command, monkeypatch):
    from lesion_exp.model.predictor import Predictor

    compute, calls = Predictor.compute, []

    def fails_at_the_third(self, batch):
        calls.append(batch)
        if len(calls) == 3:
            raise RuntimeError("the power is off")
        return compute(self, batch)

    monkeypatch.setattr(Predictor, "compute", fails_at_the_third)
    said = command("d.csv", "loader.batch_size=4", code=1)
    assert "where it was stopped" in said
    assert "top= differs" in command("d.csv", "loader.batch_size=4", "top=2", code=2)
    table, summary = command("d.csv", "loader.batch_size=4")
    assert summary["resumed"] == 8
    pd.testing.assert_frame_equal(table, command("e.csv", "loader.batch_size=4")[0])


def test_other_weights_of_a_run(project, command, monkeypatch):
    run, _, _ = project
    last, _ = command("last.csv", "checkpoint=last")
    path = download_artifact(run, "checkpoints/last.ckpt")
    monkeypatch.setattr("sys.argv", ["lesion-exp"])
    assert main(["predict", f"run={path}", "input=images", "output=file.csv"]) == 0
    pd.testing.assert_frame_equal(last, pd.read_csv("file.csv"))
    assert "calibration=none" in command("x.csv", "checkpoint=last", "calibration=temperature", code=2)


def test_images_in_memory_get_the_same_probabilities(project, command):
    run, config, _ = project
    table, _ = command("f.csv", "calibration=vector")
    predictor = trained_run(run, Project.from_config(config)).predictor("vector")
    names = table["image"].tolist()
    found = predictor.predict_files([Path(name).read_bytes() for name in names], names)
    np.testing.assert_allclose(probabilities(found), probabilities(table), atol=1e-5)


def test_suspected_labels_of_the_run(project, command, capsys):
    _, _, kept = project
    given = ["label-errors", "run=latest", "part=test", "output=suspected.csv"]
    assert main(given) == 2
    assert "too weak" in capsys.readouterr().err
    assert not Path("suspected.csv").exists()
    assert main([*given, "min_balanced_accuracy=0", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    found = pd.read_csv("suspected.csv")
    assert (summary["images"], summary["suspected"]) == (len(kept), len(found))
    assert found.merge(kept, on=["row_id", "label"])["prediction"].tolist() == found["suggested"].tolist()
    assert main(["label-errors", "run=latest", "part=train", "output=suspected.csv"]) == 2
    assert main(["label-errors", "run=latest", "output=suspected.txt"]) == 2
    Path("a_file").touch()
    assert main(["label-errors", "run=latest", "output=a_file/suspected.csv", "min_balanced_accuracy=0"]) == 2


def test_a_data_set_is_predicted_with_its_ids_whether_it_has_labels_or_not(project, command, tmp_path, capsys):
    _, config, kept = project
    files = {path.stem: path for path in Path(config["dataset"]["root"]).rglob("*.jpg")}
    rows = kept[["image_id", "lesion_id"]].assign(image_path=[files[name] for name in kept["image_id"]], label="")
    rows.loc[rows.index[0], "label"] = kept["label"].iloc[0]
    rows.to_csv(tmp_path / "pool.csv", index=False)
    given = ("run=latest", "dataset=csv", f"dataset.root={tmp_path}", "dataset.table=pool.csv")
    assert main(["predict", *given, "output=pool.parquet", "pseudo_labels=pseudo.csv", "threshold=0.2"]) == 0
    assert "have the ids of images" not in capsys.readouterr().err
    table = pd.read_parquet("pool.parquet")
    assert table["image"].tolist() == kept["image_id"].tolist()
    np.testing.assert_allclose(probabilities(table), probabilities(kept), atol=1e-5)
    pseudo = pd.read_csv("pseudo.csv").set_index("image_id")
    assert len(pseudo) > 1
    assert pseudo["lesion_id"].to_dict() == kept.set_index("image_id")["lesion_id"].loc[pseudo.index].to_dict()
    assert main(["predict", "run=latest", "dataset=synthetic", *same_drawing(config), "output=own.csv"]) == 0
    assert "images have the ids of images in the training or validation part" in capsys.readouterr().err


def same_drawing(config):
    """The overrides of the data set that `config` has."""
    return [f"dataset.{key}={config['dataset'][key]}" for key in ("num_lesions", "image_height", "image_width")]
