import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.special import softmax

from lesion_exp.data.lesion_dataset import LesionDataset, Preparation, SampleOptions
from lesion_exp.data.store import open_or_build
from lesion_exp.data.store_builder import StoreRequest
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.evaluation.calibrator import Calibrator, TemperatureScaling
from lesion_exp.evaluation.predictions import probabilities
from lesion_exp.model.predictor import NOT_FINITE, Predictor, collate, decided
from lesion_exp.model.restore import restore
from tests.verbs.predict.conftest import BROKEN, CLASSES


def files_in(folder):
    paths = sorted(path for path in folder.glob("*.*") if path.suffix in {".png", ".jpg"})
    return [path.read_bytes() for path in paths], [path.name for path in paths]


def samples_of(restored, encoded, names):
    """The samples of files, of broken ones a reason."""
    pairs = zip(encoded, names, strict=True)
    return [name if name in BROKEN else restored.preparation.from_bytes(content, name) for content, name in pairs]


@pytest.mark.parametrize("options", [SampleOptions(), *(SampleOptions(mask=m) for m in ("crop", "channel", "overlay"))])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_a_file_becomes_what_the_store_makes_of_it(restored, tmp_path, options, fit):
    restored.pipeline.fit = fit
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (91, 130, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    mask = np.zeros((91, 130), dtype=np.uint8)
    mask[30:60, 20:110] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    row = {"image_id": "a", "image_path": str(tmp_path / "a.png"), "mask_path": str(tmp_path / "mask.png")}
    table = pd.DataFrame([{**row, "label": "nv"}])
    store = open_or_build(table, StoreRequest(40, masks=options.mask != "none"), tmp_path / "cache")
    dataset = LesionDataset(table, store, restored.pipeline, CLASSES, options, training=False)
    preparation = Preparation(restored.pipeline, options, 40)
    pictures = {name: row[name] for name in preparation.companions}
    sample = preparation.from_files(row["image_path"], **pictures)
    assert torch.equal(sample["image"], dataset[(0, 0)]["image"])
    restored.pipeline.fit = "crop"


def test_a_broken_file_has_its_row_with_the_reason(restored, photographs):
    encoded, names = files_in(photographs)
    table = Predictor(restored).predict_files(encoded, names).set_index("image")
    assert set(table.index[table["error"].notna()]) == set(BROKEN)
    fine = table[table["error"].isna()]
    assert np.allclose(probabilities(fine).sum(axis=1), 1)
    assert (fine["prediction"] == np.array(CLASSES)[probabilities(fine).argmax(axis=1)]).all()
    failed = table.loc[list(BROKEN)]
    assert failed.drop(columns="error").isna().all(axis=None)
    assert "text.jpg is a text file" in table.loc["text.jpg", "error"]


def test_only_broken_files_are_a_table_too(restored):
    table = Predictor(restored, top=1).predict_files([b"", b"x"], ["a", "b"])
    assert table["error"].notna().all()
    assert table[["prediction", "top1", "p_mel"]].isna().all(axis=None)


def test_probabilities_are_those_of_the_network_and_calibrated_on_request(restored, photographs):
    encoded, names = files_in(photographs)
    plain = Predictor(restored).predict_files(encoded, names).dropna(subset="prediction")
    samples = torch.stack([restored.preparation.from_bytes(e, n)["image"] for e, n in zip(encoded, names, strict=True)
                           if n not in BROKEN])  # fmt: skip
    with torch.inference_mode():
        expected = restored.classifier.eval()({"image": samples}).softmax(dim=1)
    np.testing.assert_allclose(probabilities(plain), expected, atol=1e-6)
    calibrator = Calibrator(TemperatureScaling(0.25), CLASSES, 10, 10)
    sharper = Predictor(restored, calibrator).predict_files(encoded, names).dropna(subset="prediction")
    np.testing.assert_allclose(probabilities(sharper), calibrator.apply(probabilities(plain)), atol=1e-5)
    assert probabilities(sharper).max() > probabilities(plain).max()


def test_the_likeliest_classes_come_in_their_order(restored, photographs):
    encoded, names = files_in(photographs)
    table = Predictor(restored, top=3).predict_files(encoded, names).dropna(subset="prediction")
    for row in table.to_dict("records"):
        assert [row["top1"], row["top2"], row["top3"]] == sorted(CLASSES, key=lambda name: -row[f"p_{name}"])
    with pytest.raises(ConfigError, match="at most 3"):
        Predictor(restored, top=4)


def test_logits_are_what_the_probabilities_are_made_of(restored, photographs):
    encoded, names = files_in(photographs)
    calibrator = Calibrator(TemperatureScaling(0.25), CLASSES, 10, 10)
    predictor = Predictor(restored, calibrator, with_features=True)
    found = predictor.predict(collate(names, samples_of(restored, encoded, names)))
    plain = probabilities(Predictor(restored).predict_files(encoded, names))
    readable = found.table["error"].isna().to_numpy()
    np.testing.assert_allclose(softmax(found.logits, axis=1)[readable], plain[readable], atol=1e-6)
    assert np.isnan(found.logits[~readable]).all()


@pytest.mark.parametrize(
    ("probs", "thresholds", "expected"),
    [
        ((0.1, 0.3, 0.6), {"mel": 0.25}, "mel"),  # reached, though nv is likelier
        ((0.1, 0.2, 0.7), {"mel": 0.25}, "nv"),
        ((0.05, 0.7, 0.25), {"mel": 0.8}, "nv"),  # not reached, though mel is likeliest
        ((0.3, 0.3, 0.4), {"mel": 0.3, "bcc": 0.2}, "bcc"),  # 1.5 times its threshold
        ((0.2, 0.3, 0.5), {"mel": 0.3}, "mel"),  # reached exactly
    ],
)
def test_thresholds_decide_before_the_likeliest_class(probs, thresholds, expected):
    assert CLASSES[decided(np.array([probs]), CLASSES, thresholds)[0]] == expected


def test_a_predictor_with_thresholds_changes_the_prediction_and_no_probability(restored, photographs):
    encoded, names = files_in(photographs)
    plain = Predictor(restored, top=1).predict_files(encoded, names)
    likeliest = plain["prediction"].mode()[0]
    other = next(name for name in CLASSES if name != likeliest)
    found = Predictor(restored, top=1, thresholds={other: 1e-6}).predict_files(encoded, names)
    assert set(found["prediction"].dropna()) == {other}
    pd.testing.assert_frame_equal(found.drop(columns="prediction"), plain.drop(columns="prediction"))
    assert found["prediction"].isna().tolist() == plain["prediction"].isna().tolist()


def test_features_are_what_the_last_layer_sees(restored, photographs):
    encoded, names = files_in(photographs)
    predictor = Predictor(restored, with_features=True)
    found = predictor.predict(collate(names, samples_of(restored, encoded, names)))
    readable = [name not in BROKEN for name in names]
    with torch.inference_mode():
        logits = restored.classifier.backbone.head(torch.from_numpy(found.features[readable]))
    np.testing.assert_allclose(logits.softmax(dim=1), probabilities(found.table[readable]), atol=1e-6)
    assert np.isnan(found.features[~np.array(readable)]).all()


def test_numbers_that_are_none_are_an_error(restored):
    image = restored.preparation.from_bytes
    predictor = Predictor(restored)
    weight = restored.classifier.backbone.head.weight
    kept = weight.detach().clone()
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40)).save(buffer, "png")
    with torch.no_grad():
        weight.fill_(float("nan"))
        table = predictor.predict(collate(["a"], [image(buffer.getvalue(), "a")])).table
        weight.copy_(kept)
    assert table["error"].tolist() == [NOT_FINITE]
    assert table["prediction"].isna().all()


def test_metadata_is_asked_for_and_counts(restored_with_metadata, photographs):
    encoded = [(photographs / "good0.png").read_bytes()] * 2
    predictor = Predictor(restored_with_metadata)
    assert predictor.needed_columns == ("age", "sex", "site")
    with pytest.raises(DataError, match="age, sex, site"):
        predictor.predict_files(encoded, ["a", "b"])
    patients = pd.DataFrame({"age": [20.0, 80.0], "sex": ["male", "female"], "site": ["face", "back"]})
    first, second = probabilities(predictor.predict_files(encoded, ["a", "b"], patients))
    assert np.abs(first - second).max() > 1e-4


def test_pictures_of_unknown_depth_get_no_prediction(restored):
    values = np.linspace(0, 1, 40 * 60).reshape(40, 60)
    pixels = {"float.tiff": values.astype(np.float32), "twelve.png": (values * 4095).astype(np.uint16)}
    pixels["nan.tiff"] = np.where(values > 0.5, np.nan, values).astype(np.float32)
    contents = []
    for name, picture in pixels.items():
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, name.rpartition(".")[2])
        contents.append(buffer.getvalue())
    table = Predictor(restored).predict_files(contents, list(pixels))
    assert table["prediction"].isna().all()
    assert table["error"].str.contains("which value is white|NaN or infinite").all()


def test_the_precision_is_the_one_that_the_run_was_evaluated_in_whatever_suits_this_machine(
    untrained, photographs, monkeypatch
):
    config, checkpoint = untrained("trainer.precision=auto")
    content = torch.load(checkpoint, weights_only=True)
    found = {}
    for suits in (True, False):
        monkeypatch.setattr("lesion_exp.model.precision.cpu_has_bf16", lambda suits=suits: suits)
        for recorded in ("bf16-mixed", "32-true"):
            torch.save({**content, "lesion_exp": {**content["lesion_exp"], "precision": recorded}}, checkpoint)
            predictor = Predictor(restore(config, checkpoint))
            assert predictor.precision == recorded
            table = predictor.predict_files([(photographs / "good0.png").read_bytes()], ["good0.png"])
            found[suits, recorded] = probabilities(table)
    for recorded in ("bf16-mixed", "32-true"):
        np.testing.assert_array_equal(found[True, recorded], found[False, recorded])
    assert np.abs(found[True, "bf16-mixed"] - found[True, "32-true"]).max() > 0, "else this tests nothing"
