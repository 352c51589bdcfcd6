"""Active learning: which of the predicted images are to be labelled next."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lesion_exp.choices import RANKINGS
from lesion_exp.errors import check_choice
from lesion_exp.evaluation.predictions import FloatArray, IntArray, probabilities


def images_to_label(
    table: pd.DataFrame, ranking: str, count: int, features: npt.NDArray[np.floating[Any]] | None = None
) -> pd.DataFrame:
    """The `count` most informative images of a predictions table, the best first.

    The columns are `image`, `prediction`, `score` and an empty `label`. The images are ranked by

    - `entropy`: -sum_c p_c log p_c, in nats, highest first (Settles 2009, "Active learning literature survey",
      section 3.1): the network is uncertain about all classes;
    - `margin`: the highest probability less the second highest, lowest first: the network is uncertain about two
      classes;
    - `coreset`: the image with the largest Euclidean distance, in the features of the last layer, to all images that
      are chosen already, so that the chosen images differ from each other; the score is that distance. The first image
      is the one with the highest entropy, and its score is empty. This is the greedy k-centre algorithm of Sener and
      Savarese 2018, arXiv:1708.00489, without the images that the network was trained on.

    Rows with an error are left out.

    Args:
        table: a table as `predict` writes it.
        ranking: entropy, margin or coreset.
        count: at least 1.
        features: float (N, F), for `coreset`.

    Raises:
        ConfigError: the ranking is unknown.
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
    """The entropy of probabilities (N, C): float64 (N,), in nats."""
    logs = np.log(np.where(probs > 0, probs, 1.0))
    return np.asarray(-(probs * logs).sum(axis=1), dtype=np.float64)


def margin(probs: FloatArray) -> FloatArray:
    """The highest of the probabilities (N, C) less the second highest: float64 (N,)."""
    highest = np.sort(probs, axis=1)[:, -2:]
    return np.asarray(highest[:, 1] - highest[:, 0], dtype=np.float64)


def _k_centre(features: FloatArray, first_by: FloatArray, count: int) -> tuple[IntArray, FloatArray]:
    """The positions of the centres, and the distance of each to the nearest earlier one (NaN for the first)."""
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
        nearest_centre[chosen[: step + 1]] = -1.0  # so that no image is chosen twice
    return chosen, scores
