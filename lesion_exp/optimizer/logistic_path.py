"""Exact logistic regression by L-BFGS, for a head on a frozen network: one strength of the penalty an epoch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.optim import Optimizer

from lesion_exp.errors import ConfigError

log = logging.getLogger(__name__)

_SMALLEST_DEVIATION: Final = 1e-6
"""A feature that varies less is the same in all images."""


@dataclass(frozen=True)
class Problem:
    """A regression of classes on features."""

    features: Tensor
    """Floating point (N, F)."""
    labels: Tensor
    """int64 (N,), from 0."""
    class_weights: Tensor | None
    """float32 (C,); None weighs all alike."""
    strength: float
    """Of the penalty."""


@dataclass(frozen=True)
class Solution:
    """What the minimum of a `Problem` is; the weights themselves are set."""

    loss: float
    """Weighted mean cross-entropy, without the penalty."""
    iterations: int
    converged: bool


class LogisticPath(Optimizer):
    """Minimises sum_i w_{y_i} (-log p_{i, y_i}) / sum_i w_{y_i} + strength / 2 |W|^2 in each step, to convergence.

    W is the weight matrix in units of standardised features z = (f - mean) / deviation, so that one strength suits
    features of every scale; the bias has no penalty. With N images of weight 1, `strength` is 1 / (C N) for the C of
    scikit-learn's LogisticRegression. What is set is the linear layer of the features as they are: weight W / deviation
    and bias b - W mean / deviation. Each step starts from the weights of the step before (Friedman et al. 2010,
    doi:10.18637/jss.v033.i01, for paths with warm starts; Liu and Nocedal 1989, doi:10.1007/BF01589116, for L-BFGS).

    The step k of n, from 0, has the strength strongest (weakest / strongest)^(k / (n - 1)).

    Args:
        params: the weight (C, F) and the bias (C,) of one linear layer, or parameter groups of them.
        strongest: strength of the penalty in the first epoch, above 0.
        weakest: in the last epoch, above 0 and at most `strongest`.
        max_iterations: of L-BFGS in a step, at least 1.
        tolerance: largest entry of the gradient at which a step has converged, above 0.

    Raises:
        ConfigError: a value out of range, or parameters of something else than one linear layer.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        strongest: float = 10.0,
        weakest: float = 1e-3,
        max_iterations: int = 500,
        tolerance: float = 1e-4,
    ) -> None:
        if not 0 < weakest <= strongest:
            raise ConfigError(
                f"expected optimizer.strongest of at least optimizer.weakest, which is above 0, got {strongest} and "
                f"{weakest}; 10 and 0.001 are usual"
            )
        if max_iterations < 1 or not tolerance > 0:
            raise ConfigError(
                f"expected optimizer.max_iterations of at least 1 and optimizer.tolerance above 0, got "
                f"{max_iterations} and {tolerance}; 500 and 0.0001 are usual"
            )
        super().__init__(params, {})
        self.strongest, self.weakest = float(strongest), float(weakest)
        self.max_iterations, self.tolerance = int(max_iterations), float(tolerance)
        self.solution: Solution | None = None
        """What the last step came to."""

    def strength(self, step: int, num_steps: int) -> float:
        """The strength of the penalty in `step`, from 0, of `num_steps`."""
        share = step / (num_steps - 1) if num_steps > 1 else 0.0
        return float(self.strongest * (self.weakest / self.strongest) ** share)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Sets the parameters to the minimum of the `Problem` that `closure` gives; returns its loss."""
        assert closure is not None, "a step needs the problem that it solves"
        problem: Problem = closure()
        weight, bias = self._layer()
        with torch.no_grad(), torch.autocast(problem.features.device.type, enabled=False):
            self.solution = solve(problem, weight, bias, self.max_iterations, self.tolerance)
        if not self.solution.converged:
            log.warning(
                "the regression of strength %.3g stopped after %d iterations before it converged; "
                "optimizer.max_iterations=%d lets it go on",
                problem.strength,
                self.solution.iterations,
                2 * self.max_iterations,
            )
        return self.solution.loss

    def _layer(self) -> tuple[Tensor, Tensor]:
        found = [weights for group in self.param_groups for weights in group["params"]]
        matrices, vectors = [w for w in found if w.ndim == 2], [w for w in found if w.ndim == 1]
        if len(found) != 2 or not matrices or not vectors or len(matrices[0]) != len(vectors[0]):
            raise ConfigError(
                f"expected one linear layer to train with optimizer=logistic_path, got {len(found)} parameters; set "
                f"backbone.tune=head and backbone.metadata=none, or use optimizer=adamw"
            )
        return matrices[0], vectors[0]


def solve(problem: Problem, weight: Tensor, bias: Tensor, max_iterations: int, tolerance: float) -> Solution:
    """Sets `weight` (C, F) and `bias` (C,) to the minimum, starting from what they are.

    The products of matrices are computed in float32, the mean loss and L-BFGS's vectors in float64.
    """
    from scipy.optimize import minimize

    features = problem.features.float()
    deviation, mean = torch.std_mean(features, dim=0, correction=0)
    deviation = torch.where(deviation < _SMALLEST_DEVIATION, 1.0, deviation)
    standard = (features - mean) / deviation
    count, width = len(problem.labels), standard.shape[1]
    num_classes = len(bias)
    of_class = (
        torch.ones(num_classes, device=features.device) if problem.class_weights is None else problem.class_weights
    )
    shares = of_class.to(features.device)[problem.labels]
    shares = shares / shares.sum()
    rows = torch.arange(count, device=features.device)

    def matrices(flat: npt.NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        values = torch.from_numpy(flat).to(features.device, torch.float32).view(num_classes, width + 1)
        return values[:, :width], values[:, width]

    def mean_loss(flat: npt.NDArray[np.float64]) -> tuple[float, Tensor]:
        w, b = matrices(flat)
        log_probs = torch.addmm(b, standard, w.T).log_softmax(dim=1)
        return float(-(log_probs[rows, problem.labels].double() * shares.double()).sum()), log_probs

    def objective(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        loss, log_probs = mean_loss(flat)
        excess = log_probs.exp()
        excess[rows, problem.labels] -= 1
        excess *= shares[:, None]
        gradient = torch.cat([excess.T @ standard, excess.sum(dim=0)[:, None]], dim=1).double().cpu().numpy()
        penalised = flat.reshape(num_classes, width + 1)[:, :width]
        gradient[:, :width] += problem.strength * penalised
        return loss + problem.strength / 2 * float((penalised**2).sum()), gradient.ravel()

    first = torch.cat([weight * deviation, (bias + weight @ mean)[:, None]], dim=1)
    limits = {"maxiter": max_iterations, "maxfun": 4 * max_iterations, "gtol": tolerance, "ftol": 1e-10, "maxcor": 20}
    found = minimize(objective, first.double().cpu().numpy().ravel(), jac=True, method="L-BFGS-B", options=limits)
    w, b = matrices(found.x)
    weight.copy_(w / deviation)
    bias.copy_(b - weight @ mean)
    return Solution(mean_loss(found.x)[0], int(found.nit), found.nit < max_iterations)
