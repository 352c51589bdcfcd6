"""A prediction of a data set shows the photographs that the run saw, or those that the command names."""

from pathlib import Path

import pandas as pd
import pytest

from lesion_exp.errors import ConfigError, MissingPicturesError
from lesion_exp.verbs.predict import requested_images
from lesion_exp.verbs.predict.request import PredictionRequest


def node_of(name, view="dermoscopic"):
    target = f"lesion_exp.dataset.{name}.read_{name}"
    kept = {"mask": "none", "mask_margin": 0.1, "store_size": "auto"}
    return {"name": name, "_target_": target, "root": "R", "ignore": [], "view": view, **kept}


@pytest.mark.parametrize(
    ("own", "other", "chosen", "view"),
    [
        (node_of("pad_ufes_20"), "milk10k", None, "clinical"),
        (node_of("milk10k", "clinical"), "ddi", None, "clinical"),
        (node_of("milk10k", "both"), "derm7pt", None, "both"),
        (node_of("pad_ufes_20"), "milk10k", "dermoscopic", "dermoscopic"),
    ],
)
def test_the_network_sees_photographs_as_in_training(monkeypatch, own, other, chosen, view):
    configs = []
    table = pd.DataFrame({"image_id": ["a"], "image_path": ["a.jpg"], "label": ["nv"]})
    monkeypatch.setattr(requested_images, "read_table", lambda config, *_, **__: configs.append(config) or table)
    request = PredictionRequest(output=Path("o.csv"), dataset=node_of(other), view=chosen)
    found = requested_images.requested_images(request, (), {"dataset": own})
    assert found.table["image_path"].tolist() == ["a.jpg"]
    assert configs[0]["dataset"]["view"] == view


def test_what_the_network_reads_and_the_data_lack_is_said(monkeypatch):
    def read(*_, **__):
        raise MissingPicturesError("expected pairs, got none", "; use dataset.view=dermoscopic")

    monkeypatch.setattr(requested_images, "read_table", read)
    request = PredictionRequest(output=Path("o.csv"), dataset=node_of("ham10000"))
    with pytest.raises(ConfigError, match=r"^expected pairs, got none\. The network reads .* or another run$"):
        requested_images.requested_images(request, (), {"dataset": node_of("milk10k", "both")})
