"""Images of a data set that the run was trained on are told by their ids, unless those are of another clinic."""

from types import SimpleNamespace

import pandas as pd
import pytest

from lesion_exp.dataset.id_origin import with_id_origin
from lesion_exp.verbs.predict import requested_images
from lesion_exp.verbs.predict.requested_images import RequestedImages, seen_images


def node_of(folder):
    return {"name": "clinic", "_target_": "lesion_exp.dataset.csv.read_csv", "root": folder}


@pytest.mark.parametrize(("folder", "told"), [("/data/a", 1), ("/data/b", 0)])
def test_ids_of_another_folder_are_other_images(monkeypatch, folder, told):
    table = pd.DataFrame({"image_id": ["1", "2", "3"], "source": "csv", "row_id": ["1", "2", "3"]})
    monkeypatch.setattr(requested_images, "rows_of", lambda *_: with_id_origin(table.iloc[:2], node_of("/data/a")))
    run = SimpleNamespace(fetch=lambda _: "manifest.parquet")
    found = seen_images([run], RequestedImages(table, table), SimpleNamespace(dataset=node_of(folder)))
    assert len(found) == told
    assert all(text.startswith("2 of 3 images have the ids") for text in found)
