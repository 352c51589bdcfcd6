"""The columns of metadata of a stacked ensemble, on a small set in the layout of PAD-UFES-20."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lesion_exp.config.overrides import parse_overrides
from lesion_exp.dataset.pad_ufes_20 import read_pad_ufes_20
from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.predictions import predictions_table
from lesion_exp.evaluation.stack_features import StackFeatures
from lesion_exp.evaluation.stacking import StackOptions, fit_stacking
from lesion_exp.verbs.evaluate.stack import columns_missing_by_label, feature_columns

HEADER = (
    "patient_id,lesion_id,smoke,drink,background_father,background_mother,age,pesticide,gender,skin_cancer_history,"
    "cancer_history,has_piped_water,has_sewage_system,fitspatrick,region,diameter_1,diameter_2,diagnostic,itch,grew,"
    "hurt,changed,bleed,elevation,img_id,biopsed"
)


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Predictions at random for 300 lesions of 100 patients, of whom the half without a biopsy has no history."""
    root: Path = tmp_path_factory.mktemp("pad")
    rng = np.random.default_rng(0)
    rows = []
    (root / "images").mkdir()
    for number in range(300):
        code = str(rng.choice(["ACK", "BCC", "NEV"]))
        asked = rng.random() < 0.5
        row = dict.fromkeys(HEADER.split(","), "")
        row |= {
            "patient_id": f"PAT_{number % 100}", "lesion_id": str(number), "img_id": f"PAT_{number}.png",
            "diagnostic": code, "age": str(rng.integers(20, 90)), "region": "ARM", "biopsed": "False",
            "itch": "True" if code == "BCC" else "False", "grew": "UNK",
            "smoke": str(rng.random() < 0.5) if asked else "", "gender": "MALE" if asked else "",
            "diameter_1": f"{6.0 if code == 'ACK' else 12.0}" if asked else "", "fitspatrick": "2.0" if asked else "",
        }  # fmt: skip
        rows.append(row)
        Image.new("RGB", (8, 8)).save(root / "images" / row["img_id"])
    pd.DataFrame(rows).to_csv(root / "metadata.csv", index=False)
    table = read_pad_ufes_20(str(root))
    probs = rng.dirichlet(np.ones(3), len(table))
    return predictions_table(table, probs, sorted(table["label"].unique()))


def test_symptoms_and_history_are_features_with_missing_values(predicted: pd.DataFrame) -> None:
    columns = feature_columns(predicted, ["age", "sex", "itch", "smoke", "diameter_*"])
    assert set(columns) >= {"age", "sex", "itch", "smoke", "diameter_1"}
    assert predicted["diameter_1"].isna().mean() > 0.3
    plain = metrics(fit_stacking([predicted], StackOptions("hgb")).table)
    told = fit_stacking([predicted], StackOptions("hgb", columns=columns))
    assert plain["auroc_macro"] < 0.65
    assert metrics(told.table)["auroc_macro"] > 0.85, "itch is bcc, and half of the others have a diameter"
    assert metrics(told.table)["auroc/bcc"] > 0.97
    assert {one.source for one in told.importance[:2]} == {"itch", "diameter_1"}


def test_ids_labels_and_what_gives_them_away_are_no_features(predicted: pd.DataFrame) -> None:
    everything = feature_columns(predicted, ["*"])
    assert not {"patient_id", "lesion_id", "label", "leaks_biopsed", "prediction", "p_bcc"} & set(everything)
    assert {"age", "itch", "smoke"} <= set(everything)
    for name in ("leaks_biopsed", "lesion_id", "label", "p_bcc"):
        with pytest.raises(ConfigError, match=f"got {name}, which is an id, a label or a prediction"):
            feature_columns(predicted, [name])
    with pytest.raises(ConfigError, match=r"got smoking, did you mean 'smoke' or 'skin_tone'\?"):
        feature_columns(predicted, ["smoking"])


def test_columns_whose_missing_values_give_the_label_away_are_named(predicted: pd.DataFrame) -> None:
    biopsied = predicted["sex"] != "unknown"
    chosen = ("age", "sex", "site", "skin_tone")
    features, _ = StackFeatures.fit([predicted], ["predictions", "metadata"], chosen)
    assert columns_missing_by_label(predicted, features) == [], "no lesion was biopsied"
    table = predicted.assign(leaks_biopsed=biopsied, leaks_confirmed="histopathology")
    (note,) = columns_missing_by_label(table, features)
    count = int((~biopsied).sum())
    said = f"values are missing only where leaks_biopsed is false (skin_tone in {count} of 300 images, sex in {count}"
    assert note.startswith(said)
    assert note.endswith("leave these columns out with stack_columns=[age,site]")
    mixed = table.assign(leaks_biopsed=biopsied | (table.index == biopsied.idxmin()))
    assert columns_missing_by_label(mixed, features) == [], "values of biopsied lesions are missing as well"
    context, _ = StackFeatures.fit([predicted], ["predictions", "context"], chosen)
    assert "skin_tone" in columns_missing_by_label(table, context)[0], (
        "numbers are compared with those of other lesions"
    )
    assert "sex" not in columns_missing_by_label(table, context)[0]


@pytest.mark.parametrize(
    ("columns", "groups", "remedy"),
    [
        (["age", "skin_tone"], ["predictions", "context", "metadata"], "stack_columns=[age]"),
        (["sex"], ["predictions", "context", "metadata"], "stack_features=[predictions,context]"),
        (["skin_tone"], ["predictions", "context", "metadata"], "stack_features=[predictions]"),
        (["skin_tone", "sex"], ["context", "metadata"], "stack_features=[predictions]"),
        (["sex"], ["predictions", "metadata"], "stack_features=[predictions]"),
    ],
)
def test_columns_that_give_the_label_away_are_left_out_by_what_the_note_says(
    predicted: pd.DataFrame, columns: list[str], groups: list[str], remedy: str
) -> None:
    table = predicted.assign(leaks_biopsed=predicted["sex"] != "unknown")
    features, _ = StackFeatures.fit([table], groups, columns)
    (note,) = columns_missing_by_label(table, features)
    assert note.endswith(f"with {remedy}")
    (typed,) = parse_overrides([remedy])
    chosen = {"stack_features": groups, "stack_columns": columns, typed.key_or_group: typed.value()}
    features, _ = StackFeatures.fit([table], chosen["stack_features"], chosen["stack_columns"])
    assert columns_missing_by_label(table, features) == []
