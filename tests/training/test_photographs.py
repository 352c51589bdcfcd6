"""A network sees photographs of the kind of its training, dermoscopic or clinical, whatever the data set."""

import pandas as pd
import pytest

from lesion_exp.dataset.findings import collected_findings
from lesion_exp.dataset.loading import require_any_mask
from lesion_exp.errors import ConfigError
from lesion_exp.training.photographs import as_in_training, photographs, view_elsewhere, with_view

SETS = {"milk10k": "M", "pad_ufes_20": "P"}


def node_of(name, view="dermoscopic", **others):
    return {"name": name, "_target_": f"lesion_exp.dataset.{name}.read_{name}", "root": "R", "view": view, **others}


def combined(*names, view="dermoscopic"):
    return node_of("combined", view, sets=dict.fromkeys(names, "R"))


def table_of(*names):
    """Two lesions of each set: with both photographs, the second without a clinical one, or with clinical ones only."""
    rows = []
    for name in names:
        for number in range(2):
            pair = name == "milk10k" and number == 0
            rows.append((f"{name}{number}.jpg", f"close{number}.jpg" if pair else None, f"{name}_mask.png", name))
    return pd.DataFrame(rows, columns=["image_path", "clinical_path", "mask_path", "source"])


@pytest.mark.parametrize("name", ["pad_ufes_20", "ddi", "fitzpatrick17k"])
def test_a_set_of_clinical_photographs_shows_them_with_either_view(name):
    table = table_of(name).drop(columns="clinical_path")
    for view in ("dermoscopic", "clinical"):
        assert with_view(table, node_of(name, view))["image_path"].tolist() == table["image_path"].tolist()
        assert photographs(node_of(name, view)) == "clinical"
    with pytest.raises(ConfigError, match=r"view=both, got 2 images that are clinical; use dataset\.view=clinical"):
        with_view(table, node_of(name, "both"))


def test_several_sets_show_their_clinical_photographs_together():
    table = table_of("milk10k", "pad_ufes_20")
    found = with_view(table, combined(*SETS, view="clinical"))
    assert found["image_path"].tolist() == ["close0.jpg", None, "pad_ufes_200.jpg", "pad_ufes_201.jpg"]
    assert found["mask_path"].isna().all()
    both = with_view(table, combined(*SETS, view="both"))
    assert both["image_path"].tolist() == ["milk10k0.jpg", None, None, None]


def test_photographs_of_several_kinds_in_one_training_are_warned_of():
    with collected_findings() as found:
        with_view(table_of("milk10k", "pad_ufes_20"), combined(*SETS))
        with_view(table_of("ham10000", "pad_ufes_20"), combined("ham10000", "pad_ufes_20"))
        with_view(table_of("milk10k", "ham10000"), combined("milk10k", "ham10000"))
        with_view(table_of("csv", "pad_ufes_20"), combined("csv", "pad_ufes_20"))
        with_view(table_of("pad_ufes_20"), node_of("pad_ufes_20"))
    assert [finding.level for finding in found] == ["warning"] * 2, "of csv, nothing is known"
    assert "(clinical: pad_ufes_20; dermoscopic: milk10k)" in found[0].text
    assert found[0].text.endswith("dataset.view=clinical shows the clinical ones of all of them")
    assert found[1].text.endswith("use sets of one kind")


@pytest.mark.parametrize(
    ("own", "other", "view", "told"),
    [
        (node_of("pad_ufes_20"), node_of("milk10k"), "clinical", False),
        (node_of("pad_ufes_20"), node_of("ddi"), "clinical", False),
        (node_of("pad_ufes_20"), node_of("ham10000"), "dermoscopic", True),
        (node_of("pad_ufes_20"), node_of("csv"), "dermoscopic", False),
        (node_of("pad_ufes_20"), combined("milk10k", "ddi"), "clinical", False),
        (node_of("pad_ufes_20"), combined("ham10000", "milk10k"), "dermoscopic", True),
        (node_of("pad_ufes_20"), combined("csv", "milk10k"), "dermoscopic", False),
        ({"name": "pad_ufes_20", "view": "dermoscopic"}, node_of("milk10k"), "clinical", False),
        (combined("pad_ufes_20", "ddi"), node_of("derm7pt"), "clinical", False),
        (combined("pad_ufes_20", "ham10000"), node_of("derm7pt"), "dermoscopic", False),
        (node_of("milk10k", "clinical"), node_of("pad_ufes_20"), "clinical", False),
        (node_of("milk10k", "clinical"), node_of("ham10000"), "dermoscopic", True),
        (node_of("milk10k", "clinical"), node_of("csv"), "clinical", False),
        (node_of("milk10k"), node_of("derm7pt"), "dermoscopic", False),
        (node_of("milk10k"), node_of("pad_ufes_20"), "dermoscopic", True),
        (node_of("ham10000"), node_of("isic2024"), "dermoscopic", True),
        (node_of("csv"), node_of("pad_ufes_20"), "dermoscopic", False),
        (node_of("milk10k", "both"), node_of("derm7pt"), "both", False),
    ],
)
def test_another_data_set_is_seen_as_the_network_was_trained(own, other, view, told, caplog):
    assert view_elsewhere(own, other) == view
    assert ("photographs of another kind" in caplog.text) == told


def test_a_view_that_the_user_sets_wins(caplog):
    own, other = node_of("milk10k"), node_of("derm7pt")
    assert view_elsewhere(own, other, "clinical") == "clinical"
    assert "another kind (dermoscopic) than it sees of derm7pt (clinical)" in caplog.text
    assert view_elsewhere(node_of("milk10k", "clinical"), node_of("csv"), "dermoscopic") == "dermoscopic"
    for trained, chosen, number in (("both", "clinical", "two photographs"), ("clinical", "both", "one photograph")):
        with pytest.raises(ConfigError, match=f"no dataset.view={chosen}, since the network reads {number}"):
            view_elsewhere(node_of("milk10k", trained), other, chosen)


def test_what_a_table_lacks_is_said_with_what_can_be_typed():
    table = table_of("ham10000")
    said = r"view=clinical, got 2 images that are dermoscopic; use dataset\.view=dermoscopic"
    with pytest.raises(ConfigError, match=said):
        with_view(table, node_of("ham10000", "clinical"))
    with pytest.raises(ConfigError, match=r"add 'dataset\.columns=\{clinical_path: COLUMN\}'; or use dataset\.view="):
        with_view(table, node_of("csv", "clinical"))


@pytest.mark.parametrize("kind", ["view", "mask"])
def test_a_trained_network_is_not_told_to_read_something_else(kind):
    table = table_of("ham10000").assign(mask_path=None)

    def read():
        return with_view(table, node_of("csv", "both")) if kind == "view" else require_any_mask(table, "channel")

    with pytest.raises(ConfigError, match=r"dataset\.view=dermoscopic|dataset\.mask=none"):
        read()
    with pytest.raises(ConfigError) as error, as_in_training():
        read()
    assert "name a data set that has it, or another run" in str(error.value)
    for refused in ("dataset.view=dermoscopic", "dataset.mask=none"):
        assert refused not in str(error.value)
