import numpy as np

from lesion_exp.split.manifest import characteristics


def test_each_part_says_who_is_in_it(make_table):
    table = make_table(["mel"] * 6).assign(
        split=["train"] * 4 + ["test"] * 2,
        age=[20.0, 40.0, 60.0, np.nan, np.nan, np.nan],
        sex=["female", "female", "male", "unknown", "male", "male"],
        site="back",
    )
    found = characteristics(table)
    assert list(found) == ["train", "test"]
    assert found["train"]["age"] == {"median": 40.0, "lower": 30.0, "upper": 50.0, "unknown": 1}
    assert found["train"]["sex"] == {"female": 2, "male": 1, "unknown": 1}
    assert found["test"] == {
        "images": 2,
        "age": {"median": None, "lower": None, "upper": None, "unknown": 2},
        "sex": {"male": 2},
        "site": {"back": 2},
        "source": {"made": 2},
    }
