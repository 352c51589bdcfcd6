import pandas as pd
import pytest

from lesion_exp.errors import DataError
from lesion_exp.split.by_image import ByImage
from lesion_exp.split.file import File
from lesion_exp.split.grouped import Grouped
from lesion_exp.split.manifest import manifest, split_hash

RATIOS = {"train": 0.7, "val": 0.15, "test": 0.15}


@pytest.fixture
def parts(lesions_table):
    return Grouped(0, RATIOS).split(lesions_table)[["image_id", "split"]]


def read(table, frame, tmp_path):
    path = tmp_path / "split.csv"
    frame.to_csv(path, index=False)
    return File(str(path)).split(table)


def test_the_parts_of_the_file_in_any_order(lesions_table, parts, tmp_path):
    split = read(lesions_table, parts.sample(frac=1, random_state=0), tmp_path)
    assert split["split"].tolist() == parts["split"].tolist()
    assert split["group"].nunique() == 250


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_saved_manifest_gives_the_split_again(lesions_table, tmp_path, kind):
    original = ByImage(3, RATIOS).split(lesions_table)
    saved, path = manifest(original), tmp_path / f"manifest.{kind}"
    if kind == "csv":
        saved.to_csv(path, index=False)
    else:
        saved.to_parquet(path)
    assert split_hash(File(str(path)).split(lesions_table)) == split_hash(original)


def test_a_file_of_the_whole_set_serves_a_filtered_one(lesions_table, parts, tmp_path):
    filtered = lesions_table[lesions_table["label"] != "df"]
    assert read(filtered, parts, tmp_path)["split"].equals(parts["split"].loc[filtered.index])


@pytest.mark.parametrize("ending", [".jpg", ".PNG", ".tiff"])
def test_endings_of_files_and_upper_case_do_not_distinguish_ids(lesions_table, parts, tmp_path, ending):
    named = parts.assign(image_id=parts["image_id"].str.upper() + ending)
    assert read(lesions_table, named, tmp_path)["split"].tolist() == parts["split"].tolist()
    with_ending = lesions_table.assign(image_id=lesions_table["image_id"] + ending)
    assert read(with_ending, parts, tmp_path)["split"].tolist() == parts["split"].tolist()


def test_the_equal_id_counts_before_one_that_differs_in_its_ending(lesions_table, parts, tmp_path):
    other = parts.iloc[:1].assign(image_id=parts["image_id"].iloc[0] + ".jpg", split="test")
    assert parts["split"].iloc[0] != "test"
    found = read(lesions_table, pd.concat([other, parts]), tmp_path)
    assert found["split"].tolist() == parts["split"].tolist()
    with pytest.raises(DataError, match="img0000: twice"):
        read(lesions_table, pd.concat([other, other.assign(image_id="IMG0000"), parts.iloc[1:]]), tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame.iloc[2:], r"2 differ:\n  - img0000: not in the file"),
        (lambda frame: pd.concat([frame, frame.iloc[:1]]), "img0000: twice"),
        (lambda frame: frame.replace("test", "tset"), "got tset"),
        (lambda frame: frame.assign(split=None), "got nothing"),
        (lambda frame: frame.rename(columns={"image_id": "isic_id"}), "columns image_id and split"),
        (lambda frame: frame.drop(columns="split"), "columns image_id and split"),
        (lambda frame: frame.replace("test", "val"), r"assigns none of the \d+ images to test; correct the file"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(lesions_table, parts, tmp_path, change, said):
    with pytest.raises(DataError, match=said):
        read(lesions_table, change(parts), tmp_path)


def test_numbers_of_rows_are_not_taken_for_other_images(lesions_table, tmp_path):
    """Images whose ids are numbers, in a file whose column `row_id` numbers the rows."""
    ids = [str(number + 1) for number in range(len(lesions_table))]
    table = lesions_table.assign(image_id=ids, row_id=ids)
    parts = Grouped(0, RATIOS).split(table)[["image_id", "split"]].sample(frac=1, random_state=0)
    numbered = parts.assign(row_id=range(1, len(parts) + 1))
    with pytest.raises(DataError, match=r"rows differ:\n  - row_id 1 is another image than image_id \d+"):
        read(table, numbered, tmp_path)
    wanted = parts.set_index("image_id")["split"].loc[ids].tolist()
    strangers = numbered.assign(row_id="line " + numbered["row_id"].astype(str))
    for usable in (parts, strangers, parts.assign(row_id=parts["image_id"])):
        assert read(table, usable, tmp_path)["split"].tolist() == wanted


def test_repeated_images_are_named_by_their_rows(lesions_table, tmp_path):
    table = pd.concat([lesions_table, lesions_table.iloc[:5].assign(row_id=lambda frame: frame["row_id"] + "#2")])
    split = ByImage(0, RATIOS).split(table.reset_index(drop=True))
    named = split[["row_id", "image_id", "split"]]
    assert read(table.reset_index(drop=True), named, tmp_path)["split"].tolist() == split["split"].tolist()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x81", b'image_id,split\n"open'])
def test_a_file_that_is_no_table_is_refused(lesions_table, tmp_path, content):
    path = tmp_path / "split.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match="expected"):
        File(str(path)).split(lesions_table)


def test_parts_may_be_categories_of_a_parquet(lesions_table, parts, tmp_path):
    parts.astype({"split": "category"}).to_parquet(tmp_path / "parts.parquet")
    parts.to_csv(tmp_path / "parts.csv", index=False)
    found, wanted = (File(str(tmp_path / f"parts.{kind}")).split(lesions_table) for kind in ("parquet", "csv"))
    assert found["split"].tolist() == wanted["split"].tolist()
    some = parts.assign(split=parts["split"].where(parts.index > 0)).astype({"split": "category"})
    some.to_parquet(tmp_path / "some.parquet")
    with pytest.raises(DataError, match="got nothing; rename these parts"):
        File(str(tmp_path / "some.parquet")).split(lesions_table)


def test_a_missing_file_is_refused(lesions_table, tmp_path):
    with pytest.raises(DataError, match=r"split\.path"):
        File(str(tmp_path / "none.csv")).split(lesions_table)
