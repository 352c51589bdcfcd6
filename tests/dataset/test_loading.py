from __future__ import annotations

import json
import re

import pandas as pd
import pytest

from lesion_exp.dataset.loading import (
    SKIP_HINT,
    Flow,
    TableOptions,
    leave_out_unreadable,
    limit_lesions,
    load_table,
    require_any_mask,
    to_target,
)
from lesion_exp.dataset.path_patterns import as_override
from lesion_exp.dataset.table import map_labels, standardize
from lesion_exp.errors import ConfigError, DataError

CLASSES = {"nv": 60, "mel": 20, "df": 4, "vasc": 2}


@pytest.fixture
def table() -> pd.DataFrame:
    """86 lesions of two images each, with ages and sites partly unknown."""
    rows = [
        {
            "image_id": f"{label}_{lesion}_{image}",
            "image_path": f"/{label}_{lesion}_{image}.jpg",
            "raw": label,
            "lesion_id": f"{label}_{lesion}",
            "age": None if lesion == 0 else 20 + lesion,
            "sex": "male" if lesion % 2 else "female",
            "site": "unknown" if lesion == 1 else "back",
        }
        for label, lesions in CLASSES.items()
        for lesion in range(lesions)
        for image in range(2)
    ]
    frame = map_labels(pd.DataFrame(rows), "raw", {label: label for label in CLASSES})
    return standardize(frame.drop(columns="raw"), "mine")


def _load(table: pd.DataFrame, **options: object) -> tuple[pd.DataFrame, Flow]:
    flow = Flow()
    return load_table(lambda: table, TableOptions(**options), flow), flow  # type: ignore[arg-type]


def test_a_sound_table_comes_back_whole(table: pd.DataFrame) -> None:
    loaded, flow = _load(table)
    pd.testing.assert_frame_equal(loaded, table)
    assert [(step.images, step.lesions) for step in flow.steps] == [(172, 86)] * 2
    assert flow.left_out == []


def _with(table: pd.DataFrame, column: str, value: object) -> pd.DataFrame:
    broken = table.copy()
    broken[column] = broken[column].astype(object)
    broken.loc[[0, 7], column] = value
    return broken


FAULTS = [
    ("image_path", None, "no image file", "- nv_0_0", ["nv_0_0", "nv_3_1"]),
    ("label", None, "unknown label", "'nv' (2 rows)\n", ["nv_0_0", "nv_3_1"]),
    ("image_id", "twin", "doubled image_id", "- twin", ["twin"]),
]


@pytest.mark.parametrize(("column", "value", "fault", "case", "lost"), FAULTS)
def test_faulty_rows_are_listed_with_the_remedy(
    table: pd.DataFrame, column: str, value: object, fault: str, case: str, lost: list[str]
) -> None:
    with pytest.raises(DataError) as caught:
        _load(_with(table, column, value))
    for part in (f"{len(lost)} have a fault ({fault})", case, "dataset.on_bad_image=skip"):
        assert part in str(caught.value)


@pytest.mark.parametrize(("column", "value", "fault", "case", "lost"), FAULTS)
def test_faulty_rows_are_left_out_on_request_and_recorded(
    table: pd.DataFrame, column: str, value: object, fault: str, case: str, lost: list[str]
) -> None:
    loaded, flow = _load(_with(table, column, value), on_bad_image="skip")
    assert len(loaded) == 172 - len(lost)
    assert flow.left_out == [(image_id, fault) for image_id in lost]
    assert loaded.index.tolist() == list(range(len(loaded)))
    assert flow.steps[1].images == len(loaded)


def test_an_unknown_label_names_the_nearest_code(table: pd.DataFrame) -> None:
    broken = _with(table, "label", None)
    broken.loc[[0, 7], "raw_label"] = "vascu"
    with pytest.raises(DataError, match=r"'vascu' \(2 rows\): did you mean 'vasc'"):
        _load(broken)


def test_unreadable_images(table: pd.DataFrame, caplog: pytest.LogCaptureFixture) -> None:
    errors = {"nv_0_0": "truncated"}
    with pytest.raises(DataError, match=r"(?s)1 cannot be used:\n  - nv_0_0: truncated\n.*on_bad_image=skip"):
        leave_out_unreadable(table, errors, TableOptions(), Flow())
    flow = Flow()
    kept = leave_out_unreadable(table, errors, TableOptions(on_bad_image="skip"), flow)
    assert len(kept) == 171
    assert flow.left_out == [("nv_0_0", "truncated")]
    assert [found.in_words() for found in flow.findings] == [
        "left out: 1 image that cannot be decoded, for example\n  - nv_0_0: truncated"
    ]
    assert "nv_0_0: truncated" in caplog.text, "a training says it, too"
    assert len(leave_out_unreadable(table, {}, TableOptions(), Flow())) == 172


def test_masks_that_no_image_has_are_asked_for_once_with_the_key_that_names_them(table: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match=re.escape("add 'dataset.columns={mask_path: COLUMN}'")):
        require_any_mask(table.assign(mask_path=None), "crop")
    require_any_mask(table.assign(mask_path=[None, *["m.png"] * (len(table) - 1)]), "crop")


def test_filter_and_drop_unknown_in_the_flow(table: pd.DataFrame) -> None:
    loaded, flow = _load(table, filter="sex == 'female'", drop_unknown=True)
    assert loaded["age"].notna().all()
    assert set(loaded["sex"]) == {"female"}
    assert [step.step for step in flow.steps[2:]] == [
        "filter: sex == 'female'",
        "drop_unknown: age, sex and site known",
    ]
    assert [step.images for step in flow.steps] == [172, 172, 86, 78]


def test_drop_unknown_leaves_out_missing_ages_and_unknown_values(table: pd.DataFrame) -> None:
    loaded, _ = _load(table, drop_unknown=True)
    assert len(loaded) == 172 - 2 * 2 * len(CLASSES)


def test_a_filter_over_a_wrong_column_names_the_nearest(table: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="no column 'agee'; did you mean 'age'"):
        _load(table, filter="agee > 3")


def test_nothing_left_names_the_keys_that_are_set(table: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"after dataset\.filter='age > 1000', but none of 172 is left; .* this key"):
        _load(table, filter="age > 1000")
    with pytest.raises(DataError, match=r"after dataset\.drop_unknown=true, but none") as error:
        _load(table.assign(sex="unknown"), drop_unknown=True)
    assert "filter" not in str(error.value)


def test_a_class_that_loses_all_its_images_is_an_error(table: pd.DataFrame) -> None:
    lost = table.assign(image_path=table["image_path"].where(table["label"] != "df", None))
    with pytest.raises(DataError, match=r"(?s)none is left of these.*df: 8 images left out \(no image file\)") as error:
        _load(lost, on_bad_image="skip")
    remedy = re.search(r"'dataset\.filter=(.*)'", str(error.value))
    assert remedy is not None
    loaded, _ = _load(lost, on_bad_image="skip", filter=json.loads(remedy[1]))
    assert set(loaded["label"]) == set(CLASSES) - {"df"}


def test_nothing_usable_is_not_the_fault_of_a_filter(table: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"but none was found; set dataset\.root"):
        _load(table.assign(image_path=None), on_bad_image="skip")
    with pytest.raises(DataError, match=r"each of its 172 rows is left out \(172 unknown label\); check dataset"):
        _load(table.assign(label=None, raw_label="x"), on_bad_image="skip")


@pytest.mark.parametrize("limit", [*range(1, 86, 3), 86, 100])
def test_limit_keeps_every_class_whole_lesions_and_proportions(table: pd.DataFrame, limit: int) -> None:
    loaded, _ = _load(table, limit=limit)
    lesions = loaded.groupby("label")["lesion_id"].nunique()
    least = {label: min(3, count) for label, count in CLASSES.items()}
    assert lesions.sum() == max(min(limit, 86), sum(least.values()))
    above = [label for label in CLASSES if lesions[label] > least[label]]
    if all(limit * CLASSES[label] / 86 >= least[label] for label in CLASSES):
        assert all(abs(lesions[label] - min(limit, 86) * CLASSES[label] / 86) < 1 for label in CLASSES)
    assert all(least[label] <= lesions[label] <= CLASSES[label] for label in CLASSES)
    assert all(lesions[label] <= max(least[label], limit * CLASSES[label] / 86 + 1) for label in above)
    assert (loaded["lesion_id"].value_counts() == 2).all()


def test_limit_is_a_function_of_its_seed_and_not_of_the_rows_order(table: pd.DataFrame) -> None:
    chosen = set(limit_lesions(table, 20, seed=0)["image_id"])
    shuffled = table.sample(frac=1, random_state=1)
    assert set(limit_lesions(shuffled, 20, seed=0)["image_id"]) == chosen
    assert set(limit_lesions(table, 20, seed=1)["image_id"]) != chosen
    pd.testing.assert_frame_equal(limit_lesions(table, 1000, seed=0), table)


def test_limit_takes_an_image_without_a_lesion_for_a_lesion(table: pd.DataFrame) -> None:
    alone = table.assign(lesion_id=pd.Series([None] * len(table), dtype=object))
    assert len(limit_lesions(alone, 20, seed=0)) == 20


@pytest.mark.parametrize(
    "options",
    [
        {"on_bad_image": "ignore"},
        {"limit": 0},
        {"limit": "ten"},
        {"limit": True},
        {"drop_unknown": "yes"},
        {"filter": 3},
        {"seed": -1},
        {"seed": True},
    ],
)
def test_options_of_the_wrong_kind_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=rf"dataset\.{next(iter(options))} to be"):
        TableOptions(**options)  # type: ignore[arg-type]


def test_to_target(table: pd.DataFrame) -> None:
    assert to_target(table, "diagnosis") is table
    binary = to_target(table, "malignant")
    assert binary["diagnosis"].tolist() == table["label"].tolist()
    assert set(zip(binary["diagnosis"], binary["label"], strict=True)) == {
        ("nv", "benign"),
        ("mel", "malignant"),
        ("df", "benign"),
        ("vasc", "benign"),
    }
    with pytest.raises(DataError, match=r"task\.target=diagnosis"):
        to_target(table.assign(label="mine"), "malignant")


def test_unknown_labels_are_told_with_the_labels_of_the_set_and_their_counts(table: pd.DataFrame) -> None:
    broken = _with(table, "label", None)
    broken.loc[[0], "raw_label"], broken.loc[[7], "raw_label"] = "mole", "NA"
    with pytest.raises(DataError) as caught:
        _load(broken)
    message = str(caught.value)
    assert "- 'mole' (1 rows)\n" in message
    assert "'NA' (1 rows): it may be a class of this name, or a missing label" in message
    assert "known labels of the set: df (8 rows), mel (40 rows), nv (118 rows), vasc (4 rows)" in message
    assert "genodermatoses" not in message
    assert "dataset.labels" not in message
    with pytest.raises(DataError, match=r"in dataset\.labels=\{LABEL: CLASS,\.\.\.\}; otherwise correct"):
        _load(broken.assign(source="csv"))


def test_a_hint_is_for_labels_of_the_set_first(table: pd.DataFrame) -> None:
    broken = _with(table, "label", None)
    broken.loc[[0, 7], "raw_label"] = "melanom"
    with pytest.raises(DataError, match=r"'melanom' \(2 rows\): did you mean 'mel' \(melanoma, malignant\)\?\n"):
        _load(broken)


def test_rows_of_one_image_that_contradict_each_other_are_all_left_out(
    table: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    doubled = pd.concat([table, table.iloc[[0, 0, 3]]], ignore_index=True)
    doubled.loc[172, "label"] = "mel"
    with pytest.raises(DataError, match=r"3 have a fault \(image_id with several labels\):\n  - nv_0_0: mel, nv\n"):
        _load(doubled)
    loaded, flow = _load(doubled, on_bad_image="skip")
    assert len(loaded) == 171
    assert flow.left_out == [("nv_0_0", "image_id with several labels")] * 3 + [("nv_1_1", "doubled image_id")]
    assert "nv_0_0: mel, nv" in caplog.text


def test_malignancy_follows_the_names_of_classes(table: pd.DataFrame, caplog: pytest.LogCaptureFixture) -> None:
    names = {"nv": "nevus", "mel": "actinic keratosis", "df": "Dermatofibroma", "vasc": "vasc"}
    named = table.assign(label=table["label"].map(names))
    with caplog.at_level("INFO"):
        binary = to_target(named, "malignant")
    assert set(binary.loc[binary["label"] == "malignant", "diagnosis"]) == {"actinic keratosis"}
    assert "'actinic keratosis' counts as ak (malignant)" in caplog.text


def test_one_diagnosis_in_several_spellings_is_said(table: pd.DataFrame) -> None:
    spelled = table.assign(label=table["label"].replace({"df": "basalioma"}))
    rows = spelled.index[spelled["label"] == "nv"]
    spelled.loc[rows[:5], "label"] = "Melanocytic naevus".lower()
    spelled.loc[spelled.index[spelled["label"] == "basalioma"][:2], "label"] = "basali-oma"
    said = [found.in_a_line() for found in _load(spelled)[1].findings if found.level == "warning"]
    assert len(said) == 1
    assert "1 diagnoses are split into several classes" in said[0]
    assert "'melanocytic naevus' (5 images) and 'nv'" in said[0]
    assert "basali" not in said[0]
    assert not [found for found in _load(table)[1].findings if found.level == "warning"]


def test_an_unknown_label_that_names_a_diagnosis_is_called_by_it(table: pd.DataFrame) -> None:
    broken = _with(table, "label", None).assign(raw_label=table["label"])
    broken.loc[[0, 7], "raw_label"] = "actinic keratosis"
    with pytest.raises(
        DataError, match=r"'actinic keratosis' \(2 rows\): the name of 'ak' \(actinic keratosis, malignant\)"
    ):
        _load(broken)


def test_all_classes_without_a_malignancy_are_told_at_once_with_their_counts(table: pd.DataFrame) -> None:
    strange = table.assign(label=table["label"].replace({"df": "ringworm", "vasc": "melanom"}))
    with pytest.raises(DataError) as caught:
        to_target(strange, "malignant")
    message = str(caught.value)
    assert "- 'melanom' (4 images); did you mean 'mel' (melanoma, malignant)?" in message
    assert "- 'ringworm' (8 images)\n" in message
    remedy = 'label != "melanom" and label != "ringworm"'
    assert as_override("dataset.filter", remedy) in message
    with pytest.raises(DataError) as caught:
        to_target(strange, "malignant", "age > 0")
    assert as_override("dataset.filter", f"(age > 0) and {remedy}") in str(caught.value)
    assert set(to_target(_load(strange, filter=remedy)[0], "malignant")["label"]) == {"benign", "malignant"}


def test_a_reader_that_returns_no_table_is_told_how_to_end() -> None:
    with pytest.raises(DataError, match=r"a table, got NoneType; end it with return .*standardize\(table, name\)"):
        load_table(lambda: None, TableOptions(), Flow())  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(("label", "shown"), [(1, r"1 \(int\)"), (("nv",), r"\('nv',\) \(tuple\)")])
def test_a_reader_whose_labels_are_no_texts_is_told_how_to_write_them(
    table: pd.DataFrame, label: object, shown: str
) -> None:
    broken = table.astype({"label": object})
    broken.at[3, "label"] = label
    with pytest.raises(DataError, match=rf"expected names of classes \(text\) in the column label .* got {shown}"):
        _load(broken)


def test_faults_of_all_kinds_are_told_at_once_with_cases_of_each(table: pd.DataFrame) -> None:
    faulty = pd.concat([table, table.iloc[[5]]], ignore_index=True)
    faulty.loc[[0, 1], "image_path"] = None
    faulty.loc[[1, 2], "label"] = None
    faulty["raw_label"] = faulty["label"].fillna("naevvus")
    with pytest.raises(DataError) as caught:
        _load(faulty)
    told = str(caught.value)
    ids = faulty["image_id"]
    assert f"1 have a fault (doubled image_id):\n  - {ids[5]}\n" in told
    assert f"2 have a fault (no image file):\n  - {ids[0]}\n  - {ids[1]}\n" in told
    assert "2 have a fault (unknown label):\n  - 'naevvus' (2 rows)" in told
    assert told.count(SKIP_HINT) == 1
    assert told.endswith(SKIP_HINT)
