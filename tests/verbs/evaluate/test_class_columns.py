"""Which columns of a file of predictions are read: never the true classes beside the predictions."""

from io import StringIO

import numpy as np
import pandas as pd
import pytest

from lesion_exp.config.overrides import parse_overrides
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.verbs.evaluate.given_predictions import read_predictions_file
from lesion_exp.verbs.evaluate.import_request import ImportRequest

ISIC = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
KNOWN = ["benign", "malignant"]


@pytest.fixture
def read(tmp_path):
    def reader(table, known=KNOWN, **options):
        frame = pd.read_csv(StringIO(table)) if isinstance(table, str) else table
        frame.to_csv(tmp_path / "theirs.csv", index=False)
        return read_predictions_file(ImportRequest(predictions=tmp_path / "theirs.csv", **options), known)

    return reader


def remedies(error):
    """The values of columns= that the message of `error` names."""
    words = str(error.value).split("columns='")[1:]
    typed = [f"columns={word.partition(chr(39))[0]}" for word in words]
    return [override.value() for override in parse_overrides([text for text in typed if "..." not in text])]


def one_hot(**further):
    """Three images of ISIC 2018 with their true classes, and `further` columns."""
    truth = pd.DataFrame(np.eye(7, dtype=int)[:3], columns=list(ISIC)).assign(**further)
    truth.insert(0, "image", ["ISIC_1", "ISIC_2", "ISIC_3"])
    return truth


@pytest.mark.parametrize(
    "table",
    [
        "isic_id,patient_id,target,fold,pred\nI1,p1,0,0,0.3\nI2,p2,1,1,0.6\n",  # out-of-fold predictions
        "image_name,target,benign_malignant,oof_effnet\nI1,0,benign,-1.3\nI2,1,malignant,2.5\n",
        "image_id,target,score\nI1,0,0.3\nI2,1,0.6\n",
        "image_id,malignant,xgboost\nI1,0,0.3\nI2,1,0.6\n",
        "isic_id,target,tbp_lv_ecc,prob_malignant\nI1,0,0.3,0.1\nI2,1,0.6,0.8\n",
    ],
)
def test_the_true_classes_beside_a_score_are_refused_and_the_remedy_reads_the_score(read, table):
    with pytest.raises(DataError, match="got 0 and 1 alone beside") as error:
        read(table)
    theirs, own = remedies(error)
    header = table.partition("\n")[0].split(",")
    score, truth = header[-1], "malignant" if "malignant" in header else "target"
    assert theirs == {"malignant": score}
    assert own == {"malignant": truth}
    values = "logits" if "oof" in table else "probabilities"
    found = read(table, columns=theirs, values=values)
    given = pd.read_csv(StringIO(table))[score]
    wanted = 1 / (1 + np.exp(-given)) if values == "logits" else given
    np.testing.assert_allclose(found.probs[:, 1], wanted)
    assert read(table, columns=own).probs[:, 1].tolist() == [0, 1]


def test_the_columns_of_a_ground_truth_do_not_count_beside_those_of_predictions(read):
    probs = np.random.default_rng(0).dirichlet(np.ones(7), 3)
    own = {f"p_{name.lower()}": column for name, column in zip(ISIC, probs.T, strict=True)}
    found = read(one_hot(**own, score_weight=1), known=[])
    np.testing.assert_allclose(found.probs[:, found.classes.index("mel")], probs[:, 0])
    other = {name.replace("p_", "prob_"): column for name, column in own.items()}
    with pytest.raises(DataError, match="got 0 and 1 alone beside prob_mel, prob_nv") as error:
        read(one_hot(**other), known=[])
    found = read(one_hot(**other), known=[], columns=remedies(error)[0])
    np.testing.assert_allclose(found.probs[:, found.classes.index("mel")], probs[:, 0])
    with pytest.raises(DataError, match="got 0 and 1 alone beside prediction") as error:
        read(one_hot(prediction=["NV", "NV", "DF"]), known=[])
    assert read(one_hot(prediction=["NV", "NV", "DF"]), known=[], columns=remedies(error)[0]).labels[1] == "NV"


@pytest.mark.parametrize("key", ["image_id", "isic_id"])  # the second with the target of a challenge
def test_a_target_of_names_is_not_read_as_the_prediction(read, key):
    table = f"{key},target,prediction\nI1,mel,mel\nI2,nv,bkl\n"
    found = read(table, known=["bkl", "mel", "nv"])
    assert found.labels == ("mel", "bkl")
    assert found.columns["prediction"] == "prediction"
    assert read(table.replace("target", "label"), known=["bkl", "mel", "nv"]).labels == found.labels


@pytest.mark.parametrize("values", ["probabilities", "logits"])
def test_the_numbers_of_true_classes_beside_a_prediction_are_refused(read, values):
    table = "image_id,target,pred\nI1,4,4\nI2,6,5\nI3,0,1\n"
    with pytest.raises(DataError, match="got whole numbers alone beside pred") as error:
        read(table, known=["bkl", "mel", "nv"], values=values)
    theirs, own = remedies(error)
    assert theirs == {"prediction": "pred"}
    assert read(table, columns=theirs).labels == ("4", "5", "1")
    logits = read(table, columns=own, values="logits").probs[:, 1]
    np.testing.assert_allclose(logits, 1 / (1 + np.exp([-4.0, -6.0, 0.0])))
    assert read(table.replace("target", "malignant"), values="logits", columns={"malignant": "pred"}).labels == ()


@pytest.mark.parametrize("key", ["image_id", "isic_id"])
@pytest.mark.parametrize("empty", ["", "-"])
def test_true_classes_that_only_some_images_have_are_refused_as_well(read, key, empty):
    table = f"{key},target,pred\nI1,0,0.1\nI2,1,0.8\nI3,{empty},0.7\n"  # as for training and test images together
    with pytest.raises(DataError, match="got 0 and 1 alone beside pred") as error:
        read(table)
    np.testing.assert_allclose(read(table, columns=remedies(error)[0]).probs[:, 1], [0.1, 0.8, 0.7])
    table = f"{key},target,pred\nI1,4,4\nI2,6,5\nI3,{empty},1\n"
    with pytest.raises(DataError, match="got whole numbers alone beside pred") as error:
        read(table, known=["bkl", "mel", "nv"])
    assert read(table, columns=remedies(error)[0]).labels == ("4", "5", "1")


def test_predictions_of_0_and_1_are_read_with_a_note(read):
    plain = read("isic_id,target\nI1,0\nI2,1\n")
    assert plain.probs.tolist() == [[1, 0], [0, 1]]
    assert "all probabilities of theirs.csv are 0 or 1" in plain.notes[0]
    weighted = read(one_hot(score_weight=[1, 0, 1], validation_weight=0.5, age_approx=50), known=[])
    assert (weighted.challenge, len(weighted.notes)) == ("isic2018", 1)
    assert read("isic_id,target\nI1,0.2\nI2,1\n").notes == ()


def test_a_named_column_of_predicted_classes_is_read_whatever_else_the_file_has(read):
    table = "image_id,final,p_mel,p_nv\nI1,nv,0.7,0.3\nI2,nv,0.2,0.8\n"
    assert read(table, known=["mel", "nv"]).labels == ()
    found = read(table, known=["mel", "nv"], columns={"image_id": "image_id", "prediction": "final"})
    assert found.labels == ("nv", "nv")
    assert found.columns["prediction"] == "final"
    target = "isic_id,target,final\nI1,0.7,benign\nI2,0.8,malignant\n"
    assert read(target, columns={"prediction": "final"}).labels == ("benign", "malignant")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"columns": {"prediction": "final", "mel": "p_mel"}}, "beside mel in columns="),
        ({"columns": {"prediction": "final"}, "values": "logits"}, "beside values=logits"),
        ({"columns": {"prediction": "final"}, "rescale": True}, "beside rescale=true"),
    ],
)
def test_a_named_column_of_predicted_classes_stands_alone(read, options, said):
    with pytest.raises(ConfigError, match=said):
        read("image_id,final,p_mel,p_nv\nI1,nv,0.7,0.3\n", **options)


def test_a_row_of_zeros_has_a_remedy_that_works(read):
    table = "image_id,p_mel,p_nv\nI1,0.9,0.9\nI2,0,0\n"
    with pytest.raises(DataError, match=r"1 of 2 rows are not(.|\n)*I2(.|\n)*remove these rows") as error:
        read(table, rescale=True)
    assert "rescale=true divides" not in str(error.value)
    found = read(table.replace("I2,0,0\n", ""), rescale=True)
    assert found.probs.tolist() == [[0.5, 0.5]]
    assert found.is_rescaled
    assert not read("image_id,p_mel,p_nv\nI1,0.9,0.1\n", rescale=True).is_rescaled
