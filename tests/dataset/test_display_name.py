from pathlib import Path
from typing import Any

import pytest

from lesion_exp.dataset.display_name import display_name


def test_a_name_that_says_which_data_set_it_is_stays() -> None:
    assert display_name({"name": "ham10000", "root": "/data/a"}) == "ham10000"
    assert display_name({"name": "our clinic", "root": "/data/a"}) == "our clinic"


def test_a_folder_has_its_own_name_and_folders_of_one_name_differ() -> None:
    first, again, second = (
        display_name({"name": "folder", "root": root}) for root in ("/data/a/clinic", "/data/a/clinic/", "/b/clinic")
    )
    assert first == again != second
    assert first.startswith("clinic-")
    assert second.startswith("clinic-")
    assert display_name({"name": "folder", "root": "/data/my images (2).zip"}).startswith("my_images_2")


def test_two_tables_of_a_folder_differ() -> None:
    names = {display_name({"name": "csv", "root": "/data/set", "table": table}) for table in ("a.csv", "b.csv")}
    assert len(names) == 2


@pytest.mark.parametrize("sets", [{"ham10000": "/a"}, {"ham10000": "/b"}, {"x": {"set": "csv", "root": "/a"}}])
def test_combinations_differ(sets: dict[str, Any]) -> None:
    assert display_name({"name": "combined", "sets": sets}) != display_name({"name": "combined", "sets": {"y": "/a"}})


def test_a_folder_is_the_same_from_wherever_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert display_name({"name": "folder", "root": "clinic"}) == display_name(
        {"name": "folder", "root": str(tmp_path / "clinic")}
    )
