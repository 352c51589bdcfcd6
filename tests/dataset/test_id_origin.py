from typing import Any

import pandas as pd

from lesion_exp.dataset.id_origin import has_ids_of_a_folder, with_id_origin
from lesion_exp.image_ids import ID_ORIGIN, OF_A_FOLDER


def origin_of(source: str, **node: Any) -> str:
    return str(with_id_origin(pd.DataFrame({"source": [source]}), node)[ID_ORIGIN].iloc[0])


def node_of(reader: str, **arguments: Any) -> dict[str, Any]:
    return {"name": "any", "_target_": f"lesion_exp.dataset.{reader}.read_{reader}", **arguments}


def test_own_tables_have_the_origin_of_their_folder_whatever_the_table() -> None:
    first, second, other = (
        origin_of("csv", **node_of("csv", root=root, table=table))
        for root, table in (("/data/a", "first.csv"), ("/data/a/", "second.csv"), ("/data/b", "first.csv"))
    )
    assert first == second != other
    assert "data" not in first, "the path is nobody's business"


def test_a_set_of_a_combination_has_the_origin_that_it_has_alone() -> None:
    sets = {"clinic": {"set": "csv", "root": "/data/a", "table": "x.csv"}, "ph2": "/ph2", "old": {"set": "ham10000"}}
    node = node_of("combined", sets=sets)
    assert origin_of("clinic", **node) == origin_of("csv", **node_of("csv", root="/data/a"))
    assert origin_of("ph2", **node) == origin_of("ph2", **node_of("ph2", root="/elsewhere")) == "ph2"
    assert origin_of("old", **node) == "ham10000"


def test_drawn_lesions_are_the_same_if_they_were_drawn_alike() -> None:
    first, again, other = (
        origin_of("synthetic", **node_of("synthetic", root=root, drawing_seed=seed))
        for root, seed in (("/a", 0), ("/b", 0), ("/a", 1))
    )
    assert first == again != other
    assert first == origin_of("synthetic", **node_of("combined", sets={"synthetic": {"root": "/c"}}))


def test_a_reader_of_ones_own_has_the_origin_of_its_folder() -> None:
    node = {"name": "mine", "_target_": "my_package.read"}
    first, again, other = (origin_of("mine", **node, root=root) for root in ("/data/a", "/data/a/", "/data/b"))
    assert first == again != other
    assert first.startswith(OF_A_FOLDER)
    assert "data" not in first, "the path is nobody's business"
    assert origin_of("other", **node, root="/data/a") != first, "a reader may have several sources"
    assert origin_of("mine", **node) == "mine", "without a folder, its data are always the same"
    assert origin_of("ph2", **node, root="/data/a") == "ph2", "the published set, in a reader of one's own"
    assert origin_of("pseudo", **node, root="/data/a") == "own-pseudo"
    assert has_ids_of_a_folder(node)
    assert has_ids_of_a_folder(node_of("csv", root="/data/a"))
    assert not has_ids_of_a_folder(node_of("ham10000", root="/data/a"))


def test_a_table_and_the_folders_of_one_folder_have_one_origin() -> None:
    table, folders = (origin_of(reader, **node_of(reader, root="/data/a")) for reader in ("csv", "folder"))
    assert table == folders
    assert table.startswith(OF_A_FOLDER)


def test_images_that_only_pseudo_labels_name_have_an_origin_of_their_own() -> None:
    assert {origin_of("pseudo", **node_of(reader, root="/data/a")) for reader in ("csv", "ph2")} == {"own-pseudo"}
