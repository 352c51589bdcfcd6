import pandas as pd
import pytest

from lesion_exp.errors import DataError
from lesion_exp.verbs.audit.listed_parts import parts_of_dataset, parts_of_lists, parts_of_table

IDS = ["ISIC_1", "ISIC_2", "ISIC_3", "ISIC_4", "ISIC_5"]


@pytest.fixture
def table():
    return pd.DataFrame({"image_id": IDS, "row_id": IDS, "label": "nv", "source": "made"})


@pytest.fixture
def written(tmp_path):
    def write(name, text):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def parts_in(listed):
    return dict(zip(listed.table["image_id"], listed.table["split"], strict=True))


def test_a_table_names_images_and_parts_in_columns_of_any_name(table, written):
    text = (
        "target,file,fold,weight\n0,ISIC_1.jpg,training,1\n0,ISIC_2.jpg,valid,2\n1,ISIC_3.jpg,Test,1\n1,ISIC_4.jpg,,1\n"
    )
    listed = parts_of_table(table, written("parts.csv", text))
    assert parts_in(listed) == {"ISIC_1": "train", "ISIC_2": "val", "ISIC_3": "test"}
    assert listed.left_out == 2
    assert listed.sources == ("parts.csv (columns file and fold)",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,fold\nISIC_1,0\nISIC_2,1\n", "got none among image, fold"),
        ("image,fold,set\nISIC_1,train,test\nISIC_2,test,train\n", r"got 2 \(fold, set\)"),
        ("image,split\nHAM_1,train\nHAM_2,test\n", "none of its 2 rows names one"),
        ("image,split\nISIC_1,train\n", "expected a training part and a test part, got train"),
        ("image,split\nISIC_1,val\nISIC_2,test\n", "expected a training part and a test part, got test, val"),
        ("image,split\nISIC_1,train\nISIC_2,testing2\n", "in the column split of .*, got testing2 in 1 of 2 rows"),
    ],
)
def test_a_table_without_them_is_refused(table, written, text, said):
    with pytest.raises(DataError, match=said):
        parts_of_table(table, written("parts.csv", text))


def test_lists_have_a_header_or_none_and_may_be_several(table, written, tmp_path):
    (tmp_path / "images" / "mel").mkdir(parents=True)
    (tmp_path / "images" / "mel" / "ISIC_5.png").touch()
    lists = {
        "train": [written("a.txt", "ISIC_1.jpg\nISIC_2.jpg\n"), written("b.csv", "n,image\n1,ISIC_3\n2,ISIC_9\n")],
        "test": [written("c.txt", "ISIC_4\n"), tmp_path / "images"],
    }
    listed = parts_of_lists(table, lists)
    assert parts_in(listed) == dict(zip(IDS, ["train", "train", "train", "test", "test"], strict=True))
    assert listed.not_found == ("ISIC_9",)
    assert listed.left_out == 0


@pytest.fixture
def numbered():
    """Images whose ids are numbers, as of a table that is kept with the numbers of its rows."""
    ids = [str(number) for number in range(1, 9)]
    return pd.DataFrame({"image_id": ids, "row_id": ids, "label": "nv", "source": "made"})


@pytest.mark.parametrize(
    "names", [("image_id", "age"), ("image_id", "file"), ("file", "Unnamed"), ("Image Name", "age")]
)
@pytest.mark.parametrize("is_first", [True, False])
def test_other_numbers_are_not_taken_for_ids(numbered, tmp_path, names, is_first):
    """Also the numbers of rows that pandas writes into a column without a name."""
    ids = ["8", "3", "5", "1"]
    frame = pd.DataFrame({names[0]: ids, "split": ["train", "train", "test", "test"]})
    frame.insert(0 if is_first else 2, "" if names[1] == "Unnamed" else names[1], [1, 2, 3, 4])
    frame.to_csv(tmp_path / "parts.csv", index=False)
    listed = parts_of_table(numbered, tmp_path / "parts.csv")
    assert parts_in(listed) == dict(zip(ids, ["train", "train", "test", "test"], strict=True))
    assert listed.sources == (f"parts.csv (columns {names[0]} and split)",)


def test_two_columns_that_may_both_be_the_ids_are_refused(numbered, written):
    text = "case,age,split\n8,1,train\n3,2,train\n5,3,test\n"
    with pytest.raises(DataError, match=r"case names 3, first 8\n  - age names 3, first 1\ncall .* image_id"):
        parts_of_table(numbered, written("parts.csv", text))
    listed = parts_of_table(numbered, written("parts.csv", text.replace("case", "image_id")))
    assert parts_in(listed) == {"8": "train", "3": "train", "5": "test"}
    same = "where,case,split\nx/8.jpg,8,train\nx/3.jpg,3,test\n"
    assert parts_in(parts_of_table(numbered, written("parts.csv", same))) == {"8": "train", "3": "test"}


def test_parts_may_be_categories_of_a_parquet(table, tmp_path):
    frame = pd.DataFrame({"image": IDS, "part": pd.Categorical(["train", "val", "test", "test", None])})
    frame.to_parquet(tmp_path / "parts.parquet")
    assert parts_in(parts_of_table(table, tmp_path / "parts.parquet")) == {
        "ISIC_1": "train", "ISIC_2": "val", "ISIC_3": "test", "ISIC_4": "test",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("images/ISIC_1.jpg 4\nimages/ISIC_2.jpg 0\n", "images/ISIC_3.jpg 4\n"),
        ("path label\nISIC_1.jpg  4\nISIC_2.jpg  0\n", "ISIC_3.jpg 0 1 0 0\n"),
        ("ISIC_1,0,0,1,0\nISIC_2,1,0,0,0\n", "ISIC_3,0,0,0,1\n"),
        ("0,0,1,ISIC_1.jpg\n1,0,0,ISIC_2.jpg\n", "1;0;ISIC_3\n"),
    ],
)
def test_labels_may_stand_beside_the_names_of_a_list_without_a_header(table, written, first, second):
    listed = parts_of_lists(table, {"train": [written("a.txt", first)], "test": [written("b.txt", second)]})
    assert parts_in(listed) == {"ISIC_1": "train", "ISIC_2": "train", "ISIC_3": "test"}
    assert listed.not_found == ()


def test_names_with_blanks_are_whole_lines(written):
    ids = ["case 1", "case 2", "case"]
    table = pd.DataFrame({"image_id": ids, "row_id": ids, "label": "nv", "source": "made"})
    lists = {"train": [written("a.txt", "case 1.jpg\n")], "test": [written("b.txt", "name\ncase 2.jpg\ncase 9\n")]}
    listed = parts_of_lists(table, lists)
    assert parts_in(listed) == {"case 1": "train", "case 2": "test"}
    assert listed.not_found == ("case 9",)


@pytest.mark.parametrize("text", ["image\n", "photo label\nHAM_1.jpg 3\n", "a,b\nHAM_1,3\n"])
def test_a_list_without_an_image_of_the_data_set_is_refused(table, written, text):
    with pytest.raises(DataError, match=r"got a header without any row|none of its 1 rows names one"):
        parts_of_lists(table, {"train": [written("a.txt", text)], "test": [written("b.txt", "ISIC_1\n")]})


def test_a_list_may_name_an_image_of_another_folder_that_the_data_set_does_not_have(written):
    ids = ["nv/1", "mel/2", "mel/3"]
    table = pd.DataFrame({"image_id": ids, "row_id": ids, "label": "nv", "source": "made"})
    listed = parts_of_lists(
        table, {"train": [written("a.txt", "train/mel/2.jpg\ntrain/mel/1.jpg\n")], "test": [written("b.txt", "nv/1\n")]}
    )
    assert parts_in(listed) == {"mel/2": "train", "nv/1": "test"}
    assert listed.not_found == ("train/mel/1.jpg",)


def test_lists_of_a_combination_need_not_name_the_data_set(written):
    table = pd.DataFrame({"image_id": ["ph2/1", "ham/2"], "row_id": ["ph2/1", "ham/2"], "source": ["ph2", "ham"]})
    lists = {"train": [written("a.txt", "x/1.jpg\n")], "test": [written("b.txt", "y/2.jpg\n")]}
    assert parts_in(parts_of_lists(table, lists)) == {"ph2/1": "train", "ham/2": "test"}


def test_an_image_in_two_parts_has_a_row_in_each_and_is_counted(table, written):
    lists = {"train": [written("a.txt", "ISIC_1\nISIC_1\nISIC_2\n")], "test": [written("b.txt", "ISIC_2\nISIC_3\n")]}
    listed = parts_of_lists(table, lists)
    assert listed.table[["image_id", "split"]].to_numpy().tolist() == [
        ["ISIC_1", "train"], ["ISIC_2", "train"], ["ISIC_2", "test"], ["ISIC_3", "test"],
    ]  # fmt: skip
    assert (listed.repeated, listed.several_parts, listed.left_out) == (1, 1, 2)
    assert listed.table["row_id"].is_unique


def test_the_parts_of_a_data_set_may_lack_validation(table):
    listed = parts_of_dataset(table.assign(official_split=["train", "train", "test", "test", None]))
    assert set(listed.table["split"]) == {"train", "test"}
    assert listed.left_out == 1
    with pytest.raises(DataError, match="got no part from the parts of the data set"):
        parts_of_dataset(table)


def test_a_missing_file_and_an_empty_folder_are_refused(table, tmp_path):
    with pytest.raises(DataError, match="there is none at"):
        parts_of_table(table, tmp_path / "none.csv")
    with pytest.raises(DataError, match="expected images below the folder"):
        parts_of_lists(table, {"train": [tmp_path], "test": [tmp_path]})
