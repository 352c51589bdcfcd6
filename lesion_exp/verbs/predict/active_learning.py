"""Which images without a label are worth labelling next."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lesion_exp.choices import RANKINGS
from lesion_exp.errors import check_choice
from lesion_exp.evaluation.predictions import FloatArray, IntArray, probabilities


def to_label(
    table: pd.DataFrame, ranking: str, count: int, features: npt.NDArray[np.floating[Any]] | None = None
) -> pd.DataFrame:
    """The `count` images of a table of predictions that are worth most, the first one most: `image`, `prediction`,
    `score` and an empty `label`.

    - `entropy`: -sum_c p_c log p_c, in nats, highest first: the network does not know which class of all (Settles 2009,
      "Active learning literature survey", section 3.1);
    - `margin`: the likeliest class's probability less the next one's, lowest first: it hesitates between two;
    - `coreset`: the image farthest from all that are chosen already, in the features of the last layer (Euclidean; the
      score is that distance), begun with the one of highest entropy, whose score is empty: they differ from each other
      (the greedy k-centre of Sener and Savarese 2018, arXiv:1708.00489, without the images that the network was trained
      on).

    Rows with an error are left out.

    Args:
        table: as a prediction writes it.
        ranking: entropy, margin or coreset.
        count: at least 1.
        features: float (N, F), for `coreset`.

    Raises:
        ConfigError: an unknown ranking.
    """
    check_choice("rank", ranking, RANKINGS)
    known = table["prediction"].notna().to_numpy()
    rows, probs = table[known], probabilities(table[known])
    if ranking == "coreset":
        assert features is not None, "a coreset is chosen by features"
        order, scores = _k_centre(features[known].astype(np.float64), entropy(probs), count)
    else:
        scores = entropy(probs) if ranking == "entropy" else margin(probs)
        order = np.argsort(-scores if ranking == "entropy" else scores, kind="stable")[:count]
        scores = scores[order]
    chosen = rows.iloc[order][["image", "prediction"]].reset_index(drop=True)
    return chosen.assign(score=scores, label="")


def entropy(probs: FloatArray) -> FloatArray:
    """float64 (N,), in nats, of probabilities (N, C)."""
    logs = np.log(np.where(probs > 0, probs, 1.0))
    return np.asarray(-(probs * logs).sum(axis=1), dtype=np.float64)


def margin(probs: FloatArray) -> FloatArray:
    """float64 (N,): the highest probability of (N, C) less the second."""
    highest = np.sort(probs, axis=1)[:, -2:]
    return np.asarray(highest[:, 1] - highest[:, 0], dtype=np.float64)


def _k_centre(features: FloatArray, first_by: FloatArray, count: int) -> tuple[IntArray, FloatArray]:
    """Positions of the centres and, for each, the distance to the nearest before it (NaN for the first)."""
    count = min(count, len(features))
    chosen = np.zeros(count, dtype=np.int64)
    scores = np.full(count, np.nan)
    nearest_centre = np.full(len(features), np.inf)
    for step in range(count):
        if step == 0:
            chosen[0] = int(first_by.argmax())
        else:
            chosen[step] = int(nearest_centre.argmax())
            scores[step] = nearest_centre[chosen[step]]
        distances = np.linalg.norm(features - features[chosen[step]], axis=1)
        nearest_centre = np.minimum(nearest_centre, distances)
        nearest_centre[chosen[: step + 1]] = -1.0  # images that look the same are chosen once each, not for ever
    return chosen, scores
