import numpy as np
import pandas as pd

from lesion_exp.data.metadata import MetadataEncoder


def rows(*values):
    return pd.DataFrame(values, columns=["age", "sex", "site"])


TRAIN = rows((50.0, "female", "back"), (0.0, "male", "face"), (np.nan, "unknown", "unknown"))


def test_age_zero_is_not_a_missing_age():
    encoded = MetadataEncoder.fit(TRAIN).encode(TRAIN)
    assert encoded[:, 0].tolist() == [0.5, 0.0, 0.0]
    assert encoded[:, 1].tolist() == [0.0, 0.0, 1.0]


def test_every_value_has_a_column_and_missing_has_its_own():
    encoder = MetadataEncoder.fit(TRAIN)
    assert encoder.width == 2 + 2 + 1 + 2 + 1
    encoded = encoder.encode(TRAIN)
    assert encoded.dtype == np.float32
    assert encoded[:, 2:5].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert encoded[:, 5:].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_a_value_that_training_never_saw_counts_as_missing():
    encoded = MetadataEncoder.fit(TRAIN).encode(rows((30.0, "female", "foot")))
    assert encoded[0, -3:].tolist() == [0, 0, 1]
