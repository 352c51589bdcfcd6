"""The models of a stacked ensemble, from features to probabilities, each stored as plain numbers without code.

`fit_model` fits scikit-learn's logistic regression, its `HistGradientBoostingClassifier`, or LightGBM, and copies what
it learnt into a `LinearModel` or a `TreeModel`. These compute the probabilities themselves, so that a stored ensemble
is a JSON file, needs no pickle, and does not depend on the library that fitted it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from scipy.special import expit, softmax

from lesion_exp.choices import STACKS
from lesion_exp.errors import DataError, check_choice, not_installed
from lesion_exp.evaluation.predictions import BoolArray, FloatArray, IntArray

LEARNING_RATE: Final = 0.05
ROUNDS: Final = 100
"""Rounds of boosting, of one tree for each class (one in all for two classes)."""
MOST_LEAVES: Final = 4
"""Few, since ensembles are fitted on hundreds of images rather than millions: on 500 generated images with a planted
patient effect the AUROC was 0.66 with 4 leaves, 0.60 with 15 leaves, and 0.62 for the network alone."""
LEAST_IN_LEAF: Final = 20
L2: Final = 1.0
_LEAF: Final = -1
_COMPARED: Final = 1000
"""Largest number of images on which a copy is compared with its library."""
_TOLERANCE: Final = 1e-9
"""Largest accepted distance between the probabilities of a library and those of its copy."""

Predict = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class LinearModel:
    """softmax(W x + b), where x are the features, standardised, and an indicator for each that was missing in the fit.

    A missing value becomes the mean of the fit, which is 0 after standardisation.
    """

    center: FloatArray
    """(F,)."""
    scale: FloatArray
    """(F,)."""
    indicated: IntArray
    """Positions of the features with an indicator, (I,)."""
    weights: FloatArray
    """(C, F + I)."""
    bias: FloatArray
    """(C,)."""

    def probs(self, features: FloatArray) -> FloatArray:
        """Returns the probabilities, float64 (N, C), of the features, float64 (N, F)."""
        return np.asarray(softmax(self.design(features) @ self.weights.T + self.bias, axis=1), dtype=np.float64)

    def design(self, features: FloatArray) -> FloatArray:
        """Returns the standardised features and the indicators, float64 (N, F + I)."""
        missing = np.isnan(features)
        standardised = np.where(missing, 0.0, (features - self.center) / self.scale)
        return np.concatenate([standardised, missing[:, self.indicated].astype(np.float64)], axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, for JSON."""
        names = ("center", "scale", "indicated", "weights", "bias")
        return {"kind": "linear", **{name: getattr(self, name).tolist() for name in names}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restores the values of `to_dict`."""
        indicated = np.asarray(values["indicated"], dtype=np.int64)
        center, scale, weights, bias = (
            np.asarray(values[name], dtype=np.float64) for name in ("center", "scale", "weights", "bias")
        )
        if weights.shape != (len(bias), len(center) + len(indicated)) or len(scale) != len(center):
            raise ValueError("weights and features differ in number")
        if len(indicated) and not (indicated.min() >= 0 and indicated.max() < len(center)):
            raise ValueError("an indicator belongs to no feature")
        return cls(center, scale, indicated, weights, bias)


@dataclass(frozen=True)
class TreeModel:
    """Gradient-boosted trees: the softmax (the sigmoid, for two classes) of the sums of their leaves.

    All nodes lie one after the other, each tree behind the one before it. An image goes left if its feature is at most
    the threshold; a missing value goes where `missing_left` says.
    """

    num_features: int
    baseline: FloatArray
    """Start values of the sums, (C,), or (1,) for two classes."""
    roots: IntArray
    """The first node of each tree, (T,); the trees of one round follow each other in the order of the classes."""
    feature: IntArray
    """(nodes,); -1 for a leaf."""
    threshold: FloatArray
    """(nodes,); infinite if only missing values go to the right."""
    missing_left: BoolArray
    """(nodes,)."""
    left: IntArray
    """(nodes,)."""
    right: IntArray
    """(nodes,)."""
    value: FloatArray
    """Values of the leaves, (nodes,)."""

    def probs(self, features: FloatArray) -> FloatArray:
        """Returns the probabilities, float64 (N, C), of the features, float64 (N, F)."""
        sums = np.tile(self.baseline, (len(features), 1))
        rows = np.arange(len(features))
        for number, root in enumerate(self.roots):
            node = np.full(len(features), root)
            while (inner := self.feature[node] != _LEAF).any():
                at = node[inner]
                values = features[rows[inner], self.feature[at]]
                goes_left = np.where(np.isnan(values), self.missing_left[at], values <= self.threshold[at])
                node[inner] = np.where(goes_left, self.left[at], self.right[at])
            sums[:, number % len(self.baseline)] += self.value[node]
        if len(self.baseline) == 1:
            second = expit(sums[:, 0])
            return np.stack([1 - second, second], axis=1)
        return np.asarray(softmax(sums, axis=1), dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, for JSON, which has no infinity: null is an infinite threshold."""
        names = ("baseline", "roots", "feature", "missing_left", "left", "right", "value")
        thresholds = [threshold if math.isfinite(threshold) else None for threshold in self.threshold.tolist()]
        lists = {name: getattr(self, name).tolist() for name in names}
        return {"kind": "trees", "num_features": self.num_features, **lists, "threshold": thresholds}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restores the values of `to_dict`.

        Raises:
            ValueError: the values are not trees: a child of a node does not follow it, or does not exist.
        """
        thresholds = [math.inf if threshold is None else threshold for threshold in values["threshold"]]
        integers = {name: np.asarray(values[name], dtype=np.int64) for name in ("roots", "feature", "left", "right")}
        model = cls(
            num_features=int(values["num_features"]),
            baseline=np.asarray(values["baseline"], dtype=np.float64),
            threshold=np.asarray(thresholds, dtype=np.float64),
            missing_left=np.asarray(values["missing_left"], dtype=np.bool_),
            value=np.asarray(values["value"], dtype=np.float64),
            **integers,
        )
        model._check()
        return model

    def _check(self) -> None:
        size, inner = len(self.feature), np.flatnonzero(self.feature != _LEAF)
        if {len(values) for values in (self.threshold, self.missing_left, self.left, self.right, self.value)} != {size}:
            raise ValueError("the columns of the nodes differ in length")
        next_nodes = np.concatenate([self.left[inner], self.right[inner]])
        follows = next_nodes > np.concatenate([inner, inner])  # so that every way down ends
        if not follows.all() or (next_nodes >= size).any() or ((self.roots < 0) | (self.roots >= size)).any():
            raise ValueError("a node does not lead to a later one")
        if ((self.feature < _LEAF) | (self.feature >= self.num_features)).any() or self.baseline.ndim != 1:
            raise ValueError("a node reads a feature that there is not")


StackModel = LinearModel | TreeModel


def read_model(values: Mapping[str, Any]) -> StackModel:
    """Restores a model from the values of its `to_dict`.

    Raises:
        DataError: the values are not those of a model.
    """
    kinds: dict[str, type[LinearModel] | type[TreeModel]] = {"linear": LinearModel, "trees": TreeModel}
    try:
        return kinds[str(values["kind"])].from_dict(values)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"expected a stacked ensemble that evaluate ensemble=stacked stored, got other values ({error!r}); "
            f"combine the runs again"
        ) from error


def check_installed(method: str) -> None:
    """Checks that the library of `stack=method` is installed.

    Raises:
        ConfigError: the method is unknown, or its package is missing.
    """
    check_choice("stack", method, STACKS)
    if method == "lgbm":
        try:
            import lightgbm  # noqa: F401
        except ImportError as error:
            raise not_installed("lightgbm", "stack=lgbm (the extra lgbm; stack=hgb needs none)") from error


def fit_model(
    method: str, features: FloatArray, true: IntArray, num_classes: int, unscaled: BoolArray, weights: FloatArray | None
) -> tuple[StackModel, Predict]:
    """Fits a model, and returns it together with the same predictions by the library, which are faster.

    Nothing in the fit is random, and the number of threads changes nothing.

    Args:
        method: `logistic` (L2 penalty, C = 1), `hgb` or `lgbm` (100 rounds of trees with at most 4 leaves of at least
            20 images, learning rate 0.05, L2 penalty 1).
        features: float64 (N, F), NaN where missing.
        true: int64 (N,), positions of the true classes; every class has an image.
        num_classes: C.
        unscaled: which features the logistic regression does not standardise, bool (F,).
        weights: float64 (N,), weights of the images; None: equal ones, with which scikit-learn is many times faster.
    """
    if method == "logistic":
        linear = _linear(features, true, unscaled, weights)
        return linear, linear.probs
    if method == "hgb":
        trees, predict = _scikit_learns(features, true, weights)
    else:
        trees, predict = _lightgbms(features, true, num_classes, weights)
    sample = features[: min(len(features), _COMPARED)]
    distance = float(np.abs(trees.probs(sample) - predict(sample)).max())
    if not distance <= _TOLERANCE:
        raise DataError(
            f"expected trees with the predictions of the library of stack={method}, but the probabilities differ by "
            f"up to {distance:.2g}, because this version of the library stores trees in another way; use "
            f"stack=logistic, or the version in scripts/constraints.txt"
        )
    return trees, predict


def fit_present(
    method: str, features: FloatArray, true: IntArray, num_classes: int, unscaled: BoolArray, weights: FloatArray | None
) -> Predict:
    """Fits a model as `fit_model` does, also if some classes have no image: these get the probability 1 / (N + C)."""
    present, positions = np.unique(true, return_inverse=True)
    if len(present) == num_classes:
        return fit_model(method, features, true, num_classes, unscaled, weights)[1]
    rare = 1 / (len(true) + num_classes)
    share = 1 - rare * (num_classes - len(present))
    predict = None
    if len(present) > 1:
        predict = fit_model(method, features, positions, len(present), unscaled, weights)[1]

    def widened(found: FloatArray) -> FloatArray:
        probs = np.full((len(found), num_classes), rare)
        probs[:, present] = share * (1.0 if predict is None else predict(found))
        return probs

    return widened


def _linear(features: FloatArray, true: IntArray, unscaled: BoolArray, weights: FloatArray | None) -> LinearModel:
    missing = np.isnan(features)
    counts = np.maximum((~missing).sum(axis=0), 1)
    center = np.where(missing, 0.0, features).sum(axis=0) / counts
    spread = np.sqrt(np.where(missing, 0.0, (features - center) ** 2).sum(axis=0) / counts)
    scale = np.where(spread > 0, spread, 1.0)
    plain = unscaled & ~missing.any(axis=0)
    center, scale = np.where(plain, 0.0, center), np.where(plain, 1.0, scale)
    size = features.shape[1]
    blank = LinearModel(center, scale, np.flatnonzero(missing.any(axis=0)), np.zeros((0, size)), np.zeros(0))
    from sklearn.linear_model import LogisticRegression  # predicting needs the copy alone

    fitted = LogisticRegression(C=1.0, max_iter=2000).fit(blank.design(features), true, sample_weight=weights)
    found, bias = fitted.coef_, fitted.intercept_
    if len(bias) == 1:  # scikit-learn only returns the row of the second of two classes
        found, bias = np.vstack([np.zeros_like(found), found]), np.concatenate([[0.0], bias])
    return LinearModel(center, scale, blank.indicated, np.asarray(found), np.asarray(bias))


def _scikit_learns(features: FloatArray, true: IntArray, weights: FloatArray | None) -> tuple[TreeModel, Predict]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    fitted = HistGradientBoostingClassifier(
        learning_rate=LEARNING_RATE, max_iter=ROUNDS, max_leaf_nodes=MOST_LEAVES, min_samples_leaf=LEAST_IN_LEAF,
        l2_regularization=L2, early_stopping=False, random_state=0,
    ).fit(np.where(np.isnan(features).all(axis=0), 0.0, features), true, sample_weight=weights)  # fmt: skip
    # (scikit-learn cannot bin a feature without any value; a constant is never split on)
    trees = [predictor.nodes for stage in fitted._predictors for predictor in stage]
    nodes = [
        {
            "feature": np.where(tree["is_leaf"], _LEAF, tree["feature_idx"].astype(np.int64)),
            "threshold": tree["num_threshold"],
            "missing_left": tree["missing_go_to_left"].astype(np.bool_),
            "left": tree["left"].astype(np.int64),
            "right": tree["right"].astype(np.int64),
            "value": tree["value"],
        }
        for tree in trees
    ]
    model = _joined(nodes, np.ravel(fitted._baseline_prediction), features.shape[1])
    return model, fitted.predict_proba


def _joined(nodes: Sequence[Mapping[str, Any]], baseline: FloatArray, num_features: int) -> TreeModel:
    """One model of all trees, whose nodes are counted from 0 in each tree."""
    sizes = [len(tree["feature"]) for tree in nodes]
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    columns = {name: np.concatenate([np.asarray(tree[name]) for tree in nodes]) for name in nodes[0]}
    shift, is_leaf = np.repeat(roots, sizes), columns["feature"] == _LEAF
    for name in ("left", "right"):
        columns[name] = np.where(is_leaf, 0, columns[name] + shift)
    for name in ("threshold", "value"):
        columns[name] = np.where(is_leaf if name == "threshold" else ~is_leaf, 0.0, columns[name])
    return TreeModel(num_features, np.asarray(baseline, dtype=np.float64), roots, **columns)


def _lightgbms(
    features: FloatArray, true: IntArray, num_classes: int, weights: FloatArray | None
) -> tuple[TreeModel, Predict]:
    import lightgbm

    objective = {"objective": "binary"} if num_classes == 2 else {"objective": "multiclass", "num_class": num_classes}
    options = {
        **objective, "learning_rate": LEARNING_RATE, "num_leaves": MOST_LEAVES, "min_data_in_leaf": LEAST_IN_LEAF,
        "lambda_l2": L2, "deterministic": True, "force_row_wise": True, "seed": 0, "verbose": -1,
    }  # fmt: skip
    data = lightgbm.Dataset(features, true, weight=weights, params={"verbose": -1})
    booster = lightgbm.train(options, data, ROUNDS)
    nodes = [_lightgbms_nodes(tree["tree_structure"]) for tree in booster.dump_model()["tree_info"]]
    # LightGBM adds what it begins with to the leaves of the first trees.
    model = _joined(nodes, np.zeros(1 if num_classes == 2 else num_classes), features.shape[1])

    def predict(found: FloatArray) -> FloatArray:
        probs = np.asarray(booster.predict(found), dtype=np.float64)
        return np.stack([1 - probs, probs], axis=1) if num_classes == 2 else probs

    return model, predict


def _lightgbms_nodes(tree: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Returns the nodes of one tree of `Booster.dump_model`, each before those below it."""
    columns: dict[str, list[Any]] = {
        name: [] for name in ("feature", "threshold", "missing_left", "left", "right", "value")
    }

    def add(node: Mapping[str, Any]) -> int:
        place, inner = len(columns["feature"]), "split_feature" in node
        missing_left = bool(node.get("default_left", False))
        if inner and node["missing_type"] != "NaN":  # a value that was never missing in the fit: LightGBM takes 0
            missing_left = node["threshold"] >= 0.0
        threshold = float(node["threshold"]) if inner else 0.0
        for name, value in (
            ("feature", int(node["split_feature"]) if inner else _LEAF),
            ("threshold", math.inf if threshold > 1e300 else threshold),  # LightGBM writes infinity as 1e308
            ("missing_left", missing_left),
            ("left", 0),
            ("right", 0),
            ("value", 0.0 if inner else float(node["leaf_value"])),
        ):
            columns[name].append(value)
        if inner:
            columns["left"][place] = add(node["left_child"])
            columns["right"][place] = add(node["right_child"])
        return place

    add(tree)
    return columns
