"""The solver of logistic regressions against scikit-learn's, and the path of its strengths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from lesion_exp.errors import ConfigError
from lesion_exp.optimizer import logistic_path
from lesion_exp.optimizer.logistic_path import LogisticPath, Problem

NUM_IMAGES, NUM_FEATURES, NUM_CLASSES = 240, 6, 3


@pytest.fixture(scope="module")
def drawn() -> tuple[Tensor, Tensor]:
    """Features of very different scales, one of them the same everywhere, and labels that depend on them."""
    rng = np.random.default_rng(0)
    labels = rng.choice(NUM_CLASSES, NUM_IMAGES, p=[0.6, 0.3, 0.1])
    features = rng.normal(size=(NUM_IMAGES, NUM_FEATURES)) + 0.8 * np.eye(NUM_CLASSES, NUM_FEATURES)[labels]
    features = features * np.array([1e-2, 1.0, 50.0, 1.0, 1.0, 1.0]) + np.array([3.0, 0.0, -70.0, 5.0, 0.0, 1.0])
    features[:, 5] = 1.0
    return torch.tensor(features, dtype=torch.float32), torch.tensor(labels)


def solved(drawn: tuple[Tensor, Tensor], strength: float, weights: Tensor | None = None) -> nn.Linear:
    torch.manual_seed(0)
    head = nn.Linear(NUM_FEATURES, NUM_CLASSES)
    path = LogisticPath(head.parameters(), strength, strength, max_iterations=2000, tolerance=1e-6)
    path.step(lambda: Problem(*drawn, weights, path.strength(0, 1)))
    assert path.solution is not None
    assert path.solution.converged
    return head


@pytest.mark.parametrize("strength", [1.0, 0.01, 0.001])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_minimum_is_scikit_learns(drawn: tuple[Tensor, Tensor], strength: float, weighted: bool) -> None:
    features, labels = drawn
    weights = torch.tensor([0.5, 1.0, 3.0]) if weighted else None
    head = solved(drawn, strength, weights)
    deviation, mean = features.double().std(0, correction=0), features.double().mean(0)
    deviation[5] = 1.0
    standard = ((features.double() - mean) / deviation).numpy()
    of_image = torch.ones(NUM_IMAGES) if weights is None else weights[labels]
    reference = LogisticRegression(C=1 / strength, tol=1e-10, max_iter=10_000)
    reference.fit(standard, labels.numpy(), sample_weight=(of_image / of_image.sum()).numpy())
    ours = head(features).softmax(1).detach().numpy()
    assert np.abs(ours - reference.predict_proba(standard)).max() < 1e-3


def test_it_computes_in_float32_whatever_the_precision_of_the_training(drawn: tuple[Tensor, Tensor]) -> None:
    expected = solved(drawn, 0.01)
    with torch.autocast("cpu", torch.bfloat16):
        found = solved(drawn, 0.01)
    assert torch.equal(found.weight, expected.weight)
    assert torch.equal(found.bias, expected.bias)


def test_the_strengths_go_from_the_strongest_to_the_weakest_by_equal_factors() -> None:
    path = LogisticPath(nn.Linear(2, 2).parameters(), strongest=1.0, weakest=1e-4)
    assert [path.strength(step, 5) for step in range(5)] == pytest.approx([1.0, 1e-1, 1e-2, 1e-3, 1e-4])
    assert path.strength(0, 1) == 1.0


def test_a_step_starts_from_the_weights_of_the_step_before(drawn: tuple[Tensor, Tensor]) -> None:
    head = solved(drawn, 1e-3)
    path = LogisticPath(head.parameters(), tolerance=1e-4)
    path.step(lambda: Problem(*drawn, None, 1e-3))
    assert path.solution is not None
    assert path.solution.iterations <= 1


def along_the_path(drawn: tuple[Tensor, Tensor], path: LogisticPath, steps: range) -> int:
    """Takes `steps` of ten; returns the number of their iterations."""
    iterations = 0
    for step in steps:
        path.step(lambda step=step: Problem(*drawn, None, path.strength(step, 10)))
        assert path.solution is not None
        iterations += path.solution.iterations
    return iterations


def test_steps_along_a_path_start_beyond_the_last_change_and_need_fewer_iterations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(NUM_CLASSES, 300, p=[0.6, 0.3, 0.1])
    features = rng.normal(size=(300, 200)) + 0.6 * rng.normal(size=(NUM_CLASSES, 200))[labels]
    wide = torch.tensor(features, dtype=torch.float32), torch.tensor(labels)
    used, probabilities = [], []
    for beyond in (0.0, 1.2):
        monkeypatch.setattr(logistic_path, "_BEYOND", beyond)
        head = nn.Linear(200, NUM_CLASSES)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        used.append(along_the_path(wide, LogisticPath(head.parameters()), range(10)))
        probabilities.append(head(wide[0]).softmax(1).detach())
    assert used[1] < 0.7 * used[0]
    assert (probabilities[0] - probabilities[1]).abs().max() < 1e-2, "both are at the minimum of the last strength"


def test_a_path_that_goes_on_from_a_checkpoint_is_the_same(drawn: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    whole, stopped = (nn.Linear(NUM_FEATURES, NUM_CLASSES) for _ in range(2))
    stopped.load_state_dict(whole.state_dict())
    along_the_path(drawn, LogisticPath(whole.parameters()), range(6))
    first = LogisticPath(stopped.parameters())
    along_the_path(drawn, first, range(3))
    later = LogisticPath(stopped.parameters())
    later.load_state_dict(first.state_dict())
    along_the_path(drawn, later, range(3, 6))
    assert torch.equal(whole.weight, stopped.weight)
    assert torch.equal(whole.bias, stopped.bias)


def test_a_regression_that_stops_early_says_what_lets_it_go_on(
    drawn: tuple[Tensor, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    head = nn.Linear(NUM_FEATURES, NUM_CLASSES)
    path = LogisticPath(head.parameters(), max_iterations=2, tolerance=1e-9)
    path.step(lambda: Problem(*drawn, None, 1e-4))
    assert path.solution is not None
    assert not path.solution.converged
    assert "optimizer.max_iterations=4" in caplog.text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"strongest": 0.1, "weakest": 1.0}, "strongest of at least"),
        ({"weakest": 0.0}, "above 0"),
        ({"max_iterations": 0}, "max_iterations of at least 1"),
        ({"tolerance": 0.0}, "tolerance above 0"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, float], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        LogisticPath(nn.Linear(2, 2).parameters(), **values)  # type: ignore[arg-type]


def test_anything_but_one_linear_layer_is_refused(drawn: tuple[Tensor, Tensor]) -> None:
    network = nn.Sequential(nn.Linear(NUM_FEATURES, 4), nn.Linear(4, NUM_CLASSES))
    path = LogisticPath(network.parameters())
    with pytest.raises(ConfigError, match=r"backbone\.tune=head"):
        path.step(lambda: Problem(*drawn, None, 1.0))
