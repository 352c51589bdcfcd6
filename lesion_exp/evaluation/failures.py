"""The mistakes that a reader should see first: wrong, and sure of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lesion_exp.evaluation.predictions import predicted_classes, probabilities, true_classes


def failures(table: pd.DataFrame, count: int = 50) -> list[dict[str, Any]]:
    """The `count` wrong predictions with the highest probability, the surest first, as plain values."""
    probs, true, predicted = probabilities(table), true_classes(table), predicted_classes(table)
    wrong = np.flatnonzero(true != predicted)
    confidence = probs[wrong, predicted[wrong]]
    worst = wrong[np.argsort(-confidence, kind="stable")[:count]]
    return [
        {
            "image_id": str(table["image_id"].iloc[row]),
            "label": str(table["label"].iloc[row]),
            "prediction": str(table["prediction"].iloc[row]),
            "probability": round(float(probs[row, predicted[row]]), 4),
            "probability_of_label": round(float(probs[row, true[row]]), 4),
        }
        for row in worst
    ]
