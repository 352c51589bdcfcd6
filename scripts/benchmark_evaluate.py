"""Measures the evaluation: the bootstrap of all metrics, beside a loop over draws with scikit-learn.

    python scripts/benchmark.py evaluate [--predictions 10000] [--draws 2000] [--rounds 3]

- framework: the 95% intervals of every metric over lesions, all draws together, on one core;
- loop: four of these metrics (accuracy, balanced accuracy, macro F1, macro AUROC), draw by draw with scikit-learn, on
  twenty draws, its time times draws / 20;
- whole verdict: what `evaluate` does after predicting: metrics with intervals, subgroups, tables and figures in MLflow.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from benchmark_rounds import seconds_of, show, spread_of, summary, take_turns
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, roc_auc_score

from lesion_exp.evaluation.evaluation_result import EvaluationOptions, evaluate_table
from lesion_exp.evaluation.intervals import intervals
from lesion_exp.evaluation.metrics import metric_names
from lesion_exp.evaluation.predictions import classes_of, predictions_table
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.store import open_store
from lesion_exp.training.part_evaluation import log_other_evaluation

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
SHARES = (0.03, 0.05, 0.11, 0.01, 0.11, 0.67, 0.02)
LOOPED_DRAWS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--predictions", type=int, default=10_000, help="rows of the predictions table (10000)")
    parser.add_argument("--draws", type=int, default=2000, help="bootstrap draws (2000)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each way, alternating (3)")


def run(asked: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    table = drawn_table(asked.predictions)
    with tempfile.TemporaryDirectory() as folder:
        ways = {
            "framework": lambda: seconds_of(lambda: intervals(table, draws=asked.draws)),
            "loop": lambda: seconds_of(lambda: loop(table)) * asked.draws / LOOPED_DRAWS,
            "whole verdict": lambda: seconds_of(lambda: verdict(table, asked.draws, Path(folder))),
        }
        found = summary(take_turns(ways, asked.rounds))
    medians = {name: entry["median"] for name, entry in found.items()}
    show(
        f"{asked.predictions:,} predictions, {asked.draws:,} draws, {len(metric_names(CLASSES))} metrics: seconds",
        ["way", "median", "spread"],
        [[name, f"{medians[name]:.2f}", spread_of(found[name], 2)] for name in medians],
    )
    return {"seconds": found, "ratio_to_loop": medians["loop"] / medians["framework"]}


def drawn_table(count: int) -> pd.DataFrame:
    """Draws predictions like those on HAM10000: seven classes, a quarter of the images of a lesion with several."""
    rng = np.random.default_rng(0)
    labels = rng.choice(len(CLASSES), count, p=SHARES)
    logits = rng.normal(0, 1.5, (count, len(CLASSES)))
    logits[np.arange(count), labels] += 2.5
    probabilities = torch.from_numpy(logits).softmax(dim=1).numpy().astype(np.float32)
    num_lesions = max(round(0.75 * count), 1)
    lesions = np.concatenate([np.arange(num_lesions), rng.integers(0, num_lesions, count - num_lesions)])
    rows = pd.DataFrame(
        {
            "image_id": [f"image_{number}" for number in range(count)],
            "row_id": [f"row_{number}" for number in range(count)],
            "lesion_id": [f"lesion_{number}" for number in lesions],
            "patient_id": None,
            "label": [CLASSES[label] for label in labels],
            "age": rng.integers(20, 90, count).astype(float),
            "sex": rng.choice(["female", "male"], count),
            "site": rng.choice(["back", "face", "leg"], count),
            "source": "generated",
        }
    )
    return predictions_table(rows, probabilities, CLASSES)


def loop(table: pd.DataFrame) -> None:
    classes = classes_of(table)
    labels = table["label"].to_numpy()
    probabilities = table[[f"p_{name}" for name in classes]].to_numpy(np.float64)
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    predicted = np.asarray(classes)[probabilities.argmax(axis=1)]
    lesions = table.groupby("lesion_id").indices
    names, rng = list(lesions), np.random.default_rng(0)
    for _ in range(LOOPED_DRAWS):
        rows = np.concatenate([lesions[names[number]] for number in rng.integers(0, len(names), len(names))])
        accuracy_score(labels[rows], predicted[rows])
        balanced_accuracy_score(labels[rows], predicted[rows])
        f1_score(labels[rows], predicted[rows], average="macro")
        roc_auc_score(labels[rows], probabilities[rows], multi_class="ovr", labels=list(classes))


def verdict(table: pd.DataFrame, draws: int, folder: Path) -> None:
    store = open_store(None, folder)
    with TrackedRun.start(store, "benchmark", "verdict", {}) as run:
        log_other_evaluation(
            run, "evaluation", evaluate_table(table, options=EvaluationOptions(draws=draws)), "benchmark"
        )
