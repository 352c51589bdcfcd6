"""Images of a data set that the run was trained on are told by their ids; those of another folder, as a doubt."""

from types import SimpleNamespace

import pandas as pd
import pytest

from lesion_exp.dataset.id_origin import with_id_origin
from lesion_exp.verbs.predict import requested_images
from lesion_exp.verbs.predict.requested_images import RequestedImages, seen_images


def node_of(folder):
    return {"name": "clinic", "_target_": "lesion_exp.dataset.csv.read_csv", "root": folder}


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("/data/a", "2 of 3 images have the ids of images in the training or validation part of the run"),
        ("/data/b", "2 of 3 images have the ids of images that the run has seen in data of another folder"),
    ],
)
def test_ids_of_another_folder_are_told_as_a_doubt(monkeypatch, folder, said):
    table = pd.DataFrame({"image_id": ["1", "2", "3"], "source": "csv", "row_id": ["1", "2", "3"]})
    monkeypatch.setattr(requested_images, "rows_of", lambda *_: with_id_origin(table.iloc[:2], node_of("/data/a")))
    run = SimpleNamespace(fetch=lambda _: "manifest.parquet")
    (text,) = seen_images([run], RequestedImages(table, table), SimpleNamespace(dataset=node_of(folder)))
    assert text.startswith(said)
    assert "leave them out with dataset.filter" in text
    other_kind = table.assign(source="ham10000")
    assert not seen_images([run], RequestedImages(table, other_kind), SimpleNamespace(dataset=node_of(folder)))
