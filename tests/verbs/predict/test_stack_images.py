"""Each network of a stacked ensemble gets the photographs that it was trained on."""

from pathlib import Path

import pandas as pd
import pytest

from lesion_exp.config.compose import compose
from lesion_exp.errors import DataError
from lesion_exp.verbs.predict.request import PredictionRequest
from lesion_exp.verbs.predict.stack_images import NO_CLINICAL, stack_images
from tests.tiny import TINY

NAMES = ("good0", "good1", "good2")


@pytest.fixture
def listed(photographs):
    """A folder with a table of dermoscopic images, of which the last has no clinical photograph."""
    rows = pd.DataFrame({"image_path": [f"{name}.png" for name in NAMES], "label": None})
    rows.assign(clinical_path=["good3.png", "good4.png", ""]).to_csv(photographs / "new.csv", index=False)
    rows.to_csv(photographs / "without.csv", index=False)
    return photographs


def configs_of(**views):
    return {run: {"dataset": {"view": view}} for run, view in views.items()}


def needed_of(configs):
    return {run: ("clinical_path",) if config["dataset"]["view"] == "both" else () for run, config in configs.items()}


def found(listed, configs, name="new.csv"):
    request = PredictionRequest(output=Path("p.csv"), source=str(listed / name))
    return stack_images(request, needed_of(configs), configs)


def stems(paths):
    return [Path(path).stem if path else None for path in paths]


@pytest.mark.parametrize("order", [("A", "B", "C"), ("B", "C", "A")])
def test_a_network_of_clinical_photographs_reads_these_and_the_others_do_not(listed, order):
    views = {"A": "dermoscopic", "B": "clinical", "C": "both"}
    images, tables = found(listed, configs_of(**{run: views[run] for run in order}))
    for run in ("A", "C"):
        assert stems(tables[run]["image_path"]) == list(NAMES)
        assert stems(tables[run]["clinical_path"]) == ["good3", "good4", None]
    assert stems(tables["B"]["image_path"]) == ["good3", "good4", None]
    assert tables["B"]["error"].tolist() == ["", "", NO_CLINICAL]
    assert tables["A"]["error"].tolist() == ["", "", ""]
    assert stems(images.table["image_path"]) == list(NAMES)


@pytest.mark.parametrize("view", ["dermoscopic", "clinical"])
def test_networks_of_one_view_read_the_images_as_they_are_listed(listed, view):
    _, tables = found(listed, configs_of(A=view, B=view), "without.csv")
    assert [stems(table["image_path"]) for table in tables.values()] == [list(NAMES)] * 2


def test_photographs_that_a_network_needs_and_nobody_names_are_asked_for(listed):
    configs = configs_of(A="dermoscopic", B="clinical")
    with pytest.raises(DataError, match=r"expected the columns clinical_path in .*columns='\{clinical_path: COLUMN\}'"):
        found(listed, configs, "without.csv")
    table = pd.read_csv(listed / "without.csv").assign(clinical_path="")
    table.to_csv(listed / "empty.csv", index=False)
    with pytest.raises(DataError, match=r"column clinical_path of .*, since run B .* correct the column"):
        found(listed, configs, "empty.csv")


def test_a_data_set_gives_each_network_its_photographs(listed, caplog):
    words = ("dataset=csv", f"dataset.root={listed}", "dataset.table=new.csv", "dataset.on_bad_image=skip")
    node = compose([*words, "print_config=false"], root=listed).config["dataset"]
    config = compose(TINY, root=listed).config
    views = {"A": "clinical", "B": "dermoscopic", "C": "both"}
    configs = {run: {**config, "dataset": {**config["dataset"], "view": view}} for run, view in views.items()}

    def read(*runs):
        chosen = {run: configs[run] for run in runs}
        return stack_images(PredictionRequest(output=Path("p.csv"), dataset=node), needed_of(chosen), chosen)

    images, tables = read("A", "B", "C")
    assert "1 images are left out" in caplog.text
    assert stems(tables["A"]["image_path"]) == ["good3", "good4"]
    for table in (tables["B"], tables["C"], images.table):
        assert stems(table["image_path"]) == list(NAMES[:2])
        assert stems(table["clinical_path"]) == ["good3", "good4"]
    assert {len(table) for table in tables.values()} == {len(images.known)} == {2}
    _, alone = read("B")
    assert stems(alone["B"]["image_path"]) == list(NAMES)
