from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest

from lesion_exp.evaluation.predictions import predictions_table

HAM_SHARES = {
    "akiec": 0.033,
    "bcc": 0.051,
    "bkl": 0.110,
    "df": 0.011,
    "mel": 0.111,
    "nv": 0.670,
    "vasc": 0.014,
}
MakeTable = Callable[..., pd.DataFrame]


def rows_of(labels: Sequence[str], lesion_ids: Sequence[str | None] | None = None) -> pd.DataFrame:
    names = [f"img{i}" for i in range(len(labels))]
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "image_id": names,
            "row_id": names,
            "lesion_id": lesion_ids or [f"les{i // 2}" for i in range(len(labels))],
            "patient_id": None,
            "label": list(labels),
            "age": rng.integers(1, 17, len(labels)) * 5.0,
            "sex": rng.choice(["female", "male"], len(labels)),
            "site": "back",
            "source": "generated",
        }
    )


def make_table(
    size: int = 500,
    shares: dict[str, float] | None = None,
    skill: float = 2.0,
    decimals: int | None = None,
    seed: int = 0,
    lesion_ids: Sequence[str | None] | None = None,
) -> pd.DataFrame:
    """Predictions of a model that is right more often than not; `decimals` rounds its logits, which makes ties."""
    shares = shares or HAM_SHARES
    rng = np.random.default_rng(seed)
    classes = sorted(shares)
    weights = np.array([shares[name] for name in classes])
    true = rng.choice(len(classes), size, p=weights / weights.sum())
    logits = rng.normal(size=(size, len(classes))) + skill * np.eye(len(classes))[true] + np.log(weights + 1e-3)
    if decimals is not None:
        logits = logits.round(decimals)
    exps = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs = (exps / exps.sum(axis=1, keepdims=True)).astype(np.float32)
    return predictions_table(rows_of([classes[i] for i in true], lesion_ids), probs, classes)


@pytest.fixture
def table() -> pd.DataFrame:
    return make_table()


@pytest.fixture(name="make_table", scope="session")
def make_table_fixture() -> MakeTable:
    return make_table


@pytest.fixture(name="rows_of")
def rows_of_fixture() -> Callable[..., pd.DataFrame]:
    return rows_of
