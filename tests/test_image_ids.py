import pytest

from lesion_exp.image_ids import ImageIds, image_key, usual_id_columns


@pytest.mark.parametrize(
    "name", ["ISIC_1", " isic_1.JPG", "ISIC_1_downsampled", "ISIC_1_downsampled.jpeg", "./ISIC_1.png"]
)
def test_names_of_one_image_have_one_key(name: str) -> None:
    assert image_key(name) == "isic_1"
    assert image_key("case.7") != image_key("case.8")


@pytest.mark.parametrize(
    "name", ["ISIC_2", "isic_2.JPG", "ISIC_2.tif", "data/train/nv/ISIC_2.jpg", "C:\\data\\ISIC_2.jpg"]
)
def test_an_image_is_found_by_id_file_or_path(name):
    ids = ["ISIC_1", "ISIC_2", "ISIC_3.png"]
    assert ImageIds(ids, paths=True).rows([name, "ISIC_9", "ISIC_3", name]).tolist() == [1, -1, 2, 1]
    assert ImageIds(ids).rows([name]).tolist() == [-1 if "data" in name else 1]


def test_a_name_that_may_mean_several_images_means_none_of_them():
    ids = ImageIds(["a", "A", "b.jpg", "b.png", "c"])
    assert ids.rows(["a", "A", "a.jpg", "A.TIF", "b", "b.png", "b.jpeg", "C"]).tolist() == [0, 1, 0, 1, -1, 3, -1, 4]


def test_a_path_is_the_only_image_of_its_last_part_unless_another_name_means_that_image():
    ids = ImageIds(["a/1", "b/1", "b/2"], paths=True)
    assert ids.rows(["1", "2", "a/1"]).tolist() == [-1, 2, 0]
    assert ids.rows(["x/2", "b/2.jpg"]).tolist() == [-1, 2]


@pytest.mark.parametrize(
    ("ids", "name", "row"),
    [
        (["nv/1", "mel/2"], "train/mel/1.jpg", -1),  # another image of this name, which is not among them
        (["nv/1", "mel/2"], "train/nv/1.jpg", 0),
        (["nv/1", "mel/1"], "train/MEL/1.jpg", 1),
        (["nv/1", "mel/2"], "1.jpg", 0),
        (["train/nv/1", "mel/2"], "nv/1.jpg", 0),
        (["a/nv/1", "b/nv/1", "1"], "nv/1.jpg", -1),
        (["1", "nv/1"], "x/nv/1.png", 1),
        (["1", "nv/1"], "x/mel/1.png", 0),
        (["v/1", "2"], "nv/1", -1),
    ],
)
def test_of_a_path_and_an_id_one_is_the_end_of_the_other(ids, name, row):
    assert ImageIds(ids, paths=True).rows([name]).tolist() == [row]


def test_a_path_need_not_name_the_data_set_with_which_an_id_begins():
    ids = ["ham10000/ISIC_1", "ph2/IMD_1", "ph2/ISIC_2", "clinic/ISIC_2"]
    found = ImageIds(ids, paths=True, sources=[name.partition("/")[0] for name in ids])
    names = ["train/ISIC_1.jpg", "ISIC_1", "x/ham10000/ISIC_1.png", "x/ISIC_2.jpg", "ph2/imd_1", "y/IMD_1"]
    assert found.rows(names).tolist() == [0, 0, 0, -1, 1, -1]
    assert found.unclear(names) == ["x/ISIC_2.jpg"]


def test_ids_of_several_rows_are_found_in_the_first_and_missing_names_nowhere():
    assert ImageIds(["a", "a", "b"]).rows(["a.jpg", None, float("nan"), "b"]).tolist() == [0, -1, -1, 2]


def test_columns_of_ids_are_known_by_their_names():
    assert usual_id_columns(["age", "File", "Image Name", " image_id", 3]) == [" image_id", "Image Name", "File"]
