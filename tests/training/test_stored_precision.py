"""Features that are stored in two bytes a number give the probe that features of four bytes give."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lesion_exp.data.features import open_or_compute
from lesion_exp.evaluation.intervals import intervals
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.predictions import predictions_table
from lesion_exp.optimizer.logistic_path import LogisticPath, Problem

CLASSES = ("akiec", "bkl", "mel", "nv")
SHARES = (0.05, 0.15, 0.15, 0.65)
NUM_TRAINING, NUM_TEST, NUM_FEATURES = 3000, 1500, 96
NAMES = ("balanced_accuracy", "auroc_macro")
MOST = 0.05
"""Largest difference of a metric, as a share of the width of its interval."""


@pytest.fixture(scope="module")
def drawn():
    """Features as those of a network before its head: averages of what is not negative, of very different scales, with
    means several times their deviations, where two bytes lose most.
    """
    rng = np.random.default_rng(0)
    labels = rng.choice(len(CLASSES), NUM_TRAINING + NUM_TEST, p=SHARES)
    centres = rng.normal(size=(len(CLASSES), NUM_FEATURES)) * 0.2
    values = np.maximum(
        centres[labels] + rng.normal(size=(len(labels), NUM_FEATURES)) + rng.uniform(0, 6, NUM_FEATURES), 0
    )
    return torch.tensor(values * rng.lognormal(0, 2, NUM_FEATURES), dtype=torch.float32), torch.tensor(labels)


def probe(drawn, kind, folder):
    """The predictions table of the test images, of a probe on features that were stored as `kind`."""
    features, labels = drawn
    rows = np.arange(len(labels))
    stored = open_or_compute(folder / str(kind), len(rows), lambda _: [(rows, features.to(kind))]).read(rows)
    assert stored.dtype == kind
    head = nn.Linear(NUM_FEATURES, len(CLASSES))
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    path = LogisticPath(head.parameters(), 0.03, 0.03)
    weights = torch.tensor(SHARES).reciprocal()
    path.step(lambda: Problem(stored[:NUM_TRAINING], labels[:NUM_TRAINING], weights, 0.03))
    with torch.no_grad():
        probs = head(stored[NUM_TRAINING:].float()).softmax(dim=1).numpy()
    names = [f"img{row}" for row in range(NUM_TEST)]
    table = pd.DataFrame({"image_id": names, "row_id": names, "lesion_id": names, "patient_id": None, "age": 50.0})
    table = table.assign(label=[CLASSES[k] for k in labels[NUM_TRAINING:]], sex="female", site="back", source="drawn")
    return predictions_table(table, probs, CLASSES)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_two_bytes_change_a_probe_by_a_small_part_of_its_interval(drawn, kind, tmp_path):
    whole, short = probe(drawn, torch.float32, tmp_path), probe(drawn, kind, tmp_path)
    before, after, found = metrics(whole, NAMES), metrics(short, NAMES), intervals(whole, NAMES)
    assert not np.array_equal(whole.filter(like="p_"), short.filter(like="p_")), "the bytes that are lost do something"
    for name in NAMES:
        low, high = found[name]
        assert 0.6 < before[name] < 0.99, "neither chance nor perfect"
        assert abs(after[name] - before[name]) < MOST * (high - low), name
