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
_LARGEST_CURVATURE: Final = 0.25
"""Of the cross-entropy by a logit: p (1 - p)."""
_WIDEST_ROTATED: Final = 4096
"""Features, at most, whose covariance is diagonalised: the time grows with the third power."""


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

    L-BFGS works in the directions in which the standardised features do not covary, each in units of its curvature, at
    most `_LARGEST_CURVATURE` times the variance, plus the penalty (Bohning 1992, doi:10.1007/BF00048682): the minimum
    is the same, and is found in less than half of the iterations.

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
        self._prepared: Prepared | None = None

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
            if self._prepared is None or not self._prepared.is_of(problem):
                self._prepared = Prepared(problem, len(bias))
            self.solution = solve(self._prepared, problem.strength, weight, bias, self.max_iterations, self.tolerance)
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


class Prepared:
    """What the steps of a path have in common: the features of a `Problem`, standardised and rotated.

    With the rotation V, whose columns are the eigenvectors of the weighted covariance of the standardised features z,
    logits are R (W V)^T + b for the rows R = z V, and V leaves lengths as they are.
    """

    def __init__(self, problem: Problem, num_classes: int) -> None:
        self.problem = problem
        features = problem.features.float()
        deviation, self.mean = torch.std_mean(features, dim=0, correction=0)
        self.deviation = torch.where(deviation < _SMALLEST_DEVIATION, 1.0, deviation)
        standard = (features - self.mean) / self.deviation
        weights = torch.ones(num_classes) if problem.class_weights is None else problem.class_weights
        shares = weights.to(features.device)[problem.labels]
        self.shares = shares / shares.sum()
        self.variances: Tensor | None = None
        """Of the directions; None: they are the features, each in its own units."""
        self.rotation: Tensor | None = None
        if standard.shape[1] <= _WIDEST_ROTATED:
            scaled = standard * self.shares.sqrt()[:, None]
            variances, rotation = torch.linalg.eigh((scaled.T @ scaled).cpu())
            self.variances, self.rotation = variances.clamp(min=0), rotation.to(features.device)
        self.rotated = standard if self.rotation is None else standard @ self.rotation

    def is_of(self, problem: Problem) -> bool:
        """Whether `problem` differs from the one that was prepared in its strength alone."""
        ours, theirs = (
            [each.features, each.labels, torch.zeros(0) if each.class_weights is None else each.class_weights]
            for each in (self.problem, problem)
        )
        return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))

    def units(self, strength: float) -> npt.NDArray[np.float64]:
        """The units of the directions, float64 (F,), for a penalty of that `strength`."""
        if self.variances is None:
            return np.ones(self.rotated.shape[1])
        return ((_LARGEST_CURVATURE * self.variances.double() + strength) ** -0.5).numpy()

    def turned(self, matrix: Tensor) -> Tensor:
        """`matrix` (C, F) of the standardised features as that of the directions."""
        return matrix if self.rotation is None else matrix @ self.rotation

    def turned_back(self, matrix: Tensor) -> Tensor:
        """The inverse of `turned`."""
        return matrix if self.rotation is None else matrix @ self.rotation.T


def solve(
    prepared: Prepared, strength: float, weight: Tensor, bias: Tensor, max_iterations: int, tolerance: float
) -> Solution:
    """Sets `weight` (C, F) and `bias` (C,) to the minimum, starting from what they are.

    The products of matrices are computed in float32, the mean loss and L-BFGS's vectors in float64.
    """
    from scipy.optimize import minimize

    rotated, labels, shares = prepared.rotated, prepared.problem.labels, prepared.shares
    count, width, num_classes = *rotated.shape, len(bias)
    images = torch.arange(count, device=rotated.device)
    units = prepared.units(strength)
    reached: list[npt.NDArray[np.float64]] = []

    def matrices(flat: npt.NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        values = flat.reshape(num_classes, width + 1)
        sides = (values[:, :width] * units, values[:, width])
        w, b = (torch.from_numpy(side).to(rotated.device, torch.float32) for side in sides)
        return w, b

    def mean_loss(flat: npt.NDArray[np.float64]) -> tuple[float, Tensor]:
        w, b = matrices(flat)
        log_probs = torch.addmm(b[:, None], w, rotated.T).log_softmax(dim=0)
        return float(-(log_probs[labels, images].double() * shares.double()).sum()), log_probs

    def objective(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        loss, log_probs = mean_loss(flat)
        excess = log_probs.exp()
        excess[labels, images] -= 1
        excess *= shares
        gradient = torch.cat([excess @ rotated, excess.sum(dim=1)[:, None]], dim=1).double().cpu().numpy()
        penalised = flat.reshape(num_classes, width + 1)[:, :width] * units
        gradient[:, :width] += strength * penalised
        reached[:] = [gradient.copy()]
        gradient[:, :width] *= units
        return loss + strength / 2 * float((penalised**2).sum()), gradient.ravel()

    def stop_at_the_minimum(intermediate_result: Any) -> None:
        w = prepared.turned_back(torch.from_numpy(reached[0][:, :width]).to(rotated.device, torch.float32))
        if max(float(w.abs().max()), float(np.abs(reached[0][:, width]).max())) <= tolerance:
            raise StopIteration

    start = prepared.turned(weight * prepared.deviation).double().cpu().numpy() / units
    first = np.concatenate([start, (bias + weight @ prepared.mean)[:, None].double().cpu().numpy()], axis=1)
    limits = {"maxiter": max_iterations, "maxfun": 4 * max_iterations, "gtol": 0.0, "ftol": 1e-10, "maxcor": 20}
    found = minimize(
        objective, first.ravel(), jac=True, method="L-BFGS-B", callback=stop_at_the_minimum, options=limits
    )
    w, b = matrices(found.x)
    weight.copy_(prepared.turned_back(w) / prepared.deviation)
    bias.copy_(b - weight @ prepared.mean)
    return Solution(mean_loss(found.x)[0], int(found.nit), found.nit < max_iterations)
