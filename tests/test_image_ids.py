import pytest

from lesion_exp.image_ids import ImageIds, image_key


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


def test_ids_of_several_rows_are_found_in_the_first_and_missing_names_nowhere():
    assert ImageIds(["a", "a", "b"]).rows(["a.jpg", None, float("nan"), "b"]).tolist() == [0, -1, -1, 2]
