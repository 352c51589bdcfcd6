from lesion_exp.split.grouped import Grouped
from lesion_exp.split.kfold import KFold
from lesion_exp.split.manifest import image_keys, manifest, split_hash

RATIOS = {"train": 0.7, "val": 0.15, "test": 0.15}


def test_a_manifest_names_every_row_with_what_identifies_it(lesions_table):
    saved = manifest(KFold(0, 5, 0, 0.15).split(lesions_table.assign(image_path="/somewhere")))
    assert {
        "row_id",
        "image_id",
        "label",
        "lesion_id",
        "patient_id",
        "group",
        "content_key",
        "picture_key",
        "split",
        "fold",
    } <= set(saved)
    assert not {"image_path", "sha256", "phash", "thumbnail"} & set(saved)
    hashes = {*lesions_table["sha256"].astype(str), *lesions_table["phash"].astype(str)}
    assert not any(hashes & set(saved[column].astype(str)) for column in saved)
    assert saved["row_id"].tolist() == sorted(lesions_table["row_id"])


def test_keys_find_an_image_in_the_split_that_it_is_in_alone(lesions_table):
    split = Grouped(0, RATIOS).split(lesions_table)
    saved, salt = manifest(split), split_hash(split)
    stored_again = split.assign(sha256="another file")
    assert set(image_keys(split, salt)["content_key"]) == set(saved["content_key"])
    assert not set(image_keys(stored_again, salt)["content_key"]) & set(saved["content_key"])
    assert set(image_keys(stored_again, salt)["picture_key"]) == set(saved["picture_key"])
    assert not set(image_keys(split, "another split")["picture_key"]) & set(saved["picture_key"])


def test_the_hash_depends_on_the_parts_alone(lesions_table):
    split = Grouped(0, RATIOS).split(lesions_table)
    same = split.sample(frac=1, random_state=1).assign(image_path="/elsewhere")
    assert split_hash(same) == split_hash(split)
    moved = split.copy()
    moved.loc[moved.index[0], "split"] = "val" if moved["split"].iloc[0] != "val" else "test"
    assert split_hash(moved) != split_hash(split)
