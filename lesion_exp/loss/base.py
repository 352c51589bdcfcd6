"""The base class of losses, an adapter for other callables, a check, and class weights."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor, nn

from lesion_exp.errors import ConfigError, DataError, check_choice
from lesion_exp.value_range import check_range

UNWEIGHTED: Final = "set dataset.pseudo_weight=1, or choose loss=cross_entropy"
"""The remedy in messages about a loss that takes no weights of images."""


class Loss(nn.Module, ABC):
    """The loss of a classifier, from logits and labels to a float32 scalar.

    Args:
        class_counts: training images of each class, in class order.

    Raises:
        DataError: a class has no training image.
    """

    def __init__(self, class_counts: Sequence[int]) -> None:
        super().__init__()
        absent = [str(position) for position, count in enumerate(class_counts) if count <= 0]
        if absent or not class_counts:
            raise DataError(
                f"expected at least one training image of every class, got the counts {list(class_counts)} (none at "
                f"position {', '.join(absent) or '0'} of the class order, counted from 0); leave the class out with "
                f"dataset.filter, or give its lesions to the training part with another split"
            )
        self.num_classes = len(class_counts)

    def forward(self, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """Returns the mean loss of a batch, float32 scalar, computed in float32 also under autocast.

        Args:
            logits: float (N, C), unnormalised.
            labels: int64 (N,), in 0..C-1.
            weights: float (N,), how much each image counts; an image with weight 0 counts as little as one that is not
                in the batch. None: all equally.
        """
        assert logits.shape == (len(labels), self.num_classes), "logits do not fit the labels or the class counts"
        with torch.autocast(logits.device.type, enabled=False):
            if weights is None:
                return self.compute(logits.float(), labels)
            return self.compute_weighted(logits.float(), labels, weights.float())

    @abstractmethod
    def compute(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the mean loss of a batch; `logits` float32 (N, C), `labels` int64 (N,)."""

    def compute_weighted(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Returns the mean loss of a batch whose images count by `weights`, float32 (N,).

        With `terms`, it is sum_i v_i a_i / sum_i v_i b_i; v_i = 1 gives the result of `compute`.
        """
        numerators, denominators = self.terms(logits, labels)
        return (weights * numerators).sum() / (weights * denominators).sum()

    def terms(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns a_i and b_i, each float32 (N,), of a loss that is sum_i a_i / sum_i b_i over the images of a batch.

        Raises:
            ConfigError: the loss has no such terms, so that images cannot have weights.
        """
        raise ConfigError(f"expected a loss in which images can have weights, got {type(self).__name__}; {UNWEIGHTED}")

    def set_epoch(self, epoch: int, max_epochs: int) -> None:
        """Is called before each epoch, counted from 0; for losses that change during training."""
        del epoch, max_epochs

    def of_validation(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss of a validation, which has to mean the same in every epoch; see `forward`."""
        value: Tensor = self(logits, labels)
        return value


class LossFunction(Loss):
    """Any callable `(logits, labels) -> scalar` as a loss; its method `set_epoch` is called, too, if it has one.

    Args:
        function: from logits, float32 (N, C), and labels, int64 (N,), to the mean loss of the batch.
        class_counts: training images of each class, in class order.

    Raises:
        ConfigError: `function` cannot be called.
        DataError: a class has no training image.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Any], class_counts: Sequence[int]) -> None:
        super().__init__(class_counts)
        if not callable(function):
            raise ConfigError(
                f"expected the _target_ of the loss to create an object that can be called with logits and labels, got "
                f"{type(function).__name__}; name a class with a method forward or __call__, or a function"
            )
        self.function = function

    def compute(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the result of the callable; `logits` float32 (N, C), `labels` int64 (N,)."""
        value: Tensor = self.function(logits, labels)
        return value

    def set_epoch(self, epoch: int, max_epochs: int) -> None:
        """Calls the method of this name of the callable, if it has one."""
        method = getattr(self.function, "set_epoch", None)
        if method is not None:
            method(epoch, max_epochs)


def check_weights(loss: Loss, name: str) -> None:
    """Checks that the images of a batch can have weights in `loss`; `name` is that of the loss in messages.

    Raises:
        ConfigError: they cannot have weights.
    """
    labels = torch.arange(loss.num_classes)
    try:
        loss(torch.zeros(len(labels), len(labels)), labels, torch.ones(len(labels)))
    except ConfigError as error:
        raise ConfigError(
            f"expected a loss in which images can have weights, for dataset.pseudo_weight, got {name}; {UNWEIGHTED}"
        ) from error


def check_loss(loss: Loss, name: str) -> None:
    """Checks with a batch of two images of each class that a loss returns a scalar that depends on the logits.

    Args:
        loss: any loss.
        name: the name of the loss in messages.

    Raises:
        ConfigError: the loss fails or returns something else.
    """
    labels = torch.arange(loss.num_classes).repeat(2)
    logits = torch.linspace(-1.0, 1.0, len(labels) * loss.num_classes).reshape(len(labels), -1).requires_grad_()
    expected = "expected a loss that takes logits (N, C) and labels (N,) and returns a differentiable scalar, but"
    try:
        value = loss(logits, labels)
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        raise ConfigError(f"{expected} {name} fails: {error}; correct the loss") from error
    if not isinstance(value, Tensor) or value.shape != ():
        found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ConfigError(f"{expected} {name} returns {found}; return the mean over the batch")
    if not value.requires_grad:
        raise ConfigError(
            f"{expected} the result of {name} has no gradient; compute it from the logits with torch's operations alone"
        )


def is_mean_of_images(loss: Loss, max_epochs: int) -> bool:
    """Returns whether the loss of a batch is the mean of the losses of its halves, whatever their labels.

    It is not with weights of classes, by whose sum over the batch the loss is divided, nor for a statistic of the
    batch, and is tried with the loss as it is in the last of `max_epochs` epochs.
    """
    last = copy.deepcopy(loss)
    if max_epochs > 0:
        last.set_epoch(max_epochs - 1, max_epochs)
    labels = torch.cat([torch.zeros(loss.num_classes, dtype=torch.int64), torch.arange(loss.num_classes)])
    logits = torch.randn(len(labels), loss.num_classes, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = last(logits, labels)
        halves = [last(*half) for half in zip(logits.chunk(2), labels.chunk(2), strict=True)]
    return torch.allclose(whole, torch.stack(halves).mean(), rtol=1e-4)


def trial_value(loss: Loss) -> float:
    """Returns the loss of a random batch with two images of each class, which is the same batch in every call."""
    labels = torch.arange(loss.num_classes).repeat(2)
    logits = torch.randn(len(labels), loss.num_classes, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # a loss may draw random numbers
        return float(loss(logits, labels))


Scheme = Literal["none", "balanced", "inverse", "effective_number"]
"""How the weights of classes are computed from their numbers of images."""


def class_weights(
    class_counts: Sequence[int], scheme: Scheme = "none", power: float | None = None, beta: float | None = None
) -> Tensor | None:
    """Returns the weight of each class, float32 (C,), with a mean weight of 1 over training images; None for `none`.

    With n_c images of class c, N images in total and C classes, the weight of c is, up to a common factor,

    - `balanced`: N / (C n_c), so that all classes have the same total weight (King and Zeng 2001,
      doi:10.1093/oxfordjournals.pan.a004868, as in scikit-learn);
    - `inverse`: (N / n_c)^power; power 1 equals `balanced`, 0.5 (square root) is weaker, 0 is no weighting
      (Mahajan et al. 2018, arXiv:1805.00932, for the square root);
    - `effective_number`: (1 - beta) / (1 - beta^n_c); beta 0 is no weighting, beta near 1 is close to `balanced`
      (Cui et al. 2019, arXiv:1901.05555).

    Args:
        class_counts: training images of each class, in class order, all positive.
        scheme: one of `none`, `balanced`, `inverse`, `effective_number`.
        power: exponent of `inverse`, at least 0; None is 1.
        beta: parameter of `effective_number`, in [0, 1); None is 0.9999.

    Raises:
        ConfigError: the scheme is unknown, a value is out of range, or `power` or `beta` would have no effect.
    """
    check_choice("loss.class_weights", scheme, get_args(Scheme))
    _require_effect("power", power, "inverse", scheme)
    _require_effect("beta", beta, "effective_number", scheme)
    counts = torch.tensor([float(count) for count in class_counts], dtype=torch.float64)
    match scheme:
        case "balanced":
            raw = 1 / counts
        case "inverse":
            exponent = 1.0 if power is None else power
            check_range("loss.power", exponent)
            raw = (counts.sum() / counts) ** exponent
        case "effective_number":
            raw = _effective_number_weights(counts, 0.9999 if beta is None else beta)
        case _:
            return None
    return (raw * counts.sum() / (raw * counts).sum()).float()


def _effective_number_weights(counts: Tensor, beta: float) -> Tensor:
    check_range("loss.beta", beta)
    if beta == 0:
        return torch.ones_like(counts)
    exponent = counts * torch.log(torch.tensor(beta, dtype=torch.float64))
    return (1 - beta) / -torch.expm1(exponent)  # expm1 is exact for beta near 1


def _require_effect(key: str, value: float | None, owner: str, scheme: str) -> None:
    """Raises ConfigError if `value` is set and `scheme` is not the one that uses it, `owner`."""
    if value is not None and scheme != owner:
        raise ConfigError(
            f"expected loss.class_weights={owner} beside loss.{key}={value}, which has no effect otherwise, got "
            f"loss.class_weights={scheme}; set loss.{key}=null or loss.class_weights={owner}"
        )
