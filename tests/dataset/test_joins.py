from __future__ import annotations

import pandas as pd
import pytest

from lesion_exp.dataset.findings import collected_findings
from lesion_exp.dataset.joins import join_rows
from lesion_exp.errors import DataError

LEFT = pd.DataFrame({"image_id": ["A", "B_downsampled", "C", "D"], "label": list("wxyz")})


def _other(*names: str) -> pd.DataFrame:
    return pd.DataFrame({"image_id": names, "lesion_id": [f"L{number}" for number in range(len(names))]})


def test_names_are_brought_together_and_counted_on_both_sides() -> None:
    with collected_findings() as found:
        joined = join_rows(LEFT, _other("a.JPG", " B ", "C.png", "E"), "image_id", "groups.csv", "a set")
    assert joined["lesion_id"].fillna("-").tolist() == ["L0", "L1", "L2", "-"]
    assert joined["label"].tolist() == list("wxyz")
    assert [each.level for each in found] == ["warning"]
    assert found[0].text.startswith("3 of 4 rows of a set have a row in groups.csv; 1 rows")
    assert found[0].cases == ("not in the file: D", "only in the file: E")


def test_what_hardly_fits_is_refused_with_the_key_that_helps() -> None:
    with pytest.raises(DataError, match=r"3 of 4 are not there; .*'A', 'B_downsampled', 'C'.*, or set the key"):
        join_rows(LEFT, _other("A"), "image_id", "g.csv", "a set", "set the key")


def test_several_rows_of_a_name_must_say_the_same() -> None:
    same = pd.concat([_other("A", "B", "C"), _other("A")])
    assert join_rows(LEFT, same, "image_id", "g.csv", "a set")["lesion_id"].tolist()[0] == "L0"
    with pytest.raises(DataError, match=r"(?s)1 names have several rows that differ:\n  - A"):
        join_rows(LEFT, pd.concat([_other("A", "B", "C"), _other("x", "A")]), "image_id", "g.csv", "a set")
