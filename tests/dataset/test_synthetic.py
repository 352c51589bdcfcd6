from __future__ import annotations

import hashlib
import multiprocessing
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from lesion_exp.dataset import synthetic
from lesion_exp.dataset.findings import collected_findings
from lesion_exp.dataset.loading import Flow, TableOptions, leave_out_unreadable, load_table
from lesion_exp.dataset.synthetic import CLASS_SHARES, read_synthetic
from lesion_exp.dataset.synthetic_cases import draw_cases, lesions_per_class
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.image_file import decode, read_bytes, read_image, read_mask

SMALL = {"num_lesions": 30, "image_height": 48, "image_width": 64}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture(scope="module")
def table(root: str) -> pd.DataFrame:
    return read_synthetic(root, **SMALL)


def _contents(table: pd.DataFrame) -> dict[str, str]:
    folder = Path(table["image_path"].dropna()[0]).parents[1]
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_table(table: pd.DataFrame) -> None:
    assert sorted(table["label"].unique()) == sorted(CLASS_SHARES)
    assert table["lesion_id"].nunique() == 30
    assert (table.groupby("label")["lesion_id"].nunique() >= 3).all()
    assert table["image_id"].is_unique
    assert table["lesion_id"].duplicated().any()  # several photographs of one lesion
    assert (table.groupby("lesion_id")[["label", "patient_id", "site"]].nunique() == 1).all(axis=None)
    assert (table.groupby("patient_id")[["age", "sex", "skin_tone"]].nunique() == 1).all(axis=None)
    assert table["age"].between(5, 85).all()
    assert set(table["sex"]) == {"male", "female"}
    assert table["skin_tone"].between(1, 6).all()
    assert table[["image_path", "mask_path"]].notna().all(axis=None)


def test_images_and_masks(table: pd.DataFrame) -> None:
    for row in table.itertuples():
        image, mask = read_image(row.image_path), read_mask(row.mask_path, (48, 64))
        assert image.shape == (48, 64, 3)
        assert 0.005 < (mask > 0).mean() < 0.9
    shares = [(read_mask(path, (48, 64)) > 0).mean() for path in table["mask_path"]]
    assert np.std(shares) > 0.02


def test_what_is_told_of_the_files_is_what_is_read(root: str, table: pd.DataFrame) -> None:
    with collected_findings() as found:
        read_synthetic(root, **SMALL)
    counts = f"{len(table)} of {len(table)} rows have a file"
    told = {each.text for each in found}
    assert told == {f"{what} of generated lesions: {counts}" for what in ("image files", "masks")}


def test_a_lesion_is_darker_or_redder_than_the_skin_around_it(table: pd.DataFrame) -> None:
    """The mask lies where the lesion is: green light is absorbed there in all classes but a few pale ones."""
    darker = []
    for row in table.itertuples():
        image, mask = read_image(row.image_path).astype(float), read_mask(row.mask_path, (48, 64)) > 0
        near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))).astype(bool) & ~mask
        if near.any():
            darker.append(image[mask][:, 1].mean() < image[near][:, 1].mean())
    assert np.mean(darker) > 0.8


def test_photographs_of_one_lesion_differ(table: pd.DataFrame) -> None:
    lesion = table["lesion_id"][table["lesion_id"].duplicated()].iloc[0]
    images = [read_image(path) for path in table.loc[table["lesion_id"] == lesion, "image_path"]]
    assert not np.array_equal(images[0], images[1])


def test_a_second_call_draws_nothing(root: str, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "_draw", lambda *_: pytest.fail("drawn again"))
    pd.testing.assert_frame_equal(read_synthetic(root, **SMALL), table)


def test_the_same_arguments_give_the_same_bytes_elsewhere(table: pd.DataFrame, tmp_path: Path) -> None:
    assert _contents(read_synthetic(str(tmp_path), **SMALL)) == _contents(table)


@pytest.mark.parametrize(
    "change",
    [{"drawing_seed": 1}, {"num_lesions": 31}, {"image_width": 65}, {"num_corrupt": 1}, {"patient_effect": 0.3}],
)
def test_other_arguments_give_another_folder(
    root: str, table: pd.DataFrame, change: dict[str, int], tmp_path: Path
) -> None:
    before = _contents(table)
    other = read_synthetic(root, **{**SMALL, **change})
    assert Path(other["image_path"][0]).parents[1] != Path(table["image_path"][0]).parents[1]
    assert _contents(other) != before
    assert _contents(table) == before


def _read_in_process(root: str) -> int:
    return len(read_synthetic(root, **SMALL))


def test_processes_that_draw_at_once_agree(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        counts = pool.map(_read_in_process, [str(tmp_path)] * 2)
    assert len(set(counts)) == 1
    assert len(list(tmp_path.iterdir())) == 1  # one folder, nothing half-made beside it


def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(synthetic, "plant", interrupt)
        with pytest.raises(KeyboardInterrupt):
            read_synthetic(str(tmp_path), **SMALL)
    assert list(tmp_path.iterdir()) == []
    assert read_synthetic(str(tmp_path), **SMALL)["image_path"].notna().all()


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    faults = {
        "num_duplicates": 3,
        "num_near_duplicates": 3,
        "num_corrupt": 2,
        "num_missing": 2,
        "num_unknown_labels": 2,
        "num_doubled_ids": 2,
        "num_missing_ages": 3,
    }
    return read_synthetic(str(tmp_path_factory.mktemp("faulty")), **SMALL, **faults)


def _planted(table: pd.DataFrame, fault: str) -> pd.DataFrame:
    folder = Path(table["image_path"].dropna().iloc[0]).parents[1]
    planted = pd.read_csv(folder / "planted_faults.csv")
    return planted[planted["fault"] == fault]


def test_no_fault_unless_asked_for(table: pd.DataFrame) -> None:
    flow = Flow()
    assert len(load_table(lambda: table, TableOptions(), flow)) == len(table)
    assert flow.left_out == []
    assert table["age"].notna().all()
    hashes = [hashlib.sha256(read_bytes(path)).hexdigest() for path in table["image_path"]]
    assert len(set(hashes)) == len(hashes)


def test_loading_finds_the_doubled_the_missing_and_the_unknown(faulty: pd.DataFrame) -> None:
    flow = Flow()
    loaded = load_table(lambda: faulty, TableOptions(on_bad_image="skip"), flow)
    for fault, reason in (
        ("doubled_ids", "doubled"),
        ("missing", "no image file"),
        ("unknown_labels", "unknown label"),
    ):
        found = sorted(image_id for image_id, why in flow.left_out if reason in why)
        assert found == sorted(_planted(faulty, fault)["image_id"]), fault
        assert len(found) == 2, fault
    assert len(loaded) == len(faulty) - 6


@pytest.mark.parametrize(
    ("fault", "message"),
    [("num_doubled_ids", "doubled image_id"), ("num_missing", "no image file"), ("num_unknown_labels", "unclear")],
)
def test_loading_refuses_each_fault_by_default(root: str, fault: str, message: str) -> None:
    table = read_synthetic(root, **{**SMALL, fault: 1})
    with pytest.raises(DataError, match=message):
        load_table(lambda: table, TableOptions(), Flow())


def test_corrupt_files_cannot_be_decoded_and_all_others_can(faulty: pd.DataFrame) -> None:
    errors: dict[str, str] = {}
    for image_id, path in faulty.dropna(subset="image_path")[["image_id", "image_path"]].itertuples(index=False):
        try:
            decode(read_bytes(path))
        except DataError as error:
            errors[image_id] = str(error)
    assert sorted(errors) == sorted(_planted(faulty, "corrupt")["image_id"])
    assert len(errors) == 2
    kept = leave_out_unreadable(faulty, errors, TableOptions(on_bad_image="skip"), Flow())
    assert len(kept) == len(faulty) - 2
    with pytest.raises(DataError, match="2 cannot be used"):
        leave_out_unreadable(faulty, errors, TableOptions(), Flow())


def test_duplicates_are_equal_or_nearly_under_another_lesion(faulty: pd.DataFrame) -> None:
    rows = faulty.drop_duplicates("image_id").set_index("image_id")
    for fault in ("duplicates", "near_duplicates"):
        planted = _planted(faulty, fault)
        assert len(planted) == 3
        for copy, original in planted[["image_id", "original"]].itertuples(index=False):
            twins = rows.loc[[copy, original]]
            assert twins["lesion_id"].nunique() == 2
            assert twins["patient_id"].nunique() == 2
            assert twins["label"].nunique() == 1
            contents = [read_bytes(path) for path in twins["image_path"]]
            assert (contents[0] == contents[1]) == (fault == "duplicates")
            thumbnails = [
                np.asarray(Image.open(path).convert("L").resize((9, 8)), float) for path in twins["image_path"]
            ]
            assert np.abs(thumbnails[0] - thumbnails[1]).mean() < 8


def test_missing_ages(faulty: pd.DataFrame) -> None:
    missing = faulty.drop_duplicates("image_id").set_index("image_id")["age"].isna()
    assert sorted(missing.index[missing]) == sorted(_planted(faulty, "missing_ages")["image_id"])
    assert missing.sum() == 3


def test_shares_decide_the_counts() -> None:
    assert lesions_per_class(100, {"nv": 3, "mel": 1}) == {"mel": 25, "nv": 75}
    assert lesions_per_class(20, {"nv": 100, "mel": 1, "df": 0}) == {"mel": 3, "nv": 17}
    assert lesions_per_class(3, {"nv": 100, "mel": 1}) == {"mel": 1, "nv": 2}
    demo = lesions_per_class(420, CLASS_SHARES)
    assert sum(demo.values()) == 420
    assert min(demo.values()) >= 12
    assert max(demo, key=lambda code: demo[code]) == "nv"


def test_a_class_of_share_zero_is_left_out(tmp_path: Path) -> None:
    table = read_synthetic(str(tmp_path), 6, 32, 32, 1, class_shares={"nv": 1, "mel": 1, "df": 0})
    assert table["label"].value_counts().to_dict() == {"nv": 3, "mel": 3}


def test_cases_are_as_plausible_as_asked() -> None:
    cases = draw_cases(lesions_per_class(3000, CLASS_SHARES), 1.5, seed=0)
    assert len(cases) / cases["lesion_id"].nunique() == pytest.approx(1.5, abs=0.05)
    ages = cases.drop_duplicates("lesion_id").groupby("dx")["age"].mean()
    assert ages["nv"] < ages["df"] < ages["bcc"]
    lesions = cases.groupby("patient_id")["lesion_id"].nunique()
    assert 0.05 < (lesions > 1).mean() < 0.3
    numbers = cases["lesion"].rank(pct=True)
    assert numbers[cases["dx"] == "nv"].mean() == pytest.approx(0.5, abs=0.05)  # ids do not tell the class


def test_classes_can_be_learned_from_colour_only_in_part(tmp_path: Path) -> None:
    """Mean colours beat chance (1/7), and leave much to be learned from structure."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    shares = dict.fromkeys(CLASS_SHARES, 1.0)
    table = read_synthetic(str(tmp_path), 210, 48, 64, 1.2, class_shares=shares)
    images = [
        cv2.resize(read_image(path), (8, 8), interpolation=cv2.INTER_AREA).ravel() for path in table["image_path"]
    ]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=200))
    predicted = cross_val_predict(
        model, np.stack(images) / 255, table["label"], groups=table["patient_id"], cv=GroupKFold(4)
    )
    assert 0.3 < balanced_accuracy_score(table["label"], predicted) < 0.8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_lesions": 6}, r"num_lesions to be a whole number of at least 7, got 6"),
        ({"num_lesions": 20.5}, "num_lesions to be a whole number"),
        ({"num_lesions": True}, "num_lesions to be a whole number"),
        ({"image_height": 8}, "image_height to be a whole number of at least 32 and at most 2048, got 8"),
        ({"images_per_lesion": 0.5}, "images_per_lesion to be a number of at least 1"),
        ({"num_corrupt": -1}, "num_corrupt to be a whole number of at least 0"),
        ({"drawing_seed": "x"}, "drawing_seed to be a whole number"),
        ({"class_shares": {"melanoma": 1}}, "got 'melanoma'"),
        ({"class_shares": {"nv": -1}}, r"class_shares\.nv to be a number of at least 0"),
        ({"patient_effect": 1.5}, r"patient_effect to be a number of at least 0 and at most 1"),
        ({"class_shares": {"nv": 0}}, "a share above 0"),
        ({"class_shares": {"nv": float("inf")}}, r"class_shares\.nv to be a number of at least 0, got inf"),
        ({"class_shares": "nv"}, "map classes to shares"),
        ({"num_lesions": 7, "num_missing": 500}, "at most as many planted faults as images"),
    ],
)
def test_impossible_arguments_are_explained(arguments: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read_synthetic(str(tmp_path), **arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_is_a_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("")
    with pytest.raises(DataError, match=r"expected to write generated images below .*root"):
        read_synthetic(str(tmp_path / "root"), **SMALL)


def test_a_planted_patient_effect_shows_within_patients_only(tmp_path: Path) -> None:
    """The darkness of a lesion tells little of malignancy, its difference from the patient's other lesions much."""
    shares = {"nv": 3, "mel": 1}
    cases = draw_cases({"nv": 450, "mel": 150}, 1.0, 0, patient_effect=0.4)
    assert cases.groupby("patient_id").size().mean() == pytest.approx(7, abs=1.5)
    table = read_synthetic(str(tmp_path), 150, 32, 32, 1, class_shares=shares, patient_effect=0.4)
    masked = [(read_image(row.image_path), read_mask(row.mask_path, (32, 32)) > 0) for row in table.itertuples()]
    dark = -np.array([np.log(np.maximum(image[mask].mean(), 1)) for image, mask in masked])
    several = table.groupby("patient_id")["label"].transform("size").to_numpy() > 2
    others = (pd.Series(dark).groupby(table["patient_id"]).transform("sum") - dark) / (
        table.groupby("patient_id")["label"].transform("size") - 1
    )
    is_mel = (table["label"] == "mel").to_numpy()
    scores = (dark - others.to_numpy(), dark)
    relative, absolute = (roc_auc_score(is_mel[several], values[several]) for values in scores)
    assert absolute < 0.7
    assert relative > absolute + 0.12


@pytest.mark.parametrize("name", ["ISIC_0024306.jpg", "HAM10000_metadata.csv", "images/ISIC_0024306.jpg"])
def test_a_folder_with_photographs_is_never_drawn_into(tmp_path: Path, name: str) -> None:
    read_synthetic(str(tmp_path), **SMALL)
    (tmp_path / ".DS_Store").touch()
    before = sorted(tmp_path.rglob("*"))
    read_synthetic(str(tmp_path), **{**SMALL, "drawing_seed": 0})
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    for seed in (0, 7):
        with pytest.raises(DataError, match=rf"(?s)- {name.split('/')[0]}.*dataset=ham10000, dataset=folder"):
            read_synthetic(str(tmp_path), **{**SMALL, "drawing_seed": seed})
    assert [path for path in sorted(tmp_path.rglob("*")) if path in before] == before
    assert not list(tmp_path.glob(".building*"))
