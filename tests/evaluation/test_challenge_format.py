import numpy as np
import pandas as pd
import pytest

from lesion_exp.choices import CHALLENGES
from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.challenge_format import FORMATS, format_of

HAM = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
HEADERS = {
    "isic2018": "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC",
    "isic2019": "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK",
    "isic2020": "image_name,target",
    "isic2024": "isic_id,target",
    "milk10k": "lesion_id,AKIEC,BCC,BEN_OTH,BKL,DF,INF,MAL_OTH,MEL,NV,SCCKA,VASC",
}


@pytest.mark.parametrize("name", CHALLENGES)
def test_a_submission_has_the_published_header_and_is_recognised(name):
    layout = FORMATS[name]
    classes = sorted(layout.classes.values()) if name != "isic2020" else ("benign", "malignant")
    classes = ("benign", "malignant") if name == "isic2024" else classes
    probs = np.random.default_rng(0).dirichlet(np.ones(len(classes)), 4)
    written = layout.submission(list("abcd"), probs, classes)
    assert ",".join(written) == HEADERS[name]
    assert format_of(list(written)) is layout
    for column, of in layout.classes.items():
        assert written[column].tolist() == probs[:, list(classes).index(of)].tolist()


def test_ground_truths_with_further_columns_are_recognised():
    assert format_of([*HEADERS["isic2018"].split(","), "score_weight", "validation_weight"]).name == "isic2018"
    assert format_of(["image_name", "patient_id", "diagnosis", "benign_malignant", "target"]).name == "isic2020"
    assert format_of(HEADERS["isic2019"].split(",")[:-1]).name == "isic2019"
    assert format_of(["image", "MEL", "NV"]) is None


def test_classes_are_joined_by_the_taxonomy():
    probs = np.full((2, 7), 1 / 7)
    target = FORMATS["isic2020"].submission(["a", "b"], probs, HAM)["target"]
    pd.testing.assert_series_equal(target, pd.Series([3 / 7, 3 / 7], name="target"))  # akiec, bcc and mel
    parts = FORMATS["isic2018"].submission(
        ["a"], np.array([[0.1, 0.2, 0.7]]), ("common_nevus", "atypical_nevus", "mel")
    )
    assert parts.loc[0, "NV"] == pytest.approx(0.3)
    assert parts.loc[0, ["AKIEC", "BCC", "BKL", "DF", "VASC"]].tolist() == [0] * 5


def test_a_class_that_belongs_to_several_columns_is_refused():
    with pytest.raises(ConfigError, match=r"expected classes that belong to one column of format=isic2019(.|\n)*akiec"):
        FORMATS["isic2019"].places(HAM)


def test_a_class_that_may_be_either_is_not_malignant_where_the_target_is_all_there_is():
    """The classes of ISIC 2020 by `dataset.label=diagnosis`, and those of ISIC 2019."""
    for classes in (("bkl", "mel", "nv", "unk"), ("ak", "bcc", "bkl", "df", "mel", "nv", "scc", "unk", "vasc")):
        probs = np.random.default_rng(0).dirichlet(np.ones(len(classes)), 3)
        malignant = [classes.index(name) for name in ("ak", "bcc", "mel", "scc") if name in classes]
        for name in ("isic2020", "isic2024"):
            written = FORMATS[name].submission(list("abc"), probs, classes)
            np.testing.assert_allclose(written["target"], probs[:, malignant].sum(axis=1))
            assert FORMATS[name].undecided(classes) == ["unk"]
    for name in ("isic2018", "milk10k"):
        with pytest.raises(ConfigError, match="unk"):
            FORMATS[name].places(("mel", "nv", "unk"))
    with pytest.raises(ConfigError, match="wart"):
        FORMATS["isic2020"].places(("mel", "wart"))


@pytest.mark.parametrize("name", ["isic2018", "isic2020"])
def test_no_value_is_above_1_where_float32_rounds_up(name):
    probs = np.array([[1e-7, 1e-9, 1, 0]], dtype=np.float32)
    classes = ("akiec", "bcc", "mel", "nv") if name == "isic2020" else ("mel_in_situ", "mel_metastasis", "mel", "nv")
    written = FORMATS[name].submission(["a"], probs.astype(np.float64), classes)
    assert probs.astype(np.float64).sum() > 1
    assert written.iloc[0, 1:].max() == 1
