"""Measures how far the folds of this package and of scikit-learn are from equal shares of each class.

    python scripts/split_deviation.py --seeds 5 [--table manifest.parquet]

For each table and seed, five folds are dealt by `lesion_exp.split.assign.deal_groups` and by scikit-learn's
StratifiedGroupKFold (shuffled by the same seed). The deviation of a class is the largest distance, over folds, between
its share in the fold and a fifth; the table shows the worst class's in percentage points, the mean over seeds and the
largest. The same for the images of all classes together. A split's `manifest.parquet` (from a run) is one table more.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

FOLDS: Final = 5
HAM_SHARES: Final = {"akiec": 0.031, "bcc": 0.044, "bkl": 0.097, "df": 0.010, "mel": 0.082, "nv": 0.723, "vasc": 0.013}


def lesions(rng: np.random.Generator) -> pd.DataFrame:
    """A table as in HAM10000: lesions of one class with one to six photographs."""
    size = rng.choice(6, 1500, p=[0.738, 0.19, 0.066, 0.004, 0.001, 0.001]) + 1
    label = rng.choice(list(HAM_SHARES), 1500, p=np.array(list(HAM_SHARES.values())) / sum(HAM_SHARES.values()))
    return _table(np.repeat(np.arange(1500), size), np.repeat(label, size))


def patients(rng: np.random.Generator) -> pd.DataFrame:
    """A table as in ISIC 2020: patients with 2 to 115 images, nearly all benign."""
    size = np.clip(rng.lognormal(2.5, 0.8, 600).astype(int), 2, 115)
    group = np.repeat(np.arange(600), size)
    return _table(group, np.where(rng.random(len(group)) < 0.018, "malignant", "benign"))


def few_patients(rng: np.random.Generator) -> pd.DataFrame:
    """Sixty patients with lesions of six classes: nothing comes out even."""
    size = rng.integers(1, 60, 60)
    group = np.repeat(np.arange(60), size)
    return _table(group, _drawn(rng, len(group), [0.32, 0.37, 0.02, 0.11, 0.08, 0.10]))


def giant(rng: np.random.Generator) -> pd.DataFrame:
    """One patient with 60% of all images, of all classes, beside three hundred others."""
    size = np.concatenate([[1800], rng.integers(1, 8, 300)])
    group = np.repeat(np.arange(301), size)
    return _table(group, _drawn(rng, len(group), [0.6, 0.2, 0.15, 0.05]))


def specialised(rng: np.random.Generator) -> pd.DataFrame:
    """Clinics as groups: each has mostly one class, and some have many images."""
    size = np.clip(rng.lognormal(3, 1.2, 40).astype(int), 1, 600)
    group, own = np.repeat(np.arange(40), size), rng.integers(0, 5, 40)
    label = np.where(rng.random(len(group)) < 0.8, own[group], rng.integers(0, 5, len(group)))
    return _table(group, np.array(list("abcde"))[label])


def rare(rng: np.random.Generator) -> pd.DataFrame:
    """Classes of one, two and five groups among frequent ones."""
    size = rng.integers(1, 6, 400)
    kind = np.concatenate([[0], [1] * 2, [2] * 5, rng.integers(3, 6, 392)])
    return _table(np.repeat(np.arange(400), size), np.array(list("abcdef"))[np.repeat(kind, size)])


TABLES: Final[dict[str, Callable[[np.random.Generator], pd.DataFrame]]] = {
    "lesions": lesions,
    "patients": patients,
    "few_patients": few_patients,
    "giant": giant,
    "specialised": specialised,
    "rare": rare,
}


def _drawn(rng: np.random.Generator, count: int, shares: list[float]) -> np.ndarray:
    return rng.choice(list("abcdefgh"[: len(shares)]), count, p=np.array(shares) / sum(shares))


def _table(group: np.ndarray, label: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"group": [f"g{number:06d}" for number in group], "label": label})


def ours(table: pd.DataFrame, seed: int) -> np.ndarray:
    """The fold of each row by this package."""
    from lesion_exp.split.assign import deal_groups

    shares = {str(number): 1 / FOLDS for number in range(FOLDS)}
    return deal_groups(table, table["group"], shares, seed).astype(int).to_numpy()


def scikit_learn(table: pd.DataFrame, seed: int) -> np.ndarray:
    """The fold of each row by StratifiedGroupKFold."""
    from sklearn.model_selection import StratifiedGroupKFold

    fold = np.full(len(table), -1)
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for number, (_, rows) in enumerate(splitter.split(table, table["label"], table["group"])):
        fold[rows] = number
    return fold


def deviations(table: pd.DataFrame, fold: np.ndarray) -> tuple[float, float]:
    """The deviation of the worst class, and that of all images together: shares of 0 to 1."""
    counts = pd.crosstab(fold, table["label"].to_numpy()).reindex(range(FOLDS), fill_value=0)
    of_classes = (counts / counts.sum() - 1 / FOLDS).abs().to_numpy().max()
    of_all = (counts.sum(axis=1) / len(table) - 1 / FOLDS).abs().max()
    return float(of_classes), float(of_all)


def compared(make: Callable[[np.random.Generator], pd.DataFrame], seeds: int) -> pd.DataFrame:
    """A row a seed: `ours`, `scikit_learn` (the worst class), `ours_all`, `scikit_learn_all`, and the seconds of
    each."""
    rows = []
    for seed in range(seeds):
        table = make(np.random.default_rng(seed))
        row = {}
        for name, split in (("ours", ours), ("scikit_learn", scikit_learn)):
            start = time.perf_counter()
            fold = split(table, seed)
            row[f"{name}_seconds"] = time.perf_counter() - start
            row[name], row[f"{name}_all"] = deviations(table, fold)
        rows.append(row)
    return pd.DataFrame(rows)


def _tables(paths: list[Path]) -> Iterator[tuple[str, Callable[[np.random.Generator], pd.DataFrame]]]:
    yield from TABLES.items()
    for path in paths:
        table = pd.read_parquet(path)[["group", "label"]]
        yield path.stem, lambda _, table=table: table


def main() -> int:
    """Prints a row for each table; returns 1 if the worst class is, on average, farther off than scikit-learn's."""
    warnings.filterwarnings("ignore", "The least populated class")
    parser = argparse.ArgumentParser(description="deviation of folds from equal shares, beside scikit-learn")
    parser.add_argument("--seeds", type=int, default=5, help="of each table (5)")
    parser.add_argument("--table", type=Path, action="append", default=[], help="a split's manifest.parquet")
    arguments = parser.parse_args()
    print("percentage points        worst class, mean (largest)      all images, mean       seconds")
    print(f"{'table':<16}{'ours':>16}{'scikit-learn':>18}{'ours':>10}{'scikit-learn':>14}{'ours':>8}{'sk.':>8}")
    worse = False
    for name, make in _tables(arguments.table):
        found = compared(make, arguments.seeds)
        mean, most = found.mean(), found.max()
        worse |= bool(mean["ours"] > mean["scikit_learn"] + 1e-9)
        cells = [f"{100 * mean[key]:.2f} ({100 * most[key]:.2f})" for key in ("ours", "scikit_learn")]
        print(
            f"{name:<16}{cells[0]:>16}{cells[1]:>18}{100 * mean['ours_all']:>10.2f}"
            f"{100 * mean['scikit_learn_all']:>14.2f}{mean['ours_seconds']:>8.2f}{mean['scikit_learn_seconds']:>8.2f}"
        )
    return int(worse)


if __name__ == "__main__":
    raise SystemExit(main())
