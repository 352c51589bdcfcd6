import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lesion_exp import cores
from lesion_exp.data.metadata import MetadataEncoder
from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.predictions import probabilities
from lesion_exp.model.predictor import Predictor
from lesion_exp.model.restore import restore
from lesion_exp.verbs.predict import loop
from lesion_exp.verbs.predict.images import images_of
from lesion_exp.verbs.predict.loop import Share, predict_plan
from lesion_exp.verbs.predict.plan import PredictionPlan, read_images
from lesion_exp.verbs.predict.results import HEAD, Results, write_of_head
from tests.verbs.predict.conftest import BROKEN, CLASSES


def results_of(plan, folder):
    return Results(folder, plan, len(read_images(folder)))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_what_was_stopped_ends_like_what_was_not(plan_for, photographs, tmp_path, monkeypatch, suffix):
    images = images_of(str(photographs))
    whole, folder = plan_for(images, tmp_path / f"whole.{suffix}", top=2, rank="coreset")
    predict_plan(folder)
    results_of(whole, folder).join()

    stopped, folder = plan_for(images, tmp_path / f"stopped.{suffix}", top=2, rank="coreset")
    compute, calls = Predictor.compute, []

    def until_the_third(self, batch):
        calls.append(batch.names)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(self, batch)

    monkeypatch.setattr(Predictor, "compute", until_the_third)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        predict_plan(folder)
    assert results_of(stopped, folder).missing() == [2, 3]
    if suffix == "csv":
        assert len(pd.read_csv(stopped.output)) == 8, "what is there is written as it comes"
    predict_plan(folder)
    assert [name for names in calls[3:] for name in names] == images["image"].tolist()[8:], "none is predicted twice"
    results = results_of(stopped, folder)
    table = results.join()
    assert (tmp_path / f"stopped.{suffix}").read_bytes() == (tmp_path / f"whole.{suffix}").read_bytes()
    assert table["image"].tolist() == images["image"].tolist()
    assert set(table["image"][table["error"].notna()]) == {f"{photographs}/{name}" for name in BROKEN}
    assert len(results.of_head("features")) == len(images)
    results.clear()
    assert not folder.exists()


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_features_and_logits_lie_in_the_order_of_the_predictions(plan_for, photographs, tmp_path, suffix):
    images = images_of(str(photographs))
    path = tmp_path / "made" / f"features.{suffix}"
    plan, folder = plan_for(images, tmp_path / "all.csv", features=str(path))
    predict_plan(folder)
    results = results_of(plan, folder)
    of_head = {name: results.of_head(name) for name in HEAD}
    write_of_head(path, results.join(), of_head, CLASSES)
    if suffix == "npz":
        found = np.load(path, allow_pickle=False)
        assert (found["image"].tolist(), found["classes"].tolist()) == (images["image"].tolist(), list(CLASSES))
        features, logits = found["features"], found["logits"]
    else:
        table = pd.read_parquet(path)
        assert table["image"].tolist() == images["image"].tolist()
        features = table[[f"f{place}" for place in range(of_head["features"].shape[1])]].to_numpy()
        logits = table[[f"logit_{name}" for name in CLASSES]].to_numpy()
    np.testing.assert_array_equal(features, of_head["features"])
    np.testing.assert_array_equal(logits, of_head["logits"])
    assert np.isnan(logits).all(axis=1).sum() == len(BROKEN)
    assert [path.name for path in path.parent.iterdir()] == [path.name]


def test_workers_decode_and_nothing_depends_on_them(plan_for, photographs, tmp_path):
    images = images_of(str(photographs))
    tables = []
    for number in (0, 2):
        plan, folder = plan_for(images, tmp_path / f"{number}.csv", num_workers=number)
        predict_plan(folder)
        tables.append(results_of(plan, folder).join())
    pd.testing.assert_frame_equal(*tables)


def test_the_processes_of_a_prediction_share_the_cores(plan_for, photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "usable_cores", lambda _: 8)
    images = images_of(str(photographs))
    found = {}
    for processes in (1, 4):
        _, folder = plan_for(images, tmp_path / f"{processes}.csv", num_workers="auto", batch_size=1)
        made = []
        with monkeypatch.context() as patched:
            patched.setattr(loop, "DataLoader", lambda *_, num_workers, made=made, **__: made.append(num_workers) or [])
            predict_plan(folder, Share(num_processes=processes))
        found[processes] = made
    assert found == {1: [4], 4: [1]}


def test_heat_maps_are_drawn_of_every_image_that_is_predicted(plan_for, photographs, tmp_path):
    (tmp_path / "maps").mkdir()
    plan, folder = plan_for(images_of(str(photographs)), tmp_path / "a.csv", heat_maps=str(tmp_path / "maps"))
    predict_plan(folder)
    table = results_of(plan, folder).join()
    plain, folder = plan_for(images_of(str(photographs)), tmp_path / "b.csv")
    predict_plan(folder)
    pd.testing.assert_frame_equal(table.drop(columns="gradcam"), results_of(plain, folder).join())
    assert (table["gradcam"].isna() == table["error"].notna()).all()
    drawn = table["gradcam"].dropna()
    assert sorted(map(str, (tmp_path / "maps").iterdir())) == sorted(drawn)
    assert any(path.endswith("_a_b.png") for path in drawn)
    for path in drawn:
        picture = np.asarray(Image.open(path))
        assert picture.shape[0] > 224
        assert picture.shape[1] == 2 * 224 + 3 * 8, "the image and the map side by side"
        seen, over = picture[-232:-8, 8:232], picture[-232:-8, 240:464]
        assert (seen != over).any(), "the map is drawn over the second of the two"
        assert (picture[:-232, 240:] < 128).any(), "class and probability stand above the map"
    assert len({Path(path).read_bytes() for path in drawn}) == len(drawn)


def test_metadata_of_a_table_reach_the_network(plan_for, untrained, photographs, tmp_path):
    encoder = MetadataEncoder(("female", "male"), ("back", "face"))
    config, checkpoint = untrained("backbone.metadata=concat", encoder=encoder)
    rows = "good0.png,20,male,face\ngood0.png,80,female,back\ntext.jpg,,,\ngood0.png,,,\n"
    (photographs / "cases.csv").write_text(f"image,age,sex,site\n{rows}")
    images = images_of(str(photographs / "cases.csv"), ["age", "sex", "site"])
    plan, folder = plan_for(images, tmp_path / "a.csv", config=config, checkpoint=str(checkpoint), batch_size=2)
    predict_plan(folder)
    table = results_of(plan, folder).join()
    files = [(photographs / name).read_bytes() for name in images["image"]]
    expected = Predictor(restore(config, checkpoint)).predict_files(files, images["image"].tolist(), images)
    np.testing.assert_allclose(probabilities(table), probabilities(expected), atol=1e-6)
    assert table["p_mel"].nunique() == 3, "an image is predicted by the metadata beside it"


def test_a_fault_of_the_preparation_is_that_images_own(plan_for, photographs, tmp_path, monkeypatch):
    from lesion_exp.data.lesion_dataset import Preparation

    def fails(self, image_path, **_):
        raise MemoryError("too large")

    monkeypatch.setattr(Preparation, "from_files", fails)
    plan, folder = plan_for(images_of(str(photographs)), tmp_path / "all.csv")
    predict_plan(folder)
    table = results_of(plan, folder).join()
    assert table["error"].str.contains("MemoryError: too large").all()


def test_a_plan_that_is_written_again_keeps_the_time_at_which_the_prediction_was_begun(plan_for, photographs, tmp_path):
    images = images_of(str(photographs))
    begun, folder = plan_for(images, tmp_path / "a.csv")
    file = folder / "plan.json"
    os.utime(file, ns=(1_000_000_000_000_000_001, 1_000_000_000_000_000_001))
    replace(begun, num_workers=5, devices=2).write(folder, images)
    assert PredictionPlan.read(folder).devices == 2
    assert file.stat().st_mtime_ns == 1_000_000_000_000_000_001
    results_of(begun, folder).clear()
    begun.write(folder, images)
    assert file.stat().st_mtime_ns > 1_000_000_000_000_000_001


def test_only_the_same_prediction_is_gone_on_with(plan_for, photographs, tmp_path):
    images = images_of(str(photographs))
    begun, folder = plan_for(images, tmp_path / "a.csv")
    replace(begun, num_workers=5, devices=2).check_same(PredictionPlan.read(folder))
    cases = [({"run_id": "other"}, "run= differs"), ({"digest": "x"}, "the list of images differs")]
    cases += [({"top": 2}, r"top= differs \(0, now 2\)"), ({"calibrator": {}}, "calibration=")]
    cases += [({"code": {"own_code.mine": "1"}}, "your own code differs; give")]
    for changed, said in cases:
        with pytest.raises(ConfigError, match=said):
            replace(begun, **changed).check_same(PredictionPlan.read(folder))
